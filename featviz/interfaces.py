"""Interfaces between the engine and what users extend: objectives, params, transforms, optimizers and progress.

The engine needs no base class and no registration: an object that has the members of a protocol can be used wherever
that protocol is expected. For objectives, deriving from `Objective` adds `+ - * /` and names in text. Further
properties are declared in one frozen value, `traits`, whose defaults suit most objects.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor
from torch.nn import Module

if TYPE_CHECKING:
    from featviz.network.activations import Activations
    from featviz.random import Generators

# ---------------------------------------------------------------------------------------------- sizes and positions

Size = tuple[int, ...]
"""Length of each spatial axis in px: height and width of an image; the length of a signal; depth (or time), height and
width of a volume (or video). A sample of a signal and a voxel of a volume are a px, too."""

Shape = tuple[int, ...]
"""Channels, and the length of each spatial axis in px."""

MAX_AXES = 3
"""Largest number of spatial axes."""

Position = tuple[int, ...] | str
"""Index along each axis of a feature map, as row and column in one of two axes, or in a patch grid; `"center"`; or a
token of a transformer that is not on the grid: the class token `"cls"`, or a register `"reg0"`, `"reg1"` …."""

Leaves = list[Tensor]
"""The optimised leaf tensors of a param. The first dimension of each is the image, unless the batch shares it."""


def as_size(size: int | Sequence[int], axes: int = 2) -> Size:
    """Return the length of each spatial axis as plain Python integers.

    Args:
        size: One side, which all axes get; or a sequence with the length of each of 1 to 3 axes, in px.
        axes: Number of axes for one side.

    Returns:
        The length of each axis in px: height and width for an image.

    Raises:
        ValueError: The sequence has no item, or more than 3.

    >>> as_size(224), as_size((4096,))
    ((224, 224), (4096,))
    """
    if not isinstance(size, Sequence):
        return (operator.index(size),) * axes
    if not 1 <= len(size) <= MAX_AXES:
        raise ValueError(f"1 to {MAX_AXES} axes")
    return tuple(map(operator.index, size))


def show_size(size: Sequence[int], between: str = " x ") -> str:
    """Return the text of a size, such as `"4096"` or `"96 x 128"`.

    Args:
        size: Length of each axis in px.
        between: Separator of the numbers.
    """
    return between.join(map(str, size))


def as_position(at: Any) -> Position:
    """Return a position with plain Python integers.

    Args:
        at: The index along each of 1 to 3 axes, from 0; `"center"`; or a token that is not on the grid, `"cls"` or
            `"reg0"`.

    Returns:
        The position.

    >>> as_position([3, 4])
    (3, 4)
    """
    return at if isinstance(at, str) else as_size(tuple(islice(at, MAX_AXES + 1)))  # a range may be huge


# ---------------------------------------------------------------------------------------------- objectives


@dataclass(frozen=True)
class Traits:
    """What the engine needs to know about an objective besides its layers and its score.

    An objective without a `traits` attribute gets these defaults. `docs/own-objective.md` shows when each one matters.

    Args:
        compares_images: The score of an image depends on the other images of the same objective, as diversity does.
            These stay in one chunk, and there must be at least two (`param.batch`).
        needs_full_view: The score compares positions of the whole view, as feature inversion does. The images of the
            objective stay in one chunk, finished images are scored at the size of the view, and a render that would
            cut the view into tiles stops with an error.
        depends_on_position: The score is about certain positions of the view, as a neuron's is. Finished images are
            then resized to the size of the view before they are scored.
        zero_until: Fraction of the steps in [0, 1], from the first, in which the score may have no gradient
            (`ramp(0, 5, 0.5)` has 0.5). A missing gradient is an error only after these steps.
        remembers: The score depends on earlier calls, as a running mean does. Steps are then not recorded as a CUDA
            graph, which would repeat the operations of one call.
        aligned: The score compares each position with the same position of an image that is not transformed, as feature
            inversion does. By default, the image is then not transformed either.
    """

    compares_images: bool = False
    needs_full_view: bool = False
    depends_on_position: bool = False
    zero_until: float = 0.0
    remembers: bool = False
    aligned: bool = False

    def __or__(self, other: Traits) -> Traits:
        """Combine the traits of two parts of one objective.

        Args:
            other: The traits of the other part.

        Returns:
            Traits that hold where either part has them; `zero_until` is the larger one.
        """
        return Traits(
            self.compares_images or other.compares_images,
            self.needs_full_view or other.needs_full_view,
            self.depends_on_position or other.depends_on_position,
            max(self.zero_until, other.zero_until),
            self.remembers or other.remembers,
            self.aligned or other.aligned,
        )


@runtime_checkable
class ObjectiveLike(Protocol):
    """What to maximise. May also have `traits`, `bind`, `files` and `class_name`; see the protocols below."""

    @property
    def layers(self) -> frozenset[str]:
        """Names of the layers to capture; empty for an objective about the image alone."""

    def __call__(self, acts: Activations) -> Float[Tensor, " n"]:
        """Return one score per image; higher is better.

        Args:
            acts: The activations of the declared `layers`, and the images.

        Returns:
            Scores, (n,), with a gradient.
        """


@runtime_checkable
class HasTraits(Protocol):
    """An objective that declares traits other than the defaults."""

    @property
    def traits(self) -> Traits:
        """What the engine needs to know."""


def traits_of(objective: object) -> Traits:
    """Return the declared traits of an objective, or the defaults.

    Args:
        objective: Any objective.

    Returns:
        Its traits.
    """
    return objective.traits if isinstance(objective, HasTraits) else Traits()


@dataclass(frozen=True)
class RenderContext:
    """Facts about a render that an objective may need before the first step.

    Args:
        capture: Runs the network on images in [0, 1] and returns the activations of the named layers.
        channels: Channels of the network's input.
        size: Length of each axis of the optimised images, in px.
        input_size: Size of one network input in px: of a tile, or of the whole view where there are no tiles.
        embed_texts: Returns the embeddings of texts, (n, d), in the embedding space of the named layer; `None` where no
            network embeds texts.
        batch_statistics: Returns the mean and the standard deviation of each channel of a batch-norm layer's output
            over the training data, or `None` for a layer without them; `None` where there is no network.
        inputs: Names of the optimised inputs, where there are several. The images are then packed into one signal.
        per_image: Names of the inputs that are given per image, so that no other images can be run.
    """

    capture: Callable[[Tensor, Iterable[str]], Activations]
    channels: int
    size: Size
    input_size: Size
    embed_texts: Callable[[Sequence[str], str], Tensor] | None = None
    batch_statistics: Callable[[str], tuple[Tensor, Tensor] | None] | None = None
    inputs: tuple[str, ...] = ()
    per_image: tuple[str, ...] = ()


@runtime_checkable
class Bindable(Protocol):
    """An objective that reads or computes something once before a render, such as a reference image's activations."""

    def bind(self, context: RenderContext) -> ObjectiveLike:
        """Return the objective that scores this render.

        Args:
            context: Facts about the render, and a function that runs the network.

        Returns:
            The objective that replaces this one during the render.
        """


