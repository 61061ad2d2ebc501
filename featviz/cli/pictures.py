"""Commands about pictures that are there already: `featviz replay`, `featviz judge` and `featviz fit-prior`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import featviz as fv
from featviz.cli.command import app, examples_of
from featviz.cli.options import Device, Own, Quiet, find_own, finish, load_looking
from featviz.io import check_output, read_image


@app.command(epilog=examples_of("replay"))
def replay(
    picture: Annotated[Path, typer.Argument(help="A PNG of a render or a dream.")],
    model: Annotated[str | None, typer.Option(help="Where the recipe's network is someone's own: its factory.")] = None,
    weights: Annotated[str | None, typer.Option(help="Where the recipe's weights lie elsewhere now.")] = None,
    start: Annotated[
        Path | None, typer.Option(help="Where the picture that it was begun with lies elsewhere now.")
    ] = None,
    own: Own = None,
    device: Device = "auto",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file or a folder. Left out: NAME-replay.png beside it.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Draw a picture again from the recipe inside it, and say whether it came out the same."""
    recipe = fv.Recipe.of(picture)
    path = output or picture.with_name(f"{picture.stem}-replay.png")
    check_output(path)
    rendering = fv.replay(
        recipe,
        network=model,
        weights=weights,
        device=device,
        own=find_own(own),
        start=start,
        progress=None if quiet else fv.progress_bar("replay"),
    )
    likeness = _likeness(picture, rendering)  # before saving, which may be over the picture itself
    finish(rendering, path, expected=recipe.until)
    typer.echo(likeness)


@app.command(epilog=examples_of("judge"))
def judge(
    pictures: Annotated[
        list[Path], typer.Argument(help="PNGs that featviz saved, one picture in each, or folders of them.")
    ],
    by: Annotated[str, typer.Option(help="The judge, as for --model: of the same classes, trained apart.")],
    by_weights: Annotated[str, typer.Option(help="The judge's, as for --weights.")] = "default",
    by_size: Annotated[str | None, typer.Option(help="The judge's, as for --size.")] = None,
    by_mean: Annotated[str | None, typer.Option(help="The judge's, as for --mean.")] = None,
    by_std: Annotated[str | None, typer.Option(help="The judge's, as for --std.")] = None,
    by_order: Annotated[str | None, typer.Option(help="The judge's, as for --order.")] = None,
    by_layout: Annotated[str | None, typer.Option(help="The judge's, as for --layout.")] = None,
    model: Annotated[str | None, typer.Option(help="Where the maker is someone's own: its factory.")] = None,
    weights: Annotated[str | None, typer.Option(help="Where the maker's weights lie elsewhere now.")] = None,
    own: Own = None,
    photographs: Annotated[
        Path | None, typer.Option(help="A folder: say what share of its images excites the unit less.")
    ] = None,
    device: Device = "auto",
) -> None:
    """Ask a network that had no part in making pictures whether it sees in them what they were made to show.

    rank and p are of the class before the judge, p own before the maker. kept: how much of what the unit scores above
    noise is there in fresh views, 1 being all. slope: by which power of 1/frequency the spectrum falls, 1 to 1.6 in
    photographs. above: share of the photographs that excite the unit less.
    """
    judging = load_looking(by, by_weights, device, by_size, by_mean, by_std, by_order, by_layout)
    found = fv.judge(pictures, by=judging, network=model, weights=weights, own=find_own(own), photographs=photographs)
    typer.echo(found)


@app.command()
def fit_prior(
    folder: Annotated[Path, typer.Argument(help="Images of one kind; all that is below it, too.")],
    channels: Annotated[int, typer.Option(help="1 or 3, or what .npy files hold.")] = 3,
    size: Annotated[int, typer.Option(help="Each image's middle is cut to a square and brought to so many px.")] = 224,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")] = Path("prior.json"),
) -> None:
    """Learn mean colour, colour correlation and spectrum of one's own images, for --param "Fourier(prior='FILE')"."""
    check_output(output, ".json")
    typer.echo(fv.fit_prior(folder, channels=channels, size=size).save(output))


def _likeness(picture: Path, rendering: fv.Rendering) -> str:
    """Say whether a picture came out as it was."""
    now = rendering.sheet().transpose(2, 0, 1) / 255.0
    then = read_image(picture, len(now))
    if then.shape != now.shape:
        return "of another size than the picture: was the file changed?"
    most = round(float(abs(then - now).max()) * 255)
    return "the same as the picture, to the byte" if most == 0 else f"within {most} of 255 grey levels of the picture"
