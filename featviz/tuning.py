"""Which plan is the fastest here: measured once, then remembered, so that the same call gives the same picture."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from featviz import __version__
from featviz.errors import OutputError
from featviz.memory import keeping
from featviz.network import Network
from featviz.output import cache_folder, write
from featviz.plan import PRECISIONS, Plan
from featviz.protocols import Size

WORTH = 64
"""Steps from which on a trial pays for itself; shorter renders run in single precision."""
PASSES = 3
"""How many passes of each kind are timed; the fastest counts."""
PICTURES = 8
"""How many pictures are timed at most: more take no less time each, and the trial has to fit in memory."""
GAIN = 0.8
"""The share of single precision's time that a lower one has to stay below, since it also costs digits.

Convolutions of ResNet-50 and GoogLeNet take .55 where the processor knows bfloat16; MobileNetV2's .9, give or take.
"""
ERROR = 0.1
"""How far a layer may be off in a lower precision, as a share of its deviation."""


def settle(network: Network, layers: Collection[str], count: int, view: Size, plan: Plan, steps: int) -> Plan:
    """Complete a plan: take the precision that was measured before on this machine, or measure it now.

    Args:
        network: what will run.
        layers: what will be captured.
        count: pictures in the batch.
        view: height and width in px of what the network sees.
        plan: what is settled already.
        steps: how many there will be.
    """
    if plan.precision is not None:
        return plan
    single = replace(plan, precision="float32")
    if steps < WORTH or not layers or network.precision != torch.float32:
        return single
    count = min(count, PICTURES)
    key = _key(network, layers, count, view, replace(plan, at_once=None, max_memory=None, tile=None))
    known = _remembered().get(key)
    for precision in PRECISIONS:
        if known == precision:
            return replace(plan, precision=precision)
    lower = replace(plan, precision="bfloat16")
    found = lower if _pays(network, layers, count, view, single, lower) else single
    with suppress(OutputError, OSError):  # a machine that cannot remember measures again
        _memory().parent.mkdir(parents=True, exist_ok=True)
        write(_memory(), json.dumps(_remembered() | {key: found.precision}, indent=1).encode())
    return found


def _pays(network: Network, layers: Collection[str], count: int, view: Size, single: Plan, lower: Plan) -> bool:
    """Run both for a few passes, and compare their times and what they put out."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, network.channels, *view, generator=generator).to(network.device).requires_grad_()
    try:
        with keeping(network.device):
            time_single, right = _measure(network, layers, images, single)
            time_lower, other = _measure(network, layers, images, lower)
    except (RuntimeError, MemoryError, TypeError, ValueError):  # a network that cannot run in less, or at all
        return False
    near = all((other[layer] - right[layer]).std() <= ERROR * right[layer].std() + 1e-6 for layer in right)
    return near and time_lower < GAIN * time_single


def _measure(network: Network, layers: Collection[str], images: Tensor, plan: Plan) -> tuple[float, dict[str, Tensor]]:
    """Return the seconds of the fastest forward and backward pass, and what the layers put out."""
    times = []
    with network.watch(layers, plan) as see:
        for _ in range(1 + PASSES):
            start = time.perf_counter()
            acts = see(images)
            found = {layer: acts.units(layer) for layer in layers}
            torch.autograd.grad([units.mean() for units in found.values()], images)
            if images.is_cuda:
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
    return min(times[1:]), {layer: units.detach() for layer, units in found.items()}


def _key(network: Network, layers: Collection[str], count: int, view: Size, plan: Plan) -> str:
    """Name everything on which the times depend."""
    device = network.device
    machine = (
        torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    )
    facts = [
        __version__,
        torch.__version__,
        machine,
        str(device),
        torch.get_num_threads(),
        torch.backends.cpu.get_cpu_capability(),
    ]
    facts += [network.fingerprint, sorted(layers), count, view, asdict(plan), network.smooth_pools]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _memory() -> Path:
    return cache_folder() / "plans.json"


def _remembered() -> dict[str, str]:
    try:
        found = json.loads(_memory().read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
