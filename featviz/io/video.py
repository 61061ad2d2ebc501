"""Read and write videos and animated images, frame by frame."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import imageio.v2 as iio
import numpy as np
from jaxtyping import UInt8

from featviz.checks import check_number
from featviz.errors import OutputError, SettingError
from featviz.io.files import check_output, is_file, replace_durably, temporary_beside
from featviz.io.gif import GIF, encode_gif
from featviz.io.images import open_image

VIDEOS: dict[str, dict[str, Any]] = {
    GIF: {},
    ".mp4": {"codec": "libx264", "quality": 8, "pixelformat": "yuv420p", "macro_block_size": 2},
    ".webm": {
        "codec": "libvpx-vp9",
        "pixelformat": "yuv420p",
        "macro_block_size": 2,
        "quality": None,
        "output_params": ["-crf", "24", "-b:v", "0"],
    },
}
"""imageio's options for the video formats that can be written, by file ending; Pillow writes animated images."""
PILLOW_ENDINGS = (".gif", ".webp", ".png", ".jpg", ".jpeg")
"""File endings of images, still or animated, which Pillow reads; ffmpeg reads everything else."""
READ_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegvideo,mpegts,ogg,flv,asf"
"""Container formats that ffmpeg may read, detected by content.

Playlists are excluded, because they make ffmpeg open other files and URLs.
"""
MIN_FPS, MAX_FPS = 0.01, 1000.0
"""Limits of the frames per second of a video; a GIF can show a frame for at most 655 s."""
DEFAULT_FPS = 24
"""Frames per second of a video that is written."""
DEFAULT_FRAME_MS = 100
"""Duration of a frame in ms in animated images that do not state one."""


def read_video(path: str | Path) -> tuple[float, int, Iterator[UInt8[np.ndarray, "h w 3"]]]:
    """Open a video or an animated image.

    Args:
        path: The file.

    Returns:
        Frames per second, the number of frames (an estimate for videos), and an iterator over the frames, RGB of
        8 bits, (h, w, 3).

    Raises:
        OutputError: The file is missing, a still image or not a video, or the packages for videos are not installed.
    """
    path = Path(path)
    if not is_file(path):
        raise OutputError(f"no file {path}; check the path")
    if path.suffix.lower() in PILLOW_ENDINGS:
        with open_image(path) as picture:
            count, milliseconds = getattr(picture, "n_frames", 1), picture.info.get("duration") or DEFAULT_FRAME_MS
        if count < 2:
            raise OutputError(f"{path} is a still image; give a video, or --zoom to zoom into the image")
        _check_installed()
        return 1000 / milliseconds, count, _image_frames(path, count)
    _check_installed()
    try:
        with _reader(path) as reader:
            facts = reader.get_meta_data()
    except (
        OSError,
        ValueError,
        IndexError,
        RuntimeError,
    ) as error:  # what imageio raises for files that are not videos
        raise OutputError(f"cannot read {path} as a video; give an MP4, WebM or GIF file") from error
    return facts["fps"], round(facts["duration"] * facts["fps"]), _video_frames(path)


def save_video(frames: Iterable[UInt8[np.ndarray, "h w 3"]], path: str | Path, *, fps: float = DEFAULT_FPS) -> Path:
    """Write frames as they are computed. After Ctrl-C or an error, the file holds the frames up to there.

    Args:
        frames: RGB of 8 bits, (h, w, 3), all of one size.
        path: A file that ends in .mp4, .webm or .gif.
        fps: Frames per second, in [0.01, 1000].

    Returns:
        The file.

    Raises:
        OutputError: The folder is missing, not writable or full, there are no frames, or the packages for videos are
            not installed.
        SettingError: `fps` is out of its range, or the frames have several sizes.
    """
    path = Path(path)
    check_video(path)
    check_fps(fps)
    recorded = _Recorded(frames)
    with temporary_beside(path, path.suffix) as temporary:
        if path.suffix.lower() == GIF:
            recorded.write_gif(temporary, fps)
        else:
            recorded.write_video(temporary, VIDEOS[path.suffix.lower()] | {"fps": fps})
        if recorded.count:
            _check_frames(temporary, recorded.count)
            replace_durably(temporary, path)
    if recorded.error is not None:
        raise recorded.error
    if not recorded.count:
        raise OutputError(f"cannot write {path}: there are no frames; render at least one")
    return path


