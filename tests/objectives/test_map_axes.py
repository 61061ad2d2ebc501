"""Objectives of positions on maps of signals and volumes, restated by loops."""

import itertools
import math

import pytest
import torch
from torch import nn

import featviz as fv
from featviz import objectives as obj
from featviz.errors import AddressError, SettingError

SIZES = [(12,), (4, 6, 8)]


def network(size):
    conv = (nn.Conv1d, None, nn.Conv3d)[len(size) - 1]
    torch.manual_seed(0)
    return fv.Network(nn.Sequential(conv(1, 3, 3, padding=1)), size=size, mean=(0.0,), std=(1.0,))


@pytest.mark.parametrize("size", SIZES)
def test_a_tensor_direction_covers_the_centre_of_any_map(size):
    acts = network(size).capture(torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(1)), ["0"])
    own = tuple(side - 3 for side in size)
    tensor = torch.randn(3, *own, generator=torch.Generator().manual_seed(2))
    for i in range(2):
        total = 0.0
        for place in itertools.product(*map(range, own)):
            at = tuple((most - side) // 2 + step for most, side, step in zip(size, own, place, strict=True))
            total += sum(tensor[(k, *place)].item() * acts["0"][(i, k, *at)].item() for k in range(3))
        assert obj.TensorDirection("0", tensor)(acts)[i].item() == pytest.approx(total / math.prod(own), rel=1e-4)
    assert obj.TensorDirection("0", acts["0"][0])(acts)[0] > 0
    with pytest.raises(AddressError) as caught:
        obj.TensorDirection("0", torch.ones(3, 2, 2))(acts)
    text = " x ".join(map(str, size))
    assert str(caught.value) == f"tensor must have at most {text} positions to fit into '0', got 2 x 2"


@pytest.mark.parametrize("size", SIZES)
def test_weights_are_of_channels_or_positions_of_any_map(size):
    acts = network(size).capture(torch.rand(1, 1, *size), ["0"])
    values = acts["0"][0]
    by_channel = sum(weight * values[k].mean() for k, weight in enumerate((1.0, -2.0, 0.5)))
    assert torch.allclose(obj.ActivationWeights("0", (1.0, -2.0, 0.5))(acts)[0], by_channel, atol=1e-6)
    weights = torch.rand(size)
    expected = (values.sum(0) * weights).mean()
    assert torch.allclose(obj.ActivationWeights("0", weights)(acts)[0], expected, atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_objectives_with_positions_read_one_index_for_each_axis(size):
    net, weights = network(size), (1.0, -2.0, 0.5)
    acts = net.capture(torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(1)), ["0"])
    at, patch = tuple(side // 2 for side in size), (2, 3, 2)[: len(size)]
    for i in range(2):
        here = [acts["0"][(i, k, *at)].item() for k in range(3)]
        dot = sum(weight * value for weight, value in zip(weights, here, strict=True))
        assert obj.Neuron("0", 1, at)(acts)[i].item() == pytest.approx(here[1], rel=1e-5)
        assert obj.Neuron("0", 1)(acts)[i].item() == pytest.approx(here[1], rel=1e-5)  # the centre
        assert obj.DirectionNeuron("0", weights, at)(acts)[i].item() == pytest.approx(dot, rel=1e-4)
        assert obj.ActivationWeights("0", weights, at)(acts)[i].item() == pytest.approx(dot, rel=1e-4)
        places = [tuple(map(sum, zip(at, step, strict=True))) for step in itertools.product(*map(range, patch))]
        total = sum(weights[k] * acts["0"][(i, k, *place)].item() for place in places for k in range(3))
        found = obj.ActivationWeights("0", weights, at, patch)(acts)[i].item()
        assert found == pytest.approx(total / math.prod(patch), rel=1e-4)
        own = torch.rand(patch)
        total = sum(
            own.flatten()[j].item() * acts["0"][(i, k, *at)].item() for j, at in enumerate(places) for k in range(3)
        )
        if len(size) > 1:  # of signals, three numbers are the weights of the three channels
            found = obj.ActivationWeights("0", own, at, patch)(acts)[i].item()
            assert found == pytest.approx(total / math.prod(patch), rel=1e-4)
    goals = (
        obj.Neuron("0", 1, at),
        obj.DirectionNeuron("0", weights, at),
        obj.ActivationWeights("0", weights, at, patch),
    )
    assert obj.parse(f"0:1@{','.join(map(str, at))}") == goals[0]
    for goal in goals:
        rendering = fv.render(net, goal, steps=8, transforms=())
        assert torch.equal(fv.replay(rendering.recipe, network=net).images, rendering.images)
        assert rendering.history[-1] > rendering.history[0]


@pytest.mark.parametrize("size", SIZES)
def test_positions_outside_of_the_map_or_of_other_axes_are_refused(size):
    acts = network(size).capture(torch.rand(1, 1, *size), ["0"])
    last, axes = tuple(side - 1 for side in size), "1 axis" if len(size) == 1 else "3 axes"
    for goal in (obj.Neuron("0", 1, (0, 0)), obj.ActivationWeights("0", (1.0, 1.0, 1.0), (0, 0))):
        with pytest.raises(AddressError, match=f"no position @0,0 in '0'; its map has {axes}, as in @"):
            goal(acts)
    with pytest.raises(AddressError, match="no position @"):
        obj.ActivationWeights("0", (1.0, 1.0, 1.0), last, (2,) * len(size))(acts)


def test_a_patch_has_a_length_for_each_index():
    with pytest.raises(SettingError) as caught:
        obj.ActivationWeights("0", (1.0,), at=(0,), patch=(2, 2))
    assert str(caught.value) == "patch must have one length for each index of at, got 2 x 2 and at=(0,)"
    assert obj.ActivationWeights("0", (1.0,), at=(0, 1, 2)).patch == (1, 1, 1)


@pytest.mark.parametrize("size", SIZES)
def test_objectives_of_references_and_masks_rise(size):
    net, half = network(size), torch.zeros(size)
    half[..., : size[-1] // 2] = 1
    reference = torch.rand(1, *size, generator=torch.Generator().manual_seed(3))
    goals = (
        obj.Match("0", reference), obj.Caricature("0", reference), obj.Style("0", reference),
        obj.Guide("0", reference), obj.Within(obj.Channel("0", 1), half[None]),
        obj.Channel("0", 1) - obj.BoundaryComplexity(1),
    )  # fmt: skip
    for goal in goals:
        found = fv.render(net, goal, transforms=(), steps=6, robustness_views=0, progress=None)
        assert found.history[-1] > found.history[0], goal


def test_strides_of_volumes_are_listed_along_each_axis_where_they_differ():
    module = nn.Sequential(nn.Conv3d(1, 2, 3, (1, 2, 2), 1), nn.Conv3d(2, 2, 3, 2, 1))
    net = fv.Network(module, size=(16, 32, 32), mean=(0.0,), std=(1.0,))
    assert net.table["0"].strides == (1, 2, 2) and net.table["1"].strides == (2, 4, 4)
    rows = {row[0]: row[-1] for row in net.layers().rows()}
    assert rows["0"] == "1x2x2" and rows["1"] == "2x4x4"
