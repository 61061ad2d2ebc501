"""The pages of circuits: which units they show, where their images come from, and bad input."""

import base64
import io
import re

import numpy as np
import pytest
import torch
import toys
from PIL import Image
from torch import nn

import featviz as fv
from featviz.apps.circuits.expand import SKIP
from featviz.apps.circuits.page import BLUE, RED, _short, draw_colours, draw_kernel
from featviz.apps.circuits.pictures import images_of_sweep
from featviz.io import Store

FEW = {"steps": 1, "size": 16, "progress": None}


def read(made, page=0):
    return made.store.read(made.pages[page]).decode()


def test_pages_of_a_walk_link_to_each_other(tmp_path):
    made = fv.circuit(toys.plain(), "logit:2", tmp_path / "out", inputs=2, depth=2, **FEW)
    assert made.pages[0] == "index.html" and len(made.pages) == len(set(made.pages)) > 3
    files = {path.name for path in (tmp_path / "out").glob("*.html")}
    assert files == set(made.pages)
    for i in range(len(made.pages)):
        text = read(made, i)
        links = re.findall(r'(?:href|src)="(?!data:)([^"]+)"', text)
        assert links and all((tmp_path / "out" / link).exists() for link in links)
        # A page beyond the first is linked from the page of a unit that reads it, and links back.
        if i:
            assert any(made.pages[i] in read(made, j) for j in range(len(made.pages)) if j != i)
            assert "<dt>input of</dt>" in text
    assert made.facts.keys() >= {"logit:2"} and len(made.facts) == len(made.pages)
    assert set(made.facts["logit:2"]) == {"response", "without excitatory", "without inhibitory", "without random"}


def test_the_inputs_are_those_with_the_largest_weights(tmp_path):
    net = toys.plain()
    made = fv.circuit(net, "conv2:3", tmp_path / "out", source="conv1", inputs=2, depth=0, groups=2, **FEW)
    norm = net.module.bn1
    kernels = net.module.conv2.weight[3] * (norm.weight / (norm.running_var + norm.eps).sqrt())[:, None, None]
    up, down = kernels.clamp(min=0).sum((1, 2)), (-kernels).clamp(min=0).sum((1, 2))
    expected = [
        [k for k in own.argsort(descending=True).tolist() if own[k] > other[k]][:2]
        for own, other in ((up, down), (down, up))
    ]
    text = read(made)
    for title, channels in zip(("Excitatory inputs", "Inhibitory inputs"), expected, strict=True):
        section = text.partition(f"<h2>{title}</h2>")[2].partition("</section>")[0]
        assert re.findall(r"conv1:(\d)</span>", section) == [str(k) for k in channels]
        sums = [f"weight {kernels[k].sum().item():+.2f}" for k in channels]
        assert re.findall(r"weight [-+][\d.]+", section) == sums
    assert "All inputs, in 2 groups" in text and "Family" not in text


def test_a_unit_of_the_first_layer_reads_colours(tmp_path):
    made = fv.circuit(toys.plain(), "conv1:1", tmp_path / "out", family=True, **FEW)
    text = read(made)
    assert len(made.pages) == 1 and "3 inputs in image" in text
    assert sorted(re.findall(r'<span class="name">(red|green|blue)</span>', text)) == ["blue", "green", "red"]
    assert "Family: units of the layer" in text and "not rendered" not in text


def test_images_are_taken_from_a_sweep(tmp_path):
    """Also of other sizes and steps; those of the most steps; not those of another network, nor negative ones."""
    net = toys.plain()
    for steps in (1, 2):
        fv.sweep(net, tmp_path / "sweep", "conv1", size=24, steps=steps, negative=True, progress=None)
    other = toys.plain()
    other.module.conv1.weight.data.neg_()
    fv.sweep(other, tmp_path / "sweep", "conv1", size=24, steps=3, progress=None)
    wanted = [("conv1", k) for k in range(6)]
    store = Store(tmp_path / "sweep")
    found = images_of_sweep(net, store, [*wanted, ("conv2", 3)])
    assert set(found) == set(wanted)
    assert {fv.Recipe.of(store.read(f"images/{name}.png")).steps for name in found.values()} == {2}
    done = []
    made = fv.circuit(
        net, "conv2:3", tmp_path / "out", source="conv1", depth=0, groups=0, sweep=tmp_path / "sweep",
        steps=1, size=16, progress=lambda i, total: done.append(total),
    )  # fmt: skip
    assert done == [1] and not made.problems  # the unit itself
    assert "not rendered" not in read(made)


def test_photographs_are_the_exemplars(tmp_path):
    (tmp_path / "photos").mkdir()
    generator = np.random.default_rng(0)
    for i in range(7):
        Image.fromarray(generator.integers(0, 255, (32, 32, 3), np.uint8)).save(tmp_path / "photos" / f"{i}.png")
    net = toys.plain()
    made = fv.circuit(
        net, "conv2:3", tmp_path / "out", photographs=tmp_path / "photos", depth=0, scan_progress=None, **FEW
    )
    places = fv.examples(net, tmp_path / "photos", "conv2", [3], progress=None).places(3)
    assert made.facts["conv2:3"]["response"] == pytest.approx(np.mean([each.activation for each in places]), abs=1e-4)
    text = read(made)
    assert "Response to the 5 photographs with the highest activation" in text
    parts = [float(each) for each in re.findall(r"contribution ([-+][\d.]+)", text)]
    up = [each for each in parts if each > 0]
    assert len(parts) == 6 and parts == [*sorted(up, reverse=True), *sorted(each for each in parts if each <= 0)]
    assert "contribution" not in read(fv.circuit(net, "conv2:3", tmp_path / "weights", depth=0, **FEW)).lower()


