"""Spatial frequencies, and how strong each is in nature."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.interfaces import Size

NATURAL = 1.2
"""The power of 1/frequency by which amplitudes fall in photographs of natural scenes.

Source: Tolhurst, Tadmor and Chao 1992, "Amplitude spectra of natural images", Ophthalmic and Physiological Optics 12.
"""


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def frequencies(size: Size, device: torch.device) -> Float[Tensor, "h w"]:
    """Return the frequency in cycles/px that each number of a real image's spectrum stands for."""
    rows = torch.fft.fftfreq(size[0], device=device)[:, None]
    return torch.hypot(rows, torch.fft.rfftfreq(size[1], device=device))


def falling(size: Size, decay: float, device: torch.device) -> Float[Tensor, "h w"]:
    """Return 1 / frequency^decay; the lowest frequency that is not zero bounds it."""
    return frequencies(size, device).clamp(min=1 / max(size)) ** -decay


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def natural(size: Size, device: torch.device) -> Float[Tensor, "h w"]:
    """Return the amplitudes of nature, for a canvas of mean 0 and deviation 1 at any phases."""
    amplitude = falling(size, NATURAL, device)
    amplitude[0, 0] = 0
    return amplitude / loudness(amplitude, size).clamp(min=1e-12)


def loudness(amplitude: Float[Tensor, "*c h w"], size: Size) -> Float[Tensor, "*c 1 1"]:
    """Return the deviation of the canvases that amplitudes give at any phases."""
    columns = torch.full((amplitude.shape[-1],), 2.0, device=amplitude.device)
    columns[0] = 1
    if size[1] % 2 == 0:
        columns[-1] = 1
    return ((amplitude.square() * columns).sum((-2, -1), keepdim=True) / math.prod(size)).sqrt()


def waves(spectrum: Float[Tensor, "n c h w 2"], size: Size) -> Float[Tensor, "n c h2 w2"]:
    """Turn a spectrum, real and imaginary parts last, into canvases."""
    return torch.fft.irfft2(torch.view_as_complex(spectrum), s=size, norm="ortho")


def slope(images: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
    """Say by which power of 1/frequency the amplitudes of each image fall: 1 to 1.6 in photographs, 0 in white noise.

    Their mean over the channels is windowed, and a line laid through its logarithms from 4 cycles an image to half of
    the highest frequency, each octave counting alike. Sides below 32 px have no octave there: not a number.
    """
    height, width = images.shape[2:]
    if min(height, width) < 32:
        return torch.full((len(images),), math.nan)
    window = torch.outer(torch.hann_window(height), torch.hann_window(width))
    grey = images.float().cpu().mean(1)
    spectrum = torch.fft.rfft2((grey - grey.mean((1, 2), keepdim=True)) * window, norm="ortho").abs()
    at = frequencies((height, width), torch.device("cpu"))
    chosen = (at >= 4 / min(height, width)) & (at <= 0.25)
    x, y = at[chosen].log(), spectrum[:, chosen].square().clamp(min=1e-20).log() / 2
    weight = 1 / at[chosen].square()
    x = x - (x * weight).sum() / weight.sum()
    return -(y * x * weight).sum(1) / (x.square() * weight).sum()
