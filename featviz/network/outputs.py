"""Outputs of a network: what class scores mean, and their classes."""

from __future__ import annotations

from collections.abc import Sequence
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
