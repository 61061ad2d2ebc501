"""Locks of folders, so that one process at a time writes what several would spoil."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from featviz.errors import OutputError
from featviz.io.files import remove_stale

log = logging.getLogger("featviz")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, after waiting for whoever holds it, and say so.

    The lock is released when its process ends, however it ends.

    Args:
        folder: The folder, which is made if it is missing. Temporary files that killed processes left are deleted.

    Raises:
        OutputError: The folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("waiting for another process that writes to %s; Ctrl-C to stop", folder)
            lock.acquire()
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror or error}") from error
    try:
        remove_stale(folder)
        yield
    finally:
        lock.release()
