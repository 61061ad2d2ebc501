"""Results with any number of axes are saved, replayed and shown in notebooks."""

from __future__ import annotations

import base64
import io
import re

import nibabel
import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from torch import nn

import featviz as fv
from featviz import param
from featviz.errors import SettingError
from featviz.io import read_image, read_report
from featviz.io.clips import SHOWN_FRAMES, clip_picture
from featviz.io.plots import plot_signal
from featviz.io.volumes import MAX_SLICES, slices, volume_picture, zoom_of

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # pipes of imageio-ffmpeg
SIZES = {"x": (60,), "zyx": (6, 8, 10), "tyx": (5, 16, 24)}
LOSSLESS = {"x": (".png", ".npy", ".wav"), "zyx": (".png", ".npy", ".nii", ".nii.gz"), "tyx": (".png", ".npy", ".gif")}
"""Formats that hold the recipe or have it beside them."""


def network(axes, channels=1, **more):
    """A network of one convolution."""
    conv = nn.Conv1d if axes == "x" else nn.Conv3d
    torch.manual_seed(0)
    given = {"mean": (0.4,) * channels, "std": (0.2,) * channels, "axes": axes} | more
    return fv.Network(nn.Sequential(conv(channels, 3, 3, padding=1)), size=SIZES[axes], **given)


def rendered(axes, objectives="0:1", channels=1, **more):
    """A result of few steps, and its network."""
    made = network(axes, channels, **more)
    return fv.render(made, objectives, steps=2, progress=None), made


@pytest.mark.parametrize("axes", SIZES)
def test_every_format_is_replayed(axes, tmp_path):
    found, made = rendered(axes)
    for ending in LOSSLESS[axes]:
        (path,) = found.save(tmp_path / f"a{ending}")
        again = fv.replay(path, network=made, progress=None)
        assert torch.equal(again.images, found.images), ending
    if axes == "tyx":
        (path,) = found.save(tmp_path / "a.mp4")
        assert torch.equal(fv.replay(path, network=made, progress=None).images, found.images)
    for ending in (".webp", ".jpg"):
        (path,) = found.save(tmp_path / f"a{ending}")
        assert fv.Recipe.of(path) == found.recipe and read_report(path)["shows"] == "0:1"


def test_a_sound_holds_the_amplitudes_and_is_scaled_where_they_exceed_1(tmp_path):
    audio, _ = rendered("x", channels=2, mean=(0.0, 0.0), value_range=(-1, 1))
    (path,) = audio.save(tmp_path / "a.wav", rate=8000)
    samples, rate = soundfile.read(path, dtype="float32")
    assert rate == 8000 and np.array_equal(samples.T, audio.values[0].numpy())
    heart, _ = rendered("x", mean=(0.0,), std=(1.0,))  # within 4 standard deviations
    (path,) = heart.save(tmp_path / "b.wav")
    samples, rate = soundfile.read(path, dtype="float32")
    assert rate == 16_000 and np.allclose(samples, heart.values[0, 0] / 4)
    both, _ = rendered("x", ["0:1", "0:2"])
    with pytest.raises(SettingError, match=r"^a .wav file holds one signal, got 2; render one at a time, save each as"):
        both.save(tmp_path / "c.wav")
    with pytest.raises(SettingError, match=r"^rate must be > 0, got 0$"):
        heart.save(tmp_path / "c.wav", rate=0)
    with pytest.raises(SettingError, match=r"^rate of a .wav file must be in \[1, 2\.14748e\+09\], got 0\.5$"):
        heart.save(tmp_path / "c.wav", rate=0.5)
    assert not (tmp_path / "c.wav").exists()


def test_a_volume_is_in_the_range_of_the_data(tmp_path):
    found, _ = rendered("zyx", ["0:1", "0:2"], channels=2)
    (path,) = found.save(tmp_path / "a.nii.gz")
    voxels = nibabel.load(path).get_fdata(dtype=np.float32)
    assert np.array_equal(voxels.transpose(3, 4, 0, 1, 2), found.values.numpy())


def test_a_clip_has_its_frames_in_order(tmp_path):
    found, _ = rendered("tyx", channels=3)
    (path,) = found.save(tmp_path / "a.gif", rate=5)
    with Image.open(path) as opened:
        assert (opened.n_frames, opened.size, opened.info["duration"]) == (5, (24, 16), 200)
        for i in range(5):
            opened.seek(i)
            frame = np.asarray(opened.convert("RGB")) / 255
            assert np.abs(frame - found.images[0, :, i].permute(1, 2, 0).numpy()).mean() < 0.05
    pair, _ = rendered("tyx", ["0:1", "0:2"], channels=3)
    (path,) = pair.save(tmp_path / "b.gif")
    with Image.open(path) as opened:
        assert opened.width > 2 * 24


