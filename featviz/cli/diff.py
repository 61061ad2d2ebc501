"""`featviz diff`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

import featviz as fv
from featviz.cli.command import app, examples_of
from featviz.cli.gallery import print_pages
from featviz.cli.loading import load_network
from featviz.cli.options import (
    BackendOptions,
    Classes,
    FullSize,
    JudgeOptions,
    PageStepsOptions,
    Quiet,
    UntrainedOptions,
    expand_groups,
    progress,
)
from featviz.cli.parsing import read_image_size

WEIGHTS_ENDINGS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
"""Endings of a word that is a file of weights."""


@app.command(epilog=examples_of("diff"))
@expand_groups
def diff(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="NETWORK NETWORK... PHOTOGRAPHS",
            help="Two networks, or more checkpoints in the order of training, then a folder of images. Each network "
            "is MODEL, MODEL@WEIGHTS, or WEIGHTS, a file that is loaded into the --model.",
        ),
    ],
    *,
    layers: Annotated[
        list[str] | None,
        typer.Option(
            "--layer",
            help="Layer of the first network; may be given several times. "
            "Default: the starred ones of `featviz layers`.",
        ),
    ] = None,
    second_layers: Annotated[
        list[str] | None,
        typer.Option("--second-layer", help="Layer of the second network. Default: those of the first."),
    ] = None,
    classes: Classes = None,
    judge: Annotated[
        str | None,
        typer.Option(help="Model that measures how much the images of classes changed, as for --model. Default: none."),
    ] = None,
    judge_options: JudgeOptions,
    threshold: Annotated[float, typer.Option(help="Smallest correlation of matched units, in [0, 1].")] = 0.5,
    most: Annotated[
        int,
        typer.Option(
            help="Largest number of units of each status (shared, moved, lost, new), and of classes, on the page."
        ),
    ] = 8,
    per_class: Annotated[int, typer.Option(help="Images of each class and network.")] = 2,
    size: FullSize = None,
    optimisation: PageStepsOptions,
    seed: Annotated[int, typer.Option(help="Seed of the images.")] = 0,
    network: UntrainedOptions,
    backend: BackendOptions,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="Folder of the page, on this machine. Default: PHOTOGRAPHS-diff."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Compare two networks, or the checkpoints of one, as a web page.

    Units are matched by the correlation of their activations over the images: shared, moved, lost and new ones, with
    images of both networks and of their difference. Layers are compared by linear CKA, and classes by a judge.
    """
    *places, folder = words
    if len(places) < 2:
        raise fv.SettingError(
            f"diff needs two networks and a folder of images, got {' '.join(words)}; "
            "give them as in: featviz diff motifnet motifvit photos"
        )
    first, *checkpoints, second = (load_place(place, network) for place in places)
    photographs = Path(folder)
    found = fv.diff(
        first,
        second,
        photographs,
        output or f"{photographs.resolve().name}-diff",
        layers=layers,
        second_layers=second_layers,
        checkpoints=checkpoints,
        classes=classes,
        judge=judge_options.load_if_given(judge, network.device),
        threshold=threshold,
        most=most,
        per_class=per_class,
        size=read_image_size(size),
        seed=seed,
        backend=backend.open(),
        scan_progress=progress(quiet, "photographs", "photograph"),
        progress=progress(quiet, "diff", "image"),
        **optimisation.settings,
    )
    typer.echo(found)
    if found.pages is not None:
        print_pages(found.pages)


def load_place(place: str, options: UntrainedOptions) -> fv.Network:
    """Load one of the networks.

    Args:
        place: `MODEL`, `MODEL@FILE`, or a file of weights for the model of the options.
        options: The model, and the input specification of all networks.

    Returns:
        The network.

    Raises:
        ModelError: There is no such model.
        WeightsError: The weights cannot be read, or do not fit the model.
    """
    from featviz.io import is_file
    from featviz.network import DEFAULT_WEIGHTS

    model, weights = place, DEFAULT_WEIGHTS
    if is_file(place) or (place.endswith(WEIGHTS_ENDINGS) and "@" not in place):
        model, weights = options.model, place
    elif "@" in place:
        model, _, weights = place.partition("@")
    return load_network(weights=weights, **vars(replace(options, model=model)))
