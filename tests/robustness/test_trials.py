"""A small sample of the trials; `make breakit` runs all of them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from robustness.trial import DAMAGE, FINE, HUNG, RAW, REFUSED, Trial, run_all

ROOT = Path(__file__).parents[2]
SAMPLE = 8
"""Number of trials of each kind."""
SAMPLES = {"interruptions": 4, "values": 60}
"""Number of trials of the kinds that take more or less time."""


def test_bad_outcomes_are_counted():
    def sleep():
        while True:
            pass

    trials = [
        Trial("a", lambda: (FINE, "")), Trial("b", lambda: (REFUSED, "no")), Trial("c", lambda: (RAW, "KeyError")),
        Trial("d", lambda: (DAMAGE, "gone")), Trial("e", sleep),
    ]  # fmt: skip
    counts, bad = run_all(trials, limit=0.2)
    assert dict(counts) == dict.fromkeys((FINE, REFUSED, RAW, DAMAGE, HUNG), 1)
    assert [line.partition(":")[0] for line in bad] == [RAW, DAMAGE, HUNG]


@pytest.mark.parametrize("kind", ["command_lines", "damage", "expressions", "interruptions", "recipes", "values"])
def test_nothing_breaks(kind):
    """In a process of its own, where no type checker refuses bad values before featviz does."""
    paths = os.pathsep.join(str(ROOT / name) for name in ("tests", "tools"))
    count = SAMPLES.get(kind, SAMPLE)
    command = [sys.executable, "-m", "robustness", kind, "--sample", str(count)]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    numbers = [int(cell) for cell in done.stdout.splitlines()[-1].split("|")[2:7]]
    assert sum(numbers) == count
    assert numbers[2:] == [0, 0, 0]
