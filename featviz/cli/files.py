"""Files that commands read and write: their names, and checks before anything is computed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import typer

import featviz as fv


def output_file(output: Path | None, name: str, *, more: Sequence[str] = ()) -> Path:
    """Return the file to write, and check that it can be written.

    Args:
        output: A file, which is replaced if it is there; an existing folder; or `None` for the current folder.
        name: File name for a folder. It gets a number where there is such a file already. Where it ends in .json,
            .html or .npy, the file must end so, too.
        more: Endings of files that can be written as well as images, such as `".html"`.

    Raises:
        OutputError: The file cannot be written.
    """
    from featviz.io import check_output, free_path, is_folder
    from featviz.io.files import IMAGE_ENDINGS

    folder, own = Path() if output is None else output, Path(name).suffix
    path = free_path(folder / name) if is_folder(folder) else folder
    if own in (".json", ".html", ".npy"):
        check_output(path, own)
    else:
        check_output(path, *(() if is_folder(path) or not more else (*more, *IMAGE_ENDINGS)))
    return path


def name_in(folder: Path, file: Path) -> str:
    """Return the stem of a file with the subfolders in which it lies, so that equal names in two of them differ."""
    return "_".join([*file.relative_to(folder).parent.parts, stem_of(file)])


def stem_of(file: Path) -> str:
    """Return the name of a file without its ending, which is `.nii.gz` for `brain.nii.gz`."""
    from featviz.io import ending_of

    return file.name[: -len(ending_of(file)) or None]


def readable_files(folder: Path, network: fv.Network, results: str) -> Iterator[Path]:
    """Yield the files of a folder that can be read as input of a network, and print which are skipped.

    Results that the same command wrote into the folder are left out.

    Args:
        folder: The folder; its subfolders are included.
        network: The network.
        results: Ending of the names of results, such as `-dream`.

    Raises:
        OutputError: The folder has no such file.
    """
    from featviz.apps.shared.arguments.inputs import inputs_in, read_input
    from featviz.io import is_result, read_image

    for file in list(inputs_in(folder, network.input)):  # before results are written into the same folder
        try:
            if re.search(rf"{results}(-\d+)?$", stem_of(file)) and is_result(file):
                continue
            if network.input.axes == "yx":
                read_image(file, 4)
            else:
                read_input(file, network.input)
        except fv.FeatvizError as error:
            typer.echo(f"featviz: skipped {file}: {error}", err=True)
        else:
            yield file


def exit_if_stopped(rendering: fv.Rendering, expected: int | None = None) -> None:
    """Exit with status 130 if a render stopped early, after its images were saved.

    Args:
        rendering: What was rendered.
        expected: Step at which the render was meant to stop early; `None` for after all of its steps.

    Raises:
        Exit: It stopped at another step, after Ctrl-C.
    """
    if rendering.recipe.until not in (None, expected):
        typer.echo(f"stopped at step {rendering.recipe.until} of {rendering.recipe.steps}", err=True)
        raise typer.Exit(130)
