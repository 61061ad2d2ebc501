"""Faithfulness, restated by loops, and the page of a comparison as a file."""

import json
import re
import zlib
from base64 import b64decode
from dataclasses import replace

import numpy as np
import pytest
import text_toys
import torch
import toys
from PIL import Image

import featviz as fv
from featviz import methods
from featviz.apps.explain.attribution import shared_strength
from featviz.apps.explain.explain_page import explain_page
from featviz.apps.explain.faithfulness import blur, curve_area, empty_text, measure_faithfulness, reveal
from featviz.cli import main


@pytest.fixture(scope="module")
def image():
    return torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))


def averaged(relevance, side):
    """Return means over the part of a square neighbourhood that is inside of the map."""
    height, width = relevance.shape
    half, found = side // 2, torch.empty_like(relevance)
    for y in range(height):
        for x in range(width):
            rows, columns = slice(max(0, y - half), y + half + 1), slice(max(0, x - half), x + half + 1)
            found[y, x] = relevance[rows, columns].mean()
    return found


@pytest.mark.parametrize(("size", "side"), [((64, 64), 5), ((20, 13), 1), ((26, 40), 3), ((1, 9), 1)])
def test_the_most_relevant_pixels_are_revealed_first(size, side):
    relevance = torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    smooth, masks = averaged(relevance, side), reveal(relevance, 7)
    count = smooth.numel()
    assert masks.shape == (8, 1, *size) and not masks[0].any() and masks[7].all()
    for i in range(1, 7):
        shown = masks[i, 0]
        assert shown.sum() == sum(rank < count * i / 7 for rank in range(count))
        assert smooth[shown].min() > smooth[~shown].max()


def test_equal_pixels_are_revealed_row_by_row():
    masks = reveal(torch.zeros(2, 4), 4)[:, 0].flatten(1)
    assert [mask.tolist() for mask in masks] == [[j < 2 * i for j in range(8)] for i in range(5)]


def test_curves_are_scores_of_images_put_together_pixel_by_pixel(motifnet, image):
    relevance = torch.randn(64, 64, generator=torch.Generator().manual_seed(2))
    found = measure_faithfulness(motifnet, image, fv.objectives.Logit("moon"), relevance, steps=4)
    nothing, order = blur(image), averaged(relevance.double(), 5).flatten().argsort(descending=True).tolist()
    for curve, start, end in ((found.insertion, nothing, image), (found.deletion, image, nothing)):
        for i in range(5):
            view = start.clone()
            for pixel in order[: 64 * 64 * i // 4]:
                view[:, pixel // 64, pixel % 64] = end[:, pixel // 64, pixel % 64]
            assert curve[i] == pytest.approx(fv.score(motifnet, "prob:moon", view[None]).item(), rel=2e-2, abs=1e-6)
    assert found.scored == "prob:moon"
    assert found.insertion[0] == pytest.approx(found.deletion[-1]) and found.insertion[-1] == pytest.approx(
        found.deletion[0]
    )
    assert found.insertion_area == pytest.approx(np.trapezoid(found.insertion, dx=0.25))
    assert found.deletion_area == pytest.approx(np.trapezoid(found.deletion, dx=0.25))
    assert curve_area((1.0, 1.0, 1.0)) == 1


def test_what_is_scored_is_a_probability_where_there_is_one(motifnet, image):
    relevance = torch.zeros(64, 64)
    assert (
        measure_faithfulness(motifnet, image, fv.objectives.Channel("stage2", 5), relevance, steps=1).scored
        == "stage2:5"
    )
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 64, 2))
    values = fv.Network(module, size=8, outputs="regression", **toys.HALF)
    found = measure_faithfulness(values, image[:, :8, :8], fv.objectives.Logit(1), relevance[:8, :8], steps=1)
    assert found.scored == "logit:1"
    assert found.deletion[0] == pytest.approx(fv.score(values, "logit:1", image[None, :, :8, :8]).item(), rel=1e-4)
    empty = torch.zeros(3, 64, 64)
    found = measure_faithfulness(motifnet, image, fv.objectives.Logit(1), relevance, steps=1, empty=empty)
    assert found.insertion[0] == pytest.approx(fv.score(motifnet, "prob:1", empty[None]).item())
    with pytest.raises(fv.SettingError, match=r"^steps must be >= 1, got 0 \(default 16\)$"):
        measure_faithfulness(motifnet, image, fv.objectives.Logit(1), relevance, steps=0)


def test_a_map_of_what_matters_is_more_faithful_than_its_opposite(motifnet):
    from motifs.draw import draw

    label = motifnet.classes.index("star")
    drawing = draw(torch.tensor([label]), (64, 64), torch.Generator().manual_seed(0))[0]
    found = fv.explain(motifnet, drawing, label, "gradcam")
    right = measure_faithfulness(motifnet, drawing, fv.objectives.Logit(label), found.map[0])
    wrong = measure_faithfulness(motifnet, drawing, fv.objectives.Logit(label), -found.map[0])
    assert right.insertion_area > wrong.insertion_area + 0.1 and right.deletion_area < wrong.deletion_area - 0.1


