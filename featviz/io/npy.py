"""Files of numbers, .npy, for results of any number of axes, with the recipe in a file beside each."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from zipfile import BadZipFile

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


def read_npy(file: str | Path) -> np.ndarray:
    """Read the numbers of a .npy file. It cannot run code: arrays of Python objects are refused.

    Args:
        file: The file.

    Raises:
        OutputError: The file is missing or broken.
    """
    try:
        # Mapped, a file that claims to be larger than it is is refused before any memory is taken.
        return np.array(np.load(file, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError, TypeError, EOFError) as error:
        raise OutputError(f"cannot read {file} as an array; was it copied completely?") from error


def read_arrays(file: str | Path) -> dict[str, np.ndarray]:
    """Read the arrays of a .npz file, or the one of a .npy file.

    Args:
        file: The file. It cannot run code: arrays of Python objects are refused.

    Returns:
        The arrays by name; `"arr_0"` for the one of a .npy file.

    Raises:
        OutputError: The file cannot be read.
    """
    try:
        with Path(file).open("rb") as opened:  # which NumPy would leave open where it cannot read it
            found = np.load(opened, allow_pickle=False)
            return {"arr_0": found} if isinstance(found, np.ndarray) else {name: found[name] for name in found.files}
    except (OSError, ValueError, TypeError, EOFError, BadZipFile, zlib.error) as error:
        raise OutputError(f"cannot read {file} as arrays of numbers; was it copied completely?") from error
