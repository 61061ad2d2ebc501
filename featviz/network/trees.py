"""Nested values: the tensors in the outputs of modules, and tuples and lists with other items."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor


def rebuilt(value: Any, items: Iterable[Any]) -> Any:
    """Return a tuple, named tuple or list of the same class as another, with other items."""
    return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)


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
