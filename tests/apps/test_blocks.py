"""Building blocks of an image of two motifs whose places are known."""

import json
import re
from dataclasses import replace

import pytest
import torch
from motifs.draw import draw
from PIL import Image

import featviz as fv
from featviz.apps.blocks.decompose import take_apart
from featviz.apps.blocks.page import _group_colors
from featviz.cli import main
from featviz.network.bundled import MOTIFS

NAMES = ("fish", "smiley")


@pytest.fixture(scope="module")
def both():
    """A fish on the left, a smiley on the right."""
    labels = torch.tensor([MOTIFS.index(name) for name in NAMES])
    return torch.cat(list(draw(labels, (64, 64), torch.Generator().manual_seed(2))), 2)


@pytest.fixture
def photo(both, tmp_path):
    Image.fromarray((both.permute(1, 2, 0) * 255).round().byte().numpy()).save(tmp_path / "both.png")
    return tmp_path / "both.png"


def data(folder):
    return json.loads(
        re.search(
            r'<script id="data" type="application/json">(.*?)</script>', (folder / "index.html").read_text(), re.S
        )[1]
    )


@pytest.fixture(scope="module")
def parts(motifnet, both):
    classes = [MOTIFS.index(name) for name in NAMES]
    return take_apart(motifnet, both[None], ["stage2", "stage3"], classes, most=8, groups=4)


def test_regions_contribute_to_the_class_that_they_show(parts):
    """The left half contributes to the fish, the right half to the smiley."""
    support = parts[1].support
    left, right = support[:, :, :4].sum((1, 2)), support[:, :, 4:].sum((1, 2))
    assert left[0] > right[0] and right[1] > left[1]


def test_contributions_sum_to_the_logit(motifnet, both, parts):
    """motifnet ends in a mean and a linear layer, so the contributions of its last map sum to the logit without bias."""
    logits = motifnet.capture(both[None], [""]).logits()[0] - motifnet.module.head.bias.detach()
    for k, name in enumerate(NAMES):
        expected = logits[MOTIFS.index(name)].item()
        assert parts[1].support[k].sum().item() == pytest.approx(expected, rel=1e-3)
        assert parts[1].channels[k].sum().item() == pytest.approx(expected, rel=1e-3)


def test_contributions_of_cells_that_do_not_divide_the_map_sum_to_the_logit(motifnet, both):
    index = MOTIFS.index("fish")
    (part,) = take_apart(motifnet, both[None], ["stage3"], [index], most=5, groups=2)
    expected = (motifnet.capture(both[None], [""]).logits()[0] - motifnet.module.head.bias.detach())[index].item()
    assert part.maps.shape[1:] == (2, 5)
    assert part.support.sum().item() == pytest.approx(expected, rel=1e-3)
    again = take_apart(motifnet, both[None], ["stage3"], [index], most=5, groups=2)[0]
    assert torch.equal(part.groups, again.groups) and torch.equal(part.maps, again.maps)


def test_cells_are_means_of_positions(motifnet, both, parts):
    whole = motifnet.capture(both[None], ["stage3"])["stage3"][0]
    assert whole.shape[1:] == (8, 16) and parts[1].maps.shape[1:] == (4, 8)
    torch.testing.assert_close(parts[1].maps[:, 1, 2], whole[:, 2:4, 4:6].mean((1, 2)), atol=1e-4, rtol=1e-3)


def test_groups_reconstruct_the_activations(parts):
    again = torch.einsum("gc,gyx->cyx", parts[1].groups, parts[1].shares)
    left = (again - parts[1].maps).norm() / parts[1].maps.norm()
    assert len(parts[1].groups) == 4 and left < 0.6
    assert (parts[1].groups >= 0).all() and (parts[1].shares >= 0).all()


def test_colours_of_groups_mix_in_cells(parts):
    colors = _group_colors(parts[1])
    groups, cells = colors["group_colors"], colors["cell_colors"]
    assert len({tuple(color) for color in groups}) == 4 and len(cells) == 32
    activation = parts[1].shares * parts[1].groups.norm(dim=1)[:, None, None]
    shares = (activation / activation.sum(0).clamp(min=1e-9)).flatten(1)
    purest = shares.amax(0).argmax().item()
    *mixed, opacity = cells[purest]
    distances = [sum((a / 255 - b / 255) ** 2 for a, b in zip(mixed, color, strict=True)) for color in groups]
    assert distances.index(min(distances)) == shares[:, purest].argmax()
    assert 0 < opacity <= max(cell[3] for cell in cells) == round(0.85 * 255)
    nothing = replace(parts[1], groups=torch.zeros(0, 128), shares=torch.zeros(0, 4, 8))
    assert _group_colors(nothing) == {"group_colors": [], "cell_colors": [[0, 0, 0, 0]] * 32}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "mode"), [("cppn", "RGB"), ("alpha", "RGBA")])
