"""Progress bars for terminals and notebooks."""

from __future__ import annotations

import sys

from featviz.interfaces import Progress


def progress_bar(label: str = "", unit: str = "step") -> Progress:
    """Make a progress callback that draws a bar, as in `fv.render(..., progress=fv.progress_bar())`.

    A count that starts again from a lower number gets a new bar.

    Args:
        label: Text before the bar.
        unit: Name of what is counted, for the speed at the end of the bar.

    Returns:
        A callback for the argument `progress` of any function of featviz.
    """
    from tqdm.auto import tqdm

    bar: tqdm | None = None

    def show(done: int, steps: int) -> None:
        nonlocal bar
        if bar is None or done < bar.n:  # created here, so that a render that fails at once draws no bar
            bar = tqdm(desc=label or None, total=steps, unit=unit)
        bar.total = steps
        bar.update(done - bar.n)
        if done == steps:
            bar.close()

    return show


def auto_bar(done: int, steps: int) -> None:
    """Stand for a progress bar in terminals and notebooks, and for nothing elsewhere: the default of `progress`.

    Args:
        done: Number of steps done.
        steps: Number of all steps.
    """


def default_bar(label: str) -> Progress | None:
    """Return the bar for which `auto_bar` stands; `None` where nobody would see it.

    Args:
        label: Text before the bar.
    """
    return progress_bar(label) if sys.stderr.isatty() or "ipykernel" in sys.modules else None
