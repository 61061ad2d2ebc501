"""Commands about a network: `featviz layers`, `featviz doctor` and `featviz models`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import featviz as fv
from featviz.cli.command import app, examples_of
from featviz.cli.options import NetworkOptions, UntrainedOptions, expand_groups


@app.command(epilog=examples_of("layers"))
@expand_groups
def layers(
    *,
    all_layers: Annotated[
        bool,
        typer.Option(
            "--all", help="List all layers. Default: leave out nested layers, so that about 40 at most are listed."
        ),
    ] = False,
    network: UntrainedOptions,
) -> None:
    """List the layers of a network.

    For each layer: address, kind, shape, channels, receptive field, stride, and how many layers are inside of it. A
    star marks layers that are good to render first. Nothing is downloaded.
    """
    typer.echo(network.load_untrained().layers().text(all_layers=all_layers))


@app.command(epilog=examples_of("doctor"))
@expand_groups
def doctor(
    *,
    photographs: Annotated[
        Path | None,
        typer.Option(help="Folder of images like those that the network was trained on; makes more checks possible."),
    ] = None,
    network: NetworkOptions,
) -> None:
    """Check a network and its preprocessing before rendering.

    Each problem is listed with the option that fixes it. The exit status is 1 if there is one.
    """
    found = fv.doctor(network.load(accept_any_size=True), photographs=photographs)
    typer.echo(found)
    if not found.healthy:
        raise typer.Exit(1)


@app.command()
def models() -> None:
    """List the values that --model accepts."""
    names = fv.models()
    from_timm = sum(name.startswith("timm/") for name in names)
    from_open_clip = sum(name.startswith("open_clip/") for name in names)
    typer.echo("\n".join(name for name in names if not name.startswith(("timm/", "open_clip/"))))
    typer.echo(f"timm/NAME  ({f'{from_timm} models' if from_timm else 'needs timm'}, see timm.list_models())")
    found = f"{from_open_clip} models" if from_open_clip else "needs open_clip"
    typer.echo(f"open_clip/NAME/WEIGHTS  ({found}, see open_clip.list_pretrained())")
    typer.echo("path/to/file.py:factory\npackage.module:factory")
