"""Sweeps on a Ray cluster of two workers, beside the same in this process."""

import os
import signal
import threading
import time

import psutil
import pytest
import torch
import toys
from motifs.draw import draw
from PIL import Image

import featviz as fv
from featviz.cli import main
from featviz.io import to_bytes

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]
HOW = {"channels": range(20), "size": 64}


@pytest.fixture(scope="module", autouse=True)
def cluster():
    ray.init(address="local", num_cpus=2, log_to_driver=False, include_dashboard=False)
    yield
    ray.shutdown()


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pictures(folder):
    return {file.name: file.read_bytes() for file in (folder / "pictures").glob("*.png")}


def workers():
    """Find the workers' processes."""
    return [child for child in psutil.Process(os.getpid()).children(recursive=True) if "_Worker" in child.name()]


def test_a_worker_that_is_killed_costs_nothing(motifnet, tmp_path, one_thread):
    fv.sweep(motifnet, tmp_path / "here", "stage1", steps=24, **HOW)
    killed = []

    def kill():
        until = time.monotonic() + 120
        while not killed and time.monotonic() < until:
            if pictures(tmp_path / "ray"):
                killed.extend(workers()[:1])
                killed[0].send_signal(signal.SIGKILL)
            time.sleep(0.02)

    killer = threading.Thread(target=kill)
    killer.start()
    made = fv.sweep(motifnet, tmp_path / "ray", "stage1", steps=24, backend=fv.RayBackend(workers=2), **HOW)
    killer.join()
    assert len(killed) == 1 and not killed[0].is_running()
    assert (made.count, dict(made.problems)) == (20, {})
    assert pictures(tmp_path / "ray") == pictures(tmp_path / "here")


def test_a_network_of_ones_own_travels(tmp_path):
    made = fv.sweep(toys.plain(), tmp_path, "conv1", channels=[0, 1], steps=2, backend=fv.RayBackend(workers=1))
    assert made.count == 2


def test_the_command(tmp_path, capsys):
    words = ["sweep", "--layer", "stage1", "--channels", "0-1", "--steps", "2", "--quiet", "-o", str(tmp_path)]
    assert main([*words, "--engine", "ray", "--workers", "1"]) == 0
    assert len(pictures(tmp_path)) == 2
    assert main([*words, "--engine", "abacus"]) == 2
    assert "no engine 'abacus'; give here or ray" in capsys.readouterr().err


def test_an_atlas_and_blocks_drawn_there_are_those_drawn_here(motifnet, tmp_path, one_thread):
    (tmp_path / "photos").mkdir()
    drawings = draw(torch.arange(8), (64, 64), torch.Generator().manual_seed(0))
    for i, image in enumerate(drawings):
        Image.fromarray(to_bytes(image.numpy())).save(tmp_path / "photos" / f"{i}.png")
    for name, engine in (("here", None), ("ray", fv.RayBackend(workers=2))):
        fv.atlas(
            motifnet, tmp_path / "photos", "stage3", tmp_path / f"atlas-{name}", steps=4, method="pca", backend=engine
        )
        fv.blocks(
            motifnet, tmp_path / "photos" / "0.png", "stage3", tmp_path / f"blocks-{name}", cells=3, steps=4,
            backend=engine,
        )  # fmt: skip
    for what in ("atlas", "blocks"):
        here = pictures(tmp_path / f"{what}-here")
        assert len(here) >= 4
        assert pictures(tmp_path / f"{what}-ray") == here
