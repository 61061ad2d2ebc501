"""Objectives that hold the picture against another: its activations, its style or its pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.errors import AddressError, SettingError
from featviz.interfaces import RenderContext, Traits
from featviz.io.image_source import ImageSource, as_image_source, load_image_source
from featviz.network.activations import Activations
from featviz.objectives.algebra import Objective
from featviz.objectives.directions import FLOOR, NEARLY


class _Reference(Objective):
    """An objective with a reference image."""

    image: ImageSource

    def __post_init__(self) -> None:
        """Convert the image to a value that a recipe can hold."""
        object.__setattr__(self, "image", as_image_source(self.image))

    @property
    def files(self) -> tuple[str, ...]:
        """The file of the image, if it came from one."""
        return (self.image,) if isinstance(self.image, str) else ()


@dataclass(frozen=True)
class Match(_Reference):
    """How near a layer is to what it puts out for another picture: feature inversion.

    0 where both are the same, -1 for a layer that puts out nothing. Look from close by, as `transforms=T.Jitter(4)`:
    the other picture is seen as it is.

    Args:
        layer: dotted module name.
        image: a file, or (channels, h, w) in [0, 1]; its middle is cut to the shape of the pictures.

    Source: Mahendran and Vedaldi 2014, https://arxiv.org/abs/1412.0035, section 3.
    """

    layer: str
    image: ImageSource
    term = "match"

    @property
    def traits(self) -> Traits:
        """Compares positions of the whole view."""
        return Traits(needs_full_view=True)

    def bind(self, context: RenderContext) -> Objective:
        """See the other picture."""
        target = _activations(self.layer, self.image, context)
        power = target.square().sum().clamp(min=NEARLY)

        def score(acts: Activations) -> Tensor:
            return -(_whole(self.layer, acts, target) - target).square().flatten(1).sum(1) / power

        return _Bound(self, score)


@dataclass(frozen=True)
class Caricature(_Reference):
    """What a layer sees in another picture, more of it: exaggerated where it responds most.

    Args:
        layer: dotted module name.
        image: a file, or (channels, h, w) in [0, 1]; its middle is cut to the shape of the pictures.
        power: of the cosine; more keeps closer to the other picture.

    Source: Lucid, notebooks/misc/feature_inversion_caricatures.ipynb, `dot_compare`.
    Differs: the dot product over the other picture's squared length, so that scores of layers compare.
    """

    layer: str
    image: ImageSource
    power: float = 1.0
    term = "caricature"

    @property
    def traits(self) -> Traits:
        """Compares positions of the whole view."""
        return Traits(needs_full_view=True)

    def bind(self, context: RenderContext) -> Objective:
        """See the other picture."""
        target = _activations(self.layer, self.image, context)
        power = target.square().sum().clamp(min=NEARLY)

        def score(acts: Activations) -> Tensor:
            units = _whole(self.layer, acts, target).flatten(1)
            dot = (units * target.flatten(1)).sum(1)
            cosine = dot / (NEARLY + units.norm(dim=1)) / power.sqrt()
            return dot / power * cosine.clamp(min=FLOOR) ** self.power

        return _Bound(self, score)


PLACES = 4096
"""How many places of a guide are looked at, at most: each is compared with each of the picture's."""


