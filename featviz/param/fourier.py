"""A canvas held as its spectrum."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.protocols import Leaves, Size
from featviz.random import Generators


@dataclass(frozen=True)
class Fourier:
    """Frequencies scaled so that each moves the picture as much as it does in nature.

    Low frequencies get larger steps than high ones, which is what keeps noise out.

    Args:
        decay: the power of 1/frequency by which they are scaled; 0 makes them all equal.
        sd: deviation of the first spectrum; a louder start is harder to change.

    Source: Lucid, lucid/optvis/param/spatial.py, `fft_image`.
    """

    decay: float = 1.0
    sd: float = 0.01

    def start(self, rng: Generators, channels: int, size: Size) -> Leaves:
        """Draw a spectrum for each image, real and imaginary parts last."""
        return [self.sd * rng.normal(channels, size[0], size[1] // 2 + 1, 2)]

    def fit(self, canvas: Float[Tensor, "n c h w"]) -> Leaves:
        """Find the spectrum of a canvas."""
        spectrum = torch.view_as_real(torch.fft.rfft2(canvas, norm="ortho"))
        return [spectrum / _scale((canvas.shape[-2], canvas.shape[-1]), self.decay, canvas.device)]

    def canvas(self, leaves: Leaves, size: Size) -> Float[Tensor, "n c h w"]:
        """Turn the spectrum into a canvas."""
        scaled = leaves[0] * _scale(size, self.decay, leaves[0].device)
        return torch.fft.irfft2(torch.view_as_complex(scaled), s=size, norm="ortho")


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def _scale(size: Size, decay: float, device: torch.device) -> Float[Tensor, "h w 2"]:
    """Return what the real and imaginary part of each frequency are multiplied by.

    The lowest frequency that is not zero bounds the scale, and a quarter keeps Lucid's loudness.
    """
    rows = torch.fft.fftfreq(size[0], device=device)[:, None]
    columns = torch.fft.rfftfreq(size[1], device=device)
    scale = 0.25 / torch.hypot(rows, columns).clamp(min=1 / max(size)) ** decay
    return scale[..., None].repeat(1, 1, 2)  # in full, since a product that stretches its last dimension is slow
