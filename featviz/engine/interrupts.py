"""Delay Ctrl-C while state changes that belongs together."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def delay_interrupt() -> Iterator[None]:
    """Delay a first Ctrl-C to the end of a context; a second one interrupts at once.

    Python interrupts between any two operations, and in the main thread only. In other threads, and where Ctrl-C is
    ignored or handled outside of Python, this changes nothing.
    """
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    delayed: list[tuple[int, FrameType | None]] = []

    def delay(number: int, frame: FrameType | None) -> None:
        if delayed:
            handler(number, frame)
        delayed.append((number, frame))

    signal.signal(signal.SIGINT, delay)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        for number, frame in delayed[:1]:
            handler(number, frame)
