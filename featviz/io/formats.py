"""File formats of results, by the axes of what a network reads, and the recipes in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from featviz.errors import OutputError
from featviz.io.audio import WAV, check_soundfile, read_wav, wav_texts
from featviz.io.files import IMAGE_ENDINGS, check_output, ending_of, is_folder
from featviz.io.gif import GIF
from featviz.io.images import RECIPE_KEY, REPORT_KEY, read_recipe, recipe_among, stored_texts
from featviz.io.nifti import NIFTI, check_nibabel, nifti_texts, read_nifti
from featviz.io.npy import NPY, read_npy, recipe_beside, recipe_file
from featviz.io.plots import check_matplotlib
from featviz.io.video import VIDEOS, check_video

FORMATS = {
    "x": (*IMAGE_ENDINGS, NPY, WAV),
    "yx": (*IMAGE_ENDINGS, NPY),
    "zyx": (*IMAGE_ENDINGS, NPY, *NIFTI),
    "tyx": (*IMAGE_ENDINGS, NPY, *VIDEOS),
}
"""File endings of results, by the axes of the input."""
ALL_FORMATS = (
    f"end it in {', '.join((*IMAGE_ENDINGS, NPY))}; for signals in {WAV}, for volumes in {' or '.join(NIFTI)}, "
    f"for video in {', '.join(VIDEOS)}; or name an existing folder"
)
"""All endings, for a message."""
KINDS = {"x": "signals", "yx": "images", "zyx": "volumes", "tyx": "video"}
"""What inputs with these axes are called."""
BESIDE = (NPY, *(ending for ending in VIDEOS if ending != GIF))
"""Formats whose recipe is in a file beside them."""


def check_result(path: Path, axes: str | None = None) -> None:
    """Check that a result can be written, before anything is computed.

    Args:
        path: A file, or an existing folder.
        axes: Axes of the input, as in `InputSpec`; `None` where they are not known yet, to check the rest.

    Raises:
        OutputError: The folder is missing or not writable, the format does not fit the axes, or the package for the
            format is not installed.
    """
    ending = "" if is_folder(path) else ending_of(path)
    anywhere = {each for endings in FORMATS.values() for each in endings}
    if ending and ending not in anywhere and axes in (None, "yx"):
        raise OutputError(f"cannot write {path}: {ALL_FORMATS}")
    known = anywhere if axes is None else FORMATS[axes]
    if axes is not None and ending and ending not in known:
        others = [kind for other, kind in KINDS.items() if ending in FORMATS[other]]
        fits = f"{ending} is for {' and '.join(others)}" if others else "it has another ending"
        *most, last = FORMATS[axes]
        raise OutputError(f"cannot write {path}: {fits}; for {KINDS[axes]} end it in {', '.join(most)} or {last}")
    check_output(path, *([ending] if ending in known and ending not in IMAGE_ENDINGS else []))
    if axes == "x" and ending in IMAGE_ENDINGS:
        check_matplotlib(f"cannot write {path}")
    if ending == WAV:
        check_soundfile(f"cannot write {path}")
    if ending in NIFTI:
        check_nibabel(f"cannot write {path}")
    if ending in VIDEOS and axes == "tyx":
        check_video(path)


def read_numbers(path: Path) -> np.ndarray:
    """Read the numbers of a result, or of other data, with the axes in the order of the file.

    Args:
        path: A .npy file, a .wav file (channels first) or a NIfTI file.

    Raises:
        OutputError: The file is missing, broken or of another format, or the package for the format is not installed.
    """
    ending = ending_of(path)
    if ending == NPY:
        return read_npy(path)
    if ending in NIFTI:
        return read_nifti(path)
    return read_wav(path)[0]


def recipe_in(path: Path) -> str:
    """Read the recipe of a result: inside of the file, or in the file beside it.

    Args:
        path: The file.

    Returns:
        The recipe as JSON.

    Raises:
        OutputError: The file is missing or of another format.
        RecipeError: It holds no recipe.
    """
    if _is_image(path):
        return read_recipe(path)
    return recipe_among(_texts_of(path), str(path))


def is_result(path: Path) -> bool:
    """Return whether featviz wrote a file: whether a recipe or report is in it, or in the file beside it.

    Args:
        path: The file.

    Raises:
        OutputError: The file is missing or of another format.
    """
    if ending_of(path) in BESIDE:
        return recipe_file(path).is_file()
    texts = stored_texts(path) if _is_image(path) else _texts_of(path)
    return not texts.keys().isdisjoint((RECIPE_KEY, REPORT_KEY))


def _is_image(path: Path) -> bool:
    return ending_of(path) not in (WAV, *NIFTI, *BESIDE)


def _texts_of(path: Path) -> dict[str, str]:
    """Return the recipe and the report of a result that is no image."""
    ending = ending_of(path)
    if ending in BESIDE:
        return {RECIPE_KEY: recipe_beside(path)}
    return wav_texts(path) if ending == WAV else nifti_texts(path)
