"""Nested values: the tensors in the outputs of modules, and tuples and lists with other items."""

from __future__ import annotations

import functools
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor


def rebuilt(value: Any, items: Iterable[Any]) -> Any:
    """Return a tuple, named tuple or list of the same class as another, with other items."""
    return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)


@functools.lru_cache(maxsize=4096)
def slots_of(kind: Hashable) -> tuple[str, ...]:
    """Return the names of the attributes that a class, and those that it is derived from, keep in `__slots__`."""
    assert isinstance(kind, type)
    names = []
    for base in kind.__mro__:
        slots = vars(base).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            is_private = name.startswith("__") and not name.endswith("__")
            names.append(f"_{base.__name__.lstrip('_')}{name}" if is_private else name)
    return tuple(name for name in names if name not in ("__dict__", "__weakref__"))


def attributes_of(value: object) -> dict[str, Any]:
    """Return the attributes of an object that have a value, also those in `__slots__`."""
    kind: Any = type(value)
    slots = {name: getattr(value, name) for name in slots_of(kind) if hasattr(value, name)}
    return slots | getattr(value, "__dict__", {})


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
    output = vars(output) if isinstance(output, SimpleNamespace) else output
    listed = enumerate(output if isinstance(output, tuple | list) else ())
    items = output.items() if isinstance(output, Mapping) else listed
    return {f"{key}.{path}".rstrip("."): tensor for key, item in items for path, tensor in tensors_in(item).items()}
