"""Spatial frequencies, and the amplitude spectra of natural images."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.interfaces import Size
from featviz.network.neutral_state import neutral_state

NATURAL_DECAY = 1.2
"""Exponent d of the amplitude spectrum 1 / frequency^d of photographs of natural scenes.

Source: Tolhurst, Tadmor and Chao 1992, "Amplitude spectra of natural images", Ophthalmic and Physiological Optics 12.
"""


@lru_cache(maxsize=16)
@neutral_state()
def frequencies(size: Size, device: torch.device) -> Float[Tensor, "h w"]:
    """Return the spatial frequency of each coefficient of `torch.fft.rfft2`.

    Args:
        size: Height and width of the image in px.
        device: Device of the result.

    Returns:
        Frequencies in cycles/px, with `size[1] // 2 + 1` columns.
    """
    rows = torch.fft.fftfreq(size[0], device=device)[:, None]
    return torch.hypot(rows, torch.fft.rfftfreq(size[1], device=device))


def power_law(size: Size, decay: float, device: torch.device) -> Float[Tensor, "h w"]:
    """Return 1 / frequency^decay for each coefficient of `torch.fft.rfft2`.

    Frequencies are clamped to at least one cycle per longer side, so that the value at frequency 0 is finite.

    Args:
        size: Height and width of the image in px.
        decay: Exponent; 0 gives 1 everywhere.
        device: Device of the result.

    Returns:
        Amplitudes > 0, with `size[1] // 2 + 1` columns.
    """
    return frequencies(size, device).clamp(min=1 / max(size)) ** -decay


@lru_cache(maxsize=16)
@neutral_state()
def natural_amplitudes(size: Size, device: torch.device) -> Float[Tensor, "h w"]:
    """Return the amplitude spectrum of natural images, scaled so that canvases have mean 0 and standard deviation 1.

    Args:
        size: Height and width of the image in px.
        device: Device of the result.

    Returns:
        Amplitudes >= 0, with `size[1] // 2 + 1` columns.
    """
    amplitude = power_law(size, NATURAL_DECAY, device)
    amplitude[0, 0] = 0
    return amplitude / canvas_std(amplitude, size).clamp(min=1e-12)


def canvas_std(amplitude: Float[Tensor, "*c h w"], size: Size) -> Float[Tensor, "*c 1 1"]:
    """Return the root mean square of a canvas with these amplitudes, whatever its phases are.

    Args:
        amplitude: Amplitudes of the coefficients of `torch.fft.rfft2` with `norm="ortho"`.
        size: Height and width of the canvas in px.

    Returns:
        One number per channel; the standard deviation where the amplitude at frequency 0 is 0.
    """
    # Parseval's theorem. `rfft2` stores only half of the spectrum, so each column stands for itself and its conjugate,
    # except column 0 and, for an even width, the last: these are their own conjugates.
    columns = torch.full((amplitude.shape[-1],), 2.0, device=amplitude.device)
    columns[0] = 1
    if size[1] % 2 == 0:
        columns[-1] = 1
    return ((amplitude.square() * columns).sum((-2, -1), keepdim=True) / math.prod(size)).sqrt()


def inverse_fft(spectrum: Float[Tensor, "n c h w 2"], size: Size) -> Float[Tensor, "n c h2 w2"]:
    """Compute canvases from spectra whose last dimension holds the real and imaginary parts.

    Args:
        spectrum: Coefficients as `torch.fft.rfft2` with `norm="ortho"` gives them.
        size: Height and width of the canvases in px.

    Returns:
        Canvases of this size.
    """
    return torch.fft.irfft2(torch.view_as_complex(spectrum), s=size, norm="ortho")


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
    window = torch.outer(torch.hann_window(height), torch.hann_window(width))
    grey = images.float().cpu().mean(1)
    spectrum = torch.fft.rfft2((grey - grey.mean((1, 2), keepdim=True)) * window, norm="ortho").abs()
    frequency = frequencies((height, width), torch.device("cpu"))
    chosen = (frequency >= 4 / min(height, width)) & (frequency <= 0.25)
    x, y = frequency[chosen].log(), spectrum[:, chosen].square().clamp(min=1e-20).log() / 2
    # The number of coefficients grows with frequency^2 from octave to octave, so this weight makes octaves equal.
    weight = 1 / frequency[chosen].square()
    x = x - (x * weight).sum() / weight.sum()
    return -(y * x * weight).sum(1) / (x.square() * weight).sum()
