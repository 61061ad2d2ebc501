"""`featviz atlas` and `featviz blocks`: pages that let one walk through a network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import featviz as fv
from featviz.cli.command import app, examples_of
from featviz.cli.gallery import Address, Backend, Workers, finish, make_backend
from featviz.cli.options import (
    Device,
    LayoutOf,
    Mean,
    Model,
    Order,
    Own,
    ParamName,
    Quiet,
    Size,
    Std,
    Weights,
    find_own,
    load_network,
    read_size,
)
from featviz.engine import parse_value


@app.command(epilog=examples_of("atlas"))
def atlas(
    photographs: Annotated[Path, typer.Argument(help="A folder of photographs, and all that is below it.")],
    layer: Annotated[list[str], typer.Option(help="Whose activations; several stand beside one another.")],
    model: Model = "motifnet",
    output: Annotated[str, typer.Option("--output", "-o", help="A folder of this machine.")] = "atlas",
    each: Annotated[int, typer.Option(help="Random places of each photograph.")] = 4,
    only: Annotated[
        str | None, typer.Option(help="A class: take only photographs that the model takes for it.")
    ] = None,
    method: Annotated[str, typer.Option(help="How to lay them out: umap, tsne or pca.")] = "umap",
    param: ParamName = "fourier",
    own: Own = None,
    weights: Weights = "default",
    size: Annotated[str | None, typer.Option(help="Of each picture, in px. Left out: 96.")] = None,
    steps: Annotated[int, typer.Option(help="Of each picture.")] = 256,
    seed: Annotated[int, typer.Option(help="Of places, layout and pictures.")] = 0,
    device: Device = "auto",
    mean: Mean = None,
    std: Std = None,
    order: Order = None,
    layout: LayoutOf = None,
    backend: Backend = "here",
    address: Address = "local",
    workers: Workers = None,
    quiet: Quiet = False,
) -> None:
    """Lay out all that a layer sees in photographs, with a picture of every part, as a page."""
    made = fv.atlas(
        load_network(model, weights, device, size, mean, std, order, layout),
        photographs,
        layer,
        output,
        each=each,
        only=only,
        method=method,
        param=parse_value(param, fv.param, find_own(own)),
        size=read_size(size),
        steps=steps,
        seed=seed,
        backend=make_backend(backend, address, workers),
        looking=None if quiet else fv.progress_bar("photographs", "photo"),
        progress=None if quiet else fv.progress_bar("atlas", "picture"),
    )
    for name, facts in made.facts.items():
        pure = f", {facts['purity']:.0%} of them next to one of the same class" if "purity" in facts else ""
        typer.echo(f"{name}: {facts['activations']:.0f} activations{pure}")
    finish(made)


@app.command(epilog=examples_of("blocks"))
def blocks(
    photo: Annotated[Path, typer.Argument(help="An image file.")],
    layer: Annotated[list[str], typer.Option(help="A feature map, or tokens on a grid; may be given several times.")],
    model: Model = "motifnet",
    output: Annotated[str, typer.Option("--output", "-o", help="A folder, or a URL.")] = "blocks",
    classes: Annotated[
        list[str] | None, typer.Option("--class", help="Classes to show besides the five likeliest.")
    ] = None,
    cells: Annotated[int, typer.Option(help="Along the longer side; finer maps are averaged.")] = 10,
    groups: Annotated[int, typer.Option(help="Into how many the activations of a layer are split.")] = 6,
    pictures: Annotated[
        Path | None, typer.Option(help="A sweep's folder: take its pictures of the same size, steps and seed.")
    ] = None,
    param: ParamName = "fourier",
    own: Own = None,
    weights: Weights = "default",
    size: Size = None,
    steps: Annotated[int, typer.Option(help="Of each picture.")] = 256,
    seed: Annotated[int, typer.Option(help="Of each picture.")] = 0,
    device: Device = "auto",
    mean: Mean = None,
    std: Std = None,
    order: Order = None,
    layout: LayoutOf = None,
    backend: Backend = "here",
    address: Address = "local",
    workers: Workers = None,
    quiet: Quiet = False,
) -> None:
    """Show what a network sees where in a photograph, and which classes that argues for, as a page."""
    finish(
        fv.blocks(
            load_network(model, weights, device, size, mean, std, order, layout),
            photo,
            layer,
            output,
            classes=classes or (),
            cells=cells,
            groups=groups,
            pictures=pictures,
            param=parse_value(param, fv.param, find_own(own)),
            size=read_size(size),
            steps=steps,
            seed=seed,
            backend=make_backend(backend, address, workers),
            progress=None if quiet else fv.progress_bar("blocks", "picture"),
        )
    )
