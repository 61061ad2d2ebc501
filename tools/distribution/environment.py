"""Virtual environments that hold featviz, what it depends on, and nothing else.

An environment is made in about a second and without a network: the packages are links to those of the environment that
runs this code. A package that is not among the dependencies cannot be imported in it, so that a forgotten dependency
is found.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from zipfile import ZipFile

from packaging.metadata import Metadata
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

META_PACKAGES = frozenset(("jupyter",))
"""Packages without modules, which only require others. They may be missing."""


def requirements_of(wheel: Path, extras: Iterable[str] = ()) -> list[Requirement]:
    """Return what a wheel requires with some extras.

    Args:
        wheel: The wheel.
        extras: Names of extras.
    """
    with ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        requirements = Metadata.from_email(archive.read(name)).requires_dist or []
    return [each for each in requirements if _applies(each, extras)]


def closure(requirements: Iterable[Requirement]) -> dict[str, Distribution]:
    """Return the installed packages that some requirements need, directly and indirectly.

    Args:
        requirements: What is needed directly.

    Returns:
        The packages by name.

    Raises:
        LookupError: One is not installed, or in another version.
    """
    found: dict[str, Distribution] = {}
    waiting, seen = list(requirements), set()
    while waiting:
        each = waiting.pop()
        name = canonicalize_name(each.name)
        if name in META_PACKAGES or (name, *sorted(each.extras)) in seen:
            continue
        seen.add((name, *sorted(each.extras)))
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            raise LookupError(f"{each} is not installed") from None
        if not each.specifier.contains(found[name].version, prereleases=True):
            raise LookupError(f"{each} is needed, and version {found[name].version} is installed")
        inner = map(Requirement, found[name].requires or ())
        waiting += [requirement for requirement in inner if _applies(requirement, each.extras)]
    return found


def make_environment(folder: Path, wheel: Path, extras: Sequence[str] = ()) -> Path:
    """Make a virtual environment with a wheel of featviz and what it requires.

    Args:
        folder: Where to make it; it must not exist.
        wheel: The wheel.
        extras: Names of extras whose packages are there, too.

    Returns:
        Its folder of programs.
    """
    venv.EnvBuilder(symlinks=True, with_pip=False).create(folder)
    programs = folder / "bin"
    (site,) = folder.glob("lib/python*/site-packages")
    for each in closure(requirements_of(wheel, extras)).values():
        _link(each, site)
    _pip(programs, "install", "--quiet", "--no-deps", "--no-index", str(wheel))
    return programs


def check_requirements(programs: Path) -> None:
    """Let pip check that the packages of an environment fit together.

    Args:
        programs: Folder of programs of the environment.
    """
    _pip(programs, "check")


def run(command: Sequence[str | Path], folder: Path, *, fails: bool = False) -> str:
    """Run a command as somebody who has no checkout would, and return what it prints.

    Args:
        command: The program and its arguments.
        folder: Working directory; the home directory is in it, too.
        fails: Whether the command must end with status 2 instead of 0. What it prints as an error is returned then.

    Raises:
        RuntimeError: It ends with another status.
    """
    done = subprocess.run(
        command, cwd=folder, env=_environment(folder), capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode != (2 if fails else 0):
        shown = " ".join(map(str, command))
        raise RuntimeError(f"{shown} ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stderr if fails else done.stdout


def _environment(folder: Path) -> Mapping[str, str]:
    """Return variables without those that lead to other packages, settings or caches."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV", "XDG"))}
    return kept | {"HOME": str(folder), "CUDA_VISIBLE_DEVICES": ""}


def _applies(requirement: Requirement, extras: Iterable[str]) -> bool:
    """Return whether a requirement holds here with some extras."""
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras))


def _link(package: Distribution, site: Path) -> None:
    """Link the modules and the metadata of an installed package."""
    for path in _roots(package):
        source, target = Path(str(package.locate_file(path))), site / path
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(source.resolve())


def _roots(package: Distribution) -> Iterator[str]:
    """Yield the outermost files and folders of a package that it shares with no other one."""
    names = [file.as_posix() for file in package.files or () if not re.match(r"\.\./|/|__pycache__/", file.as_posix())]
    regular = {name.rpartition("/")[0] for name in names if name.endswith("/__init__.py")}
    roots = set()
    for name in names:
        parts = name.split("/")
        # Folders above the first regular package belong to a namespace, in which other packages may be, too.
        depth = next((i for i in range(1, len(parts)) if "/".join(parts[:i]) in regular), None)
        is_alone = depth is None and (len(parts) == 1 or parts[0].endswith((".dist-info", ".libs")))
        roots.add("/".join(parts[: 1 if is_alone else depth or len(parts)]))
    yield from sorted(roots)


def _pip(programs: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--python", str(programs / "python"), "--disable-pip-version-check"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"pip {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
