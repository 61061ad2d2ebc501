"""Run as in a fresh process, whatever precision, device or modes of PyTorch the caller has set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock
from typing import Any

import torch

DEVICE_TYPES = ("cpu", "cuda", "mps", "xpu")


@contextmanager
def neutral_state() -> Iterator[None]:
    """Reset, within a context, settings of the caller that would change the image of a recipe.

    - Of the thread: autocast, the default device, inference mode. Gradients are enabled, as by leaving inference mode.
    - Of the process: the default floating-point type, and lower precision for products and convolutions of float32.
      They are restored when the last context of all threads ends.
    """
    with ExitStack() as stack:
        for setting in _PROCESS_SETTINGS:
            stack.enter_context(setting.applied())
        for kind in DEVICE_TYPES:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        stack.enter_context(torch.inference_mode(False))
        yield


class _ProcessSetting:
    """A setting of the whole process, which contexts of several threads may need at once and leave in any order.

    Args:
        read: Returns its value.
        write: Sets it.
        wanted: Values that are left as they are. The first one replaces any other.
    """

    def __init__(self, read: Callable[[], Any], write: Callable[[Any], Any], *wanted: Any) -> None:
        self._read, self._write, self._wanted = read, write, wanted
        self._lock, self._open, self._before = Lock(), 0, wanted[0]

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Set a wanted value, and restore the former one when the last of all open contexts ends."""
        with self._lock:
            if self._open == 0:
                self._before = self._read()
                if self._before not in self._wanted:
                    self._write(self._wanted[0])
            self._open += 1
        try:
            yield
        finally:
            with self._lock:
                self._open -= 1
                if self._open == 0 and self._before not in self._wanted:
                    self._write(self._before)


def _matmul_precision() -> str | None:
    """Return PyTorch's setting; `None` where it was set by backend, so that there is no common one."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return None


def _by_backend(operation: str) -> _ProcessSetting:
    """Return the setting for the precision of an operation of float32 on the CPU."""
    backend: Any = getattr(torch.backends.mkldnn, operation)
    return _ProcessSetting(
        lambda: backend.fp32_precision, lambda value: setattr(backend, "fp32_precision", value), "ieee", "none"
    )


# The common setting of products comes first: once it is neutral, so are those by backend that follow from it.
_PROCESS_SETTINGS = (
    _ProcessSetting(torch.get_default_dtype, torch.set_default_dtype, torch.float32),
    _ProcessSetting(_matmul_precision, torch.set_float32_matmul_precision, "highest", None),
    *map(_by_backend, ("matmul", "conv", "rnn")),
)


_TF32 = _ProcessSetting(_matmul_precision, torch.set_float32_matmul_precision, "high", None)
_BENCHMARK = _ProcessSetting(
    lambda: torch.backends.cudnn.benchmark, lambda value: setattr(torch.backends.cudnn, "benchmark", value), True
)


@contextmanager
def fast_on_gpu(device: torch.device, *, benchmark: bool) -> Iterator[None]:
    """Make a CUDA GPU the current one within a context, and let it compute products in TF32.

    PyTorch's convolutions do that by default. Events and CUDA graphs belong to the current GPU.

    Args:
        device: Where the network runs. Nothing changes for other devices.
        benchmark: Let it measure which algorithm is the fastest for each convolution.
    """
    with ExitStack() as stack:
        if device.type == "cuda":
            if torch.cuda.device_count() > 1:
                stack.enter_context(torch.cuda.device(device))
            stack.enter_context(_TF32.applied())
            if benchmark:
                stack.enter_context(_BENCHMARK.applied())
        yield
