"""Progress bars for terminals and notebooks, and images that form in a notebook."""

from __future__ import annotations

import sys
from typing import Any
from weakref import WeakSet

from featviz.interfaces import Progress
from featviz.io.live import LiveImages, in_notebook

_open_bars: WeakSet[Any] = WeakSet()
"""Bars that are not at their end."""


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
        if sys.stderr is None:  # closed, as in some services
            return
        if bar is None or done < bar.n:  # created here, so that a render that fails at once draws no bar
            # The speed is the mean of the whole run, since a batch of images ends all at once.
            bar = tqdm(desc=label or None, total=steps, unit=unit, smoothing=0)
            _open_bars.add(bar)
        bar.total = steps
        bar.update(done - bar.n)
        if done == steps:
            bar.close()
            _open_bars.discard(bar)

    return show


def close_bars() -> None:
    """End the bars that are not at their end, so that a message starts on a line of its own."""
    for bar in list(_open_bars):
        bar.close()
    _open_bars.clear()


def auto_bar(done: int, steps: int) -> None:
    """Do nothing: a sentinel for the default of `progress`, which `default_progress` replaces.

    In notebooks, images are shown as they form, or a bar where a function has no images to show. In terminals a bar is
    shown, and elsewhere nothing.

    Args:
        done: Number of steps done.
        steps: Number of all steps.
    """


def default_progress(label: str, *, images: bool = False) -> Progress | None:
    """Return the default progress of this process; `None` outside of notebooks and terminals.

    Args:
        label: Text before the bar, or before the number of steps.
        images: Whether the function gives its images to an `ImageProgress`.
    """
    if in_notebook():
        return LiveImages(label) if images else progress_bar(label)
    return progress_bar(label) if sys.stderr.isatty() else None


def named_progress(name: str, label: str) -> Progress:
    """Return the progress callback with a name.

    Args:
        name: `"bar"`, or `"live"` for images as they form; outside of notebooks, that is a bar.
        label: Text before the bar, or before the number of steps.
    """
    return LiveImages(label) if name == "live" and in_notebook() else progress_bar(label)
