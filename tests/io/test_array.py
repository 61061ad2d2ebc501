"""Arrays as values: exact, comparable, and rebuilt from their repr."""

import base64
import resource
import zlib
from contextlib import contextmanager

import numpy as np
import psutil
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


TOO_MANY = 10**9


@contextmanager
def memory_limit(spare=2**28):
    """Let an allocation of more than the spare bytes fail, so that a fault fails this test and not the machine."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + spare, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize(
    "numbers",
    [
        range(TOO_MANY),
        [range(TOO_MANY)],
        [[1.0], range(TOO_MANY - 1)],
        np.broadcast_to(np.float32(1), TOO_MANY),
        torch.ones(1).expand(TOO_MANY),
    ],
    ids=["range", "list", "ragged", "numpy", "tensor"],
)
def test_too_many_numbers_are_refused_before_they_are_made(numbers):
    with memory_limit(), pytest.raises(fv.SettingError) as caught:
        Array.of(numbers)
    assert str(caught.value) == "an array must hold at most 33554432 numbers, got 1000000000; give fewer"


def test_the_data_of_a_stranger_are_not_decompressed_to_too_many_numbers():
    with pytest.raises(fv.SettingError, match="^an array must hold at most"):
        Array((TOO_MANY,), Array.of([1.0]).data)


@pytest.mark.parametrize("numbers", [10**400, range(10**30)])
def test_numbers_too_large_for_the_machine_are_refused(numbers):
    with pytest.raises(fv.SettingError, match="is not an array of numbers"):
        Array.of(numbers)


@pytest.mark.parametrize("given", [{"seed": range(TOO_MANY)}, {"transforms": range(TOO_MANY)}], ids=str)
def test_long_ranges_are_refused_before_they_are_made(given):
    with memory_limit(2**30), pytest.raises(fv.SettingError) as caught:
        fv.render(fv.load("motifnet"), "stage1:1", steps=1, **given)
    assert "Memory" not in repr(caught.value.__cause__)


def test_snapshots_may_be_any_range():
    net, options = fv.load("motifnet"), {"steps": 1, "robustness_views": 0, "size": 32}
    fv.render(net, "stage1:1", snapshots=range(TOO_MANY), **options)
    with pytest.raises(fv.SettingError, match="^snapshots must be a sequence of whole"):
        fv.render(net, "stage1:1", snapshots=[[1], [1, 2]], **options)
