"""Images as outputs of a generator: a GAN, the decoder of a VAE or diffusion model, or any module of latents."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

from featviz.checks import check_number, check_size, check_text, check_two_axes
from featviz.errors import SettingError, shown
from featviz.interfaces import Leaves, Size
from featviz.io import resize
from featviz.network.loading.weights import load_weights
from featviz.network.state_hash import state_hash, weights_of
from featviz.network.trees import first_tensor
from featviz.param.fitting import fit_leaves
from featviz.param.image import MAX_BATCH
from featviz.random import Generators

MAX_LATENT = 10_000_000
"""Largest number of values in the latent of one image."""
INITIAL_STD = 0.1
"""Default standard deviation of the initial latents.

Source: measured with `benchmarks/generators.py`: after 64 steps, an independent network recognises 81 % of the class
    images at a rate of 0.1. With 1 the random colours of the start remain, and it recognises 41 % at the default rate.
"""
FIT_STEPS, FIT_LR = 300, 0.1
"""Steps and initial rate of Adam in `fit`."""

_on_devices: WeakKeyDictionary[nn.Module, dict[torch.device, nn.Module]] = WeakKeyDictionary()
"""Copies of each module on other devices."""


@dataclass(frozen=True, init=False, eq=False, repr=False)
class Generator:
    """Images that a module makes from latents, which are optimised: they stay among those that the module can draw.

    Each leaf tensor is the latent of an image, drawn from a normal distribution around 0, the mean of the latents on
    which most generators are trained. `truncation` and `penalty` keep latents near those of its training.

    A recipe stores the name of the module and the weights file with its hash, or a hash of the weights. It runs no
    code, so a replay needs the module: `own={"MotifDecoder": MotifDecoder}`, or `--own vae.py:MotifDecoder`.

    Use transforms with a narrower zoom than the default's 0.6 to 2, such as `(T.Shift(0.2), T.Rotate(15),
    T.Scale(T.LogUniform(0.8, 1.25)), T.ColorShift(0.3))`, and `lr=0.1`: a generator draws objects at about the
    sizes of its training images. docs/quality.md compares the two.

    Args:
        module: Maps latents `(n, *shape)` to images (n, channels, h, w), as its output or the first tensor in it; or a
            class or function without arguments that makes such a module. A copy is used, in eval mode.
        shape: Shape of the latent of one image, such as `(512,)` or `(4, 32, 32)`.
        weights: File of the module's weights: safetensors or a state_dict; `None` for those that it has.
        size: Height and width in px, or one side, to which the images are resized; `None` for the network's input size.
        batch: Number of images per objective, >= 1.
        output_range: Output values of black and white. Others are clipped.
        std: Standard deviation of the initial latents, >= 0. With 1, the start is a random image of the module, which
            takes longer to change.
        truncation: Bound t > 0 of each number: latents are t * tanh(leaf / t). `None` for no bound.
        penalty: Weight of half the squared L2 norm of the latent, which is subtracted from the score, >= 0. The
            history of scores does not contain it.
        fingerprint: Hash that the weights must have, for recipes; empty for any.

    Raises:
        SettingError: A value is out of its range, `module` is no `nn.Module`, or its weights do not have the hash
            `fingerprint`.
        WeightsError: The file cannot be read or does not fit; the message names the keys.

    Source: Nguyen et al. 2016, https://arxiv.org/abs/1605.09304, a generator's latent instead of pixels; truncation:
        Brock et al. 2018, https://arxiv.org/abs/1809.11096, section 3.1.
    Differs: latents are bounded smoothly instead of being drawn again, since they are optimised.
    """

    module: nn.Module
    name: str
    shape: tuple[int, ...]
    weights: str | None
    size: Size | None
    batch: int
    output_range: tuple[float, float]
    std: float
    truncation: float | None
    penalty: float
    fingerprint: str

    def __init__(
        self,
        module: nn.Module | Callable[[], nn.Module],
        shape: int | tuple[int, ...],
        weights: str | Path | None = None,
        *,
        size: int | Size | None = None,
        batch: int = 1,
        output_range: tuple[float, float] = (0.0, 1.0),
        std: float = INITIAL_STD,
        truncation: float | None = None,
        penalty: float = 0.0,
        fingerprint: str = "",
    ) -> None:
        shape = _latent_shape(shape)
        size = None if size is None else check_size("size of Generator", size)
        check_number("batch", batch, at_least=1, at_most=MAX_BATCH, whole=True)
        check_number("std of Generator", std, at_least=0, note=f"(default {INITIAL_STD})")
        check_number("penalty of Generator", penalty, at_least=0, note="(default 0.0)")
        if truncation is not None:
            check_number("truncation of Generator", truncation, above=0, note="(usual: 2; None for no bound)")
        check_text("fingerprint of Generator", fingerprint)
        name, module = _own_copy(module)
        if weights is not None:
            load_weights(module, _path(weights))
        found = state_hash(weights_of(module))
        if fingerprint not in ("", found):
            raise SettingError(f"the weights of {name} must have the hash {fingerprint}, got {found}; load them first")
        vars(self).update(
            module=module,
            name=name,
            shape=shape,
            weights=None if weights is None else str(weights),
            size=size,
            batch=batch,
            output_range=_range(output_range),
            std=std,
            truncation=truncation,
            penalty=penalty,
            fingerprint=found,
        )

    @property
    def files(self) -> tuple[str, ...]:
        """Path of the weights, if they come from a file."""
        return () if self.weights is None else (self.weights,)

    def start(self, rng: Generators, channels: int, size: Size) -> Leaves:
        """Draw the latent of each image.

        Raises:
            SettingError: The module does not output images with the network's channels.
        """
        self._check(channels, size)
        latent = self.std * rng.normal(*self.shape)
        if self.truncation is not None:  # the leaf whose bounded latent is nearest to the one that was drawn
            latent = self.truncation * (latent / self.truncation).clamp(-0.999, 0.999).atanh()
        return [latent]

    def fit(self, images: Float[Tensor, "n c h w"]) -> Leaves:
        """Find with Adam latents whose images have the smallest squared error."""
        size = tuple(images.shape[2:])
        self._check(images.shape[1], size)
        start = [torch.zeros(len(images), *self.shape, device=images.device)]
        return fit_leaves(start, partial(self._images, size=size), images, steps=FIT_STEPS, lr=FIT_LR)

    def images(self, leaves: Leaves, size: Size) -> Float[Tensor, "n c h w"]:
        """Compute the images in [0, 1], differentiably."""
        return self._images(leaves, size, self.penalty)

    def _images(self, leaves: Leaves, size: Size, penalty: float = 0.0) -> Float[Tensor, "n c h w"]:
        latent = leaves[0]
        if self.truncation is not None:
            latent = self.truncation * (latent / self.truncation).tanh()
        if penalty and latent.requires_grad:
            latent = _penalise(latent, penalty)
        low, high = self.output_range
        output = _output(_on(self.module, latent.device), latent).to(latent)  # from half precision, too
        return resize((output - low) / (high - low), size).clamp(0, 1)

    def sized(self, size: Size | None, batch: int) -> Generator:
        """Return the same generator with another size and batch.

        Args:
            size: Height and width in px; `None` to keep its own.
            batch: Number of images per objective; 1 to keep its own.
        """
        other = copy.copy(self)
        vars(other).update(size=size or self.size, batch=batch if batch != 1 else self.batch)
        return other

    def __repr__(self) -> str:
        """Return the call, with the name of the module; a recipe holds this text."""
        named = {
            "size": None,
            "batch": 1,
            "output_range": (0.0, 1.0),
            "std": INITIAL_STD,
            "truncation": None,
            "penalty": 0.0,
        }
        given = {key: value for key in named if (value := getattr(self, key)) != named[key]}
        if self.weights is None:
            given["fingerprint"] = self.fingerprint
        more = "".join(f", {key}={value!r}" for key, value in given.items())
        return f"Generator({self.name}, {self.shape}{'' if self.weights is None else f', {self.weights!r}'}{more})"

    def __eq__(self, other: object) -> bool:
        """Whether the other one has a module of the same name and weights, and the same values."""
        return isinstance(other, Generator) and (repr(self), self.fingerprint) == (repr(other), other.fingerprint)

    def __hash__(self) -> int:
        """Return the hash of its text and weights."""
        return hash((repr(self), self.fingerprint))

    def _check(self, channels: int, size: Size) -> None:
        """Run the module on one latent, and check its output.

        Raises:
            SettingError: The network does not optimise images, or the module outputs none with its channels.
        """
        check_two_axes(f"Generator({self.name})", size, "use another param, such as param.Fourier()")
        device = next((each.device for each in self.module.parameters()), torch.device("cpu"))
        try:
            with torch.no_grad():
                output = _output(self.module, torch.zeros(1, *self.shape, device=device))
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            shape = _text(self.shape)
            raise SettingError(f"{self.name} does not accept float32 latents of shape (n, {shape}): {error}") from error
        if output.ndim != 4 or output.shape[:2] != (1, channels):
            raise SettingError(
                f"the module of Generator must output images (n, {channels}, h, w), {self.name} returned "
                f"{tuple(output.shape)} for one latent"
            )


class _Penalised(torch.autograd.Function):
    """Return a latent unchanged, with the gradient of a penalty on its length added to that of the loss."""

    @staticmethod
    def forward(ctx: Any, latent: Tensor, weight: float) -> Tensor:
        ctx.save_for_backward(latent)
        ctx.weight = weight
        return latent.view_as(latent)

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (latent,) = ctx.saved_tensors
        return gradient + ctx.weight * latent, None


def _penalise(latent: Tensor, weight: float) -> Tensor:
    return _Penalised.apply(latent, weight)  # type: ignore[no-untyped-call,no-any-return]


def _own_copy(given: nn.Module | Callable[[], nn.Module]) -> tuple[str, nn.Module]:
    """Return the name of a module and a frozen copy of it in eval mode.

    Raises:
        SettingError: `given` is no module, and makes none.
    """
    module, name = given, type(given).__name__
    if not isinstance(given, nn.Module) and callable(given):
        name = getattr(given, "__name__", name)
        try:
            module = given()
        except TypeError as error:
            instead = "give Generator a module, or a function without arguments"
            raise SettingError(f"{name} needs arguments; {instead}") from error
    if not isinstance(module, nn.Module):
        raise SettingError(f"Generator needs an nn.Module, or a function that makes one, got {shown(given)}")
    return name, copy.deepcopy(module).eval().requires_grad_(False)


def _latent_shape(shape: Any) -> tuple[int, ...]:
    sides = (shape,) if isinstance(shape, int) else tuple(shape) if isinstance(shape, tuple | list) else ()
    if not sides:
        raise SettingError(f"shape of Generator must be a tuple of whole numbers, got {shown(shape)}")
    for side in sides:
        check_number("each number in shape of Generator", side, at_least=1, at_most=MAX_LATENT, whole=True)
    if torch.Size(sides).numel() > MAX_LATENT:
        raise SettingError(f"shape of Generator must have at most {MAX_LATENT} values, got {_text(sides)}")
    return tuple(int(side) for side in sides)


def _range(given: Any) -> tuple[float, float]:
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise SettingError(f"output_range of Generator must be two numbers, such as (-1, 1), got {shown(given)}")
    for each in given:
        check_number("each number in output_range of Generator", each)
    if not given[0] < given[1]:
        raise SettingError(f"output_range of Generator must be (black, white) with black < white, got {shown(given)}")
    return float(given[0]), float(given[1])


def _path(weights: Any) -> Path:
    if not isinstance(weights, str | Path) or not str(weights):
        raise SettingError(f"weights of Generator must be the path of a file, got {shown(weights)}")
    return Path(weights)


def _text(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))


def _on(module: nn.Module, device: torch.device) -> nn.Module:
    """Return the module on a device: itself, or a copy that is kept for the next step."""
    own = next((each.device for each in module.parameters()), device)
    if own == device:
        return module
    copies = _on_devices.setdefault(module, {})
    if device not in copies:
        copies[device] = copy.deepcopy(module).to(device)
    return copies[device]


def _output(module: nn.Module, latent: Tensor) -> Tensor:
    """Run a module, and return the first tensor of its output."""
    output = first_tensor(module(latent))
    if output is None:
        raise SettingError(f"{type(module).__name__} returned no tensor; the module of Generator must output images")
    return output
