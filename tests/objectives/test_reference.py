"""Objectives with a reference image, each restated by loops, in double precision."""

import math

import pytest
import torch
import toys
from PIL import Image
from sample import ACTS, IMAGES, MAP, REFERENCE, REFERENCE_MAP, C, N, assert_scores

import featviz as fv
from featviz import objectives as obj
from featviz.errors import AddressError, SettingError
from featviz.interfaces import RenderContext
from featviz.network.activations import Activations
from featviz.network.layout import Layout
from featviz.objectives import reference


def bound(objective, target=REFERENCE_MAP):
    """Bind to a network whose only layer outputs `target` for the reference."""

    def capture(images, layers):
        assert images.shape == (1, 3, 16, 24)
        return Activations(dict.fromkeys(layers, target), ACTS.layouts, (16, 24))

    return objective.bind(RenderContext(capture, 3, (6, 9), (16, 24)))


def test_match():
    energy = REFERENCE_MAP.square().sum().item()
    expected = [-sum((MAP[i] - REFERENCE_MAP[0]).square().flatten().tolist()) / energy for i in range(N)]
    assert_scores(bound(obj.Match("map", REFERENCE))(ACTS), expected)
    same = Activations({"map": REFERENCE_MAP}, ACTS.layouts, (16, 24))
    assert bound(obj.Match("map", REFERENCE))(same).item() == 0
    zero = Activations({"map": 0 * REFERENCE_MAP}, ACTS.layouts, (16, 24))
    assert bound(obj.Match("map", REFERENCE))(zero).item() == pytest.approx(-1)


@pytest.mark.parametrize("power", [0, 1, 3])
def test_caricature(power):
    target = REFERENCE_MAP.flatten().tolist()
    length = math.sqrt(sum(t * t for t in target))
    expected = []
    for i in range(N):
        values = MAP[i].flatten().tolist()
        dot = sum(v * t for v, t in zip(values, target, strict=True))
        cosine = dot / math.sqrt(sum(v * v for v in values)) / length
        expected.append(dot / length**2 * max(0.1, cosine) ** power)
    assert_scores(bound(obj.Caricature("map", REFERENCE, power))(ACTS), expected)


def guide_scores(target):
    """Restate `Guide`: the mean over positions of the largest dot product with a position of the target."""
    positions = target[0].flatten(1).T.tolist()
    scores = []
    for i in range(N):
        best = [
            max(sum(v * t for v, t in zip(values, position, strict=True)) for position in positions)
            for values in MAP[i].flatten(1).T.tolist()
        ]
        scores.append(sum(best) / len(best))
    return scores


def test_guide():
    assert_scores(bound(obj.Guide("map", REFERENCE))(ACTS), guide_scores(REFERENCE_MAP))


def test_guide_samples_the_positions_of_a_large_reference(monkeypatch):
    monkeypatch.setattr(reference, "MAX_GUIDE_POSITIONS", 7)
    every_third = REFERENCE_MAP.flatten(2)[:, :, ::3]
    assert_scores(bound(obj.Guide("map", REFERENCE))(ACTS), guide_scores(every_third))


def gram(values):
    flat = values.flatten(1)
    return [
        [sum(flat[a, p].item() * flat[b, p].item() for p in range(flat.shape[1])) / flat.shape[1] for b in range(C)]
        for a in range(C)
    ]


def test_style_and_its_memory():
    target = torch.tensor(gram(REFERENCE_MAP[0]))
    grams = torch.tensor([gram(MAP[i]) for i in range(N)])
    energy = target.square().sum()
    expected = [(-(grams[i] - target).square().sum() / energy).item() for i in range(N)]
    style = bound(obj.Style("map", REFERENCE, 0.75))
    assert style(ACTS).tolist() == pytest.approx(expected, rel=1e-5)
    later = Activations({"map": 2 * MAP}, ACTS.layouts, ACTS.size)
    mean = [(-((0.75 * grams[i] + 0.25 * 4 * grams[i]) - target).square().sum() / energy).item() for i in range(N)]
    assert style(later).tolist() == pytest.approx(mean, rel=1e-5)
    other_render = bound(obj.Style("map", REFERENCE, 0.75))
    assert other_render(ACTS).tolist() == pytest.approx(expected, rel=1e-5)
    without_memory = bound(obj.Style("map", REFERENCE))
    without_memory(later)
    assert without_memory(ACTS).tolist() == pytest.approx(expected, rel=1e-5)


def test_scoring_without_gradients_does_not_change_the_memory_of_style():
    style, other = bound(obj.Style("map", REFERENCE, 0.75)), bound(obj.Style("map", REFERENCE, 0.75))
    later = Activations({"map": 2 * MAP}, ACTS.layouts, ACTS.size)
    style(ACTS)
    other(ACTS)
    with torch.no_grad():
        other(later)
    assert other(later).tolist() == style(later).tolist()


def test_input_difference():
    expected = [(IMAGES[i] - REFERENCE.double()).square().mean().item() for i in range(N)]
    assert_scores(bound(obj.InputDifference(REFERENCE))(ACTS), expected)


@pytest.mark.parametrize("kind", [obj.Match, obj.Caricature])
def test_view_of_another_size_than_the_reference(kind):
    smaller = Activations({"map": MAP[..., :4]}, {"map": Layout("map")}, (16, 20))
    with pytest.raises(AddressError) as caught:
        bound(kind("map", REFERENCE))(smaller)
    assert str(caught.value) == (
        "'map' must have the same shape for the view and the reference image, got (4, 3, 4) and (4, 3, 5); "
        "use transforms that keep the size"
    )


def test_invalid_memory():
    with pytest.raises(SettingError) as caught:
        obj.Style("a", REFERENCE, 1)
    assert str(caught.value) == "memory must be in [0, 1), got 1 (0.95 averages about 20 steps)"


def test_reference_must_be_in_0_to_1():
    with pytest.raises(SettingError) as caught:
        obj.Match("a", torch.full((3, 6, 9), 2.0))
    assert str(caught.value) == "the image holds torch.float32 from 2 to 2; give floating-point numbers in [0, 1]"


@pytest.mark.parametrize(
    "text", ["match(conv2, {0})", "caricature(conv2, {0}) - 0.1*tv", "within(match(conv1, {0}), {0})"]
)
def test_objectives_that_compare_positions_are_not_transformed_by_default(text, tmp_path):
    Image.new("RGB", (32, 32), "red").save(tmp_path / "red.png")
    goal = text.format(f"'{tmp_path / 'red.png'}'")
    net = toys.plain()
    assert fv.render(net, goal, steps=1).recipe.transforms == "()"
    assert fv.render(net, goal, steps=1, transforms=fv.transforms.LUCID).recipe.transforms != "()"
    assert fv.render(net, "conv2:1", steps=1).recipe.transforms != "()"


def test_an_inverted_layer_shows_the_image(tmp_path):
    """With the default transforms it was noise."""
    net = fv.load("motifnet", device="cpu")
    drawn = torch.zeros(3, 64, 64)
    drawn[0, 20:44, 20:44] = 1
    found = fv.render(net, obj.Match("stage1", drawn.numpy()), size=64, steps=200).images[0]
    assert torch.corrcoef(torch.stack([found.flatten(), drawn.flatten()]))[0, 1] > 0.8
