"""Progress as a bar, for terminals and notebooks."""

from __future__ import annotations

from featviz.interfaces import Progress


def progress_bar(what: str = "", unit: str = "step") -> Progress:
    """Make a callback that draws a bar: `fv.render(..., progress=fv.progress_bar())`. What begins anew gets another.

    Args:
        what: is written before it.
        unit: of what is counted.
    """
    from tqdm.auto import tqdm

    bar: tqdm | None = None

    def show(done: int, steps: int) -> None:
        nonlocal bar
        if bar is None or done < bar.n:  # nothing is drawn for a render that fails before its first step
            bar = tqdm(desc=what or None, total=steps, unit=unit)
        bar.total = steps
        bar.update(done - bar.n)
        if done == steps:
            bar.close()

    return show
