"""`featviz gallery` and `featviz sweep`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import featviz as fv
from featviz.cli.command import app, examples_of
from featviz.cli.options import (
    Device,
    LayoutOf,
    Mean,
    Model,
    Order,
    Quality,
    Quiet,
    Size,
    Std,
    Steps,
    Weights,
    load_looking,
    load_network,
    read_channels,
    read_quality,
    read_size,
)

if TYPE_CHECKING:
    from featviz.apps.shared.album import Pages

Folder = Annotated[str, typer.Option("--output", "-o", help="A folder, or a URL such as s3://bucket/folder.")]
Backend = Annotated[str, typer.Option(help="here, or ray for a cluster.")]
Address = Annotated[str, typer.Option(help="Of the Ray cluster: auto for this machine's, local to start one.")]
Workers = Annotated[int | None, typer.Option(help="Of the Ray cluster. Left out: one for each core or GPU.")]
Photographs = Annotated[Path | None, typer.Option(help="A folder of photographs to show beside. Left out: none.")]


@app.command(epilog=examples_of("gallery"))
def gallery(
    model: Model = "motifnet",
    output: Folder = "gallery",
    classes: Annotated[str, typer.Option(help="Names or indices between commas, or all.")] = "all",
    each: Annotated[int, typer.Option(help="Pictures of each class.")] = 1,
    diverse: Annotated[
        str | None, typer.Option(help="A layer in which those are to differ. Left out: by seed alone.")
    ] = None,
    pair: Annotated[list[str] | None, typer.Option(help="ONE:OTHER, classes to go between, in five pictures.")] = None,
    probability: Annotated[
        bool, typer.Option("--probability", help="Draw the probability, too, beside the logit.")
    ] = False,
    photographs: Photographs = None,
    judge: Annotated[
        str | None, typer.Option(help="Another model, as for --model, to say whether it sees the class.")
    ] = None,
    judge_weights: Annotated[str, typer.Option(help="The judge's, as for --weights.")] = "default",
    judge_size: Annotated[str | None, typer.Option(help="The judge's, as for --size.")] = None,
    judge_mean: Annotated[str | None, typer.Option(help="The judge's, as for --mean.")] = None,
    judge_std: Annotated[str | None, typer.Option(help="The judge's, as for --std.")] = None,
    judge_order: Annotated[str | None, typer.Option(help="The judge's, as for --order.")] = None,
    judge_layout: Annotated[str | None, typer.Option(help="The judge's, as for --layout.")] = None,
    weights: Weights = "default",
    size: Size = None,
    quality: Quality = "usual",
    steps: Steps = None,
    seed: Annotated[int, typer.Option(help="Of the first picture of a class.")] = 0,
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
    """Draw what classes look like to a network, as a page."""
    judging = None
    if judge:
        more = judge_mean, judge_std, judge_order, judge_layout
        judging = load_looking(judge, judge_weights, device, judge_size, *more)
    made = fv.gallery(
        load_network(model, weights, device, size, mean, std, order, layout),
        output,
        classes=None if classes == "all" else [name.strip() for name in classes.split(",")],
        each=each,
        diverse=diverse,
        pairs=[_pair(text) for text in pair or []],
        probability=probability,
        photographs=photographs,
        judge=judging,
        size=read_size(size),
        steps=read_quality(quality, steps)["steps"],
        seed=seed,
        backend=make_backend(backend, address, workers),
        progress=None if quiet else fv.progress_bar("gallery", "picture"),
    )
    finish(made)


@app.command(epilog=examples_of("sweep"))
def sweep(
    layer: Annotated[list[str], typer.Option(help="Which; may be given several times; logit for the classes.")],
    model: Model = "motifnet",
    output: Folder = "sweep",
    channels: Annotated[str, typer.Option(help="Such as 0-15,40 of each layer, or all.")] = "all",
    neurons: Annotated[bool, typer.Option("--neurons", help="The middle neurons instead of whole channels.")] = False,
    negative: Annotated[bool, typer.Option("--negative", help="What units answer to least, too.")] = False,
    diverse: Annotated[int, typer.Option(help="So many pictures of each that differ, besides.")] = 0,
    photographs: Photographs = None,
    weights: Weights = "default",
    size: Size = None,
    quality: Quality = "usual",
    steps: Steps = None,
    seed: Annotated[int, typer.Option(help="Of every unit's first picture.")] = 0,
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
    """Draw every unit of layers, as pages."""
    made = fv.sweep(
        load_network(model, weights, device, size, mean, std, order, layout),
        output,
        layer,
        channels=None if channels == "all" else read_channels(channels),
        neurons=neurons,
        negative=negative,
        diverse=diverse,
        photographs=photographs,
        size=read_size(size),
        steps=read_quality(quality, steps)["steps"],
        seed=seed,
        backend=make_backend(backend, address, workers),
        looking=None if quiet else fv.progress_bar("photographs", "photo"),
        progress=None if quiet else fv.progress_bar("sweep", "picture"),
    )
    finish(made)


def finish(made: Pages) -> None:
    """Say where the pages are, and what is missing."""
    for what, problem in made.problems.items():
        typer.echo(f"featviz: {what}: {problem}", err=True)
    typer.echo(made.page)
    if made.problems:
        raise typer.Exit(1)


def make_backend(name: str, address: str, workers: int | None) -> fv.RayBackend | None:
    """Find where to draw."""
    if name not in ("here", "ray"):
        raise fv.SettingError(f"no backend {name!r}; give here or ray")
    return fv.RayBackend(address, workers) if name == "ray" else None


def _pair(text: str) -> tuple[str, str]:
    one, colon, other = text.partition(":")
    if not colon:
        raise fv.SettingError(f"cannot read the pair {text!r}; give two classes as ONE:OTHER")
    return one, other