@runtime_checkable
class UsesFiles(Protocol):
    """An objective, param or transform that reads files. A recipe stores their hashes and a replay checks them."""

    @property
    def files(self) -> tuple[str, ...]:
        """Paths of the files."""


@runtime_checkable
class NamesClass(Protocol):
    """An objective about a class given by name. A recipe stores the index that the name had."""

    @property
    def class_name(self) -> tuple[str, str] | None:
        """The head (layer that outputs the logits) and the class name; `None` where the class is given by index."""


# ---------------------------------------------------------------------------------------------- params


@dataclass(frozen=True)
class ParamTraits:
    """What the engine needs to know about a param, or the spatial part of one, besides its methods.

    Args:
        couples_batch: The images of a batch share tensors, so the batch is optimised in one chunk.
        any_size: The same tensors can be computed at any size, as those of a CPPN can.
        close_views: Optimise through `transforms.NEAR` by default instead of `transforms.STANDARD`, because views from
            far away would drive the image to one flat colour.
        pixels: The leaf tensors are images of any resolution: neighbours in a tensor are neighbours in the image.
        color_prior: Path of the prior whose colour axes the default colour part uses; `None` for the constants of
            ImageNet.
    """

    couples_batch: bool = False
    any_size: bool = False
    close_views: bool = False
    pixels: bool = False
    color_prior: str | None = None


@runtime_checkable
class HasParamTraits(Protocol):
    """A param, or the spatial part of one, that declares traits other than the defaults."""

    @property
    def traits(self) -> ParamTraits:
        """What the engine needs to know."""


def param_traits_of(param: object) -> ParamTraits:
    """Return the declared traits of a param or of its spatial part, or the defaults.

    Args:
        param: A param, or the spatial part of one.

    Returns:
        Its traits.
    """
    return param.traits if isinstance(param, HasParamTraits) else ParamTraits()


