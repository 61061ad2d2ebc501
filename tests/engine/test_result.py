"""Renderings: parts of a batch, other sizes, and what a file stores."""

import pickle

import numpy as np
import pytest
import torch

import featviz as fv
from featviz import param
from featviz.engine.result import HISTORY_POINTS
from featviz.io import read_image, read_report

OBJECTIVES = ["conv2:3", "logit:1"]


def test_one_image_of_a_batch_is_a_rendering(net):
    rendering = fv.render(net, OBJECTIVES, steps=3, snapshots=[2])
    second = rendering[-1]
    assert (len(second), second.names, second.recipe.index) == (1, ("logit:1",), 1)
    assert second.images.equal(rendering.images[1:]) and second.history.equal(rendering.history[:, 1:])
    assert second.snapshots[2].equal(rendering.snapshots[2][1:])
    assert second[0].recipe.index == 1  # still the second of the batch
    assert repr(rendering) == "<Rendering of conv2:3, logit:1: 2 x 32x32 px, 3 steps>"
    with pytest.raises(IndexError):
        rendering[2]


def test_cppn_images_can_be_pickled_and_drawn_at_another_size(net):
    rendering = fv.render(net, OBJECTIVES, steps=1, param=param.CPPN(), robustness_views=0)
    second = pickle.loads(pickle.dumps(rendering[1]))
    assert torch.equal(second.at(20).images, rendering.at(20).images[1:])
    assert second.at((10, 20)).recipe.shown == (10, 20)
    with pytest.raises(fv.SettingError, match="^size must be at least 1 px on each side, got 0 x 0$"):
        rendering.at(0)
    with pytest.raises(fv.SettingError, match=r"^size must have 2 numbers, as the images, got \(8, 8, 8\)$"):
        rendering.at((8, 8, 8))
    fixed = fv.render(net, "conv2:3", steps=0)
    with pytest.raises(
        fv.SettingError,
        match=r"^these images have a fixed size; render with param.CPPN\(\) to draw them at any size$",
    ):
        fixed.at(20)


def test_files_of_a_folder_and_of_a_contact_sheet(net, tmp_path):
    rendering = fv.render(net, OBJECTIVES, steps=2)
    files = rendering.save(tmp_path)
    assert [file.name for file in files] == ["00-conv2_3.png", "01-logit_1.png"]
    for file, image in zip(files, rendering.images, strict=True):
        assert np.abs(read_image(file) - image.numpy()).max() <= 0.51 / 255
    assert (rendering.file_name, rendering[0].file_name) == ("conv2_3_and_1_more.png", "conv2_3.png")
    (sheet,) = rendering.save(tmp_path / "sheet.png", labels=False)
    assert read_image(sheet).shape == (3, 32 + 2 * 8, 2 * 32 + 3 * 8)
    assert read_report(sheet) == {}


def test_report_of_a_single_image(net, tmp_path):
    rendering = fv.render(net, "conv2:3", steps=HISTORY_POINTS + 20)
    (path,) = rendering.save(tmp_path / "a.png")
    report = read_report(path)
    assert report == rendering.report
    assert (report["shows"], report["steps"], len(report["history"])) == ("conv2:3", 120, HISTORY_POINTS)
    assert report["score"] == rendering.robustness.clean.item()
    assert 0 <= report["robustness"] <= 1
    assert report["history"][0] == pytest.approx(rendering.history[0].item(), abs=1e-5)
    assert report["history"][-1] == pytest.approx(rendering.history[-1].item(), abs=1e-5)


def test_encoded_images_can_be_downsampled(net, tmp_path):
    rendering = fv.render(net, "conv2:3", param=param.Image((24, 48)), steps=0)
    for side, shape in ((None, (3, 24, 48)), (16, (3, 8, 16)), (100, (3, 24, 48))):
        (tmp_path / "a.webp").write_bytes(rendering.encoded(".webp", side=side))
        assert read_image(tmp_path / "a.webp").shape == shape
