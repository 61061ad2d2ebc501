"""Directions and activation weights, each restated by loops, in double precision."""

import math

import pytest
import torch
from sample import ACTS, MAP, TOKENS, C, H, N, W, assert_scores

from featviz import objectives as obj
from featviz.errors import AddressError, SettingError

VECTOR = [0.5, -1.0, 2.0, 0.25]


def dot_cosine(values, vector, power):
    dot = sum(value * weight for value, weight in zip(values, vector, strict=True))
    if power == 0:
        return dot
    lengths = math.sqrt(sum(v * v for v in values)) * math.sqrt(sum(v * v for v in vector))
    return dot * max(0.1, dot / lengths) ** power


@pytest.mark.parametrize("power", [0, 1, 2.5])
def test_direction(power):
    expected = [
        sum(dot_cosine(MAP[i, :, y, x].tolist(), VECTOR, power) for y in range(H) for x in range(W)) / (H * W)
        for i in range(N)
    ]
    assert_scores(obj.Direction("map", VECTOR, power)(ACTS), expected)
    expected = [sum(dot_cosine(TOKENS[i, t].tolist(), VECTOR, power) for t in range(7)) / 7 for i in range(N)]
    assert_scores(obj.Direction("tokens", VECTOR, power)(ACTS), expected)
    expected = [dot_cosine(MAP[i, :, 0, 0].tolist(), VECTOR, power) for i in range(N)]
    assert_scores(obj.Direction("vector", VECTOR, power)(ACTS), expected)


@pytest.mark.parametrize("power", [0, 2])
def test_direction_neuron(power):
    expected = [dot_cosine(MAP[i, :, 1, 4].tolist(), VECTOR, power) for i in range(N)]
    assert_scores(obj.DirectionNeuron("map", VECTOR, (1, 4), power)(ACTS), expected)
    expected = [dot_cosine(TOKENS[i, 1 + 1 * 3 + 2].tolist(), VECTOR, power) for i in range(N)]
    assert_scores(obj.DirectionNeuron("tokens", VECTOR, (1, 2), power)(ACTS), expected)


def test_whitened_direction_is_inverse_covariance_times_vector():
    root = torch.randn(4, 4, generator=torch.Generator().manual_seed(3))
    inverse = root @ root.T
    expected = [sum(inverse[i, j].item() * VECTOR[j] for j in range(4)) for i in range(4)]
    whitened = obj.Direction.whitened("map", VECTOR, inverse, 2)
    assert whitened.vector.tensor.tolist() == pytest.approx(expected, rel=1e-5)
    assert obj.Direction.whitened("map", VECTOR, torch.eye(4), 2) == obj.Direction("map", VECTOR, 2)


@pytest.mark.parametrize("power", [0, 1])
def test_tensor_direction_covers_the_center_of_the_map(power):
    tensor = torch.randn(C, 1, 3, generator=torch.Generator().manual_seed(4))
    expected = [
        dot_cosine(MAP[i, :, 1:2, 1:4].flatten().tolist(), tensor.double().flatten().tolist(), power) / 3
        for i in range(N)
    ]
    assert_scores(obj.TensorDirection("map", tensor, power)(ACTS), expected)


def test_activation_weights_of_channels():
    expected = [
        sum(VECTOR[c] * MAP[i, c, y, x].item() for c in range(C) for y in range(H) for x in range(W)) / (H * W)
        for i in range(N)
    ]
    assert_scores(obj.ActivationWeights("map", VECTOR)(ACTS), expected)


def test_activation_weights_of_positions():
    weights = torch.rand(H, W, generator=torch.Generator().manual_seed(5))
    expected = [
        sum(weights[y, x].item() * MAP[i, c, y, x].item() for c in range(C) for y in range(H) for x in range(W)) / 15
        for i in range(N)
    ]
    assert_scores(obj.ActivationWeights("map", weights)(ACTS), expected)


def test_activation_weights_of_a_patch():
    expected = [
        sum(VECTOR[c] * MAP[i, c, y, x].item() for c in range(C) for y in (1, 2) for x in (2, 3, 4)) / 6
        for i in range(N)
    ]
    assert_scores(obj.ActivationWeights("map", VECTOR, at=(1, 2), patch=(2, 3))(ACTS), expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: obj.Direction("a", [[1.0]]),
            "vector must have the shape (channels,), got (1, 1)",
        ),
        (
            lambda: obj.TensorDirection("a", [1.0]),
            "tensor must have the shape (channels, rows, columns), got (1,)",
        ),
        (
            lambda: obj.Direction("a", "x"),
            "'x' is not an array of numbers; give numbers, nested lists of them, a numpy array or a tensor",
        ),
        (
            lambda: obj.Direction("a", [math.nan]),
            "numbers must be finite; an array of shape (1,) has infinite or NaN values",
        ),
        (lambda: obj.Direction("a", [1.0], -1), "power must be >= 0, got -1 (default 0, the dot product)"),
        (lambda: obj.TensorDirection("a", [[[1.0]]], -2), "power must be >= 0, got -2 (default 0, the dot product)"),
        (
            lambda: obj.Direction.whitened("a", [1.0, 2.0], [[1.0]]),
            "inverse_covariance must have shape (2, 2) to match the vector, got (1, 1)",
        ),
        (
            lambda: obj.ActivationWeights("a", 1.0),
            "weights must have shape (channels,), (rows, columns) or (channels, rows, columns), got ()",
        ),
        (
            lambda: obj.ActivationWeights("a", [1.0], at=(0, 0), patch=(0, 2)),
            "patch must be at least 1 x 1 positions, got 0 x 2",
        ),
        (
            lambda: obj.ActivationWeights("a", [1.0], patch=(2, 2)),
            "a patch of 2 x 2 positions needs at=(row, column), its top left corner",
        ),
    ],
)
def test_invalid_directions(make, message):
    with pytest.raises(SettingError) as caught:
        make()
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (obj.Direction("map", [1.0]), "the direction must have shape (4,) to match 'map', got (1,)"),
        (
            obj.TensorDirection("map", torch.ones(4, 9, 9)),
            "tensor must have at most 3 x 5 positions to fit into 'map', got 9 x 9",
        ),
        (
            obj.TensorDirection("map", torch.ones(3, 1, 1)),
            "the direction must have shape (4, 1, 1) to match 'map', got (3, 1, 1)",
        ),
        (
            obj.TensorDirection("vector", torch.ones(4, 1, 1)),
            "TensorDirection needs a feature map, and 'vector' is not one; use Direction",
        ),
        (
            obj.ActivationWeights("tokens", VECTOR),
            "ActivationWeights needs a feature map, and 'tokens' is not one; use Direction",
        ),
        (
            obj.ActivationWeights("map", [1.0, 2.0]),
            "weights must have shape (4,), (3, 5) or (4, 3, 5) to match 'map', got (2,)",
        ),
        (
            obj.ActivationWeights("map", VECTOR, at=(2, 2), patch=(2, 2)),
            "no position @3,3 in 'map'; at this size its map has rows 0 to 2 and columns 0 to 4",
        ),
    ],
)
def test_directions_that_do_not_fit_the_layer(objective, message):
    with pytest.raises(AddressError) as caught:
        objective(ACTS)
    assert str(caught.value) == message
