"""Combine several networks into one that runs them on the same images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from featviz.errors import SettingError
from featviz.interfaces import Size
from featviz.io import resize
from featviz.network.inputs.input_spec import ZERO_TO_ONE, InputSpec
from featviz.network.layers import LayerRow, Probed
from featviz.network.network import Network
from featviz.network.outputs import OutputKind
from featviz.network.working_copy import SharedByCopies


def combine(**networks: Network) -> Network:
    """Combine several networks, so that one objective can address all of them.

    Each network keeps its normalisation, and its input size if that is fixed. Layers are addressed by the network's
    name and their own, and classes by the network's name: `first.stage2:5 - logit:star@second`.

    Args:
        networks: Two or more networks by name. The names are Python identifiers.

    Returns:
        A network whose layers are those of all given ones.

    Raises:
        SettingError: Fewer than two networks, one of them twice, different axes, numbers of channels, devices or
            precisions, inputs that are given per image, or a name that cannot be used.

    >>> from featviz.network import load
    >>> combine(first=load("motifnet", device="cpu"), second=load("motifnet", weights="none", device="cpu")).channels
    3
    """
    _check_combinable(networks)
    first = next(iter(networks.values()))
    combined = Network(
        _Combined(networks),
        size=first.size,
        **_shared_range([network.input for network in networks.values()]),
        heads={key: classes for name, network in networks.items() for key, classes in _heads(name, network).items()},
        outputs={key: kind for name, network in networks.items() for key, kind in _outputs(name, network).items()},
        smooth_pools=any(network.smooth_pools for network in networks.values()),
    )
    attached = {
        _full(name, layer): dictionary
        for name, network in networks.items()
        for layer, dictionary in network.dictionaries.items()
    }
    return (
        combined._with_dictionaries({layer: each.at(layer) for layer, each in attached.items()})
        if attached
        else combined
    )


def _check_combinable(networks: Mapping[str, Network]) -> None:
    """Check that networks read the same images, and that one pass can run all of them.

    Raises:
        SettingError: They cannot be combined, as `combine` describes.
    """
    if len(networks) < 2:
        raise SettingError(
            f"combine needs at least 2 networks, as combine(first=one, second=other), got {len(networks)}"
        )
    reading = [name for name, network in networks.items() if network.tokens is not None]
    if reading:
        raise SettingError(f"combined networks must read images; {reading[0]} reads text")
    own = [name for name, network in networks.items() if network.given_count is not None]
    if own:
        raise SettingError(
            f"combined networks need inputs that are the same for all images; {own[0]} has some per image"
        )
    several = [name for name, network in networks.items() if network.inputs]
    if several:
        raise SettingError(
            f"combined networks must each optimise one input; {several[0]} optimises "
            f"{' and '.join(networks[several[0]].inputs)}; give values for all but one with net.with_given(...)"
        )
    first, *others = networks.values()
    if len({id(network.module) for network in networks.values()}) < len(networks):
        raise SettingError("combined networks must not share a module; copy it with copy.deepcopy(module)")
    for other in others:
        kinds = [(net.input.axes, net.channels, str(net.device), net.dtype) for net in (first, other)]
        if kinds[0] != kinds[1]:
            found = " and ".join(" ".join(map(str, kind)) for kind in kinds)
            raise SettingError(f"combined networks must have equal axes, channels, device and precision, got {found}")


def _full(name: str, layer: str) -> str:
    """Return the name of a layer in the combined network. The output of a network has the network's name."""
    return f"{name}.{layer}" if layer else name


def _heads(name: str, network: Network) -> dict[str, tuple[str, ...]]:
    """Return the heads of a network, by their names in the combined one, and their classes."""
    return {_full(name, head): classes for head, classes in network.heads.items()}


def _outputs(name: str, network: Network) -> dict[str, OutputKind | None]:
    """Return the given kinds of the outputs of a network, by the names of its heads in the combined one."""
    given = network.outputs
    return {_full(name, head): given.get(head) if isinstance(given, Mapping) else given for head in network.heads}


