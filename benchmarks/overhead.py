"""Time a step of `fv.render` relative to the network's own forward and backward pass: `make overhead`.

The bare pass is the least that a library can do without changing the network: frozen weights, forward stopped at the
layer, channels last, backward to the pixels. The folded pass has its batch normalisations folded as well; the third
runs folded in bfloat16. All of them run after every step of the render, so they share its machine state. The limit is
the fastest of them, and ratios are medians over steps. The quick pass is the faster one in either precision that also
uses featviz's backward for first and strided depthwise convolutions; the rest of a step's time is the image itself.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import time
from collections.abc import Callable
from itertools import pairwise

import torch
import torchvision
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

import featviz as fv
from featviz import objectives as obj
from featviz import param
from featviz import transforms as T
from featviz.engine.autotune import has_quick_bfloat16
from featviz.network.fast.conv_backward import speed_up_backward

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
CASES = (
    ("mobilenet_v2", "features.14"),
    ("mobilenet_v2", "classifier"),
    ("googlenet", "inception4a"),
    ("resnet50", "layer2"),
    ("resnet50", "layer4"),
)


WHOLE = tuple(step for step in T.STANDARD if not isinstance(step, T.Resize))
"""The default transforms without the resize, so that render and bare pass see the same size."""


class StopError(Exception):
    """Raised when the layer has run."""


def bare_pass(
    module: nn.Module, layer: str, batch: int, size: int, device: str, precision: torch.dtype = torch.float32
) -> Callable[[], None]:
    """Return one forward and backward pass to the layer."""
    module = module.eval().requires_grad_(False).to(device, precision, memory_format=torch.channels_last)
    images = torch.rand(batch, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
    images.requires_grad_()
    found: list[torch.Tensor] = []

    def hook(_: nn.Module, __: object, output: torch.Tensor) -> None:
        found.append(output)
        raise StopError

    def run() -> None:
        images.grad = None
        handle = module.get_submodule(layer).register_forward_hook(hook)
        with contextlib.suppress(StopError):
            module(images.to(precision))
        handle.remove()
        (found.pop()[:, 5].mean() * batch).backward()
        wait(device)

    return run


def wait(device: str) -> None:
    """Wait until the device has finished."""
    if device != "cpu":
        torch.accelerator.synchronize()


def fold(module: nn.Module) -> nn.Module:
    """Return a copy with batch normalisations folded by torch's own function."""
    module = copy.deepcopy(module).eval()
    for part in list(module.modules()):
        for (first, conv), (second, norm) in pairwise(list(part.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(part, first, fuse_conv_bn_eval(conv, norm))
                setattr(part, second, nn.Identity())
    return module


def lower_precision(device: str) -> torch.dtype:
    """Return bfloat16, or single precision where a CPU emulates it and a pass would take seconds."""
    return torch.bfloat16 if has_quick_bfloat16(torch.device(device)) else torch.float32


def timed(name: str, layer: str, batch: int, size: int, count: int, device: str) -> tuple[torch.Tensor, fv.Execution]:
    """Return the seconds of each kind of pass and of a step of the render, as six rows, and its execution."""
    options = {"init_weights": False} if name == "googlenet" else {}
    module = torchvision.models.get_model(name, weights=None, **options)
    lower = lower_precision(device)
    passes = [
        bare_pass(copy.deepcopy(module), layer, batch, size, device),
        bare_pass(fold(module), layer, batch, size, device),
        bare_pass(fold(module), layer, batch, size, device, lower),
    ]
    quick = [fold(module), fold(module)]
    passes += [bare_pass(quick[0], layer, batch, size, device)]
    passes += [bare_pass(quick[1], layer, batch, size, device, lower)]
    network = fv.Network(module.to(device), size=size, **IMAGENET)
    marks: list[list[float]] = []

    def after_each_step(*_: int) -> None:
        wait(device)
        marks.append([time.perf_counter()])
        for run in passes:
            run()
            marks[-1].append(time.perf_counter())

    for module in quick:
        speed_up_backward(module)
    rendering = fv.render(
        network,
        obj.Layer(layer),
        param=param.Image(batch=batch),
        transforms=WHOLE,
        until=count + 3,
        progress=after_each_step,
    )
    steps = [step - before for (*_, before), (step, *_) in pairwise(marks[2:])]  # the first ones warm up
    times = [[after - before for before, after in pairwise(mark)] for mark in marks[3:]]
    return torch.cat([torch.tensor(times).T, torch.tensor([steps])]), rendering.execution


def main() -> None:
    """Print a table of ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    options = parser.parse_args()
    lower = str(lower_precision(options.device)).removeprefix("torch.")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, batch {options.batch}, {options.size} px")
    print(
        f"network       layer          ms: bare folded {lower:>8}  quick  render  render/limit (middle half)"
        "  render/quick  execution"
    )
    for name, layer in CASES:
        times, execution = timed(name, layer, options.batch, options.size, options.rounds, options.device)
        middles = times.median(1).values
        limit, quick, render = times[middles[:3].argmin()], times[3 + middles[3:5].argmin()], times[5]
        low, middle, high = (render / limit).quantile(torch.tensor([0.25, 0.5, 0.75])).tolist()
        each = "".join(f"{1e3 * one.median():8.1f}" for one in (*times[:3], quick, render))
        over = f"{middle:8.2f} ({low:.2f} - {high:.2f}) {(render / quick).median():16.2f}"
        print(f"{name:13} {layer:12} {each} {over}    {execution.precision}", flush=True)


if __name__ == "__main__":
    main()
