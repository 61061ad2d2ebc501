"""Every field of every param, transform, optimizer and objective with values that are wrong for most fields."""

from __future__ import annotations

import dataclasses
import inspect
import math
import random
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
import toys
from PIL import Image
from robustness.trial import FINE, RAW, REFUSED, Trial

import featviz as fv
from featviz import objectives, optimizers, param, transforms
from featviz.errors import shown


class Unprintable:
    """A value without a repr."""

    def __repr__(self) -> str:
        raise ValueError("no repr")


def nested(depth: int = 3000) -> list[Any]:
    """Return lists in lists, deeper than Python's stack."""
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


BAD: tuple[Any, ...] = (
    None, True, -1, 0, 1, 3, 10**6, 10**12, 10**30, 0.5, -2.5, 1e400, 1e-30, math.nan, "", "x", "conv2", "conv2:1", (),
    [], (1,), (1, 2), (0.1, 0.9), (None,), ("x", 2), [[]], {}, {"a": 1}, b"", object(), len, torch.zeros(0),
    torch.ones(3), torch.full((1, 3, 4, 4), math.nan), "photo.png", "no.png", "text.png", range(10**9), 1j, "\0",
    "a" * 300, Fraction(1, 2), Decimal("0.5"), np.int64(-3), np.float32("nan"), np.array("x"), np.array([object()]),
    torch.ones(2, 3, device="meta"), torch.ones(2, 3).to_sparse(), torch.ones(3, dtype=torch.complex64), set(),
    nested(), Path("/dev/zero"), "\ud800", Unprintable(),
)  # fmt: skip
"""Values of fields. Where one is right, the render may succeed."""
RIGHT: dict[str, Any] = {
    "amount": 0.1, "at": (1, 2), "channel": 1, "degrees": 5, "end": 1.0, "factor": 1.1, "files": ("photo.png",),
    "first": objectives.Channel("conv2", 1), "fixed": ("photo.png",), "function": abs, "high": 1.5,
    "image": "photo.png", "images": "photo.png", "last": objectives.Channel("conv2", 2), "layer": "conv2",
    "layers": ("conv2",), "levels": 2, "low": 0.5, "mask": "mask.png", "mesh": "box", "module": torch.nn.Identity(),
    "most": 1.0,
    "name": 1, "network": "", "objective": objectives.Channel("conv2", 1), "optimizer": optimizers.Adam(),
    "param": param.Image(), "part": objectives.Channel("conv2", 1), "path": "photo.png", "photographs": ("photo.png",),
    "px": 2,
    "second": objectives.Channel("conv2", 2), "shape": (3, 8, 8), "share": 0.1, "size": 24, "source": "photo.png",
    "start": 0.0, "text": "a cat",
    "std": 0.5, "steps": (transforms.Flip(),), "tensor": torch.ones(8, 16, 16), "values": (1, 2),
    "vector": (1.0,) * 8, "weight": 1.0, "weights": {1: 1.0},
}  # fmt: skip
"""Values with which fields that have no default are filled, by their name."""
PACKAGES = {"param": param, "transforms": transforms, "optimizer": optimizers, "objective": objectives}


def make_files() -> None:
    """Write the files that `BAD` and `RIGHT` name into the current folder."""
    Image.new("RGB", (32, 32), (90, 120, 40)).save("photo.png")
    Image.new("L", (32, 32), 200).save("mask.png")
    Path("text.png").write_text("no image")


def trials(count: int | None = None, seed: int = 0) -> Iterator[Trial]:
    """Return trials of fields; `make_files` must have been called.

    Args:
        count: Number of trials, drawn at random; `None` for all.
        seed: Seed of the draw.
    """
    net = toys.plain()
    plans = [
        (kind, found, field, bad)
        for kind, package in PACKAGES.items()
        for found in _classes(package)
        for field in inspect.signature(found).parameters
        for bad in BAD
    ]
    if count is not None:
        plans = random.Random(seed).sample(plans, count)
    for kind, found, field, bad in plans:
        text = shown(bad)
        yield Trial(f"{kind} {found.__name__}({field}={text})"[:160], partial(_run, net, kind, found, field, bad))


def _classes(package: ModuleType) -> list[type]:
    public = (getattr(package, name) for name in package.__all__)
    found = [value for value in public if isinstance(value, type) and dataclasses.is_dataclass(value)]
    return [value for value in found if value not in (objectives.Address, objectives.Traits)]


def _run(net: fv.Network, kind: str, found: type, field: str, bad: Any) -> tuple[str, str]:
    given = {
        name: RIGHT[name]
        for name, parameter in inspect.signature(found).parameters.items()
        if parameter.default is parameter.empty and name in RIGHT
    }
    try:
        value = found(**given | {field: bad})
        repr(value)
        hash(value)
        arguments = {"objective": "conv2:1", kind: value}
        fv.render(net, **arguments, steps=1, robustness_views=0)
    except fv.FeatvizError as error:
        return REFUSED, str(error)
    except Exception as error:
        return RAW, f"{type(error).__name__}: {error}"
    return FINE, ""
