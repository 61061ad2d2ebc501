"""Objectives that compare the images of a batch: interpolation, alignment and diversity."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from featviz.checks import check_number
from featviz.errors import SettingError
from featviz.interfaces import Traits
from featviz.network.activations import Activations
from featviz.objectives.algebra import Composite, Objective
from featviz.objectives.parser import as_part

MAX_NEIGHBORS = 4
"""Number of neighbours on each side with which an image is aligned. Source: Lucid, objectives.py, `alignment`."""


@dataclass(frozen=True, repr=False)
class Interpolate(Composite):
    """A weighted mean of two objectives whose weights change linearly along the batch, from the first to the last.

    The score of image i of n is `(1 - t) * first + t * last` with t = i / (n - 1). Its range is that of the two.

    Args:
        first: Objective of the first image, or its text.
        last: Objective of the last image, or its text.

    Raises:
        AddressError: A text cannot be parsed.
        SettingError: `first` or `last` is no objective.

    Source: Lucid, lucid/optvis/objectives.py, `channel_interpolate`.
    Differs: any two objectives instead of two channels.
    """

    first: Objective
    last: Objective
    text_name = "interpolate"

    def __post_init__(self) -> None:
        """Parse text."""
        object.__setattr__(self, "first", as_part(self.first))
        object.__setattr__(self, "last", as_part(self.last))

    @property
    def parts(self) -> tuple[Objective, ...]:
        """Both objectives."""
        return self.first, self.last

    @property
    def traits(self) -> Traits:
        """Compares the images of a batch, besides the traits of both objectives."""
        return super().traits | Traits(compares_images=True)

    def shown_unit(self, position: float = 0.0) -> Objective | None:
        """Return the unit that the image at a position of the batch shows; between the ends, a weighted sum of both."""
        first, last = self.first.shown_unit() or self.first, self.last.shown_unit() or self.last
        if position in (0, 1):
            return first if position == 0 else last
        return (1 - position) * first + position * last

    def __call__(self, acts: Activations) -> Float[Tensor, " n"]:
        """Return the weighted mean of both scores."""
        scores = [torch.as_tensor(part(acts)) for part in (self.first, self.last)]
        like = next((each for each in scores if each.ndim), None)  # a ramp is one number for all images
        if like is None:
            raise SettingError(f"{self} needs an objective with a score per image, not two ramps")
        first, last = (each.to(like, non_blocking=True).expand(len(like)) for each in scores)
        return torch.lerp(first, last, torch.linspace(0, 1, len(like), device=like.device, dtype=like.dtype))

    def __repr__(self) -> str:
        """Return the call."""
        return f"Interpolate({self.first!r}, {self.last!r})"

    def __str__(self) -> str:
        """Return the term."""
        return f"interpolate({self.first}, {self.last})"


@dataclass(frozen=True)
class Alignment(Objective):
    """The similarity of neighbouring images of the batch in a layer.

    The score is -½ Σ mean((a - b)²) / decay^d over the neighbours at distances d = 1 to 4 on either side. It is <= 0,
    and 0 where they are equal. Add it to an interpolation, to keep features at the same positions along the batch.

    Args:
        layer: Dotted module name.
        decay: Factor by which the weight of a neighbour falls with each step of distance; > 1.

    Raises:
        SettingError: `layer` is no text, or `decay` is out of its range.

    Source: Lucid, lucid/optvis/objectives.py, `alignment`.
    Differs: one score per image, each pair counted half for either image; the sum over the batch is Lucid's.
    """

    layer: str
    decay: float = 2.0
    text_name = "alignment"

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        check_number("decay of Alignment", self.decay, above=1, note=f"(default {Alignment.decay})")

    @property
    def traits(self) -> Traits:
        """Compares the images of a batch."""
        return Traits(compares_images=True)

    def __call__(self, acts: Activations) -> Float[Tensor, " n"]:
        """Return the similarity of each image to its neighbours."""
        values = acts.channels_first(self.layer).flatten(1)
        score = values.new_zeros(len(values))
        for distance in range(1, min(MAX_NEIGHBORS, len(values) - 1) + 1):
            difference = (values[distance:] - values[:-distance]).square().mean(1) / (2 * self.decay**distance)
            # Half of the penalty of each pair goes to its earlier image, half to its later one.
            score = score - F.pad(difference, (0, distance)) - F.pad(difference, (distance, 0))
        return score


@dataclass(frozen=True)
class Diversity(Objective):
    """The dissimilarity of an image to the others of the batch in a layer: minus the mean cosine of Gram matrices.

    The score is in [-1, 0]: -1 where all images have the same features in the same proportions, 0 where they share
    none. Gram matrices are positive semi-definite, so their cosine is never negative. In a product, such as
    `stage2:5 * (1.5 + diversity(stage2))`, it suits units of any scale; in a sum, it needs a weight of that scale.

    Args:
        layer: Dotted module name.

    Raises:
        SettingError: `layer` is no text.

    Source: Olah et al. 2017, https://doi.org/10.23915/distill.00007, "Diversity"; Lucid, objectives.py, `diversity`.
    Differs: a mean over the other images instead of a sum, so that a weight suits batches of any size.
    """

    layer: str
    text_name = "diversity"

    @property
    def traits(self) -> Traits:
        """Compares the images of a batch."""
        return Traits(compares_images=True)

    def __call__(self, acts: Activations) -> Float[Tensor, " n"]:
        """Return the dissimilarity of each image to the others; 0 for a single image."""
        values = acts.channels_first(self.layer).unsqueeze(-1).flatten(2)
        gram = F.normalize((values @ values.mT).flatten(1), dim=1, eps=1e-20)
        cosines = gram @ gram.T
        return (cosines.diagonal() - cosines.sum(1)) / max(1, len(values) - 1)