def test_pictures_of_volumes_are_slices_and_the_maximum():
    volume = np.random.default_rng(0).uniform(0.2, 0.7, (1, 6, 8, 10)).astype(np.float32)
    zoom, levels = zoom_of((6, 8, 10)), (volume - volume.min()) / (volume.max() - volume.min()) * 255
    picture = volume_picture(volume)[::zoom, :, 0]
    panels = (levels[0, 3], levels[0, :, 4], levels[0, :, :, 5], levels[0].max(0))
    left = 0
    for panel in panels:
        height, width = panel.shape
        above = (8 * zoom - height * zoom) // 2
        shown = volume_picture(volume)[above : above + height * zoom : zoom, left : left + width * zoom : zoom, 0]
        assert np.abs(shown - panel.round()).max() <= 1
        left += width * zoom + 6
    assert picture.shape[1] == left - 6
    assert [len(slices(volume, axis)) for axis in range(3)] == [6, 8, 10]
    assert len(slices(np.zeros((1, 200, 4, 4), np.float32), 0)) == MAX_SLICES
    assert volume_picture(np.full((1, 4, 4, 4), np.nan, np.float32)).std() < 128


def test_a_picture_of_a_clip_has_the_first_and_the_last_frame():
    clip = np.linspace(0, 1, 20, dtype=np.float32).reshape(1, 20, 1, 1) * np.ones((3, 1, 4, 5), np.float32)
    picture = clip_picture(clip)
    assert picture.shape == (4, SHOWN_FRAMES * 5 + (SHOWN_FRAMES - 1) * 4, 3)
    assert (picture[:, :5] == 0).all() and (picture[:, -5:] == 255).all()


@pytest.mark.parametrize(("channels", "height"), [(1, 274), (2, 314), (6, 534), (40, 274)])
def test_a_plot_has_a_row_for_each_channel_and_depends_on_the_values(channels, height):
    wave = np.zeros((channels, 200), np.float32) + np.sin(np.arange(200) / 9).astype(np.float32)
    pixels = plot_signal(wave, (-1, 1))
    assert pixels.dtype == np.uint8 and pixels.shape == (height, 720, 3)
    assert not np.array_equal(pixels, plot_signal(-wave, (-1, 1)))


def test_plots_of_few_or_broken_samples_and_of_seconds():
    wave = np.sin(np.arange(50, dtype=np.float32))[None]
    assert not np.array_equal(plot_signal(wave, (-1, 1)), plot_signal(wave, (-1, 1), 100))
    for odd in (np.full((1, 3), np.nan), np.zeros((1, 1)), np.full((20, 3), np.inf)):
        assert plot_signal(odd.astype(np.float32), (-1, 1)).shape == (274, 720, 3)


def test_a_plot_does_not_depend_on_the_style_of_the_user_and_leaves_it():
    import matplotlib as mpl

    values = np.sin(np.arange(50, dtype=np.float32))[None]
    before = plot_signal(values, (-1, 1))
    with mpl.rc_context({"lines.linewidth": 9, "font.size": 20, "axes.facecolor": "red"}):
        assert np.array_equal(plot_signal(values, (-1, 1)), before)
        assert mpl.rcParams["font.size"] == 20


def test_notebooks_show_every_kind_without_scripts_of_others():
    signal, _ = rendered("x")
    assert signal._repr_html_() is None
    with Image.open(io.BytesIO(signal._repr_png_())) as opened:
        assert opened.width == 720
    clip, _ = rendered("tyx", channels=3)
    volumes, _ = rendered("zyx", ["0:1", "0:2"])
    kinds = []
    for found in (clip, volumes):
        page = found._repr_html_()
        assert "<script" not in page and "http" not in re.sub(r"base64,[^\"]+", "", page)
        for kind, data in re.findall(r'src="data:image/(\w+);base64,([^"]+)"', page):
            kinds.append(kind)
            with Image.open(io.BytesIO(base64.b64decode(data))) as opened:
                assert getattr(opened, "n_frames", 1) == (5 if kind == "gif" else 1)
    assert kinds == ["gif"] + ["png"] * 6 and volumes._repr_html_().count('type="range"') == 6
    assert volumes._repr_png_() and clip._repr_png_()


def test_without_matplotlib_a_signal_is_shown_as_text(monkeypatch):
    signal, _ = rendered("x")
    monkeypatch.setattr("featviz.engine.result.has_matplotlib", lambda: False)
    assert signal._repr_png_() is None


def test_several_results_are_one_picture_and_folders_have_one_file_each(tmp_path):
    found, _ = rendered("zyx", ["0:1", "0:2"])
    (path,) = found.save(tmp_path / "a.png")
    assert read_image(path).shape[2] > 1.2 * volume_picture(found.images[0].numpy()).shape[1] > 0
    assert len(found.images_pil) == 2 and found.image.size == read_image(path).shape[:0:-1]
    assert [file.name for file in found.save(tmp_path)] == ["00-0_1.npy", "01-0_2.npy"]


@pytest.mark.parametrize("axes", SIZES)
def test_results_with_alpha_are_drawn(axes):
    found = fv.render(network(axes, 3), "0:1", param=param.Alpha(), steps=1, progress=None)
    assert found.sheet().dtype == np.uint8
