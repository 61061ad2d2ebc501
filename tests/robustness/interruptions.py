"""Runs that are killed, or interrupted by Ctrl-C or SIGTERM, at a random moment: the next run completes the folder."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from robustness.damage import is_equal, runs
from robustness.trial import DAMAGE, FINE, RAW, Trial

SIGNALS = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
COUNT = 484
"""Number of trials."""


def trials(folder: Path, count: int | None = None, seed: int = 0) -> Iterator[Trial]:
    """Return trials of interrupted runs.

    Args:
        folder: An empty folder.
        count: Number of trials; `None` for `COUNT`.
        seed: Seed of the moments.
    """
    torch.set_num_threads(1)  # a process that is forked beside other threads of PyTorch would wait for them
    draws = random.Random(seed)
    whole, seconds, run_of = {}, {}, runs(folder)
    for name, run in run_of.items():
        whole[name] = folder / name
        start = time.monotonic()
        _quietly(run, whole[name])
        seconds[name] = time.monotonic() - start
    for _ in range(COUNT if count is None else count):
        name, how = draws.choice(list(whole)), draws.choice(SIGNALS)
        moment = draws.uniform(0, seconds[name])
        interrupt = partial(_interrupt, run_of[name], whole[name], folder / "again", how, moment)
        yield Trial(f"{name}: {how.name} after {moment:.2f} s", interrupt)


def _quietly(run: Callable[[Path], object], output: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run(output)


def _interrupt(
    run: Callable[[Path], object], whole: Path, again: Path, how: signal.Signals, moment: float
) -> tuple[str, str]:
    """Interrupt a run in a process of its own, run again, and compare everything."""
    shutil.rmtree(again, ignore_errors=True)
    process = multiprocessing.get_context("fork").Process(target=_quietly, args=(run, again))
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123
        saved, _ = os.dup(2), os.dup2(nowhere.fileno(), 2)  # the traceback of the interrupted process
        process.start()
        time.sleep(moment)
        if process.pid is not None and process.is_alive():
            os.kill(process.pid, how)
        process.join()
        os.dup2(saved, 2)
        os.close(saved)
    try:
        _quietly(run, again)
    except Exception as error:
        return RAW, f"{type(error).__name__}: {error}"
    left = [path.name for path in again.rglob("*.part")]
    different = [
        str(path.relative_to(whole))
        for path in sorted(whole.rglob("*"))
        if path.is_file() and path.name != ".lock" and not is_equal(path, again / path.relative_to(whole))
    ]
    return (DAMAGE, f"left {left}, not as before: {different}") if left or different else (FINE, "")