@pytest.mark.long
def test_icons_of_other_params(photo, tmp_path, name, mode):
    words = ["blocks", str(photo), "--layer", "stage3", "--cells", "2", "--groups", "1", "--param", name]
    assert (
        main([*words, "--size", "64", "--steps", "64", "--quiet", "-o", "page"]) == 0
    )  # a CPPN starts flat and needs some steps to activate the units
    for file in (tmp_path / "page" / "images").iterdir():
        with Image.open(file) as opened:
            assert opened.mode == mode


def test_sources_lie_in_the_receptive_field(parts):
    """A cell at the left of the last layer depends little on the right of the previous layer."""
    sources = parts[1].sources
    assert parts[0].sources is None and sources.shape == (32, 4, 8)
    corner = sources[0].abs()
    assert corner[:, :4].sum() > 0.95 * corner.sum()


def test_page_and_its_icons(motifnet, photo, tmp_path, capsys):
    words = [
        "blocks",
        str(photo),
        "--layer",
        "stage2",
        "--layer",
        "stage1",
        "--cells",
        "4",
        "--groups",
        "2",
        "--class",
        "moon",
    ]
    assert main([*words, "-o", "page", "--steps", "2", "--quiet"]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/page/index.html\n"
    page = data(tmp_path / "page")
    assert [layer["layer"] for layer in page["layers"]] == ["stage1", "stage2"]  # in the order in which they run
    assert page["classes"][0]["name"] == "moon" and len(page["classes"]) in (5, 6)
    for layer in page["layers"]:
        assert layer["grid"] == [1, 2, 4] and len(layer["sheets"]["cells"]["icons"]) == 8
        assert min(i for sheet in layer["sheets"].values() for i in sheet["icons"]) >= 0
        assert {k for cell in layer["cell_channels"] for k, _ in cell} <= set(layer["channels"])


def test_images_of_a_sweep_are_copied(motifnet, photo, tmp_path):
    settings = {"steps": 2}
    fv.sweep(motifnet, tmp_path / "sweep", "stage2", **settings)
    swept = {file.name: file.read_bytes() for file in (tmp_path / "sweep" / "images").iterdir()}
    fv.blocks(motifnet, photo, "stage2", tmp_path / "page", cells=2, groups=1, sweep=tmp_path / "sweep", **settings)
    own = {file.name: file.read_bytes() for file in (tmp_path / "page" / "images").iterdir()}
    shared = swept.keys() & own.keys()
    assert len(shared) == len(data(tmp_path / "page")["layers"][0]["channels"])
    assert all(swept[name] == own[name] for name in shared)
    with pytest.warns(
        fv.FeatvizWarning,
        match=r"has these channels, 3 steps, seed 0, this size and this param; all icons are rendered$",
    ):
        fv.blocks(motifnet, photo, "stage2", tmp_path / "new", cells=2, groups=1, sweep=tmp_path / "sweep", steps=3)


def test_blocks_of_tokens(photo, tmp_path):
    vit = fv.load("motifvit", device="cpu")
    layer = "encoder.layers.encoder_layer_1"
    made = fv.blocks(vit, photo, layer, tmp_path / "page", cells=3, groups=2, steps=2)
    assert made.problems == {} and data(tmp_path / "page")["layers"][0]["grid"][1] == 3


def test_softmax_is_not_applied_twice(motifnet, photo, tmp_path):
    softmaxed = torch.nn.Sequential(motifnet.module, torch.nn.Softmax(1))
    for name, module in (("plain", motifnet.module), ("softmaxed", softmaxed)):
        net = fv.Network(module, size=64, mean=motifnet.input.mean, std=motifnet.input.std, classes=motifnet.classes)
        fv.blocks(net, photo, "stage3" if name == "plain" else "0.stage3", tmp_path / name, cells=2, groups=2, steps=0)
    plain, again = (
        {one["name"]: one["share"] for one in data(tmp_path / name)["classes"]} for name in ("plain", "softmaxed")
    )
    assert plain == again and max(plain.values()) > 0.5


BAD = [
    (["no.png", "--layer", "stage3"], "no file no.png; check the path"),
    (["both.png", "--layer", "stage9"], "no layer 'stage9' in motifnet"),
    (
        ["both.png", "--layer", "head"],
        "no positions in 'head'; its output is one vector; use a feature map or patch tokens",
    ),
    (["both.png", "--layer", "stage3", "--class", "fsh"], "no class 'fsh'; nearest: 'fish'"),
    (["both.png", "--layer", "stage3", "--cells", "0"], "cells must be >= 1, got 0"),
    (["both.png", "--layer", "stage3", "--backend", "spark"], "backend must be local or ray, got 'spark'"),
    (
        ["both.png", "--layer", "stage3", "--param", "Image(batch=4)"],
        "an icon needs a param that makes 1 image, got Image with 4",
    ),
]


@pytest.mark.parametrize(("words", "line"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_bad_input_gives_one_line(words, line, photo, tmp_path, capsys):
    assert main(["blocks", *words, "--quiet"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].startswith(f"featviz: {line}"), said
    assert not (tmp_path / "blocks").exists()
