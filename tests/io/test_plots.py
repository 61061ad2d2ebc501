"""Plots of signals: equal pixels and an unchanged style of the user, also when several threads draw."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from featviz.io import plot_signal

matplotlib = pytest.importorskip("matplotlib")


def test_the_style_of_the_user_stays_and_changes_nothing():
    values = np.sin(np.arange(64) / 4)[None]
    expected = plot_signal(values, (-1, 1))
    with matplotlib.rc_context({"lines.linewidth": 7.0, "axes.facecolor": "black"}):
        with ThreadPoolExecutor(4) as threads:
            found = list(threads.map(lambda _: plot_signal(values, (-1, 1)), range(16)))
        assert matplotlib.rcParams["lines.linewidth"] == 7.0
        assert matplotlib.rcParams["axes.facecolor"] == "black"
    assert all(np.array_equal(each, expected) for each in found)
