"""Commands about images that exist: `featviz replay`, `featviz judge` and `featviz fit-prior`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import featviz as fv
from featviz.cli.command import app, examples_of
from featviz.cli.options import Device, Download, JudgeOptions, Own, Quiet, expand_groups, output_file, progress
from featviz.cli.parsing import find_own
from featviz.cli.render import save


@app.command(epilog=examples_of("replay"))
def replay(
    image: Annotated[Path, typer.Argument(help="Image file of a render or a dream.")],
    model: Annotated[
        str | None, typer.Option(help="Factory of the network, as FILE.py:FACTORY, if the recipe's is your own.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="Weights file, if it is not where the recipe says.")] = None,
    start: Annotated[Path | None, typer.Option(help="Start image, if it is not where the recipe says.")] = None,
    dictionary: Annotated[
        Path | None, typer.Option(help="File of the dictionary, if it is not where the recipe says.")
    ] = None,
    own: Own = None,
    device: Device = "auto",
    download: Download = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Image file, or a folder. Default: IMAGE-replay.png.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Render an image again from its recipe, and compare."""
    recipe = fv.Recipe.of(image)
    path = output_file(output or image.parent, f"{image.stem}-replay.png")
    rendering = fv.replay(
        recipe,
        network=model,
        weights=weights,
        device=device,
        own=find_own(own),
        start=start,
        dictionary=dictionary,
        download=download,
        progress=progress(quiet, "replay"),
    )
    comparison = _compare(image, rendering)  # before saving, which may overwrite the image
    save(rendering, path, expected=recipe.until)
    typer.echo(comparison)


@app.command(epilog=examples_of("judge"))
@expand_groups
def judge(
    images: Annotated[
        list[Path],
        typer.Argument(
            help="Image files of renders, with one image each, or folders of PNGs. With --target: any image files."
        ),
    ],
    *,
    target: Annotated[
        str | None,
        typer.Option(help="What the images show, as logit:heart, where they carry no recipe. Needs --model."),
    ] = None,
    judge: Annotated[
        str, typer.Option(help="Judging model, as for --model of render: the same classes, trained separately.")
    ],
    judge_options: JudgeOptions,
    model: Annotated[
        str | None,
        typer.Option(help="Network that rendered the images, if it is your own, FILE.py:FACTORY; or of the --target."),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Weights file of that network, if it is not where the recipe says.")
    ] = None,
    own: Own = None,
    photographs: Annotated[
        Path | None, typer.Option(help="Folder of images to compare the unit's activation with.")
    ] = None,
    trust: Annotated[
        bool,
        typer.Option(
            "--trust", help="Test each image for signs that its network was manipulated. Needs --photographs."
        ),
    ] = False,
    device: Device = "auto",
    download: Download = False,
) -> None:
    """Test whether another network recognises rendered images.

    rank and p(JUDGE): rank and probability of the class according to the judge. p(own): its probability according to
    the network that rendered the image. robustness: share of the score gain over noise that is retained in new random
    views. slope: the amplitude spectrum falls as frequency^-slope; 1 to 1.6 in photographs. percentile: share of the
    photographs in which the unit scores lower.

    With --trust: paths: how alike image and photographs activate each layer; 1 as photographs of the unit, 0 as others.
    path: the mean over the later half. agreement: the same of the image and images started from photographs. ALARM:
    either is too low, as in a network that was manipulated.
    """
    found = fv.judge(
        images,
        None if target is None else fv.objectives.parse(target, find_own(own)),
        judge=judge_options.load(judge, device),
        network=model,
        weights=weights,
        own=find_own(own),
        photographs=photographs,
        trust=trust,
        download=download,
    )
    typer.echo(found)


@app.command()
def fit_prior(
    folder: Annotated[Path, typer.Argument(help="Folder of images of one kind; its subfolders are included.")],
    channels: Annotated[int, typer.Option(help="Number of channels: 1, 3, or those of .npy files.")] = 3,
    size: Annotated[
        int, typer.Option(help="Side in px of the square to which the middle of each image is cut and resized.")
    ] = 224,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; ends in .json. Default: FOLDER-prior.json.")
    ] = None,
) -> None:
    """Learn the colour and spectrum statistics of your images.

    Use the file with --param "Fourier(prior='prior.json')".
    """
    from featviz.io import check_output

    path = output or output_file(None, f"{folder.resolve().name}-prior.json")
    check_output(path, ".json")
    typer.echo(fv.fit_prior(folder, channels=channels, size=size).save(path))


def _compare(image: Path, rendering: fv.Rendering) -> str:
    """Return how a rendering differs from the image that it repeats."""
    from featviz.io import read_image

    now = rendering.sheet().transpose(2, 0, 1) / 255.0
    then = read_image(image, len(now))
    if then.shape != now.shape:
        return "of another size than the image; the file was changed"
    largest = round(float(abs(then - now).max()) * 255)
    if largest == 0:
        return "the same as the image, to the byte"
    lossy = "" if image.suffix.lower() == ".png" else f" ({image.suffix} files are compressed with loss)"
    return f"within {largest} of 255 levels of the image{lossy}"
