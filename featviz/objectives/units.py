"""The units of a network: neuron, channel, layer, class logit and class probability."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.checks import as_whole, check_position, check_text
from featviz.interfaces import Position, Traits
from featviz.network.activations import Activations
from featviz.network.channel_picking import pick_channels
from featviz.network.layers import CLASS_PREFIXES
from featviz.network.outputs import OUTPUT
from featviz.objectives.address import Address
from featviz.objectives.algebra import Objective, Unit, quote_name


@dataclass(frozen=True)
class Neuron(Unit):
    """The activation of one channel at one position: layer[channel, y, x].

    The score has the range of the layer's output.

    Args:
        layer: Dotted module name.
        channel: Index of the channel, from 0.
        at: Row and column in the feature map or patch grid, or one index for signals, three for volumes and video;
            `"center"`; or a token off the grid, `"cls"` or `"reg0"`.

    Raises:
        SettingError: `layer` is no text, `channel` no whole number, or `at` no position.

    Source: Olah et al. 2017, https://doi.org/10.23915/distill.00007, "Optimization Objectives".
    """

    layer: str
    channel: int
    at: Position = "center"

    def __post_init__(self) -> None:
        """Convert integers of numpy and torch, and check the fields."""
        super().__post_init__()
        object.__setattr__(self, "channel", as_whole("channel", self.channel))
        object.__setattr__(self, "at", check_position("at", self.at))

    @property
    def traits(self) -> Traits:
        """Depends on position."""
        return Traits(depends_on_position=True)

    @property
    def fused_key(self) -> Hashable:
        """The layer and the position: neurons there are scored together."""
        return Neuron, self.layer, self.at

    def score_fused(self, members: Sequence[Any], acts: Activations) -> Float[Tensor, " n"]:
        """Return the score of each image by its own objective."""
        for channel in {member.channel for member in members}:
            acts.check_channel(self.layer, channel)
        values = acts.at(self.layer, self.at, f"{self.layer}:{self.channel}")
        return pick_channels(values, [member.channel for member in members])

    def __call__(self, acts: Activations) -> Float[Tensor, " n"]:
        """Return the activation of the neuron.

        Raises:
            AddressError: The layer has no such channel or position.
        """
        return acts.neuron(self.layer, self.channel, self.at)

    def __str__(self) -> str:
        """Return the address."""
        return str(Address.of_layer(self.layer, self.channel, self.at))


@dataclass(frozen=True)
class Channel(Unit):
    """The mean activation of one channel over all positions: mean of layer[channel].

    The score has the range of the layer's output. The channels of tokens are averaged over all tokens, the class token
    included.

    Args:
        layer: Dotted module name.
        channel: Index of the channel, from 0.

    Raises:
        SettingError: `layer` is no text, or `channel` no whole number.

    Source: Olah et al. 2017, https://doi.org/10.23915/distill.00007, "Optimization Objectives".
    """

    layer: str
    channel: int

    def __post_init__(self) -> None:
        """Convert integers of numpy and torch, and check the fields."""
        super().__post_init__()
        object.__setattr__(self, "channel", as_whole("channel", self.channel))

    @property
    def fused_key(self) -> Hashable:
        """The layer: channels of it are scored together."""
        return Channel, self.layer

    def score_fused(self, members: Sequence[Any], acts: Activations) -> Float[Tensor, " n"]:
        """Return the score of each image by its own objective."""
        values = acts.channel_of_each(self.layer, [member.channel for member in members])
        return values.unsqueeze(-1).flatten(1).mean(1)

    def __call__(self, acts: Activations) -> Float[Tensor, " n"]:
        """Return the mean activation of the channel.

        Raises:
            AddressError: The layer has no such channel.
        """
        return acts.channel(self.layer, self.channel).unsqueeze(-1).flatten(1).mean(1)

    def __str__(self) -> str:
        """Return the address."""
        return str(Address.of_layer(self.layer, self.channel))


@dataclass(frozen=True)
class Layer(Unit):
    """The mean square of all activations of a layer, which amplifies what the layer detects: DeepDream's objective.

    The score is >= 0.

    Args:
        layer: Dotted module name.

    Raises:
        SettingError: `layer` is no text.

    Source: google/deepdream, dream.ipynb, `objective_L2`.
    Differs: the mean instead of half the sum, so that learning rates carry over between layers.
    """

    layer: str

    def __call__(self, acts: Activations) -> Float[Tensor, " n"]:
        """Return the mean square of the activations."""
        values = acts[self.layer]
        is_whole = not (values.is_floating_point() or values.is_complex())
        return _MeanSquare.apply(values.float() if is_whole else values)  # type: ignore[no-any-return]

    def __str__(self) -> str:
        """Return the layer's name, quoted where it reads like a term."""
        return quote_name(self.layer)


