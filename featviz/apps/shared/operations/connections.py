"""Find units that are connected directly by weights.

A network runs once on grey, and the tensors that its modules pass on are followed from one convolution or linear layer
to the next. Modules that keep channels apart, such as batch normalisation, rectifiers and pooling, are looked through.
What is computed between modules, such as a sum of two branches, ends a connection.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules import activation, batchnorm, dropout, pooling

import featviz as fv
from featviz.network import OUTPUT
from featviz.network.hooks import hookable_modules
from featviz.network.probing.grey_images import run_on_grey
from featviz.network.trees import first_tensor

WEIGHTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
"""Modules whose weights connect channels."""
NORMS = (batchnorm._BatchNorm,)
POINTWISE = (
    activation.ReLU, activation.ReLU6, activation.LeakyReLU, activation.ELU, activation.CELU, activation.SELU,
    activation.GELU, activation.SiLU, activation.Mish, activation.Hardswish, activation.Hardtanh, activation.Sigmoid,
    activation.Tanh, activation.Softplus, nn.Identity, dropout._DropoutNd,
)  # fmt: skip
POOLS = (
    pooling._MaxPoolNd, pooling._AvgPoolNd, pooling._AdaptiveAvgPoolNd, pooling._AdaptiveMaxPoolNd, nn.Flatten,
)  # fmt: skip
"""Modules that keep channels apart."""


@dataclass(eq=False)
class _Value:
    """A tensor that a module returned.

    Args:
        module: The innermost module that put it out.
        names: Names of the modules that put it out, the innermost first.
        source: The tensor from which the module computed it; `None` where that is no output of a module.
        channels: Number of its channels.
    """

    module: nn.Module
    names: list[str]
    source: _Value | None
    channels: int
    readers: list[_Value] = field(default_factory=list)

    @property
    def is_weighted(self) -> bool:
        return isinstance(self.module, WEIGHTED)

    @property
    def keeps_channels(self) -> bool:
        return isinstance(self.module, (*NORMS, *POINTWISE, *POOLS))

    def scale(self, channel: int) -> float:
        """Return the factor of a batch normalisation for one channel; 1 for other modules."""
        module: Any = self.module
        if not isinstance(module, NORMS) or module.running_var is None:
            return 1.0
        gain = 1.0 if module.weight is None else module.weight[channel].item()
        return float(gain / (module.running_var[channel].item() + module.eps) ** 0.5)


class Connections:
    """The connections of a network by weights, found by running it once.

    Args:
        network: The network.
    """

    def __init__(self, network: fv.Network) -> None:
        self._table = network.table
        self._values: dict[str, _Value] = {}
        _follow(network, self._values)

    def inputs(self, layer: str, channel: int) -> list[tuple[str, int, float]]:
        """Return the units that a unit reads, with the weights.

        The weight of a convolution is the sum of its kernel: the response to a uniform activation.

        Args:
            layer: Name of a layer.
            channel: Index of a channel.

        Returns:
            Layer, channel and weight of each; empty where they are not known.
        """
        value, scale = self._values.get(layer), 1.0
        while value is not None and value.keeps_channels and value.source is not None:
            if value.source.channels != value.channels:
                return []
            scale *= value.scale(channel)
            value = value.source
        if value is None or not value.is_weighted or value.source is None:
            return []
        source = self._title(value.source)
        first, weights = _row(value.module, channel, value.source.channels)
        return [(source, first + i, weight * scale) for i, weight in enumerate(weights.tolist())] if source else []

    def outputs(self, layer: str, channel: int) -> list[tuple[str, int, float]]:
        """Return the units that read a unit, with the weights, as for `inputs`.

        Args:
            layer: Name of a layer.
            channel: Index of a channel.
        """
        start = self._values.get(layer)
        found: list[tuple[str, int, float]] = []
        for reader, scale in () if start is None else _readers(start, channel, 1.0):
            assert reader.source is not None
            first, weights = _column(reader.module, channel, reader.source.channels)
            end = _after_activation(reader)
            target = self._title(end[-1])
            if target:
                for i, weight in enumerate(weights.tolist()):
                    norm = 1.0
                    for each in end[1:]:
                        norm *= each.scale(first + i)
                    found.append((target, first + i, weight * scale * norm))
        return found

    def _title(self, value: _Value) -> str:
        """Return the outermost name of a tensor that can be addressed; empty where there is none."""
        return next((name for name in reversed(value.names) if name in self._table and name != OUTPUT), "")


def _follow(network: fv.Network, values: dict[str, _Value]) -> None:
    """Run a working copy on grey, and note by the name of each module which tensor it returned."""
    values_by_tensor: dict[tuple[int, int, int], _Value] = {}
    alive: list[Tensor] = []  # so that no memory is used twice, and a tensor is known by its address
    table = network.table
    module = network.copy_module()

    sources: list[_Value | None] = []  # of the modules that run, the innermost last

    def before(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        given = first_tensor(inputs)  # a module that works in place changes it
        sources.append(None if given is None else values_by_tensor.get(_key(given)))

    def after(name: str, part: nn.Module, _: tuple[Any, ...], output: object) -> None:
        source, tensor = sources.pop(), first_tensor(output)
        if tensor is None:
            return
        alive.append(tensor)
        earlier, is_leaf = values_by_tensor.get(_key(tensor)), next(part.children(), None) is None
        if earlier is not None and (earlier is source or not is_leaf):  # the same tensor under another name
            earlier.names.insert(0 if earlier is source else len(earlier.names), name)
            values[name] = earlier
            return
        channels = table[name].channels if name in table else tensor.shape[-1 if tensor.ndim == 3 else 1]
        value = _Value(part, [name], source if is_leaf else None, channels)
        if value.source is not None:
            value.source.readers.append(value)
        values_by_tensor[_key(tensor)] = values[name] = value

    parts = dict(hookable_modules(module))
    handles = [part.register_forward_pre_hook(before) for part in parts.values()]
    handles += [part.register_forward_hook(partial(after, name)) for name, part in parts.items()]
    try:
        run_on_grey(network, module)
    finally:
        for handle in handles:
            handle.remove()


def _key(tensor: Tensor) -> tuple[int, int, int]:
    """Return a key of a tensor, equal for a view of all of it. A change in place makes it another one."""
    return tensor.data_ptr(), tensor.numel(), tensor._version


def _readers(value: _Value, channel: int, scale: float) -> Iterator[tuple[_Value, float]]:
    """Yield the weighted modules that read a tensor, directly or through modules that keep channels apart."""
    for reader in value.readers:
        if reader.is_weighted:
            yield reader, scale
        elif reader.keeps_channels and reader.channels == value.channels:
            yield from _readers(reader, channel, scale * reader.scale(channel))


def _after_activation(value: _Value) -> list[_Value]:
    """Return a tensor, and those that follow through normalisations and activations, of which the last is displayed."""
    chain = [value]
    while len(chain[-1].readers) == 1 and isinstance(chain[-1].readers[0].module, (*NORMS, *POINTWISE)):
        chain.append(chain[-1].readers[0])
    return chain


def _row(module: Any, channel: int, channels: int) -> tuple[int, Float[Tensor, " n"]]:
    """Return the first channel that a channel of a module reads, and the weights from there."""
    weight = module.weight.detach().float().cpu()
    if isinstance(module, nn.Linear):
        return 0, _per_channel(weight[channel][None], channels)[0]
    group = channel // (module.out_channels // module.groups)
    return group * weight.shape[1], weight[channel].flatten(1).sum(1)


def _column(module: Any, channel: int, channels: int) -> tuple[int, Float[Tensor, " n"]]:
    """Return the first channel of a module that reads a channel, and the weights from there."""
    weight = module.weight.detach().float().cpu()
    if isinstance(module, nn.Linear):
        return 0, _per_channel(weight, channels)[:, channel]
    group, index = divmod(channel, weight.shape[1])
    size = module.out_channels // module.groups
    return group * size, weight[group * size : (group + 1) * size, index].flatten(1).sum(1)


def _per_channel(weight: Float[Tensor, "out features"], channels: int) -> Float[Tensor, "out channels"]:
    """Add the weights of the positions of each channel, for a linear layer that reads a flattened map."""
    if weight.shape[1] % channels:
        return weight
    return weight.unflatten(1, (channels, -1)).sum(2)
