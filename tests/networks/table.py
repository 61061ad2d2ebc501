"""Examine every architecture whose package is installed, and write a table by family: `make networks`."""

from __future__ import annotations

import argparse
import importlib.util
import os
import time
import warnings
from collections import Counter, defaultdict
from pathlib import Path

import torch
from networks.architectures import ARCHITECTURES
from networks.checks import Report, examine

KINDS = (
    "captures equal a hook",
    "channel axis",
    "places",
    "objectives rise",
    "Grad-CAM",
    "rollout",
    "module unchanged",
)
"""Kinds of checks, as the columns of the table."""

HEADING = """# Networks

featviz is tested on these architectures, in small variants with random weights. `make networks` makes the table again,
in about ten minutes. Each check is independent of the code that it checks:

- **captures**: activations of layers equal those that an independent hook sees;
- **channel axis**: layers of PyTorch have as many channels as their weights say;
- **places**: a change of one part of the image changes the layer most at that position;
- **objectives**: the scores of a channel, a class logit and a token rise within 8 steps;
- **Grad-CAM, rollout**: maps have the size of the image, or rollout says why it does not apply;
- **module unchanged**: weights, buffers, attributes, hooks and flags are the same as before.
"""


def main() -> None:
    """Examine the architectures, print what fails, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, help="Markdown file to write")
    parser.add_argument("--only", default="", help="part of the names of the architectures to examine")
    options = parser.parse_args()
    os.environ.setdefault("YOLO_CONFIG_DIR", "/tmp")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    start, reports = time.perf_counter(), []
    for architecture in ARCHITECTURES:
        if options.only not in architecture.name or not importlib.util.find_spec(architecture.package):
            continue
        try:
            report = examine(architecture)
        except Exception as error:
            report = Report(architecture.name, architecture.family, failures=[f"{type(error).__name__}: {error}"])
        reports.append(report)
        for failure in report.failures:
            print(f"{report.name}: {failure}", flush=True)
    text = _table(reports)
    failed = sum(bool(report.failures) for report in reports)
    print(text)
    print(f"{len(reports)} architectures, {failed} with a failure, {time.perf_counter() - start:.0f} s")
    if options.output:
        options.output.write_text(f"{HEADING}\n{text}\n{len(reports)} architectures, {failed} with a failure.\n")


def _table(reports: list[Report]) -> str:
    """Return the numbers of passed and all checks by family, in Markdown."""
    families: dict[str, list[Report]] = defaultdict(list)
    for report in reports:
        families[report.family].append(report)
    lines = [f"| family | networks | {' | '.join(KINDS)} |", "|---" * (len(KINDS) + 2) + "|"]
    for family, members in [*families.items(), ("all", reports)]:
        passed: Counter[str] = sum((report.passed for report in members), Counter())
        failed = Counter(text.partition(":")[0] for report in members for text in report.failures)
        cells = [
            f"{passed[kind]} of {passed[kind] + failed[kind]}" if passed[kind] + failed[kind] else "-" for kind in KINDS
        ]
        lines.append(f"| {family} | {len(members)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
