from __future__ import annotations

from pathlib import Path

import pytest
import torch
import toys

import featviz as fv

SHARED = Path(__file__).parents[2] / "shared"
"""Trained networks and photographs beside the checkout; tests that need them skip where they are missing."""


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
    """A drawing with soft and sharp parts, height unlike width."""
    generator = torch.Generator().manual_seed(0)
    motifs = fv.load("motifnet", device="cpu").classes
    from motifs.draw import draw

    return draw(torch.tensor([motifs.index("eye")]), (45, 64), generator)


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def on_the_cpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """No CUDA is found in a test or what it starts, unless it is about that: only a CPU draws equal to the byte."""
    if not request.node.get_closest_marker("gpu"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    elif not torch.cuda.is_available():
        pytest.skip("needs a GPU")


@pytest.fixture(autouse=True)
def nothing_measured(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Single precision, unless a test asks for more: what is faster depends on the machine."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr("featviz.engine.autotune.MIN_STEPS", 10**9)
