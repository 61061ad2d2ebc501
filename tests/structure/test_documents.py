"""What users read is run: the README's commands and code, and the notebooks."""

import re
import shlex
from pathlib import Path

import pytest

from featviz.cli import EXAMPLES, main

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


COMMANDS = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("featviz ")]
HELP = [re.split(r"\s{3,}", line.strip())[0] for line in EXAMPLES.splitlines() if line.startswith("  featviz ")]
(OWN,) = (block for block in blocks("python") if block.startswith("# my_net.py"))


def test_there_is_something_to_run():
    assert len(COMMANDS) >= 8
    assert len(HELP) >= 5
    assert len(blocks("python")) >= 3


@pytest.mark.filterwarnings("ignore::featviz.FeatvizWarning")  # units of random networks may be off
@pytest.mark.parametrize("commands", [COMMANDS, HELP], ids=["readme", "help"])
def test_every_command_that_is_shown_works(tmp_path, capsys, commands):
    (tmp_path / "my_net.py").write_text(OWN)
    for command in commands:
        words = shlex.split(command, comments=True)[1:]
        if words[0] == "render":
            words += ["--steps", "2", "--quiet"]
            if "googlenet" in words:
                words += ["--weights", "none"]  # nothing is downloaded here
        assert main(words) == 0, (command, capsys.readouterr().err)


def test_the_python_of_the_readme_works(monkeypatch):
    import featviz as fv
    from featviz.network import load

    whole_render, whole_load = fv.render, load
    monkeypatch.setattr(fv, "render", lambda *a, **k: whole_render(*a, **{**k, "steps": 2}))
    monkeypatch.setattr(
        fv, "load", lambda name, **k: whole_load(name, **({} if name == "motifnet" else {"weights": "none"}) | k)
    )
    space: dict[str, object] = {}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), space)


def test_every_make_target_of_the_readme_exists():
    targets = set(re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z]+)", README)) | {
        line.split()[1] for block in blocks("sh") for line in block.splitlines() if line.startswith("make ")
    }
    assert {"demo", "test"} <= named <= targets


def test_every_file_that_the_readme_shows_exists():
    for path in re.findall(r"\]\(((?!http)[^)#]+)\)", README):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.name)
def test_notebooks_run(path, monkeypatch):
    import nbclient
    import nbformat

    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    notebook = nbformat.read(path, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "commit notebooks without outputs"
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