class _Recorded:
    """Frames of a source, which end where it ends or raises an error, Ctrl-C included; the error is kept for later.

    So the file is completed, and only errors of the writer become an `OutputError`.

    Args:
        source: The frames.
    """

    def __init__(self, source: Iterable[UInt8[np.ndarray, "_ _ 3"]]) -> None:
        self.source, self.count = source, 0
        self.shape: tuple[int, ...] | None = None
        self.error: BaseException | None = None

    def __iter__(self) -> Iterator[UInt8[np.ndarray, "_ _ 3"]]:
        """Yield the frames, and count them."""
        source = iter(self.source)
        while True:
            try:
                frame = _of_shape(next(source), self.shape)
            except StopIteration:
                return
            except BaseException as error:
                self.error = error
                return
            self.shape = frame.shape
            self.count += 1
            yield frame

    def write_gif(self, file: Path, fps: float) -> None:
        """Write the frames to an animated image, unless there is none."""
        frames = iter(self)
        for first in frames:
            file.write_bytes(encode_gif(itertools.chain([first], frames), fps))

    def write_video(self, file: Path, options: Mapping[str, Any]) -> None:
        """Write the frames to a video."""
        writer: Any
        with closing(iio.get_writer(file, mode="I", **options)) as writer:  # type: ignore[arg-type]
            for frame in self:
                writer.append_data(_with_even_sides(frame))


def check_fps(fps: float, name: str = "fps") -> None:
    """Check a number of frames per second.

    Args:
        fps: The number.
        name: Name of the argument, for the message.

    Raises:
        SettingError: `fps` is not in [0.01, 1000].
    """
    note = f"(default {DEFAULT_FPS})" if name == "fps" else ""
    check_number(name, fps, at_least=MIN_FPS, at_most=MAX_FPS, note=note)


def check_video(path: Path) -> None:
    """Check that a video can be written, before anything is computed.

    Args:
        path: The file.

    Raises:
        OutputError: The folder is missing or not writable, the format is unknown, or the packages for videos are not
            installed.
    """
    check_output(path, *VIDEOS)
    if path.suffix.lower() != GIF:
        _check_installed()


def _check_frames(path: Path, count: int) -> None:
    """Check that a video that was just written has all its frames: where the disk is full, ffmpeg fails silently.

    Raises:
        OSError: It cannot be read, or has another number of frames.
    """
    try:
        if path.suffix.lower() == GIF:  # equal frames are merged, so their number says nothing
            with open_image(path) as picture:
                picture.seek(getattr(picture, "n_frames", 1) - 1)
                picture.load()
            return
        import imageio_ffmpeg  # type: ignore[import-untyped]

        found, _ = imageio_ffmpeg.count_frames_and_secs(path)
    except (OutputError, RuntimeError, OSError, EOFError, ValueError, SyntaxError) as error:
        raise OSError("the video is broken; is the disk full?") from error
    if found != count:
        raise OSError(f"the video has {found} of {count} frames; is the disk full?")


def _image_frames(path: Path, count: int) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """Yield the frames of an animated image."""
    with open_image(path) as picture:
        for i in range(count):
            picture.seek(i)
            yield np.asarray(picture.convert("RGB"))


def _video_frames(path: Path) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """Yield the frames of a video."""
    with _reader(path) as reader:
        for frame in reader:
            yield np.asarray(frame)[..., :3]


def _reader(path: Path) -> Any:
    # ffmpeg takes names such as "concat:…" for protocols, but no absolute path.
    return iio.get_reader(path.resolve(), "ffmpeg", input_params=["-format_whitelist", READ_CONTAINERS])  # type: ignore[arg-type]


def _of_shape(frame: UInt8[np.ndarray, "h w 3"], shape: tuple[int, ...] | None) -> UInt8[np.ndarray, "h w 3"]:
    """Check that a frame has the shape of those before it; `None` for the first."""
    if shape is not None and frame.shape != shape:
        raise SettingError(f"all frames must have the shape of the first, {shape}, got {frame.shape}")
    return frame


def _with_even_sides(frame: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Repeat the last row or column where a side is odd: yuv420p stores one colour per 2 x 2 pixels."""
    return np.pad(frame, ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)), mode="edge")


def _check_installed() -> None:
    if not all(importlib.util.find_spec(name) for name in ("imageio_ffmpeg", "cv2")):
        raise OutputError("videos need imageio-ffmpeg and OpenCV; run: pip install 'featviz[video]'")
