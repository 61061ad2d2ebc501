"""The folder in which featviz keeps what takes long to measure."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from tempfile import gettempdir

from featviz.errors import OutputError
from featviz.io.files import remove_stale, write


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


def write_cached(file: Path, data: bytes) -> None:
    """Write a file of the cache. A machine that cannot write its cache measures again.

    Args:
        file: A file in a subfolder of the cache, which is made if it is missing. What killed processes left there is
            deleted.
        data: Its content.
    """
    with suppress(OutputError, OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        remove_stale(file.parent)
        write(file, data)
