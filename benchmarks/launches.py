"""Count the operations of a step of `fv.render`, inside and outside of the network: `make launches`.

On a GPU each operation is at least one kernel launch, unless the step is replayed as a CUDA graph; on a CPU each takes
some microseconds besides its arithmetic. The network's own are those of its forward and backward pass on such views.
Operations that only describe memory in another way, as views do, are not counted.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
import torchvision
from torch.utils._python_dispatch import TorchDispatchMode

import featviz as fv
from featviz import param

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
CASES = (("mobilenet_v2", "classifier"), ("googlenet", "inception4a"), ("resnet50", "layer4"))
NO_WORK = ("detach", "lift_fresh", "_unsafe_view", "empty", "empty_like", "empty_strided", "new_empty_strided")
"""Operations without arithmetic that are not marked as views."""


class CountOperations(TorchDispatchMode):
    """Counts operations by name."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        """Count an operation, and run it."""
        name = func.overloadpacket.__name__
        if not func.is_view and name not in NO_WORK:
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))


def counted(run: Callable[[], object]) -> Counter[str]:
    """Return how often each operation occurs in a run."""
    with CountOperations() as mode:
        run()
    return mode.counts


def operations(name: str, layer: str, batch: int, steps: int) -> tuple[Counter[str], Counter[str]]:
    """Return the mean counts of a step, and of a pass of the network alone."""
    options = {"init_weights": False} if name == "googlenet" else {}
    network = fv.Network(torchvision.models.get_model(name, weights=None, **options), size=224, **IMAGENET)
    objectives = [fv.objectives.Channel(layer, i) for i in range(batch)]
    if layer == "classifier":
        objectives = [fv.objectives.Logit(i) for i in range(batch)]
    counts: list[Counter[str]] = []
    execution = fv.Execution("float32")

    def rendered(until: int) -> Counter[str]:
        options = {"param": param.Image(), "steps": 512, "execution": execution, "progress": None}
        return counted(lambda: fv.render(network, objectives, until=until, robustness_views=0, **options))

    counts = [rendered(8), rendered(8 + steps)]  # what a render does once cancels out
    layers = objectives[0].layers
    with network.session(layers, execution) as forward:
        views = torch.rand(batch, 3, 128, 128, requires_grad=True)

        def bare() -> None:
            acts = forward(views * 1)
            tensor = acts.tensors[next(iter(layers))]
            torch.autograd.grad(tensor, views, torch.ones_like(tensor))

        bare()
        own = counted(bare)
    own.subtract({"mul": 2, "ones_like": 1})
    step = Counter({key: (counts[1][key] - counts[0][key]) / steps for key in counts[1]})
    return step, own


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=64, help="number of steps over which counts are averaged")
    parser.add_argument("--names", action="store_true", help="list the operations outside of the network")
    options = parser.parse_args()
    print(f"torch {torch.__version__}, batch {options.batch}: operations of a step\n")
    print("| network | layer | all | network's own | others |\n|---|---|---|---|---|")
    for name, layer in CASES:
        step, own = operations(name, layer, options.batch, options.steps)
        others = step.copy()
        others.subtract(own)
        total, network = sum(step.values()), sum(own.values())
        print(f"| {name} | {layer} | {total:.0f} | {network} | {total - network:.0f} |", flush=True)
        if options.names:
            print(", ".join(f"{key} {count:.1f}" for key, count in others.most_common() if abs(count) > 0.05))


if __name__ == "__main__":
    main()
