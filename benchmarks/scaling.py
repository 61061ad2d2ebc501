"""Measure how time and memory grow with batch, size and depth: `make scaling`, about ten minutes on two cores.

Each case runs in a process of its own; the peak is the memory that the render adds to the process. The column
`estimate` is what featviz logs before the render and what `--max-memory` uses.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median
from threading import Event, Thread
from typing import Any

import matplotlib.pyplot as plt
import psutil
import torch
import torchvision

import featviz as fv

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
IMAGES = (1, 2, 4, 8, 16, 32, 64)
SIZES = (64, 128, 224, 384, 512, 768, 1024)
DEPTHS = ("conv1", "layer1", "layer2", "layer3", "layer4")


@contextmanager
def watching() -> Iterator[list[float]]:
    """Measure the peak increase of the process's memory in MB, sampled every 2 ms."""
    process, over, found = psutil.Process(), Event(), [0.0]
    before = process.memory_info().rss

    def look() -> None:
        while not over.wait(0.002):
            found[0] = max(found[0], (process.memory_info().rss - before) / 2**20)

    thread = Thread(target=look, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


def measure(model: str, layer: str, images: int, size: int, steps: int) -> dict[str, Any]:
    """Render, and return the seconds per step and image, the peak in MB, and the estimate that was logged."""
    options = {"init_weights": False} if model == "googlenet" else {}
    torch.manual_seed(0)
    network = fv.Network(torchvision.models.get_model(model, weights=None, **options), size=224, **IMAGENET)
    logged = io.StringIO()
    logging.basicConfig(stream=logged, level=logging.INFO, format="%(message)s")
    goals = [fv.objectives.Layer(layer) for _ in range(images)]
    fv.render(network, goals[:1], param=fv.param.Image(size), steps=1)  # measurements that are cached
    marks = [time.perf_counter()]
    with watching() as most:
        rendering = fv.render(
            network,
            goals,
            param=fv.param.Image(size),
            until=steps,
            progress=lambda *_: marks.append(time.perf_counter()),
        )
    estimate = re.search(r"takes? about ([\d.]+) (MB|GB) of memory", logged.getvalue())
    return {
        "seconds": median(after - earlier for earlier, after in pairwise(marks[2:])) / images,
        "peak": most[0],
        "estimate": float(estimate[1]) * (1024 if estimate[2] == "GB" else 1) if estimate else None,
        "execution": repr(rendering.execution),
    }


def alone(**case: Any) -> dict[str, Any]:
    """Measure in a separate process."""
    done = subprocess.run([sys.executable, __file__, "--case", json.dumps(case)], check=True, capture_output=True)
    return json.loads(done.stdout.splitlines()[-1])


def plot(title: str, labels: list[str], series: dict[str, list[float]], path: Path) -> None:
    """Plot each series from 0, side by side."""
    figure, axes = plt.subplots(1, len(series), figsize=(9, 3), layout="constrained")
    figure.suptitle(title)
    for axis, (name, values) in zip(axes, series.items(), strict=True):
        axis.plot(labels, values, marker="o")
        axis.set(ylim=(0, 1.15 * max(values)), title=name)
        for i, value in enumerate(values):
            axis.annotate(
                f"{value:.3g}" if value < 1000 else f"{value:.0f}",
                (i, value),
                textcoords="offset points",
                xytext=(0, 6),
                ha="center",
                size=8,
            )
    figure.savefig(path, dpi=90)
    plt.close(figure)


def main() -> None:
    """Print tables and plot them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/performance"))
    parser.add_argument("--case", type=json.loads, help="measure one case, given as JSON, and print it as JSON")
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(**options.case)))
        return
    options.output.mkdir(parents=True, exist_ok=True)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    series = {
        "images": [("mobilenet_v2", "classifier.1", count, 224) for count in IMAGES],
        "size": [("googlenet", "inception4a", 1, size) for size in SIZES],
        "depth": [("resnet50", layer, 4, 224) for layer in DEPTHS],
    }
    for name, cases in series.items():
        print(
            f"{name:9} {'model':13} {'layer':13} {'images':>6} {'size':>6} {'ms per step and image':>23} "
            f"{'peak MB':>9} {'estimate':>10}  execution"
        )
        times, peaks, labels = [], [], []
        for model, layer, count, size in cases:
            found = alone(model=model, layer=layer, images=count, size=size, steps=options.steps)
            times.append(1e3 * found["seconds"])
            peaks.append(found["peak"])
            labels.append({"images": str(count), "size": f"{size} px", "depth": layer}[name])
            estimate = f"{found['estimate']:.0f}" if found["estimate"] else "-"
            figures = f"{times[-1]:23.1f} {peaks[-1]:9.0f} {estimate:>10}  {found['execution']}"
            print(f"{'':9} {model:13} {layer:13} {count:6} {size:6} {figures}", flush=True)
        title = f"{cases[0][0]}, over {name}"
        plot(title, labels, {"ms per step and image": times, "peak, MB": peaks}, options.output / f"{name}.png")


if __name__ == "__main__":
    main()
