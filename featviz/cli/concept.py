"""`featviz concept`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import featviz as fv
from featviz.cli.command import app, examples_of
from featviz.cli.options import NetworkOptions, Quiet, expand_groups, progress


@app.command(epilog=examples_of("concept"))
@expand_groups
def concept(
    positive: Annotated[Path, typer.Argument(help="Folder of at least 10 photographs that show the concept.")],
    negative: Annotated[Path, typer.Argument(help="Folder of at least 10 other photographs.")],
    *,
    layer: Annotated[str, typer.Option(help="Layer in whose activations the concept is found.")],
    per_position: Annotated[
        bool, typer.Option("--per-position", help="Fit to single positions. Default: to the mean over positions.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the photographs held out, random classes and positions.")] = 0,
    network: NetworkOptions,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="File to write; ends in .safetensors. Default: POSITIVE-LAYER, never overwritten."
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Find the direction of a concept in a layer, from photographs.

    It separates photographs that show the concept from others. Use the file with --dictionary FILE: the
    concept is LAYER~0. It is refused unless it separates held-out photographs better than random labels.
    """
    from featviz.io import check_output, free_path, slug

    path = output or free_path(Path(f"{slug(positive.resolve().name)}-{slug(layer)}.safetensors"))
    check_output(path, ".safetensors")
    found = fv.Concept.from_photographs(
        network.load(),
        layer,
        positive,
        negative,
        per_position=per_position,
        seed=seed,
        scan_progress=progress(quiet, "photographs", "photograph"),
        progress=progress(quiet, "random classes", "class"),
    )
    facts = found.dictionary.facts
    typer.echo(
        f"{100 * facts['accuracy']:.0f} % of the photographs that were held out are recognised; "
        f"random classes: {100 * facts['random_accuracy']:.0f} %, at most "
        f"{100 * facts['largest_random_accuracy']:.0f} %"
    )
    typer.echo(found.save(path))
