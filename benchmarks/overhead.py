"""What a step of `fv.render` costs over the network's own pass: `make overhead`.

The bare pass is the least that any library could do without changing the network: weights frozen, forward stopped at
the layer, channels last, and backward to the pixels. Both run in turn, in one process; the ratio is of medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import pairwise

import torch
import torchvision
from torch import nn

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


def bare_step(module: nn.Module, layer: str, batch: int, size: int) -> Callable[[], None]:
    """Return one forward and backward pass to the layer."""
    module = module.eval().requires_grad_(False).to(memory_format=torch.channels_last)
    found = []

    def hook(_: nn.Module, __: object, output: torch.Tensor) -> None:
        found.append(output)
        raise StopError

    images = torch.rand(batch, 3, size, size).contiguous(memory_format=torch.channels_last).requires_grad_()

    def step() -> None:
        images.grad = None
        handle = module.get_submodule(layer).register_forward_hook(hook)
        try:
            module(images)
        except StopError:
            pass
        finally:
            handle.remove()
        units = found.pop()
        (units[:, 5].mean() * batch).backward()

    return step


def render_seconds(module: nn.Module, layer: str, batch: int, size: int, steps: int) -> list[float]:
    """Return the seconds of every step of a render but the first, which warms up."""
    network = fv.Network(module, size=size, **IMAGENET)
    network.table  # noqa: B018  probing is paid once for each network
    times: list[float] = []
    fv.render(
        network,
        obj.Channel(layer, 5),
        param=param.image(batch=batch),
        steps=steps + 1,
        progress=lambda *_: times.append(time.perf_counter()),
    )
    return [after - before for before, after in pairwise(times)]


def main() -> None:
    """Print a table of ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--steps", type=int, default=5, help="a round")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    batch, size = options.batch, options.size
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, batch {batch}, {size} px, STANDARD views")
    print(f"{'network':14} {'layer':12} {'bare ms':>8} {'render ms':>9} {'ratio':>6}   of each round")
    for name, layer in CASES:
        options_of = {"init_weights": False} if name == "googlenet" else {}
        module = torchvision.models.get_model(name, weights=None, **options_of)
        step = bare_step(module, layer, batch, size)
        step()
        bare, whole = [], []
        for _ in range(options.rounds):
            seconds = []
            for _ in range(options.steps):
                start = time.perf_counter()
                step()
                seconds.append(time.perf_counter() - start)
            bare.append(statistics.median(seconds))
            whole.append(statistics.median(render_seconds(module, layer, batch, size, options.steps)))
        rounds = " ".join(f"{b / a:.2f}" for a, b in zip(bare, whole, strict=True))
        a, b = statistics.median(bare), statistics.median(whole)
        print(f"{name:14} {layer:12} {1e3 * a:8.0f} {1e3 * b:9.0f} {b / a:6.2f}   {rounds}", flush=True)


if __name__ == "__main__":
    main()
