"""Read and write videos and animated images, frame by frame."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import imageio.v2 as iio
import numpy as np
from jaxtyping import UInt8

from featviz.errors import OutputError, SettingError
from featviz.io.files import check_output, is_file, replace_durably, temporary_beside
from featviz.io.images import open_image

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
"""imageio's options for the video formats that can be written, by file ending."""
PILLOW_ENDINGS = (".gif", ".webp", ".png", ".jpg", ".jpeg")
"""File endings of images, still or animated, which Pillow reads; ffmpeg reads everything else."""
READ_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegvideo,mpegts,ogg,flv,asf"
"""ffmpeg's formats that are read, whatever the file is called. It knows playlists, too, which make it read other files
and addresses."""
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


def save_video(frames: Iterable[UInt8[np.ndarray, "h w 3"]], path: str | Path, *, fps: float = 24.0) -> Path:
    """Write frames as they are computed. After Ctrl-C or an error, the file holds the frames up to there.

    Args:
        frames: RGB of 8 bits, (h, w, 3), all of one size.
        path: A file that ends in .mp4, .webm or .gif.
        fps: Frames per second, > 0.

    Returns:
        The file.

    Raises:
        OutputError: The folder is missing, not writable or full, there are no frames, or the packages for videos are
            not installed.
        SettingError: `fps` is out of its range, or the frames have several sizes.
    """
    path = Path(path)
    check_video(path)
    if not fps > 0:
        raise SettingError(f"fps must be > 0, got {fps} (default 24)")
    options = VIDEOS[path.suffix.lower()]
    options = options | ({"duration": 1000 / fps} if path.suffix.lower() == ".gif" else {"fps": fps})
    source, count, shape, ended = iter(frames), 0, None, None
    with temporary_beside(path, path.suffix) as temporary:
        writer: Any
        with closing(iio.get_writer(temporary, mode="I", **options)) as writer:  # type: ignore[arg-type]
            # An error of the source, Ctrl-C included, ends the video and is raised again once the file is complete.
            # Only errors of the writer become an `OutputError`.
            while ended is None:
                try:
                    frame = _of_shape(next(source), shape)
                except BaseException as end:
                    ended = end
                else:
                    shape = frame.shape
                    writer.append_data(_with_even_sides(frame) if "codec" in options else frame)
                    count += 1
        if count:
            _check_frames(temporary, count)
            replace_durably(temporary, path)
    if not isinstance(ended, StopIteration):
        raise ended
    if not count:
        raise OutputError(f"cannot write {path}: there are no frames; render at least one")
    return path


def check_video(path: Path) -> None:
    """Check that a video can be written, before anything is computed.

    Args:
        path: The file.

    Raises:
        OutputError: The folder is missing or not writable, the format is unknown, or the packages for videos are not
            installed.
    """
    check_output(path, *VIDEOS)
    if path.suffix.lower() != ".gif":
        _check_installed()


def _check_frames(path: Path, count: int) -> None:
    """Check that a video that was just written has all its frames: where the disk is full, ffmpeg fails silently.

    Raises:
        OSError: It cannot be read, or has another number of frames.
    """
    try:
        if path.suffix == ".gif":  # equal frames are merged, so their number says nothing
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
