"""`featviz atlas` and `featviz blocks`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import featviz as fv
from featviz.cli.command import app, examples_of
from featviz.cli.gallery import print_pages
from featviz.cli.options import (
    BackendOptions,
    Classes,
    FullSize,
    NetworkOptions,
    Own,
    PageStepsOptions,
    Param,
    Photographs,
    Quiet,
    expand_groups,
    progress,
)
from featviz.cli.parsing import find_own, read_image_size, read_size

Layers = Annotated[
    list[str], typer.Option("--layer", help="Feature map, or tokens on a grid; may be given several times.")
]


@app.command(epilog=examples_of("atlas"))
@expand_groups
def atlas(
    photographs: Photographs,
    *,
    layers: Layers,
    per_image: Annotated[int, typer.Option(help="Random positions of each image whose activations are taken.")] = 4,
    only_class: Annotated[
        str | None, typer.Option(help="Class; take only the images for which the model predicts it.")
    ] = None,
    method: Annotated[str, typer.Option(help="Projection to the plane: umap, tsne or pca.")] = "umap",
    param: Param = "fourier",
    size: Annotated[
        str | None, typer.Option(help="Size of each icon in px: 96, or 96x128 (height x width). Default: 96.")
    ] = None,
    optimisation: PageStepsOptions,
    seed: Annotated[int, typer.Option(help="Seed of the positions, the projection and the icons.")] = 0,
    network: NetworkOptions,
    own: Own = None,
    backend: BackendOptions,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="Folder of the page, on this machine. Default: PHOTOGRAPHS-atlas."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Make an activation atlas of a folder of images, as a web page.

    The atlas shows the activations of a layer in the plane, similar ones close together, with an icon for each cell.
    """
    from featviz.engine import parse_value

    made = fv.atlas(
        network.load(),
        photographs,
        layers,
        output or f"{photographs.resolve().name}-atlas",
        per_image=per_image,
        only_class=only_class,
        method=method,
        param=parse_value(param, fv.param, find_own(own)),
        size=read_image_size(size),
        seed=seed,
        backend=backend.open(),
        scan_progress=progress(quiet, "photographs", "photograph"),
        progress=progress(quiet, "atlas", "image"),
        **optimisation.settings,
    )
    for layer, facts in made.facts.items():
        shared = ""
        if "purity" in facts:
            shared = f"; nearest neighbours share a class in {100 * facts['purity']:.0f} %"
        typer.echo(f"{layer}: {facts['activations']:.0f} activations{shared}")
    print_pages(made)


@app.command(epilog=examples_of("blocks"))
@expand_groups
def blocks(
    image: Annotated[Path, typer.Argument(help="Image, or file of a signal, a volume or a video.")],
    *,
    layers: Layers,
    classes: Classes = None,
    cells: Annotated[
        int | None,
        typer.Option(
            help="Cells along the longest side; a finer feature map is averaged to this grid. Default: 10; of signals "
            "16, of volumes and video 4."
        ),
    ] = None,
    groups: Annotated[int, typer.Option(help="Number of groups into which the activations of a layer are split.")] = 6,
    sweep: Annotated[
        Path | None,
        typer.Option(help="Folder of a sweep; its images with the same size, steps and seed are used again."),
    ] = None,
    param: Param = "fourier",
    size: FullSize = None,
    optimisation: PageStepsOptions,
    seed: Annotated[int, typer.Option(help="Seed of every image.")] = 0,
    network: NetworkOptions,
    own: Own = None,
    backend: BackendOptions,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", help="Folder of the page, or a URL such as s3://bucket/folder. Default: IMAGE-blocks."
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Show what layers detect at each position of an image.

    The page shows an icon for each position of a layer, and how much each contributes to the class logits: of the
    five most likely classes and those given with --class.
    """
    from featviz.engine import parse_value

    made = fv.blocks(
        network.load(),
        image,
        layers,
        output or f"{image.stem}-blocks",
        classes=classes or (),
        cells=cells,
        groups=groups,
        sweep=sweep,
        param=parse_value(param, fv.param, find_own(own)),
        size=read_size(size),
        seed=seed,
        backend=backend.open(),
        progress=progress(quiet, "blocks", "image"),
        **optimisation.settings,
    )
    print_pages(*(made if isinstance(made, list) else [made]))
