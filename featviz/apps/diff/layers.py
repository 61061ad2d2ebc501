"""Choose the layers that are compared, and check that two networks can be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import featviz as fv
from featviz.network import OUTPUT, LayerTable

MAX_UNITS = 8192
"""Largest number of units of a network; their correlations with as many others take 0.5 GB."""


@dataclass(frozen=True)
class Layers:
    """Layers of a network whose units are compared.

    Args:
        names: Their names.
        sizes: Number of channels of each.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]

    @property
    def units(self) -> list[fv.objectives.Channel]:
        """The units of all layers, in order."""
        pairs = zip(self.names, self.sizes, strict=True)
        return [fv.objectives.Channel(name, channel) for name, size in pairs for channel in range(size)]

    @classmethod
    def of(cls, network: fv.Network, names: Sequence[str]) -> Layers:
        """Look up layers by name.

        Args:
            network: The network.
            names: Their names; `"logit"` for the class logits.

        Raises:
            AddressError: There is no such layer.
            SettingError: They have more than `MAX_UNITS` channels.
        """
        chosen = tuple(dict.fromkeys(OUTPUT if name == "logit" else name for name in names))
        made = cls(chosen, tuple(network.layer(name).channels for name in chosen))
        if sum(made.sizes) > MAX_UNITS:
            raise fv.SettingError(
                f"diff compares at most {MAX_UNITS} units of a network, got {sum(made.sizes)} of {network.label}; "
                "give fewer layers"
            )
        return made


def check_comparable(first: fv.Network, second: fv.Network) -> None:
    """Check that two networks can run on the same images.

    Raises:
        SettingError: They have other input channels, another aspect ratio or another device, or are several networks.
    """
    for network in (first, second):
        if OUTPUT not in network.heads:
            raise fv.SettingError(f"diff compares single networks, got {', '.join(network.heads)} combined")
    if first.channels != second.channels:
        raise fv.SettingError(
            f"both networks must take images of the same channels, {first.label} takes {first.channels} and "
            f"{second.label} {second.channels}; compare networks of the same input"
        )
    shapes = [network.size for network in (first, second)]
    if Fraction(*shapes[0]) != Fraction(*shapes[1]):
        (height, width), (other_height, other_width) = shapes
        raise fv.SettingError(
            f"both networks must see the same part of an image, but {first.label} takes {height}x{width} px and "
            f"{second.label} {other_height}x{other_width}; give both one aspect ratio by network.with_input(size=...)"
        )
    if (str(first.device), first.dtype) != (str(second.device), second.dtype):
        raise fv.SettingError(
            f"both networks must have one device and precision, got {first.device} {first.dtype} and "
            f"{second.device} {second.dtype}; load both with the same device"
        )


def choose_layers(
    first: fv.Network,
    second: fv.Network,
    layers: Sequence[str] | None,
    second_layers: Sequence[str] | None,
) -> tuple[Layers, Layers]:
    """Choose the layers of two networks.

    Args:
        first: The first network.
        second: The second network.
        layers: Layers of the first network; `None` for those that are good to render first and that the second network
            has, too; of networks without a layer in common, for those of each that are good to render first.
        second_layers: Layers of the second network; `None` for those of the first.

    Raises:
        AddressError: There is no such layer, or no layer with positions.
        SettingError: The layers have too many channels.
    """
    if layers is None:
        suggested = [_suggested(network) for network in (first, second)]
        common = [name for name in suggested[0] if name in second.table]
        layers, others = (common, common) if common else suggested
        second_layers = others if second_layers is None else second_layers
    elif second_layers is None:
        missing = [name for name in layers if name != "logit" and not _has(second, name)]
        if missing:
            raise fv.AddressError(
                f"no layer {missing[0]!r} in {second.label}; give its own layers, as second_layers=[...] or "
                "--second-layer"
            )
        second_layers = layers
    for network, names in ((first, layers), (second, second_layers)):
        if not names:
            raise fv.AddressError(
                f"no layer with positions in {network.label}; name the layers to compare, such as one that outputs "
                "a vector"
            )
    return Layers.of(first, layers), Layers.of(second, second_layers)


def _has(network: fv.Network, layer: str) -> bool:
    """Whether a network has a layer, an output or a call of a module with this name."""
    try:
        network.layer(layer)
    except fv.AddressError:
        return False
    return True


def _suggested(network: fv.Network) -> list[str]:
    """Return the layers with positions that are good to render first, in the order of the network."""
    found = LayerTable(network.table, {}).suggested
    return [name for name, layer in network.table.items() if name in found and layer.has_positions and not layer.base]
