"""Optimizers of leaf tensors, and filters of their gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.optim.adam import adam

from featviz.checks import check_kind, check_number
from featviz.errors import SettingError, shown
from featviz.interfaces import Leaves, Optimizer, Recordable, Stepper, needs_pixels
from featviz.transforms.blur import gaussian_blur

SYNONYMS = {"gradientascent": "Ascent", "sgd": "Ascent"}
"""Other names in the literature, in lower case and without hyphens."""
__all__ = ["Adam", "Ascent", "Clipped", "LaplacianNormalized", "Normalized", "Smoothed"]

MAX_LEVELS = 32
"""Largest number of levels of a Laplacian pyramid; each has half the sides of the one before."""
ADAM_EPSILON = 1e-8
"""What Adam adds to the root mean square of gradients. Source: PyTorch's default."""
LEAST_GRADIENT, USUAL_GRADIENT = 1e-6, 2.0**-10
"""Adam multiplies the gradients of an image whose first gradient has a root mean square below `LEAST_GRADIENT`, so that
it becomes about `USUAL_GRADIENT`.

Otherwise `ADAM_EPSILON` would be larger than the gradients, as those of a class with a probability of 1e-6 are at the
start, and the image would hardly change. Squares of still smaller gradients underflow, which also makes steps slow.
"""
MAX_EXPONENT = 120
"""Largest exponent of such a factor; that of the largest single-precision number is 127."""
MAX_GRADIENT = 2.0**60
"""Largest magnitude of multiplied gradients, so that their squares are finite if later gradients are far larger."""
MIN_RMS = 1e-37
"""Lower bound of the root mean square by which gradients are divided, whose inverse is finite in single precision."""


@dataclass(frozen=True)
class Adam:
    """Adam with a cosine-annealed learning rate and decoupled decay towards the start (L2-SP).

    Each step also moves the leaf tensors a small fraction of the way back to their initial values. Features
    without a lasting gradient fade, so that more steps do not keep raising the contrast.

    Args:
        lr: Learning rate of the first step, > 0. Its effect depends on the scale of the param's leaf tensors.
        final_lr_ratio: Learning rate of the last step as a fraction of the first, >= 0.
        anchor_decay: Each step removes the share rate * anchor_decay of the distance to the start; in
            [0, 1 / lr), 0 for no decay.
        betas: Decay of the running means of the gradient and of its square, per step, each in [0, 1).

    Raises:
        SettingError: A value is out of its range.

    Source: Lucid, lucid/optvis/render.py, Adam at 0.05; Li et al. 2018, https://arxiv.org/abs/1802.01483, decay
        towards the start; Loshchilov and Hutter 2017, https://arxiv.org/abs/1711.05101, decay apart from Adam's step.
    Differs: the rate decreases, the leaf tensors decay towards their start, and the running means are shorter than the
        usual (0.9, 0.999): views change with each step and images over hundreds of them; measured, docs/quality.md.
        Gradients of an image whose first one is tiny are multiplied by a constant, so that an objective may have almost
        any scale.
    """

    lr: float = 0.12
    final_lr_ratio: float = 0.05
    anchor_decay: float = 0.1
    betas: tuple[float, float] = (0.5, 0.9)

    def __post_init__(self) -> None:
        """Check the values."""
        _check_lr(self.lr, Adam.lr)
        check_number("final_lr_ratio", self.final_lr_ratio, at_least=0, note=f"(default {Adam.final_lr_ratio})")
        check_number("anchor_decay", self.anchor_decay, note=f"(default {Adam.anchor_decay})")
        if not 0 <= self.lr * self.anchor_decay < 1:
            raise SettingError(
                f"lr * anchor_decay must be in [0, 1), got {self.lr:g} * {self.anchor_decay:g} "
                f"(defaults {Adam.lr} * {Adam.anchor_decay})"
            )
        _check_betas(self.betas, Adam.betas)
        object.__setattr__(self, "betas", tuple(map(float, self.betas)))

    def begin(self, leaves: Leaves, steps: int) -> Stepper:
        """Start an optimisation of these tensors over this many steps."""
        anchors = [leaf.detach().clone() for leaf in leaves] if self.anchor_decay else []
        lowest, half = self.lr * self.final_lr_ratio, math.pi / max(1, steps)
        rates = [lowest + (self.lr - lowest) * (1 + math.cos(half * i)) / 2 for i in range(max(1, steps))]
        kind = _RecordableAdam if leaves[0].is_cuda else _AnchoredAdam
        return kind(leaves, anchors, rates, self.anchor_decay, self.betas)


