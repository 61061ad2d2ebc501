"""Time how long imports, `featviz --help` and a short render take in a new process: `make startup`."""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import sys
import time

import torch

CASES = {
    "Python alone": ["-c", "pass"],
    "`import featviz`": ["-c", "import featviz"],
    "`featviz --help`": ["-m", "featviz", "--help"],
    "`featviz render --help`": ["-m", "featviz", "render", "--help"],
    "`import torch`": ["-c", "import torch"],
    "`from featviz import render`": ["-c", "from featviz import render"],
    "a render of two steps": [
        "-c",
        "import featviz as fv; fv.render(fv.load('motifnet', device='cpu'), 'stage1:1', steps=2, progress=None)",
    ],
}
"""Arguments of Python, by what they show."""


def seconds(arguments: list[str]) -> float:
    """Return how long a new Python process takes."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15, help="processes of each kind (default: 15)")
    runs: int = parser.parse_args().runs
    times: dict[str, list[float]] = {name: [] for name in CASES}
    for i in range(runs + 1):
        for name, arguments in CASES.items():  # alternate, so that a busy moment of the machine meets all of them
            taken = seconds(arguments)
            if i:  # the first round reads the files from the disk
                times[name].append(taken)
    print(f"Python {platform.python_version()}, torch {torch.__version__}, {runs} processes of each kind\n")
    print("| | best | median |\n|---|---|---|")
    for name, taken in times.items():
        print(f"| {name} | {min(taken):.2f} s | {statistics.median(taken):.2f} s |")


if __name__ == "__main__":
    main()
