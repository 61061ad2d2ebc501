"""Write files safely: to a temporary name first, then renamed, so that no file is ever half-written."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import NamedTemporaryFile

from featviz.errors import OutputError

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
"""File endings of the image formats that can be written."""


def check_output(path: Path, *endings: str) -> None:
    """Make sure that a file can be written here, before anything is computed.

    Args:
        path: the file, or a folder.
        endings: the formats; left out, those of pictures.

    Raises:
        OutputError: the folder is missing or not writable, or the file's ending is no format.
    """
    folder = path if path.is_dir() else path.parent
    endings = endings or PICTURES
    if not path.is_dir() and path.suffix.lower() not in endings:
        instead = ", or name an existing folder" if endings == PICTURES else ""
        raise OutputError(f"cannot write {path}: end it in {', '.join(endings)}{instead}")
    if not folder.is_dir():
        raise OutputError(f"cannot write {path}: there is no folder {folder}; make it first")
    try:
        with NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"cannot write to the folder {folder}: {error.strerror}") from error


def cache_folder() -> Path:
    """Return where featviz keeps what it found out about this machine and about folders; it may not be there yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "featviz"


def write(path: Path, data: bytes) -> None:
    """Write a file under a name of its own beside `path`, then rename it.

    Raises:
        OutputError: the folder is missing, not writable or full.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        aside.write_bytes(data)
        aside.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error
    finally:
        aside.unlink(missing_ok=True)


def slug(name: str, longest: int = 80) -> str:
    """Return a file name for what an image shows: letters, digits, dots, hyphens and underscores only.

    >>> slug("stage2:5 - tv")
    'stage2_5_-_tv'
    """
    return "".join(letter if letter.isalnum() or letter in ".-_" else "_" for letter in name)[:longest]
