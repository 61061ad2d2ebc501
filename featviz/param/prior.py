"""What a folder of images has in common: mean colour, how colours vary combine, how strong each frequency is."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from featviz.errors import OutputError, SettingError
from featviz.interfaces import Size
from featviz.io import write
from featviz.io.folders import middle, read_photographs
from featviz.param.spectrum import frequencies

BINS = 32
"""Frequencies at which amplitudes are kept, evenly spaced on a logarithmic scale."""
ENDS = 1 / 512
"""How close to 0 and 1 pixels are taken, as by the colours that read it."""
KIND = "featviz prior 1"


@dataclass(frozen=True)
class Prior:
    """What images of one kind have in common, for any size; all of it before the sigmoid.

    Args:
        mean: of each channel.
        correlation: columns are the axes along which colours vary independently, the longest of length 1.
        frequencies: in cycles/px.
        amplitudes: for each axis, at each of the frequencies.
    """

    mean: tuple[float, ...]
    correlation: tuple[tuple[float, ...], ...]
    frequencies: tuple[float, ...]
    amplitudes: tuple[tuple[float, ...], ...]

    @property
    def channels(self) -> int:
        """How many channels the images had."""
        return len(self.mean)

    def save(self, path: str | Path) -> Path:
        """Write it as JSON.

        Raises:
            OutputError: the file cannot be written.
        """
        write(Path(path), json.dumps({"kind": KIND, **asdict(self)}, indent=1).encode())
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> Prior:
        """Read it back.

        Raises:
            OutputError: there is no such file, or it holds something else.
        """
        try:
            return _load(Path(path), Path(path).stat().st_mtime_ns)
        except FileNotFoundError as error:
            raise OutputError(f"no file {path}; featviz fit-prior FOLDER makes one") from error
        except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
            raise OutputError(f"{path} is no prior; featviz fit-prior FOLDER makes one") from error

    def amplitude(self, size: Size, device: torch.device) -> Float[Tensor, "c h w"]:
        """Return how strong each frequency of each axis is, at any size; the mean counts for nothing."""
        known = torch.tensor(self.frequencies).log()
        at = frequencies(size, torch.device("cpu")).clamp(min=1e-6).log()
        right = torch.searchsorted(known, at.contiguous()).clamp(1, len(known) - 1)
        share = (at - known[right - 1]) / (known[right] - known[right - 1])
        strength = torch.tensor(self.amplitudes).clamp(min=1e-8).log()
        amplitude = torch.lerp(strength[:, right - 1], strength[:, right], share.clamp(-8, 8)).exp()
        amplitude[:, 0, 0] = 0
        return amplitude.to(device)


@lru_cache(maxsize=8)
def _load(path: Path, changed: int) -> Prior:  # noqa: ARG001
    """Read a file once for as long as it does not change."""
    found = json.loads(path.read_text())
    if found.pop("kind") != KIND:
        raise ValueError("kind")
    prior = Prior(**{key: _frozen(value) for key, value in found.items()})
    shapes = [np.shape(prior.correlation), np.shape(prior.amplitudes)]
    if shapes != [(prior.channels, prior.channels), (prior.channels, len(prior.frequencies))]:
        raise ValueError("shape")
    return prior


def as_prior(prior: Any) -> str | None:
    """Make a prior's file a value that can stand in a recipe.

    Raises:
        SettingError: it is no file.
    """
    if prior is None or isinstance(prior, str | Path):
        return None if prior is None else str(prior)
    raise SettingError(
        f"a prior is given by its file, not as a {type(prior).__name__}; save it first: prior.save(path)"
    )


def fit_prior(images: str | Path | Iterable[Tensor], *, channels: int = 3, size: int = 224) -> Prior:
    """Learn a prior from a folder of images, or from tensors.

    Args:
        images: a folder, looked through with all that is below it, or tensors (channels, h, w) in [0, 1].
        channels: of the images; files give 1 or 3, or whatever .npy files hold.
        size: the middle of each is cut to a square and brought to so many px.

    Raises:
        OutputError: the folder is missing or holds no image, or one cannot be read.
        SettingError: an image has other channels, or there are fewer than two.
    """
    if size < 8:
        raise SettingError(f"images of {size} px have no spectrum to learn; give a size of 8 or more")
    total = torch.zeros(channels, dtype=torch.float64)
    product = torch.zeros(channels, channels, dtype=torch.float64)
    power = torch.zeros(channels, channels, size, size // 2 + 1, dtype=torch.complex128)
    window = torch.outer(torch.hann_window(size), torch.hann_window(size))
    window = window / window.square().mean().sqrt()
    count = 0
    for image in _squares(images, channels, (size, size)):
        canvas = image.clamp(ENDS, 1 - ENDS).logit()
        flat = canvas.flatten(1).double()
        total += flat.mean(1)
        product += flat @ flat.T / flat.shape[1]
        spectrum = torch.fft.rfft2((canvas - canvas.mean((1, 2), keepdim=True)) * window, norm="ortho").to(power.dtype)
        power += spectrum[:, None] * spectrum[None].conj()  # of every pair of channels: the axes are not known yet
        count += 1
    if count < 2:
        raise SettingError(f"a prior from {count} images says nothing; give two or more, a hundred is a good number")
    mean = total / count
    axes = _axes(product / count - torch.outer(mean, mean))
    back = torch.linalg.pinv(axes).to(power.dtype)
    strength = torch.einsum("ij,jkhw,ik->ihw", back, power / count, back).real.clamp(min=0)
    edges = torch.logspace(np.log10(0.999 / size), np.log10(2**-0.5), BINS + 1)
    known, amplitudes = _radial(strength.sqrt(), frequencies((size, size), torch.device("cpu")), edges)
    return Prior(_frozen(mean.tolist()), _frozen(axes.tolist()), _frozen(known), _frozen(amplitudes))


def _squares(images: str | Path | Iterable[Tensor], channels: int, size: Size) -> Iterable[Tensor]:
    if isinstance(images, str | Path):
        return (image for _, image in read_photographs(images, size=size, channels=channels))
    return (middle(image, channels, size) for image in images)


def _axes(covariance: Tensor) -> Tensor:
    """Return the axes along which colours vary, the strongest first, the longest of length 1, brightening upwards."""
    variance, vectors = torch.linalg.eigh(covariance)
    axes = (vectors * variance.clamp(min=0).sqrt()).flip(1)
    axes = axes * torch.where(axes.sum(0) < 0, -1.0, 1.0)
    return axes / axes.norm(dim=0).max().clamp(min=1e-6)


def _radial(strength: Tensor, at: Tensor, edges: Tensor) -> tuple[list[float], list[list[float]]]:
    """Average over rings; rings without any frequency are left out."""
    known, amplitudes = [], []
    for low, high in pairwise(edges):
        ring = (at >= low) & (at < high)
        if ring.any():
            known.append(at[ring].log().mean().exp().item())
            amplitudes.append(strength[:, ring].mean(1))
    return known, torch.stack(amplitudes, 1).tolist()


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
