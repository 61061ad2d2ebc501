"""Canvases parameterized by their Fourier coefficients, or by the phases of these alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.checks import check_number
from featviz.errors import SettingError
from featviz.interfaces import Leaves, ParamTraits, Size, show_size
from featviz.network.neutral_state import neutral_state
from featviz.param.prior import Prior, UsesPrior
from featviz.param.spectrum import canvas_std, inverse_fft, natural_amplitudes, power_law
from featviz.random import Generators

COEFFICIENT_STEP_SCALE = 0.1
"""Change of a coefficient for a change of its leaf by 1, before the factor 1 / frequency^decay.

Source: measured; docs/quality.md. Lucid uses 0.25 with the same initial standard deviation. Smaller steps keep colours
    natural where the spectrum is as steep as here.
"""
TYPICAL_CANVAS_STD = 3.0
"""Standard deviation of the canvases of signals and volumes for leaves of standard deviation 1.

Source: standard deviation of canvases of images of 224 px with the default decay.
"""
PHASE_STEP_SCALE = 4.0
"""Change of a phase, in radians, for a change of its leaf by 1.

Source: chosen by visual inspection at a rate of 0.05; at the default rate, another network recognises more images
    (docs/quality.md). Fel et al. use NAdam at a rate of 1.
"""
NATURAL_CANVAS_STD = (1.7, 1.4, 1.6)
"""Standard deviation of the canvases of natural images along the axes of `Decorrelated`: lightness, two of colour.

