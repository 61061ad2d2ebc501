"""DeepDream videos: zooms into an image, and dreams along a video."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

import featviz as fv
from featviz.apps.dream.dream import dream_objective, load_image
from featviz.apps.dream.octaves import render_octaves
from featviz.apps.dream.settings import DreamSettings
from featviz.engine import entry_point
from featviz.interfaces import Progress
from featviz.io import auto_bar, read_video, to_bytes
from featviz.network import neutral_state
from featviz.objectives import ObjectiveSource

CARRY = 0.7
"""Default share of the detail that is carried to the next frame. More is stronger and steadier, but smears."""
FLOW_TOLERANCE_PX, FLOW_TOLERANCE_SHARE = 1.0, 0.05
"""Largest disagreement of backward and forward flow, in px and as a share of the motion; beyond it, the pixel is new.

Source: Sundaram, Brox and Keutzer 2010, "Dense point trajectories by GPU-accelerated large displacement optical flow".
"""
MIN_FLOW_SIDE = 16
"""Smallest side of frames in px for which optical flow is computed."""

Frame = UInt8[np.ndarray, "h w 3"]


@entry_point(name="dream --zoom")
def dream_zoom(
    network: fv.Network,
    image: str | Path | Float[Tensor, "... c h w"],
    objective: ObjectiveSource | None = None,
    *,
    frames: int = 48,
    zoom: float = 1.03,
    rotate: float = 0.0,
    pan: tuple[float, float] = (0.0, 0.0),
    guide: str | Path | None = None,
    seed: int = 0,
    execution: fv.Execution = fv.Execution(),
    progress: Progress | None = auto_bar,
    **settings: Any,
) -> Iterator[Frame]:
    """Dream a zoom into an image: each frame dreams on the last one, slightly enlarged.

    Mean and standard deviation of each channel are kept at those of the image, so that contrast does not build up.

    Args:
        network: From `fv.load`, or `fv.Network(module, ...)` around your own module.
        image: An image file, or an image in [0, 1] of shape (c, h, w) or (1, c, h, w).
        objective: As for `fv.dream`.
        frames: Number of frames, >= 1.
        zoom: Factor of enlargement per frame, >= 1.
        rotate: Rotation per frame in degrees, counter-clockwise.
        pan: Shift of the centre per frame, down and to the right, as a share of the height and width, in [-1, 1].
        guide: As for `fv.dream`.
        seed: Seed of the random shifts; frame *i* uses `seed + i`.
        execution: As for `fv.dream`.
        progress: Called after every frame with the frames done and the number of frames.
        settings: Further arguments of `fv.dream`: `octaves`, `scale`, `steps`, `strength`, `jitter`, `smooth`,
            `laplacian`, `keep_color`.

    Returns:
        An iterator that renders each frame when it is needed, (h, w, 3) in 8 bits; pass it to `fv.save_video`. Ctrl-C
        ends it with `KeyboardInterrupt` after the frame in progress.

    Raises:
        OutputError: A file is missing or not an image.
        AddressError: The network has no such layer, channel, position or class.
        SettingError: An argument is out of its range, or there is a mask.
    """
    if frames < 1:
        raise fv.SettingError(f"frames must be >= 1, got {frames} (default 48)")
    if not zoom >= 1:
        raise fv.SettingError(f"zoom must be >= 1, got {zoom:g} (default 1.03)")
    checked, wanted = DreamSettings.of(settings), dream_objective(network, objective, guide)
    if checked.mask:
        raise fv.SettingError("mask must be left out with a zoom: the image moves and the mask does not")
    original, _ = load_image(image, network.channels)

    def render_frames(current: Tensor, execution: fv.Execution) -> Iterator[Frame]:
        for frame in range(frames):
            with neutral_state():  # not around the loop: the caller's state returns between two frames
                current = _move(current, zoom, rotate, pan) if frame else current
                rendering = render_octaves(network, current, wanted, checked, seed=seed + frame, execution=execution)
                execution = rendering.execution  # what was measured for the first frame holds for all
                current = _match_statistics(rendering.images, original)
            yield _to_frame(current)
            if progress:
                progress(frame + 1, frames)
            if rendering.recipe.until is not None:
                raise KeyboardInterrupt  # the render caught it and returned early

    return render_frames(original, execution)


@entry_point(name="dream of a video")
def dream_video(
    network: fv.Network,
    source: str | Path,
    objective: ObjectiveSource | None = None,
    *,
    carry: float = CARRY,
    guide: str | Path | None = None,
    seed: int = 0,
    execution: fv.Execution = fv.Execution(),
    progress: Progress | None = auto_bar,
    **settings: Any,
) -> Iterator[Frame]:
    """Dream along a video: the detail added to a frame moves with the optical flow and starts the next frame.

    Nothing is carried to pixels that were hidden in the last frame. The mean of the detail is removed, so that frames
    do not brighten. All frames use the same random shifts, so that still parts do not flicker.

    Args:
        network: From `fv.load`, or `fv.Network(module, ...)` around your own module.
        source: A video or an animated GIF.
        objective: As for `fv.dream`.
        carry: Share of the detail that is carried to the next frame, in [0, 1).
        guide: As for `fv.dream`.
        seed: Seed of the random shifts.
        execution: As for `fv.dream`.
        progress: Called after every frame with the frames done and the estimated number of frames.
        settings: Further arguments of `fv.dream`: `octaves`, `scale`, `steps`, `strength`, `jitter`, `smooth`,
            `laplacian`, `keep_color`, `mask`.

    Returns:
        An iterator that renders each frame when it is needed, (h, w, 3) in 8 bits; pass it to `fv.save_video`. Ctrl-C
        ends it with `KeyboardInterrupt` after the frame in progress.

    Raises:
        OutputError: The file is not a video, or the packages that read videos are not installed.
        AddressError: The network has no such layer, channel, position or class.
        SettingError: An argument is out of its range.
    """
    if not 0 <= carry < 1:
        raise fv.SettingError(f"carry must be in [0, 1), got {carry:g} (default {CARRY:g})")
    checked, wanted = DreamSettings.of(settings), dream_objective(network, objective, guide)
    _, count, frames = read_video(source)

    def render_frames(execution: fv.Execution) -> Iterator[Frame]:
        before, detail = None, torch.zeros(1)
        for done, frame in enumerate(frames, 1):
            with neutral_state():  # not around the loop: the caller's state returns between two frames
                image = torch.from_numpy(frame.copy()).permute(2, 0, 1)[None].float() / 255
                image = image.mean(1, keepdim=True) if network.channels == 1 else image
                mask = checked.mask_at((image.shape[2], image.shape[3]))
                free = torch.ones(1) if mask is None else mask
                carried = torch.zeros_like(image) if before is None else free * carry * _follow(detail, before, frame)
                rendering = render_octaves(
                    network, image, wanted, checked, detail=carried, seed=seed, execution=execution
                )
                execution, detail = rendering.execution, rendering.images - image
                detail = free * (detail - detail.mean() / free.mean().clamp(min=1e-6))
                before = frame
            yield _to_frame(image + detail)
            if progress:
                progress(done, max(done, count))
            if rendering.recipe.until is not None:
                raise KeyboardInterrupt  # the render caught it and returned early

    return render_frames(execution)


def _follow(detail: Float[Tensor, "1 c h w"], before: Frame, now: Frame) -> Float[Tensor, "1 c h w"]:
    """Move the detail of the last frame with the optical flow, and remove it where pixels were hidden there.

    The backward flow tells for each pixel where it was in the last frame. A pixel was visible there if the forward flow
    from that place leads back to it.

    Args:
        detail: Detail of the last frame.
        before: The last frame.
        now: This frame.
    """
    import cv2  # slow to import; `read_video` has checked that it is installed

    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = [cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY) for frame in (before, now)]
    if min(grey[0].shape) < MIN_FLOW_SIDE:
        return detail
    backward, forward = (
        torch.from_numpy(np.asarray(flow.calc(one, two, np.zeros((*one.shape, 2), np.float32)))).permute(2, 0, 1)[None]
        for one, two in (grey[::-1], grey)
    )
    disagreement = (backward + _sample(forward, backward)).square().sum(1, keepdim=True).sqrt()
    motion = backward.square().sum(1, keepdim=True).sqrt()
    visible = disagreement < FLOW_TOLERANCE_PX + FLOW_TOLERANCE_SHARE * motion
    return _sample(detail, backward) * visible


def _sample(images: Float[Tensor, "1 c h w"], flow: Float[Tensor, "1 2 h w"]) -> Float[Tensor, "1 c h w"]:
    """Sample images at each pixel plus the flow, which is (x, y) in px."""
    height, width = images.shape[2:]
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    x, y = (columns + flow[:, 0]) * 2 / max(1, width - 1) - 1, (rows + flow[:, 1]) * 2 / max(1, height - 1) - 1
    return F.grid_sample(images, torch.stack([x, y], -1), padding_mode="border", align_corners=True)


def _move(
    images: Float[Tensor, "1 c h w"], zoom: float, rotate: float, pan: tuple[float, float]
) -> Float[Tensor, "1 c h w"]:
    """Enlarge images about the centre, rotate and shift them; beyond the border they are mirrored.

    The matrix maps new to old coordinates, which `affine_grid` takes in [-1, 1] on both axes. So the rotation has to
    undo the aspect ratio, and `pan` counts twice.
    """
    height, width = images.shape[2:]
    angle, ratio = math.radians(rotate), height / width
    cos, sin = math.cos(angle) / zoom, math.sin(angle) / zoom
    matrix = torch.tensor([[cos, -sin * ratio, 2 * pan[1]], [sin / ratio, cos, 2 * pan[0]]])
    grid = F.affine_grid(matrix[None], list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, mode="bicubic", padding_mode="reflection", align_corners=False)
    return moved.clamp(0, 1)  # bicubic interpolation overshoots


def _match_statistics(images: Float[Tensor, "1 c h w"], original: Float[Tensor, "1 c h w"]) -> Float[Tensor, "1 c h w"]:
    """Give each channel of the images the mean and standard deviation that it has in the original."""
    (mean, std), (found_mean, found_std) = (
        (each.mean((2, 3), keepdim=True), each.std((2, 3), keepdim=True)) for each in (original, images)
    )
    return ((images - found_mean) * (std / found_std.clamp(min=1e-6)) + mean).clamp(0, 1)


def _to_frame(images: Float[Tensor, "1 c h w"]) -> Frame:
    """Convert an image to 8-bit RGB."""
    return to_bytes(images[0].numpy())
