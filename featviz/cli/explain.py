"""`featviz explain`, `attention`, `examples` and `evidence`: which images, and which parts of them, matter."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import featviz as fv
from featviz.cli.command import app, examples_of
from featviz.cli.files import exit_if_stopped, name_in, output_file, readable_files, stem_of
from featviz.cli.options import (
    Classes,
    NetworkOptions,
    Own,
    Photographs,
    Quiet,
    Size,
    StepsOptions,
    expand_groups,
    progress,
)
from featviz.cli.parsing import find_classes, find_own, read_channels, read_size

if TYPE_CHECKING:
    from featviz.apps.explain.attribution import Comparison
    from featviz.apps.explain.text import TextComparison

SHOWN_MISS = 5e-5
"""Smallest miss of the guaranteed sum that is printed; a smaller one would be 0.00 %."""
DEFAULT_UNITS = 8
"""Number of units that `examples` shows if none are chosen."""


TEXT_ENDINGS = (".html",)
"""File endings of an explanation of a text, besides those of images."""
ENDINGS = (*TEXT_ENDINGS, ".npy", ".nii", ".nii.gz")
"""File endings of an explanation of an input, besides those of images."""
METHODS = (
    "attention, cam, classattention, clear, deconvnet, featureablation, gradcam, gradcamplusplus, gradient, "
    "gradientrollout, guidedbackprop, guidedgradcam, hirescam, inputxgradient, integratedgradients, layercam, lrp, "
    "noisetunnel, occlusion, rise, rollout, scorecam, scouter, smoothed, smoothgrad, smoothgrad_squared and vargrad"
)
"""All methods, written here because their package takes a second to load."""


@app.command(epilog=examples_of("explain"))
@expand_groups
def explain(
    image: Annotated[
        str | None,
        typer.Argument(
            help="Image file, or a folder of them, in which results of earlier runs are skipped. With --text, the "
            "first objective."
        ),
    ] = None,
    objectives: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="OBJECTIVE...", help="Scores to explain, such as inception4a:476. Default: the most likely class."
        ),
    ] = None,
    *,
    text: Annotated[
        list[str] | None,
        typer.Option(help="Text in place of an image, for a network that reads text; may be given several times."),
    ] = None,
    classes: Classes = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="Attribution method, such as gradcam, smoothgrad or \"LRP('zplus')\"; may be given several times. "
            f"Default: methods that suit the network. Available: {METHODS}."
        ),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(help="Layer for methods that read one, such as gradcam. Default: the last one suitable."),
    ] = None,
    network: NetworkOptions,
    own: Own = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Image file, a .html file for a page that measures how faithful each map is, a .npy file for the "
            "numbers of the maps (.nii or .nii.gz, too, for those of volumes), or a folder. Default: "
            "IMAGE-explained.png, or text-explained.png.",
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Show which parts of an image or text a score comes from.

    Shows the attribution maps of several methods side by side. Red raises the score and blue lowers it; methods that
    compare classes give each a colour. Some methods, such as gradient and smoothgrad, give magnitudes only, in red.
    """
    from featviz.apps.explain.attribution import check_map_output
    from featviz.io import is_file, is_folder

    if text and image is not None:  # what looks like the image is the first objective
        if is_file(image) or is_folder(image):
            raise fv.SettingError(f"give either an image or --text, got {image} and --text")
        objectives = [image, *(objectives or [])]
        image = None
    elif not text and image is None:
        raise fv.SettingError('give an image, or --text "..." for a network that reads text')
    named = find_own(own)
    parsed = [fv.objectives.parse(each, named) for each in objectives or []]
    compare: Any = partial(fv.compare, layer=layer, progress=progress(quiet, "explain", "map"))
    compare = partial(compare, methods=method) if method else compare
    measure = progress(quiet, "measure", "map")
    if image is None:
        path = output_file(output, "text-explained.png", more=TEXT_ENDINGS)
        loaded = _that_reads(network.load(), text=True)
        targets = [*parsed, *find_classes(loaded, classes)]
        _save_texts([compare(loaded, each, targets) for each in text or []], path, measure)
        return
    source = Path(image)
    if is_folder(source) and output is not None and not is_folder(output):
        raise fv.OutputError(f"{source} is a folder, so the output must be an existing folder, got {output}")
    output_file(output, f"{stem_of(source)}-explained.png", more=ENDINGS)  # checked before anything is computed
    loaded = _that_reads(network.load(), text=False)
    check_map_output(output or Path("map.png"), loaded.input.axes)
    targets = [*parsed, *find_classes(loaded, classes)]
    for file in readable_files(source, loaded, "-explained") if is_folder(source) else [source]:
        found = compare(loaded, file, targets)
        _print_facts(found)
        name = name_in(source, file) if is_folder(source) else stem_of(source)
        path = output_file(output, f"{name}-explained.png", more=ENDINGS)
        typer.echo(found.save(path, progress=measure))


