"""Mean colour, colour correlation and amplitude spectrum of images, signals, volumes or video."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from featviz.errors import OutputError, SettingError
from featviz.interfaces import Size
from featviz.io import is_file, write
from featviz.io.array import as_tuples
from featviz.param.spectrum import frequencies

LOGIT_MARGIN = 1 / 512
"""Pixels are clamped to [margin, 1 - margin] before the inverse of the sigmoid, which is infinite at 0 and 1."""
FILE_KIND = "featviz prior 1"
"""Format and version of the file."""


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
        axes: Spatial axes of the images, as in `InputSpec`.
        time_frequencies: Of video, frequencies along time in cycles per frame, rising, the first 0. `frequencies` are
            then those in space alone.
        time_amplitudes: Of video, for each axis the factor of the amplitude at each frequency along time.
    """

    mean: tuple[float, ...]
    correlation: tuple[tuple[float, ...], ...]
    frequencies: tuple[float, ...]
    amplitudes: tuple[tuple[float, ...], ...]
    axes: str = "yx"
    time_frequencies: tuple[float, ...] = ()
    time_amplitudes: tuple[tuple[float, ...], ...] = ()

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
        defaults = {"axes": "yx", "time_frequencies": (), "time_amplitudes": ()}
        content = {key: value for key, value in asdict(self).items() if key not in defaults or value != defaults[key]}
        write(Path(path), json.dumps({"kind": FILE_KIND, **content}, indent=1).encode())
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
            changed = Path(path).stat().st_mtime_ns
            if not is_file(path):  # a folder, or a device, which may have no end
                raise ValueError
            return _load(Path(path), changed)
        except FileNotFoundError as error:
            raise OutputError(f"no file {path}; create it with: featviz fit-prior FOLDER -o {path}") from error
        except (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
            raise OutputError(f"{path} is not a prior; create one with: featviz fit-prior FOLDER") from error

    def amplitude(self, size: Size, device: torch.device) -> Float[Tensor, "c *size"]:
        """Return the amplitude spectrum of each axis for images of a size.

        Args:
            size: Length of each axis of the image in px.
            device: Device of the result.

        Returns:
            Amplitudes >= 0, with `size[-1] // 2 + 1` columns; 0 at frequency 0.

        Raises:
            SettingError: The prior was fitted to inputs with another number of axes.
        """
        if len(size) != len(self.axes):
            raise SettingError(
                f"the prior was fitted to inputs with {len(self.axes)} axes, and the images have {len(size)}; fit one "
                "with fv.fit_prior(folder, network=...), or --model"
            )
        # Interpolate linearly between logarithms, because natural spectra are straight lines there. The outermost
        # segments are continued beyond their ends, by at most 8 times their length.
        cpu = torch.device("cpu")
        known, amplitudes = torch.tensor(self.frequencies).log(), torch.tensor(self.amplitudes)
        if self.time_frequencies:
            # Frequency 0 in space has no ring of its own: a flicker of whole frames gets the amplitude of the lowest.
            space = frequencies(size[1:], cpu).clamp(min=1 / max(size[1:]))
            along_time = torch.fft.fftfreq(size[0]).abs()
            factor = _interpolate(torch.tensor(self.time_frequencies), torch.tensor(self.time_amplitudes), along_time)
            amplitude = factor[:, :, None, None] * _interpolate(known, amplitudes, space.log())[:, None]
        else:
            amplitude = _interpolate(known, amplitudes, frequencies(size, cpu).clamp(min=1e-6).log())
        amplitude.flatten(1)[:, 0] = 0
        return amplitude.to(device)


def _interpolate(
    known: Float[Tensor, " k"], amplitudes: Float[Tensor, "c k"], wanted: Float[Tensor, "*any"]
) -> Float[Tensor, "c *any"]:
    """Interpolate the logarithms of amplitudes linearly between known places, and continue them beyond the ends."""
    right = torch.searchsorted(known, wanted.contiguous()).clamp(1, len(known) - 1)
    weight = (wanted - known[right - 1]) / (known[right] - known[right - 1])
    logs = amplitudes.clamp(min=1e-8).log()
    return torch.lerp(logs[:, right - 1], logs[:, right], weight.clamp(-8, 8)).exp()


@lru_cache(maxsize=8)
def _load(path: Path, modified: int) -> Prior:  # noqa: ARG001
    """Read a file, once per modification time."""
    found = json.loads(path.read_text())
    if found.pop("kind") != FILE_KIND:
        raise ValueError("kind")
    prior = Prior(**{key: as_tuples(value) for key, value in found.items()})
    numbers = [prior.mean, prior.correlation, prior.frequencies, prior.amplitudes, prior.time_frequencies]
    if not all(np.isfinite(np.asarray(each, np.float64)).all() for each in numbers):
        raise ValueError("finite numbers")
    shapes = [np.shape(prior.correlation), np.shape(prior.amplitudes)]
    shapes.append(np.shape(prior.time_amplitudes))
    times = (prior.channels, len(prior.time_frequencies)) if prior.time_frequencies else (0,)
    if shapes != [(prior.channels, prior.channels), (prior.channels, len(prior.frequencies)), times]:
        raise ValueError("shape")
    if len(prior.axes) not in (1, 2, 3) or bool(prior.time_frequencies) != (prior.axes == "tyx"):
        raise ValueError("axes")
    return prior


class UsesPrior:
    """Base of frozen dataclasses with a field `prior`: the path of a file from `fit_prior`, or `None`."""

    prior: str | Path | None

    def __post_init__(self) -> None:
        """Convert a path to text, so that the repr can stand in a recipe."""
        object.__setattr__(self, "prior", prior_path(self.prior))

    @property
    def files(self) -> tuple[str, ...]:
        """Path of the prior, if there is one."""
        return () if self.prior is None else (str(self.prior),)

    @property
    def loaded_prior(self) -> Prior | None:
        """The prior that the file holds; `None` without a file."""
        return None if self.prior is None else Prior.load(self.prior)


def prior_path(prior: Any) -> str | None:
    """Return the path of a prior as text, which can stand in a recipe.

    Args:
        prior: A path, or `None`.

    Returns:
        The path; `None` for `None`.

    Raises:
        SettingError: `prior` is not a path.
    """
    if prior is None or isinstance(prior, str | Path):
        return None if prior is None else str(prior)
    raise SettingError(
        f"prior must be the path of a file, got a {type(prior).__name__}; save it first: prior.save(path)"
    )
