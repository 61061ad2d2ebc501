"""Commands about a network: `featviz layers`, `featviz doctor` and `featviz models`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import featviz as fv
from featviz.cli.command import app, examples_of
from featviz.cli.options import Device, LayoutOf, Mean, Model, Order, Size, Std, Weights, load_network, read_size


@app.command(epilog=examples_of("layers"))
def layers(
    model: Model = "motifnet",
    size: Size = None,
    mean: Mean = None,
    std: Std = None,
    order: Order = None,
    layout: LayoutOf = None,
    device: Device = "auto",
) -> None:
    """List a network's layers: name, kind, shape, channels, receptive field and stride; downloads nothing."""
    typer.echo(load_network(model, "none", device, size, mean, std, order, layout).layers(read_size(size)))


@app.command(epilog=examples_of("doctor"))
def doctor(
    model: Model = "motifnet",
    weights: Weights = "default",
    size: Size = None,
    mean: Mean = None,
    std: Std = None,
    order: Order = None,
    layout: LayoutOf = None,
    photographs: Annotated[
        Path | None, typer.Option(help="A folder of images such as it was trained on: they tell most.")
    ] = None,
    device: Device = "auto",
) -> None:
    """Examine a network before anything is rendered, and name the flag that cures what is wrong; status 1 if so."""
    network = load_network(model, weights, device, size, mean, std, order, layout)
    told = network.with_input(size=read_size(size) or network.size)  # also one that it does not take
    found = fv.doctor(told, photographs=photographs)
    typer.echo(found)
    if not found.healthy:
        raise typer.Exit(1)


@app.command()
def models() -> None:
    """List what --model takes."""
    names = fv.models()
    from_timm = sum(name.startswith("timm/") for name in names)
    typer.echo("\n".join(name for name in names if not name.startswith("timm/")))
    typer.echo(f"timm/NAME  ({f'{from_timm} of them' if from_timm else 'needs timm'}: timm.list_models())")
    typer.echo("path/to/file.py:factory\npackage.module:factory")
