"""Choose the precision of a network: measured once, then remembered, so that the same call gives the same image."""

from __future__ import annotations

import hashlib
import json
import platform
import time
import timeit
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import asdict, replace
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from featviz.engine.malloc import keep_freed_memory
from featviz.errors import OutputError
from featviz.interfaces import Size
from featviz.io import cache_folder, locked, write_cached
from featviz.network import Execution, Forward, Network, neutral_state
from featviz.network.execution import PRECISIONS
from featviz.network.out_of_memory import is_out_of_memory
from featviz.network.outputs import in_single_precision
from featviz.random import noise_images

MIN_PASSES = 64
"""Renders with fewer passes run in single precision: the measurement would take longer than it saves."""
MIN_ROUNDS, MAX_ROUNDS = 5, 20
"""Smallest and largest number of timed rounds. A round is one pass in each precision."""
MAX_IMAGES, MAX_GPU_IMAGES = 8, 64
"""Largest batch that is timed, and that on a GPU. Larger ones take the same time per image, and the measurement has to
fit in memory."""
MAX_TIME_RATIO = 0.85
"""A lower precision is chosen only below this fraction of single precision's time, since it costs accuracy.

Convolutions of ResNet-50 and GoogLeNet take .55 of the time where the processor has bfloat16 instructions;
MobileNetV2's .7 to .78, or .9 on an older one. Measurements of one network differ by up to .03.
"""
RATIO_MARGIN = 0.05
"""Rounds go on while the measured fraction is this close to the required one."""
HYSTERESIS = 0.05
"""Hysteresis: added to that fraction if the network's last choice was the lower precision, else subtracted.

So layers of one network that take nearly as long in both precisions are rendered in the same one.
"""
MAX_SLOWDOWN = 3
"""A precision in which one small convolution takes this many times as long is not tried on the whole network.

Measured: 19 on one thread and 45 on two of a CPU without AVX-512; GoogLeNet takes 40 times as long there.
"""
MAX_ERROR = 0.1
"""Largest deviation of a layer in lower precision, relative to the standard deviation of its activations."""


def autotune(
    network: Network, layers: Collection[str], count: int, input_size: Size, execution: Execution, passes: int
) -> Execution:
    """Complete an execution with the fastest precision on this machine.

    Args:
        network: What will run.
        layers: Layers that will be captured.
        count: Number of images in the batch.
        input_size: Height and width of the network's input in px: those of a tile, or of the whole view.
        execution: What is decided already.
        passes: Number of forward and backward passes that the render will take: steps times tiles.

    Returns:
        The execution with a precision.
    """
    if execution.precision is not None:
        return execution
    single = replace(execution, precision="float32")
    if passes < MIN_PASSES or not layers or network.dtype != torch.float32:
        return single
    # The key names everything that the times depend on, so that the same call always gets the same precision.
    count = min(count, MAX_GPU_IMAGES if network.device.type == "cuda" else MAX_IMAGES)
    key = _key(network, layers, count, input_size, replace(execution, chunk_size=None, max_memory=None, tile=None))
    known = _read_choices().get(key)
    if known in PRECISIONS:
        return replace(execution, precision=known)
    lower = replace(execution, precision="bfloat16")
    last_key = _key(network, (), 0, (0, 0), Execution())
    shift = {"float32": -HYSTERESIS, "bfloat16": HYSTERESIS}.get(_read_choices().get(last_key, ""), 0.0)
    is_lower_faster: bool | None = False
    if has_quick_bfloat16(network.device):
        compare = partial(_is_faster, network, layers, input_size, single, lower, MAX_TIME_RATIO + shift)
        is_lower_faster = _with_fewer_images(compare, count)
    if is_lower_faster is None:  # another time there may be enough memory
        return single
    chosen = lower if is_lower_faster else single
    _remember({key: chosen.precision, last_key: chosen.precision})
    return chosen


@lru_cache
@neutral_state()
def has_quick_bfloat16(device: torch.device) -> bool:
    """Return whether a small convolution in bfloat16 takes less than three times that in single precision.

    On a CPU without such instructions, PyTorch emulates bfloat16. A single pass of a network takes seconds then,
    which is too long for a trial.

    Args:
        device: Where the convolution runs.
    """
    if device.type != "cpu":
        return True
    fastest = {}
    for precision in (torch.float32, torch.bfloat16):
        images = torch.ones(1, 64, 28, 28, dtype=precision)
        weights = torch.ones(64, 64, 3, 3, dtype=precision)
        fastest[precision] = min(timeit.repeat(partial(F.conv2d, images, weights), number=1, repeat=4))
    return fastest[torch.bfloat16] < MAX_SLOWDOWN * fastest[torch.float32]


