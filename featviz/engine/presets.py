"""Quality presets: settings of `render` that go together, chosen by `benchmarks/quality.py`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from featviz.errors import SettingError

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "draft": MappingProxyType({"steps": 320}),
        "usual": MappingProxyType({"steps": 512}),
        "best": MappingProxyType({"steps": 1536}),
    }
)
"""Keyword arguments for `fv.render`, as in `fv.render(net, "stage2:5", **fv.PRESETS["best"])`; `usual` is the default.

Source: measured; docs/quality.md lists what else was tried.
"""


def preset(quality: str, **overrides: Any) -> dict[str, Any]:
    """Return the settings of a quality preset.

    Args:
        quality: `"draft"`, `"usual"` or `"best"`.
        overrides: Settings that replace those of the preset; `None` leaves one as it is.

    Raises:
        SettingError: There is no such preset.

    >>> preset("draft", steps=None)
    {'steps': 320}
    """
    if quality not in PRESETS:
        raise SettingError(f"quality must be one of {', '.join(PRESETS)}, got {quality!r}")
    return {**PRESETS[quality], **{name: value for name, value in overrides.items() if value is not None}}
