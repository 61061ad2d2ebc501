"""What `render` needs of an objective, a param, a transform and an optimizer.

Anything that fits can stand in its place; nothing has to be registered or derived.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor
from torch.nn import Module

from featviz.activations import Activations
from featviz.random import Generators

Size = tuple[int, int]
"""Height and width in px."""


def as_size(size: int | Sequence[int]) -> Size:
    """Make one side, or a height and width, of any kind of whole number, a size.

    >>> as_size(224)
    (224, 224)
    """
    if isinstance(size, Sequence):
        height, width = size
        return operator.index(height), operator.index(width)
    return operator.index(size), operator.index(size)


Shape = tuple[int, int, int]
"""Channels, height and width in px."""

Leaves = list[Tensor]
"""The tensors that are optimised, images first in each."""


@runtime_checkable
class Scorer(Protocol):
    """An objective: what to maximise."""

    @property
    def layers(self) -> frozenset[str]:
        """The layers to capture."""

    def __call__(self, acts: Activations) -> Float[Tensor, " n"]:
        """Return one score for each image; more is better."""


@dataclass(frozen=True)
class Scene:
    """What a render is going to be, for objectives that need to know before the first step.

    Args:
        capture: runs the network on images in [0, 1] and returns the layers named.
        channels: of the network's images.
        size: height and width in px of the pictures.
        view: height and width in px of what the network will see of them.
    """

    capture: Callable[[Tensor, Iterable[str]], Activations]
    channels: int
    size: Size
    view: Size


@runtime_checkable
class Binding(Protocol):
    """An objective that prepares itself for a render."""

    def bind(self, scene: Scene) -> Scorer:
        """Return what will score this render."""


@runtime_checkable
class Spatial(Protocol):
    """How a canvas of unbounded numbers is held: as pixels, as frequencies or otherwise."""

    def start(self, rng: Generators, channels: int, size: Size) -> Leaves:
        """Draw a beginning for each image."""

    def fit(self, canvas: Float[Tensor, "n c h w"]) -> Leaves:
        """Find the leaves that give this canvas."""

    def canvas(self, leaves: Leaves, size: Size) -> Float[Tensor, "n c h w"]:
        """Turn leaves into a canvas."""


@runtime_checkable
class Color(Protocol):
    """How a canvas becomes an image, and back."""

    def image(self, canvas: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Turn unbounded numbers into [0, 1]."""

    def canvas(self, image: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Undo `image`, as far as its ends allow."""


@runtime_checkable
class Param(Protocol):
    """What is optimised, and how it becomes images."""

    @property
    def size(self) -> Size | None:
        """Height and width; `None` means the network's own."""

    @property
    def batch(self) -> int:
        """Pictures of each objective."""

    def start(self, rng: Generators, channels: int, size: Size) -> Leaves:
        """Draw a beginning for each image."""

    def fit(self, images: Float[Tensor, "n c h w"]) -> Leaves:
        """Begin from given images."""

    def images(self, leaves: Leaves, size: Size) -> Float[Tensor, "n c h w"]:
        """Turn leaves into images in [0, 1]."""


@runtime_checkable
class Transform(Protocol):
    """A way of looking at the images; chance is drawn apart from where it is applied."""

    def draw(self, rng: Generators, shape: Shape) -> Any:
        """Draw for each image what `apply` will do to it."""

    def apply(self, images: Float[Tensor, "n c h w"], draw: Any) -> Float[Tensor, "n c h2 w2"]:
        """Do it."""


@runtime_checkable
class Geometric(Protocol):
    """A transform that only moves pixels: neighbours are fused into one resampling.

    One that widens the image also has a `value` to fill with, `None` to mirror it, and begins a resampling of its own.
    """

    def place(self, rng: Generators, size: Size) -> tuple[Float[Tensor, "n 3 3"], Size]:
        """Draw for each image the affine map from old to new pixel coordinates `(x, y, 1)`, and give the new size."""


class Stepper(Protocol):
    """A running optimizer."""

    def step(self) -> None:
        """Move the leaves along their gradients."""


@runtime_checkable
class Optimizer(Protocol):
    """How the leaves follow their gradients."""

    def begin(self, leaves: Leaves, steps: int) -> Stepper:
        """Take charge of the leaves for so many steps."""


Progress = Callable[[int, int], None]
"""Called after every step with the number of steps done and the number in all."""

Transforms = Sequence[Transform | Geometric | Module]
