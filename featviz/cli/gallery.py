"""`featviz gallery` and `featviz sweep`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import featviz as fv
from featviz.cli.command import app, examples_of
from featviz.cli.options import (
    BackendOptions,
    JudgeOptions,
    MatchOptions,
    NetworkOptions,
    PageOutput,
    Quiet,
    Seed,
    Size,
    StepsOptions,
    expand_groups,
    progress,
)
from featviz.cli.parsing import read_channels, read_size

if TYPE_CHECKING:
    from featviz.apps.shared.rendering.album import Pages


@app.command(epilog=examples_of("gallery"))
@expand_groups
def gallery(
    *,
    chosen: Annotated[
        list[str] | None,
        typer.Option("--class", help="Class name or index; may be given several times. Default: all classes."),
    ] = None,
    per_class: Annotated[int, typer.Option(help="Images of each class.")] = 1,
    diversity: Annotated[
        str | None,
        typer.Option(
            help="Layer in which the images of a class should differ; needs --per-class 2 or more. Default: they "
            "differ by their seeds only."
        ),
    ] = None,
    pair: Annotated[
        list[str] | None,
        typer.Option(help="Two classes as ONE:OTHER to interpolate in five images; may be given several times."),
    ] = None,
    probability: Annotated[
        bool, typer.Option("--probability", help="Render the probability of each class as well as its logit.")
    ] = False,
    photographs: Annotated[
        Path | None,
        typer.Option(help="Folder of images; those whose file or folder is named after a class are shown on its card."),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            help="Second model that judges whether the classes are recognised; values as for --model. Default: none."
        ),
    ] = None,
    judge_options: JudgeOptions,
    matching: MatchOptions,
    size: Size = None,
    optimisation: StepsOptions,
    seed: Seed = 0,
    network: NetworkOptions,
    backend: BackendOptions,
    output: PageOutput = "gallery",
    quiet: Quiet = False,
) -> None:
    """Render a web page of what classes look like to a network.

    Images that are in the folder already are not rendered again. --classes takes a file of class names, or the
    classes to render: all, or e.g. moon,heart.
    """
    network, listed = _split_classes(network)
    classes = [*(chosen or []), *listed]
    judging = judge_options.load_if_given(judge, network.device)
    made = fv.gallery(
        network.load(),
        output,
        classes=classes or None,
        per_class=per_class,
        diversity=diversity,
        pairs=[_read_pair(text) for text in pair or []],
        probability=probability,
        photographs=photographs,
        judge=judging,
        size=read_size(size),
        seed=seed,
        backend=backend.open(),
        progress=progress(quiet, "gallery", "image"),
        **matching.settings,
        **optimisation.settings,
    )
    print_pages(made)


@app.command(epilog=examples_of("sweep"))
@expand_groups
def sweep(
    *,
    layers: Annotated[
        list[str], typer.Option("--layer", help="Layer, or logit for the classes; may be given several times.")
    ],
    channels: Annotated[str, typer.Option(help="Channels of each layer, e.g. 0-15,40; or all.")] = "all",
    neurons: Annotated[
        bool, typer.Option("--neurons", help="Render the neuron at the centre of each channel, not the whole channel.")
    ] = False,
    negative: Annotated[
        bool, typer.Option("--negative", help="Also render an image that minimises each unit.")
    ] = False,
    diverse_images: Annotated[
        int,
        typer.Option(
            help="Number of additional images per unit, optimised to differ from each other; 0, or 2 or more."
        ),
    ] = 0,
    photographs: Annotated[
        Path | None,
        typer.Option(
            help="Folder of images; those that activate a unit most are shown beside it, with a name and scores."
        ),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="CSV file of labels: in each line an image, then its labels.")
    ] = None,
    matching: MatchOptions,
    size: Size = None,
    optimisation: StepsOptions,
    seed: Seed = 0,
    network: NetworkOptions,
    backend: BackendOptions,
    output: PageOutput = "sweep",
    quiet: Quiet = False,
) -> None:
    """Render web pages of every unit of layers.

    Images that are in the folder already are not rendered again.
    """
    made = fv.sweep(
        network.load(),
        output,
        layers,
        channels=None if channels == "all" else read_channels(channels),
        neurons=neurons,
        negative=negative,
        diverse_images=diverse_images,
        photographs=photographs,
        labels=labels,
        size=read_size(size),
        seed=seed,
        backend=backend.open(),
        scan_progress=progress(quiet, "photographs", "photograph"),
        progress=progress(quiet, "sweep", "image"),
        **matching.settings,
        **optimisation.settings,
    )
    print_pages(made)


def print_pages(*made: Pages) -> None:
    """Print where the pages are, and which images could not be rendered or are copies of a photograph.

    Args:
        made: What `gallery`, `sweep`, `atlas`, `blocks` or `circuit` returned.

    Raises:
        Exit: There are such images; status 1.
    """
    for pages in made:
        for what, problem in pages.problems.items():
            typer.echo(f"featviz: {what}: {problem}", err=True)
        typer.echo(pages.page)
    if any(pages.problems for pages in made):
        raise typer.Exit(1)


def _split_classes(network: NetworkOptions) -> tuple[NetworkOptions, list[str]]:
    """Read `--classes` of a gallery, which may also list the classes to show, separated by commas.

    Returns:
        The options of the network, and the classes to show; none for all.
    """
    from featviz.io import is_file

    given = network.class_names
    if given is None or is_file(Path(given)) or Path(given).suffix in (".txt", ".json"):
        return network, []
    listed = [] if given == "all" else [name.strip() for name in given.split(",")]
    return replace(network, class_names=None), listed


def _read_pair(text: str) -> tuple[str, str]:
    one, colon, other = text.partition(":")
    if not colon:
        raise fv.SettingError(f"cannot read the pair {text!r}; give two classes as ONE:OTHER")
    return one, other
