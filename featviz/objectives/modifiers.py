"""What changes another objective: where it looks, and when it counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from featviz.errors import SettingError
from featviz.interfaces import RenderContext, Traits
from featviz.io.image_source import ImageSource, as_mask_source, load_image_source
from featviz.network.activations import Activations
from featviz.objectives.algebra import Composite, Objective
from featviz.objectives.parser import as_objective


@dataclass(frozen=True, repr=False)
class Within(Composite):
    """An objective for which only what lies under a mask is changed; the mask moves with the picture.

    The score is that of the whole, its gradient that of the places under the mask.

    Args:
        objective: what counts.
        mask: a file, or (1, h, w) or (h, w) in [0, 1]; 1 counts. Cut and resized to the shape of the pictures.

    Raises:
        SettingError: the mask is no picture of one channel.

    Source: torch-dreams, `masked_optimization`; captum, captum/optim/_core/loss.py, `ActivationWeights`.
    Differs: the mask is moved by the transforms, too.
    """

    objective: Objective
    mask: ImageSource
    term = "within"

    def __post_init__(self) -> None:
        """Take text, paths and tensors, too."""
        object.__setattr__(self, "objective", as_objective(self.objective))
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
        """Read the mask."""
        return _Within(self.objective.bind(context), load_image_source(self.mask, 1, context.size)[0])

    def __repr__(self) -> str:
        """Write the call."""
        return f"Within({self.objective!r}, {self.mask!r})"

    __str__ = Objective.__str__


@dataclass(frozen=True, eq=False)
class _Within(Objective):
    objective: Objective
    mask: Float[Tensor, "h w"]

    @property
    def layers(self) -> frozenset[str]:
        return self.objective.layers

    def __call__(self, acts: Activations) -> Float[Tensor, " n"]:
        return self.objective(acts.within(self.mask, self.layers))


@dataclass(frozen=True)
class Ramp(Objective):
    """A weight that changes evenly while the picture is made: `ramp(0, 5) * tv` tidies up more and more.

    Args:
        first: until `begin`.
        last: from `end` on.
        begin: where the change begins, as a share of the steps.
        end: where it ends.

    Raises:
        SettingError: it ends before it begins.
    """

    first: float
    last: float
    begin: float = 0.0
    end: float = 1.0
    term = "ramp"
    layers = frozenset()

    def __post_init__(self) -> None:
        """Check the order."""
        if not 0 <= self.begin < self.end <= 1:
            raise SettingError(
                f"a ramp from {self.begin} to {self.end}; give shares of the steps, 0 <= begin < end <= 1"
            )

    @property
    def is_negative(self) -> bool:
        """Whether it ends below zero."""
        return self.last < 0

    @property
    def traits(self) -> Traits:
        """Zero until `begin`, if it starts at zero."""
        return Traits(zero_until=self.begin if self.first == 0 else 0.0)

    def __call__(self, acts: Activations) -> Any:
        """Return the weight of this step, a number."""
        share = (acts.done - self.begin) / (self.end - self.begin)
        return self.first + (self.last - self.first) * min(1.0, max(0.0, share))
