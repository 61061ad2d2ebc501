"""Fixtures of all tests: every test runs in an empty folder, on the CPU and without autotuning."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import toys
from hypothesis import HealthCheck, settings

import featviz as fv

pytest_plugins = ["explorer_fixtures", "unit_fixtures"]

# How long an example of hypothesis takes depends on the other work of the machine.
settings.register_profile("featviz", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("featviz")
SHARED = Path(__file__).parents[2] / "shared"
"""Trained networks and photographs next to the checkout; tests that need them are skipped where they are missing."""


@pytest.fixture(scope="session")
def motifnet() -> fv.Network:
    return fv.load("motifnet", device="cpu")


@pytest.fixture
def net() -> fv.Network:
    return toys.plain()


@pytest.fixture(scope="session")
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"needs the trained networks and photographs in {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def photo() -> torch.Tensor:
    """A drawing with smooth and sharp parts, wider than high."""
    generator = torch.Generator().manual_seed(0)
    motifs = fv.load("motifnet", device="cpu").classes
    from motifs.draw import draw

    return draw(torch.tensor([motifs.index("eye")]), (45, 64), generator)


@pytest.fixture(autouse=True)
def empty_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def cpu_only(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide CUDA from tests that are not marked `gpu`, and their subprocesses: only CPU renders are byte-equal."""
    if not request.node.get_closest_marker("gpu"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    elif not torch.cuda.is_available():
        pytest.skip("needs a GPU")


@pytest.fixture(scope="session", autouse=True)
def session_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The settings below, for fixtures of modules and of the session, which are made before those of functions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setattr("featviz.engine.autotune.MIN_PASSES", 10**9)
        yield


@pytest.fixture(autouse=True)
def no_autotuning(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not choose the execution by timing, whose result depends on the machine."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr("featviz.engine.autotune.MIN_PASSES", 10**9)
