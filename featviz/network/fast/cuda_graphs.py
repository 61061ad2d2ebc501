"""One launch for a whole pass: a GPU otherwise waits for Python between the kernels of a network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

Pass = Callable[[Float[Tensor, "n c h w"]], dict[str, Tensor]]
FIRST = 2
"""How many passes run as they are: what runs once or twice is not worth recording."""


def cuda_graphed(forward: Pass) -> Pass:
    """Record the passes of the first shape that comes again and again, and replay them; others run as they are.

    What a replay puts out, and the gradients that it leads back, are overwritten by the next. A network that cannot be
    recorded, because it waits for what it computed, runs as it is.

    Args:
        forward: from images to what layers put out.

    Source: https://pytorch.org/docs/stable/notes/cuda.html#cuda-graphs.
    """
    passes: Counter[torch.Size] = Counter()
    recorded: dict[torch.Size, Pass] = {}

    def run(images: Tensor) -> dict[str, Tensor]:
        if not images.is_cuda or not (images.requires_grad and torch.is_grad_enabled()):
            return forward(images)
        passes[images.shape] += 1
        if passes[images.shape] > FIRST and not recorded:
            recorded[images.shape] = _record(forward, images)
        return recorded.get(images.shape, forward)(images)

    return run


def _record(forward: Pass, images: Tensor) -> Pass:
    """Record a pass there and back, or return it as it is."""
    layers: list[str] = []

    def flat(images: Tensor) -> tuple[Tensor, ...]:
        caught = forward(images)
        layers[:] = caught
        return tuple(caught.values())

    sample = images.detach().clone().requires_grad_()
    try:
        with _recording():
            replay: Any = torch.cuda.make_graphed_callables(flat, (sample,), allow_unused_input=True)
    except RuntimeError:
        return forward
    return lambda images: dict(zip(layers, replay(images), strict=True))


@contextmanager
def _recording() -> Iterator[None]:
    """Let matrix products run in TF32, as PyTorch's convolutions do anyway; and no word of the sample's own stream."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
        torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(True)
