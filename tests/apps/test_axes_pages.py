"""Pages that compare explanations of signals, volumes and video, and their faithfulness restated by loops."""

from __future__ import annotations

import zlib
from base64 import b64decode
from io import BytesIO
from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image
from test_axes_apps import SIZES, network
from test_explain_page import data_of, unpacked

import featviz as fv
from featviz.apps.explain.attribution import shared_strength
from featviz.apps.explain.explain_page import explain_page
from featviz.apps.explain.faithfulness import blur, measure_faithfulness, reveal


@pytest.mark.parametrize(("size", "side"), [((48,), 3), ((9,), 1), ((27, 28, 26), 3), ((6, 8, 10), 1)])
def test_the_most_relevant_samples_and_voxels_are_revealed_first(size, side):
    relevance = torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    smooth = torch.empty_like(relevance)
    for at in product(*map(range, size)):
        smooth[at] = relevance[tuple(slice(max(0, i - side // 2), i + side // 2 + 1) for i in at)].mean()
    masks = reveal(relevance, 5)
    assert masks.shape == (6, 1, *size) and not masks[0].any() and masks[5].all()
    for i in range(1, 5):
        shown = masks[i, 0]
        assert shown.sum() == -(-smooth.numel() * i // 5) and smooth[shown].min() > smooth[~shown].max()


def test_blurred_signals_go_through_the_means_of_their_quarters():
    signal = torch.rand(2, 40)
    means, found = signal.view(2, 4, 10).mean(2), blur(signal)
    for x in range(40):
        at = min(max((x + 0.5) / 10 - 0.5, 0), 3)
        low, share = int(at), at - int(at)
        expected = (1 - share) * means[:, low] + share * means[:, min(low + 1, 3)]
        assert torch.allclose(found[:, x], expected, atol=1e-6)
    volume = torch.rand(1, 3, 8, 12)
    assert blur(volume).shape == volume.shape and blur(volume).std() < volume.std() / 3


@pytest.mark.parametrize("axes", [1, 3])
def test_curves_are_scores_of_inputs_put_together_part_by_part(axes):
    net, x = network(axes), torch.rand(1, *SIZES[axes], generator=torch.Generator().manual_seed(3))
    relevance = torch.rand(SIZES[axes], generator=torch.Generator().manual_seed(4))
    found, nothing = measure_faithfulness(net, x, fv.objectives.Logit("b"), relevance, steps=4), blur(x)
    masks = reveal(relevance, 4)
    for i in range(5):
        inserted, deleted = nothing.clone(), x.clone()
        for at in product(*map(range, SIZES[axes])):
            if masks[(i, 0, *at)]:
                inserted[(0, *at)], deleted[(0, *at)] = x[(0, *at)], nothing[(0, *at)]
        assert found.insertion[i] == pytest.approx(fv.score(net, "prob:b", inserted[None]).item(), rel=1e-4)
        assert found.deletion[i] == pytest.approx(fv.score(net, "prob:b", deleted[None]).item(), rel=1e-4)


@pytest.mark.parametrize("axes", [pytest.param(1, marks=pytest.mark.slow), 3])  # importing matplotlib takes seconds
def test_pages_hold_the_maps_of_signals_and_volumes(axes, tmp_path):
    if axes == 1:
        pytest.importorskip("matplotlib")
    net, x = network(axes), torch.rand(1, *SIZES[axes])
    found = fv.compare(net, x, ["logit:a", "logit:b"], ["gradient", "clear", "attention"], progress=None)
    data = data_of(found.save(tmp_path / "a.html", progress=None).read_text())
    planes, rows, columns = data["image"]["map"]
    assert (planes, rows, columns) == ((1, 1, 48) if axes == 1 else SIZES[3])
    assert data["image"]["axes"] == net.input.axes
    with Image.open(BytesIO(b64decode(data["image"]["data"]))) as opened:
        assert opened.size == (data["image"]["size"][1], data["image"]["size"][0] * planes)
    for i, row in enumerate(found.rows):
        shown = row[0].displayed()[0, 0] / shared_strength(found.rows, found.layers, i, 0)
        assert torch.allclose(unpacked(data["cells"][i][0], SIZES[axes]).float(), shown, atol=0.02 * shown.max().item())
        measured = measure_faithfulness(net, x, found.objectives[i], row[0].map[0])
        assert data["cells"][i][0]["insertion"]["curve"] == pytest.approx(measured.insertion, rel=1e-3)
        assert data["cells"][i][0]["milliseconds"] > 0 and "patch grid" in data["cells"][i][2]["problem"]
        labels = np.frombuffer(zlib.decompress(b64decode(data["cells"][i][1]["labels"])), np.uint8)
        assert np.array_equal(labels.reshape(SIZES[axes]), row[1].labels[0].numpy())


def test_pages_show_at_most_64_planes():
    torch.manual_seed(0)
    layers = [torch.nn.Conv3d(1, 2, 3), torch.nn.AdaptiveAvgPool3d(1), torch.nn.Flatten()]
    net = fv.Network(torch.nn.Sequential(*layers).eval(), size=(100, 4, 4), mean=(0.0,), std=(1.0,))
    found = fv.compare(net, torch.rand(1, 100, 4, 4), ["logit:1"], ["gradient"], progress=None)
    data = data_of(explain_page(found))
    assert data["image"]["map"] == [64, 4, 4]
    shown = found.rows[0][0].displayed()[0, 0]
    shown = shown[np.unique(np.linspace(0, 99, 64).round().astype(int))] / found.rows[0][0].full_strength()
    assert torch.allclose(unpacked(data["cells"][0][0], (64, 4, 4)).float(), shown, atol=0.02 * shown.max().item())


def test_explanations_of_signals_show_as_text_without_matplotlib(monkeypatch):
    monkeypatch.setattr("featviz.apps.explain.attribution.has_matplotlib", lambda: False)
    net = network(1)
    x = torch.rand(1, *SIZES[1])
    assert fv.explain(net, x, 1, "gradient")._repr_png_() is None
    assert fv.compare(net, x, [1], ["gradient"], progress=None)._repr_png_() is None
