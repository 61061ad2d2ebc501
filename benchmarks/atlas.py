"""Time an atlas of a million activations: `make atlas-bench`, about ten minutes on two cores.

The activations are simulated as clusters around a few hundred centers, and stored on disk as collected ones are. Each
step is timed, with the peak memory of the process after it.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from featviz.apps.atlas.cells import cells_of
from featviz.apps.atlas.collect import CLASSES, Collected
from featviz.apps.shared.activations.projection import lay_out, purity

CENTERS = 300


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print the time of a step, and the peak memory so far."""
    started = time.perf_counter()
    yield
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{what:40} {time.perf_counter() - started:7.1f} s {peak:8.0f} MB", flush=True)


def simulate(folder: Path, rows: int, channels: int) -> Collected:
    """Write simulated activations in the files of `collect`."""
    chance = np.random.default_rng(0)
    centers = chance.standard_normal((CENTERS, channels)).astype(np.float32)
    files = {name: (folder / f"{name}.bin").open("wb") for name in ("vectors", "labels", "shares", "numbers")}
    for first in range(0, rows, 10_000):
        count = min(10_000, rows - first)
        which = chance.integers(0, CENTERS, count)
        vectors = np.maximum(centers[which] + 0.7 * chance.standard_normal((count, channels)), 0)
        labels = np.stack([which, (which + 1) % CENTERS, (which + 2) % CENTERS], 1)
        files["vectors"].write(vectors.astype(np.float16).tobytes())
        files["labels"].write(labels.astype(np.int32).tobytes())
        files["shares"].write(chance.random((count, CLASSES)).astype(np.float32).tobytes())
        files["numbers"].write(np.arange(first, first + count, dtype=np.int32).tobytes())
    for file in files.values():
        file.close()
    return Collected(folder, rows, rows, channels, CLASSES)


def main() -> None:
    """Print times and memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--channels", type=int, default=512)
    parser.add_argument("--method", default="umap")
    options = parser.parse_args()
    print(f"{options.rows} activations of {options.channels} channels, laid out by {options.method}")
    with tempfile.TemporaryDirectory() as folder:
        with timed("simulating"):
            found = simulate(Path(folder), options.rows, options.channels)
        with timed("laying out"):
            plane = lay_out(found.vectors, options.method, 0)
        print(f"purity {purity(plane, np.asarray(found.labels[:, 0]), np.asarray(found.numbers[:, 0])):.2f}")
        for side in (20, 40, 80):
            with timed(f"means of cells, {side} per side"):
                count = len(cells_of(found, plane, np.arange(options.rows), side, 10))
            print(f"{count} cells")


if __name__ == "__main__":
    main()
