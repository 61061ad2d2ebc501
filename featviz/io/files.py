"""Write files atomically: to a temporary file that is then renamed, so that no file is ever half-written."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from secrets import token_hex
from tempfile import NamedTemporaryFile

import psutil

from featviz.errors import OutputError

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
"""File endings of the image formats that can be written."""
TEMPORARY = ".part"
"""In the names of files that are being written."""
_TEMPORARY_NAME = re.compile(r"\.([0-9a-f]{8})-(\d+)-[0-9a-f]{8}\.part(?:\.\w+)*")
"""The names that `temporary_beside` makes: of the machine, of the process, and a random part."""
STALE_AFTER_S = 3600.0
"""Seconds after its last change at which a temporary file of another machine counts as left behind."""


def ending_of(path: Path) -> str:
    """Return the file ending in lower case, such as `".png"`, or `".nii.gz"`, which has two parts.

    >>> ending_of(Path("brain.NII.gz")), ending_of(Path("a.b.png"))
    ('.nii.gz', '.png')
    """
    ending = path.suffix.lower()
    return f"{Path(path.stem).suffix.lower()}{ending}" if ending == ".gz" else ending


def is_file(path: str | Path) -> bool:
    """Return whether there is such a file. Unlike `Path.is_file`, false for any text, however long."""
    return os.path.isfile(path)  # noqa: PTH113


def is_folder(path: str | Path) -> bool:
    """Return whether there is such a folder. Unlike `Path.is_dir`, false for any text, however long."""
    return os.path.isdir(path)  # noqa: PTH112


def check_output(path: Path, *endings: str) -> None:
    """Check that a file can be written, before anything is computed.

    Args:
        path: The file, or an existing folder in which files will be written.
        endings: Allowed file endings, such as `".gif"`; none for those of images.

    Raises:
        OutputError: The folder is missing or not writable, or the file has another ending.
    """
    try:
        exists_as_folder = path.is_dir()
    except (OSError, ValueError) as error:  # the name is too long, or holds a null byte
        raise OutputError(f"cannot write {path}: {_reason(error)}") from error
    folder = path if exists_as_folder else _without_link(path).parent
    endings = endings or IMAGE_ENDINGS
    if exists_as_folder and endings != IMAGE_ENDINGS:
        raise OutputError(f"cannot write {path}: it is a folder; name a file that ends in {', '.join(endings)}")
    if not exists_as_folder and ending_of(path) not in endings:
        instead = ", or name an existing folder" if endings == IMAGE_ENDINGS else ""
        raise OutputError(f"cannot write {path}: end it in {', '.join(endings)}{instead}")
    if not folder.is_dir():
        raise OutputError(f"cannot write {path}: there is no folder {folder}; make it first")
    try:
        with NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"cannot write to the folder {folder}: {error.strerror}") from error
    remove_stale(folder)


def write(path: Path, data: bytes) -> None:
    """Write a file atomically. An existing file is replaced; through a symbolic link, the one that it names.

    Args:
        path: The file, in an existing folder.
        data: Its content.

    Raises:
        OutputError: The folder is missing, not writable or full. An existing file then stays as it was.
    """
    with temporary_beside(path) as temporary:
        temporary.write_bytes(data)
        replace_durably(temporary, path)


@contextmanager
def temporary_beside(path: Path, ending: str = "") -> Iterator[Path]:
    """Yield the name of a temporary file in the folder of `path`, for the caller to write and to rename to `path`.

    Renaming is atomic only within a file system, hence the same folder. What is still under the temporary name at the
    end of the context is deleted. The name is unique across threads, processes and machines that share the folder, and
    short, so that it is allowed wherever a longer name is.

    Args:
        path: The file to write.
        ending: End of the temporary name, for writers that choose the format by it. Without one, nothing that searches
            the folder for images finds the temporary file.

    Raises:
        OutputError: An `OSError` was raised within the context.
    """
    temporary = _without_link(path).with_name(f".{_machine()}-{os.getpid()}-{token_hex(4)}{TEMPORARY}{ending}")
    try:
        yield temporary
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def replace_durably(temporary: Path, path: Path) -> None:
    """Rename a file to one that it replaces, once its content is on the disk.

    Otherwise, after a power failure, the new name may refer to an empty file.

    Args:
        temporary: The file.
        path: The name that it gets.
    """
    with temporary.open("rb") as opened:
        os.fsync(opened.fileno())
    temporary.replace(_without_link(path))


def _without_link(path: Path) -> Path:
    """Return the path that a symbolic link names, so that the link stays when the file is replaced."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path  # unlike `resolve`, also for a loop of links


def remove_stale(folder: Path) -> None:
    """Delete the temporary files in a folder whose writer has been killed.

    Those of another machine or container are deleted after `STALE_AFTER_S`.

    Args:
        folder: The folder. Subfolders are left out.
    """
    for file in folder.glob(f".*{TEMPORARY}*"):
        name = _TEMPORARY_NAME.fullmatch(file.name)
        if name is None:  # a file of the user's
            continue
        machine, process = name.groups()
        try:
            if machine == _machine():
                stale = not psutil.pid_exists(int(process))
            else:
                stale = time.time() - file.stat().st_mtime > STALE_AFTER_S
            if stale:
                file.unlink()
        except OSError:  # another process deleted it first, or may
            continue


def _reason(error: OSError | ValueError) -> str:
    return getattr(error, "strerror", None) or str(error)


@cache
def _machine() -> str:
    """Return a hash of the host name and of the PID namespace, within which process ids are unique."""
    try:
        space = str(Path("/proc/self/ns/pid").readlink())
    except OSError:  # not on Linux
        space = ""
    return hashlib.sha256(f"{platform.node()} {space}".encode()).hexdigest()[:8]


def free_path(path: Path) -> Path:
    """Return a path at which there is no file yet: the path itself, or the same with a number, such as `cat-2.png`.

    Args:
        path: A path that was made from what a file shows, not chosen by the user.
    """
    at = len(path.name) - len(ending_of(path))
    stem, ending = path.name[:at], path.name[at:]
    found, number = path, 2
    while os.path.lexists(found):
        found, number = path.with_name(f"{stem}-{number}{ending}"), number + 1
    return found


def slug(name: str, max_length: int = 80) -> str:
    """Return a file name for a text: letters, digits, dots, hyphens and underscores only.

    Args:
        name: Any text, such as that of an objective.
        max_length: Largest number of bytes; the rest is cut.

    Returns:
        The text with an underscore in place of every other character.

    >>> slug("stage2:5 - tv")
    'stage2_5_-_tv'
    """
    text = "".join(letter if letter.isalnum() or letter in ".-_" else "_" for letter in name)
    return text.encode()[:max_length].decode(errors="ignore")


def unique_slug(name: str, max_length: int = 80) -> str:
    """Return a file name for a text, as `slug` does, that differs from those of other texts.

    Args:
        name: Any text, such as that of a layer.
        max_length: Largest number of bytes.

    Returns:
        The text, or a part of its hash after it where other texts would have the same file name.

    >>> unique_slug("a_b"), unique_slug("a b")
    ('a_b', 'a_b-c8687a08')
    """
    plain = slug(name, max_length)
    if plain == name:
        return plain
    return f"{slug(name, max_length - 9)}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
