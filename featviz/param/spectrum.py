"""Spatial frequencies, and the amplitude spectra of natural images."""

from __future__ import annotations

import math
from functools import lru_cache, reduce
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.interfaces import Size
from featviz.network.neutral_state import neutral_state
from featviz.param.windows import hann_window

NATURAL_DECAY = 1.2
"""Exponent d of the amplitude spectrum 1 / frequency^d of photographs of natural scenes.

Source: Tolhurst, Tadmor and Chao 1992, "Amplitude spectra of natural images", Ophthalmic and Physiological Optics 12.
"""


@lru_cache(maxsize=16)
@neutral_state()
def frequencies(size: Size, device: torch.device) -> Float[Tensor, "*half"]:
    """Return the spatial frequency of each coefficient of `torch.fft.rfftn`.

    Args:
        size: Length of each axis in px: height and width of an image.
        device: Device of the result.

    Returns:
        Frequencies in cycles/px, with `size[-1] // 2 + 1` columns.
    """
    return reduce(torch.hypot, _frequencies_of_axes(size, device))


def _frequencies_of_axes(size: Size, device: torch.device) -> list[Tensor]:
    """Return the frequencies along each axis, shaped so that they broadcast with those along the others."""
    found = [torch.fft.fftfreq(side, device=device) for side in size[:-1]]
    found.append(torch.fft.rfftfreq(size[-1], device=device))
    return [each.view(-1, *[1] * (len(size) - 1 - i)) for i, each in enumerate(found)]


def power_law(size: Size, decay: float | tuple[float, ...], device: torch.device) -> Float[Tensor, "*half"]:
    """Return 1 / frequency^decay for each coefficient of `torch.fft.rfftn`.

    Frequencies are clamped to at least one cycle per longest side, so that the value at frequency 0 is finite.

    Args:
        size: Length of each axis in px: height and width of an image.
        decay: Exponent; 0 gives 1 everywhere. With one per axis, such as another for time than for space, the result is
            a product: one factor for all axes with the same exponent.
        device: Device of the result.

    Returns:
        Amplitudes > 0, with `size[-1] // 2 + 1` columns.
    """
    if not isinstance(decay, tuple):
        return frequencies(size, device).clamp(min=1 / max(size)) ** -decay
    axes, amplitude = _frequencies_of_axes(size, device), torch.ones((), device=device)
    for exponent in dict.fromkeys(decay):
        alike = [i for i, each in enumerate(decay) if each == exponent]
        frequency = reduce(torch.hypot, [axes[i].abs() for i in alike])
        amplitude = amplitude * frequency.clamp(min=1 / max(size[i] for i in alike)) ** -exponent
    return amplitude


@lru_cache(maxsize=16)
@neutral_state()
def natural_amplitudes(size: Size, device: torch.device) -> Float[Tensor, "*half"]:
    """Return the amplitude spectrum of natural images, scaled so that canvases have mean 0 and standard deviation 1.

    Args:
        size: Length of each axis in px: height and width of an image.
        device: Device of the result.

    Returns:
        Amplitudes >= 0, with `size[-1] // 2 + 1` columns.
    """
    amplitude = power_law(size, default_decay(len(size), NATURAL_DECAY), device)
    amplitude[(0,) * len(size)] = 0
    return amplitude / canvas_std(amplitude, size).clamp(min=1e-12)


def default_decay(axes: int, of_images: float) -> float:
    """Return the exponent with which each octave has the same share of the variance as in images.

    The number of frequencies in an octave grows with frequency^axes, so the exponent grows by 1/2 with each axis.

    Args:
        axes: Number of axes.
        of_images: Exponent for two axes.

    >>> default_decay(1, 1.4), default_decay(2, 1.4), default_decay(3, 1.4)
    (0.9, 1.4, 1.9)
    """
    return round(of_images + (axes - 2) / 2, 6)