class _AnchoredAdam:
    """Adam with a rate for each step, followed by a step towards the anchors; without anchors, there is no decay.

    Steps are made by PyTorch's function `adam`. Its class of the same name imports the compiler of PyTorch when it is
    made, which takes longer than a small render.

    Args:
        leaves: The leaf tensors.
        anchors: Their values at the start, or none.
        rates: Learning rate of each step.
        anchor_decay: Decay towards the anchors per step and rate.
        betas: Decay of the running means of the gradient and of its square.
    """

    capturable = False

    def __init__(
        self, leaves: Leaves, anchors: Leaves, rates: list[float], anchor_decay: float, betas: tuple[float, float]
    ) -> None:
        self._leaves, self._anchors, self._anchor_decay, self._betas = leaves, anchors, anchor_decay, betas
        self._rates, self._done = rates, 0
        self._tiny_gradients = _TinyGradients(leaves)
        self._means = [torch.zeros_like(leaf) for leaf in leaves]
        self._squares = [torch.zeros_like(leaf) for leaf in leaves]
        self._counts = [torch.zeros((), dtype=torch.float32, device=leaf.device) for leaf in leaves]

    def step(self) -> None:
        """Update the leaf tensors from their gradients, and clear the gradients."""
        self._update(self._rates[self._done])
        self._done += 1

    @torch.no_grad()
    def _update(self, rate: float | Tensor) -> None:
        self._tiny_gradients.multiply()
        rows = zip(self._leaves, self._means, self._squares, self._counts, strict=True)
        reached = [(leaf, leaf.grad, *state) for leaf, *state in rows if leaf.grad is not None]
        if reached:
            leaves, grads, means, squares, counts = map(list, zip(*reached, strict=True))
            adam(
                leaves, grads, means, squares, [], counts, fused=True, capturable=self.capturable, amsgrad=False,
                beta1=self._betas[0], beta2=self._betas[1], lr=rate, weight_decay=0.0, eps=ADAM_EPSILON, maximize=False,
            )  # fmt: skip
        decay = self._anchor_decay * rate if self._anchors else 0.0
        for leaf, anchor in zip(self._leaves, self._anchors, strict=False):
            leaf.lerp_(anchor, decay)
        _clear_gradients(self._leaves)


class _TinyGradients:
    """Multiply the gradients of images whose first gradient is tiny.

    An image has one factor for all of its tensors, a power of 2, which rounds nothing. Where the lengths of the tensors
    differ, because the batch shares some, all get one factor.

    Args:
        leaves: The leaf tensors.
    """

    def __init__(self, leaves: Leaves) -> None:
        self._leaves = [leaf for leaf in leaves if leaf.requires_grad and leaf.numel()]
        counts = set(map(_row_count, self._leaves))
        self._count = counts.pop() if len(counts) == 1 else 1
        self._factor: Tensor | None = None
        self._had_gradient: Tensor | None = None
        self._is_measured = False

    def multiply(self) -> None:
        """Multiply the gradients in place.

        Waits for the device until each image has had a gradient, except while the step is recorded.
        """
        grads = [leaf.grad for leaf in self._leaves if leaf.grad is not None]
        if not grads:
            return
        is_recorded = grads[0].is_cuda and torch.cuda.is_current_stream_capturing()
        if not self._is_measured and not is_recorded:
            self._measure(grads)
        if self._factor is not None:
            for grad in grads:
                _multiply_rows(grad, self._factor).clamp_(-MAX_GRADIENT, MAX_GRADIENT)

    def _measure(self, grads: list[Tensor]) -> None:
        """Set the factors of images that have a gradient for the first time."""
        gradient = _rms([grad.reshape(self._count, -1) for grad in grads])
        if self._factor is None or self._had_gradient is None:
            self._factor, self._had_gradient = torch.ones_like(gradient), torch.zeros_like(gradient, dtype=torch.bool)
        is_tiny = (gradient > 0) & (gradient < LEAST_GRADIENT)
        found = torch.where(is_tiny, USUAL_GRADIENT / gradient, 1).log2().round().clamp(max=MAX_EXPONENT).exp2()
        self._factor.copy_(torch.where(self._had_gradient, self._factor, found))  # in place, for recorded steps
        self._had_gradient |= gradient > 0
        self._is_measured = bool(self._had_gradient.all())
        if self._is_measured and bool((self._factor == 1).all()):  # the usual case
            self._factor = None


