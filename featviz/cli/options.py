"""What several commands share: options, how their text is read, and how a command ends."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import featviz as fv
from featviz.network import find

Model = Annotated[
    str,
    typer.Option(help="motifnet, motifvit, a torchvision name, timm/NAME, FILE.py:FACTORY or PACKAGE.MODULE:FACTORY."),
]
Weights = Annotated[
    str, typer.Option(help="default: the model's own; none: random ones; or a safetensors or state_dict FILE.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Size = Annotated[str | None, typer.Option(help="Height and width in px, 224 or 160x320. Left out: the network's own.")]
Mean = Annotated[str | None, typer.Option(help="Per channel in [0, 1], as 0.5,0.5,0.5. Left out: the model's own.")]
Std = Annotated[str | None, typer.Option(help="Per channel, as 0.5,0.5,0.5. Left out: the model's own.")]
Order = Annotated[str | None, typer.Option(help="Of the channels that the model wants, RGB or BGR. Left out: its own.")]
LayoutOf = Annotated[
    str | None, typer.Option("--layout", help="Of the batches that the model wants, NCHW or NHWC. Left out: its own.")
]
Own = Annotated[
    list[str] | None,
    typer.Option(help="FILE.py:NAME of an objective, param or transform of one's own, to use by name."),
]
ParamName = Annotated[
    str, typer.Option(help='fourier, pyramid, phase, cppn, alpha …, or an expression such as "Fourier(decay=1.5)".')
]
Precision = Annotated[
    str, typer.Option(help="Of the network: float32, bfloat16, or auto for the faster one, measured once.")
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="A .png, .jpg or .webp file, or a folder for a file each. Left out: by name."),
]
Quality = Annotated[str, typer.Option(help="draft, usual or best: how much trouble to take.")]
Steps = Annotated[int | None, typer.Option(help="Optimisation steps. Left out: the quality's.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Draw no progress bar.")]


def finish(rendering: fv.Rendering, output: Path | None, *, expected: int | None = None) -> None:
    """Save, say where, and pass on a Ctrl-C that ended the render earlier than expected."""
    for file in rendering.save(output or rendering.file_name):
        typer.echo(file)
    if rendering.recipe.until != expected:
        typer.echo(f"stopped at step {rendering.recipe.until} of {rendering.recipe.steps}", err=True)
        raise typer.Exit(130)


def load_network(
    model: str,
    weights: str,
    device: str,
    size: str | None,
    mean: str | None,
    std: str | None,
    order: str | None = None,
    layout: str | None = None,
    *,
    smooth_pools: bool = False,
) -> fv.Network:
    """Load a network; the size is a bare module's of one's own, or of a `Network` that does not run at its own."""
    given = read_size(size) if ":" in model else None
    numbers = read_numbers(mean), read_numbers(std)
    network = fv.load(
        model,
        weights=weights,
        device=device,
        input_size=given,
        mean=numbers[0],
        std=numbers[1],
        channel_order=order and order.upper(),
        layout=layout and layout.upper(),
        smooth_pools=smooth_pools,
    )
    if given is not None and given != network.size and not network.takes(network.size):
        return network.with_input(size=given)
    return network


def load_looking(model: str, weights: str, device: str, size: str | None, *more: str | None) -> fv.Network:
    """Load a network that is to look at images of a size."""
    network = load_network(model, weights, device, size, *more)
    wanted = read_size(size)
    if wanted is None or wanted == network.size:
        return network
    network.check_size(wanted)
    return network.with_input(size=wanted)


def find_classes(network: fv.Network, names: list[str] | None) -> list[fv.objectives.Logit]:
    """Find classes by name; a number that is no name is an index."""
    indices = {name: int(name) for name in names or [] if name.isdecimal() and name not in network.classes}
    return [fv.objectives.Logit(indices.get(name, name)) for name in names or []]


def find_own(places: list[str] | None) -> dict[str, Any]:
    """Import what was given as FILE.py:NAME, by name."""
    return {place.rpartition(":")[2]: find(place) for place in places or []}


def read_size(text: str | None) -> tuple[int, int] | None:
    """Read px as 224, or height and width as 160x320."""
    if text is None:
        return None
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() for side in sides):
        raise fv.SettingError(f"cannot read the size {text!r}; give px as 224, or height and width as 160x320")
    return int(sides[0]), int(sides[-1])


def read_numbers(text: str | None) -> tuple[float, ...] | None:
    """Read numbers between commas."""
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise fv.SettingError(f"cannot read {text!r}; give numbers as 0.5,0.5,0.5") from error


def read_quality(quality: str, steps: int | None) -> dict[str, Any]:
    """Find the settings of a quality, with other steps where they were given."""
    if quality not in fv.PRESETS:
        raise fv.SettingError(f"no quality {quality!r}; give {', '.join(fv.PRESETS)}")
    return {**fv.PRESETS[quality]} | ({} if steps is None else {"steps": steps})


def read_channels(text: str) -> list[int]:
    """Read numbers and ranges of them, as 0-15,40."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise fv.SettingError(f"cannot read the channels {text!r}; give numbers as 0-15,40, or all")
        if last and int(last) < int(first):
            raise fv.SettingError(
                f"cannot read the channels {text!r}; give the smaller number first, as {last}-{first}"
            )
        found += range(int(first), int(last or first) + 1)
    return found
