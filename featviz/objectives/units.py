"""The units of a network: neuron, channel, layer, class logit, class probability."""

from __future__ import annotations

import operator
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from featviz.interfaces import Place, Traits, as_place
from featviz.network.activations import OUTPUT, Activations
from featviz.objectives.address import Address
from featviz.objectives.algebra import Objective, Unit, quote_name


@dataclass(frozen=True)
class Neuron(Unit):
    """One channel at one place: layer[y, x, z].

    Args:
        layer: dotted module name.
        channel: counted from 0.
        at: row and column of the map (or of the patch grid), `"center"`, or `"cls"` for a transformer's class token.

    Source: Olah et al. 2017, https://doi.org/10.23915/distill.00007, "Optimization Objectives".
    """

    layer: str
    channel: int
    at: Place = "center"

    def __post_init__(self) -> None:
        """Make numpy's and torch's integers plain ones."""
        object.__setattr__(self, "channel", operator.index(self.channel))
        object.__setattr__(self, "at", as_place(self.at))

    @property
    def traits(self) -> Traits:
        """Depends on position."""
        return Traits(depends_on_position=True)

    def __call__(self, acts: Activations) -> Float[Tensor, " n"]:
        """Return the neuron's activation."""
        return acts.neuron(self.layer, self.channel, self.at)

    def __str__(self) -> str:
        """Write the address."""
        return str(Address(self.layer, self.channel, self.at))


@dataclass(frozen=True)
class Channel(Unit):
    """The mean of one channel over all places: layer[:, :, z].

    Args:
        layer: dotted module name.
        channel: counted from 0.

    Source: Olah et al. 2017, https://doi.org/10.23915/distill.00007, "Optimization Objectives".
    """

    layer: str
    channel: int

    def __post_init__(self) -> None:
        """Make numpy's and torch's integers plain ones."""
        object.__setattr__(self, "channel", operator.index(self.channel))

    def __call__(self, acts: Activations) -> Float[Tensor, " n"]:
        """Return the channel's mean."""
        return acts.channel(self.layer, self.channel).unsqueeze(-1).flatten(1).mean(1)

    def __str__(self) -> str:
        """Write the address."""
        return str(Address(self.layer, self.channel))


@dataclass(frozen=True)
class Layer(Unit):
    """The mean square of a layer: whatever it sees, more of it. DeepDream's objective.

    Args:
        layer: dotted module name.

    Source: google/deepdream, dream.ipynb, `objective_L2`.
    Differs: the mean instead of half the sum, so that step sizes carry over between layers.
    """

    layer: str

    def __call__(self, acts: Activations) -> Float[Tensor, " n"]:
        """Return the layer's mean square."""
        return acts.channels_first(self.layer).square().flatten(1).mean(1)

    def __str__(self) -> str:
        """Write the address."""
        return quote_name(self.layer)


@dataclass(frozen=True)
class _Class(Unit):
    """A class of the network's output."""

    name: int | str
    network: str = OUTPUT

    def __post_init__(self) -> None:
        """Convert integers of numpy and torch."""
        object.__setattr__(self, "name", self.name if isinstance(self.name, str) else operator.index(self.name))

    @property
    def layers(self) -> frozenset[str]:
        """The layer that puts out the logits."""
        return frozenset({self.network})

    @property
    def class_name(self) -> tuple[str, str] | None:
        """The head and the class name; `None` where the class is given by index."""
        return (self.network, self.name) if isinstance(self.name, str) else None


@dataclass(frozen=True)
class Logit(_Class):
    """A class logit, before the softmax: evidence for the class, whatever else is in the image.

    Args:
        name: Class index or class name.
        network: Name of one of several combined networks; empty for a single network.

    Source: Simonyan et al. 2013, https://arxiv.org/abs/1312.6034, section 2.
    """

    def __call__(self, acts: Activations) -> Float[Tensor, " n"]:
        """Return the logit of the class."""
        return acts.logits(self.network)[:, acts.class_index(self.name, self.network)]

    def __str__(self) -> str:
        """Return the address."""
        return str(Address("logit", self.name, network=self.network))


@dataclass(frozen=True)
class Probability(_Class):
    """A class probability, after the softmax: evidence for the class and against all others.

    Args:
        name: Class index or class name.
        network: Name of one of several combined networks; empty for a single network.

    Source: Olah et al. 2017, https://doi.org/10.23915/distill.00007, "Optimization Objectives".
    """

    def __call__(self, acts: Activations) -> Float[Tensor, " n"]:
        """Return the probability of the class."""
        return acts.logits(self.network).softmax(1)[:, acts.class_index(self.name, self.network)]

    def __str__(self) -> str:
        """Return the address."""
        return str(Address("prob", self.name, network=self.network))


def at(address: Address) -> Objective:
    """Return the objective that an address stands for."""
    if address.layer == "logit" and address.channel is not None:
        return Logit(address.channel, address.network)
    if address.layer == "prob" and address.channel is not None:
        return Probability(address.channel, address.network)
    if address.channel is None:
        return Layer(address.layer)
    channel = int(address.channel)
    return Channel(address.layer, channel) if address.at is None else Neuron(address.layer, channel, address.at)
