"""`featviz dream`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import featviz as fv
from featviz.cli.command import app, examples_of
from featviz.cli.options import (
    Device,
    LayoutOf,
    Mean,
    Model,
    Order,
    Own,
    Precision,
    Quiet,
    Std,
    Weights,
    find_own,
    finish,
    load_network,
    read_numbers,
    read_size,
)
from featviz.io import VIDEOS, check_output, check_video, read_video

FILMS = (".mp4", ".webm", ".mov", ".mkv", ".avi")
"""Endings of files that are videos and never pictures."""


@app.command(epilog=examples_of("dream"))
def dream(
    photo: Annotated[Path, typer.Argument(help="A picture; or a video, where a video is written.")],
    objective: Annotated[
        str | None, typer.Argument(help="As for render. Left out: a layer two thirds into the network.")
    ] = None,
    layer: Annotated[str | None, typer.Option(help="All of this layer, as the objective.")] = None,
    model: Model = "motifnet",
    weights: Weights = "default",
    octaves: Annotated[int, typer.Option(help="At how many sizes, the largest being the photograph's.")] = 4,
    scale: Annotated[float, typer.Option(help="How much larger each is than the last.")] = 1.4,
    steps: Annotated[int, typer.Option(help="At each size.")] = 10,
    strength: Annotated[float, typer.Option(help="How far a step goes.")] = 1.0,
    jitter: Annotated[int, typer.Option(help="How far at most the picture is rolled before each step, in px.")] = 32,
    smooth: Annotated[float, typer.Option(help="Blur gradients so many px wide.")] = 0.0,
    laplacian: Annotated[
        int, typer.Option(help="Make so many octaves of the gradient equally strong; 4 is usual.")
    ] = 0,
    keep_color: Annotated[bool, typer.Option("--keep-color", help="Keep the photograph's colours.")] = False,
    guide: Annotated[Path | None, typer.Option(help="A picture whose features to dream of.")] = None,
    mask: Annotated[Path | None, typer.Option(help="A grey picture, white where the photograph may change.")] = None,
    zoom: Annotated[
        float | None, typer.Option(help="Make a video that falls into the photograph: 1.03 is 3 % a frame.")
    ] = None,
    frames: Annotated[int | None, typer.Option(help="Of that video. Left out: 48.")] = None,
    rotate: Annotated[float | None, typer.Option(help="How far it turns in a frame, in degrees. Left out: 0.")] = None,
    pan: Annotated[
        str | None, typer.Option(help="How far it moves in a frame, DOWN,ALONG as shares of the sides. Left out: 0,0.")
    ] = None,
    fps: Annotated[float | None, typer.Option(help="Frames a second. Left out: the video's own, or 24.")] = None,
    keep: Annotated[
        float | None, typer.Option(help="With what share of a video's last dream the next frame begins. Left out: 0.7.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the rolls.")] = 0,
    tile: Annotated[int, typer.Option(help="Side in px of the pieces in which a large picture is seen.")] = 640,
    precision: Precision = "auto",
    size: Annotated[
        str | None, typer.Option(help="What a module of one's own expects, in px, as 224 or 160x320.")
    ] = None,
    mean: Mean = None,
    std: Std = None,
    order: Order = None,
    layout: LayoutOf = None,
    device: Device = "auto",
    own: Own = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A picture, or .mp4, .webm or .gif. Left out: by name.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Let a network see more of what it sees in a photograph already: DeepDream, still or moving."""
    kind = ".mp4" if zoom is not None or photo.suffix.lower() in FILMS else ".png"
    path = output or photo.with_name(f"{photo.stem}-dream{kind}")
    moving = path.suffix.lower() in VIDEOS
    if zoom is not None and not moving:
        raise fv.SettingError(f"--zoom makes a video, and {path} is none; end the name in {', '.join(VIDEOS)}")
    (check_video if moving else check_output)(path)
    if zoom is None and any(value is not None for value in (frames, rotate, pan)):
        raise fv.SettingError("--frames, --rotate and --pan are of the video that --zoom makes; give --zoom 1.03 too")
    if keep is not None and (zoom is not None or not moving):
        raise fv.SettingError(f"--keep is of a video that is dreamt along, and {photo} is none; leave it out")
    if fps is not None and not moving:
        raise fv.SettingError(f"--fps is of a video, and {path} is none; end the name in {', '.join(VIDEOS)}")
    if layer and objective:
        raise fv.SettingError(f"both --layer {layer} and the objective {objective!r} are given; leave one out")
    goal: Any = fv.objectives.Layer(layer) if layer else objective and fv.objectives.parse(objective, find_own(own))
    network = load_network(model, weights, device, size, mean, std, order, layout)
    if size is not None and network.size != read_size(size):
        raise fv.SettingError(
            "--size is what a module of one's own expects; a dream has its photograph's: leave it out"
        )
    settings: dict[str, Any] = {
        "octaves": octaves, "scale": scale, "steps": steps, "strength": strength, "jitter": jitter, "smooth": smooth,
        "laplacian": laplacian, "keep_color": keep_color, "mask": mask and str(mask), "guide": guide, "seed": seed,
        "execution": fv.Execution(None if precision == "auto" else precision, tile=tile),  # type: ignore[arg-type]
        "progress": None if quiet else fv.progress_bar("dream", "frame" if moving else "x10kpx"),
    }  # fmt: skip
    if not moving:
        finish(fv.dream(network, photo, goal, **settings), path)
        return
    if zoom is None:
        settings |= {} if keep is None else {"keep": keep}
        drawn, usual = fv.dream_video(network, photo, goal, **settings), read_video(photo)[0]
    else:
        way = read_numbers(pan)
        if way is not None and len(way) != 2:
            raise fv.SettingError(f"cannot read --pan {pan!r}; give shares down and along, as 0.01,0")
        moves = {"frames": frames, "zoom": zoom, "rotate": rotate, "pan": way}
        settings |= {name: value for name, value in moves.items() if value is not None}
        drawn, usual = fv.dream_zoom(network, photo, goal, **settings), 24.0
    try:
        fv.save_video(drawn, path, fps=usual if fps is None else fps)
    finally:  # also after Ctrl-C: what there is so far is worth having
        if path.is_file():
            typer.echo(path)
