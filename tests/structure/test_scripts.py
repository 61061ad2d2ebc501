"""Scripts outside of the package import only what exists."""

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = [path for folder in ("benchmarks", "docs", "tools") for path in sorted((ROOT / folder).rglob("*.py"))]


def missing(source: str) -> list[str]:
    """Return the names that a script imports from featviz and that do not exist."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "featviz":
            found += [f"{node.module}.{each.name}" for each in node.names if not exists(node.module, each.name)]
    return found


def exists(module: str, name: str) -> bool:
    """Whether a module has a name, or a package a module."""
    try:
        return hasattr(importlib.import_module(module), name) or bool(importlib.import_module(f"{module}.{name}"))
    except ImportError:
        return False


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_everything_that_is_imported_exists(path):
    assert missing(path.read_text()) == []


def test_a_missing_name_is_found():
    source = "from featviz import render, nothing\nfrom featviz.nowhere import x\nfrom featviz.apps import dream\n"
    assert missing(source) == ["featviz.nothing", "featviz.nowhere.x"]