@runtime_checkable
class Spatial(Protocol):
    """How a canvas is parameterized: as pixels, as frequencies or otherwise.

    A canvas holds unbounded numbers, (n, c, h, w); the colour part turns it into an image in [0, 1].
    """

    def start(self, rng: Generators, channels: int, size: Size) -> Leaves:
        """Draw the initial tensors of each image.

        Args:
            rng: Random numbers, one generator per image.
            channels: Number of channels of the images.
            size: Length of each axis in px, as height and width.

        Returns:
            The leaf tensors.
        """

    def fit(self, canvas: Float[Tensor, "n c *size"]) -> Leaves:
        """Return tensors that give this canvas.

        Args:
            canvas: Unbounded numbers.

        Returns:
            The leaf tensors.
        """

    def canvas(self, leaves: Leaves, size: Size) -> Float[Tensor, "n c *size"]:
        """Compute the canvas, differentiably.

        Args:
            leaves: The leaf tensors of `start` or `fit`.
            size: Length of each axis in px, as height and width.

        Returns:
            Unbounded numbers.
        """


@runtime_checkable
class Color(Protocol):
    """Maps a canvas to an image in [0, 1], and back."""

    def image(self, canvas: Float[Tensor, "n c *size"]) -> Float[Tensor, "n c *size"]:
        """Map unbounded numbers to [0, 1].

        Args:
            canvas: Unbounded numbers.

        Returns:
            The image in [0, 1].
        """

    def canvas(self, image: Float[Tensor, "n c *size"]) -> Float[Tensor, "n c *size"]:
        """Invert `image`, approximately where it saturates.

        Args:
            image: In [0, 1].

        Returns:
            The canvas.
        """


@runtime_checkable
class Param(Protocol):
    """An image parameterization: what is optimised, and how it becomes images."""

    @property
    def size(self) -> Size | None:
        """Height and width in px; `None` for the network's input size."""

    @property
    def batch(self) -> int:
        """Number of images per objective."""

    def start(self, rng: Generators, channels: int, size: Size) -> Leaves:
        """Draw the initial tensors of each image.

        Args:
            rng: Random numbers, one generator per image.
            channels: Number of channels of the images.
            size: Length of each axis in px, as height and width.

        Returns:
            The leaf tensors.
        """

    def fit(self, images: Float[Tensor, "n c *size"]) -> Leaves:
        """Return tensors that give these images.

        Args:
            images: In [0, 1].

        Returns:
            The leaf tensors.
        """

    def images(self, leaves: Leaves, size: Size) -> Float[Tensor, "n c *size"]:
        """Compute the images in [0, 1], differentiably.

        Args:
            leaves: The leaf tensors of `start` or `fit`.
            size: Length of each axis in px, as height and width.

        Returns:
            The images; with an alpha channel last, if the param has one.
        """


@runtime_checkable
class Resizable(Protocol):
    """A param whose size and batch `render` may change, by its arguments of these names."""

    def sized(self, size: Size | None, batch: int) -> Param:
        """Return the same param with another size and batch.

        Args:
            size: Length of each axis in px; `None` to keep its own.
            batch: Number of images per objective; 1 to keep its own.
        """


# ---------------------------------------------------------------------------------------------- transforms


@dataclass(frozen=True)
class TransformTraits:
    """What the engine needs to know about a transform besides its methods.

    Args:
        pointwise: Changes each pixel on its own, by a factor and an offset, and moves none. Geometric transforms before
            and after it are therefore still fused into one resampling.
        consumes_alpha: Takes images whose last channel is alpha and returns images without it.
    """

    pointwise: bool = False
    consumes_alpha: bool = False


@runtime_checkable
class HasTransformTraits(Protocol):
    """A transform that declares traits other than the defaults."""

    @property
    def traits(self) -> TransformTraits:
        """What the engine needs to know."""


def transform_traits_of(transform: object) -> TransformTraits:
    """Return the declared traits of a transform, or the defaults.

    Args:
        transform: Any transform or module.

    Returns:
        Its traits.
    """
    return transform.traits if isinstance(transform, HasTransformTraits) else TransformTraits()


@runtime_checkable
class Transform(Protocol):
    """A differentiable augmentation. `draw` makes the random numbers of each image, and `apply` uses them."""

    def draw(self, rng: Generators, shape: Shape) -> Any:
        """Draw the random numbers of each image.

        Args:
            rng: Random numbers, one generator per image.
            shape: Channels, height and width of the images.

        Returns:
            Anything that `apply` can use.
        """

    def apply(self, images: Float[Tensor, "n c *size"], draw: Any) -> Float[Tensor, "n c *size2"]:
        """Transform the images, differentiably.

        Args:
            images: In [0, 1].
            draw: The result of `draw`.

        Returns:
            The views.
        """


