"""Clips: the frames of video as pictures, as an animated GIF, and in files with the recipe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from featviz.io.contact_sheet import contact_sheet
from featviz.io.files import ending_of, write
from featviz.io.gif import GIF, encode_gif
from featviz.io.images import over_checks, to_bytes
from featviz.io.npy import recipe_file
from featviz.io.video import save_video

FRAME_RATE = 12.0
"""Frames per second where none are given."""
SHOWN_FRAMES = 8
"""Largest number of frames on the still picture of a clip."""
GAP = 4
"""Space between frames in px."""


def frames_of(clip: Float[np.ndarray, "c t h w"], *, alpha: bool = False) -> list[UInt8[np.ndarray, "h w2 3"]]:
    """Return the frames of a clip as RGB.

    Args:
        clip: In [0, 1].
        alpha: Whether the last channel is alpha, which is shown as a checkerboard.
    """
    frames = [to_bytes(frame, alpha=alpha) for frame in clip.swapaxes(0, 1)]
    return [over_checks(frame) if frame.shape[2] == 4 else frame for frame in frames]


def clip_picture(
    clip: Float[np.ndarray, "c t h w"], *, alpha: bool = False, zoom: int = 1
) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Draw up to `SHOWN_FRAMES` frames of a clip in one row, evenly spaced in time, with the first and the last one.

    Args:
        clip: In [0, 1].
        alpha: As for `frames_of`.
        zoom: Whole factor by which frames are enlarged.

    Returns:
        8-bit RGB, (height, width, 3).
    """
    some = np.unique(np.linspace(0, clip.shape[1] - 1, SHOWN_FRAMES).round().astype(int))
    shown = [frame.repeat(zoom, 0).repeat(zoom, 1) for frame in frames_of(clip[:, some], alpha=alpha)]
    gap = np.full((len(shown[0]), GAP, 3), 255, np.uint8)
    return np.concatenate([part for frame in shown for part in (frame, gap)][:-1], 1)


def sheets_of(
    clips: Float[np.ndarray, "n c t h w"], labels: Sequence[str] = (), *, alpha: bool = False
) -> list[UInt8[np.ndarray, "h2 w2 3"]]:
    """Return the frames of one clip, or contact sheets of the frames of several, one for each point in time.

    Args:
        clips: In [0, 1].
        labels: What each shows, written below it; none for no text.
        alpha: As for `frames_of`.
    """
    each = [frames_of(clip, alpha=alpha) for clip in clips]
    if len(each) == 1:
        return each[0]
    return [contact_sheet(list(together), labels) for together in zip(*each, strict=True)]


def save_clip(frames: Sequence[UInt8[np.ndarray, "h w 3"]], path: Path, rate: float, recipe: str, texts: bytes) -> Path:
    """Write a clip and its recipe: in the comment of a GIF, in a file beside a video.

    Args:
        frames: RGB of 8 bits.
        path: A file that ends in .gif, .mp4 or .webm.
        rate: Frames per second.
        recipe: Recipe as JSON.
        texts: Comment for a GIF, from `pack_texts`.

    Returns:
        The file.

    Raises:
        OutputError: The folder is missing, not writable or full, or the packages for videos are not installed.
    """
    if ending_of(path) == GIF:
        write(path, encode_gif(frames, rate, texts))
        return path
    save_video(frames, path, fps=rate)
    write(recipe_file(path), recipe.encode())
    return path
