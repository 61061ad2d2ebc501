"""`featviz unit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import featviz as fv
from featviz.cli.command import app, examples_of
from featviz.cli.files import output_file
from featviz.cli.options import JudgeOptions, NetworkOptions, Quiet, Seed, Size, StepsOptions, expand_groups, progress
from featviz.cli.parsing import read_image_size


@app.command(epilog=examples_of("unit"))
@expand_groups
def unit(
    unit: Annotated[str, typer.Argument(help="Unit: LAYER:CHANNEL, LAYER~FEATURE of a dictionary, or logit:CLASS.")],
    *,
    photographs: Annotated[Path, typer.Option(help="Folder of images; its subfolders are labels.")],
    labels: Annotated[
        Path | None, typer.Option(help="CSV file of labels: in each line an image, then its labels.")
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            help="Model whose features measure the similarity of photographs; values as for --model. "
            "Default: the model itself."
        ),
    ] = None,
    judge_options: JudgeOptions,
    size: Size = None,
    optimisation: StepsOptions,
    seed: Seed = 0,
    network: NetworkOptions,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="File that ends in .html; or a folder, also for the images. Default: UNIT.html."
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Write a card of a unit: images, photographs, a name and scores.

    The scores measure how interpretable the unit is, and whether it is polysemantic; if so, an image is rendered for
    each of two meanings.
    """
    from featviz.io import check_outside, is_folder, slug

    path = output if output is not None and is_folder(output) else output_file(output, f"{slug(unit)}.html")
    check_outside(path, photographs)
    loaded = network.load()
    made = fv.unit(
        loaded,
        unit,
        photographs,
        judge=judge_options.load_if_given(judge, network.device),
        labels=labels,
        size=read_image_size(size),
        seed=seed,
        scan_progress=progress(quiet, "photographs", "photograph"),
        progress=progress(quiet, "unit", "image"),
        **optimisation.settings,
    )
    typer.echo(made)
    typer.echo(made.save(path))