@app.command(epilog=examples_of("attention"))
@expand_groups
def attention(
    image: Annotated[Path | None, typer.Argument(help="Image file. Leave it out with --text.")] = None,
    *,
    text: Annotated[str | None, typer.Option(help="Text in place of an image, for a network that reads text.")] = None,
    target: Annotated[
        str | None,
        typer.Option(help="Score of the class-specific rollout, such as logit:star. Default: no such rollout."),
    ] = None,
    network: NetworkOptions,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="A .html file, or an existing folder. Default: IMAGE-attention.html, or text-attention.html.",
        ),
    ] = None,
) -> None:
    """Write a page of the attention of a transformer.

    It shows what each token reads in every layer and attention head, and follows the attention back through the layers.
    """
    if (text is None) == (image is None):
        raise fv.SettingError('give either an image, or --text "..." for a network that reads text')
    name = "text" if image is None else image.stem
    path = output_file(output, f"{name}-attention.html")  # checked before anything is computed
    loaded = _that_reads(network.load(), text=text is not None)
    typer.echo(fv.attention(loaded, text if image is None else image, target).save(path))


@app.command(epilog=examples_of("examples"))
@expand_groups
def examples(
    photographs: Photographs,
    *,
    layer: Annotated[str, typer.Option(help="Layer of the units, or logit for the classes.")],
    channels: Annotated[
        str | None, typer.Option(help="Channels of the layer, e.g. 0-15,40; or all. Default: the first eight.")
    ] = None,
    size: Size = None,
    optimisation: StepsOptions,
    network: NetworkOptions,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Image file, or a folder. Default: LAYER-examples.png.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Show the photographs that activate units most.

    Also shows a rendered image of each unit.
    """
    from featviz.io import check_outside, slug

    path = output_file(output, f"{slug(layer)}-examples.png")
    check_outside(path, photographs)
    settings = optimisation.settings
    loaded = network.load()
    chosen = None if channels in (None, "all") else read_channels(channels or "")
    found = fv.examples(loaded, photographs, layer, chosen, progress=progress(quiet, "examples", "photograph"))
    found = replace(found, channels=found.channels[:DEFAULT_UNITS]) if channels is None else found
    _print_skipped(found.scan.skipped)
    rendering = fv.render(
        loaded,
        found.objectives,
        size=read_size(size),
        progress=progress(quiet, "render"),
        **settings,
    )
    typer.echo(found.save(path, rendering))
    exit_if_stopped(rendering)


@app.command(epilog=examples_of("evidence"))
@expand_groups
def evidence(
    photographs: Photographs,
    *,
    layer: Annotated[
        str | None, typer.Option(help="Layer of the channels. Default: the last feature map that affects the classes.")
    ] = None,
    top: Annotated[
        int,
        typer.Option(
            help="Number of channels per image that are counted: those with the largest positive contribution."
        ),
    ] = 5,
    network: NetworkOptions,
    quiet: Quiet = False,
) -> None:
    """List the channels that matter for each predicted class.

    The contribution of a channel to a logit is its activation times the gradient of the logit.
    """
    found = fv.evidence(network.load(), photographs, layer, top=top, progress=progress(quiet, "evidence", "photograph"))
    _print_skipped(found.skipped)
    typer.echo(found)


def _that_reads(network: fv.Network, *, text: bool) -> fv.Network:
    """Return the network, if it reads what was given.

    Raises:
        SettingError: It reads images and text was given, or the reverse.
    """
    if text and network.tokens is None:
        raise fv.SettingError(
            f"{network.label} reads images; give an image in place of --text, or a network that reads text as "
            "--model FILE.py:FACTORY"
        )
    if not text and network.tokens is not None:
        raise fv.SettingError(f'{network.label} reads text; give --text "..." in place of an image')
    return network


def _save_texts(found: Sequence[TextComparison], path: Path, measure: Callable[[int, int], None] | None) -> None:
    """Print the strips of texts, in colour where the terminal has it, and write them to one file.

    Of a single text, a page also shows how faithful the attributions are.
    """
    from featviz.apps.explain.text import save_strips

    for one in found:
        _print_facts(one)
        typer.echo(f"{one.ansi() if _has_true_color() else one}\n")
    if len(found) == 1:
        typer.echo(found[0].save(path, progress=measure))
        return
    strips = [strip for one in found for strip in one.strips()]
    typer.echo(save_strips(strips, path, [row for one in found for row in one.recipes]))


def _has_true_color() -> bool:
    """Whether standard output is a terminal that says that it shows 24-bit colours."""
    return (
        sys.stdout.isatty() and os.environ.get("COLORTERM") in ("truecolor", "24bit") and "NO_COLOR" not in os.environ
    )


def _print_facts(found: Comparison | TextComparison) -> None:
    """Print why methods are missing, and how far the contributions of each map are from the score."""
    for problem in dict.fromkeys(found.problems.values()):
        typer.echo(f"featviz: {problem}", err=True)
    for row in found.rows:
        for one in row:
            if one is not None and one.delta is not None and one.delta.abs().max() >= SHOWN_MISS:
                missed = f"{100 * one.delta.abs().max():.2f} %"
                typer.echo(
                    f"{one.target}: {one.method}: contributions miss the guaranteed sum by {missed} (0 % is exact)"
                )


def _print_skipped(files: Mapping[str, str]) -> None:
    """Print which files of a folder could not be read, and why."""
    for file, reason in files.items():
        typer.echo(f"featviz: skipped {file}: {reason}", err=True)
