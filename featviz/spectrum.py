"""Spatial frequencies, and how strong each is in nature."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.protocols import Size

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
