"""Remember on disk what probing a network told, so that a large network is probed once per machine."""

from __future__ import annotations

import hashlib
import json
import types
from collections.abc import Hashable, Iterator
from dataclasses import asdict, astuple
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from featviz.io import cache_folder, write_cached
from featviz.network.activations import Layout
from featviz.network.input_spec import InputSpec
from featviz.network.layers import Layer, Probed
from featviz.network.receptive_fields import ReceptiveField

FORMAT = 5
"""Version of the file format. Increase it when the content or the meaning of a measurement changes."""
MEMORY_FORMATS = {str(each): each for each in (torch.channels_last, torch.contiguous_format)}
SIMPLE = (int, float, str, bool, bytes, type(None))
"""Types of attributes whose values belong to the structure of a module."""

Fields = dict[str, ReceptiveField]


def cache_key(module: nn.Module, spec: InputSpec, fingerprint: str) -> str:
    """Return a hash of everything that the probing of a network depends on.

    Besides the weights these are the code of its classes and its plain attributes: with the same weights, another
    `forward` has other layers.

    Args:
        module: The network.
        spec: What it expects of its input.
        fingerprint: Hash of its weights.
    """
    digest = hashlib.sha256(repr((FORMAT, version("featviz"), torch.__version__, astuple(spec), fingerprint)).encode())
    for name, part in module.named_modules():
        attributes = {key: value for key, value in vars(part).items() if _is_simple(value) and key != "training"}
        own = [(key, _code(value)) for key, value in vars(part).items() if isinstance(value, types.FunctionType)]
        kind: Any = type(part)
        digest.update(repr((name, _class_code(kind), sorted(attributes.items()), own)).encode())
    return digest.hexdigest()[:32]


def load(key: str) -> tuple[Probed, Fields | None] | None:
    """Return the cached layers, and the receptive fields if they were measured.

    Args:
        key: As `cache_key` returns it.

    Returns:
        Both; `None` if there is no readable file.
    """
    try:
        found = json.loads(_file(key).read_text())
        return _read_probed(found["probed"]), found["fields"] and {
            name: ReceptiveField(px, stride, tuple(sides)) for name, (px, stride, sides) in found["fields"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def save(key: str, probed: Probed, fields: Fields | None) -> None:
    """Remember what probing told. A machine that cannot write its cache probes again.

    Args:
        key: As `cache_key` returns it.
        probed: The layers.
        fields: The receptive fields; `None` if they were not measured yet.
    """
    content = asdict(probed) | {"memory_format": str(probed.memory_format)}
    pairs = None if fields is None else {name: (field.px, field.stride, field.sides) for name, field in fields.items()}
    write_cached(_file(key), json.dumps({"probed": content, "fields": pairs}).encode())


def _file(key: str) -> Path:
    return cache_folder() / "layers" / f"{key}.json"


def _read_probed(content: dict[str, Any]) -> Probed:
    def layer(row: dict[str, Any]) -> Layer:
        return Layer(**_tuples(row) | {"layout": Layout(**_tuples(row["layout"]))})

    memory_format = MEMORY_FORMATS[content["memory_format"]]
    rows = {key: {name: layer(row) for name, row in content[key].items()} for key in ("table", "calls", "outputs")}
    return Probed(**content | rows | {"memory_format": memory_format})


def _tuples(row: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a row with lists, as JSON has them, as tuples."""
    return {key: _as_tuple(value) for key, value in row.items()}


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value


def _is_simple(value: object) -> bool:
    return isinstance(value, SIMPLE) or (isinstance(value, tuple | list) and all(map(_is_simple, value)))


@lru_cache(maxsize=4096)
def _class_code(kind: Hashable) -> str:
    """Return a hash of the code of a class and of the classes it is derived from, up to those of PyTorch."""
    assert isinstance(kind, type)
    own = [each for each in kind.__mro__ if not each.__module__.startswith(("torch.", "builtins"))]
    code = [(each.__qualname__, name, _code(value)) for each in own for name, value in vars(each).items()]
    return hashlib.sha256(repr((kind.__module__, kind.__qualname__, code)).encode()).hexdigest()


def _code(value: object, depth: int = 0) -> object:
    """Return the bytecode and constants of a function, and of the functions that it calls."""
    if not isinstance(value, types.FunctionType):
        return value if _is_simple(value) else type(value).__name__
    called = value.__code__.co_names if depth == 0 else ()
    functions = [value.__globals__.get(name) for name in called]
    inner = [_code(each, depth + 1) for each in functions if isinstance(each, types.FunctionType)]
    return (list(_instructions(value.__code__)), inner, _code_of_defaults(value))


def _code_of_defaults(function: types.FunctionType) -> str:
    return repr([each for each in function.__defaults__ or () if _is_simple(each)])


def _instructions(code: types.CodeType) -> Iterator[object]:
    yield code.co_code
    yield code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _instructions(constant)
        elif _is_simple(constant):
            yield constant
