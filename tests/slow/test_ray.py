"""Sweeps on a Ray cluster of two workers, compared with the same in this process."""

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
SETTINGS = {"channels": range(20), "size": 64}


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


def rendered_files(folder):
    return {file.name: file.read_bytes() for file in (folder / "images").glob("*.png")}


def workers():
    """Return the processes of the workers."""
    return [child for child in psutil.Process(os.getpid()).children(recursive=True) if "_Worker" in child.name()]


def test_killed_worker_loses_nothing(motifnet, tmp_path, one_thread):
    fv.sweep(motifnet, tmp_path / "local", "stage1", steps=24, **SETTINGS)
    killed = []

    def kill():
        until = time.monotonic() + 120
        while not killed and time.monotonic() < until:
            if rendered_files(tmp_path / "ray"):
                for worker in workers()[:1]:
                    worker.send_signal(signal.SIGKILL)
                    killed.append(worker)
            time.sleep(0.02)

    killer = threading.Thread(target=kill)
    killer.start()
    made = fv.sweep(motifnet, tmp_path / "ray", "stage1", steps=24, backend=fv.RayBackend(workers=2), **SETTINGS)
    killer.join()
    assert len(killed) == 1
    killed[0].wait(30)
    assert (made.count, dict(made.problems)) == (20, {})
    assert rendered_files(tmp_path / "ray") == rendered_files(tmp_path / "local")


def test_network_of_a_user_module_is_sent_to_the_workers(tmp_path):
    made = fv.sweep(toys.plain(), tmp_path, "conv1", channels=[0, 1], steps=2, backend=fv.RayBackend(workers=1))
    assert made.count == 2


def test_command(tmp_path, capsys):
    words = ["sweep", "--layer", "stage1", "--channels", "0-1", "--steps", "2", "--quiet", "-o", str(tmp_path)]
    assert main([*words, "--backend", "ray", "--workers", "1"]) == 0
    assert len(rendered_files(tmp_path)) == 2
    assert main([*words, "--backend", "abacus"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "featviz: backend must be local or ray, got 'abacus'"


def test_atlas_and_blocks_equal_those_of_this_process(motifnet, tmp_path, one_thread):
    (tmp_path / "photos").mkdir()
    drawings = draw(torch.arange(8), (64, 64), torch.Generator().manual_seed(0))
    for i, image in enumerate(drawings):
        Image.fromarray(to_bytes(image.numpy())).save(tmp_path / "photos" / f"{i}.png")
    for name, backend in (("local", None), ("ray", fv.RayBackend(workers=2))):
        fv.atlas(
            motifnet, tmp_path / "photos", "stage3", tmp_path / f"atlas-{name}", steps=4, method="pca", backend=backend
        )
        fv.blocks(
            motifnet, tmp_path / "photos" / "0.png", "stage3", tmp_path / f"blocks-{name}", cells=3, steps=4,
            backend=backend,
        )  # fmt: skip
    for what in ("atlas", "blocks"):
        local = rendered_files(tmp_path / f"{what}-local")
        assert len(local) >= 4
        assert rendered_files(tmp_path / f"{what}-ray") == local
