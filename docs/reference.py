"""Write the pages of the API reference for Sphinx: one page per public name, and a list per package."""

from __future__ import annotations

import importlib
import inspect
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import featviz as fv

INTRODUCTION = """
API reference
=============

Every public name, with its arguments, their ranges and units, and where its formula comes from. Names of the package
itself are what you write after ``import featviz as fv``.

{table}

.. toctree::
   :hidden:

   {pages}
"""

RESULTS = {
    "attention_record": ("AttentionRecord",),
    "attribution": ("Attribution", "Comparison"),
    "evidence": ("Evidence",),
    "text": ("TextAttribution", "TextComparison"),
}
"""What the functions of `featviz.apps.explain` return, by module."""
OTHER_RESULTS = {
    "doctor.findings": ("Diagnosis", "Finding"),
    "embeddings.embeddings": ("Embeddings",),
    "embeddings.neighbours": ("Neighbours",),
    "examples.examples": ("Example", "Examples"),
    "judge.verdicts": ("Judgement", "Verdict"),
    "shared.rendering.album": ("Pages",),
    "texture.texture": ("Textured",),
}
"""Classes of the results of the other apps."""


@dataclass(frozen=True)
class Package:
    """A package whose public names have pages.

    Args:
        name: How users write it, such as `featviz.param`.
        module: The module.
        about: One line for the list of packages.
    """

    name: str
    module: ModuleType
    about: str

    @property
    def names(self) -> list[str]:
        """Its public names, without modules and names of other packages that `fv` has already."""
        listed = getattr(self.module, "__all__", None) or _own_classes(self.module)
        values = {name: getattr(self.module, name) for name in listed}
        top = set() if self.module is fv else {id(getattr(fv, name)) for name in fv.__all__}
        return sorted(
            (name for name, value in values.items() if not inspect.ismodule(value) and id(value) not in top),
            key=lambda name: (not callable(values[name]), name.lower()),
        )

    def page_of(self, name: str) -> str:
        """Return the name of a page; those of `objective` and `Objective` differ in more than capitals."""
        alike = [each for each in self.names if each.lower() == name.lower()]
        return name if len(alike) == 1 or name != name.lower() else f"{name}_function"

    @property
    def elsewhere(self) -> list[str]:
        """Its public names that are documented as names of `fv`."""
        listed = getattr(self.module, "__all__", ())
        return sorted({*listed} - {*self.names} - {"methods"}) if self.module is not fv else []


def packages() -> list[Package]:
    """List the packages of the reference, those that users need first."""

    def package(name: str, about: str, module: str | None = None) -> Package:
        return Package(name, importlib.import_module(module or name), about)

    return [
        package("featviz", "networks, renders, applications, errors: what is written as `fv.NAME`"),
        package("featviz.objectives", "what to maximise"),
        package("featviz.param", "image parameterizations: what is optimised"),
        package("featviz.transforms", "random views through which the network sees the image"),
        package("featviz.optimizers", "how the parameters follow their gradients"),
        package("featviz.methods", "attribution methods of `fv.explain`", "featviz.apps.explain.methods"),
        Package("results", _results(), "what functions return, such as the attribution of `fv.explain`"),
        package("featviz.interfaces", "what your own objectives, params, transforms and optimizers need"),
        package("featviz.network", "activations, layer tables and how a network is run"),
        package("featviz.engine", "recipes, robustness and scoring of images"),
        package("featviz.io", "images, videos, folders and stores"),
    ]


def write_pages(folder: Path) -> None:
    """Write the pages of all packages into a folder.

    Args:
        folder: Where; it is created.
    """
    folder.mkdir(parents=True, exist_ok=True)
    every = packages()
    rows = [f"* - :doc:`{each.name} <{each.name}/index>`\n     - {_code(each.about)}" for each in every]
    table = ".. list-table::\n   :widths: 30 70\n\n   " + "\n   ".join(rows)
    listed = "\n   ".join(f"{each.name} <{each.name}/index>" for each in every)
    _write(folder / "index.rst", INTRODUCTION.format(table=table, pages=listed))
    for each in every:
        own = folder / each.name
        own.mkdir(exist_ok=True)
        _write(own / "index.rst", _index(each))
        for name in each.names:
            _write(own / f"{each.page_of(name)}.rst", _page(each, name))


