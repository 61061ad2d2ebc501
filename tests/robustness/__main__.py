"""Try to break featviz, and print how many trials of each kind end how: `make breakit`."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path

import torch
from robustness import command_lines, damage, expressions, interruptions, recipes, values
from robustness.trial import DAMAGE, FINE, HUNG, RAW, REFUSED, run_all

EXPRESSIONS, RECIPES = 12_000, 4_700
"""Number of random texts and recipes."""


def main() -> None:
    """Run all trials, or those of some kinds."""
    kinds = {
        "values": lambda _, count: values.trials(count),
        "expressions": lambda _, count: expressions.trials(count or EXPRESSIONS),
        "recipes": lambda folder, count: recipes.trials(folder, count or RECIPES),
        "command_lines": lambda folder, count: command_lines.trials(folder, count, commands=options.commands),
        "damage": damage.trials,
        "interruptions": interruptions.trials,
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", help=f"some of {', '.join(kinds)}; all by default")
    parser.add_argument("--sample", type=int, help="number of trials of each kind; all by default")
    parser.add_argument("--commands", nargs="+", help="commands whose lines are tried; all by default")
    options = parser.parse_args()
    torch.set_num_threads(2)
    warnings.simplefilter("ignore")
    say, complain = sys.__stdout__.write, sys.__stderr__.write  # commands print, too
    say(f"| trials | {' | '.join((FINE, REFUSED, RAW, HUNG, DAMAGE))} | seconds |\n|---|---|---|---|---|---|---|\n")
    failures = []
    for kind in options.kinds or kinds:
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as outer:
            folder = Path(outer, "inner")  # `..` is a folder of this kind alone, not of all temporary files
            folder.mkdir()
            os.chdir(folder)
            values.make_files()
            counts, bad = run_all(kinds[kind](folder, options.sample), on_bad=lambda line: complain(f"{line}\n"))
            os.chdir("/")
        numbers = " | ".join(str(counts[how]) for how in (FINE, REFUSED, RAW, HUNG, DAMAGE))
        say(f"| {kind} | {numbers} | {time.monotonic() - start:.0f} |\n")
        sys.__stdout__.flush()
        failures += bad
    raise SystemExit(bool(failures))


if __name__ == "__main__":
    main()
