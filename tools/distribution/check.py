"""Build the wheel and the sdist, install the wheel into an empty environment, and use it. Run by `make package`."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

from packaging.metadata import Metadata

from distribution.environment import check_requirements, make_environment, run

ROOT = Path(__file__).parents[2]
ONLY_FOR_DEVELOPERS = ("tests", "tools", "docs", "notebooks", "benchmarks")
"""Folders of the sdist whose contents are not in the wheel."""
PROBE = """
import importlib.util, pathlib, sys, featviz
inside = pathlib.Path(featviz.__file__).is_relative_to(sys.prefix)
print(inside, [name for name in ("pytest", "motifs", "captum", "hypothesis") if importlib.util.find_spec(name)])
"""


def main() -> None:
    """Check the distributions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, help="folder for the wheel and the sdist; default: none is kept")
    output: Path | None = parser.parse_args().output
    with TemporaryDirectory() as name:
        folder = Path(name)
        with step("build the sdist, and the wheel from it"):
            wheel, sdist = build(output or folder / "dist")
        with step("check the metadata"):
            check_metadata(wheel, sdist)
        with step("check the contents"):
            check_contents(names_of(wheel), names_of(sdist), checked_in())
        with step("install the wheel beside its dependencies only"):
            programs = make_environment(folder / "environment", wheel)
            check_requirements(programs)
        (folder / "elsewhere").mkdir()
        with step("use it"):
            check_use(programs, folder / "elsewhere")
        with step("collect the tests of the sdist"):
            check_tests(sdist, folder / "source")


@contextmanager
def step(title: str) -> Iterator[None]:
    """Print what is done, and the time it takes."""
    began = time.perf_counter()
    print(f"{title} ...", end=" ", flush=True)
    yield
    print(f"{time.perf_counter() - began:.1f} s")


def build(folder: Path) -> tuple[Path, Path]:
    """Build the sdist, and the wheel from the sdist.

    Args:
        folder: Where to write them.

    Returns:
        The wheel and the sdist.
    """
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


def names_of(archive: Path) -> set[str]:
    """Return the names of the files in a wheel; those in an sdist without its outer folder."""
    if archive.suffix == ".whl":
        with ZipFile(archive) as wheel:
            return set(wheel.namelist())
    with tarfile.open(archive) as sdist:
        return {member.name.partition("/")[2] for member in sdist.getmembers() if member.isfile()}


def checked_in() -> set[str]:
    """Return the files of the checkout; without git, those of the package."""
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return {name for name in done.stdout.splitlines() if (ROOT / name).exists()}
    package = (path for path in (ROOT / "featviz").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(ROOT).as_posix() for path in package}


def check_metadata(wheel: Path, sdist: Path) -> None:
    """Check that both have the same metadata, which follow the standard.

    Raises:
        ValueError: They do not.
    """
    with ZipFile(wheel) as opened:
        (name,) = (name for name in opened.namelist() if name.endswith(".dist-info/METADATA"))
        text = opened.read(name)
    with tarfile.open(sdist) as opened:
        member = opened.extractfile(f"{sdist.name.removesuffix('.tar.gz')}/PKG-INFO")
        if member is None or member.read() != text:
            raise ValueError("the wheel and the sdist have different metadata")
    metadata = Metadata.from_email(text, validate=True)
    if metadata.description_content_type != "text/markdown" or not metadata.description:
        raise ValueError("the README is not the description")
    if metadata.license_expression != "MIT" or metadata.license_files != ["LICENSE"]:
        raise ValueError(f"the license is {metadata.license_expression}, in {metadata.license_files}")


def check_contents(wheel: set[str], sdist: set[str], files: set[str]) -> None:
    """Check that the wheel holds the whole package and nothing else, and the sdist every file.

    Args:
        wheel: Files in the wheel.
        sdist: Files in the sdist.
        files: Files of the checkout.

    Raises:
        ValueError: Files are missing, or others are there.
    """
    if missing := files - sdist:
        raise ValueError(f"the sdist lacks {', '.join(sorted(missing))}")
    if missing := [name for name in ONLY_FOR_DEVELOPERS if not any(each.startswith(f"{name}/") for each in sdist)]:
        raise ValueError(f"the sdist lacks the folders {', '.join(missing)}")
    package = {name for name in sdist if name.startswith("featviz/")}
    if missing := package - wheel:
        raise ValueError(f"the wheel lacks {', '.join(sorted(missing))}")
    if others := [name for name in wheel - package if ".dist-info/" not in name]:
        raise ValueError(f"the wheel has files from outside of the package: {', '.join(sorted(others))}")


def check_use(programs: Path, folder: Path) -> None:
    """Run the command and the library in an empty environment, away from the checkout.

    Args:
        programs: Folder of programs of the environment.
        folder: An empty folder to run in.

    Raises:
        ValueError: A result is wrong.
    """
    python, featviz = programs / "python", programs / "featviz"
    if (found := run([python, "-c", PROBE], folder)) != "True []\n":
        raise ValueError(f"the environment is not empty: {found}")
    helps = run([featviz, "--help"], folder), run([python, "-m", "featviz", "--help"], folder)
    if not all("render" in text for text in helps):
        raise ValueError(f"--help shows {helps}")
    run([featviz, "render", "stage2:5", "--size", "64", "--steps", "24", "--quiet", "-o", "unit.png"], folder)
    if not (folder / "unit.png").read_bytes().startswith(b"\x89PNG"):
        raise ValueError("unit.png is not a PNG")
    run([featviz, "replay", "unit.png", "--quiet", "-o", "again.png"], folder)
    gallery = ["gallery", "--classes", "spiral", "--size", "32", "--steps", "4", "--quiet", "-o", "gallery"]
    run([featviz, *gallery], folder)
    if "<html" not in (folder / "gallery" / "index.html").read_text():
        raise ValueError("the gallery has no page")


def check_tests(sdist: Path, folder: Path) -> None:
    """Check that the tests of an sdist find everything that they import and read when they are collected.

    Args:
        sdist: The sdist.
        folder: Where to extract it.

    Raises:
        RuntimeError: They do not.
    """
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (source,) = folder.iterdir()
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        command, cwd=source, env={**os.environ, "PYTHONPATH": str(source)}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stdout[-3000:] + done.stderr)


if __name__ == "__main__":
    main()