@runtime_checkable
class MovesMasks(Protocol):
    """A transform that moves pixels, and can move a mask along with them. Others are assumed not to move masks."""

    def move(self, masks: Float[Tensor, "n c *size"], draw: Any) -> Float[Tensor, "n c *size2"]:
        """Move masks as `apply` moves images with the same draw.

        Args:
            masks: In [0, 1].
            draw: The result of `draw`.

        Returns:
            The moved masks.
        """


@runtime_checkable
class Geometric(Protocol):
    """A transform that is an affine map of pixel coordinates. Successive ones are fused into one resampling."""

    def place(self, rng: Generators, size: Size) -> tuple[Float[Tensor, "n 3 3"], Size]:
        """Draw the map of each image from old to new pixel coordinates `(x, y, 1)`.

        Args:
            rng: Random numbers, one generator per image.
            size: Height and width of the images in px.

        Returns:
            The matrices, and the new height and width in px.
        """


@runtime_checkable
class Padding(Protocol):
    """A geometric transform that may add pixels around the image. It is not fused with the transforms before it."""

    @property
    def fill(self) -> float | None:
        """Value of the pixels outside of the image, in [0, 1]; `None` to mirror the image."""


Transforms = Sequence[Transform | Geometric | Module]
"""Transforms in the order in which they are applied. Modules of other libraries may be among them."""

# ---------------------------------------------------------------------------------------------- optimizers


class Stepper(Protocol):
    """A running optimizer."""

    def step(self) -> None:
        """Update the leaf tensors from their gradients, and clear the gradients."""


@runtime_checkable
class Recordable(Protocol):
    """A running optimizer whose steps can be recorded as a part of a CUDA graph.

    A step is then a fixed sequence of operations on the device that reads and changes nothing but the leaf tensors,
    their gradients and `state`: its learning rate, for example, may not be computed in Python.
    """

    @property
    def state(self) -> Sequence[Tensor] | None:
        """The other tensors that a step changes; `None` if steps cannot be recorded."""


@runtime_checkable
class Optimizer(Protocol):
    """The update rule of the leaf tensors."""

    def begin(self, leaves: Leaves, steps: int) -> Stepper:
        """Start an optimisation.

        Args:
            leaves: The leaf tensors.
            steps: Total number of steps, for schedules.

        Returns:
            The running optimizer.
        """


@runtime_checkable
class FiltersPixels(Protocol):
    """An optimizer that filters gradients over neighbouring pixels."""

    @property
    def needs_pixels(self) -> bool:
        """Whether the leaf tensors must be pixels, as params with the trait `pixels` declare."""


def needs_pixels(optimizer: object) -> bool:
    """Return whether an optimizer, or one that it contains, filters gradients over neighbouring pixels."""
    return isinstance(optimizer, FiltersPixels) and optimizer.needs_pixels


# ---------------------------------------------------------------------------------------------- progress

Progress = Callable[[int, int], None]
"""Called after every step with the number of steps done and the total number of steps."""

ProgressSource = Progress | Literal["live", "bar"]
"""A progress callback, or the name of one: `"live"` shows images as they form, and `"bar"` a bar."""


class ImageProgress(ABC):
    """A progress callback that is also given the images as they form, at the steps that it chooses.

    Derive from this class and give an object to `render`, `dream` or `replay` as `progress`. It cannot change the
    result, because it is given copies of the images. `KeyboardInterrupt` raised in it ends the render, which returns
    the images so far; other exceptions surface.
    """

    @abstractmethod
    def __call__(self, done: int, steps: int) -> None:
        """Report a step. Called after every one.

        Args:
            done: Number of steps done.
            steps: Number of all steps.
        """

    @abstractmethod
    def wants_images(self, done: int, steps: int) -> bool:
        """Return whether to call `show` now. Called after every step.

        Each time it returns true, the images are computed and, on a GPU, the CPU waits for them.

        Args:
            done: Number of steps done.
            steps: Number of all steps.
        """

    @abstractmethod
    def show(self, done: int, steps: int, images: Float[Tensor, "n c *size"]) -> None:
        """Use the images.

        Args:
            done: Number of steps done.
            steps: Number of all steps.
            images: The images after these steps in [0, 1], a copy on the CPU; with an alpha channel last, if the param
                has one. While `dream` is at a smaller octave, they have its size.
        """


# ---------------------------------------------------------------------------------------------- modules


@runtime_checkable
class EmbedsTexts(Protocol):
    """A module that embeds texts in the space of one of its layers, which embeds the images."""

    def embed_texts(self, texts: Sequence[str]) -> Float[Tensor, "n d"]:
        """Return the embeddings of texts.

        Args:
            texts: One or more texts.

        Returns:
            One vector of unit norm per text.
        """
