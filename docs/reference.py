"""Write docs/reference.md: the signature and docstring of every public name. Run by `make reference`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import featviz as fv
from featviz import interfaces

PAGE = Path(__file__).with_name("reference.md")
INTRODUCTION = """# API reference

Written from the docstrings by `make reference`. The names of the first section are `fv.NAME`; the others are in the
namespaces `fv.objectives`, `fv.param`, `fv.transforms`, `fv.optimizers` and `fv.methods`, and in `featviz.interfaces`,
which describes what your own objectives, params, transforms and optimizers need.
"""
NAMESPACES = {
    "objectives": fv.objectives,
    "param": fv.param,
    "transforms": fv.transforms,
    "optimizers": fv.optimizers,
    "methods": fv.methods,
}


def public(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Yield the public names of a module, and their values."""
    for name in getattr(module, "__all__", ()):
        yield name, getattr(module, name)


def entry(title: str, value: Any) -> str:
    """Return the section of a public name: signature and docstring, or the value of a constant."""
    if not (inspect.isclass(value) or inspect.isfunction(value)):
        return f"### `{title}`\n\n```text\n{value!r}\n```\n"
    text = inspect.getdoc(value) or ""
    methods = [] if not inspect.isclass(value) else sorted(_methods(value), key=lambda item: item[0])
    parts = [f"### `{title}`", f"```text\n{title}{_signature(value)}\n\n{text}\n```"]
    for name, method in methods:
        summary = (inspect.getdoc(method) or "").partition("\n")[0]
        parts.append(f"- `{name}{_signature(method) if inspect.isfunction(method) else ''}`: {summary}")
    return "\n\n".join(parts[:2]) + ("\n\n" + "\n".join(parts[2:]) if methods else "") + "\n"


def page() -> str:
    """Return the whole page."""
    sections = [INTRODUCTION, "## featviz\n"]
    sections += [entry(f"fv.{name}", value) for name, value in public(fv) if not inspect.ismodule(value)]
    for title, module in NAMESPACES.items():
        sections.append(f"## fv.{title}\n")
        sections += [entry(f"{title}.{name}", value) for name, value in public(module)]
    sections.append("## featviz.interfaces\n")
    own = {name: value for name, value in vars(interfaces).items() if inspect.isclass(value)}
    sections += [entry(name, value) for name, value in sorted(own.items()) if value.__module__ == interfaces.__name__]
    return "\n".join(sections)


def _methods(value: type) -> Iterator[tuple[str, Any]]:
    """Yield the public methods and properties that a class of featviz or its bases define."""
    for name in dir(value):
        member = inspect.getattr_static(value, name)
        member = getattr(member, "__func__", member)
        if name.startswith("_") or not (inspect.isfunction(member) or isinstance(member, property)):
            continue
        if "featviz" in getattr(getattr(member, "fget", member), "__module__", ""):
            yield name, member


def _signature(value: Any) -> str:
    """Return the signature without annotations, which the docstring explains."""
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return ""
    plain = [each.replace(annotation=inspect.Parameter.empty) for each in signature.parameters.values()]
    plain = [each for each in plain if each.name not in ("self", "cls")]
    text = str(signature.replace(parameters=plain, return_annotation=inspect.Signature.empty))
    return re.sub(r"<function (\w+) at 0x\w+>", r"\1", text)  # a default that is a function


if __name__ == "__main__":
    PAGE.write_text(page())
