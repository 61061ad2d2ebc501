"""Units, each restated by loops, in double precision."""

import math

import pytest
import torch

from featviz import objectives as obj
from featviz.errors import AddressError
from featviz.network.activations import Activations
from featviz.network.layout import Layout

MAP = torch.randn(2, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
TOKENS = torch.randn(2, 7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
LOGITS = torch.randn(2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
ACTS = Activations(
    {"map": MAP, "last": MAP.permute(0, 2, 3, 1), "tokens": TOKENS, "vector": LOGITS, obj.OUTPUT: LOGITS},
    {
        "map": Layout("map"),
        "last": Layout("map", 3),
        "tokens": Layout("tokens", 2, (8, 8), 1, special=(("cls", 0),)),
        "vector": Layout("vector"),
        obj.OUTPUT: Layout("vector"),
    },
    (16, 24),
    {obj.OUTPUT: ("ant", "bee", "cat", "dog")},
)


@pytest.mark.parametrize("layer", ["map", "last"])
def test_neuron_is_one_activation_of_the_map(layer):
    score = obj.Neuron(layer, 2, (1, 3))(ACTS)
    assert score.tolist() == [MAP[i, 2, 1, 3].item() for i in range(2)]


def test_center_of_a_wide_map():
    assert obj.Neuron("map", 0, "center")(ACTS).tolist() == [MAP[i, 0, 4 // 2, 5 // 2].item() for i in range(2)]


def test_positions_of_tokens_are_those_of_the_patch_grid():
    rows, columns = 16 // 8, 24 // 8
    assert (rows, columns) == (2, 3)
    assert obj.Neuron("tokens", 1, (1, 2))(ACTS).tolist() == [
        TOKENS[i, 1 + 1 * columns + 2, 1].item() for i in range(2)
    ]
    assert obj.Neuron("tokens", 1, "cls")(ACTS).tolist() == [TOKENS[i, 0, 1].item() for i in range(2)]


@pytest.mark.parametrize("layer", ["map", "last"])
def test_channel_is_the_mean_over_positions(layer):
    expected = [sum(MAP[i, 1, y, x].item() for y in range(4) for x in range(5)) / 20 for i in range(2)]
    assert obj.Channel(layer, 1)(ACTS).tolist() == pytest.approx(expected, rel=1e-12)


def test_channel_of_tokens_is_the_mean_over_tokens():
    expected = [sum(TOKENS[i, t, 2].item() for t in range(7)) / 7 for i in range(2)]
    assert obj.Channel("tokens", 2)(ACTS).tolist() == pytest.approx(expected, rel=1e-12)


def test_channel_0_is_not_taken_for_no_channel():
    assert obj.Channel("vector", 0)(ACTS).tolist() == LOGITS[:, 0].tolist()


def test_layer_is_the_mean_square():
    expected = [sum(value**2 for value in MAP[i].flatten().tolist()) / MAP[i].numel() for i in range(2)]
    assert obj.Layer("map")(ACTS).tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("precision", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_gradient_of_a_layer_is_twice_its_activation_over_their_number(precision, memory_format):
    layer = (100 * MAP).to(precision).contiguous(memory_format=memory_format).requires_grad_()
    score = obj.Layer("map")(Activations({"map": layer}, {"map": Layout("map")}, (16, 24)))
    assert score.dtype == (torch.float64 if precision is torch.float64 else torch.float32)
    values = layer.detach().double()
    assert score.tolist() == pytest.approx([(one**2).mean().item() for one in values], rel=1e-5)
    (score * torch.tensor([3.0, -1.0])).sum().backward()
    weights = torch.tensor([3.0, -1.0]).view(2, 1, 1, 1).double()
    error = 1.5 * torch.finfo(precision).eps
    assert torch.allclose(layer.grad.double(), weights * 2 * values / (3 * 4 * 5), rtol=error, atol=1e-6)


def test_the_gradient_of_a_layer_has_a_gradient():
    layer = MAP.clone().requires_grad_()
    acts = Activations({"map": layer}, {"map": Layout("map")}, (16, 24))
    assert torch.autograd.gradgradcheck(lambda values: obj.Layer("map")(_holding(acts, values)), layer)


def _holding(acts, values):
    return Activations({"map": values}, acts.layouts, acts.size)


def test_logit_and_probability():
    expected = []
    for row in LOGITS.tolist():
        total = sum(math.exp(value) for value in row)
        expected.append(math.exp(row[2]) / total)
    assert obj.Logit(2)(ACTS).tolist() == LOGITS[:, 2].tolist()
    assert obj.Logit("cat")(ACTS).tolist() == LOGITS[:, 2].tolist()
    assert obj.Probability("cat")(ACTS).tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (obj.Channel("map", 3), "no channel 3 in 'map'; it has 3, 0 to 2"),
        (
            obj.Neuron("map", 0, (4, 0)),
            "no position @4,0 in 'map'; at this size its map has rows 0 to 3 and columns 0 to 4",
        ),
        (obj.Neuron("vector", 0, (0, 0)), "no position @0,0 in 'vector'; its output is one vector; use vector:0"),
        (obj.Neuron("map", 0, "cls"), "no position @cls in 'map'; its output is a feature map; use map:0"),
        (obj.Logit(4), "no class 4; the network has 4, 0 to 3"),
        (obj.Logit("bea"), "no class 'bea'; nearest: 'bee'"),
    ],
)
def test_units_that_the_network_does_not_have(objective, message):
    with pytest.raises(AddressError) as caught:
        objective(ACTS)
    assert str(caught.value) == message


def test_split_gives_each_piece_its_images():
    images = torch.arange(2.0).view(2, 1, 1, 1).expand(2, 3, 16, 24)
    pieces = ACTS.of(images).split([1, 1])
    assert [piece["map"].tolist() for piece in pieces] == [MAP[:1].tolist(), MAP[1:].tolist()]
    assert [piece.images.tolist() for piece in pieces] == [images[:1].tolist(), images[1:].tolist()]
