"""Functions of PyTorch by name: as functions, as methods, as operators and in place."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def functions_named(names: str, owners: Iterable[Any] = (torch, Tensor, F)) -> list[Any]:
    """Return the functions of these names in PyTorch: functions, methods, and both in place.

    Args:
        names: Names, separated by spaces.
        owners: Modules and classes to look in.
    """
    found = [getattr(owner, name + end, None) for name in names.split() for owner in owners for end in ("", "_")]
    return [function for function in found if callable(function) and not inspect.ismodule(function)]


PRODUCTS = functions_named("mul multiply __mul__ __imul__ __rmul__")
QUOTIENTS = functions_named("div divide true_divide __truediv__ __itruediv__ __div__ __idiv__")
