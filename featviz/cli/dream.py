"""`featviz dream`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import featviz as fv
from featviz.cli.command import app, examples_of
from featviz.cli.files import name_in, output_file, readable_files, stem_of
from featviz.cli.options import NetworkOptions, Own, Precision, Quiet, expand_groups, progress
from featviz.cli.parsing import find_own, read_numbers, read_precision
from featviz.cli.render import save

VIDEO_ONLY = (".mp4", ".webm", ".mov", ".mkv", ".avi")
"""Endings of files that are always videos; a GIF may be a still image."""


@app.command(epilog=examples_of("dream"))
@expand_groups
def dream(
    image: Annotated[
        Path,
        typer.Argument(
            help="Image, signal or volume file; a folder of them, in which results of earlier runs are skipped; or a "
            "video."
        ),
    ],
    objective: Annotated[
        str | None, typer.Argument(help="As for render. Default: a layer two thirds into the network.")
    ] = None,
    *,
    layer: Annotated[str | None, typer.Option(help="Layer to amplify as a whole, instead of an objective.")] = None,
    octaves: Annotated[int, typer.Option(help="Number of octaves, from small to the size of the image.")] = 4,
    scale: Annotated[float, typer.Option(help="Size ratio of successive octaves.")] = 1.4,
    steps: Annotated[int, typer.Option(help="Steps per octave.")] = 10,
    strength: Annotated[float, typer.Option(help="Step size; gradients are normalised.")] = 1.0,
    jitter: Annotated[int, typer.Option(help="Maximum random shift before each step, in px.")] = 32,
    smooth: Annotated[
        float, typer.Option(help="Standard deviation in px of a blur of the gradient; 0 for none.")
    ] = 0.0,
    laplacian: Annotated[
        int,
        typer.Option(
            help="Frequency bands (Laplacian pyramid) in which the gradient is normalised; 0: off; usually 4."
        ),
    ] = 0,
    keep_color: Annotated[
        bool, typer.Option("--keep-color", help="Keep the colours of the image; change only its brightness.")
    ] = False,
    guide: Annotated[Path | None, typer.Option(help="Image whose features to amplify.")] = None,
    mask: Annotated[Path | None, typer.Option(help="Greyscale image, white where the image may change.")] = None,
    zoom: Annotated[
        float | None, typer.Option(help="Make a video that zooms into the image; 1.03 enlarges by 3 % per frame.")
    ] = None,
    frames: Annotated[int | None, typer.Option(help="Number of frames, with --zoom. Default: 48.")] = None,
    rotate: Annotated[
        float | None, typer.Option(help="Rotation per frame in degrees, with --zoom. Default: 0.")
    ] = None,
    pan: Annotated[
        str | None,
        typer.Option(help="Movement per frame as DOWN,RIGHT, in fractions of the sides, with --zoom. Default: 0,0."),
    ] = None,
    fps: Annotated[
        float | None, typer.Option(help="Frames per second. Default: those of the input video, or 24.")
    ] = None,
    carry: Annotated[
        float | None,
        typer.Option(help="Fraction of the dream that is carried to the next frame of a video. Default: 0.7."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the random shifts.")] = 0,
    tile: Annotated[int, typer.Option(help="Side in px of the tiles into which large images are split.")] = 640,
    precision: Precision = "auto",
    network: NetworkOptions,
    own: Own = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Image file, a folder, or .mp4, .webm or .gif for a video. Default: IMAGE-dream.png beside the image, "
            "or IMAGE-dream.mp4 for a video; SIGNAL-dream.npy for a signal or a volume.",
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """DeepDream: amplify what a layer detects in an image or video."""
    from featviz.engine import check_save
    from featviz.io import DEFAULT_FPS, NPY, VIDEOS, free_path, is_folder

    path = _output_path(image, output, zoom)
    is_video = path.suffix.lower() in VIDEOS
    _check_output(path, is_video, image, zoom=zoom, motion=(frames, rotate, pan), carry=carry, fps=fps)
    if layer and objective:
        raise fv.SettingError(f"give --layer or an objective, not both, got {layer} and {objective!r}")
    target: Any = fv.objectives.Layer(layer) if layer else objective and fv.objectives.parse(objective, find_own(own))
    settings: dict[str, Any] = {
        "octaves": octaves, "scale": scale, "steps": steps, "strength": strength, "jitter": jitter, "smooth": smooth,
        "laplacian": laplacian, "keep_color": keep_color, "mask": mask and str(mask), "guide": guide, "seed": seed,
        "execution": fv.Execution(read_precision(precision), tile=tile),
    }  # fmt: skip
    loaded = network.load()
    if loaded.tokens is None and loaded.input.axes != "yx":
        if zoom is not None or carry is not None:
            raise fv.SettingError(f"--zoom and --carry need a network of images, which {loaded.label} is not")
        if path.suffix == ".png" and (output is None or is_folder(output)):
            path = free_path(path.with_suffix(NPY))
        check_save(path / f"dream{NPY}" if is_folder(path) else path, loaded.input.axes, rate=fps)
        is_video = False
    settings["progress"] = progress(quiet, "dream", "frame" if is_video else "10k px")
    if is_folder(image):
        ending = ".png" if loaded.input.axes == "yx" else NPY
        for file in readable_files(image, loaded, "-dream"):
            rendering = fv.dream(loaded, file, target, **settings)
            name = f"{name_in(image, file) if output else stem_of(file)}-dream{ending}"
            save(rendering, output_file(output or file.parent, name))
    elif not is_video:
        save(fv.dream(loaded, image, target, **settings), path, rate=fps)
    elif zoom is None:
        settings |= _drop_unset(carry=carry)
        _save_video(fv.dream_video(loaded, image, target, **settings), path, _fps_of(image) if fps is None else fps)
    else:
        settings |= _drop_unset(frames=frames, zoom=zoom, rotate=rotate, pan=_read_pan(pan))
        _save_video(fv.dream_zoom(loaded, image, target, **settings), path, DEFAULT_FPS if fps is None else fps)


def _output_path(image: Path, output: Path | None, zoom: float | None) -> Path:
    """Return the file to which the dream on an image is written: named after the image, unless a file is given.

    For a folder of images, this is the folder of the files.

    Raises:
        OutputError: There is no such image, or the output for a folder is a file.
    """
    from featviz.io import free_path, is_file, is_folder

    if not is_folder(image) and not is_file(image):
        raise fv.OutputError(f"no file {image}; check the path")
    if output is not None and not is_folder(output):
        if is_folder(image):
            raise fv.OutputError(f"{image} is a folder, so the output must be an existing folder, got {output}")
        return output
    if is_folder(image):
        return output or image
    ending = ".mp4" if zoom is not None or image.suffix.lower() in VIDEO_ONLY else ".png"
    return free_path((output or image.parent) / f"{stem_of(image)}-dream{ending}")


def _check_output(
    path: Path,
    is_video: bool,
    image: Path,
    *,
    zoom: float | None,
    motion: tuple[Any, ...],
    carry: float | None,
    fps: float | None,
) -> None:
    """Check that the output can be written and that the options apply to its kind.

    Raises:
        SettingError: An option needs another kind of output.
        OutputError: The output cannot be written.
    """
    from featviz.io import VIDEOS, check_fps, check_result, check_video

    endings = ", ".join(VIDEOS)
    if zoom is not None and not is_video:
        raise fv.SettingError(f"--zoom writes a video, so the output must end in {endings}, got {path}")
    if image.suffix.lower() in VIDEO_ONLY and not is_video:
        raise fv.SettingError(f"the dream of a video is a video, so the output must end in {endings}, got {path}")
    (check_video if is_video else check_result)(path)
    if zoom is None and any(value is not None for value in motion):
        raise fv.SettingError("--frames, --rotate and --pan need --zoom; give --zoom 1.03 as well")
    if carry is not None and (zoom is not None or not is_video):
        raise fv.SettingError(f"--carry needs a video as input and output and no --zoom, got {image} and {path}")
    if fps is not None and not is_video:
        raise fv.SettingError(f"--fps needs a video as output, which must end in {endings}, got {path}")
    if fps is not None:
        check_fps(fps)


def _read_pan(text: str | None) -> tuple[float, ...] | None:
    pan = read_numbers(text)
    if pan is not None and len(pan) != 2:
        raise fv.SettingError(f"--pan must be two numbers, down and right, as 0.01,0, got {text!r}")
    return pan


def _drop_unset(**settings: Any) -> dict[str, Any]:
    """Drop the settings that are `None`."""
    return {name: value for name, value in settings.items() if value is not None}


def _fps_of(video: Path) -> float:
    from featviz.io import read_video

    return read_video(video)[0]


def _save_video(frames: Any, path: Path, fps: float) -> None:
    """Write a video while its frames are rendered, and print its name."""
    try:
        fv.save_video(frames, path, fps=fps)
    finally:  # after Ctrl-C, too: the frames until then are saved
        if path.is_file():
            typer.echo(path)
