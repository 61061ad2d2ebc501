"""`featviz circuit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import featviz as fv
from featviz.cli.command import app, examples_of
from featviz.cli.gallery import print_pages
from featviz.cli.options import (
    BackendOptions,
    NetworkOptions,
    Own,
    Param,
    Quiet,
    Size,
    StepsOptions,
    expand_groups,
    progress,
)
from featviz.cli.parsing import find_own, read_image_size


@app.command(epilog=examples_of("circuit"))
@expand_groups
def circuit(
    unit: Annotated[str, typer.Argument(help="Unit: LAYER:CHANNEL or logit:CLASS.")],
    *,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Layer of the inputs, or image. Default: the nearest layer that all paths to the unit pass through.",
        ),
    ] = None,
    inputs: Annotated[int, typer.Option(help="Number of excitatory inputs on a page, and of inhibitory ones.")] = 8,
    depth: Annotated[
        int,
        typer.Option(help="Depth of the linked pages. 1: the unit's inputs get pages; 2: their inputs, too."),
    ] = 1,
    groups: Annotated[int, typer.Option(help="Groups into which all inputs of the unit are collapsed.")] = 4,
    family: Annotated[
        bool, typer.Option("--family", help="Also find units of the layer whose kernels are rotations of the unit's.")
    ] = False,
    photographs: Annotated[
        Path | None,
        typer.Option(help="Folder of images; those with the highest activation are a unit's exemplars."),
    ] = None,
    sweep: Annotated[
        Path | None, typer.Option(help="Folder of a sweep; its images of units are used, whatever their size.")
    ] = None,
    param: Param = "fourier",
    size: Size = None,
    optimisation: StepsOptions,
    seed: Annotated[int, typer.Option(help="Seed of every image.")] = 0,
    network: NetworkOptions,
    own: Own = None,
    backend: BackendOptions,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", help="Folder of the pages, or a URL such as s3://bucket/folder. Default: UNIT-circuit."
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Show which inputs excite and inhibit a unit, as web pages.

    Each input is shown with its image and the weights to the unit, and links to a page of its own inputs. The pages
    show by how much the response of the unit falls when its strongest inputs are ablated.
    """
    from featviz.engine import parse_value
    from featviz.io import slug

    made = fv.circuit(
        network.load(),
        unit,
        output or f"{slug(unit)}-circuit",
        source=source,
        inputs=inputs,
        depth=depth,
        groups=groups,
        family=family,
        photographs=photographs,
        sweep=sweep,
        param=parse_value(param, fv.param, find_own(own)),
        size=read_image_size(size),
        seed=seed,
        backend=backend.open(),
        scan_progress=progress(quiet, "photographs", "photograph"),
        progress=progress(quiet, "circuit", "image"),
        **optimisation.settings,
    )
    numbers = next(iter(made.facts.values()), {})
    if numbers:
        typer.echo(
            f"{unit}: response {numbers['response']:.3g}; without the strongest excitatory inputs "
            f"{numbers['without excitatory']:.3g}, without random ones {numbers['without random']:.3g}"
        )
    print_pages(made)