def _shared_range(specs: Sequence[InputSpec]) -> dict[str, Any]:
    """Return the range of the data, and a normalisation that turns it into images in [0, 1], which the parts expect.

    Args:
        specs: What each network expects. If their ranges differ, the range is [0, 1], and each maps that to its own.
    """
    axes, bounds = specs[0].axes, {bound for spec in specs for bound in zip(*spec.bounds, strict=True)}
    low, high = bounds.pop() if len(bounds) == 1 else (0.0, 1.0)
    channels = specs[0].channels
    value_range = None if axes in ZERO_TO_ONE and (low, high) == (0, 1) else (low, high)
    return {"axes": axes, "value_range": value_range, "mean": (low,) * channels, "std": (high - low,) * channels}


def _combined_layers(networks: Mapping[str, Network]) -> Probed:
    """Combine the layer tables of networks, whose layers are prefixed by the networks' names."""
    found = {name: network.probed for name, network in networks.items()}
    formats = {probed.memory_format for probed in found.values()}

    def rows(layers: Callable[[Network], Mapping[str, LayerRow]]) -> dict[str, LayerRow]:
        return {
            _full(name, key): _row(name, network, row)
            for name, network in networks.items()
            for key, row in layers(network).items()
        }

    return Probed(
        # Of a network's own table, in which the row of its output is that of the class logits.
        rows(lambda network: {key: row for key, row in network.table.items() if row.base is None}),
        fixed_size=False,
        memory_format=formats.pop() if len(formats) == 1 else torch.contiguous_format,
        draws=any(probed.draws for probed in found.values()),
        calls=rows(lambda network: network.probed.calls),
        refused={_full(name, key): why for name, probed in found.items() for key, why in probed.refused.items()},
        outputs=rows(lambda network: network.probed.outputs),
        writes_weights=any(probed.writes_weights for probed in found.values()),
        checkpointed=any(probed.checkpointed for probed in found.values()),
        keeps_graph=any(probed.keeps_graph for probed in found.values()),
    )


def _row(name: str, network: Network, layer: LayerRow) -> LayerRow:
    """Return the row of a layer in the combined network, with the size of the images that its own network gets."""
    size = network.size if network.fixed_size else None
    source = _full(name, layer.source) if layer.item else ""
    layout = replace(layer.layout, size=size)
    return replace(layer, name=_full(name, layer.name), source=source, layout=layout)


class _Parts(SharedByCopies):
    """Holds networks."""

    def __init__(self, networks: Mapping[str, Network]) -> None:
        self.networks = networks

    def __deepcopy__(self, memo: dict[int, Any]) -> _Parts:
        """Return itself, as networks are immutable."""
        return self


class _Combined(nn.Module):
    """Runs several networks on the same images. A pass that captures layers skips networks without such a layer."""

    def __init__(self, networks: dict[str, Network]) -> None:
        super().__init__()
        self.parts = _Parts(networks)
        self.fixed_sizes = {name: network.size for name, network in networks.items() if network.fixed_size}
        self.normalisers: dict[tuple[object, ...], Callable[[Tensor], Tensor]] = {}
        """Made on first use, because the modules may move to another device."""
        self.captured: tuple[str, ...] = ()
        for name, network in networks.items():
            if not name.isidentifier() or hasattr(self, name):
                raise SettingError(
                    f"the name of a combined network must be an identifier that nn.Module does not use, got {name!r}"
                )
            self.add_module(name, network.module)

    def probed_at(self, size: Size) -> Probed:
        """Return the layer table at another input size."""
        networks = self.parts.networks.items()
        changed = {name: net if net.fixed_size else net.with_input(size=size) for name, net in networks}
        return _combined_layers(changed)

    def forward(self, images: Tensor) -> tuple[object, ...]:
        """Run the networks whose layers are captured, or all if no layer is."""
        captured = {layer.partition(".")[0] for layer in self.captured}
        return tuple(self._run(name, images) for name in self.parts.networks if name in captured or not captured)

    def _run(self, name: str, images: Tensor) -> object:
        key = name, images.device, images.dtype
        if key not in self.normalisers:
            self.normalisers[key] = self.parts.networks[name].input.normaliser(images)
        return self.get_submodule(name)(
            self.normalisers[key](resize(images, self.fixed_sizes.get(name, images.shape[2:])))
        )
