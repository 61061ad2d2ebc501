"""Dreams that move: into a photograph, or along a video."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import featviz as fv
from featviz.apps.dream.dream import Dreamer, goal, read_photo
from featviz.io import read_image, read_video

KEEP = 0.7
"""The share of a dream that the next frame begins with: more is stronger and steadier, but smears."""
LOST = 1.0, 0.05
"""How far flow forth and back may miss, in px and as a share of the way, before a place counts as hidden.

Source: Sundaram, Brox and Keutzer 2010, "Dense point trajectories by GPU-accelerated large displacement optical flow".
"""

Frame = Any
"""(h, w, 3), 8 bits."""


def dream_zoom(
    network: fv.Network,
    image: str | Path | Tensor,
    objective: Any = None,
    *,
    frames: int = 48,
    zoom: float = 1.03,
    rotate: float = 0.0,
    pan: tuple[float, float] = (0.0, 0.0),
    guide: str | Path | None = None,
    seed: int = 0,
    execution: fv.Execution = fv.Execution(),
    progress: Callable[[int, int], None] | None = None,
    **settings: Any,
) -> Iterator[Frame]:
    """Fall into a photograph: each frame dreams on the last one, a little enlarged.

    Brightness and contrast of each channel are held where the photograph has them.

    Args:
        network: what dreams.
        image: a file, or (channels, h, w) in [0, 1].
        objective: as for `fv.dream`.
        frames: how many.
        zoom: how much larger each frame shows the last one.
        rotate: by how much each turns, in degrees, counter-clockwise.
        pan: how far the middle moves in each, down and along, as a share of the sides.
        guide: as for `fv.dream`.
        seed: of the rolls.
        execution: as for `fv.dream`.
        progress: called after every frame with the frames done and the frames in all.
        settings: octaves, scale, steps and whatever else `fv.dream` takes to decide its picture.

    Returns:
        The frames, drawn one by one as they are asked for: give them to `fv.save_video`.

    Raises:
        SettingError: no frames, a zoom that shrinks, or a mask.
    """
    if frames < 1 or not zoom >= 1:
        raise fv.SettingError(f"{frames} frames at zoom {zoom}; give 1 or more frames, and a zoom of 1 or more")
    dreamer, wanted = Dreamer(**settings), goal(network, objective, guide)
    if dreamer.mask:
        raise fv.SettingError("a mask lies still, and this picture moves; leave the mask out, or the zoom")
    photo, _ = read_photo(image, network.channels)

    def fall(now: Tensor, execution: fv.Execution) -> Iterator[Frame]:
        for frame in range(frames):
            now = _moved(now, zoom, rotate, pan) if frame else now
            rendering = dreamer.dream(network, now, wanted, seed=seed + frame, execution=execution)
            execution, now = rendering.execution, _as_bright_as(photo, rendering.images)
            yield _frame(now)
            if progress:
                progress(frame + 1, frames)
            if rendering.recipe.until is not None:
                raise KeyboardInterrupt

    return fall(photo, execution)


def dream_video(
    network: fv.Network,
    source: str | Path,
    objective: Any = None,
    *,
    keep: float = KEEP,
    guide: str | Path | None = None,
    seed: int = 0,
    execution: fv.Execution = fv.Execution(),
    progress: Callable[[int, int], None] | None = None,
    **settings: Any,
) -> Iterator[Frame]:
    """Dream along a video: what was added to a frame moves with what it lies on, and is carried on from.

    Where the frames show that something was hidden before, nothing is carried. What is added has no brightness of its
    own, so nothing brightens; every frame rolls in the same way, so what stands still does not flicker.

    Args:
        network: what dreams.
        source: a video or an animated GIF.
        objective: as for `fv.dream`.
        keep: the share of a dream with which the next frame begins, in [0, 1).
        guide: as for `fv.dream`.
        seed: of the rolls.
        execution: as for `fv.dream`.
        progress: called after every frame with the frames done and the frames in all.
        settings: octaves, scale, steps and whatever else `fv.dream` takes to decide its picture.

    Returns:
        The frames, drawn one by one as they are asked for: give them to `fv.save_video`.

    Raises:
        OutputError: the file is no video.
        SettingError: a share that is out of its range.
    """
    if not 0 <= keep < 1:
        raise fv.SettingError(f"to keep {keep} of a dream does not autotune; give 0 or more, below 1")
    dreamer, wanted = Dreamer(**settings), goal(network, objective, guide)
    _, count, frames = read_video(source)

    def follow(execution: fv.Execution) -> Iterator[Frame]:
        before, detail = None, torch.zeros(1)
        for done, frame in enumerate(frames, 1):
            photo = torch.from_numpy(frame.copy()).permute(2, 0, 1)[None].float() / 255
            photo = photo.mean(1, keepdim=True) if network.channels == 1 else photo
            free = torch.ones(1) if dreamer.mask is None else _mask(dreamer.mask, photo)
            carried = torch.zeros_like(photo) if before is None else free * keep * _carried(detail, before, frame)
            rendering = dreamer.dream(network, photo, wanted, detail=carried, seed=seed, execution=execution)
            execution, detail = rendering.execution, rendering.images - photo
            detail = free * (detail - detail.mean() / free.mean().clamp(min=1e-6))
            before = frame
            yield _frame(photo + detail)
            if progress:
                progress(done, max(done, count))
            if rendering.recipe.until is not None:
                raise KeyboardInterrupt

    return follow(execution)


def _mask(file: str, photo: Tensor) -> Tensor:
    mask = torch.from_numpy(read_image(file, 1))[None]
    return F.interpolate(mask, photo.shape[2:], mode="bilinear", antialias=True)


def _carried(detail: Tensor, before: Frame, now: Frame) -> Tensor:
    """Move what was added to the last frame to where its things are now, and drop what lies where something appears."""
    import cv2  # slow to import; `read_video` made sure that it is there

    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = [cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY) for frame in (before, now)]
    if min(grey[0].shape) < 16:  # too small for the flow to be found
        return detail
    back, forth = (
        torch.from_numpy(np.asarray(flow.calc(one, two, np.zeros((*one.shape, 2), np.float32)))).permute(2, 0, 1)[None]
        for one, two in (grey[::-1], grey)
    )
    miss = (back + _sampled(forth, back)).square().sum(1, keepdim=True).sqrt()
    way = back.square().sum(1, keepdim=True).sqrt()
    return _sampled(detail, back) * (miss < LOST[0] + LOST[1] * way)


def _sampled(images: Tensor, flow: Tensor) -> Tensor:
    """Fetch each pixel from where the flow points to, in px along and down."""
    height, width = images.shape[2:]
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    x, y = (columns + flow[:, 0]) * 2 / max(1, width - 1) - 1, (rows + flow[:, 1]) * 2 / max(1, height - 1) - 1
    return F.grid_sample(images, torch.stack([x, y], -1), padding_mode="border", align_corners=True)


def _moved(images: Tensor, zoom: float, rotate: float, pan: tuple[float, float]) -> Tensor:
    """Enlarge about the middle, turn and move, mirrored where there is nothing."""
    height, width = images.shape[2:]
    angle, ratio = math.radians(rotate), height / width
    cos, sin = math.cos(angle) / zoom, math.sin(angle) / zoom
    matrix = torch.tensor([[cos, -sin * ratio, 2 * pan[1]], [sin / ratio, cos, 2 * pan[0]]])
    grid = F.affine_grid(matrix[None], list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, mode="bicubic", padding_mode="reflection", align_corners=False)
    return moved.clamp(0, 1)


def _as_bright_as(photo: Tensor, images: Tensor) -> Tensor:
    """Give each channel the mean and deviation that it has in the photograph."""
    (mean, std), (found, spread) = (
        (each.mean((2, 3), keepdim=True), each.std((2, 3), keepdim=True)) for each in (photo, images)
    )
    return ((images - found) * (std / spread.clamp(min=1e-6)) + mean).clamp(0, 1)


def _frame(images: Tensor) -> Frame:
    pixels = (images[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    return np.repeat(pixels, 3, 2) if pixels.shape[2] == 1 else np.ascontiguousarray(pixels)
