"""Write files atomically: to a temporary file that is then renamed, so that no file is ever half-written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile, gettempdir

from featviz.errors import OutputError

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
"""File endings of the image formats that can be written."""


def check_output(path: Path, *endings: str) -> None:
    """Check that a file can be written, before anything is computed.

    Args:
        path: The file, or an existing folder in which files will be written.
        endings: Allowed file endings, such as `".gif"`; none for those of images.

    Raises:
        OutputError: The folder is missing or not writable, or the file has another ending.
    """
    folder = path if path.is_dir() else path.parent
    endings = endings or IMAGE_ENDINGS
    if not path.is_dir() and path.suffix.lower() not in endings:
        instead = ", or name an existing folder" if endings == IMAGE_ENDINGS else ""
        raise OutputError(f"cannot write {path}: end it in {', '.join(endings)}{instead}")
    if not folder.is_dir():
        raise OutputError(f"cannot write {path}: there is no folder {folder}; make it first")
    try:
        with NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"cannot write to the folder {folder}: {error.strerror}") from error


def cache_folder() -> Path:
    """Return the folder of featviz's cache, which holds measurements of this machine and of folders of images.

    Returns:
        `featviz` in `$XDG_CACHE_HOME`, or in `~/.cache`; where that is not writable, a folder of the user among the
        temporary files.
    """
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "featviz"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass
    folder = Path(gettempdir()) / f"featviz-{os.getuid() if hasattr(os, 'getuid') else 'cache'}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def write(path: Path, data: bytes) -> None:
    """Write a file atomically. An existing file is replaced.

    Args:
        path: The file, in an existing folder.
        data: Its content.

    Raises:
        OutputError: The folder is missing, not writable or full. An existing file then stays as it was.
    """
    with temporary_beside(path) as temporary:
        temporary.write_bytes(data)
        temporary.replace(path)


@contextmanager
def temporary_beside(path: Path, ending: str = "") -> Iterator[Path]:
    """Yield the name of a temporary file in the folder of `path`, for the caller to write and to rename to `path`.

    Renaming is atomic only within a file system, hence the same folder. What is still under the temporary name at the
    end of the context is deleted.

    Args:
        path: The file to write.
        ending: End of the temporary name, for writers that choose the format by it. Without one, nothing that searches
            the folder for images finds the temporary file.

    Raises:
        OutputError: An `OSError` was raised within the context.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part{ending}")
    try:
        yield temporary
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def slug(name: str, max_length: int = 80) -> str:
    """Return a file name for a text: letters, digits, dots, hyphens and underscores only.

    Args:
        name: Any text, such as that of an objective.
        max_length: Largest number of characters; the rest is cut.

    Returns:
        The text with an underscore in place of every other character.

    >>> slug("stage2:5 - tv")
    'stage2_5_-_tv'
    """
    return "".join(letter if letter.isalnum() or letter in ".-_" else "_" for letter in name)[:max_length]
