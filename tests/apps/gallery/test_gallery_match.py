"""Galleries and sweeps matched to photographs: what is rendered, and how copies are marked."""

import html
import json
import re

import pytest
import torch
from PIL import Image

import featviz as fv
from featviz.apps.match import Nearest, match_units
from featviz.cli import main
from featviz.io import save_image, to_bytes

FEW = {"size": 32, "steps": 1, "progress": None}


@pytest.fixture
def photographs(tmp_path):
    """Three photographs."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    for i in range(3):
        coarse = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(i))
        image = torch.nn.functional.interpolate(coarse, (64, 64), mode="bilinear")[0]
        save_image(to_bytes(image.numpy()), folder / f"{i}.png")
    return folder


def shown(page):
    """Return the images of every card, and the text of the page."""
    text = page.read_text()
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', text, re.DOTALL)
    return json.loads(found[1]), html.unescape(text)


def test_images_of_classes_are_matched(motifnet, photographs, tmp_path):
    fv.gallery(motifnet, tmp_path / "out", classes=["star"], probability=True, match=photographs, **FEW)
    (card,), _ = shown(tmp_path / "out" / "index.html")
    (expected,) = match_units(motifnet, [fv.objectives.Logit("star")], photographs)
    assert [image["shows"] for image in card] == [str(expected.objective), "prob:star"]
    assert card[0]["facts"]["nearest photograph"].startswith(tuple("012"))
    assert "nearest photograph" not in card[1]["facts"]  # the probability is not matched


def test_weight_and_statistics(motifnet, photographs, tmp_path):
    fv.sweep(motifnet, tmp_path, "stage2", channels=[1], negative=True, match=photographs, match_weight=3, **FEW)
    (card,), _ = shown(tmp_path / "layer-stage2.html")
    (expected,) = match_units(motifnet, [fv.objectives.Channel("stage2", 1)], photographs, weight=3)
    assert [image["shows"] for image in card] == [str(expected.objective), "-stage2:1"]
    assert ["nearest photograph" in image["facts"] for image in card] == [True, False]
    fv.sweep(motifnet, tmp_path, "stage2", channels=[1], match="batch-norm", **FEW)
    (card,), _ = shown(tmp_path / "layer-stage2.html")
    assert "statistics(" in card[0]["shows"]
    assert "nearest photograph" not in card[0]["facts"]


def test_diverse_images_are_matched(motifnet, photographs, tmp_path):
    fv.sweep(motifnet, tmp_path, "stage2", channels=[1], diverse_images=2, match=photographs, **FEW)
    (card,), _ = shown(tmp_path / "layer-stage2.html")
    assert all("distribution(" in image["shows"] for image in card)
    assert all("diversity(" in image["shows"] for image in card[1:])


@pytest.mark.parametrize("call", ["gallery", "sweep"])
def test_copies_are_marked_beside_their_image(motifnet, photographs, tmp_path, monkeypatch, call):
    def make(folder):
        if call == "gallery":
            chosen = {"classes": ["star"], "probability": True, "match": photographs, **FEW}
            return fv.gallery(motifnet, folder, **chosen), "star", "index.html"
        chosen = {"channels": [1], "negative": True, "match": photographs, **FEW}
        return fv.sweep(motifnet, folder, "stage2", **chosen), "stage2:1", "layer-stage2.html"

    made, _, page = make(tmp_path / "fresh")
    assert dict(made.problems) == {}
    assert "a copy, not a visualization" not in shown(tmp_path / "fresh" / page)[1]
    monkeypatch.setattr(Nearest, "is_copy", property(lambda self: True))
    monkeypatch.setattr(Nearest, "__str__", lambda self: "nearest photograph: a copy, not a visualization")
    made, title, page = make(tmp_path / "copied")
    assert dict(made.problems) == {title: "nearest photograph: a copy, not a visualization"}
    assert "<span>nearest photograph: a copy, not a visualization</span>" in shown(tmp_path / "copied" / page)[1]
    assert made.count == 2
    assert repr(made) == f"<2 images, 1 with problems: {tmp_path / 'copied' / 'index.html'}>"


def test_messages_come_before_anything_is_written(motifnet, photographs, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(fv.OutputError, match="there is no folder nowhere; give a folder of photographs"):
        fv.gallery(motifnet, out, classes=["star"], match="nowhere", **FEW)
    with pytest.raises(fv.SettingError, match="weight of match must be >= 0, got -1"):
        fv.sweep(motifnet, out, "stage2", channels=[1], match=photographs, match_weight=-1, **FEW)
    assert not out.exists()


def test_command_line(photographs, tmp_path, capsys, monkeypatch):
    few = ["--size", "32", "--steps", "1", "--quiet", "--match", str(photographs), "--match-weight", "2"]
    assert main(["gallery", "--class", "star", *few, "-o", str(tmp_path / "classes")]) == 0
    monkeypatch.setattr(Nearest, "is_copy", property(lambda self: True))
    assert main(["sweep", "--layer", "stage2", "--channels", "1", *few, "-o", str(tmp_path / "units")]) == 1
    assert "featviz: stage2:1: nearest photograph: " in capsys.readouterr().err
    with Image.open(next((tmp_path / "units" / "images").glob("*.png"))) as saved:
        assert saved.size == (32, 32)