def test_names_are_escaped(tmp_path):
    net = toys.plain(classes=("<b>a</b>", "b", "c", "d", "e"))
    text = read(fv.circuit(net, 0, tmp_path / "out", depth=0, groups=0, **FEW))
    assert "<b>a</b>" not in text and "&lt;b&gt;a&lt;/b&gt;" in text
    assert text.count("Content-Security-Policy") == 1


def pixels(data):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_kernels_are_red_and_blue():
    drawn = pixels(draw_kernel(torch.tensor([[1.0, -0.5], [0.0, -4.0]]), 2.0))
    assert drawn[0, 0].tolist() == [*RED, 128] and drawn[0, 1].tolist() == [*BLUE, 64]
    assert drawn[1, 0, 3] == 0 and drawn[1, 1].tolist() == [*BLUE, 255]
    drawn = pixels(draw_colours(torch.tensor([1.0, 0.0, -1.0]).view(3, 1, 1)))
    assert drawn.shape == (1, 1, 3) and drawn[0, 0].tolist() == [255, 128, 0]


class Skipping(nn.Module):
    """A grey-scale network with one path without weights."""

    def __init__(self):
        super().__init__()
        self.stem, self.conv = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.end = nn.Identity()

    def forward(self, x):
        x = self.stem(x).relu()
        return self.end(x + self.conv(x))


def test_paths_are_listed(tmp_path):
    net = fv.Network(Skipping(), size=16, mean=(0.5,), std=(0.5,))
    made = fv.circuit(net, "end:2", tmp_path / "out", inputs=4, **FEW)
    text = read(made)
    assert "<dt>paths</dt>" in text and "skip connection: +1.00" in text and len(made.pages) == 5
    assert "channel 0" in read(made, 1)  # the inputs of the stem: its colours have no names


def test_the_walk_ends_where_no_weights_are(tmp_path):
    torch.manual_seed(0)
    module = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.ReLU())
    net = fv.Network(module, size=16, mean=(0.5,) * 3, std=(0.5,) * 3)
    made = fv.circuit(net, "2:1", tmp_path / "out", depth=2, groups=0, **FEW)
    assert made.pages == ("index.html",) and made.facts.keys() == {"2:1"} and "0:2" in read(made)


WRONG = {
    "layers in the wrong order": ({"unit": "conv1:0", "source": "conv2"}, (
        "the inputs of 'conv1' must be in a layer before it, got 'conv2'; layers run in the order of: featviz layers"
    )),
    "unknown unit": ({"unit": "conv1:6"}, "no channel 6 in 'conv1'; it has 6, 0 to 5"),
    "unknown layer": ({"unit": "conv3:0"}, (
        "no layer 'conv3' in Plain; nearest: 'conv2', 'conv1' (list all: net.layers())"
    )),
    "unknown source": ({"source": "nothing"}, "no layer 'nothing' in Plain (list all: net.layers())"),
    "no weights": ({"unit": "bn1:0", "source": "conv1"}, (
        "no weights lie between 'conv1' and 'bn1' of Plain; give a layer before a convolution or linear layer that "
        "'bn1' depends on, or leave the source out"
    )),
    "a neuron": ({"unit": "conv1:0@1,1"}, (
        "unit must be a channel or a class, as 'stage3:5' or 'logit:0', got 'conv1:0@1,1'"
    )),
    "a sum": ({"unit": "conv1:0 + conv1:1"}, (
        "unit must be a channel or a class, as 'stage3:5' or 'logit:0', got 'conv1:0 + conv1:1'"
    )),
    "no inputs": ({"inputs": 0}, "inputs must be in [1, 50], got 0 (default 8)"),
    "too deep": ({"depth": 5}, "depth must be in [0, 4], got 5 (default 1)"),
    "too many groups": ({"groups": 21}, "groups must be in [0, 20], got 21 (default 4)"),
    "no sweep": ({"sweep": "gone"}, "no folder gone; give the output folder of a sweep"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_bad_input_writes_nothing(what, tmp_path):
    given, message = WRONG[what]
    with pytest.raises(fv.FeatvizError) as caught:
        fv.circuit(toys.plain(), **{"unit": "conv2:0", "output": tmp_path / "out", **FEW, **given})
    assert str(caught.value) == message
    assert not (tmp_path / "out").exists()


def test_names_of_paths_are_shortened_by_what_all_begin_with():
    paths = ["a.b.conv1 → a.b.conv2", "a.b.shortcut", SKIP]
    assert [_short(path, paths) for path in paths] == ["conv1 → conv2", "shortcut", SKIP]
    assert _short("a.conv", ["a.conv", SKIP]) == "conv" and _short(SKIP, [SKIP]) == SKIP
