"""The units of a network: neuron, channel, layer, class logit, class probability."""

from __future__ import annotations

import operator
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from featviz.activations import OUTPUT, Activations
from featviz.address import Address, Place, as_place
from featviz.objectives.core import Objective, show_name


@dataclass(frozen=True)
class Neuron(Objective):
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
    is_unit = placed = True

    def __post_init__(self) -> None:
        """Make numpy's and torch's integers plain ones."""
        object.__setattr__(self, "channel", operator.index(self.channel))
        object.__setattr__(self, "at", as_place(self.at))

    @property
    def layers(self) -> frozenset[str]:
        """The layer."""
        return frozenset({self.layer})

    def __call__(self, acts: Activations) -> Float[Tensor, " n"]:
        """Return the neuron's activation."""
        return acts.neuron(self.layer, self.channel, self.at)

    def __str__(self) -> str:
        """Write the address."""
        return str(Address(self.layer, self.channel, self.at))


@dataclass(frozen=True)
class Channel(Objective):
    """The mean of one channel over all places: layer[:, :, z].

    Args:
        layer: dotted module name.
        channel: counted from 0.

    Source: Olah et al. 2017, https://doi.org/10.23915/distill.00007, "Optimization Objectives".
    """

    layer: str
    channel: int
    is_unit = True

    def __post_init__(self) -> None:
        """Make numpy's and torch's integers plain ones."""
        object.__setattr__(self, "channel", operator.index(self.channel))

    @property
    def layers(self) -> frozenset[str]:
        """The layer."""
        return frozenset({self.layer})

    def __call__(self, acts: Activations) -> Float[Tensor, " n"]:
        """Return the channel's mean."""
        return acts.channel(self.layer, self.channel).unsqueeze(-1).flatten(1).mean(1)

    def __str__(self) -> str:
        """Write the address."""
        return str(Address(self.layer, self.channel))


@dataclass(frozen=True)
class Layer(Objective):
    """The mean square of a layer: whatever it sees, more of it. DeepDream's objective.

    Args:
        layer: dotted module name.

    Source: google/deepdream, dream.ipynb, `objective_L2`.
    Differs: the mean instead of half the sum, so that step sizes carry over between layers.
    """

    layer: str
    is_unit = True

    @property
    def layers(self) -> frozenset[str]:
        """The layer."""
        return frozenset({self.layer})

    def __call__(self, acts: Activations) -> Float[Tensor, " n"]:
        """Return the layer's mean square."""
        return acts.units(self.layer).square().flatten(1).mean(1)

    def __str__(self) -> str:
        """Write the address."""
        return show_name(self.layer)


@dataclass(frozen=True)
class Logit(Objective):
    """A class before the softmax: evidence for it, whatever else is in the picture.

    Args:
        name: class index or class name.
        network: which of several networks run together; empty for a network that runs alone.

    Source: Simonyan et al. 2013, https://arxiv.org/abs/1312.6034, section 2.
    """

    name: int | str
    network: str = OUTPUT
    is_unit = True

    def __post_init__(self) -> None:
        """Make numpy's and torch's integers plain ones."""
        object.__setattr__(self, "name", self.name if isinstance(self.name, str) else operator.index(self.name))

    @property
    def layers(self) -> frozenset[str]:
        """The network's output."""
        return frozenset({self.network})

    def __call__(self, acts: Activations) -> Float[Tensor, " n"]:
        """Return the class's logit."""
        return acts.logits(self.network)[:, acts.class_index(self.name, self.network)]

    def __str__(self) -> str:
        """Write the address."""
        return str(Address("logit", self.name, network=self.network))


@dataclass(frozen=True)
class Probability(Objective):
    """A class after the softmax: evidence for it and against every other.

    Args:
        name: class index or class name.
        network: which of several networks run together; empty for a network that runs alone.

    Source: Olah et al. 2017, https://doi.org/10.23915/distill.00007, "Optimization Objectives".
    """

    name: int | str
    network: str = OUTPUT
    is_unit = True

    def __post_init__(self) -> None:
        """Make numpy's and torch's integers plain ones."""
        object.__setattr__(self, "name", self.name if isinstance(self.name, str) else operator.index(self.name))

    @property
    def layers(self) -> frozenset[str]:
        """The network's output."""
        return frozenset({self.network})

    def __call__(self, acts: Activations) -> Float[Tensor, " n"]:
        """Return the class's probability."""
        return acts.logits(self.network).softmax(1)[:, acts.class_index(self.name, self.network)]

    def __str__(self) -> str:
        """Write the address."""
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
