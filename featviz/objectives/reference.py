"""Objectives that compare the image with a reference image: its activations, its style or its pixels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.checks import check_number
from featviz.errors import AddressError, SettingError
from featviz.interfaces import RenderContext, Traits
from featviz.io.image_source import ImageSource, as_image_source
from featviz.network.activations import Activations
from featviz.objectives.algebra import Objective
from featviz.objectives.bound import Bound
from featviz.objectives.directions import MIN_COSINE, lengths
from featviz.objectives.reading import capture_for, read_for

MAX_GUIDE_POSITIONS = 4096
"""Number of positions of a guide at most, because each is compared with each position of the image."""


class _Reference(Objective):
    """An objective with a reference image."""

    image: ImageSource

    def __post_init__(self) -> None:
        """Convert the image to a value that a recipe can hold."""
        super().__post_init__()
        object.__setattr__(self, "image", as_image_source(self.image))

    @property
    def files(self) -> tuple[str, ...]:
        """The file of the image, if it came from one."""
        return (self.image,) if isinstance(self.image, str) else ()


@dataclass(frozen=True)
class Match(_Reference):
    """The similarity of a layer's output to that for a reference image: feature inversion.

    The score is -‖a - r‖² / ‖r‖² with the activations a of the image and r of the reference. It is <= 0: 0 where they
    are equal, -1 for a layer whose output is 0. The reference is not transformed, and so by default the image is not
    either. Give transforms that move it little, such as `transforms=(T.Jitter(2),)`, against noise of single pixels.

    Args:
        layer: Dotted module name.
        image: The reference: a file, or (channels, h, w) in [0, 1]. It is centre-cropped to the aspect
            ratio of the view, then resized.

    Raises:
        SettingError: The reference is neither a file nor numbers in [0, 1].

    Source: Mahendran and Vedaldi 2014, https://arxiv.org/abs/1412.0035, section 3.
    """

    layer: str
    image: ImageSource
    text_name = "match"

    @property
    def traits(self) -> Traits:
        """Compares positions of the whole view with those of the reference."""
        return Traits(needs_full_view=True, aligned=True)

    def bind(self, context: RenderContext) -> Objective:
        """Read the reference, and compute its activations.

        Raises:
            OutputError: The file cannot be read.
        """
        target = _reference_activations(self.layer, self.image, context)
        energy = _energy(target)

        def score(acts: Activations) -> Tensor:
            difference = _same_size_activations(self.layer, acts, target) - target
            return -difference.square().flatten(1).sum(1) / energy

        return Bound(self, score)


@dataclass(frozen=True)
class Caricature(_Reference):
    """The features that a layer detects in a reference image, exaggerated.

    The score is a·r / ‖r‖² · max(0.1, cosine(a, r))^power with the activations a of the image and r of the reference.
    It is unbounded; an image equal to the reference has the score 1.

    Args:
        layer: Dotted module name.
        image: The reference: a file, or (channels, h, w) in [0, 1]. It is centre-cropped to the aspect
            ratio of the view, then resized.
        power: Weight of the cosine, >= 0. A higher power keeps the image closer to the reference.

    Raises:
        SettingError: The reference is neither a file nor numbers in [0, 1], or `power` is out of its range.

    Source: Lucid, notebooks/misc/feature_inversion_caricatures.ipynb, `dot_compare`.
    Differs: divided by the reference's squared length, so that scores of different layers can be compared.
    """

    layer: str
    image: ImageSource
    power: float = 1.0
    text_name = "caricature"

    def __post_init__(self) -> None:
        """Convert the image to a value that a recipe can hold, and check the fields."""
        super().__post_init__()
        check_number("power of Caricature", self.power, at_least=0, note=f"(default {Caricature.power})")

    @property
    def traits(self) -> Traits:
        """Compares positions of the whole view with those of the reference."""
        return Traits(needs_full_view=True, aligned=True)

    def bind(self, context: RenderContext) -> Objective:
        """Read the reference, and compute its activations.

        Raises:
            OutputError: The file cannot be read.
        """
        target = _reference_activations(self.layer, self.image, context)
        energy = _energy(target)

        def score(acts: Activations) -> Tensor:
            values = _same_size_activations(self.layer, acts, target).flatten(1)
            dot = (values * target.flatten(1)).sum(1)
            cosine = dot / lengths(values) / energy.sqrt()
            return dot / energy * cosine.clamp(min=MIN_COSINE) ** self.power

        return Bound(self, score)


@dataclass(frozen=True)
class Guide(_Reference):
    """The agreement of each position of a layer with the most similar position in a reference image: guided DeepDream.

    The score is the mean over positions p of max over q of a_p·r_q, with the activations a of the image and r of the
    reference. It is unbounded. Features may appear anywhere, unlike with `Match` and `Caricature`.

    Args:
        layer: Dotted module name of a feature map or of tokens.
        image: The reference: a file, or (channels, h, w) in [0, 1]. It is centre-cropped to the aspect
            ratio of the view, then resized.

    Raises:
        SettingError: The reference is neither a file nor numbers in [0, 1].

    Source: google/deepdream, dream.ipynb, "Controlling dreams".
    Differs: large references are sampled at every k-th position, 4096 at most.
    """

    layer: str
    image: ImageSource
    text_name = "guide"

    def bind(self, context: RenderContext) -> Objective:
        """Read the reference, and compute its activations.

        Raises:
            OutputError: The file cannot be read.
        """
        target = _reference_activations(self.layer, self.image, context).unsqueeze(-1).flatten(2)[0]
        target = target[:, :: -(-target.shape[1] // MAX_GUIDE_POSITIONS)]  # rounds the step up

        def score(acts: Activations) -> Tensor:
            values = acts.channels_first(self.layer).unsqueeze(-1).flatten(2)
            # The choice of the partner is piecewise constant and has no gradient, so the (positions x positions)
            # matrix is not kept for the backward pass.
            with torch.no_grad():
                partners = target[:, (target.T @ values).argmax(1)]
            return (values * partners.movedim(1, 0)).sum(1).mean(1)

        return Bound(self, score)


@dataclass(frozen=True)
class Style(_Reference):
    """The similarity of a layer's Gram matrix to that of a reference image: the same textures at any positions.

    The score is -‖G - R‖² / ‖R‖² with the Gram matrices G of the image and R of the reference, each divided by its
    number of positions. It is <= 0: 0 where they are equal, -1 for a layer whose output is 0. Add up several layers.

    Args:
        layer: Dotted module name.
        image: The reference: a file, or (channels, h, w) in [0, 1]. It is centre-cropped to the aspect
            ratio of the view, then resized.
        memory: Momentum of the running mean of Gram matrices over steps, in [0, 1), for views that each show only a
            part of the image; 0 uses the current step only.

    Raises:
        SettingError: `memory` is not in [0, 1), or the reference is neither a file nor numbers in [0, 1].

    Source: Gatys et al. 2015, https://arxiv.org/abs/1508.06576; the memory: Mordvintsev et al. 2018,
        https://doi.org/10.23915/distill.00012, "Style Transfer for Textured 3D Models".
    """

    layer: str
    image: ImageSource
    memory: float = 0.0
    text_name = "style"

    @property
    def traits(self) -> Traits:
        """Remembers earlier steps if it averages over them, and needs the full view, as each call counts as a step."""
        return Traits(needs_full_view=self.memory > 0, remembers=self.memory > 0)

    def __post_init__(self) -> None:
        """Convert the image to a value that a recipe can hold, and check the fields."""
        super().__post_init__()
        check_number("memory of Style", self.memory)
        if not 0 <= self.memory < 1:
            raise SettingError(f"memory must be in [0, 1), got {self.memory} (0.95 averages about 20 steps)")

    def bind(self, context: RenderContext) -> Objective:
        """Read the reference, compute its Gram matrix, and start with an empty memory.

        Raises:
            OutputError: The file cannot be read.
        """
        target = _gram(_reference_activations(self.layer, self.image, context))
        energy = _energy(target)
        past: list[Tensor] = []

        def score(acts: Activations) -> Tensor:
            gram = _gram(acts.channels_first(self.layer))
            if torch.is_grad_enabled():  # without gradients the image is only scored, which must not change the memory
                if past and self.memory:  # the value is the running mean's, the gradient the current matrix's
                    gram = gram + (self.memory * (past.pop() - gram)).detach()
                past[:] = [gram.detach()]
            return -(gram - target).square().flatten(1).sum(1) / energy

        return Bound(self, score)


@dataclass(frozen=True)
class InputDifference(_Reference):
    """The mean squared difference between the pixels of the image and of a reference image.

    The score is in [0, 1], 0 where they are equal. Subtract it to keep the image close to the reference.

    Args:
        image: The reference: a file, or (channels, h, w) in [0, 1]. It is centre-cropped to the aspect
            ratio of the image, then resized.

    Raises:
        SettingError: The reference is neither a file nor numbers in [0, 1].

    Source: Lucid, lucid/optvis/objectives.py, `input_diff`.
    Differs: no square root, whose gradient is infinite where both are equal.
    """

    image: ImageSource
    text_name = "difference"
    layers = frozenset()

    def bind(self, context: RenderContext) -> Objective:
        """Read the reference.

        Raises:
            OutputError: The file cannot be read.
        """
        target = read_for(context, self.image, context.size)

        def score(acts: Activations) -> Tensor:
            images = acts.images[:, : len(target)]  # without alpha
            return (images - target.to(images, non_blocking=True)).square().flatten(1).mean(1)

        return Bound(self, score)


def _reference_activations(
    layer: str, source: ImageSource, context: RenderContext
) -> Float[Tensor, "1 channel *position"]:
    image = read_for(context, source, context.input_size)
    return capture_for(context, image[None], [layer]).channels_first(layer)


def _same_size_activations(layer: str, acts: Activations, target: Tensor) -> Tensor:
    """Return the activations of a layer, and check that they have as many values as the reference's."""
    values = acts.channels_first(layer)
    if values.shape[1:].numel() != target.shape[1:].numel():
        raise AddressError(
            f"{layer!r} must have the same shape for the view and the reference image, got {tuple(values.shape[1:])} "
            f"and {tuple(target.shape[1:])}; use transforms that keep the size"
        )
    return values


def _energy(target: Tensor) -> Float[Tensor, ""]:
    """Return the sum of squares of a reference to divide by: 1 where it is 0."""
    found = target.square().sum()
    return torch.where(found > 0, found, 1)


def _gram(values: Float[Tensor, "n channel *position"]) -> Float[Tensor, "n channel channel2"]:
    flat = values.unsqueeze(-1).flatten(2)
    return flat @ flat.mT / flat.shape[2]
