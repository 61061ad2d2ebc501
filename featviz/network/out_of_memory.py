"""Recognise errors that mean that memory ran out."""

from __future__ import annotations

import torch

MESSAGES = ("can't allocate memory", "out of memory", "ALLOC_FAILED")
"""Parts of the messages of PyTorch's allocators, and of cuBLAS and cuDNN, in errors of any type."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that memory ran out, on any device."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(text in str(error) for text in MESSAGES)
