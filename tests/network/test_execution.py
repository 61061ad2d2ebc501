"""The execution: which values are refused, its repr, and amounts of memory as text."""

import numpy as np
import pytest

import featviz as fv
from featviz.network.execution import MIN_TILE, Execution, format_bytes, parse_bytes

MAX_MEMORY = "max_memory must be a number of bytes > 0, or text such as 800MB or 4GB, got "


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"precision": "float16"}, "precision must be float32, bfloat16 or None, got 'float16'"),
        ({"precision": 32}, "precision must be float32, bfloat16 or None, got 32"),
        ({"chunk_size": 0}, "chunk_size must be a whole number >= 1, got 0 (or None for what fits in memory)"),
        ({"chunk_size": "4"}, "chunk_size must be a whole number >= 1, got '4' (or None for what fits in memory)"),
        ({"tile": 256.5}, "tile must be a whole number >= 128, got 256.5 (px, or None for no tiles)"),
        ({"fold": "no"}, "fold must be True or False, got 'no'"),
        ({"chunk_size": -3}, "chunk_size must be a whole number >= 1, got -3 (or None for what fits in memory)"),
        ({"tile": 127}, "tile must be a whole number >= 128, got 127 (px, or None for no tiles)"),
        ({"tile": 0}, "tile must be a whole number >= 128, got 0 (px, or None for no tiles)"),
        ({"max_memory": 0}, f"{MAX_MEMORY}0"),
        ({"max_memory": "much"}, f"{MAX_MEMORY}'much'"),
    ],
)
def test_invalid_values(given, message):
    with pytest.raises(fv.SettingError) as caught:
        Execution(**given)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"precision": "float32"},
        {"precision": "bfloat16", "channels_last": False},
        {"fold": False, "graph": False},
        {"chunk_size": 1},
        {"max_memory": "4GB", "tile": MIN_TILE},
        {"max_memory": 1},
    ],
)
def test_repr_is_the_call_without_defaults(given):
    execution = Execution(**given)
    assert repr(execution) == f"Execution({', '.join(f'{name}={value!r}' for name, value in given.items())})"
    assert eval(repr(execution)) == execution


def test_executions_are_values():
    assert Execution("float32") == Execution(precision="float32") != Execution("bfloat16")
    assert len({Execution(tile=224), Execution(tile=224), Execution()}) == 2
    with pytest.raises(AttributeError):
        Execution().tile = 224


# ---------------------------------------------------------------------------------------------- amounts of memory


@pytest.mark.parametrize(
    ("given", "amount"),
    [
        (1, 1),
        (4_000_000_000, 4_000_000_000),
        (np.int64(5000), 5000),
        (5000.0, 5000),
        ("5000", 5000),
        ("512B", 512),
        ("3K", 3 * 2**10),
        ("800MB", 800 * 2**20),
        ("800mb", 800 * 2**20),
        ("800MiB", 800 * 2**20),
        (" 4 GB ", 4 * 2**30),
        ("1.5g", 3 * 2**29),
        ("0.25T", 2**38),
    ],
)
def test_amounts_of_memory(given, amount):
    assert parse_bytes(given) == amount
    assert isinstance(parse_bytes(given), int)


@pytest.mark.parametrize(
    "given", [0, -1, "", "0GB", "0.0", "0.4", "GB", "-4GB", "4XB", "4GBs", "1,5GB", "1.GB", "4 G B", True, None, "nan"]
)
def test_amounts_of_memory_that_cannot_be_parsed(given):
    with pytest.raises(fv.SettingError) as caught:
        parse_bytes(given)
    assert str(caught.value) == f"{MAX_MEMORY}{given!r}"


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (1, "1 MB"),  # at least
        (1.4 * 2**20, "1 MB"),
        (1.6 * 2**20, "2 MB"),
        (1000 * 2**20, "1000 MB"),
        (2**30, "1.0 GB"),
        (1.26 * 2**30, "1.3 GB"),
        (2**40, "1024.0 GB"),
    ],
)
def test_formatted_amounts_of_memory(amount, text):
    assert format_bytes(amount) == text
    last_digit = 0.1 * 2**30 if text.endswith("GB") else 2**20
    assert abs(parse_bytes(text) - amount) <= (last_digit if amount < 2**20 else last_digit / 2)
