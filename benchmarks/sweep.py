"""Time sweeps: `make sweepbench`.

Units per minute on one and two Ray workers with one thread each, compared with this process; the time of a sweep that
is complete already; and the cost of planning a million images: naming each by its recipe, finding which exist, and
the size of the file names, which are the only manifest.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

import featviz as fv
from featviz.apps.shared.rendering.batch import Batch


def seconds(network: fv.Network, folder: Path, backend: fv.RayBackend | None, units: int, steps: int) -> float:
    """Time a sweep; images that exist in the folder are not rendered again."""
    start = time.perf_counter()
    made = fv.sweep(network, folder, "stage2", channels=range(units), steps=steps, backend=backend)
    assert made.count == units, made.problems
    return time.perf_counter() - start


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--units", type=int, default=64)
    parser.add_argument("--steps", type=int, default=256)
    parser.add_argument("--million", type=int, default=1_000_000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    import ray

    network = fv.load("motifnet", device="cpu")
    print(f"featviz {fv.__version__}, torch {torch.__version__}, {options.units} units of {options.steps} steps")
    with tempfile.TemporaryDirectory() as root:
        ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)
        fast = {"local": seconds(network, Path(root, "local"), None, options.units, options.steps)}
        for workers in (1, 2):
            backend = fv.RayBackend(workers=workers)
            start = seconds(network, Path(root, f"start{workers}"), backend, 8 * workers, 0)
            whole = seconds(network, Path(root, f"{workers}"), backend, options.units, options.steps)
            fast[f"{workers} on Ray"] = whole - start
            print(f"{workers} workers: {start:.1f} s to start, without rendering")
        for name, took in fast.items():
            print(f"{name:10} {60 * options.units / took:7.0f} units per minute")
        print(f"two workers relative to one: {fast['1 on Ray'] / fast['2 on Ray']:.2f}")
        again = seconds(network, Path(root, "local"), None, options.units, options.steps)
        print(f"a complete sweep: {again:.1f} s, {1e3 * again / options.units:.0f} ms per unit, with its pages")
        ray.shutdown()

    start, count = time.perf_counter(), options.million
    goals = [fv.objectives.Channel("stage2", i % 64) for i in range(count)]
    batch = Batch.of(network, goals, range(count), steps=512)
    named = time.perf_counter()
    left = batch.without(set(batch.names[: count // 2]))
    done = time.perf_counter()
    print(f"{count} recipes: {1e3 * (named - start) / count:.3f} ms to name one, {1e3 * (done - named) / count:.4f} ms")
    print(
        f"to check whether it exists; {sum(map(len, left))} left in {len(left)} batches; {len(set(batch.names))} names"
    )
    print(f"manifest: {sum(len(name) + 4 for name in batch.names) / 1e6:.0f} MB of file names")


if __name__ == "__main__":
    main()
