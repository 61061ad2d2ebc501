"""How much trouble to take: settings of `render` that go together, found by `benchmarks/quality.py`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

QUALITIES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "draft": MappingProxyType({"steps": 320}),
        "usual": MappingProxyType({"steps": 512}),
        "best": MappingProxyType({"steps": 1536}),
    }
)
"""What to call `fv.render` with, as `fv.render(net, goal, **fv.QUALITIES["best"])`; `usual` is its default.

Source: measured; docs/quality.md has what else was tried.
"""
