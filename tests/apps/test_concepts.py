"""Concepts: their classifier, their files, their features, and what is refused."""

from __future__ import annotations

import inspect
import re

import numpy as np
import pytest
import torch
import toys
from motifs.draw import draw
from PIL import Image

import featviz as fv
from featviz.apps.concepts.classify import (
    RIDGE,
    SPLITS,
    PhotographActivations,
    fit_direction,
    held_out_accuracy,
    random_accuracies,
)
from featviz.apps.concepts.photographs import PLACES, activations_of
from featviz.cli import main
from featviz.io import read_photographs, save_image, to_bytes

QUIET = {"progress": None, "scan_progress": None}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def two_classes(count=20, channels=6, distance=2.0, seed=0):
    """Return rows of two Gaussian classes, and which are of the first one."""
    x = torch.randn(count, channels, generator=generator(seed))
    is_positive = torch.arange(count) < count // 2
    x[is_positive, 0] += distance
    return x, is_positive


def write_photographs(folder, brightest, count=12, seed=0):
    """Write small images of noise of some brightness."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for i in range(count):
        Image.fromarray(rng.integers(0, brightest, (32, 32, 3), np.uint8)).save(folder / f"{i:02}.png")
    return folder


def write_motifs(folder, names, size, seed):
    """Write a drawing of each of some motifs of `motifnet`."""
    folder.mkdir()
    classes = list(fv.load("motifnet", device="cpu").classes)
    labels = torch.tensor([classes.index(name) for name in names])
    for i, image in enumerate(draw(labels, size, generator(seed))):
        save_image(to_bytes(image.numpy()), folder / f"{i:03}.png")
    return folder


def photographs_of(folder):
    return [image for _, image in read_photographs(folder, size=32)]


@pytest.fixture
def folders(tmp_path):
    return write_photographs(tmp_path / "bright", 255), write_photographs(tmp_path / "dark", 120)


# ---------------------------------------------------------------------------------------------- formulas


@pytest.mark.parametrize("channels", [4, 40])
def test_the_classifier_minimises_the_weighted_squared_error(channels):
    """The penalised error of the vector before it is scaled to length 1 rises in every direction."""
    x, is_positive = two_classes(20, channels)
    is_positive[:13] = True
    vector, bias = fit_direction(x, is_positive)
    assert vector.norm().item() == pytest.approx(1, abs=1e-6)
    weights = [0.5 / (13 if positive else 7) for positive in is_positive.tolist()]
    mean = sum(weight * row.double() for weight, row in zip(weights, x, strict=True))
    assert bias == pytest.approx(-float(vector.double() @ mean), abs=1e-5)
    spread = sum(w * (row.double() - mean).square().sum() for w, row in zip(weights, x, strict=True))

    def error(direction):
        total = RIDGE * spread * direction @ direction
        for weight, row, positive in zip(weights, x, is_positive.tolist(), strict=True):
            total = total + weight * ((1 if positive else -1) - direction @ (row.double() - mean)) ** 2
        return total

    lengths = torch.linspace(0.01, 3, 300, dtype=torch.float64)
    best = min(lengths, key=lambda length: error(length * vector.double()))
    for i in range(channels):
        step = 0.02 * torch.eye(channels, dtype=torch.float64)[i]
        for change in (step, -step):
            assert error(best * vector.double()) <= error(best * vector.double() + change) + 1e-9


def test_single_positions_are_rows_of_their_own():
    places = torch.randn(4, 3, 5, generator=generator())
    data = PhotographActivations(places.mean(1), places)
    rows, repeats = data.rows_of(torch.tensor([True, False, True, False]))
    assert repeats == 3 and torch.equal(rows, torch.cat([places[0], places[2]]))


def test_accuracy_is_measured_on_photographs_that_are_held_out():
    """With more channels than photographs, a classifier separates any classes that it is fitted to."""
    x, is_positive = two_classes(40, 200, distance=0)
    vector, bias = fit_direction(x, is_positive)
    assert ((x @ vector + bias > 0) == is_positive).float().mean() > 0.95
    held_out = [held_out_accuracy(PhotographActivations(x), is_positive, generator(i)) for i in range(5)]
    assert max(held_out) < 0.75
    easy, is_positive = two_classes(40, 6, distance=8)
    assert held_out_accuracy(PhotographActivations(easy), is_positive, generator()) == 1


def test_accuracy_is_the_mean_over_the_classes():
    """A classifier that calls everything negative has an accuracy of 0.5, however few positives there are."""
    x, is_positive = torch.zeros(60, 3), torch.arange(60) < 10
    assert held_out_accuracy(PhotographActivations(x), is_positive, generator()) == 0.5


def test_random_classes_have_the_accuracy_of_chance():
    x, is_positive = two_classes(40, 10, distance=8)
    found = random_accuracies(PhotographActivations(x), is_positive, generator())
    assert len(found) == SPLITS and 0.4 < sum(found) / SPLITS < 0.6


def test_activations_are_those_of_the_photographs(folders):
    net = toys.plain()
    data, count = activations_of(net, *folders, "conv2", per_position=True, seed=0, progress=None)
    assert count == 12 and data.places.shape == (24, PLACES, 8)
    images = torch.stack([image for folder in folders for image in photographs_of(folder)])
    whole = net.capture(images, ["conv2"]).channels_first("conv2")
    assert torch.allclose(data.means, whole.mean((2, 3)), atol=1e-5)
    for photograph, places in zip(whole, data.places, strict=True):
        there = {tuple(row) for row in photograph.flatten(1).T.tolist()}
        assert {tuple(row) for row in places.tolist()} <= there


# ---------------------------------------------------------------------------------------------- a concept


@pytest.mark.parametrize("per_position", [False, True])
def test_a_concept_separates_its_photographs(folders, tmp_path, per_position):
    net = toys.plain()
    concept = fv.Concept.from_photographs(net, "conv2", *folders, per_position=per_position, **QUIET)
    assert concept.accuracy > 0.9 and 0.3 < concept.random_accuracy < 0.7
    assert concept.dictionary.facts["positive"] == concept.dictionary.facts["negative"] == 12
    expected = rf"<Concept in conv2: accuracy {concept.accuracy:.2f} \(random 0\.\d\d\), 12 photographs and 12 others>"
    assert re.fullmatch(expected, repr(concept))
    attached = net.with_dictionary(concept.layer, concept.dictionary)
    for folder, sign in zip(folders, (1, -1), strict=True):
        images = torch.stack(photographs_of(folder))
        codes = fv.score(attached, "conv2~0", images)
        whole = net.capture(images, ["conv2"]).channels_first("conv2").mean((2, 3))
        assert (codes[:, 0] * sign > 0).float().mean() > 0.9
        assert torch.allclose(codes[:, 0], whole @ concept.vector + concept.dictionary.bias[0], atol=1e-4)
        assert torch.allclose(fv.score(net, concept.objective(), images)[:, 0], whole @ concept.vector, atol=1e-4)


def test_a_concept_is_the_same_again_and_in_its_file(folders, tmp_path):
    net, file = toys.plain(), tmp_path / "bright.safetensors"
    concept = fv.Concept.from_photographs(net, net.module.conv2, *folders, **QUIET)
    assert concept == fv.Concept.from_photographs(net, "conv2", *folders, **QUIET)
    assert concept.save(file) == file
    loaded = fv.Concept.load(file)
    assert loaded == concept and repr(loaded) == repr(concept) and loaded.dictionary.facts == concept.dictionary.facts
    assert fv.objectives.parse(f"cosine(conv2, '{file}')").files == (str(file),)


def test_a_probe_of_another_library_is_a_concept_without_accuracy(tmp_path):
    np.save(tmp_path / "cav.npy", np.ones(8))
    concept = fv.Concept(fv.Dictionary.load(tmp_path / "cav.npy").at("conv2"))
    assert concept.accuracy is None and repr(concept) == "<Concept in conv2: accuracy not measured>"


def test_sensitivity_is_the_share_of_photographs_in_which_the_score_rises(folders):
    """The derivative, restated by a small step along the direction at all positions of the layer."""
    net, bright = toys.plain(), folders[0]
    vector = torch.randn(8, generator=generator(3))
    vector = vector / vector.norm()
    concept = fv.Concept(fv.Dictionary(kind="probe", encoder=vector[None], layer="relu#2"))
    images = torch.stack(photographs_of(bright))
    module = net.module.eval()
    rising = []
    with torch.no_grad():
        for image in net.normaliser()(images):
            hidden = module.relu(module.conv2(module.relu(module.bn1(module.conv1(image[None])))))
            pooled = hidden.double().mean((2, 3))
            low, high = (module.head.double()(pooled + step * vector.double())[0, 1].item() for step in (-1e-3, 1e-3))
            module.head.float()
            rising.append(high > low)
    found = concept.sensitivity(net, bright, "logit:1", progress=None)
    assert found == sum(rising) / len(rising)


def test_sensitivity_needs_a_later_target(folders):
    net = toys.plain()
    concept = fv.Concept(fv.Dictionary(kind="probe", encoder=torch.ones(1, 8), layer="conv2"))
    with pytest.raises(fv.SettingError, match=r"^bn1:1 does not depend on layer 'conv2' in these photographs; give a"):
        concept.sensitivity(net, folders[0], "bn1:1", progress=None)


# ---------------------------------------------------------------------------------------------- bad input


def test_photographs_of_one_kind_are_refused(tmp_path):
    folders = [write_photographs(tmp_path / name, 255, 20, seed) for seed, name in enumerate("ab")]
    expected = rf"photographs of {folders[0]} and {folders[1]} cannot be told apart in layer 'conv2': 0\.\d\d of those held out are recognised, and up to 0\.\d\d in 50 random classes of the same photographs; give more photographs, or another layer"
    with pytest.raises(fv.SettingError, match=f"^{expected}$"):
        fv.Concept.from_photographs(toys.plain(), "conv2", *folders, **QUIET)
    with pytest.raises(fv.SettingError, match="cannot be told apart"):  # the same folder twice
        fv.Concept.from_photographs(toys.plain(), "conv2", folders[0], folders[0], **QUIET)


def test_bad_input(folders, tmp_path):
    net, (bright, dark) = toys.plain(), folders
    few = write_photographs(tmp_path / "few", 255, 3)
    cases = [
        (("conv2", bright, few), fv.SettingError, f"a concept needs at least 10 photographs and as many others, and {few} has 3; add more"),
        (("conv2", tmp_path / "none", dark), fv.OutputError, f"no folder {tmp_path / 'none'}; give a folder of images"),
        (("", bright, dark), fv.SettingError, "layer must be a layer before the class logits, got the logits; list all: net.layers()"),
        (("conv9", bright, dark), fv.AddressError, "no layer 'conv9' in Plain; nearest: 'conv2', 'conv1' (list all: net.layers())"),
        (("conv2~", bright, dark), fv.AddressError, "'conv2~' are codes of a dictionary; find the concept in the layer 'conv2'"),
    ]  # fmt: skip
    attached = net.with_dictionary("conv2", fv.Dictionary(kind="probe", encoder=torch.ones(1, 8)))
    for arguments, kind, message in cases:
        with pytest.raises(kind, match=f"^{re.escape(message)}$"):
            fv.Concept.from_photographs(attached if "~" in arguments[0] else net, *arguments, **QUIET)


def test_nan_is_refused(folders):
    net = toys.plain()
    with torch.no_grad():
        net.module.conv2.weight.fill_(float("nan"))
    with pytest.raises(fv.ModelError, match="^layer 'conv2' of Plain outputs NaN or infinite numbers"):
        fv.Concept.from_photographs(net, "conv2", *folders, **QUIET)


WRONG = (object(), -1, 1.5, True, [], {}, b"", len, np.zeros(2), None, "", "no such", float("nan"))


@pytest.mark.parametrize("argument", inspect.signature(fv.Concept.from_photographs).parameters)
def test_arguments_of_wrong_types_are_refused_in_one_line(argument, folders):
    if "progress" in argument:
        return
    for wrong in WRONG:
        given = {"network": toys.plain(), "layer": "conv2", "positive": folders[0], "negative": folders[1], **QUIET}
        try:
            fv.Concept.from_photographs(**given | {argument: wrong})
        except fv.FeatvizError as error:
            message = str(error)
        else:
            message = ""
        assert "\n" not in message


@pytest.mark.parametrize(
    ("made", "found"),
    [
        ({"kind": "probe", "layer": ""}, "kind probe with 1 that names no layer"),
        ({"kind": "pca", "layer": "conv2"}, "kind pca with 1 of layer 'conv2'"),
    ],
)
def test_other_dictionaries_are_no_concepts(made, found):
    expected = f"a concept is a dictionary of kind probe with one feature and a layer, got one of {found}; attach it as it is: net.with_dictionary(layer, dictionary)"
    with pytest.raises(fv.SettingError, match=f"^{re.escape(expected)}$"):
        fv.Concept(fv.Dictionary(encoder=torch.ones(1, 8), **made))
    with pytest.raises(fv.SettingError, match=r"^dictionary must be a dictionary, got 'no'; use fv\.Concept\.from_"):
        fv.Concept("no")


# ---------------------------------------------------------------------------------------------- the command


def test_the_command_writes_a_dictionary(folders, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["concept", "bright", "dark", "--layer", "stage2", "--device", "cpu", "--quiet"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert re.fullmatch(
        r"\d+ % of the photographs that were held out are recognised; random classes: \d+ %, at most \d+ %", first
    )
    assert second == "bright-stage2.safetensors" and fv.Concept.load(second).layer == "stage2"
    render = ["render", "stage2~0", "--dictionary", second, "-o", "one.png", "--steps", "1", "--size", "32"]
    assert main([*render, "--device", "cpu", "--precision", "float32", "--quiet"]) == 0
    assert fv.Recipe.of("one.png").dictionaries["stage2"][0] == second


def test_the_command_refuses_in_one_line(folders, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["concept", "bright", "bright", "--layer", "stage2", "--device", "cpu", "--quiet"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("featviz: photographs of bright and bright cannot be told apart") and error.count("\n") == 1
    assert not list(tmp_path.glob("*.safetensors"))


# ---------------------------------------------------------------------------------------------- truth


@pytest.mark.slow
@pytest.mark.parametrize("motif", ["zigzag", "leaf"])
def test_the_concept_of_a_motif_is_recognised_by_another_network(motif, tmp_path):
    net, judge = fv.load("motifnet", device="cpu"), fv.load("motifvit", device="cpu")
    others = [name for name in net.classes if name != motif]
    positive = write_motifs(tmp_path / "motif", [motif] * 40, net.size, seed=1)
    negative = write_motifs(tmp_path / "others", [others[i % 26] for i in range(40)], net.size, seed=2)
    concept = fv.Concept.from_photographs(net, "stage3.1", positive, negative, **QUIET)
    assert concept.accuracy >= 0.9
    rendering = fv.render(net, concept.objective(), steps=128, progress=None)
    images = torch.nn.functional.interpolate(rendering.images, judge.size, mode="bilinear", antialias=True)
    logits = judge.capture(images, [""]).logits()[0]
    assert judge.classes.index(motif) in logits.topk(3).indices.tolist()
    assert concept.sensitivity(net, positive, f"logit:{motif}", progress=None) >= 0.9


@pytest.mark.slow
def test_random_drawings_are_refused(tmp_path):
    net = fv.load("motifnet", device="cpu")
    names = [net.classes[i % 27] for i in range(54)]
    for seed in range(2):
        folders = [write_motifs(tmp_path / f"{seed}-{i}", names, net.size, seed=10 * seed + i) for i in range(2)]
        with pytest.raises(fv.SettingError, match="cannot be told apart"):
            fv.Concept.from_photographs(net, "stage3.1", *folders, seed=seed, **QUIET)
