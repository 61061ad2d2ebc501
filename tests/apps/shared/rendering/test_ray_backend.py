"""The number of workers on a Ray cluster."""

from __future__ import annotations

import pytest

import featviz as fv


@pytest.mark.parametrize(
    ("workers", "address", "available", "expected"),
    [
        (None, "local", 2, 2),
        (8, "local", 2, 2),
        (1, "local", 2, 1),
        (8, "auto", 2, 8),
        (3, "auto", 0, 3),
        (None, "auto", 4, 4),
    ],
)
def test_no_worker_is_waited_for_without_end(workers, address, available, expected):
    assert fv.RayBackend(address, workers)._worker_count(available, "GPU") == expected


@pytest.mark.parametrize(("workers", "address"), [(None, "local"), (2, "local"), (None, "auto")])
def test_a_cluster_without_room_is_refused(workers, address):
    with pytest.raises(
        fv.SettingError, match=f"^the Ray cluster at '{address}' has no room for a worker, which needs a GPU"
    ):
        fv.RayBackend(address, workers)._worker_count(0, "GPU")
