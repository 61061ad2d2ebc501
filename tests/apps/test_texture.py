"""Textures of meshes: views, files and the command."""

import re

import numpy as np
import pytest
import torch
import toys
from PIL import Image
from torch import nn

import featviz as fv
from featviz.cli import main
from featviz.io import read_recipe

trimesh = pytest.importorskip("trimesh")
pytest.importorskip("embreex")
pytest.importorskip("xatlas")
FEW = {"size": 32, "view": 32, "views": 3, "steps": 2}


@pytest.fixture(autouse=True)
def few_frames(monkeypatch):
    monkeypatch.setattr("featviz.apps.texture.texture.TURN_FRAMES", 6)


@pytest.fixture(scope="module")
def textured():
    return fv.texture(toys.plain(), "box", "conv2:1", **FEW)


def test_views_turn_around_the_mesh(textured):
    front, same, back = (textured.view(angle, side=24) for angle in (0, 360, 180))
    assert front.shape == (3, 24, 24)
    torch.testing.assert_close(front, same, atol=0.02, rtol=0)
    assert (front - back).abs().mean() > 0.003
    assert torch.equal(front[:, 0, 0], torch.full((3,), 0.5))  # the background
    assert torch.equal(textured.view(background=0.0, side=24)[:, 0, 0], torch.zeros(3))


def test_saved_files_hold_the_texture(textured, tmp_path):
    page = textured.save(tmp_path / "box")
    assert sorted(each.name for each in page.parent.iterdir()) == ["index.html", "mesh.glb", "texture.png"]
    shape = trimesh.load_mesh(tmp_path / "box" / "mesh.glb")
    found = np.asarray(shape.visual.material.baseColorTexture.convert("RGB"))
    with Image.open(tmp_path / "box" / "texture.png") as image:
        assert np.array_equal(found, np.asarray(image.convert("RGB")))
    assert fv.Recipe.from_json(read_recipe(tmp_path / "box" / "texture.png")).transforms.startswith(
        "(MeshView(mesh='box'"
    )
    text = page.read_text()
    assert not re.search(r"https?://(?!www\.w3\.org)", text)
    assert "conv2:1 on a mesh" in text


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["--size", "32", "--view", "32", "--views", "2", "--steps", "1", "--quiet"]
    assert main(["texture", "box", "logit:spiral", *words]) == 0
    assert capsys.readouterr().out.strip() == "box-logit_spiral/index.html"
    assert main(["texture", "box", "logit:spiral", *words]) == 0
    assert capsys.readouterr().out.strip() != "box-logit_spiral/index.html"  # the first is kept
    assert main(["texture", "bottle", "logit:spiral", *words]) == 2
    assert "there is no mesh 'bottle'; give a .glb" in capsys.readouterr().err


BAD = [
    ({"azimuth": float("nan")}, "azimuth must be a finite number, got nan (degrees)"),
    ({"elevation": 91}, "elevation must be in [-90, 90], got 91 (degrees)"),
    ({"side": 4}, "side must be a whole number in [8, 2048], got 4 (px)"),
]


@pytest.mark.parametrize(("given", "message"), BAD)
def test_bad_views_are_named(textured, given, message):
    with pytest.raises(fv.SettingError) as caught:
        textured.view(**given)
    assert str(caught.value) == message


def test_an_error_leaves_no_folder(tmp_path, capsys):
    words = ["--size", "32", "--view", "32", "--steps", "1", "--quiet", "-o", str(tmp_path / "out")]
    assert main(["texture", "box", "nowhere:1", *words]) == 2
    assert "nowhere" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_textures_need_one_or_three_channels():
    net = fv.Network(nn.Conv2d(4, 4, 3), size=32, mean=(0.0,) * 4, std=(1.0,) * 4)
    with pytest.raises(fv.SettingError, match="a texture has 1 or 3 channels, and .* expects 4"):
        fv.texture(net, "box", "0:1", size=16, view=16, views=1, steps=1)