@dataclass(frozen=True)
class Guide(_Reference):
    """How strongly each place of a layer answers to what it resembles most in another picture, wherever that is there.

    Args:
        layer: dotted module name, of a feature map or of tokens.
        image: a file, or (channels, h, w) in [0, 1]; its middle is cut to the shape of what the network sees.

    Source: google/deepdream, dream.ipynb, "Controlling dreams".
    """

    layer: str
    image: ImageSource
    term = "guide"

    def bind(self, context: RenderContext) -> Objective:
        """See the other picture."""
        wanted = _activations(self.layer, self.image, context).unsqueeze(-1).flatten(2)[0]
        wanted = wanted[:, :: -(-wanted.shape[1] // PLACES)]

        def score(acts: Activations) -> Tensor:
            units = acts.channels_first(self.layer).unsqueeze(-1).flatten(2)
            with torch.no_grad():
                nearest = wanted[:, (wanted.T @ units).argmax(1)]
            return (units * nearest.movedim(1, 0)).sum(1).mean(1)

        return _Bound(self, score)


@dataclass(frozen=True)
class Style(_Reference):
    """How near a layer's Gram matrix is to another picture's: the same textures, wherever they are.

    0 where both are the same, -1 for a layer that puts out nothing. Add several layers up.

    Args:
        layer: dotted module name.
        image: a file, or (channels, h, w) in [0, 1].
        memory: how much of the Gram matrix is kept from earlier steps, in [0, 1), for views that show only a part.

    Raises:
        SettingError: the memory is out of its range.

    Source: Gatys et al. 2015, https://arxiv.org/abs/1508.06576; the memory: Mordvintsev et al. 2018,
        https://doi.org/10.23915/distill.00012, "Style Transfer for Textured 3D Models".
    """

    layer: str
    image: ImageSource
    memory: float = 0.0
    term = "style"

    @property
    def traits(self) -> Traits:
        """Needs the full view if it remembers Gram matrices of earlier steps."""
        return Traits(needs_full_view=self.memory > 0)

    def __post_init__(self) -> None:
        """Convert the image, and check the values."""
        super().__post_init__()
        if not 0 <= self.memory < 1:
            raise SettingError(f"memory {self.memory} is not in [0, 1); 0 forgets, 0.95 keeps twenty steps")

    def bind(self, context: RenderContext) -> Objective:
        """See the other picture, and forget other renders."""
        target = _gram(_activations(self.layer, self.image, context))
        power = target.square().sum().clamp(min=NEARLY**2)
        past: list[Tensor] = []

        def score(acts: Activations) -> Tensor:
            gram = _gram(acts.channels_first(self.layer))
            if torch.is_grad_enabled():  # what is asked for a score alone is about the picture as it is
                if past and self.memory:  # the value is the running mean's, the gradient the newest one's
                    gram = gram + (self.memory * (past.pop() - gram)).detach()
                past[:] = [gram.detach()]
            return -(gram - target).square().flatten(1).sum(1) / power

        return _Bound(self, score)


@dataclass(frozen=True)
class InputDifference(_Reference):
    """How far the picture is from another one, pixel by pixel: the mean squared distance. Subtract it to stay near.

    Args:
        image: a file, or (channels, h, w) in [0, 1]; its middle is cut to the shape of the pictures.

    Source: Lucid, lucid/optvis/objectives.py, `input_diff`.
    Differs: no root, whose gradient is infinite where both are the same.
    """

    image: ImageSource
    term = "difference"
    layers = frozenset()

    def bind(self, context: RenderContext) -> Objective:
        """Read the other picture."""
        other = load_image_source(self.image, context.channels, context.size)

        def score(acts: Activations) -> Tensor:
            return (acts.images[:, : len(other)] - other.to(acts.images, non_blocking=True)).square().flatten(1).mean(1)

        return _Bound(self, score)


@dataclass(frozen=True, eq=False)
class _Bound(Objective):
    """An objective that has seen its picture."""

    objective: Objective
    score: Callable[[Activations], Tensor] = field(repr=False)

    @property
    def layers(self) -> frozenset[str]:
        return self.objective.layers

    def __call__(self, acts: Activations) -> Float[Tensor, " n"]:
        return self.score(acts)

    def __str__(self) -> str:
        return str(self.objective)


def _activations(layer: str, source: ImageSource, context: RenderContext) -> Float[Tensor, "1 channel *place"]:
    image = load_image_source(source, context.channels, context.view)
    with torch.no_grad():
        return context.capture(image[None], [layer]).channels_first(layer)


def _whole(layer: str, acts: Activations, target: Tensor) -> Tensor:
    """Return a layer, which has to have as many places as the other picture's."""
    units = acts.channels_first(layer)
    if units.shape[1:].numel() != target.shape[1:].numel():
        raise AddressError(f"{layer!r} has {tuple(units.shape[1:])} here and {tuple(target.shape[1:])} for the picture")
    return units


def _gram(units: Float[Tensor, "n channel *place"]) -> Float[Tensor, "n channel channel2"]:
    flat = units.unsqueeze(-1).flatten(2)
    return flat @ flat.mT / flat.shape[2]