@dataclass(frozen=True)
class _Class(Unit):
    """A class of the network's output."""

    name: int | str
    network: str = OUTPUT

    def __post_init__(self) -> None:
        """Convert integers of numpy and torch, and check the fields."""
        check_text(f"network of {type(self).__name__}", self.network)
        name = self.name if isinstance(self.name, str) else as_whole("a class that is not given by name", self.name)
        object.__setattr__(self, "name", name)

    @property
    def layers(self) -> frozenset[str]:
        """The layer that outputs the logits."""
        return frozenset({self.network})

    @property
    def class_name(self) -> tuple[str, str] | None:
        """The head and the class name; `None` where the class is given by index."""
        return (self.network, self.name) if isinstance(self.name, str) else None

    @property
    def fused_key(self) -> Hashable:
        """The head: its classes are scored together."""
        return type(self), self.network

    def _pick(self, values: Tensor, members: Sequence[Any], acts: Activations) -> Float[Tensor, " n"]:
        """Return the value of each image's class."""
        index = {name: acts.class_index(name, self.network) for name in {member.name for member in members}}
        return pick_channels(values, [index[member.name] for member in members])


@dataclass(frozen=True)
class Logit(_Class):
    """A class logit, before the softmax: evidence for the class, whatever else is in the image.

    The score is unbounded.

    Args:
        name: Class index or class name.
        network: Name of one of several combined networks; empty for a single network.

    Raises:
        SettingError: `name` is neither an index nor a name.

    Source: Simonyan et al. 2013, https://arxiv.org/abs/1312.6034, section 2.
    """

    def __call__(self, acts: Activations) -> Float[Tensor, " n"]:
        """Return the logit of the class.

        Raises:
            AddressError: There is no such class, or the network outputs no logits.
        """
        return acts.logits(self.network)[:, acts.class_index(self.name, self.network)]

    def score_fused(self, members: Sequence[Any], acts: Activations) -> Float[Tensor, " n"]:
        """Return the logit of each image's class."""
        return self._pick(acts.logits(self.network), members, acts)

    def __str__(self) -> str:
        """Return the address."""
        return str(Address("logit", self.name, network=self.network))


@dataclass(frozen=True)
class Probability(_Class):
    """A class probability: evidence for the class and, where classes exclude each other, against all others.

    It is the softmax of the logits, or the sigmoid of one logit where the network's outputs are independent labels. The
    score is in [0, 1]. Its gradient vanishes near 1, so `Logit` usually gives clearer images.

    Args:
        name: Class index or class name.
        network: Name of one of several combined networks; empty for a single network.

    Raises:
        SettingError: `name` is neither an index nor a name.

    Source: Olah et al. 2017, https://doi.org/10.23915/distill.00007, "Optimization Objectives".
    """

    def __call__(self, acts: Activations) -> Float[Tensor, " n"]:
        """Return the probability of the class.

        Raises:
            AddressError: There is no such class, or the network outputs no logits.
        """
        return acts.probabilities(self.network)[:, acts.class_index(self.name, self.network)]

    def score_fused(self, members: Sequence[Any], acts: Activations) -> Float[Tensor, " n"]:
        """Return the probability of each image's class."""
        return self._pick(acts.probabilities(self.network), members, acts)

    def __str__(self) -> str:
        """Return the address."""
        return str(Address("prob", self.name, network=self.network))


def from_address(address: Address) -> Objective:
    """Return the unit that an address names."""
    if address.channel is None:
        return Layer(address.layer)
    if address.layer in CLASS_PREFIXES and not address.is_layer:
        return (Logit if address.layer == "logit" else Probability)(address.channel, address.network)
    channel = int(address.channel)
    return Channel(address.layer, channel) if address.at is None else Neuron(address.layer, channel, address.at)


class _MeanSquare(torch.autograd.Function):
    """The mean square of a whole layer, for each image.

    It reads the layer once in each direction, in its own precision and memory layout. A single-precision copy of a
    large bfloat16 layer, its square and their gradients would take a tenth of a step on a CPU. The sum is in single
    precision; the gradient is rounded to the layer's precision, as it would be after such a copy.
    """

    @staticmethod
    def forward(ctx: Any, layer: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
        ctx.save_for_backward(layer)
        precision = torch.promote_types(layer.dtype, torch.float32)
        norm = torch.linalg.vector_norm(layer, dim=tuple(range(1, layer.ndim)), dtype=precision)
        return norm.square() / layer[0].numel()

    @staticmethod
    def backward(ctx: Any, *gradients: Float[Tensor, " n"]) -> Float[Tensor, "n ..."]:
        (layer,) = ctx.saved_tensors
        factor = (gradients[0] * (2 / layer[0].numel())).view(-1, *[1] * (layer.ndim - 1))
        if layer.dtype is torch.float16:  # whose smallest number may be greater than the factor
            return (layer * factor).to(layer.dtype)
        return layer * factor.to(layer.dtype)
