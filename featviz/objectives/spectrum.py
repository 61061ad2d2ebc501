"""The amplitude spectrum of the image, compared with that of photographs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache, reduce

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.interfaces import RenderContext, Size
from featviz.network.activations import Activations
from featviz.network.neutral_state import neutral_state
from featviz.objectives.algebra import Objective
from featviz.objectives.bound import Bound
from featviz.objectives.photographs import Photographs, as_photographs, files_among, show_photographs
from featviz.objectives.reading import read_for
from featviz.param.spectrum import frequencies

LOWEST = 2
"""Lowest compared frequency, in cycles per shorter side. The window blurs the spectrum below."""
LEAST_POWER = 1e-12
"""Added to the power of each octave, so that a constant image has a logarithm."""


@dataclass(frozen=True)
class MatchSpectrum(Objective):
    """The similarity of the image's amplitude spectrum to that of photographs: how fine detail is beside coarse shapes.

    The power of the grey image, before any transform, is averaged in each octave of frequency. Half its logarithm is
    the log amplitude of the octave, of which the mean over all octaves is subtracted, so that contrast does not count.
    The score is minus the mean squared difference from the mean over photographs. It is <= 0: 0 where the spectra have
    the same shape, and about -1.4 e² for 1/f^(p + e) in place of 1/f^p in images of 224 px. Images with a side shorter
    than 12 px have one octave, and therefore always 0.

    Args:
        photographs: A folder, with its subfolders; or a sequence of files, or of (channels, h, w) in [0, 1]; 1000 at
            most. Each is centre-cropped to the aspect ratio of the image, then resized to it.

    Raises:
        SettingError: There is no photograph, or there are too many, or one is neither a file nor numbers in [0, 1].
        OutputError: The folder has no images.

    Source: Tolhurst, Tadmor and Chao 1992, "Amplitude spectra of natural images", Ophthalmic and Physiological Optics
    12, for the amplitudes of octaves.
    """

    photographs: Photographs
    term = "spectrum"
    layers = frozenset()

    def __post_init__(self) -> None:
        """List the folder, and convert the photographs to values that a recipe can hold."""
        super().__post_init__()
        object.__setattr__(self, "photographs", as_photographs(self.photographs))

    @property
    def files(self) -> tuple[str, ...]:
        """The photographs that are files."""
        return files_among(self.photographs)

    def __str__(self) -> str:
        """Return its text, with the number of photographs where there are several."""
        return f"{self.term}({show_photographs(self.photographs)})"

    def bind(self, context: RenderContext) -> Objective:
        """Read the photographs, and average the log amplitudes of their octaves.

        Raises:
            OutputError: A file cannot be read.
        """
        photographs = (read_for(context, each, context.size) for each in self.photographs)
        shapes = [log_amplitudes(image[None]) for image in photographs]
        target = torch.cat(shapes).mean(0)

        def score(acts: Activations) -> Tensor:
            images = acts.images[:, : context.channels]  # without alpha
            return -(log_amplitudes(images) - target.to(images, non_blocking=True)).square().mean(1)

        return Bound(self, score)


def log_amplitudes(images: Float[Tensor, "n c *size"]) -> Float[Tensor, "n octave"]:
    """Return the natural logarithm of the amplitude in each octave, minus its mean over the octaves.

    Args:
        images: In [0, 1].
    """
    size = tuple(images.shape[2:])
    axes = tuple(range(1, 1 + len(size)))
    grey = images.float().mean(1)
    windowed = (grey - grey.mean(axes, keepdim=True)) * _window(size, grey.device)
    spectrum = torch.view_as_real(torch.fft.rfftn(windowed, dim=axes, norm="ortho"))
    power = spectrum.square().sum(-1).flatten(1) @ _octaves(size, grey.device)
    logs = (power + LEAST_POWER).log() / 2
    return logs - logs.mean(1, keepdim=True)


@lru_cache(maxsize=16)
@neutral_state()
def _window(size: Size, device: torch.device) -> Float[Tensor, "*size"]:
    """Return a Hann window, which hides that the opposite edges of an image differ."""
    sides = [torch.hann_window(side, device=device) for side in size]
    return reduce(lambda known, side: known[..., None] * side, sides)


@lru_cache(maxsize=16)
@neutral_state()
def _octaves(size: Size, device: torch.device) -> Float[Tensor, "coefficient octave"]:
    """Return the matrix that averages the coefficients of `torch.fft.rfftn` in each octave, up to the highest."""
    lowest = LOWEST / min(size)
    count = max(1, math.floor(math.log2(0.5 / lowest) + 0.5))  # a last octave of which more than half is there counts
    octave = (1.0001 * frequencies(size, device) / lowest).log2().floor().flatten()  # exact powers of 2 may round down
    member = octave[:, None] == torch.arange(count, device=device)
    return member / member.sum(0).clamp(min=1)
