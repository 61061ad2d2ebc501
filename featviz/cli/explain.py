"""`featviz explain`, `featviz examples` and `featviz evidence`: what in photographs did it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

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
    Quiet,
    Size,
    Std,
    Weights,
    find_classes,
    find_own,
    load_looking,
    read_channels,
    read_size,
)
from featviz.io import check_output, check_outside

FIRST = 8
"""So many units are shown where none were chosen."""
Folder = Annotated[Path, typer.Argument(help="A folder of photographs, and all that is below it.")]


@app.command(epilog=examples_of("explain"))
def explain(
    photo: Annotated[Path, typer.Argument(help="An image file.")],
    objectives: Annotated[
        list[str] | None, typer.Argument(help="What to explain, as inception4a:476. Left out: the likeliest class.")
    ] = None,
    classes: Annotated[list[str] | None, typer.Option("--class", help="Class names or indices to explain.")] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(help="Such as gradcam, smoothgrad, \"LRP('zplus')\"; may be given several times."),
    ] = None,
    layer: Annotated[str | None, typer.Option(help="For methods that look at one. Left out: the last.")] = None,
    model: Model = "motifnet",
    weights: Weights = "default",
    size: Size = None,
    mean: Mean = None,
    std: Std = None,
    order: Order = None,
    layout: LayoutOf = None,
    device: Device = "auto",
    own: Own = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The sheet's file, or a folder. Left out: by the photograph's name.")
    ] = Path(),
    quiet: Quiet = False,
) -> None:
    """Show where in a photograph a score comes from, by several methods side by side.

    Red speaks for it, blue against it; where a method tells classes apart, each has its colour. Some, as gradient and
    smoothgrad, tell only how much, which is red.
    """
    path = _file(output, f"{photo.stem}-explained.png")
    named = find_own(own)
    goals = [fv.objectives.parse(text, named) for text in objectives or []]
    network = load_looking(model, weights, device, size, mean, std, order, layout)
    targets = [*goals, *find_classes(network, classes)]
    bar = None if quiet else fv.progress_bar("explain", "map")
    found = fv.compare(network, photo, targets, *([method] if method else []), layer=layer, progress=bar)
    for problem in dict.fromkeys(found.problems.values()):
        typer.echo(f"featviz: {problem}", err=True)
    for row in found.rows:
        for one in row:
            if one is not None and one.delta is not None:
                typer.echo(f"{one.target}: {one.method} adds up to within {one.delta.abs().max():.2%}")
    typer.echo(found.save(path))


@app.command(epilog=examples_of("examples"))
def examples(
    folder: Folder,
    layer: Annotated[str, typer.Option(help="Whose units; logit for the classes.")],
    channels: Annotated[str | None, typer.Option(help="Such as 0-15,40, or all. Left out: the first eight.")] = None,
    model: Model = "motifnet",
    weights: Weights = "default",
    size: Size = None,
    mean: Mean = None,
    std: Std = None,
    order: Order = None,
    layout: LayoutOf = None,
    device: Device = "auto",
    steps: Annotated[int, typer.Option(help="Of the units' own pictures.")] = 512,
    output: Annotated[Path, typer.Option("--output", "-o", help="The sheet's file, or a folder.")] = Path(),
    quiet: Quiet = False,
) -> None:
    """Show the photographs that excite units most, beside the units' own pictures."""
    path = _file(output, "examples.png")
    check_outside(path, folder)
    network = load_looking(model, weights, device, size, mean, std, order, layout)
    bar = None if quiet else fv.progress_bar("examples", "photo")
    chosen = None if channels in (None, "all") else read_channels(channels or "")
    found = fv.examples(network, folder, layer, chosen, progress=bar)
    found = replace(found, channels=found.channels[:FIRST]) if channels is None else found
    for file, why in found.scan.skipped.items():
        typer.echo(f"featviz: left out {file}: {why}", err=True)
    pictures = fv.render(
        network,
        found.goals,
        param=fv.param.Image(read_size(size)),
        steps=steps,
        progress=None if quiet else fv.progress_bar("pictures"),
    )
    typer.echo(found.save(path, pictures))


@app.command(epilog=examples_of("evidence"))
def evidence(
    folder: Folder,
    layer: Annotated[str | None, typer.Option(help="Whose channels. Left out: the last with places.")] = None,
    top: Annotated[int, typer.Option(help="Channels that are counted for each photograph.")] = 5,
    model: Model = "motifnet",
    weights: Weights = "default",
    size: Size = None,
    mean: Mean = None,
    std: Std = None,
    order: Order = None,
    layout: LayoutOf = None,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Tell which channels matter for which class, over a folder of photographs."""
    network = load_looking(model, weights, device, size, mean, std, order, layout)
    bar = None if quiet else fv.progress_bar("evidence", "photo")
    found = fv.evidence(network, folder, layer, top=top, progress=bar)
    for file, why in found.skipped.items():
        typer.echo(f"featviz: left out {file}: {why}", err=True)
    typer.echo(found)


def _file(path: Path, name: str) -> Path:
    """Put a file without a name into its folder, and make sure that it can be written.

    Raises:
        OutputError: it cannot.
    """
    path = path / name if path.is_dir() else path
    check_output(path)
    return path
