"""Mean colour, colour correlation and amplitude spectrum of a folder of images."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from featviz.checks import check_number
from featviz.errors import OutputError, SettingError, shown
from featviz.interfaces import Size
from featviz.io import write
from featviz.io.folders import middle, read_photographs, warn_of_skipped
from featviz.network.neutral_state import neutral_state
from featviz.param.spectrum import frequencies

FREQUENCY_BINS = 32
"""Number of frequencies at which amplitudes are stored, evenly spaced on a logarithmic scale."""
LOGIT_MARGIN = 1 / 512
"""Pixels are clamped to [margin, 1 - margin] before the inverse of the sigmoid, which is infinite at 0 and 1."""
FILE_KIND = "featviz prior 1"
"""Format and version of the file."""
MIN_SIZE, MAX_SIZE = 8, 4096
"""Smallest and largest side in px of the images from which a spectrum is learned."""
MAX_CHANNELS = 256
"""Largest number of channels; memory grows with its square."""


@dataclass(frozen=True)
class Prior:
    """Statistics of images of one kind, for images of any size.

    All of them describe canvases: images before the sigmoid.

    Args:
        mean: Mean of each channel.
        correlation: Matrix (channels, axes). Its columns are the axes along which colours vary independently; the
            longest has length 1.
        frequencies: Frequencies in cycles/px, rising.
        amplitudes: For each axis, the amplitude at each of the frequencies.
    """

    mean: tuple[float, ...]
    correlation: tuple[tuple[float, ...], ...]
    frequencies: tuple[float, ...]
    amplitudes: tuple[tuple[float, ...], ...]

    @property
    def channels(self) -> int:
        """Number of channels of the images."""
        return len(self.mean)

    def save(self, path: str | Path) -> Path:
        """Write the prior as JSON.

        Args:
            path: File to write.

        Returns:
            The path.

        Raises:
            OutputError: The file cannot be written.
        """
        write(Path(path), json.dumps({"kind": FILE_KIND, **asdict(self)}, indent=1).encode())
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> Prior:
        """Read a prior that `save` has written.

        Args:
            path: File to read.

        Returns:
            The prior.

        Raises:
            OutputError: The file does not exist, or is not a prior.
        """
        try:
            return _load(Path(path), Path(path).stat().st_mtime_ns)
        except FileNotFoundError as error:
            raise OutputError(f"no file {path}; create it with: featviz fit-prior FOLDER -o {path}") from error
        except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
            raise OutputError(f"{path} is not a prior; create one with: featviz fit-prior FOLDER") from error

    def amplitude(self, size: Size, device: torch.device) -> Float[Tensor, "c *size"]:
        """Return the amplitude spectrum of each axis for images of a size.

        Args:
            size: Length of each axis of the image in px.
            device: Device of the result.

        Returns:
            Amplitudes >= 0, with `size[-1] // 2 + 1` columns; 0 at frequency 0.
        """
        # Interpolate linearly between logarithms, because natural spectra are straight lines there. The outermost
        # segments are continued beyond their ends, by at most 8 times their length.
        known = torch.tensor(self.frequencies).log()
        wanted = frequencies(size, torch.device("cpu")).clamp(min=1e-6).log()
        right = torch.searchsorted(known, wanted.contiguous()).clamp(1, len(known) - 1)
        weight = (wanted - known[right - 1]) / (known[right] - known[right - 1])
        log_amplitude = torch.tensor(self.amplitudes).clamp(min=1e-8).log()
        amplitude = torch.lerp(log_amplitude[:, right - 1], log_amplitude[:, right], weight.clamp(-8, 8)).exp()
        amplitude.flatten(1)[:, 0] = 0
        return amplitude.to(device)


@lru_cache(maxsize=8)
def _load(path: Path, modified: int) -> Prior:  # noqa: ARG001
    """Read a file, once per modification time."""
    found = json.loads(path.read_text())
    if found.pop("kind") != FILE_KIND:
        raise ValueError("kind")
    prior = Prior(**{key: _as_tuples(value) for key, value in found.items()})
    shapes = [np.shape(prior.correlation), np.shape(prior.amplitudes)]
    if shapes != [(prior.channels, prior.channels), (prior.channels, len(prior.frequencies))]:
        raise ValueError("shape")
    return prior


class UsesPrior:
    """Base of frozen dataclasses with a field `prior`: the path of a file from `fit_prior`, or `None`."""

    prior: str | Path | None

    def __post_init__(self) -> None:
        """Convert a path to text, so that the repr can stand in a recipe."""
        object.__setattr__(self, "prior", as_prior(self.prior))

    @property
    def files(self) -> tuple[str, ...]:
        """Path of the prior, if there is one."""
        return () if self.prior is None else (str(self.prior),)

    @property
    def loaded_prior(self) -> Prior | None:
        """The prior that the file holds; `None` without a file."""
        return None if self.prior is None else Prior.load(self.prior)


def as_prior(prior: Any) -> str | None:
    """Return the path of a prior as text, which can stand in a recipe.

    Args:
        prior: A path, or `None`.

    Returns:
        The path; `None` for `None`.

    Raises:
        SettingError: It is something else.
    """
    if prior is None or isinstance(prior, str | Path):
        return None if prior is None else str(prior)
    raise SettingError(
        f"prior must be the path of a file, got a {type(prior).__name__}; save it first: prior.save(path)"
    )


# ---------------------------------------------------------------------------------------------- fitting


@neutral_state()
def fit_prior(images: str | Path | Iterable[Tensor], *, channels: int = 3, size: int = 224) -> Prior:
    """Learn a prior from a folder of images, or from tensors.

    Args:
        images: A folder, whose subfolders are searched too, or tensors (channels, h, w) in [0, 1].
        channels: Number of channels: 1 or 3 for image files, any for .npy files and tensors.
        size: Side in px, >= 8. The central square of each image is cut out and resized to it.

    Returns:
        The prior; `save` writes it.

    Raises:
        OutputError: The folder does not exist or has no images.
        SettingError: There are fewer than two images, or `size` is too small.

    Warns:
        FeatvizWarning: A file of the folder cannot be used; it is skipped.
    """
    check_number("size", size, at_least=MIN_SIZE, at_most=MAX_SIZE, whole=True, note="(default 224)")
    check_number("channels", channels, at_least=1, at_most=MAX_CHANNELS, whole=True, note="(default 3)")
    mean, covariance, cross_power = _moments(_squares(images, channels, (size, size)), channels, size)
    axes = _axes(covariance)
    # An axis is a linear combination of channels, so its power spectrum follows from the cross-power of the channels:
    # the diagonal of inverse(axes) @ cross_power @ inverse(axes)^T at each frequency.
    inverse = torch.linalg.pinv(axes).to(cross_power.dtype)
    power = torch.einsum("ij,jkhw,ik->ihw", inverse, cross_power, inverse).real.clamp(min=0)
    edges = torch.logspace(np.log10(0.999 / size), np.log10(2**-0.5), FREQUENCY_BINS + 1)
    known, amplitudes = _radial_means(power.sqrt(), frequencies((size, size), torch.device("cpu")), edges)
    return Prior(_as_tuples(mean.tolist()), _as_tuples(axes.tolist()), _as_tuples(known), _as_tuples(amplitudes))


def _squares(images: str | Path | Iterable[Tensor], channels: int, size: Size) -> Iterable[Tensor]:
    if isinstance(images, str | Path):
        photographs = read_photographs(images, size=size, channels=channels, skipped=warn_of_skipped)
        return (image for _, image in photographs)
    if isinstance(images, Iterable) and not isinstance(images, str | bytes | Mapping):
        listed = list(images)
        if all(isinstance(image, Tensor) for image in listed):
            return (middle(image, channels, size) for image in listed)
    raise SettingError(f"images must be a folder or a sequence of tensors (channels, h, w), got {shown(images)}")


def _moments(images: Iterable[Tensor], channels: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean (c), covariance (c, c) and cross-power spectrum (c, c, h, w) of the canvases of square images."""
    total = torch.zeros(channels, dtype=torch.float64)
    product = torch.zeros(channels, channels, dtype=torch.float64)
    # The power of every pair of channels, because the colour axes are known only after the last image.
    cross_power = torch.zeros(channels, channels, size, size // 2 + 1, dtype=torch.complex128)
    # A Hann window hides the jump between opposite edges, which would add power to all frequencies of both axes.
    window = torch.outer(torch.hann_window(size), torch.hann_window(size))
    window = window / window.square().mean().sqrt()
    count = 0
    for image in images:
        canvas = image.clamp(LOGIT_MARGIN, 1 - LOGIT_MARGIN).logit()
        flat = canvas.flatten(1).double()
        total += flat.mean(1)
        product += flat @ flat.T / flat.shape[1]
        centered = (canvas - canvas.mean((1, 2), keepdim=True)) * window
        spectrum = torch.fft.rfft2(centered, norm="ortho").to(cross_power.dtype)
        cross_power += spectrum[:, None] * spectrum[None].conj()
        count += 1
    if count < 2:
        raise SettingError(f"a prior needs at least 2 images, got {count}; 100 or more are recommended")
    mean = total / count
    return mean, product / count - torch.outer(mean, mean), cross_power / count


def _axes(covariance: Tensor) -> Tensor:
    """Return the principal axes of colour as columns: the strongest first, its length 1, each with a sum >= 0."""
    variance, vectors = torch.linalg.eigh(covariance)
    axes = (vectors * variance.clamp(min=0).sqrt()).flip(1)
    axes = axes * torch.where(axes.sum(0) < 0, -1.0, 1.0)
    return axes / axes.norm(dim=0).max().clamp(min=1e-6)


def _radial_means(amplitude: Tensor, frequency: Tensor, edges: Tensor) -> tuple[list[float], list[list[float]]]:
    """Average amplitudes over rings of frequencies, and leave out rings without coefficients."""
    known, amplitudes = [], []
    for low, high in pairwise(edges):
        ring = (frequency >= low) & (frequency < high)
        if ring.any():
            known.append(frequency[ring].log().mean().exp().item())
            amplitudes.append(amplitude[:, ring].mean(1))
    return known, torch.stack(amplitudes, 1).tolist()


def _as_tuples(value: Any) -> Any:
    """Turn nested lists into nested tuples, which can be hashed."""
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value
