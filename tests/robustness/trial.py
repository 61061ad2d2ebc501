"""Run a trial with a time limit, and classify how it ended."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

LIMIT_S = 30.0
"""Seconds after which a trial counts as hanging."""
FINE, REFUSED, RAW, HUNG, DAMAGE = "fine", "refused", "raw error", "hung", "damage"
"""How a trial ends: it succeeds, is refused by an error of featviz, raises another error, takes too long, or leaves
files changed that it should not touch."""


class Hung(BaseException):
    """A trial takes too long. It is no `Exception`, so that nothing catches it."""


@dataclass(frozen=True)
class Trial:
    """Something to try.

    Args:
        name: What is tried, for the report.
        run: Tries it: returns one of `FINE`, `REFUSED`, `RAW` or `DAMAGE`, and what was said.
    """

    name: str
    run: Callable[[], tuple[str, str]]


def outcome(trial: Trial, limit: float = LIMIT_S) -> tuple[str, str]:
    """Return how a trial ended, and what was said.

    Args:
        trial: The trial.
        limit: Seconds after which it counts as hanging.
    """
    try:
        with time_limit(limit):
            return trial.run()
    except Hung:
        return HUNG, f"no end after {limit:.0f} s"


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `Hung` after some time."""

    def stop(*_: object) -> None:
        raise Hung

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run_all(
    trials: Iterable[Trial], limit: float = LIMIT_S, on_bad: Callable[[str], object] = lambda _: None
) -> tuple[Counter[str], list[str]]:
    """Run trials.

    Args:
        trials: The trials.
        limit: Seconds after which one counts as hanging.
        on_bad: Called at once with the line of a trial that ended badly.

    Returns:
        The number of trials by how they ended, and a line for each that ended badly.
    """
    counts: Counter[str] = Counter()
    bad = []
    for trial in trials:
        how, said = outcome(trial, limit)
        counts[how] += 1
        if how not in (FINE, REFUSED):
            bad.append(f"{how}: {trial.name}: {said}"[:300])
            on_bad(bad[-1])
    return counts, bad


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Return the size and the time of change of every file below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}
