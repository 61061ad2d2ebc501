"""Keep freed memory in the process, so that the next step need not get it from the system again."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import torch

M_MMAP_THRESHOLD, M_TRIM_THRESHOLD = -3, -1
"""Parameters of glibc's `mallopt`: block size from which memory comes from the system, and freed memory at the top of
the heap from which it is returned to the system.

Source: glibc, malloc/malloc.h.
"""
UNLIMITED, DEFAULT_MAX = 2**30, 2**25
"""A threshold above any block, and the largest value that glibc's dynamic adjustment gives the first threshold. The
second is twice that."""

_open_contexts: list[None] = []
"""One item per open `keep_freed_memory`."""
_lock = Lock()


@contextmanager
def keep_freed_memory(device: torch.device) -> Iterator[None]:
    """Keep freed memory in the process while the context lasts, so that the next step finds it ready.

    By default glibc returns blocks of 32 MB and more to the system, and the next step gets them back page by page:
    page faults take up to two thirds of the time of a large batch. Does nothing on a GPU or with another C library.
    """
    try:
        libc = ctypes.CDLL(None)
        mallopt, trim = libc.mallopt, libc.malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library
        mallopt = None
    if mallopt is None or device.type != "cpu":
        yield
        return
    try:
        with _lock:
            _open_contexts.append(None)
        if not mallopt(M_MMAP_THRESHOLD, UNLIMITED):  # glibc before 2.35 has an upper limit
            mallopt(M_MMAP_THRESHOLD, DEFAULT_MAX)
        mallopt(M_TRIM_THRESHOLD, UNLIMITED)
        yield
    finally:
        with _lock:
            _open_contexts.pop()
            if not _open_contexts:  # the thresholds belong to the process: the last context to close resets them
                mallopt(M_MMAP_THRESHOLD, DEFAULT_MAX)
                mallopt(M_TRIM_THRESHOLD, 2 * DEFAULT_MAX)
                trim(0)
