"""Each extra alone: its commands work with it, and without it one line names it."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import nbclient
import nbformat
import pytest
from distribution.environment import make_environment, run
from PIL import Image

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow
SMALL = ["--steps", "2", "--size", "32", "--quiet"]
DREAM = ["--frames", "2", "--octaves", "1", "--steps", "1", "--quiet"]
COMMANDS = {
    "timm": [
        (
            ["layers", "--model", "timm/resnet18"],
            "timm/resnet18 needs timm; install it with: pip install 'featviz[timm]'",
        )
    ],
    "video": [
        (
            ["dream", "photos/0.png", "--zoom", "1.03", *DREAM, "-o", "zoom.mp4"],
            "videos need imageio-ffmpeg and OpenCV; run: pip install 'featviz[video]'",
        )
    ],
    "ray": [
        (
            ["gallery", "--classes", "spiral", *SMALL, "--backend", "ray", "-o", "gallery"],
            "Ray is not installed; run: pip install 'featviz[ray]'",
        )
    ],
    "atlas": [
        (
            ["blocks", "photos/0.png", "--layer", "stage2", "--steps", "2", "--quiet", "-o", "blocks"],
            "scikit-learn is not installed; run: pip install 'featviz[atlas]'",
        ),
        (
            ["atlas", "photos", "--layer", "stage2", "--method", "umap", "--steps", "2", "--quiet", "-o", "atlas"],
            "method 'umap' is not installed; run: pip install 'featviz[atlas]', or give 'pca'",
        ),
    ],
    "mesh": [
        (
            ["texture", "box", "logit:spiral", *SMALL, "--views", "2", "--view", "32", "-o", "box"],
            "meshes need trimesh, embreex and xatlas; run: pip install 'featviz[mesh]'",
        )
    ],
    "signals": [
        (
            ["render", "0:1", "--model", "nets.py:signal", "--steps", "2", "--quiet", "-o", "a.png"],
            "cannot write a.png: plots need matplotlib; run: pip install 'featviz[signals]', or save as .npy",
        ),
        (
            ["render", "0:1", "--model", "nets.py:signal", "--steps", "2", "--quiet", "-o", "a.wav"],
            "cannot write a.wav: sounds need soundfile; run: pip install 'featviz[signals]'",
        ),
    ],
    "volumes": [
        (
            ["render", "0:1", "--model", "nets.py:volume", "--steps", "2", "--quiet", "-o", "a.nii.gz"],
            "cannot write a.nii.gz: NIfTI files need nibabel; run: pip install 'featviz[volumes]'",
        )
    ],
    "explain": [
        (
            ["explain", "photos/0.png", "--method", "IntegratedGradients", "-o", "gradients.png"],
            "captum is not installed; run: pip install 'featviz[explain]'",
        ),
        (
            ["explain", "photos/0.png", "--method", "lrp", "-o", "relevance.png"],
            "zennit is not installed; run: pip install 'featviz[explain]'",
        ),
    ],
}
"""For each extra, the commands that need it, and the error without it."""
NETWORKS = """\
import featviz as fv
from torch import nn


def signal():
    return fv.Network(nn.Sequential(nn.Conv1d(1, 4, 5)), size=(64,), mean=(0.0,), std=(1.0,))


def volume():
    return fv.Network(nn.Sequential(nn.Conv3d(1, 4, 5)), size=(8, 8, 8), mean=(0.0,), std=(1.0,))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def without(wheel, tmp_path_factory):
    """The programs of an environment without any extra."""
    return make_environment(tmp_path_factory.mktemp("without") / "env", wheel, ())


@pytest.fixture
def folder(tmp_path):
    """A folder with photographs, in which the commands run."""
    (tmp_path / "work" / "photos").mkdir(parents=True)
    (tmp_path / "work" / "nets.py").write_text(NETWORKS)
    with Image.open(ROOT / "docs" / "chelsea.webp") as photograph:
        for i in range(6):
            photograph.resize((96, 64)).rotate(30 * i).save(tmp_path / "work" / "photos" / f"{i}.png")
    return tmp_path / "work"


LONG = ("atlas", "explain", "ray", "signals", "timm", "video", "volumes")
"""Extras that take longest to install."""


@pytest.mark.parametrize(
    "extra", [pytest.param(extra, marks=[pytest.mark.long] if extra in LONG else []) for extra in COMMANDS]
)
def test_commands_work_with_the_extra_and_name_it_otherwise(extra, wheel, without, folder, tmp_path):
    with_it = make_environment(tmp_path / "env", wheel, (extra,))
    for command, message in COMMANDS[extra]:
        *log, last = run([without / "featviz", *command], folder, fails=True).splitlines()
        assert last == f"featviz: {message}"
        assert all(re.fullmatch(r"featviz: \d+ images? to render", line) for line in log)
        assert run([with_it / "featviz", *command], folder)


EXPLORE = """\
import urllib.request
import featviz as fv
with fv.explore(fv.load("motifnet"), open_browser=False) as explorer:
    print(urllib.request.urlopen(explorer.url).status)
"""


def test_the_explorer_answers_with_the_extra_and_names_it_otherwise(wheel, without, folder, tmp_path):
    with_it = make_environment(tmp_path / "env", wheel, ("explore",))
    *_, last = run([without / "featviz", "explore", "--no-browser"], folder, fails=True).splitlines()
    assert last == "featviz: Starlette and uvicorn are not installed; run: pip install 'featviz[explore]'"
    assert run([with_it / "python", "-c", EXPLORE], folder).strip() == "200"


RENDER = "import featviz as fv\nfv.render(fv.load('motifnet'), 'stage1:5', size=64, steps=12, progress='live')"


def test_notebooks_show_images_with_the_extra(wheel, folder, tmp_path, monkeypatch):
    programs = make_environment(tmp_path / "env", wheel, ["notebooks"])
    spec = tmp_path / "jupyter" / "kernels" / "alone"
    spec.mkdir(parents=True)
    start = [str(programs / "python"), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (spec / "kernel.json").write_text(json.dumps({"argv": start, "display_name": "alone", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    source = f"import sys\nassert sys.prefix == {str(tmp_path / 'env')!r}\n{RENDER}"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    resources = {"metadata": {"path": str(folder)}}
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="alone", resources=resources).execute()
    line, picture = notebook.cells[0].outputs
    assert line["data"]["text/plain"].startswith("render: 100% in ") and "image/png" in picture["data"]


@pytest.mark.long
def test_without_notebooks_live_is_a_bar(wheel, folder, tmp_path):
    python = make_environment(tmp_path / "env", wheel) / "python"
    code = f"import contextlib, sys\nwith contextlib.redirect_stderr(sys.stdout):\n    {RENDER.replace(chr(10), '; ')}"
    assert "render: 100%" in run([python, "-c", code], folder)


def test_every_extra_is_tested_and_in_all():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    features = set(extras) - {"all", "dev", "docs", "networks"}  # `networks` is for a table in the documentation
    # `clip` is no development dependency; tests/network/loading/test_zero_shot.py tests it where it is installed.
    assert {*COMMANDS, "clip", "explore", "notebooks"} == features
    assert extras["all"] == [f"featviz[{','.join(sorted(features))}]"]
