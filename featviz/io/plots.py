"""Pictures of signals: line plots with axes, and lines without, drawn by matplotlib."""

from __future__ import annotations

import importlib.util
import threading

import numpy as np
from jaxtyping import Float, UInt8

from featviz.errors import OutputError

WIDTH, DPI = 720, 100
"""Width of a plot in px, and px per inch."""
ROW_HEIGHTS = (220, 130, 80)
"""Height in px of the row of a channel where there is one, where there are up to 4, and where there are more."""
MARGINS = {"left": 0.085, "right": 0.985}
"""Space for the axes as shares of the width."""
FOOT, HEAD = 44, 10
"""Space in px below the lowest row, for the labels of the time axis, and above the highest row."""
MAX_ROWS = 16
"""Signals with more channels are drawn as an image with one row of px per channel."""
LINE, ZERO, FAINT = "#1f5a8a", "#b9b4ab", "#ece8e1"
BARE_WIDTH, BARE_RATIO, BARE_ROWS = 480, 0.25, 8
"""Of lines without axes: width in px, height of the row of each channel as a share of it, and the largest number of
channels that are drawn; of more, the mean is drawn."""
BARE_MARGIN = 0.07
"""Space above and below the lines of a row without axes, as a share of its height."""
_STYLE = threading.Lock()
"""Held while the style of matplotlib is another one than the user's."""


def plot_signal(
    values: Float[np.ndarray, "c length"], bounds: tuple[float, float], rate: float | None = None
) -> UInt8[np.ndarray, "h w 3"]:
    """Draw a signal as one line per channel, all on the same scale.

    Args:
        values: Amplitudes in the range of the data.
        bounds: Lowest and highest value that they can have; lines across the plot where they come near.
        rate: Samples per second, for a time axis in seconds; `None` for one in samples.

    Returns:
        8-bit RGB, (height, width, 3).

    Raises:
        OutputError: matplotlib is not installed.
    """
    check_matplotlib("cannot plot a signal")
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = len(values) if len(values) <= MAX_ROWS else 1
    row = ROW_HEIGHTS[0 if rows == 1 else 1 if rows <= 4 else 2]
    height = FOOT + HEAD + rows * row
    # The user's own style would change the picture of a recipe. Styles belong to the process, so one thread at a time.
    with _STYLE, matplotlib.style.context("default"):
        figure = Figure(figsize=(WIDTH / DPI, height / DPI), dpi=DPI)
        canvas = FigureCanvasAgg(figure)
        axes = figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]
        figure.subplots_adjust(**MARGINS, bottom=FOOT / height, top=1 - HEAD / height, hspace=0.08)
        time = np.arange(values.shape[1]) / (rate or 1)
        if rows == len(values):
            for panel, line in zip(axes, values, strict=True):
                _draw_line(panel, time, line, _limits(values, bounds), bounds)
                panel.locator_params(axis="y", nbins=5 if rows == 1 else 3)
        else:
            largest = float(np.abs(np.nan_to_num(values)).max()) or 1.0
            extent = (time[0], time[-1], len(values) - 0.5, -0.5)
            axes[0].imshow(values, aspect="auto", cmap="RdBu_r", vmin=-largest, vmax=largest, extent=extent)
            axes[0].set_ylabel("channel")
        axes[-1].set_xlabel("samples" if rate is None else "s", labelpad=2)
        canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])


def draw_lines(
    values: Float[np.ndarray, "c length"],
    colors: Float[np.ndarray, "length 3"] | None = None,
    bands: Float[np.ndarray, "length 3"] | None = None,
    *,
    width: int = BARE_WIDTH,
    ratio: float = BARE_RATIO,
) -> UInt8[np.ndarray, "h w 3"]:
    """Draw a signal as lines without axes: one per channel below each other, all on the same scale.

    Args:
        values: Amplitudes in any range.
        colors: RGB of the line at each sample in [0, 1]; `None` for blue.
        bands: RGB of the background at each sample in [0, 1]; `None` for white.
        width: Width in px.
        ratio: Height of the row of each channel as a share of the width.

    Returns:
        8-bit RGB, (height, width, 3).

    Raises:
        OutputError: matplotlib is not installed.
    """
    check_matplotlib("cannot draw a signal")
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure

    lines = values if len(values) <= BARE_ROWS else values.mean(0, keepdims=True)
    rows, length, height = len(lines), lines.shape[1], round(ratio * width)
    low, high = _limits(lines, (0.0, 1.0), BARE_MARGIN)
    extent = (-0.5, length - 0.5, low, high)
    with _STYLE, matplotlib.style.context("default"):
        figure = Figure(figsize=(width / DPI, rows * height / DPI), dpi=DPI)
        canvas = FigureCanvasAgg(figure)
        for row, line in enumerate(lines):
            panel = figure.add_axes((0, 1 - (row + 1) / rows, 1, 1 / rows))
            panel.axis("off")
            if bands is not None:
                panel.imshow(bands[None], aspect="auto", extent=extent, interpolation="nearest")
            points = np.stack([np.arange(length), line], 1)
            ink = LINE if colors is None else colors[:-1]
            segments = np.stack([points[:-1], points[1:]], 1) if colors is not None else points[None]
            panel.add_collection(LineCollection(segments, colors=ink, linewidths=1.5, capstyle="round"))  # type: ignore[arg-type]
            panel.set_xlim(extent[0], extent[1])
            panel.set_ylim(low, high)
        canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])


def check_matplotlib(what: str) -> None:
    """Check that matplotlib is installed.

    Args:
        what: Start of the message.

    Raises:
        OutputError: matplotlib is not installed.
    """
    if not has_matplotlib():
        raise OutputError(f"{what}: plots need matplotlib; run: pip install 'featviz[signals]', or save as .npy")


def has_matplotlib() -> bool:
    """Return whether signals can be plotted."""
    return importlib.util.find_spec("matplotlib") is not None


def _limits(
    values: Float[np.ndarray, "c length"], bounds: tuple[float, float], margin: float = 0.06
) -> tuple[float, float]:
    """Return the lowest and the highest value of a plot, with some space beyond those of the signal."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else bounds
    space = margin * (high - low) or 1.0
    return low - space, high + space


def _draw_line(panel, time, line, limits, bounds) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """Draw a channel into a panel of matplotlib."""
    panel.plot(time, line, color=LINE, linewidth=1.2)
    panel.axhline(0, color=ZERO, linewidth=0.8, zorder=0)
    for bound in bounds:
        panel.axhline(bound, color=ZERO, linewidth=0.8, linestyle=(0, (4, 4)), zorder=0)
    panel.set_ylim(*limits)
    panel.set_xlim(time[0], time[-1] if len(time) > 1 else time[0] + 1)
    panel.grid(color=FAINT, linewidth=0.6)
    panel.set_axisbelow(True)
    panel.tick_params(labelsize=9)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