def _results() -> ModuleType:
    """Return a module with the classes that functions return and that users do not make themselves."""
    module = ModuleType("results")
    listed = {f"explain.{name}": names for name, names in RESULTS.items()} | OTHER_RESULTS
    for place, names in listed.items():
        for name in names:
            setattr(module, name, getattr(importlib.import_module(f"featviz.apps.{place}"), name))
    module.__all__ = sorted(name for names in listed.values() for name in names)  # type: ignore[attr-defined]
    return module


def _index(package: Package) -> str:
    """Return the page that lists the names of a package."""
    names = [*package.names]
    rows = [f"* - :doc:`{name} <{package.page_of(name)}>`\n     - {_summary(package, name)}" for name in names]
    parts = [_title(package.name), _code(package.about[0].upper() + package.about[1:]) + "."]
    parts.append(".. list-table::\n   :widths: 30 70\n\n   " + "\n   ".join(rows))
    if package.elsewhere:
        links = ", ".join(f":doc:`fv.{name} <../featviz/{name}>`" for name in package.elsewhere)
        parts.append(f"The package also holds {links}.")
    parts.append(
        ".. toctree::\n   :hidden:\n\n   " + "\n   ".join(f"{name} <{package.page_of(name)}>" for name in names)
    )
    return "\n\n".join(parts)


def _page(package: Package, name: str) -> str:
    """Return the page of one name."""
    value = getattr(package.module, name)
    short = "fv" if package.module is fv else package.name.removeprefix("featviz.")
    title = name if package.name == "results" else f"{short}.{name}"
    place = value.__module__ if package.name == "results" else package.name
    head = f"{_title(title)}\n\n.. currentmodule:: {place}"
    if inspect.isclass(value):
        return f"{head}\n\n.. autoclass:: {name}\n   :members:"
    if inspect.isfunction(value):
        return f"{head}\n\n.. autofunction:: {name}"
    about = _comment(package.module, name) or inspect.cleandoc(getattr(value, "__doc__", "") or "")
    body = "\n".join(f"   {line}".rstrip() for line in about.splitlines())
    return f"{head}\n\n.. py:data:: {name}\n   :value: {_shown(value)}\n\n{body}"


def _summary(package: Package, name: str) -> str:
    """Return the first sentence of what is said about a name."""
    value = getattr(package.module, name)
    known = inspect.isclass(value) or inspect.isfunction(value)
    text = inspect.getdoc(value) if known else _comment(package.module, name)
    first = (text or "").partition("\n\n")[0].replace("\n", " ")
    return first or "\\"


def _comment(module: ModuleType, name: str) -> str:
    """Return the text below the assignment of a constant, wherever in the package that is."""
    from sphinx.pycode import ModuleAnalyzer

    start = module.__name__.partition(".")[0] if module is fv else module.__name__
    for each in [key for key in sys.modules if key == start or key.startswith(f"{start}.")]:
        if not getattr(sys.modules[each], "__file__", None):
            continue
        found = ModuleAnalyzer.for_module(each).find_attr_docs().get(("", name))
        if found:
            return "\n".join(found).strip()
    return ""


def _own_classes(module: ModuleType) -> list[str]:
    """List the classes that a module without `__all__` defines."""
    own = {name: value for name, value in vars(module).items() if inspect.isclass(value)}
    return [name for name, value in own.items() if value.__module__ == module.__name__ and not name.startswith("_")]


def _shown(value: Any) -> str:
    """Return the repr of a constant on one line, cut where it is long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 300 else f"{text[:299]}…"


def _title(text: str) -> str:
    return f"{text}\n{'=' * len(text)}"


def _code(text: str) -> str:
    """Return Markdown's code spans as those of reStructuredText."""
    return text.replace("`", "``")


def _write(path: Path, text: str) -> None:
    """Write a page if it changed, so that Sphinx reads it again only then."""
    text = text.strip() + "\n"
    if not path.is_file() or path.read_text() != text:
        path.write_text(text)