def _with_fewer_images(is_faster: Callable[[int], bool], count: int) -> bool | None:
    """Return the result for as many images as fit in memory.

    Args:
        is_faster: Compares the precisions for a number of images.
        count: Number of images to begin with.

    Returns:
        Whether the lower precision is faster; `None` if not even one image fits.
    """
    while count:
        try:
            return is_faster(count)
        except (RuntimeError, MemoryError, TypeError, ValueError) as error:
            if not is_out_of_memory(error):  # it cannot run in lower precision, or at all
                return False
        count //= 2  # the render runs fewer images at a time, too
    return None


def _is_faster(
    network: Network,
    layers: Collection[str],
    input_size: Size,
    single: Execution,
    lower: Execution,
    max_ratio: float,
    count: int,
) -> bool:
    """Return whether the lower precision is accurate enough, and takes less than a fraction of the time.

    Passes of both alternate, and the fastest of each count: other processes can only slow a pass.
    """
    images = noise_images(count, network.channels, input_size).to(network.device).requires_grad_()
    with (
        keep_freed_memory(network.device),
        network.session(layers, single) as forward_single,
        network.session(layers, lower) as forward_lower,
    ):
        _, expected = _pass(forward_single, layers, images)
        _, got = _pass(forward_lower, layers, images)
        errors = {key: got[key] - expected[key] for key in expected}
        if not all(_spread(errors[key]) <= MAX_ERROR * _spread(expected[key]) + 1e-6 for key in expected):
            return False
        times_single: list[float] = []
        times_lower: list[float] = []
        for done in range(1, MAX_ROUNDS + 1):
            times_single.append(_pass(forward_single, layers, images)[0])
            times_lower.append(_pass(forward_lower, layers, images)[0])
            ratio = min(times_lower) / min(times_single)
            if done >= MIN_ROUNDS and abs(ratio - max_ratio) > RATIO_MARGIN:
                break
        return ratio < max_ratio


def _spread(values: Tensor) -> Tensor:
    """Return the standard deviation of numbers; of a single one, which has none, its magnitude."""
    return values.std() if values.numel() > 1 else values.abs().max()


def _pass(forward: Forward, layers: Collection[str], images: Tensor) -> tuple[float, dict[str, Tensor]]:
    """Return the seconds of a forward and backward pass, and the activations of the layers."""
    start = time.perf_counter()
    acts = forward(images, rows=slice(0, len(images)), graph=True)
    outputs = {layer: in_single_precision(acts[layer]) for layer in layers}
    scores = [(values.abs() if values.is_complex() else values).mean() for values in outputs.values()]
    torch.autograd.grad(scores, images)
    if images.is_cuda:
        torch.cuda.current_stream(images.device).synchronize()  # another thread may record on another stream
    elif images.device.type != "cpu":
        torch.accelerator.synchronize(images.device)
    return time.perf_counter() - start, {layer: values.detach() for layer, values in outputs.items()}


def _key(network: Network, layers: Collection[str], count: int, input_size: Size, execution: Execution) -> str:
    """Return a hash of everything that the times depend on."""
    device = network.device
    machine = (
        torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    )
    facts = [
        version("featviz"),
        torch.__version__,
        machine,
        str(device),
        torch.get_num_threads(),
        torch.backends.cpu.get_cpu_capability(),
    ]
    facts += [network.fingerprint, network.input.content, sorted(layers), count, input_size]
    facts += [asdict(execution), network.smooth_pools]
    facts += [repr(network.inputs)] if network.inputs else []
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _cache_file() -> Path:
    return cache_folder() / "precision.json"


def _read_choices() -> dict[str, str]:
    try:
        choices = json.loads(_cache_file().read_text())
    except (OSError, ValueError):
        return {}
    return choices if isinstance(choices, dict) else {}


def _remember(chosen: dict[str, str | None]) -> None:
    """Add choices to those of other processes."""
    file = _cache_file()
    with suppress(OutputError), locked(file.parent):
        write_cached(file, json.dumps(_read_choices() | chosen, indent=1).encode())
