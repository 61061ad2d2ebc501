"""Canvases held as their spectrum: all of it, or its phases alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.errors import SettingError
from featviz.interfaces import Leaves, ParamTraits, Size
from featviz.param.prior import Prior, as_prior
from featviz.param.spectrum import falling, loudness, natural, waves
from featviz.random import Generators

PACE = 0.1
"""How far a frequency moves for a step of 1.

Source: measured; docs/quality.md. Lucid has .25 and a start as loud; shorter steps keep colours natural where a
    spectrum falls as steeply as here.
"""
TURN = 4.0
"""How far a phase moves, in radians, for a step of 1, so that the usual learning rate turns it as fast as it can bear.

Source: chosen by looking; Fel et al. use NAdam at a rate of 1.
"""
VIVID = (1.7, 1.4, 1.6)
"""Deviation of a natural canvas before the sigmoid: of its brightness, and of its two axes of colour.

Source: their proportions, and the deviation of .21 that they give to pixels, measured on 200 photographs of ImageNet.
"""


@dataclass(frozen=True)
class Fourier:
    """Frequencies scaled so that each moves the picture as much as it does in nature.

    Low frequencies get larger steps than high ones, which is what keeps noise out.

    Args:
        decay: the power of 1/frequency by which they are scaled; 0 makes them all equal.
        std: deviation of the first spectrum; a louder start is harder to change.
        prior: a file from `fit_prior`, whose amplitudes scale them instead; `None` means the decay does.

    Source: Lucid, lucid/optvis/param/spatial.py, `fft_image`.
    Differs: decay 1.4 instead of 1, so that spectra fall as those of photographs do, and `PACE`; measured, see
        docs/quality.md.
    """

    decay: float = 1.4
    std: float = 0.025
    prior: str | Path | None = None

    def __post_init__(self) -> None:
        """Take paths, too."""
        object.__setattr__(self, "prior", as_prior(self.prior))

    @property
    def files(self) -> tuple[str, ...]:
        """The file of the prior, if there is one."""
        return () if self.prior is None else (str(self.prior),)

    @property
    def traits(self) -> ParamTraits:
        """The colour axes of its prior are used by default."""
        return ParamTraits(color_prior=None if self.prior is None else str(self.prior))

    def start(self, rng: Generators, channels: int, size: Size) -> Leaves:
        """Draw a spectrum for each image, real and imaginary parts last."""
        return [self.std * rng.normal(channels, size[0], size[1] // 2 + 1, 2)]

    def fit(self, canvas: Float[Tensor, "n c h w"]) -> Leaves:
        """Find the spectrum of a canvas."""
        spectrum = torch.view_as_real(torch.fft.rfft2(canvas, norm="ortho"))
        return [spectrum / self._scale((canvas.shape[-2], canvas.shape[-1]), canvas.device)]

    def canvas(self, leaves: Leaves, size: Size) -> Float[Tensor, "n c h w"]:
        """Turn the spectrum into a canvas."""
        return waves(leaves[0] * self._scale(size, leaves[0].device), size)

    def _scale(self, size: Size, device: torch.device) -> Float[Tensor, "*c h w 2"]:
        return _scale(size, self.decay, None if self.prior is None else Prior.load(self.prior), device)


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def _scale(size: Size, decay: float, prior: Prior | None, device: torch.device) -> Float[Tensor, "*c h w 2"]:
    """Return what the real and imaginary part of each frequency are multiplied by."""
    scale = PACE * falling(size, decay, device)
    if prior is not None:
        amplitude = prior.amplitude(size, device)
        amplitude[:, 0, 0] = amplitude.flatten(1).amax(1)  # the mean is free to move
        scale = amplitude * (loudness(scale, size) / loudness(amplitude, size).amax())
    return scale[..., None].repeat(*[1] * scale.ndim, 2)  # in full: to stretch the last dimension in a product is slow


@dataclass(frozen=True)
class Phase:
    """Only where things are is free: how strong each frequency is stays as in nature, and so does the mean colour.

    Look at a canvas larger than the network's input through `transforms.ResizedView`.

    Args:
        prior: a file from `fit_prior`, whose amplitudes to keep; `None` means those of natural scenes. A given image
            keeps its own.

    Source: Fel et al. 2023, https://arxiv.org/abs/2306.06805, "MACO".
    Differs: phases start even in [-pi, pi), and nothing is standardised afterwards, which leaves neither a spike in
        the corner nor a cast of colour.
    """

    prior: str | Path | None = None

    def __post_init__(self) -> None:
        """Take paths, too."""
        object.__setattr__(self, "prior", as_prior(self.prior))

    @property
    def files(self) -> tuple[str, ...]:
        """The file of the prior, if there is one."""
        return () if self.prior is None else (str(self.prior),)

    @property
    def traits(self) -> ParamTraits:
        """The colour axes of its prior are used by default."""
        return ParamTraits(color_prior=None if self.prior is None else str(self.prior))

    def start(self, rng: Generators, channels: int, size: Size) -> Leaves:
        """Draw the phases of each image; the amplitudes are held."""
        phase = (2 * math.pi / TURN) * (rng.uniform(channels, size[0], size[1] // 2 + 1) - 0.5)
        return [phase, self._amplitude(channels, size).expand(len(rng), -1, -1, -1).clone()]

    def fit(self, canvas: Float[Tensor, "n c h w"]) -> Leaves:
        """Find the phases of a canvas, and hold its amplitudes."""
        spectrum = torch.fft.rfft2(canvas, norm="ortho")
        return [spectrum.angle() / TURN, spectrum.abs()]

    def canvas(self, leaves: Leaves, size: Size) -> Float[Tensor, "n c h w"]:
        """Turn phases into a canvas. No gradient reaches the amplitudes, nor the phase of the mean."""
        phase, amplitude = leaves[0] * TURN, leaves[1].detach()
        columns = [_mirrored(phase[..., :1]), phase[..., 1:]]
        if size[1] % 2 == 0 and size[1] > 1:
            columns = [columns[0], phase[..., 1:-1], _mirrored(phase[..., -1:])]
        phase = torch.cat(columns, -1)
        return waves(amplitude[..., None] * torch.stack((phase.cos(), phase.sin()), -1), size)

    def _amplitude(self, channels: int, size: Size) -> Float[Tensor, "c h w"]:
        cpu = torch.device("cpu")
        if self.prior is None:
            vivid = torch.tensor(VIVID if channels == 3 else (VIVID[0],) * channels)
            return vivid.view(-1, 1, 1) * natural(size, cpu)
        known = Prior.load(self.prior)
        if known.channels != channels:
            raise SettingError(f"{self.prior} knows images of {known.channels} channels, not {channels}")
        return known.amplitude(size, cpu)


def _mirrored(column: Float[Tensor, "n c h 1"]) -> Float[Tensor, "n c h 1"]:
    """Make a column of phases that mirrors itself do so, as that of a real canvas does; its own mirrors are 0 or pi."""
    height = column.shape[2]
    upper, middle = column[:, :, 1 : (height + 1) // 2], column[:, :, height // 2 : height // 2 + 1 - height % 2]
    ends = [(end.detach().cos() < 0) * math.pi for end in (column[:, :, :1], middle)]
    return torch.cat([ends[0], upper, ends[1], -upper.flip(2)], 2)
