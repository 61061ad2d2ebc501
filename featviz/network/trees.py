"""Nested values: the tensors in the outputs of modules, and tuples and lists with other items."""

from __future__ import annotations

import functools
import types
from collections.abc import Hashable, Iterable, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor


def rebuilt(value: Any, items: Iterable[Any]) -> Any:
    """Return a tuple, named tuple or list of the same class as another, with other items."""
    return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)


@functools.lru_cache(maxsize=4096)
def slots_of(kind: Hashable) -> Mapping[str, types.MemberDescriptorType]:
    """Return the attributes that a class, and those that it is derived from, keep in `__slots__`."""
    assert isinstance(kind, type)
    own = [base for base in reversed(kind.__mro__) if "__slots__" in vars(base)]  # not classes written in C
    attributes = {name: value for base in own for name, value in vars(base).items()}
    return {name: each for name, each in attributes.items() if isinstance(each, types.MemberDescriptorType)}


def dict_of(value: object) -> dict[str, Any] | None:
    """Return the attributes of an object without those in `__slots__`, without running code of the class.

    Returns:
        The attributes; `None` if it has no `__dict__`.
    """
    try:
        return object.__getattribute__(value, "__dict__")  # type: ignore[no-any-return]
    except AttributeError:
        return None


def slot_values(value: object) -> dict[str, Any]:
    """Return the attributes in `__slots__` that have a value, without running code of the class."""
    kind: Any = type(value)
    values = {}
    for name, slot in slots_of(kind).items():
        with suppress(AttributeError):  # without a value
            values[name] = slot.__get__(value, kind)
    return values


def first_tensor(output: object) -> Tensor | None:
    """Return the first tensor in a module's output: itself, or inside of tuples, lists, dicts and dataclasses.

    Single numbers are passed over where there is another tensor.

    Args:
        output: The output of any module.

    Returns:
        The tensor; `None` if there is none.
    """
    if isinstance(output, torch.Tensor):
        return output
    tensors = tensors_in(output).values()
    # A loss that a network returns beside its outputs is one number.
    return next((tensor for tensor in tensors if tensor.ndim), next(iter(tensors), None))


def tensors_in(output: object) -> dict[str, Tensor]:
    """Return every tensor in a module's output, by its path: `"logits"`, `"1"`, `"hidden.0"`; `""` for a bare tensor.

    Args:
        output: The output of any module.
    """
    if isinstance(output, torch.Tensor):
        return {"": output}
    if is_dataclass(output):
        output = {each.name: getattr(output, each.name) for each in fields(output)}
    output = vars(output) if isinstance(output, types.SimpleNamespace) else output
    listed = enumerate(output if isinstance(output, tuple | list) else ())
    items = output.items() if isinstance(output, Mapping) else listed
    return {f"{key}.{path}".rstrip("."): tensor for key, item in items for path, tensor in tensors_in(item).items()}
