"""Modifiers of other objectives: a mask in space, and a weight that changes during a render."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from featviz.checks import check_number
from featviz.errors import SettingError
from featviz.interfaces import RenderContext, Traits
from featviz.io.image_source import ImageSource, as_mask_source
from featviz.network.activations import Activations
from featviz.objectives.algebra import Composite, Objective
from featviz.objectives.bound import Bound
from featviz.objectives.parser import as_part
from featviz.objectives.reading import read_for


@dataclass(frozen=True, repr=False)
class Within(Composite):
    """An objective that changes the image under a mask only.

    The score is that of the unmasked objective. Its gradient is restricted to the positions under the mask, in every
    layer that it reads. The mask moves with the transforms.

    Args:
        objective: The objective, or its text.
        mask: A file, or (1, h, w) or (h, w) in [0, 1]; 1 where the image may change. It is centre-cropped to the
            aspect ratio of the image, then resized.

    Raises:
        AddressError: The text cannot be parsed.
        SettingError: The mask does not have one channel.

    Source: torch-dreams, `masked_optimization`; captum, captum/optim/_core/loss.py, `ActivationWeights`.
    Differs: the mask moves with the transforms.
    """

    objective: Objective
    mask: ImageSource
    text_name = "within"

    def __post_init__(self) -> None:
        """Parse text, and convert the mask to a value that a recipe can hold."""
        object.__setattr__(self, "objective", as_part(self.objective))
        object.__setattr__(self, "mask", as_mask_source(self.mask))

    @property
    def parts(self) -> tuple[Objective, ...]:
        """The objective."""
        return (self.objective,)

    @property
    def files(self) -> tuple[str, ...]:
        """The file of the mask, if it came from one."""
        return (self.mask,) if isinstance(self.mask, str) else ()

    def bind(self, context: RenderContext) -> Objective:
        """Read the mask, and bind the objective.

        Raises:
            OutputError: The file of the mask cannot be read.
        """
        inner, mask = self.objective.bind(context), read_for(context, self.mask, context.size, 1)[0]
        return Bound(self, lambda acts: inner(acts.within(mask, self.layers)))

    def __repr__(self) -> str:
        """Return the call."""
        return f"Within({self.objective!r}, {self.mask!r})"

    __str__ = Objective.__str__


@dataclass(frozen=True)
class Ramp(Objective):
    """A weight that changes linearly during a render: multiply an objective by it, as in `ramp(0, 5) * tv`.

    The value is `first` before `begin`, `last` after `end`, and linear in between.

    Args:
        first: Value before `begin`.
        last: Value after `end`.
        begin: Fraction of the steps at which the change begins, in [0, 1).
        end: Fraction of the steps at which it ends, in (begin, 1].

    Raises:
        SettingError: `begin` and `end` are not in order, or not in [0, 1].
    """

    first: float
    last: float
    begin: float = 0.0
    end: float = 1.0
    text_name = "ramp"
    layers = frozenset()

    def __post_init__(self) -> None:
        """Check the fields."""
        for name in ("first", "last", "begin", "end"):
            check_number(f"{name} of Ramp", getattr(self, name))
        if not 0 <= self.begin < self.end <= 1:
            raise SettingError(f"a ramp needs 0 <= begin < end <= 1, got begin={self.begin} and end={self.end}")

    @property
    def is_negative(self) -> bool:
        """Whether the last value is negative."""
        return self.last < 0

    @property
    def traits(self) -> Traits:
        """Zero until `begin`, if the first value is 0."""
        return Traits(zero_until=self.begin if self.first == 0 else 0.0)

    def __call__(self, acts: Activations) -> Any:
        """Return the value at this step: a number, or a tensor of one number."""
        progress = (acts.done - self.begin) / (self.end - self.begin)
        inside = progress.clamp(0, 1) if isinstance(progress, Tensor) else min(1.0, max(0.0, progress))
        return self.first + (self.last - self.first) * inside
