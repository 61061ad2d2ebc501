"""`featviz render`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import featviz as fv
from featviz.cli.command import app, examples_of
from featviz.cli.files import exit_if_stopped
from featviz.cli.options import (
    Classes,
    MatchOptions,
    NetworkOptions,
    Own,
    Precision,
    Quality,
    Quiet,
    Rate,
    RenderOutput,
    Size,
    Steps,
    expand_groups,
    progress,
)
from featviz.cli.parsing import find_classes, find_own, read_precision, read_size

if TYPE_CHECKING:
    from featviz.apps.match import Matched


@app.command(epilog=examples_of("render"))
@expand_groups
def render(
    objectives: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="OBJECTIVE...",
            help='Such as stage2:5, stage2:5@3,4 or "logit:spiral * (1.5 + diversity(stage2)) - tv".',
        ),
    ] = None,
    *,
    classes: Classes = None,
    size: Size = None,
    batch: Annotated[int, typer.Option(help="Images of each objective.")] = 1,
    quality: Quality = "usual",
    steps: Steps = None,
    seed: Annotated[int, typer.Option(help="Random seed of the first image; image i has this seed + i.")] = 0,
    param: Annotated[
        str | None,
        typer.Option(
            help="Image parameterization: fourier, pyramid, phase, cppn, alpha …, or an expression such as "
            '"Fourier(decay=1.5)". Default: fourier, with decay 1.4 for images, 0.9 for signals, 1.9 for volumes.'
        ),
    ] = None,
    transforms: Annotated[
        str | None,
        typer.Option(
            help='Random transforms: standard, near, lucid, none, or an expression such as "(Pad(8), Jitter(16))". '
            "Default: standard; near for --param cppn; none for match and caricature; others for signals, volumes and "
            "video."
        ),
    ] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(
            help='adam, ascent, normalized, or an expression such as "Clipped(0.1, Ascent(lr=2.0))". Default: adam.'
        ),
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Initial learning rate of adam. Default: 0.12.")] = None,
    matching: MatchOptions,
    start: Annotated[
        Path | None,
        typer.Option(
            help="Image to start from; .npy or .wav for signals, .npy or .nii.gz for volumes, .npy or .mp4 for video. "
            "Default: noise."
        ),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            help="Size in px at which the finished image is computed again; needs a param of any size, such as cppn."
        ),
    ] = None,
    smooth_pools: Annotated[
        bool,
        typer.Option(
            "--smooth-pools", help="Spread the gradient of max pooling over the whole window; removes grid artifacts."
        ),
    ] = False,
    precision: Precision = "auto",
    max_memory: Annotated[
        str | None,
        typer.Option(
            help="Memory limit, such as 4GB; a batch that needs more is split. Default: four fifths of the free memory."
        ),
    ] = None,
    tile: Annotated[
        int | None, typer.Option(help="Side in px of the tiles into which larger views are split. Default: no tiles.")
    ] = None,
    network: NetworkOptions,
    own: Own = None,
    output: RenderOutput = None,
    rate: Rate = None,
    quiet: Quiet = False,
) -> None:
    """Render images that maximise units of a network.

    Several objectives are rendered as one batch.
    """
    from featviz.checks import check_axes
    from featviz.engine import check_rate, check_save
    from featviz.engine.shorthand import as_optimizer, as_param, as_transforms
    from featviz.interfaces import as_size
    from featviz.io import check_result

    check_result(output or Path("image.png"))
    named = find_own(own)
    parsed_optimizer = as_optimizer(optimizer, lr, named)
    parsed = [fv.objectives.parse(text, named) for text in objectives or []]
    if not parsed and not classes:
        raise fv.SettingError("nothing to render; give an objective such as stage2:5, or --class NAME")
    check_rate(rate)
    sides = read_size(size)
    # The param is parsed before the network is loaded, so that a typo costs no time, and again for its inputs.
    checked_param = None if param is None else as_param(param, None, batch, named)
    shown_size, matched = _shown_size(at, param or "fourier", checked_param), matching.settings
    loaded = network.load(smooth_pools=smooth_pools)
    inputs = loaded.inputs or {"": loaded.input}
    params = {
        name: None if param is None else as_param(param, None, batch, named, spec=spec, starts=start is not None)
        for name, spec in inputs.items()
    }
    parsed += find_classes(loaded, classes)
    if loaded.tokens is None:
        axes = [spec.axes for spec in inputs.values()]
        check_rate_applies(rate, next((one for one in axes if one in ("x", "tyx")), axes[0]), loaded.label)
        if shown_size is not None and loaded.inputs:
            raise fv.SettingError(f"--at is about one input, and {loaded.label} optimises several; leave it out")
        for name, spec in inputs.items():
            made = params[name]
            count = len(parsed) * (batch if made is None else made.batch)
            check_save(output or Path("image.npy"), spec.axes, count=count, rate=rate)
    if shown_size is not None:
        check_axes(as_size(shown_size, len(loaded.size)), len(loaded.size))
    units = find_matched(loaded, parsed, **matched)
    rendering = fv.render(
        loaded,
        [unit.objective for unit in units] if units else parsed,
        param=params if loaded.inputs else params[""],
        size=None if sides is None else as_size(sides, len(loaded.size)),
        batch=batch,
        transforms=as_transforms(transforms, named),
        optimizer=parsed_optimizer,
        quality=quality,
        steps=steps,
        seed=seed,
        start=start,
        execution=fv.Execution(read_precision(precision), max_memory=max_memory, tile=tile),
        progress=progress(quiet, "render"),
    )
    rendering = rendering if shown_size is None else rendering.at(shown_size)
    marked = mark_copies(loaded, rendering, units) if units else rendering
    save(marked, output, rate=rate)
    if marked.names != rendering.names:
        raise typer.Exit(1)


def find_matched(
    network: fv.Network,
    units: Sequence[fv.objectives.Objective],
    match: str | None = None,
    match_weight: float | None = None,
) -> list[Matched]:
    """Return the units with what `--match` adds to them, and print what that is. Empty without `--match`.

    Args:
        network: The network.
        units: The units.
        match: A folder, or `batch-norm`; `None` for no matching.
        match_weight: As for `match_units`; `None` for its default.

    Raises:
        OutputError: The folder is missing or has no images.
        SettingError: The weight is < 0, or the network has no batch norm.
    """
    from featviz.apps.match import BATCH_NORM, MATCH_WEIGHT, match_units

    if match is None:
        return []
    weight = MATCH_WEIGHT if match_weight is None else match_weight
    found = match_units(network, units, None if match == BATCH_NORM else match, weight=weight)
    for each in found:
        typer.echo(f"{each.unit} matched to {each.chosen}", err=True)
    return found


def mark_copies(network: fv.Network, rendering: fv.Rendering, units: Sequence[Matched]) -> fv.Rendering:
    """Print the nearest photograph of each image, and mark images that are copies.

    Args:
        network: The network.
        rendering: Images, as many for each unit.
        units: The units with their photographs.
    """
    from featviz.apps.match import nearest_photographs, with_copies_marked

    each = len(rendering) // len(units)
    nearest = {}
    for k, unit in enumerate(units):
        if len(unit.photographs) < 2:
            continue
        images = rendering.images[k * each : (k + 1) * each]
        for i, found in enumerate(nearest_photographs(network, images, unit.photographs), k * each):
            typer.echo(f"{unit.unit}: {found}", err=True)
            nearest[i] = found
    return with_copies_marked(rendering, nearest)


def save(
    rendering: fv.Rendering, output: Path | None, *, expected: int | None = None, rate: float | None = None
) -> None:
    """Save a rendering and print its files.

    Args:
        rendering: What was rendered.
        output: A file or a folder; `None` for a file named after the objective.
        expected: Step at which the render was meant to stop early; `None` for after all of its steps.
        rate: As for `Rendering.save`.

    Raises:
        Exit: The render stopped at another step, after Ctrl-C; status 130.
    """
    from featviz.io import free_path

    own = rendering.inputs if output is None else {}  # each input has a file, whose name must be free
    for one in own.values() or [rendering]:
        for file in one.save(output or free_path(Path(one.file_name)), rate=rate):
            typer.echo(file)
    exit_if_stopped(rendering, expected)


def check_rate_applies(rate: float | None, axes: str, label: str) -> None:
    """Check that `--rate` is given only for a network that reads signals or video.

    Args:
        rate: Its value; `None` where it is left out.
        axes: Axes of the input, as in `InputSpec`.
        label: Name of the network.

    Raises:
        SettingError: The network reads something else.
    """
    from featviz.io import KINDS

    if rate is not None and axes not in ("x", "tyx"):
        raise fv.SettingError(f"--rate is about signals and video, and {label} reads {KINDS[axes]}; leave it out")


def _shown_size(at: str | None, param: str, image: Any) -> int | tuple[int, ...] | None:
    """Return the size of `--at`, after a check that the param can be drawn at any size."""
    from featviz.checks import check_size
    from featviz.interfaces import param_traits_of

    size = read_size(at)
    if size is None:
        return None
    if image is None or not param_traits_of(image).any_size:
        raise fv.SettingError(
            f"--at needs a param of any size, such as cppn, got {param}; its images have a fixed size"
        )
    check_size("size", size)
    return size
