"""Arrays as values: exact, comparable, and rebuilt from their repr."""

import base64
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import featviz as fv
from featviz.io import Array


@given(arrays(np.float32, array_shapes(min_dims=0, max_dims=4, min_side=0), elements=st.floats(-1e6, 1e6, width=32)))
def test_numbers_survive_exactly(numbers):
    array = Array.of(numbers)
    assert array.shape == numbers.shape and np.array_equal(array.tensor.numpy(), numbers)
    again = eval(repr(array), {"Array": Array})
    assert again == array and hash(again) == hash(array)


def test_any_kind_of_numbers():
    numbers = [[1.0, 2.5], [3.0, -4.0]]
    for same in (np.array(numbers), torch.tensor(numbers, dtype=torch.float64, requires_grad=True), Array.of(numbers)):
        assert Array.of(same) == Array.of(numbers)
    assert Array.of([[1.0, 2.5], [3.0, 4.0]]) != Array.of(numbers) != Array.of([1.0, 2.5, 3.0, -4.0])


@pytest.mark.parametrize("numbers", ["x", [[1.0], [1.0, 2.0]], {"a": 1}])
def test_no_numbers(numbers):
    with pytest.raises(fv.SettingError) as caught:
        Array.of(numbers)
    assert (
        str(caught.value)
        == f"{numbers!r} is not an array of numbers; give numbers, nested lists of them, a numpy array or a tensor"
    )


def test_numbers_must_be_finite():
    with pytest.raises(fv.SettingError) as caught:
        Array.of([1.0, float("nan")])
    assert str(caught.value) == "numbers must be finite; an array of shape (2,) has infinite or NaN values"


@pytest.mark.parametrize(
    "data",
    [
        Array.of([1.0]).data,
        Array.of([[1.0, 2.0], [3.0, 4.0]]).data,
        "not base 85 \0",
        "",
        base64.b85encode(b"not zlib").decode(),
        base64.b85encode(zlib.compress(bytes(10**8))).decode(),
    ],
)
def test_data_must_fill_the_shape(data):
    with pytest.raises(fv.SettingError) as caught:
        Array((3,), data)
    assert str(caught.value) == "the data of an Array of shape (3,) must hold 3 float32 numbers"
