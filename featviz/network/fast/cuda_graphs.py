"""Record the forward and backward pass as a CUDA graph and replay it, to avoid kernel-launch overhead."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

Pass = Callable[[Float[Tensor, "n c h w"]], dict[str, Tensor]]
"""From images to the outputs of captured layers, by name."""
EAGER_PASSES = 2
"""Number of passes of one shape that run without a graph. Recording takes longer than one or two passes save."""
_recording = Lock()


def cuda_graphed(forward: Pass) -> Pass:
    """Record the passes of the first shape that repeats, and replay them. Other passes run without a graph.

    A GPU waits for Python between the short kernels of a small network; replaying a graph launches them all at once.
    Only passes on a CUDA GPU that need a gradient are recorded. A network that cannot be recorded, because it copies
    values to the CPU and branches on them, runs without a graph.

    Args:
        forward: Runs the network.

    Returns:
        The same function, with graphs. Outputs and gradients of a replay lie in fixed memory: the next replay
        overwrites them.

    Source: https://pytorch.org/docs/stable/notes/cuda.html#cuda-graphs.
    """
    passes: Counter[torch.Size] = Counter()
    recorded: dict[torch.Size, Pass] = {}

    def run(images: Tensor) -> dict[str, Tensor]:
        if not images.is_cuda or not (images.requires_grad and torch.is_grad_enabled()):
            return forward(images)
        passes[images.shape] += 1
        # A graph holds the memory of a whole pass, so only one shape is recorded.
        if passes[images.shape] > EAGER_PASSES and not recorded:
            recorded[images.shape] = _record(forward, images)
        return recorded.get(images.shape, forward)(images)

    return run


def _record(forward: Pass, images: Tensor) -> Pass:
    """Record a forward and backward pass; return `forward` itself if that is not possible."""
    layers: list[str] = []

    def flat(images: Tensor) -> tuple[Tensor, ...]:  # graphs return tuples, not dicts
        captured = forward(images)
        layers[:] = captured
        return tuple(captured.values())

    sample = images.detach().clone().requires_grad_()
    try:
        with one_recording(), _no_stream_warning():
            replay: Any = torch.cuda.make_graphed_callables(
                flat, (sample,), allow_unused_input=True, capture_error_mode="thread_local"
            )
    except Exception:  # what a forward pass raises while it is recorded; otherwise it runs
        return forward
    return lambda images: dict(zip(layers, replay(images), strict=True))


@contextmanager
def one_recording() -> Iterator[None]:
    """Wait until no other thread records a graph, which PyTorch does not support, and restore the current stream.

    `torch.cuda.graph` leaves its own stream current if a recording fails.
    """
    stream = torch.cuda.current_stream()
    with _recording:
        try:
            yield
        finally:
            torch.cuda.set_stream(stream)


@contextmanager
def _no_stream_warning() -> Iterator[None]:
    """Silence a warning about gradients that are accumulated on another stream than the sample's, as recording does."""
    torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
    try:
        yield
    finally:
        torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(True)