def canvas_std(amplitude: Float[Tensor, "*any"], size: Size) -> Float[Tensor, "*ones"]:
    """Return the root mean square of a canvas with these amplitudes, whatever its phases are.

    Args:
        amplitude: Amplitudes of the coefficients of `torch.fft.rfftn` with `norm="ortho"`.
        size: Length of each axis of the canvas in px.

    Returns:
        One number per channel; the standard deviation where the amplitude at frequency 0 is 0.
    """
    axes = tuple(range(-len(size), 0))
    total = (amplitude.square() * column_counts(size[-1], amplitude.device)).sum(axes, keepdim=True)
    return (total / math.prod(size)).sqrt()  # Parseval's theorem


def column_counts(width: int, device: torch.device) -> Float[Tensor, " column"]:
    """Return how many columns of the whole spectrum each column of `torch.fft.rfftn` stands for.

    It stands for itself and its conjugate, except column 0 and, for an even width, the last: these are their own
    conjugates.

    Args:
        width: Length of the last axis in px.
        device: Device of the result.
    """
    columns = torch.full((width // 2 + 1,), 2.0, device=device)
    columns[0] = 1
    if width % 2 == 0:
        columns[-1] = 1
    return columns


def inverse_fft(spectrum: Float[Tensor, "n c *half 2"], size: Size) -> Float[Tensor, "n c *size2"]:
    """Compute canvases from spectra whose last dimension holds the real and imaginary parts.

    Args:
        spectrum: Coefficients as `torch.fft.rfftn` with `norm="ortho"` gives them.
        size: Length of each axis of the canvases in px.

    Returns:
        Canvases of this size.
    """
    if len(size) == 2 and spectrum.device.type == "cpu":
        return _InverseFFT.apply(spectrum, size)  # type: ignore[no-untyped-call,no-any-return]
    return torch.fft.irfftn(torch.view_as_complex(spectrum), s=size, norm="ortho")


class _InverseFFT(torch.autograd.Function):
    """The inverse along the columns and then along the rows, and the gradient along both at once.

    On a CPU, `torch.fft.irfft2` copies the spectrum twice, and the gradient of two transforms in sequence takes twice
    as long as that of one.
    """

    @staticmethod
    def forward(_: Any, spectrum: Tensor, size: Size) -> Tensor:
        columns = torch.fft.ifft(torch.view_as_complex(spectrum), dim=2, norm="ortho")
        return torch.fft.irfft(columns, n=size[1], dim=3, norm="ortho")

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
    def backward(_: Any, gradient: Tensor) -> tuple[Tensor, None]:
        spectrum = torch.view_as_real(torch.fft.rfft2(gradient, norm="ortho"))
        # A stored coefficient also stands for its conjugate, except in column 0 and the middle one of an even width.
        spectrum[..., 1 : (gradient.shape[3] + 1) // 2, :].mul_(2)  # `*= 2` would also copy it onto itself
        return spectrum, None


def slope(images: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
    """Measure the exponent d of the amplitude spectrum 1 / frequency^d of each image.

    Photographs have 1 to 1.6, white noise has 0. The mean over the channels is windowed, and a line is fitted to the
    logarithms from 4 cycles per shorter side to half of the highest frequency, with the same weight for each octave.

    Args:
        images: Images in [0, 1] with any number of channels.

    Returns:
        One exponent per image; NaN where a side is shorter than 32 px, which leaves no octave to fit.
    """
    height, width = images.shape[2:]
    if min(height, width) < 32:
        return torch.full((len(images),), math.nan)
    window = hann_window((height, width))
    grey = images.float().cpu().mean(1)
    spectrum = torch.fft.rfft2((grey - grey.mean((1, 2), keepdim=True)) * window, norm="ortho").abs()
    frequency = frequencies((height, width), torch.device("cpu"))
    chosen = (frequency >= 4 / min(height, width)) & (frequency <= 0.25)
    x, y = frequency[chosen].log(), spectrum[:, chosen].square().clamp(min=1e-20).log() / 2
    # The number of coefficients grows with frequency^2 from octave to octave, so this weight makes octaves equal.
    weight = 1 / frequency[chosen].square()
    x = x - (x * weight).sum() / weight.sum()
    return -(y * x * weight).sum(1) / (x.square() * weight).sum()
