"""Commands about images that exist: `featviz replay`, `featviz judge` and `featviz fit-prior`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import featviz as fv
from featviz.cli.command import app, examples_of
from featviz.cli.files import output_file
from featviz.cli.loading import load_network
from featviz.cli.options import (
    Device,
    Download,
    InputOptions,
    JudgeOptions,
    Own,
    Quiet,
    Rate,
    expand_groups,
    first_given,
    progress,
)
from featviz.cli.parsing import find_own, read_size
from featviz.cli.render import check_rate_applies, save


@app.command(epilog=examples_of("replay"))
def replay(
    image: Annotated[
        Path, typer.Argument(help="Image file that featviz saved with its recipe, such as a render or a dream.")
    ],
    model: Annotated[
        str | None, typer.Option(help="FILE.py:FACTORY, if the image is of a network of your own.")
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
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Image file, or a folder. Default: IMAGE-replay.png; for .npy, .wav, .nii and video files, with the "
            "same ending.",
        ),
    ] = None,
    rate: Rate = None,
    quiet: Quiet = False,
) -> None:
    """Render an image again from its recipe, and compare."""
    from featviz.engine import check_rate
    from featviz.io import ending_of, read_wav

    check_rate(rate)
    recipe = fv.Recipe.of(image)
    check_rate_applies(rate, recipe.spec.axes, recipe.model)
    if rate is None and ending_of(image) == ".wav":
        rate = read_wav(image)[1]
    count = len(recipe.seeds) if recipe.index is None else 1
    path = _replay_file(image, output, recipe.spec.axes, count, rate)
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
    comparison = _compare(image, rendering, rate)  # before saving, which may overwrite the image
    save(rendering, path, expected=recipe.until, rate=rate)
    typer.echo(comparison)


@app.command(epilog=examples_of("judge"))
@expand_groups
def judge(
    images: Annotated[
        list[Path],
        typer.Argument(
            help="Image files of renders, with one image each, or folders of PNGs, such as that of a gallery. "
            "With --target: any image files."
        ),
    ],
    *,
    target: Annotated[
        str | None,
        typer.Option(help="Unit that images without a recipe show, e.g. logit:heart. Needs --model."),
    ] = None,
    judge: Annotated[
        str,
        typer.Option(
            help="Judging model, with the same classes and trained separately; values as for --model of render."
        ),
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
    views. slope, of images of 128 px or more: the amplitude spectrum falls as frequency^-slope; 1 to 1.6 in
    photographs. percentile: share of the photographs in which the unit scores lower.

    --trust adds columns. paths: for each layer, how similar the activations of the image are to those of photographs of
    the unit; 1: as similar as these are to each other, 0: as unrelated photographs. path: the mean over the later half.
    agreement: the same similarity between the image and images started from photographs. ALARM: either is too low, and
    the network may have been manipulated.
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
@expand_groups
def fit_prior(
    folder: Annotated[
        Path, typer.Argument(help="Folder of images, or other data, of one kind; its subfolders are included.")
    ],
    *,
    channels: Annotated[
        int | None,
        typer.Option(help="Number of channels: 1, 3, or those of .npy files. Default: 3, or those of --model."),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            help="Side in px: each image is cropped to the square in its centre, and resized; with --model, the "
            "length of each axis, e.g. 16x64x64. Default: 224, or the network's input size."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Network that reads signals (.wav, .npy), volumes (.nii, .nii.gz, .npy) or video (.mp4, .npy), as "
            "FILE.py:FACTORY. Default: none, for images."
        ),
    ] = None,
    inputs: InputOptions,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; ends in .json. Default: FOLDER-prior.json.")
    ] = None,
) -> None:
    """Learn the colours and spectrum of images, or other data.

    Use the file with --param "Fourier(prior='prior.json')". For signals,
    volumes and video, give the network that reads them as --model.
    """
    from featviz.io import check_output
    from featviz.network import RANDOM_WEIGHTS

    path = output or output_file(None, f"{folder.resolve().name}-prior.json")
    check_output(path, ".json")
    if model is None and inputs != InputOptions():
        raise fv.SettingError(f"{first_given(inputs)} describes the input of a network; give --model FILE.py:FACTORY")
    network = None if model is None else load_network(model, weights=RANDOM_WEIGHTS, device="cpu", **vars(inputs))
    typer.echo(fv.fit_prior(folder, channels=channels, size=read_size(size), network=network).save(path))


def _replay_file(image: Path, output: Path | None, axes: str, count: int, rate: float | None) -> Path:
    """Return the file to write, and check that it can be written, as `check_save` does.

    Raises:
        OutputError: It cannot.
    """
    from featviz.engine import NUMBER_ENDINGS, check_save
    from featviz.io import ending_of, free_path, is_folder

    ending, folder = ending_of(image), output or image.parent
    name = f"{image.name.removesuffix(ending)}-replay{ending if ending in NUMBER_ENDINGS else '.png'}"
    path = free_path(folder / name) if is_folder(folder) else folder
    check_save(path, axes, count=count, rate=rate)
    return path


def _compare(image: Path, rendering: fv.Rendering, rate: float | None) -> str:
    """Return how a rendering differs from the image that it repeats."""
    from featviz.engine import NUMBER_ENDINGS
    from featviz.io import OPAQUE_ENDINGS, ending_of, over_checks, read_image

    if ending_of(image) in NUMBER_ENDINGS:
        return _compare_numbers(image, rendering, rate)
    pixels = rendering.sheet(rate=rate)
    if image.suffix.lower() in OPAQUE_ENDINGS and pixels.shape[2] == 4:
        pixels = over_checks(pixels)  # as it was saved
    now = pixels.transpose(2, 0, 1) / 255.0
    then = read_image(image, len(now))
    if then.shape != now.shape:
        return "of another size than the image; the file was changed"
    largest = round(float(abs(then - now).max()) * 255)
    if largest == 0:
        return "the same as the image, to the byte"
    lossy = "" if image.suffix.lower() == ".png" else f" ({image.suffix} files are compressed with loss)"
    return f"within {largest} of 255 levels of the image{lossy}"


def _compare_numbers(file: Path, rendering: fv.Rendering, rate: float | None) -> str:
    """Return how a rendering differs from the file of numbers, or of a video, that it repeats."""
    import tempfile

    import numpy as np

    from featviz.io import VIDEOS, ending_of, read_numbers

    ending = ending_of(file)
    with tempfile.TemporaryDirectory() as folder:
        (again,) = rendering.save(Path(folder, f"again{ending}"), rate=rate)
        if again.read_bytes() == file.read_bytes():
            return "the same as the file, to the byte"
        if ending in VIDEOS:
            return f"rendered again; {ending} files are compressed with loss, and are not compared"
        now, then = read_numbers(again), read_numbers(file)
    if now.shape != then.shape:
        return "of another size than the file; it was changed"
    largest = float(np.abs(now - then).max())
    return f"within {largest:.3g} of the numbers in the file" if largest else "the same numbers as in the file"
