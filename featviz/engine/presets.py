"""Quality presets: settings of `render` that go together, chosen by `benchmarks/quality.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from featviz.errors import SettingError
from featviz.interfaces import Size
from featviz.network import Network


@dataclass(frozen=True)
class Preset:
    """Defaults of `render` that go together. An argument that is given overrides its default.

    Args:
        steps: Number of steps.
        scale: Sides of images relative to the input size of the network, in (0, 1]. Networks that accept no other size
            have 1, as do other inputs than images.
        min_side: Smallest shorter side in px after scaling.
    """

    steps: int
    scale: float = 1.0
    min_side: int = 128

    def size(self, network: Network) -> Size | None:
        """Return the size of images for a network, in px; `None` for its input size."""
        if network.fixed_size or network.input.axes != "yx":
            return None
        scale = max(self.scale, self.min_side / min(network.size))
        return tuple(round(scale * side) for side in network.size) if scale < 1 else None


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "draft": Preset(216, scale=4 / 7),
        "usual": Preset(512),
        "best": Preset(1536),
    }
)
"""The settings by the name that `quality` takes, as in `fv.render(net, "stage2:5", quality="best")`; `usual` is the
default.

Source: measured; docs/quality.md lists what else was tried.
"""


def find_preset(quality: str) -> Preset:
    """Return a quality preset.

    Args:
        quality: `"draft"`, `"usual"` or `"best"`.

    Raises:
        SettingError: There is no such preset.

    >>> find_preset("best").steps
    1536
    """
    if quality not in PRESETS:
        raise SettingError(f"quality must be one of {', '.join(PRESETS)}, got {quality!r}")
    return PRESETS[quality]