def data_of(text):
    return json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', text)[1])


def unpacked(cell, size):
    """Return a map as the script of the page reads it: 1 is full colour."""
    levels = np.frombuffer(zlib.decompress(b64decode(cell["map"])), np.uint8).reshape(size).astype(float) - 128
    return torch.from_numpy(np.sign(levels) * (levels / 127) ** 2 * cell["largest"])


def test_the_page_holds_maps_and_measurements(motifnet, image, tmp_path):
    targets, names = ["logit:moon", "stage2:5"], ["GradCAM", "GradCAM(layer='stage1')", "LRP('zplus')", "clear", "cam"]
    found = fv.compare(motifnet, image, targets, names, progress=None)
    seen = []
    path = found.save(tmp_path / "a.html", progress=lambda done, total: seen.append((done, total)))
    data = data_of(path.read_text())
    count = sum(one is not None for row in found.rows for one in row)
    assert seen == [(i + 1, count) for i in range(count)] and [file.name for file in tmp_path.iterdir()] == ["a.html"]
    assert [one["name"] for one in data["targets"]] == targets and [one["name"] for one in data["methods"]] == names
    for i, row in enumerate(found.rows):
        for k, one in enumerate(row):
            cell = data["cells"][i][k]
            if one is None:
                assert cell == {"problem": found.problems[f"{names[k]} of {targets[i]}"]}
                continue
            shown = (one.displayed()[0, 0] / shared_strength(found.rows, found.layers, i, k).clamp(min=1e-12)).double()
            largest = shown.abs().max().clamp(min=1e-12)
            bound = largest * ((shown.abs() / largest).sqrt() / 127 + 1 / 127**2)
            assert ((unpacked(cell, (64, 64)) - shown).abs() <= bound).all()
            measured = measure_faithfulness(motifnet, image, found.objectives[i], one.map[0])
            assert cell["insertion"]["curve"] == pytest.approx(measured.insertion, rel=1e-3)
            assert cell["deletion"]["area"] == pytest.approx(measured.deletion_area, rel=1e-3)
            assert cell["scored"] == measured.scored and cell["milliseconds"] > 0
            assert (cell["error"] is None) == (one.delta is None)
    assert data["cells"][1][4]["problem"].startswith("CAM needs ")
    assert len(data["cells"][0][3]["classes"]) == 5 and "classes" not in data["cells"][0][0]


def test_methods_that_differ_in_layer_and_head_share_a_name(image):
    network = fv.load("motifvit", device="cpu")
    chosen = ["rollout", "gradcam", methods.Attention(0), methods.Attention(1, head=2), methods.Attention(1)]
    found = fv.compare(network, image, "logit:moon", chosen, progress=None)
    assert data_of(explain_page(found))["methods"] == [
        {"name": "rollout", "group": "rollout", "choices": {}},
        {"name": "gradcam", "group": "gradcam", "choices": {}},
        {"name": "Attention(layer=0)", "group": "Attention", "choices": {"layer": "0", "head": "default"}},
        {"name": "Attention(layer=1, head=2)", "group": "Attention", "choices": {"layer": "1", "head": "2"}},
        {"name": "Attention(layer=1)", "group": "Attention", "choices": {"layer": "1", "head": "default"}},
    ]
    layers = fv.compare(fv.load("motifnet", device="cpu"), image, "logit:moon", ["gradcam"], layer="stage2")
    assert layers.attributors == [methods.GradCAM("stage2")]


@pytest.mark.parametrize("empty", [[], ()])
def test_an_empty_list_of_methods_is_refused(motifnet, empty):
    with pytest.raises(fv.SettingError, match="methods is empty; give at least one, or None for those"):
        fv.compare(motifnet, torch.rand(3, 32, 32), [1], empty, progress=None)


def test_names_are_escaped_and_nothing_is_loaded(tmp_path):
    wild = ("</script><script>alert(1)</script>", '"><b>', "it's", "dog", "elk")
    network = toys.plain(classes=wild)
    found = fv.compare(network, torch.rand(3, 32, 32), [0, "logit:it's"], ["gradient", "cam"], progress=None)
    text = found.save(tmp_path / "a.html", progress=None).read_text()
    assert "alert(1)</script>" not in text and "<b>" not in text
    assert "http" not in text.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")


def test_bad_paths_are_refused_before_anything_is_measured(motifnet, image, tmp_path):
    found = fv.compare(motifnet, image, "logit:moon", "gradient", progress=None)
    (tmp_path / "folder.html").mkdir()
    for path, message in (
        ("none/a.html", "cannot write none/a.html: there is no folder none; make it first"),
        ("folder.html", "cannot write folder.html: it is a folder; name a file that ends in .html"),
        ("a.htm", "cannot write a.htm: end it in .png, .jpg, .jpeg, .webp, or name an existing folder"),
    ):
        with pytest.raises(fv.OutputError, match=f"^{re.escape(message)}$"):
            found.save(path, progress=lambda *_: pytest.fail("measured"))
    assert [file.name for file in tmp_path.iterdir()] == ["folder.html"]


