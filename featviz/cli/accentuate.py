"""`featviz accentuate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import featviz as fv
from featviz.cli.command import app, examples_of
from featviz.cli.options import NetworkOptions, Own, Quiet, expand_groups, progress
from featviz.cli.parsing import find_own
from featviz.cli.render import save


@app.command(epilog=examples_of("accentuate"))
@expand_groups
def accentuate(
    image: Annotated[Path, typer.Argument(help="Image file.")],
    objective: Annotated[
        str | None, typer.Argument(help="As for render. Default: the logit of the predicted class.")
    ] = None,
    *,
    layer: Annotated[
        str | None,
        typer.Option(
            help="Early layer that stays almost the same. Default: the feature map nearest to a quarter of the depth."
        ),
    ] = None,
    weight: Annotated[
        float, typer.Option(help="Weight of the change in the early layer; larger values change the photograph less.")
    ] = 4.0,
    crops: Annotated[int, typer.Option(help="Random crops in each step.")] = 16,
    zoom: Annotated[
        float, typer.Option(help="Largest zoom of a crop: side of the image divided by that of the crop.")
    ] = 1.3,
    steps: Annotated[int, typer.Option(help="Number of steps.")] = 100,
    lr: Annotated[float, typer.Option(help="Learning rate of the Fourier coefficients.")] = 0.05,
    opaque: Annotated[bool, typer.Option("--opaque", help="Leave out the alpha channel.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the crops.")] = 0,
    network: NetworkOptions,
    own: Own = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Image file. Default: IMAGE-accentuated.png, never overwritten."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Enhance the features of a unit in a photograph.

    The image has the size of the network's input. Prints the mean
    score of random crops in the first step, of the photograph, and in the last one, of the image.
    """
    from featviz.io import check_output, free_path

    path = output or free_path(Path(f"{image.stem}-accentuated.png"))
    check_output(path)
    loaded = network.load()
    rendering = fv.accentuate(
        loaded,
        image,
        None if objective is None else fv.objectives.parse(objective, find_own(own)),
        layer=layer,
        weight=weight,
        crops=crops,
        zoom=zoom,
        steps=steps,
        lr=lr,
        opaque=opaque,
        seed=seed,
        progress=progress(quiet, "accentuate", "step"),
    )
    if len(rendering.history):
        first, last = float(rendering.history[0]), float(rendering.history[-1])
        typer.echo(f"{rendering.names[0]}: {first:.3g} in crops of the photograph, {last:.3g} in those of the image")
    save(rendering, path)
