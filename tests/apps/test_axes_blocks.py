"""Building blocks of signals, volumes and video."""

from __future__ import annotations

import json
import re
from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image
from test_axes_apps import CLASSES, SIZES, network
from torch import nn

import featviz as fv
from featviz.apps.blocks.decompose import take_apart
from featviz.apps.shared.pages.input_pictures import icon_pixels, planes_of
from featviz.apps.shared.rendering.stored_images import ICONS_FOLDER
from featviz.cli import main


def data(folder):
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', folder.read_text(), re.S)
    return json.loads(found[1])


def test_signals_are_taken_apart_like_images_of_one_row():
    x = torch.rand(1, 1, 48, generator=torch.Generator().manual_seed(0))
    signals, images = (
        take_apart(network(1, rows=rows), each, ["2", "4"], [0, 2], most=7, groups=2)
        for rows, each in ((False, x), (True, x[:, :, None]))
    )
    for one, flat in zip(signals, images, strict=True):
        assert one.maps.shape[1:] == (7,) and flat.maps.shape[1:] == (1, 7)
        for name in ("maps", "support", "shares"):
            assert torch.allclose(getattr(one, name), getattr(flat, name)[..., 0, :], atol=1e-4), name
        for name in ("channels", "groups", "effects"):
            assert torch.allclose(getattr(one, name), getattr(flat, name), atol=1e-4), name
    assert torch.allclose(signals[1].sources, images[1].sources[:, 0], atol=1e-4)


def test_cells_of_volumes_contribute_by_windows_of_two_along_each_axis():
    """The formula by loops: falls of the logit with each window at the mean, shared by its cells, plus a constant."""
    net, x = network(3), torch.rand(1, 1, *SIZES[3], generator=torch.Generator().manual_seed(0))
    (part,) = take_apart(net, x, ["4"], [1], most=9, groups=2)
    maps, rest = net.module[:5](net.normaliser()(x)).detach(), net.module[5:]
    assert part.maps.shape == maps.shape[1:] == (8, 3, 4, 5)
    logit, mean = rest(maps)[0, 1], maps.mean((2, 3, 4))[0]
    expected = torch.zeros(3, 4, 5)
    for start in product(range(-1, 3), range(-1, 4), range(-1, 5)):
        ends = [range(max(at, 0), min(at + 2, side)) for at, side in zip(start, (3, 4, 5), strict=True)]
        inside = list(product(*ends))
        changed = maps.clone()
        for at in inside:
            changed[(0, slice(None), *at)] = mean
        for at in inside:
            expected[at] += (logit - rest(changed)[0, 1]).item() / len(inside) / 8
    expected += ((logit - rest(torch.zeros_like(maps))[0, 1]) - expected.sum()).item() / expected.numel()
    assert torch.allclose(part.support[0], expected, atol=1e-5)


def test_maps_of_volumes_are_averaged_over_cells():
    net, x = network(3), torch.rand(1, 1, *SIZES[3])
    (part,) = take_apart(net, x, ["2"], [1], most=5, groups=2)
    maps = net.capture(x, ["2"])["2"][0]
    assert maps.shape[1:] == (6, 8, 10) and part.maps.shape[1:] == (3, 4, 5)
    assert torch.allclose(part.maps[:, 1, 2, 3], maps[:, 2:4, 4:6, 6:8].mean((1, 2, 3)), atol=1e-5)
    assert part.shares.shape == (2, 3, 4, 5) and part.channels.shape == (1, 6)


def clips() -> fv.Network:
    torch.manual_seed(0)
    layers = [nn.Conv3d(3, 6, 3, 1, 1), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(6, 3)]
    settings = {"size": (4, 8, 12), "mean": (0.5,) * 3, "std": (0.5,) * 3, "axes": "tyx"}
    return fv.Network(nn.Sequential(*layers).eval(), **settings, classes=CLASSES)


PAGES = [
    pytest.param(lambda: network(1), [1, 1, 4], 1, marks=pytest.mark.slow, id="x"),
    pytest.param(lambda: network(3), [1, 2, 2], 6, id="zyx"),
    pytest.param(clips, [2, 1, 2], 4, id="tyx"),
]


@pytest.mark.parametrize(("net", "grid", "planes"), PAGES)
def test_pages_of_signals_volumes_and_video(net, grid, planes, tmp_path):
    pytest.importorskip("matplotlib")
    net, most = net(), max(grid)
    layer = "4" if net.size != (4, 8, 12) else "1"
    made = fv.blocks(
        net, torch.rand(net.channels, *net.size), layer, tmp_path, cells=most, groups=1, steps=0, progress=None
    )
    page = data(tmp_path / "index.html")
    (shown,) = page["layers"]
    assert made.problems == {} and shown["grid"] == grid and page["axes"] == net.input.axes
    assert page["planes"] == planes and len(shown["support"][0]) == np.prod(grid) == len(shown["activation"])
    with Image.open(tmp_path / "photograph.webp") as opened:
        assert opened.size == (page["size"][1], page["size"][0] * planes)
    icons = {file.stem for file in (tmp_path / ICONS_FOLDER).iterdir()}
    assert icons == {file.stem for file in (tmp_path / "images").iterdir()}
    assert min(i for sheet in shown["sheets"].values() for i in sheet["icons"]) >= 0


def test_default_cells_suit_the_number_of_axes(tmp_path, monkeypatch):
    class StopError(Exception):
        pass

    def taken(*_args, most, **_more):
        raise StopError(most)

    monkeypatch.setattr("featviz.apps.blocks.blocks.take_apart", taken)
    for axes, expected in ((1, "16"), (3, "4")):
        with pytest.raises(StopError, match=f"^{expected}$"):
            fv.blocks(network(axes), torch.rand(1, *SIZES[axes]), "4", tmp_path, progress=None)


def test_icons_are_square_lines_or_middle_planes():
    pytest.importorskip("matplotlib")
    assert icon_pixels(torch.rand(2, 40), "x").shape == (144, 144, 3)
    volume = torch.zeros(1, 5, 8, 8)
    volume[0, 2, 4:] = 1
    icon = icon_pixels(volume, "zyx")
    assert icon.shape == (160, 160, 3) and icon[:80].max() == 0 and icon[80:].min() == 255
    assert len(planes_of(torch.rand(3, 200, 4, 4), "tyx")) == 64


@pytest.mark.slow
def test_command_reads_a_file_of_the_network_s_axes(tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(
        "from torch.nn import *\ndef net():\n"
        "    return Sequential(Conv1d(1, 4, 3, 1, 1), ReLU(), AdaptiveAvgPool1d(1), Flatten(), Linear(4, 2)).eval()\n"
    )
    np.save(tmp_path / "a.npy", np.sin(np.arange(32, dtype="float32")))
    words = [
        "blocks",
        "a.npy",
        "--model",
        "net.py:net",
        "--axes",
        "x",
        "--input-size",
        "32",
        "--mean",
        "0",
        "--std",
        "1",
        "--quiet",
    ]
    assert main([*words, "--layer", "1", "--cells", "3", "--steps", "0", "-o", "page"]) == 0
    assert data(tmp_path / "page" / "index.html")["axes"] == "x"
    capsys.readouterr()
    assert main([*words, "--layer", "4"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said == ["featviz: no positions in '4'; its output is one vector; use a feature map or patch tokens"]
