"""`featviz render`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import featviz as fv
from featviz.interfaces import param_traits_of
from featviz.cli.command import app, examples_of
from featviz.cli.options import (
    Device,
    LayoutOf,
    Mean,
    Model,
    Order,
    Output,
    Own,
    ParamName,
    Precision,
    Quality,
    Quiet,
    Size,
    Std,
    Steps,
    Weights,
    find_classes,
    find_own,
    finish,
    load_network,
    read_quality,
    read_size,
)
from featviz.engine import parse_value
from featviz.io import check_output


@app.command(epilog=examples_of("render"))
def render(
    objectives: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="OBJECTIVE...", help='Such as stage2:5, stage2:5@3,4 or "logit:spiral - tv + 2*diversity(stage2)".'
        ),
    ] = None,
    classes: Annotated[
        list[str] | None, typer.Option("--class", help="Short for logit:NAME; may be given several times.")
    ] = None,
    model: Model = "motifnet",
    weights: Weights = "default",
    size: Size = None,
    batch: Annotated[int, typer.Option(help="Pictures of each objective.")] = 1,
    quality: Quality = "usual",
    steps: Steps = None,
    seed: Annotated[int, typer.Option(help="The first picture's; the next has the next.")] = 0,
    param: ParamName = "fourier",
    transforms: Annotated[
        str | None,
        typer.Option(help='standard, near, lucid, none, or as "(Pad(8), Jitter(16))". Left out: what suits the param.'),
    ] = None,
    optimizer: Annotated[
        str, typer.Option(help='adam, ascent, normalized, or an expression such as "Clipped(0.1, Ascent(lr=2.0))".')
    ] = "adam",
    lr: Annotated[float | None, typer.Option(help="The first step's learning rate, of adam. Left out: 0.05.")] = None,
    start: Annotated[Path | None, typer.Option(help="A picture to begin from. Left out: noise.")] = None,
    at: Annotated[str | None, typer.Option(help="Draw the result again at this size; for --param cppn.")] = None,
    smooth_pools: Annotated[
        bool, typer.Option("--smooth-pools", help="Spread the gradient of maximum pools, which takes their grid away.")
    ] = False,
    precision: Precision = "auto",
    max_memory: Annotated[
        str | None,
        typer.Option(
            help="How much to take, as 4GB; a batch that needs more is split. Left out: most of what is free."
        ),
    ] = None,
    tile: Annotated[int | None, typer.Option(help="See larger views in pieces of so many px. Left out: whole.")] = None,
    device: Device = "auto",
    mean: Mean = None,
    std: Std = None,
    order: Order = None,
    layout: LayoutOf = None,
    own: Own = None,
    output: Output = None,
    quiet: Quiet = False,
) -> None:
    """Draw what units of a network see; several become one batch."""
    check_output(output or Path("sheet.png"))
    settings = read_quality(quality, steps)
    named = find_own(own)
    if optimizer.lower() != "adam" and lr is not None:
        raise fv.SettingError('--lr is of adam; write it into the optimizer, as "Ascent(lr=2.0)"')
    if optimizer.lower() != "adam":
        settings["optimizer"] = parse_value(optimizer, fv.optimizers, named)
    elif lr is not None:
        settings["optimizer"] = fv.optimizers.Adam(lr)
    goals = [fv.objectives.parse(text, named) for text in objectives or []]
    if not goals and not classes:
        raise fv.SettingError("nothing to render; give an objective such as stage2:5, or --class NAME")
    whole, again = fv.param.sized(parse_value(param, fv.param, named), read_size(size), batch), read_size(at)
    if again and not param_traits_of(whole).any_size:
        raise fv.SettingError(f"--at draws again what has no size of its own, and {param} has one; give --param cppn")
    network = load_network(model, weights, device, size, mean, std, order, layout, smooth_pools=smooth_pools)
    goals += find_classes(network, classes)
    rendering = fv.render(
        network,
        goals,
        param=whole,
        transforms=None if transforms is None else parse_value(transforms, fv.transforms, named),
        seed=seed,
        start=start,
        execution=fv.Execution(None if precision == "auto" else precision, max_memory=max_memory, tile=tile),  # type: ignore[arg-type]
        progress=None if quiet else fv.progress_bar("render"),
        **settings,
    )
    finish(rendering.at(again) if again else rendering, output)
