"""Files of numbers, .npy, for results of any number of axes, with the recipe in a file beside each."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from jaxtyping import Float

from featviz.errors import OutputError
from featviz.io.files import write

NPY = ".npy"
"""Ending of the files."""


def save_npy(values: Float[np.ndarray, "n c *size"], path: Path, recipe: str) -> Path:
    """Write numbers to a .npy file and their recipe to a file beside it, each atomically.

    Args:
        values: The numbers.
        path: The file; the name of the recipe's file is this with `.json` added.
        recipe: Recipe as JSON.

    Returns:
        The file of the numbers.

    Raises:
        OutputError: The folder is missing, not writable or full.
    """
    data = io.BytesIO()
    np.save(data, values, allow_pickle=False)
    write(path, data.getvalue())
    write(recipe_file(path), recipe.encode())
    return path


def recipe_file(path: Path) -> Path:
    """Return the file with the recipe of a result in a format that stores no text."""
    return path.with_name(f"{path.name}.json")


def recipe_beside(path: Path) -> str:
    """Read the recipe beside a result, as JSON.

    Raises:
        OutputError: The file with the recipe is missing.
    """
    try:
        return recipe_file(path).read_text()
    except FileNotFoundError as error:
        raise OutputError(f"no recipe for {path}: there is no file {recipe_file(path).name} beside it") from error
    except (OSError, UnicodeDecodeError) as error:
        raise OutputError(f"no recipe for {path}: cannot read {recipe_file(path).name} beside it") from error