def _row_count(leaf: Tensor) -> int:
    """Return the length of the first dimension; 1 for a single number."""
    return len(leaf) if leaf.ndim else 1


def _multiply_rows(grad: Tensor, factor: Float[Tensor, " rows"]) -> Tensor:
    """Multiply each row of a gradient by its own factor, in place."""
    return grad.mul_(factor.view(-1, *[1] * (grad.ndim - 1)) if grad.ndim else factor[0])


class _RecordableAdam(_AnchoredAdam):
    """Adam whose learning rates and count of steps are on the device, so that its steps can be recorded."""

    capturable = True

    def __init__(
        self, leaves: Leaves, anchors: Leaves, rates: list[float], anchor_decay: float, betas: tuple[float, float]
    ) -> None:
        super().__init__(leaves, anchors, rates, anchor_decay, betas)
        self._rates_on_device = torch.tensor(rates, device=leaves[0].device)
        self._index = torch.zeros(1, dtype=torch.int64, device=leaves[0].device)
        self._rate = self._rates_on_device[0].clone()

    @property
    def state(self) -> list[Tensor]:
        """The tensors that a step changes besides the leaf tensors."""
        return [self._index, self._rate, *self._means, *self._squares, *self._counts]

    @torch.no_grad()
    def step(self) -> None:
        self._rate.copy_(self._rates_on_device.index_select(0, self._index)[0])
        self._update(self._rate)
        self._index.add_(1)


@dataclass(frozen=True)
class Ascent:
    """Plain gradient ascent: a step is the gradient of the score times the rate.

    Args:
        lr: Learning rate of every step, > 0.

    Raises:
        SettingError: `lr` is out of its range.
    """

    lr: float = 1.0

    def __post_init__(self) -> None:
        """Check the rate."""
        _check_lr(self.lr, Ascent.lr)

    def begin(self, leaves: Leaves, steps: int) -> Stepper:
        """Start an optimisation of these tensors."""
        return _Ascending(leaves, self.lr)


@dataclass(frozen=True)
class _Ascending:
    """Steps along the gradient, without state."""

    leaves: Leaves
    lr: float
    state: Sequence[Tensor] = ()

    @torch.no_grad()
    def step(self) -> None:
        for leaf in self.leaves:
            if leaf.grad is not None:
                leaf.add_(leaf.grad, alpha=-self.lr)  # the gradient is that of the negative score
        _clear_gradients(self.leaves)


def _clear_gradients(leaves: Leaves) -> None:
    for leaf in leaves:
        leaf.grad = None


def _check_lr(lr: float, default: float) -> None:
    check_number("lr", lr, above=0, note=f"(default {default})")


def _check_betas(betas: Any, default: tuple[float, float]) -> None:
    is_pair = isinstance(betas, tuple | list) and len(betas) == 2
    if not is_pair or not all(isinstance(each, int | float | np.floating) and 0 <= each < 1 for each in betas):
        raise SettingError(f"betas must be two numbers in [0, 1), got {shown(betas)} (default {default})")


def _check_inner(owner: object, optimizer: object) -> None:
    check_kind(f"optimizer of {type(owner).__name__}", optimizer, Optimizer, "use e.g. optimizers.Ascent()")


# ---------------------------------------------------------------------------------------------- gradient length


