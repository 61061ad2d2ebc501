"""The amplitude spectrum of the image, compared with that of photographs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.interfaces import RenderContext, Size
from featviz.network.activations import Activations
from featviz.network.neutral_state import neutral_state
from featviz.objectives.algebra import Objective
from featviz.objectives.bound import Bound
from featviz.objectives.photographs import OfPhotographs, Photographs, show_photographs
from featviz.objectives.reading import read_for
from featviz.param.spectrum import column_counts, frequencies
from featviz.param.windows import hann_window

LOWEST = 2
"""Lowest compared frequency, in cycles per longest side. The window blurs the spectrum below."""
LEAST_POWER = 1e-6
"""Added to the power of each octave, so that its logarithm is finite. Rounding to 8 bits has 1/(12 · 255²)."""
CONSTANT = 1e-3
"""Standard deviation up to which a grey photograph has one colour, and no spectrum."""


@dataclass(frozen=True)
class MatchSpectrum(OfPhotographs):
    """The similarity of the image's amplitude spectrum to that of photographs: how strong fine detail is.

    The image before any transform, without its alpha channel, is converted to grey and multiplied by a Hann window. Its
    power is averaged in each octave of frequency; the log amplitude is half the logarithm. Subtracting the mean over
    octaves removes contrast. The score is minus the mean squared difference from the log amplitudes of the photographs,
    averaged. It is <= 0: 0 where the octaves have the same ratios, and about -1.4 e² for 1/f^(p + e) in place of 1/f^p
    in images of 224 px. It is always 0 if no side has 12 px, which leaves one octave.

    Args:
        photographs: A folder, with its subfolders; or a sequence of files, or of (channels, h, w) in [0, 1]; 1000 at
            most. Each is centre-cropped to the aspect ratio of the image, then resized to it: photographs smaller than
            the image lack fine detail, and so will the image. Photographs of one colour are left out. A folder is
            listed once, when the objective is made; a recipe holds the files.

    Raises:
        SettingError: There is no photograph, or there are too many, or one is neither a file nor numbers in [0, 1].
        OutputError: The folder has no images.

    Source: Tolhurst, Tadmor and Chao 1992, "Amplitude spectra of natural images", Ophthalmic and Physiological Optics
    12, for the amplitudes of octaves.
    """

    photographs: Photographs
    text_name = "spectrum"
    layers = frozenset()

    def __str__(self) -> str:
        """Return its text, with the number of photographs where there are several."""
        return f"{self.text_name}({show_photographs(self.photographs)})"

    def bind(self, context: RenderContext) -> Objective:
        """Read the photographs, and average the log amplitudes of their octaves.

        Raises:
            OutputError: A file cannot be read.
        """
        photographs = (read_for(context, each, context.size)[None] for each in self.photographs)
        known = [log_amplitudes(image) for image in photographs if image.mean(1).std(correction=0) > CONSTANT]
        target = torch.cat(known).mean(0) if known else None

        def score(acts: Activations) -> Tensor:
            images = acts.images[:, : context.channels]  # without alpha
            found = log_amplitudes(images)
            apart = 0 * found if target is None else found - target.to(found, non_blocking=True)
            return -apart.square().mean(1)

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


_window = lru_cache(maxsize=2)(neutral_state()(hann_window))
"""The window, kept for the photographs and for the images, which may be on a GPU."""


@lru_cache(maxsize=2)  # for the photographs and for the images, which may be on a GPU
@neutral_state()
def _octaves(size: Size, device: torch.device) -> Float[Tensor, "coefficient octave"]:
    """Return the matrix that averages the coefficients of `torch.fft.rfftn` in each octave."""
    lowest = LOWEST / max(size)
    # The last octave is kept if at least half of it, on a logarithmic scale, is below 0.5 cycles/px.
    count = max(1, math.floor(math.log2(0.5 / lowest) + 0.5))
    octave = (1.0001 * frequencies(size, device) / lowest).log2().floor()  # exact powers of 2 may round down
    member = octave[..., None] == torch.arange(count, device=device)
    weights = (member * column_counts(size[-1], device)[:, None]).flatten(0, -2)
    return weights / weights.sum(0).clamp(min=1)
