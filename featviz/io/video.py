"""Moving pictures: frames in, frames out."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import imageio.v2 as iio
import numpy as np
from jaxtyping import UInt8
from PIL import Image as PillowImage

from featviz.errors import OutputError, SettingError
from featviz.io.files import check_output
from featviz.io.images import opened

VIDEOS: dict[str, dict[str, Any]] = {
    ".gif": {"loop": 0},
    ".mp4": {"codec": "libx264", "quality": 8, "pixelformat": "yuv420p", "macro_block_size": 2},
    ".webm": {
        "codec": "libvpx-vp9",
        "pixelformat": "yuv420p",
        "macro_block_size": 2,
        "quality": None,
        "output_params": ["-crf", "24", "-b:v", "0"],
    },
}
"""The formats that can be written, by file ending, and how."""
PICTURES = (".gif", ".webp", ".png", ".jpg", ".jpeg")
"""Files that hold pictures, of which some are animated."""
NEEDS = "videos need imageio-ffmpeg and OpenCV; run: pip install 'featviz[video]'"


def read_video(path: str | Path) -> tuple[float, int, Iterator[UInt8[np.ndarray, "h w 3"]]]:
    """Open a video or an animated picture.

    Returns:
        Frames a second, how many frames there are about, and the frames one by one.

    Raises:
        OutputError: the file is missing or no video, or what reads videos is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise OutputError(f"no file {path}")
    if path.suffix.lower() in PICTURES:
        with opened(path) as picture:
            count, milliseconds = getattr(picture, "n_frames", 1), picture.info.get("duration") or 100
        if count < 2:
            raise OutputError(f"{path} is a still picture; give a video, or --zoom to move through it")
        _needed()
        return 1000 / milliseconds, count, _animated(path, count)
    _needed()
    try:
        with _reader(path) as reader:
            facts = reader.get_meta_data()
    except (OSError, ValueError, IndexError, RuntimeError) as error:  # ffmpeg's words for what is no video
        raise OutputError(f"cannot read {path} as a video; give an MP4, WebM or GIF file") from error
    return facts["fps"], round(facts["duration"] * facts["fps"]), _filmed(path)


def save_video(frames: Iterable[UInt8[np.ndarray, "h w 3"]], path: str | Path, *, fps: float = 24.0) -> Path:
    """Write frames as they come; after Ctrl-C or an error those that there are so far.

    Args:
        frames: all of one size.
        path: ends in .mp4, .webm or .gif.
        fps: frames a second.

    Raises:
        OutputError: the folder is missing, not writable or full, there is no frame, or what writes videos is missing.
        SettingError: no frames a second, or frames of several sizes.
    """
    path = Path(path)
    check_video(path)
    if not fps > 0:
        raise SettingError(f"{fps} frames a second do not move; give a number above 0, 24 is usual")
    aside = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    options = VIDEOS[path.suffix.lower()]
    options = options | ({"duration": 1000 / fps} if path.suffix.lower() == ".gif" else {"fps": fps})
    source, count, shape, ended = iter(frames), 0, None, None
    try:
        writer: Any
        with closing(iio.get_writer(aside, mode="I", **options)) as writer:  # type: ignore[arg-type]
            while ended is None:
                try:
                    frame = _alike(next(source), shape)
                except BaseException as end:
                    ended = end
                else:
                    shape = frame.shape
                    writer.append_data(_even(frame) if "codec" in options else frame)
                    count += 1
        if count:
            aside.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        aside.unlink(missing_ok=True)
    if not isinstance(ended, StopIteration):
        raise ended
    if not count:
        raise OutputError(f"cannot write {path}: there is not one frame")
    return path


def check_video(path: Path) -> None:
    """Make sure that a video can be written here, before anything is computed.

    Raises:
        OutputError: the folder is missing or not writable, the ending is no format, or what writes videos is missing.
    """
    check_output(path, *VIDEOS)
    if path.suffix.lower() != ".gif":
        _needed()


def _animated(path: Path, count: int) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    with PillowImage.open(path) as picture:
        for i in range(count):
            picture.seek(i)
            yield np.asarray(picture.convert("RGB"))


def _filmed(path: Path) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    with _reader(path) as reader:
        for frame in reader:
            yield np.asarray(frame)[..., :3]


def _reader(path: Path) -> Any:
    return iio.get_reader(path, "ffmpeg")  # type: ignore[arg-type]


def _alike(frame: UInt8[np.ndarray, "h w 3"], shape: tuple[int, ...] | None) -> UInt8[np.ndarray, "h w 3"]:
    """Make sure that a frame has the shape of those before it.

    Raises:
        SettingError: it has another.
    """
    if shape is not None and frame.shape != shape:
        raise SettingError(f"a frame of shape {frame.shape} after {shape}; give frames of one size")
    return frame


def _even(frame: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Repeat the last row and column where a side is odd: the codecs hold colours for squares of four pixels."""
    return np.pad(frame, ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)), mode="edge")


def _needed() -> None:
    if not all(importlib.util.find_spec(name) for name in ("imageio_ffmpeg", "cv2")):
        raise OutputError(NEEDS)
