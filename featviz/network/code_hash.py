"""Hash the code of a module: with the same weights, another `forward` computes something else."""

from __future__ import annotations

import functools
import hashlib
import types
from collections.abc import Hashable, Iterator
from typing import Any

from torch import nn

SIMPLE = (int, float, str, bool, bytes, type(None))
"""Types of attributes whose values belong to the structure of a module."""
MAX_DEPTH = 3
"""Functions that others enclose are followed to this depth."""
DESCRIPTORS = (staticmethod, classmethod, types.MethodType)
"""Types that hold a function as `__func__`."""


def code_hash(module: nn.Module) -> str:
    """Return a hash of the classes of all parts of a module, their code, and their attributes that are plain values.

    Args:
        module: Any module.
    """
    digest = hashlib.sha256()
    for name, part in module.named_modules():
        attributes = {key: value for key, value in vars(part).items() if _is_simple(value) and key != "training"}
        own = [(key, _code(value)) for key, value in vars(part).items() if callable(value)]
        kind: Any = type(part)
        digest.update(repr((name, _class_code(kind), sorted(attributes.items()), own)).encode())
    return digest.hexdigest()


def _is_simple(value: object) -> bool:
    if isinstance(value, dict):
        return all(map(_is_simple, (*value, *value.values())))
    return isinstance(value, SIMPLE) or (isinstance(value, tuple | list) and all(map(_is_simple, value)))


@functools.lru_cache(maxsize=4096)
def _class_code(kind: Hashable) -> str:
    """Return a hash of the code of a class and of the classes it is derived from, up to those of PyTorch."""
    assert isinstance(kind, type)
    own = [each for each in kind.__mro__ if not each.__module__.startswith(("torch.", "builtins"))]
    code = [(each.__qualname__, name, _code(value)) for each in own for name, value in vars(each).items()]
    return hashlib.sha256(repr((kind.__module__, kind.__qualname__, code)).encode()).hexdigest()


def _code(value: object, depth: int = 0) -> object:
    """Return the bytecode and constants of a function, and of the functions that it calls."""
    if isinstance(value, DESCRIPTORS):
        return _code(value.__func__, depth)
    if isinstance(value, functools.partial):
        given = [each for each in (*value.args, *value.keywords.items()) if _is_simple(each)]
        return [_code(value.func, depth), given]
    if isinstance(value, property):
        return [_code(each, depth) for each in (value.fget, value.fset)]
    if not isinstance(value, types.FunctionType):
        return value if _is_simple(value) else getattr(value, "__qualname__", type(value).__qualname__)
    called = value.__code__.co_names if depth == 0 else ()
    functions = [value.__globals__.get(name) for name in called]
    inner = [_code(each, depth + 1) for each in functions if isinstance(each, types.FunctionType)]
    if depth < MAX_DEPTH:  # functions may enclose each other
        inner += [_code(each, depth + 1) for each in _enclosed(value)]
    return (list(_instructions(value.__code__)), inner, _code_of_defaults(value))


def _enclosed(function: types.FunctionType) -> list[object]:
    """Return the variables of the functions around a function that it uses."""
    empty = types.CellType()  # of a variable that has no value yet
    return [cell.cell_contents for cell in function.__closure__ or () if cell != empty]


def _code_of_defaults(function: types.FunctionType) -> str:
    values = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).items()]
    return repr([each for each in values if _is_simple(each)])


def _instructions(code: types.CodeType) -> Iterator[object]:
    yield code.co_code
    yield code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _instructions(constant)
        elif _is_simple(constant):
            yield constant