@dataclass(frozen=True)
class Normalized:
    """Scale the gradient of each image to a root mean square of 1 for another optimizer.

    With `Ascent` the rate alone then sets the length of a step. Tensors that several images share are scaled on their
    own.

    Args:
        optimizer: The optimizer that gets the scaled gradients.

    Raises:
        SettingError: `optimizer` is no optimizer.

    Source: google/deepdream, dream.ipynb, `make_step`.
    Differs: the root mean square instead of the mean magnitude.
    """

    optimizer: Optimizer = Ascent()

    @property
    def needs_pixels(self) -> bool:
        """Whether the leaf tensors must be pixels, for the inner optimizer."""
        return needs_pixels(self.optimizer)

    def __post_init__(self) -> None:
        """Check the inner optimizer."""
        _check_inner(self, self.optimizer)

    def begin(self, leaves: Leaves, steps: int) -> Stepper:
        """Start an optimisation of these tensors over this many steps."""
        return _ScaledGradients(self.optimizer.begin(leaves, steps), leaves, lambda rms: 1 / rms.clamp(min=MIN_RMS))


@dataclass(frozen=True)
class Clipped:
    """Limit the root mean square of the gradient of each image for another optimizer.

    Gradients with a larger root mean square are scaled down and keep their direction. Tensors that several images
    share are limited on their own.

    Args:
        most: Largest root mean square, > 0.
        optimizer: The optimizer that gets the clipped gradients.

    Raises:
        SettingError: `most` is out of its range.
    """

    most: float
    optimizer: Optimizer = Ascent()

    @property
    def needs_pixels(self) -> bool:
        """Whether the leaf tensors must be pixels, for the inner optimizer."""
        return needs_pixels(self.optimizer)

    def __post_init__(self) -> None:
        """Check the limit."""
        check_number("most", self.most, above=0, note="(largest root mean square of a gradient)")
        _check_inner(self, self.optimizer)

    def begin(self, leaves: Leaves, steps: int) -> Stepper:
        """Start an optimisation of these tensors over this many steps."""
        stepper = self.optimizer.begin(leaves, steps)
        return _ScaledGradients(stepper, leaves, lambda rms: (self.most / rms.clamp(min=MIN_RMS)).clamp(max=1))


@dataclass(frozen=True)
class _ScaledGradients:
    """Multiply the gradients of each image by a factor that depends on their root mean square, then step."""

    stepper: Stepper
    leaves: Leaves
    factor: Callable[[Tensor], Tensor]

    @property
    def state(self) -> Sequence[Tensor] | None:
        """State of the wrapped optimizer; `None` if its steps cannot be recorded."""
        return state_of(self.stepper)

    def step(self) -> None:
        for count, grads in self._groups().items():
            # One root mean square per image over all of its tensors, so that the direction of its gradient stays.
            factor = self.factor(_rms([grad.reshape(count, -1) for grad in grads]))
            for grad in grads:
                _multiply_rows(grad, factor)
        self.stepper.step()

    def _groups(self) -> dict[int, list[Tensor]]:
        """Group the gradients by their number of rows: those of the images apart from those of shared tensors."""
        groups: dict[int, list[Tensor]] = {}
        for leaf in self.leaves:
            if leaf.grad is not None and leaf.grad.numel():
                groups.setdefault(_row_count(leaf), []).append(leaf.grad)
        return groups


# ---------------------------------------------------------------------------------------------- gradient filters


@dataclass(frozen=True)
class Smoothed:
    """Blur the gradients for another optimizer, to keep fine noise out of images parameterized by pixels.

    Args:
        std: Standard deviation of the Gaussian in px, > 0.
        optimizer: The optimizer that gets the blurred gradients.

    Raises:
        SettingError: `std` is out of its range; or, in `render`, the param does not optimise the pixels of images.

    Source: ProGamerGov, neural-dream, and other descendants of google/deepdream.
    """

    std: float
    optimizer: Optimizer = Normalized()

    @property
    def needs_pixels(self) -> bool:
        """Whether the leaf tensors must be pixels."""
        return True

    def __post_init__(self) -> None:
        """Check the standard deviation."""
        check_number("std of Smoothed", self.std, above=0)
        _check_inner(self, self.optimizer)

    def begin(self, leaves: Leaves, steps: int) -> Stepper:
        """Start an optimisation of these tensors over this many steps."""
        return _FilteredGradients(self.optimizer.begin(leaves, steps), leaves, self._blur)

    def _blur(self, gradient: Tensor) -> Tensor:
        return gaussian_blur(gradient, self.std)


