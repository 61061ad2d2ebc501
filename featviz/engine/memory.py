"""Estimate the free memory and the memory of a pass; keep freed memory in the process."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

import psutil
import torch
from torch import Tensor

from featviz.errors import RenderError
from featviz.interfaces import Size, show_size

USABLE = 0.8
"""Fraction of the free memory that a render may take; the rest is a reserve for what the estimate misses."""
PEAK_RATIO = 2.25
"""Ratio of peak memory to the memory of tensors saved for the backward pass.

Source: `benchmarks/scaling.py`: 1.3 for MobileNetV2 in float32, 2.25 for GoogLeNet in bfloat16.
"""
COPIES = 4
"""Least number of times that the images of a render are in memory at once: 4 with `param.Pixel`, 5 with `Fourier`."""
CGROUP = Path("/sys/fs/cgroup")
"""Where Linux publishes the memory limit of a container, its use, and how much of that is cache."""

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


def free_bytes(device: torch.device) -> int:
    """Return how many bytes a render may take on a device."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(USABLE * (torch.cuda.mem_get_info(device)[0] + cached))
    free = int(psutil.virtual_memory().available)
    try:
        limit, used = (int((CGROUP / file).read_text()) for file in ("memory.max", "memory.current"))
        cached = int((CGROUP / "memory.stat").read_text().split("inactive_file ")[1].split()[0])
    except (OSError, ValueError, IndexError):  # no container, or one without a limit
        return int(USABLE * free)
    return int(USABLE * min(free, max(0, limit - used + cached)))


def saved_bytes(run: Callable[[], object], *, aside: set[int]) -> int:
    """Return how many bytes a forward pass saves for its backward pass.

    Args:
        run: The forward pass. It returns its result, so that the graph stays alive until it is measured.
        aside: Addresses of memory that does not count, such as that of the weights.
    """
    saved: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        result = run()  # kept until all is counted, or freed addresses would be used and counted twice
    del result
    return sum(size for address, size in saved.items() if address not in aside)


def check_fits(count: int, channels: int, size: Size) -> None:
    """Check that images could fit in the memory of this machine, before any is taken.

    Args:
        count: Number of images.
        channels: Number of their channels.
        size: Length of each of their axes in px.

    Raises:
        RenderError: The images and the copies that preparation makes exceed the memory of the machine.
    """
    if COPIES * 4 * count * channels * math.prod(size) > psutil.virtual_memory().total:
        several = f"{count} images" if count > 1 else "images"
        raise RenderError(f"out of memory with {several} of {show_size(size)} px; give a smaller size")


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
