"""What a step of `fv.render` costs over the network's own pass: `make overhead`.

The bare pass is the least that any library could do without changing the network: weights frozen, forward stopped at
the layer, channels last, and backward to the pixels. The folded one has its batch normalisations folded as well, as
featviz does. Both run after every step of the render, so all three see the same machine; ratios are of medians.
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

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
CASES = (
    ("mobilenet_v2", "features.14"),
    ("mobilenet_v2", "classifier"),
    ("googlenet", "inception4a"),
    ("resnet50", "layer2"),
    ("resnet50", "layer4"),
)


class StopError(Exception):
    """The layer is reached."""


def bare_pass(module: nn.Module, layer: str, batch: int, size: int) -> Callable[[], None]:
    """Return one forward and backward pass to the layer."""
    module = module.eval().requires_grad_(False).to(memory_format=torch.channels_last)
    images = torch.rand(batch, 3, size, size).contiguous(memory_format=torch.channels_last).requires_grad_()
    found: list[torch.Tensor] = []

    def hook(_: nn.Module, __: object, output: torch.Tensor) -> None:
        found.append(output)
        raise StopError

    def run() -> None:
        images.grad = None
        handle = module.get_submodule(layer).register_forward_hook(hook)
        with contextlib.suppress(StopError):
            module(images)
        handle.remove()
        (found.pop()[:, 5].mean() * batch).backward()

    return run


def fold(module: nn.Module) -> nn.Module:
    """Return a copy with batch norms folded by torch's own tool, in the networks timed here."""
    module = copy.deepcopy(module).eval()
    for part in list(module.modules()):
        for (first, conv), (second, norm) in pairwise(list(part.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(part, first, fuse_conv_bn_eval(conv, norm))
                setattr(part, second, nn.Identity())
    return module


def timed(name: str, layer: str, batch: int, size: int, count: int) -> torch.Tensor:
    """Return the seconds of a bare pass, of a folded one and of a step of the render, in turn, as three rows."""
    options = {"init_weights": False} if name == "googlenet" else {}
    module = torchvision.models.get_model(name, weights=None, **options)
    passes = [bare_pass(copy.deepcopy(module), layer, batch, size), bare_pass(fold(module), layer, batch, size)]
    network = fv.Network(module, size=size, **IMAGENET)
    marks: list[list[float]] = []

    def after_each_step(*_: int) -> None:
        marks.append([time.perf_counter()])
        for run in passes:
            run()
            marks[-1].append(time.perf_counter())

    fv.render(network, obj.Layer(layer), param=param.image(batch=batch), steps=count + 3, progress=after_each_step)
    rows = [
        (bare - step, folded - bare, step - before)
        for (_, _, before), (step, bare, folded) in pairwise(marks[2:])  # the first ones warm up
    ]
    return torch.tensor(rows).T


def main() -> None:
    """Print a table of ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, batch {options.batch}, {options.size} px")
    print("network       layer          ms: bare folded render   render/bare (middle half)   render/folded")
    for name, layer in CASES:
        bare, folded, render = timed(name, layer, options.batch, options.size, options.rounds)
        low, high = (render / bare).quantile(torch.tensor([0.25, 0.75])).tolist()
        middles = [1e3 * row.median().item() for row in (bare, folded, render)]
        ratios = f"{middles[2] / middles[0]:8.2f} ({low:.2f} - {high:.2f}) {middles[2] / middles[1]:17.2f}"
        print(f"{name:13} {layer:12} {''.join(f'{ms:7.0f}' for ms in middles)} {ratios}", flush=True)


if __name__ == "__main__":
    main()