Source: ratios measured on 200 photographs of ImageNet, scaled so that pixels have a standard deviation of 0.21.
"""


class _Spectral(UsesPrior):
    """Base of the params with an amplitude spectrum, which may come from a prior."""

    @property
    def traits(self) -> ParamTraits:
        """The default colour part uses the colour axes of the prior."""
        return ParamTraits(color_prior=None if self.prior is None else str(self.prior))


@dataclass(frozen=True)
class Fourier(_Spectral):
    """Fourier coefficients, scaled so that each contributes as much as in natural images.

    An optimizer such as Adam changes all leaves at about the same rate, so the scale sets the rate of each frequency:
    low frequencies get larger steps than high ones, which keeps high-frequency noise out.

    Args:
        decay: Exponent d of the scale 1 / frequency^d; 0 scales all frequencies equally. One number for all axes, or
            one for each, such as (0.9, 1.4, 1.4) for video, in which time is not like space. Ignored with a prior,
            except for the overall scale.
        std: Standard deviation of the initial leaves, >= 0. Larger values make the start harder to change.
        prior: Path of a file from `fit_prior`, whose amplitude spectrum replaces the power law; `None` for none.

    Raises:
        SettingError: `prior` is not a path, or `std` is out of its range.

    Source: Lucid, lucid/optvis/param/spatial.py, `fft_image`.
    Differs: decay 1.4 instead of 1, because the spectra of images are then as steep as those of photographs, and a
        smaller step scale; both measured, see docs/quality.md.
    """

    decay: float | tuple[float, ...] = 1.4
    std: float = 0.025
    prior: str | Path | None = None

    def __post_init__(self) -> None:
        """Convert the path of the prior to text, and check the standard deviation."""
        super().__post_init__()
        if isinstance(self.decay, list):
            object.__setattr__(self, "decay", tuple(self.decay))
        for decay in self.decay if isinstance(self.decay, tuple) else (self.decay,):
            check_number("decay of Fourier", decay, note=f"(default {Fourier.decay})")
        check_number("std of Fourier", self.std, at_least=0, note=f"(default {Fourier.std})")

    def start(self, rng: Generators, channels: int, size: Size) -> Leaves:
        """Draw the coefficients of each image; the last dimension holds real and imaginary parts."""
        self._check_axes(size)
        return [self.std * rng.normal(channels, *size[:-1], size[-1] // 2 + 1, 2)]

    def fit(self, canvas: Float[Tensor, "n c *size"]) -> Leaves:
        """Return the coefficients of a canvas."""
        size = tuple(canvas.shape[2:])
        self._check_axes(size)
        spectrum = torch.view_as_real(torch.fft.rfftn(canvas, s=size, norm="ortho"))
        return [spectrum / self._scale(size, canvas.device)]

    def canvas(self, leaves: Leaves, size: Size) -> Float[Tensor, "n c *size"]:
        """Scale the coefficients and transform them into a canvas."""
        return inverse_fft(leaves[0] * self._scale(size, leaves[0].device), size)

    def _check_axes(self, size: Size) -> None:
        if isinstance(self.decay, tuple) and len(self.decay) != len(size):
            raise SettingError(
                f"decay of Fourier must be one number, or one per axis of images of {show_size(size)} px, got "
                f"{self.decay}"
            )

    def _scale(self, size: Size, device: torch.device) -> Float[Tensor, "*any 2"]:
        return _scale(size, self.decay, self.loaded_prior, device)


@lru_cache(maxsize=16)
@neutral_state()
def _scale(
    size: Size, decay: float | tuple[float, ...], prior: Prior | None, device: torch.device
) -> Float[Tensor, "*any 2"]:
    """Return the factor from leaves to coefficients: step scale and amplitude spectrum in one product.

    The canvases of signals and volumes are scaled to the standard deviation that those of images usually have.

    With a prior, it differs between the colour axes, which have spectra of their own. Both kinds are scaled to canvases
    of the same standard deviation along the strongest axis, so that the same learning rates suit both.
    """
    scale = COEFFICIENT_STEP_SCALE * power_law(size, decay, device)
    if len(size) != 2:
        scale = scale * (TYPICAL_CANVAS_STD / canvas_std(scale, size))
    if prior is not None:
        amplitude = prior.amplitude(size, device)
        # A prior has no amplitude at frequency 0. Give it the largest one, so that the mean colour can change.
        amplitude.flatten(1)[:, 0] = amplitude.flatten(1).amax(1)
        scale = amplitude * (canvas_std(scale, size) / canvas_std(amplitude, size).amax())
    # Repeated for real and imaginary parts: a product that broadcasts over the last, contiguous dimension is slow.
    return scale[..., None].repeat(*[1] * scale.ndim, 2)


@dataclass(frozen=True)
class Phase(_Spectral):
    """Phases of the Fourier coefficients; amplitudes and the mean colour stay as in natural images (MACO).

    Use it with a canvas larger than the network's input, seen through `transforms.ResizedView`.

    Args:
        prior: Path of a file from `fit_prior`, whose amplitude spectrum to use; `None` for that of natural scenes. An
            image to start from keeps its own amplitudes.

    Raises:
        SettingError: `prior` is not a path; or, at `start`, it was fitted to images with another number of channels.

    Source: Fel et al. 2023, https://arxiv.org/abs/2306.06805, "MACO".
    Differs: initial phases are uniform in [-pi, pi), not normal, and canvases are not standardised. This avoids the
        colour cast of the published versions, and their spike of 50 to 100 standard deviations at pixel (0, 0): there
        all waves add up while their phases are near 0.
    """

    prior: str | Path | None = None

    def start(self, rng: Generators, channels: int, size: Size) -> Leaves:
        """Draw the phases of each image; the second tensor holds the fixed amplitudes."""
        phase = (2 * math.pi / PHASE_STEP_SCALE) * (rng.uniform(channels, *size[:-1], size[-1] // 2 + 1) - 0.5)
        return [phase, self._amplitude(channels, size).expand_as(phase).clone()]

    def fit(self, canvas: Float[Tensor, "n c *size"]) -> Leaves:
        """Return the phases of a canvas, and its amplitudes, which stay fixed."""
        spectrum = torch.fft.rfftn(canvas, s=canvas.shape[2:], norm="ortho")
        return [spectrum.angle() / PHASE_STEP_SCALE, spectrum.abs()]

    def canvas(self, leaves: Leaves, size: Size) -> Float[Tensor, "n c *size"]:
        """Compute the canvas with these phases. No gradient reaches the amplitudes, nor the phase of the mean."""
        phase, amplitude = leaves[0] * PHASE_STEP_SCALE, leaves[1].detach()
        # `rfftn` stores half of the spectrum of a real canvas; the other half is its complex conjugate. Column 0 and,
        # for an even width, the last column are conjugate to themselves, so only half of their phases are free.
        hermitian = _hermitian_column if len(size) == 2 else _hermitian_plane
        columns = [hermitian(phase[..., :1]), phase[..., 1:]]
        if size[-1] % 2 == 0 and size[-1] > 1:
            columns = [columns[0], phase[..., 1:-1], hermitian(phase[..., -1:])]
        phase = torch.cat(columns, -1)
        return inverse_fft(amplitude[..., None] * torch.stack((phase.cos(), phase.sin()), -1), size)

    def _amplitude(self, channels: int, size: Size) -> Float[Tensor, "c *size"]:
        cpu = torch.device("cpu")
        prior = self.loaded_prior
        if prior is None:
            is_color = channels == 3 and len(size) > 1
            std = torch.tensor(NATURAL_CANVAS_STD if is_color else (NATURAL_CANVAS_STD[0],) * channels)
            return std.view(-1, *[1] * len(size)) * natural_amplitudes(size, cpu)
        if prior.channels != channels:
            raise SettingError(
                f"{self.prior} was fitted to images with {prior.channels} channels, and the network's have {channels}; "
                f"fit a prior with channels={channels}, or --channels {channels}"
            )
        return prior.amplitude(size, cpu)


def _hermitian_column(phase: Float[Tensor, "n c h 1"]) -> Float[Tensor, "n c h 1"]:
    """Make the phases of a self-conjugate column those of a real canvas: phase[-row] = -phase[row].

    Without it, the inverse FFT would average each coefficient with the conjugate of its partner and so lose amplitude.
    Row 0 and, for an even height, the middle row are their own partners: a coefficient that equals its conjugate is
    real, so its phase is 0 or pi, whichever is nearer. No gradient leads through this choice.
    """
    height = phase.shape[2]
    upper, middle = phase[:, :, 1 : (height + 1) // 2], phase[:, :, height // 2 : height // 2 + 1 - height % 2]
    first, middle = ((row.detach().cos() < 0) * math.pi for row in (phase[:, :, :1], middle))
    return torch.cat([first, upper, middle, -upper.flip(2)], 2)


def _hermitian_plane(phase: Float[Tensor, "n c *plane 1"]) -> Float[Tensor, "n c *plane 1"]:
    """Enforce Hermitian symmetry, as `_hermitian_column`, for the single column of a signal and a plane of a volume.

    The partner of the index i along an axis of n is (n - i) % n, so a flip and a shift by 1 bring it to its place.
    """
    index = torch.arange(phase[0, 0].numel(), device=phase.device).view(phase.shape[2:])
    partner, of_partner = _partners(phase, first=2), _partners(index)
    real = (phase.detach().cos() < 0) * math.pi
    return torch.where(index < of_partner, phase, torch.where(index > of_partner, -partner, real))


def _partners(plane: Tensor, first: int = 0) -> Tensor:
    """Return the values at the negated index along each axis from the first one to the last but one."""
    axes = tuple(range(first, plane.ndim - 1))
    return plane.flip(axes).roll((1,) * len(axes), axes) if axes else plane