COMMANDS = {
    "attention plain.png": "motifnet has no attention over the whole image; use e.g. GradCAM",
    "attention no.png --model motifvit": "no file no.png; check the path",
    "attention plain.png --model motifvit -o a.png": "cannot write a.png: end it in .html",
    "attention plain.png --model motifvit -o no/a.html": "cannot write no/a.html: there is no folder no; make it first",
    "attention folder --model motifvit": "attention is recorded for one image, got 2; pass each on its own",
    "explain plain.png -o no/a.html": "cannot write no/a.html: there is no folder no; make it first",
    "explain folder -o a.html": "folder is a folder, so the output must be an existing folder, got a.html",
}


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_refuse_bad_input_in_one_line(line, tmp_path, capsys):
    (tmp_path / "folder").mkdir()
    for name in ("plain.png", "folder/a.png", "folder/b.png"):
        Image.new("RGB", (64, 64), (90, 60, 200)).save(tmp_path / name)
    before = sorted(tmp_path.rglob("*"))
    assert main(line.split()) == 2
    assert capsys.readouterr().err.splitlines() == [f"featviz: {COMMANDS[line]}"]
    assert sorted(tmp_path.rglob("*")) == before


def test_commands_write_pages(tmp_path, capsys):
    Image.new("RGB", (64, 64), (90, 60, 200)).save(tmp_path / "plain.png")
    assert main(["attention", "plain.png", "--model", "motifvit"]) == 0
    assert main(["explain", "plain.png", "--method", "gradcam", "-o", "page.html"]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines() == ["plain-attention.html", "page.html"]
    assert "measure: 100%" in captured.err and "1/1" in captured.err
    assert "<!doctype html>" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize("pad", [0, None])
def test_tokens_of_a_text_become_padding(pad):
    network = text_toys.network("lstm", tokens=replace(text_toys.SPEC, pad=pad))
    ids = text_toys.tokenize(text_toys.TEXT)
    bound, sequence = network.bind(ids), network.embed(ids)[0]
    nothing = network.module.embedding.weight[torch.tensor([1, *[0] * 6])].T[:, None].detach()
    if pad is None:
        nothing[:, :, 1:] = 0
    assert torch.equal(empty_text(bound), nothing)
    relevance = torch.tensor([[0.1, 0.7, -2, 0.3, 5, 0, 0.2]])
    found = measure_faithfulness(bound, sequence, fv.objectives.Logit("positive"), relevance)
    assert len(found.insertion) == len(found.deletion) == 8 and found.scored == "prob:positive"
    for count in range(8):
        for curve, start, end in ((found.insertion, nothing, sequence), (found.deletion, sequence, nothing)):
            view = start.clone()
            for token in [4, 1, 3, 6, 0, 5, 2][:count]:
                view[:, :, token] = end[:, :, token]
            with torch.no_grad(), bound.session([""]) as forward:
                expected = forward(view[None]).probabilities()[0, 1].item()
            assert curve[count] == pytest.approx(expected, rel=1e-4)


def test_the_page_of_a_text_holds_its_tokens(tmp_path):
    network = text_toys.network("transformer")
    found = fv.compare(network, text_toys.TEXT, [0, 1], ["InputXGradient", "rollout", "cam"], progress=None)
    data = data_of(found.save(tmp_path / "a.html", progress=None).read_text())
    assert data["tokens"] == ["[CLS]", *text_toys.TEXT.split()] and data["image"] is None
    for i in range(2):
        shown = found.rows[i][0].map[0].double() / shared_strength(found.rows, found.layers, i, 0)
        torch.testing.assert_close(unpacked(data["cells"][i][0], (1, 7)), shown, atol=0.02, rtol=0)
        assert len(data["cells"][i][0]["insertion"]["curve"]) == 8
        assert data["cells"][i][2]["problem"].startswith("CAM needs ")


def test_commands_write_pages_of_a_text(tmp_path, capsys):
    (tmp_path / "nets.py").write_text("import text_toys\n\ndef make():\n    return text_toys.network('transformer')\n")
    words = ["--text", text_toys.TEXT, "--model", "nets.py:make"]
    assert main(["attention", *words]) == 0
    assert main(["attention", *words, "-o", "a.html"]) == 0
    assert main(["explain", *words, "--method", "gradient", "-o", "page.html", "--quiet"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["text-attention.html", "a.html"] and lines[-1] == "page.html"
    assert data_of((tmp_path / "page.html").read_text())["tokens"][1:] == text_toys.TEXT.split()
    for wrong, message in (
        (["attention", "--model", "nets.py:make"], 'give either an image, or --text "..." for a network that reads text'),
        (["attention", "a.png", *words], 'give either an image, or --text "..." for a network that reads text'),
        (["attention", "a.png", *words[2:]], 'nets.py:make reads text; give --text "..." in place of an image'),
        (["attention", *words[:2]], "motifnet reads images; give an image in place of --text, or a network that reads text as --model FILE.py:FACTORY"),
    ):  # fmt: skip
        assert main(wrong) == 2
        assert capsys.readouterr().err.splitlines() == [f"featviz: {message}"]
