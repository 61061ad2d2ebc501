"""How much memory there is, what a pass takes of it, and how to keep it at hand between passes."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch
from torch import Tensor

from featviz.errors import SettingError

SHARE = 0.8
"""The share of free memory that a render may take; the rest is for what cannot be foreseen."""
SPARE = 2.25
"""What a pass takes at its peak, over what it keeps for its backward pass.

Source: `benchmarks/scaling.py`; 1.3 for MobileNetV2 in float32, 2.25 for GoogLeNet in bfloat16.
"""
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
GROUP = Path("/sys/fs/cgroup")
"""Where Linux keeps the limit of a container, what is used of it, and how much of that could be dropped."""

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1
"""The settings of glibc's `mallopt` for blocks that come from the system, and for free memory that goes back to it.

Source: glibc, malloc/malloc.h.
"""
ALWAYS, USUAL = 2**30, 2**25
"""More than any block; and what glibc's own rule lets the first of these settings grow to, the second to twice that."""


def read_bytes(amount: int | str) -> int:
    """Read an amount of memory, in bytes or as text.

    Raises:
        SettingError: it cannot be read, or is nothing.

    >>> read_bytes("1.5GB") == 1.5 * 2**30
    True
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*", str(amount), re.IGNORECASE)
    if not found or float(found[1]) <= 0:
        raise SettingError(f"cannot read the amount of memory {amount!r}; give bytes, or text as 800MB or 4GB")
    return int(float(found[1]) * UNITS[found[2].upper()])


def show_bytes(amount: float) -> str:
    """Write an amount of memory.

    >>> show_bytes(1.5 * 2**30), show_bytes(20 * 2**20)
    ('1.5 GB', '20 MB')
    """
    return f"{amount / 2**30:.1f} GB" if amount >= 2**30 else f"{max(1, round(amount / 2**20))} MB"


def free_bytes(device: torch.device) -> int:
    """Return how much memory a render may take, on the device where the network is."""
    if device.type == "cuda":
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(SHARE * (torch.cuda.mem_get_info(device)[0] + idle))
    free = int(psutil.virtual_memory().available)
    try:
        limit, used = (int((GROUP / file).read_text()) for file in ("memory.max", "memory.current"))
        cached = int((GROUP / "memory.stat").read_text().split("inactive_file ")[1].split()[0])
    except (OSError, ValueError, IndexError):  # no container, or one without a limit
        return int(SHARE * free)
    return int(SHARE * min(free, max(0, limit - used + cached)))


def kept_bytes(run: Callable[[], object], *, aside: set[int]) -> int:
    """Run something, and return how many bytes of it stay in memory until its backward pass.

    Args:
        run: does the forward pass.
        aside: addresses of storages that are there anyway, such as weights.
    """
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = run()  # held until all is counted, or addresses would come up again
    del result
    return sum(size for address, size in kept.items() if address not in aside)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether there was no memory left, on any device."""
    words = ("can't allocate memory", "out of memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(text in str(error) for text in words)


@contextmanager
def keeping(device: torch.device) -> Iterator[None]:
    """Let freed memory stay with the process for as long as the context lasts, so that the next step finds it ready.

    Tensors of 32 MB and more otherwise come from the system page by page, in every step anew: that costs a large
    batch up to two thirds of its time. It concerns the CPU, and glibc alone.
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
        if not mallopt(MMAP_THRESHOLD, ALWAYS):  # before glibc 2.35 there is a limit to it
            mallopt(MMAP_THRESHOLD, USUAL)
        mallopt(TRIM_THRESHOLD, ALWAYS)
        yield
    finally:
        mallopt(MMAP_THRESHOLD, USUAL)
        mallopt(TRIM_THRESHOLD, 2 * USUAL)
        trim(0)
