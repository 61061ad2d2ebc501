"""Learn a prior: mean colour, colour correlation and amplitude spectrum of a folder of images or other data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise, tee
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from featviz.checks import check_axes, check_kind, check_number, check_size
from featviz.errors import SettingError, shown
from featviz.interfaces import Size, as_size, show_size
from featviz.io import images_in, parts_of, read_samples
from featviz.io.array import as_tuples
from featviz.io.folders import middle, read_photographs, warn_of_skipped
from featviz.network import InputSpec, Network
from featviz.network.neutral_state import neutral_state
from featviz.param.prior import LOGIT_MARGIN, Prior
from featviz.param.spectrum import frequencies
from featviz.param.windows import hann_window

FREQUENCY_BINS = 32
"""Number of frequencies at which amplitudes are stored, evenly spaced on a logarithmic scale."""
DEFAULT_SIZE, DEFAULT_CHANNELS = 224, 3
"""Side in px of images, and number of channels, where no network is given."""
MIN_SIZE, MAX_SIZE = 8, 4096
"""Smallest and largest side in px of the images from which a spectrum is learned."""
MIN_AXIS = 4
"""Smallest length of any axis of the input of a network."""
MAX_CHANNELS = 256
"""Largest number of channels; memory grows with its square."""


@neutral_state()
def fit_prior(
    images: str | Path | Iterable[Tensor],
    *,
    channels: int | None = None,
    size: int | Size | None = None,
    network: Network | None = None,
) -> Prior:
    """Learn a prior from a folder of images, or from tensors; or from signals, volumes or video for a network.

    Args:
        images: A folder, whose subfolders are searched too, or tensors (channels, h, w) in [0, 1]. For a network that
            reads other data, files or tensors `(channels, *size)` in the range of the data: .wav and .npy for signals,
            .nii, .nii.gz and .npy for volumes, .mp4, other videos and .npy for video. Recordings and videos are cut
            into parts of the length of the input; volumes are resized.
        channels: Number of channels: 1 or 3 for image files, any for .npy files and tensors. `None` for those of the
            network, or 3.
        size: Side in px, >= 8; with a network, the length of each axis. The largest centred part of each image with
            this aspect ratio is cut out and resized to it. `None` for that of the network, or 224.
        network: Network whose input the prior is for, with its axes and value range; `None` for images.

    Returns:
        The prior; `save` writes it.

    Raises:
        OutputError: The folder does not exist or has no images.
        SettingError: There are fewer than two images, or `size` is too small.

    Warns:
        FeatvizWarning: A file of the folder cannot be used; it is skipped.
    """
    spec = None if network is None else _input_of(network)
    axes = "yx" if spec is None else spec.axes
    sides, channels = _check_sizes(size, channels, spec)
    parts = _squares(images, channels, sides) if spec is None or axes == "yx" else _parts(images, sides, spec)
    mean, covariance, cross_power = _moments(parts, channels, sides)
    color = _axes(covariance)
    # An axis is a linear combination of channels, so its power spectrum follows from the cross-power of the channels:
    # the diagonal of inverse(axes) @ cross_power @ inverse(axes)^T at each frequency.
    inverse = torch.linalg.pinv(color).to(cross_power.dtype)
    power = torch.einsum("ij,jk...,ik->i...", inverse, cross_power, inverse).real.clamp(min=0)
    described = _spectrum_of_video(power.sqrt(), sides) if axes == "tyx" else _spectrum(power.sqrt(), sides)
    return Prior(as_tuples(mean.tolist()), as_tuples(color.tolist()), axes=axes, **described)


def _input_of(network: Network) -> InputSpec:
    """Return the input of a network that reads images or other data with spatial axes.

    Raises:
        SettingError: `network` is no network, reads text, or optimises several inputs.
    """
    check_kind("network", network, Network, "use fv.load(name), or fv.Network(module, size=..., mean=..., std=...)")
    if network.tokens is not None:
        raise SettingError(f"{network.label} reads text, which has no spectrum; fit priors for other networks")
    if network.inputs:
        raise SettingError(
            f"{network.label} optimises {' and '.join(network.inputs)}, and a prior is about one input; give values "
            "for the others with net.with_given(...)"
        )
    return network.input


def _check_sizes(size: int | Size | None, channels: int | None, spec: InputSpec | None) -> tuple[Size, int]:
    """Return the length of each axis and the number of channels.

    Raises:
        SettingError: One is out of its range, or not that of the network.
    """
    if spec is None:
        side = DEFAULT_SIZE if size is None else size
        check_number("size", side, at_least=MIN_SIZE, at_most=MAX_SIZE, whole=True, note="(default 224)")
        given = DEFAULT_CHANNELS if channels is None else channels
        check_number("channels", given, at_least=1, at_most=MAX_CHANNELS, whole=True, note="(default 3)")
        return as_size(side), given
    if channels not in (None, spec.channels):
        raise SettingError(f"channels must be those of the network, {spec.channels}, got {shown(channels)}")
    sides = spec.size if size is None else check_size("size", size, len(spec.size))
    check_axes(sides, len(spec.size), "the network's input")
    if min(sides) < MIN_AXIS or max(sides) < MIN_SIZE:
        raise SettingError(
            f"a spectrum needs at least {MIN_AXIS} px along each axis and {MIN_SIZE} along one, got {show_size(sides)}"
        )
    return sides, spec.channels


def _squares(images: str | Path | Iterable[Tensor], channels: int, size: Size) -> Iterable[Tensor]:
    if isinstance(images, str | Path):
        if channels not in (1, 3) and any(file.suffix.lower() != ".npy" for file in images_in(Path(images))):
            raise SettingError(f"channels must be 1 or 3 for image files, got {channels}; give .npy files for others")
        photographs = read_photographs(images, size=size, channels=channels, skipped=warn_of_skipped)
        return (image for _, image in photographs)
    return (middle(image, channels, size) for image in _tensors(images, "(channels, h, w)"))


def _parts(data: str | Path | Iterable[Tensor], size: Size, spec: InputSpec) -> Iterator[Tensor]:
    """Yield parts of signals, volumes or video as images in [0, 1]."""
    if isinstance(data, str | Path):
        files = read_samples(data, channels=spec.channels, size=size, axes=spec.axes, skipped=warn_of_skipped)
        named = ((str(file), parts) for file, parts in files)
    else:
        listed = _tensors(data, f"({spec.dims.removeprefix('n, ')})")
        for each in listed:
            spec.check(each[None], "fit_prior")
        named = (("a tensor", parts_of(each.float(), size, spec.axes, "a tensor")) for each in listed)
    for name, parts in named:
        spec.check_values(parts, name)
        yield from spec.images(parts)


def _tensors(images: Any, shape: str) -> list[Tensor]:
    """Return the tensors of a sequence.

    Raises:
        SettingError: `images` is no sequence of tensors.
    """
    if (
        isinstance(images, Iterable)
        and getattr(images, "ndim", 1) != 0
        and not isinstance(images, str | bytes | Mapping)
    ):
        given, others = tee(images)
        if all(isinstance(image, Tensor) for image in given):  # stops at the first other value: a range may be huge
            return list(others)
    raise SettingError(f"images must be a folder or a sequence of tensors {shape}, got {shown(images)}")


def _moments(images: Iterable[Tensor], channels: int, size: Size) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean (c), covariance (c, c) and cross-power spectrum (c, c, *half) of the canvases of images."""
    axes = tuple(range(1, len(size) + 1))
    total = torch.zeros(channels, dtype=torch.float64)
    product = torch.zeros(channels, channels, dtype=torch.float64)
    # The power of every pair of channels, because the colour axes are known only after the last image.
    cross_power = torch.zeros(channels, channels, *size[:-1], size[-1] // 2 + 1, dtype=torch.complex128)
    window = hann_window(size)
    window = window / window.square().mean().sqrt()
    count = 0
    for image in images:
        canvas = image.clamp(LOGIT_MARGIN, 1 - LOGIT_MARGIN).logit()
        flat = canvas.flatten(1).double()
        total += flat.mean(1)
        product += flat @ flat.T / flat.shape[1]
        centered = (canvas - canvas.mean(axes, keepdim=True)) * window
        spectrum = torch.fft.rfftn(centered, dim=axes, norm="ortho").to(cross_power.dtype)
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


def _spectrum(amplitude: Tensor, size: Size) -> dict[str, Any]:
    """Return the fields of a prior that describe amplitudes (c, *half) by their frequency alone."""
    known, means = _radial_means(amplitude, frequencies(size, torch.device("cpu")), _edges(size))
    return {"frequencies": as_tuples(known), "amplitudes": as_tuples(means.tolist())}


def _spectrum_of_video(amplitude: Tensor, size: Size) -> dict[str, Any]:
    """Return the fields of a prior that describe amplitudes (c, t, h, w // 2 + 1) as a product.

    The logarithm is a sum of two functions, one of the frequency in space and one of that along time. The best one by
    least squares consists of the means over the other frequency.
    """
    along_time = torch.fft.fftfreq(size[0]).abs()
    known = along_time.unique()
    folded = torch.stack([amplitude[:, along_time == each].mean(1) for each in known], 1)
    places, means = _radial_means(folded, frequencies(size[1:], torch.device("cpu")), _edges(size[1:]))
    logs = means.clamp(min=1e-8).log()  # (c, frequencies along time, frequencies in space)
    factor = logs.mean(2) - logs.mean((1, 2))[:, None]
    return {
        "frequencies": as_tuples(places),
        "amplitudes": as_tuples(logs.mean(1).exp().tolist()),
        "time_frequencies": as_tuples(known.tolist()),
        "time_amplitudes": as_tuples(factor.exp().tolist()),
    }


def _edges(size: Size) -> Tensor:
    """Return the edges of rings of frequencies, from the lowest to the highest one of images of a size."""
    return torch.logspace(np.log10(0.999 / max(size)), np.log10(0.5 * math.sqrt(len(size))), FREQUENCY_BINS + 1)


def _radial_means(amplitude: Tensor, frequency: Tensor, edges: Tensor) -> tuple[list[float], Tensor]:
    """Average amplitudes (*more, *half) over rings of frequencies, and leave out rings without coefficients."""
    known, means = [], []
    for low, high in pairwise(edges):
        ring = (frequency >= low) & (frequency < high)
        if ring.any():
            known.append(frequency[ring].log().mean().exp().item())
            means.append(amplitude[..., ring].mean(-1))
    return known, torch.stack(means, -1)
