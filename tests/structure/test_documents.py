"""What users read is run: the README's commands and code, and the notebooks."""

import importlib.util
import inspect
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import featviz as fv
from featviz.cli import EXAMPLES, main

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
GUIDES = [f"docs/own-{what}.md" for what in ("objective", "param", "transform")]


def blocks(language, text=README):
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


COMMANDS = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("featviz ")]
HELP = [re.split(r"\s{3,}", line.strip())[0] for line in EXAMPLES.splitlines() if line.startswith("  featviz ")]
(OWN,) = (block for block in blocks("python") if block.startswith("# my_net.py"))


def test_there_is_something_to_run():
    assert len(COMMANDS) >= 8
    assert len(HELP) >= 5
    assert len(blocks("python")) >= 3


@pytest.mark.filterwarnings("ignore::featviz.FeatvizWarning")  # units of random networks may be off
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # imageio-ffmpeg's pipes
@pytest.mark.parametrize("commands", [COMMANDS, pytest.param(HELP, marks=pytest.mark.slow)], ids=["readme", "help"])
def test_every_command_that_is_shown_works(tmp_path, capsys, monkeypatch, commands):
    monkeypatch.setattr("featviz.apps.explore.explore.Explorer.wait", lambda _: None)  # it would wait for Ctrl-C
    (tmp_path / "my_net.py").write_text(OWN)
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    Image.open(ROOT / "docs" / "chelsea.webp").resize((96, 64)).save(tmp_path / "cat.jpg")
    (tmp_path / "photos").mkdir()
    Image.open(tmp_path / "cat.jpg").save(tmp_path / "photos" / "cat.png")
    (tmp_path / "glove.txt").write_text("king 1 1 0\nman 1 0 0\nwoman 0 0 1\nqueen 0 1 1\n")
    fv.save_video([np.zeros((32, 48, 3), np.uint8)] * 3, tmp_path / "walk.mp4")
    for command in commands:
        words = shlex.split(command, comments=True)[1:]
        if words[0] in ("render", "gallery", "sweep", "examples", "atlas", "blocks"):
            words += ["--steps", "2", "--quiet"]
        if words[0] == "dream":
            words += ["--steps", "1", "--octaves", "1", "--quiet"] + (["--frames", "2"] if "--zoom" in words else [])
        if words[0] == "explore":
            words += ["--no-browser"]
        if {"googlenet", "mobilenet_v2"} & set(words) and words[0] in ("render", "dream", "explain"):
            words += ["--weights", "none"]  # nothing is downloaded here
        assert main(words) == 0, (command, capsys.readouterr().err)


def test_every_command_of_the_guide_to_text_works(tmp_path, capsys):
    guide = (ROOT / "docs" / "text.md").read_text()
    (tmp_path / "nets.py").write_text(next(block for block in blocks("python", guide) if "# nets.py" in block))
    commands = [line for block in blocks("sh", guide) for line in block.splitlines()]
    assert commands
    for command in commands:
        assert main(shlex.split(command)[1:]) == 0, (command, capsys.readouterr().err)


@pytest.fixture
def hurried(monkeypatch):
    """Two steps a render, and nothing downloaded."""
    from featviz.network import load

    whole_render, whole_dream, whole_load = fv.render, fv.dream, load
    monkeypatch.setattr(fv, "render", lambda *a, **k: whole_render(*a, **{**k, "steps": 2}))
    monkeypatch.setattr(fv, "dream", lambda *a, **k: whole_dream(*a, **{**k, "steps": 1, "octaves": 1}))
    monkeypatch.setattr(
        fv, "load", lambda name, **k: whole_load(name, **({} if name == "motifnet" else {"weights": "none"}) | k)
    )


@pytest.mark.parametrize("name", ["README.md", *GUIDES, "docs/embeddings.md", "docs/text.md"])
def test_the_python_that_is_shown_works(name, hurried, tmp_path):
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    space: dict[str, object] = {}
    for block in blocks("python", (ROOT / name).read_text()):
        exec(compile(block, name, "exec"), space)


@pytest.mark.parametrize("name", GUIDES)
def test_something_of_ones_own_takes_under_ten_lines(name):
    for block in blocks("python", (ROOT / name).read_text()):
        code = [line for line in block.splitlines() if line.strip() and not line.startswith(("import", "from", "rend"))]
        assert len(code) < 10, block


@pytest.fixture(scope="module")
def catalogue():
    spec = importlib.util.spec_from_file_location("catalogue", ROOT / "docs" / "catalogue.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_nothing_public_is_missing_from_the_catalogue(catalogue):
    from featviz import objectives, param, transforms

    made_of = {"Objective", "Unit", "Address", "Traits"}  # what the others are made of
    for namespace in (objectives, param, transforms):
        name = namespace.__name__.rpartition(".")[2]
        public = {item for item in namespace.__all__ if inspect.isclass(getattr(namespace, item)) or item.isupper()}
        assert set(catalogue.SNIPPETS[name]) == public - made_of - {"OUTPUT"}
    assert set(catalogue.SNIPPETS["optimizers"]) == set(fv.optimizers.__all__)
    page = (ROOT / "docs" / "catalogue.md").read_text()
    for namespace, snippets in catalogue.SNIPPETS.items():
        for name, code in snippets.items():
            shown = f"### {name}\n\n{catalogue.line(namespace, name)}\n\n![{name}](catalogue/{name}.webp)\n"
            assert shown in page
            assert f"```python\n{code}\n```" in page
            assert (ROOT / "docs" / "catalogue" / f"{name}.webp").is_file()
    assert f"```python\n{catalogue.START}\n```" in page


@pytest.mark.filterwarnings("ignore::featviz.FeatvizWarning")  # two steps are not enough to wake a unit
def test_every_snippet_of_the_catalogue_runs(catalogue, monkeypatch, tmp_path):
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    for namespace, snippets in catalogue.SNIPPETS.items():
        for name in snippets:
            assert len(catalogue.draw(namespace, name, steps=2)) >= 1


def test_every_make_target_of_the_readme_exists():
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)", README)) | {
        line.split()[1] for block in blocks("sh") for line in block.splitlines() if line.startswith("make ")
    }
    assert {"demo", "test"} <= named <= targets


def test_every_file_that_the_readme_shows_exists():
    for path in re.findall(r"\]\(((?!http)[^)#]+)\)", README):
        assert (ROOT / path).exists(), path


NOTEBOOKS = [
    pytest.param(path, id=path.name, marks=[pytest.mark.slow] if path.stem in ("atlas", "blocks", "explain") else [])
    for path in sorted((ROOT / "notebooks").glob("*.ipynb"))
]


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_notebooks_run(path, monkeypatch, tmp_path):
    import nbclient
    import nbformat

    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    notebook = nbformat.read(path, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "commit notebooks without outputs"
    for folder in ("docs", "tools"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    (tmp_path / "notebooks").mkdir()
    beside = {"metadata": {"path": str(tmp_path / "notebooks")}}
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=beside).execute()
