"""`featviz atlas`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import featviz as fv
from featviz.cli.command import EXAMPLES, app
from featviz.cli.galleries import Address, Engine, Workers, finish, make_engine
from featviz.cli.options import Device, LayoutOf, Mean, Model, Order, Quiet, Size, Std, Weights, load_network


@app.command(epilog=EXAMPLES)
def atlas(
    photographs: Annotated[Path, typer.Argument(help="A folder of photographs, and all that is below it.")],
    layer: Annotated[list[str], typer.Option(help="Whose activations; several stand beside one another.")],
    model: Model = "motifnet",
    output: Annotated[str, typer.Option("--output", "-o", help="A folder of this machine.")] = "atlas",
    each: Annotated[int, typer.Option(help="Random places of each photograph.")] = 4,
    only: Annotated[str | None, typer.Option(help="A class: photographs that the model takes for it.")] = None,
    method: Annotated[str, typer.Option(help="How to lay them out: umap, tsne or pca.")] = "umap",
    weights: Weights = "default",
    size: Size = None,
    steps: Annotated[int, typer.Option(help="Of each picture.")] = 256,
    seed: Annotated[int, typer.Option(help="Of places, layout and pictures.")] = 0,
    device: Device = "auto",
    mean: Mean = None,
    std: Std = None,
    order: Order = None,
    layout: LayoutOf = None,
    engine: Engine = "here",
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
        steps=steps,
        seed=seed,
        engine=make_engine(engine, address, workers),
        progress=None if quiet else fv.progress_bar("atlas", "picture"),
    )
    for name, facts in made.facts.items():
        told = ", ".join(f"{key} {value:.3g}" if value < 1 else f"{key} {value:.0f}" for key, value in facts.items())
        typer.echo(f"{name}: {told}")
    finish(made)
