"""Count the operations of a step of `fv.render`, inside and outside of the network: `make launches`.

On a GPU each operation is at least one kernel launch, unless the step is replayed as a CUDA graph; on a CPU each takes
some microseconds besides its arithmetic. The network's own are those of its forward and backward pass on such views.
Operations that only describe memory in another way, as views do, are not counted.
"""

from __future__ import annotations

import argparse
import warnings
from collections import Counter
from typing import Any

import torch
import torchvision
from peers import IMAGENET, live_channels
from torch.utils._python_dispatch import TorchDispatchMode

import featviz as fv
from featviz.engine.draws import BLOCK_STEPS

CASES = (("mobilenet_v2", "classifier"), ("googlenet", "inception4a"), ("resnet50", "layer4"))
NO_WORK = ("detach", "lift_fresh", "_unsafe_view", "empty", "empty_like", "empty_strided", "new_empty_strided")
"""Operations without arithmetic that are not marked as views."""


FIRST = 65
"""Steps before counting starts: the gradients are checked, and a block of draws begins with the next one."""


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


def operations(name: str, layer: str, batch: int) -> tuple[Counter[str], Counter[str]]:
    """Return the mean counts of a step over a block of steps, and the counts of a pass of the network alone."""
    torch.manual_seed(0)
    options = {"init_weights": False} if name == "googlenet" else {}
    network = fv.Network(torchvision.models.get_model(name, weights=None, **options), size=224, **IMAGENET)
    kind = fv.objectives.Logit if layer == "classifier" else fv.objectives.Channel
    live = live_channels(network, layer, batch)
    objectives = [kind(each) if layer == "classifier" else kind(layer, each) for each in live]
    mode, execution = CountOperations(), fv.Execution("float32")

    def progress(done: int, _: int) -> None:
        if done == FIRST:
            mode.__enter__()
        if done == FIRST + BLOCK_STEPS:
            mode.__exit__(None, None, None)

    options = {"until": FIRST + BLOCK_STEPS, "robustness_views": 0, "progress": progress, "execution": execution}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a random network's class logits hardly change
        fv.render(network, objectives, **options)
    step = Counter({key: count / BLOCK_STEPS for key, count in mode.counts.items()})
    layers = objectives[0].layers
    with network.session(layers, execution) as forward:
        views = torch.rand(batch, 3, 128, 128, requires_grad=True)

        def bare() -> None:
            tensor = forward(views).tensors[next(iter(layers))]
            torch.autograd.grad(tensor, views, torch.ones_like(tensor))

        with CountOperations() as own:
            bare()
    own.counts.subtract({"ones_like": 1})
    return step, own.counts


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--names", action="store_true", help="list the operations outside of the network")
    options = parser.parse_args()
    print(f"torch {torch.__version__}, batch {options.batch}: operations of a step\n")
    print("| network | layer | all | network's own | others |\n|---|---|---|---|---|")
    for name, layer in CASES:
        step, own = operations(name, layer, options.batch)
        others = step.copy()
        others.subtract(own)
        total, network = sum(step.values()), sum(own.values())
        print(f"| {name} | {layer} | {total:.0f} | {network} | {total - network:.0f} |", flush=True)
        if options.names:
            print(", ".join(f"{key} {count:.1f}" for key, count in others.most_common() if abs(count) > 0.05))


if __name__ == "__main__":
    main()
