"""What describes the project: metadata, citation, and the guide for contributors."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import featviz as fv

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
GUIDE = (ROOT / "CONTRIBUTING.md").read_text()


def test_every_supported_python_is_declared():
    minors = [name.rpartition(".")[2] for name in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", name)]
    assert minors == ["11", "12", "13", "14"]
    assert PROJECT["requires-python"] == ">=3.11"
    checked = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    assert checked["ruff"]["target-version"] == "py311" and checked["mypy"]["python_version"] == "3.11"
    assert "mypy --python-version 3.14" in (ROOT / "Makefile").read_text()


def test_types_are_shipped():
    assert (Path(fv.__file__).parent / "py.typed").is_file()
    assert "Typing :: Typed" in PROJECT["classifiers"]


def test_the_citation_is_of_this_version():
    lines = (ROOT / "CITATION.cff").read_text().splitlines()
    fields = dict(line.split(": ", 1) for line in lines if ": " in line and not line.startswith(" "))
    assert fields["version"] == PROJECT["version"] == fv.__version__
    assert fields["license"] == PROJECT["license"] and fields["cff-version"] == "1.2.0"
    keywords = [line.removeprefix("  - ") for line in lines[lines.index("keywords:") + 1 :]]
    assert keywords == PROJECT["keywords"] == sorted(keywords)


def test_what_the_guide_names_exists():
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`?make ([a-z-]+)`?$|`make ([a-z-]+)`", GUIDE, re.MULTILINE))
    assert {"test", "package"} <= {first or second for first, second in named} <= targets
    paths = re.findall(r"`((?:featviz|tests|tools|docs)/[\w./-]*|[A-Z]+\.md)`|\]\(([^)]+)\)", GUIDE)
    assert len(paths) > 15
    for path in (first or second for first, second in paths):
        assert (ROOT / path).exists(), path


def test_the_module_is_the_command(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "featviz", "layers", "--model", "motifne"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("featviz: ") and done.stderr.count("\n") == 1
