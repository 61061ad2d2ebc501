"""Outputs of modules: the tensors in them, and what class scores mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from types import SimpleNamespace
from typing import Literal

import torch
from torch import Tensor

from featviz.errors import plain_spelling

OUTPUT = ""
"""Name of the whole network among its layers, as in `named_modules`: its output, the class logits."""
OutputKind = Literal["classes", "multilabel", "binary", "regression"]
"""Kind of a network's outputs: mutually exclusive classes, independent labels, one label, or regression values."""
OUTPUT_KINDS: tuple[OutputKind, ...] = ("classes", "multilabel", "binary", "regression")
"""The kinds of output of a network."""
OutputScale = Literal["logits", "probabilities", "log-probabilities"]
"""Whether a network outputs logits, or has turned them into probabilities already."""


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


def in_single_precision(values: Tensor) -> Tensor:
    """Return values in single precision, also whole numbers; double precision and complex numbers stay.

    Args:
        values: Any tensor.
    """
    return values if values.is_complex() or values.dtype == torch.float64 else values.float()


def index_of_class(name: str, classes: Sequence[str]) -> int | None:
    """Return the index of a class by its name, or by another spelling if that fits one class only.

    Args:
        name: Such as `"spiral galaxy"` or `"Spiral_Galaxy"`.
        classes: Class names in output order.

    Returns:
        The first index of the name; `None` if there is no such class.
    """
    if not name:  # outputs without a name have an empty one
        return None
    if name in classes:
        return classes.index(name)
    alike = [i for i, each in enumerate(classes) if plain_spelling(each) == plain_spelling(name)]
    return alike[0] if len(alike) == 1 else None