@dataclass(frozen=True)
class LaplacianNormalized:
    """Make every octave of spatial frequency of the gradients equally strong for another optimizer.

    Gradients of networks are strongest at high frequencies; this makes large shapes appear as well.

    Args:
        levels: Number of octaves, >= 1, that are separated from the low-frequency rest.
        optimizer: The optimizer that gets the filtered gradients.

    Raises:
        SettingError: `levels` is out of its range; or, in `render`, the param does not optimise the pixels of images.

    Source: TensorFlow's deepdream tutorial, deepdream.ipynb, "Laplacian Pyramid Gradient Normalization".
    """

    levels: int = 4
    optimizer: Optimizer = Normalized()

    @property
    def needs_pixels(self) -> bool:
        """Whether the leaf tensors must be pixels."""
        return True

    def __post_init__(self) -> None:
        """Check the number of levels."""
        note = f"(default {LaplacianNormalized.levels})"
        check_number("levels", self.levels, at_least=1, at_most=MAX_LEVELS, whole=True, note=note)
        _check_inner(self, self.optimizer)

    def begin(self, leaves: Leaves, steps: int) -> Stepper:
        """Start an optimisation of these tensors over this many steps."""
        return _FilteredGradients(self.optimizer.begin(leaves, steps), leaves, self._equalise)

    def _equalise(self, gradient: Tensor) -> Tensor:
        """Split a gradient into a Laplacian pyramid, scale each level to a root mean square of 1, and add them up."""
        bands, rest = [], gradient
        for _ in range(self.levels):
            if min(rest.shape[2:]) < 2:
                break
            # By size: with a factor, odd sides would be sampled at other places than `interpolate` enlarges them from.
            low = F.interpolate(rest, [-(-side // 2) for side in rest.shape[2:]], mode="bilinear", antialias=True)
            bands.append(rest - F.interpolate(low, rest.shape[2:], mode="bilinear"))
            rest = low
        equalised = _unit_rms(rest)
        for band in reversed(bands):
            equalised = F.interpolate(equalised, band.shape[2:], mode="bilinear") + _unit_rms(band)
        return equalised


@dataclass(frozen=True)
class _FilteredGradients:
    """Filter the gradient of each tensor, then step."""

    stepper: Stepper
    leaves: Leaves
    filter: Callable[[Tensor], Tensor]

    @property
    def state(self) -> Sequence[Tensor] | None:
        """State of the wrapped optimizer; `None` if its steps cannot be recorded."""
        return state_of(self.stepper)

    def step(self) -> None:
        for leaf in self.leaves:
            if leaf.grad is not None:
                leaf.grad.copy_(self.filter(leaf.grad))
        self.stepper.step()


def state_of(stepper: Stepper) -> Sequence[Tensor] | None:
    """Return the tensors that a step changes besides the leaf tensors; `None` where a step may change anything else."""
    # An optimizer of PyTorch has a dict named `state`, and may read settings and step numbers that are Python's.
    is_torch = isinstance(stepper, torch.optim.Optimizer)
    return stepper.state if isinstance(stepper, Recordable) and not is_torch else None


def _rms(parts: Sequence[Float[Tensor, "n _"]]) -> Float[Tensor, " n"]:
    """Return the root mean square of each row over all parts, also of numbers whose squares underflow or overflow."""
    peak = torch.stack([part.abs().amax(1) for part in parts]).amax(0)
    unit = torch.where(peak > 0, peak, 1).log2().floor().exp2()  # a division by a power of 2 rounds nothing
    squares = torch.stack([(part / unit[:, None]).square().sum(1) for part in parts]).sum(0)
    return unit * (squares / sum(part.shape[1] for part in parts)).sqrt()


def _unit_rms(band: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    return band / _rms([band.flatten(1)]).clamp(min=MIN_RMS).view(-1, 1, 1, 1)
