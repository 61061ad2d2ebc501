"""Estimate the free memory, and the memory of a pass."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

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
BYTES_PER_NUMBER = 4
"""Of a floating-point number in single precision."""
COPIES = 4
"""Least number of times that the images of a render are in memory at once: 4 with `param.Pixel`, 5 with `Fourier`."""
CGROUP = Path("/sys/fs/cgroup")
"""Where Linux publishes the memory limit of a container, its use, and how much of that is cache."""


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
    if COPIES * BYTES_PER_NUMBER * count * channels * math.prod(size) > psutil.virtual_memory().total:
        several = f"{count} images" if count > 1 else "images"
        raise RenderError(f"out of memory with {several} of {show_size(size)} px; give a smaller size")
