"""Masks and ramps: scores, gradients and masks that move with the transforms."""

import pytest
import torch
import torch.nn.functional as F
import toys
from sample import ACTS, IMAGES, REFERENCE, REFERENCE_MAP, H, N, W, assert_scores

import featviz as fv
from featviz import objectives as obj
from featviz import transforms as T
from featviz.errors import AddressError, SettingError
from featviz.interfaces import RenderContext
from featviz.network.activations import Activations
from featviz.objectives.parser import as_part
from featviz.random import Generators

CORNER = torch.zeros(16, 24)
CORNER[:8, :16] = 1
"""A mask over two of the six patches, and over a part of the feature map."""


def score_within(objective, mask, acts):
    """Return the masked score, and its gradient in each layer."""
    leaves = {layer: tensor.clone().requires_grad_() for layer, tensor in acts.tensors.items()}
    leaf_acts = Activations(leaves, acts.layouts, acts.size, source=acts.source)
    context = RenderContext(lambda *_: leaf_acts, 3, (16, 24), (16, 24))
    score = obj.Within(objective, mask).bind(context)(leaf_acts)
    score.sum().backward()
    return score.detach(), {layer: leaf.grad for layer, leaf in leaves.items()}


@pytest.fixture(scope="module")
def acts():
    return ACTS.of(torch.rand(N, 3, 16, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(10)))


def test_mask_restricts_the_gradient_of_tokens(acts):
    score, gradient = score_within(obj.Channel("tokens", 2), CORNER, acts)
    assert_scores(score, obj.Channel("tokens", 2)(ACTS).tolist())
    expected = torch.zeros(7)
    expected[1:3] = 7 / 2 / 7  # the mean over all seven tokens, scaled to a mean over the two under the mask
    assert torch.allclose(gradient["tokens"][0, :, 2], expected.double())


def test_mask_restricts_the_gradient_of_a_feature_map(acts):
    weights = F.adaptive_avg_pool2d(CORNER[None, None].double(), (H, W))[0, 0]
    score, gradient = score_within(obj.Channel("map", 1), CORNER, acts)
    assert_scores(score, obj.Channel("map", 1)(ACTS).tolist())
    assert torch.allclose(gradient["map"][0, 1], weights / weights.sum())
    for objective in (obj.Layer("map"), obj.Neuron("map", 1, (2, 4)), obj.Diversity("map")):
        score, gradient = score_within(objective, CORNER, acts)
        assert_scores(score, objective(ACTS).tolist())
        assert not gradient["map"][:, :, weights == 0].any()


def test_mask_needs_positions(acts):
    with pytest.raises(AddressError) as caught:
        score_within(obj.Channel("vector", 1), CORNER, acts)
    assert str(caught.value) == "no positions to mask in 'vector'; its output is one vector; mask a feature map"


@pytest.mark.parametrize("kind", [obj.Match, obj.Caricature, obj.Style])
def test_mask_keeps_the_score_of_reference_objectives(kind):
    same = Activations({"map": REFERENCE_MAP}, ACTS.layouts, (16, 24), source=IMAGES[:1])
    context = RenderContext(lambda *_: same, 3, (6, 9), (16, 24))
    objective = kind("map", REFERENCE)
    masked = obj.Within(objective, CORNER).bind(context)(same)
    assert masked.item() == pytest.approx(objective.bind(context)(same).item())


def test_mask_restricts_the_gradient_of_regularizers():
    images = torch.rand(N, 3, 16, 24).requires_grad_()
    mask = torch.zeros(16, 24)
    mask[4:9, 3:20] = 1
    context = RenderContext(lambda *_: None, 3, (16, 24), (16, 24))
    masked = obj.Within(obj.TotalVariation(), mask).bind(context)
    acts = Activations({}, {}, (16, 24), source=images)
    assert masked(acts).tolist() == obj.TotalVariation()(acts).tolist()
    masked(acts).sum().backward()
    assert ((images.grad != 0).any(1).any(0) <= (mask > 0)).all()
    assert images.grad[:, :, 4:9, 3:20].abs().sum() > 0


def test_mask_moves_with_the_image():
    images = torch.rand(2, 3, 32, 40, generator=torch.Generator().manual_seed(9))
    mask = torch.zeros(1, 1, 32, 40)
    mask[..., 8:20, 10:25] = 1
    stack = T.fuse((T.Jitter(6), T.Rotate(30), T.Pad(4), T.ColorShift(0.0)))
    views, move_masks = T.apply_transforms(0.25 + 0.7 * images * mask, stack, Generators([0, 1]))
    moved = move_masks(mask.expand(2, -1, -1, -1))
    assert moved.shape[2:] == views.shape[2:]
    assert moved[..., :4, :].max() < 1e-5  # padding is outside of the mask
    brighter = (views - 0.25).amax(1, keepdim=True)[..., 4:-4, 4:-4]  # the image is 0.25 outside of the mask
    inner = moved[..., 4:-4, 4:-4]
    assert brighter[inner == 0].max() < 1e-5
    assert brighter[inner > 0.9].mean() > 0.3
    second = Activations({}, {}, (34, 34), source=images, move_masks=move_masks).split([1, 1])[1]
    assert torch.equal(second.move_masks(mask), moved[1:])


def test_mask_must_have_one_channel():
    with pytest.raises(SettingError) as caught:
        obj.Within(obj.L1(), REFERENCE)
    assert str(caught.value) == "a mask must be a file, or numbers of shape (h, w) or (1, h, w), got shape (3, 6, 9)"


def test_ramp_changes_linearly_between_begin_and_end():
    ramp = obj.Ramp(1, 5, 0.25, 0.75)
    for done, expected in [(0, 1), (0.25, 1), (0.5, 3), (0.75, 5), (1, 5)]:
        assert ramp(ACTS.of(IMAGES, done=done)) == pytest.approx(expected)
    assert_scores((ramp * obj.L1())(ACTS.of(IMAGES, done=0.5)), (3 * obj.L1()(ACTS)).tolist())


def test_invalid_ramp():
    with pytest.raises(SettingError) as caught:
        obj.Ramp(0, 1, 0.5, 0.5)
    assert str(caught.value) == "a ramp needs 0 <= begin < end <= 1, got begin=0.5 and end=0.5"


class Foreign:
    """An objective that is no `Objective`: it has the two members that the engine needs."""

    layers = frozenset(["conv2"])

    def __call__(self, acts):
        return acts["conv2"].mean((1, 2, 3))


def test_parts_must_have_the_operators_of_objectives():
    fv.render(toys.plain(), Foreign(), steps=1)  # alone it is fine
    with pytest.raises(SettingError, match="^only a subclass of featviz.objectives.Objective can be a part of"):
        as_part(Foreign())
