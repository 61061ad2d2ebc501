"""Build the documentation site: `make site` writes it to `build/site`.

The pages are collected in a folder that has the layout of the repository, so that a link works on a code host, in an
editor and on the site. Notebooks are run, and their results kept until a notebook or the package changes.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
START = (
    '<!doctype html><meta charset="utf-8"><title>featviz</title>'
    '<meta http-equiv="refresh" content="0; url=docs/index.html">'
)
"""The page `index.html` of the site's folder, which leads to the landing page."""
FILES = ("CHANGELOG.md", "CONTRIBUTING.md", "CITATION.cff", "LICENSE", "Dockerfile")
"""Files beside `docs` to which pages link."""
NOTEBOOK_SECONDS = 900
"""Longest time that a cell of a notebook may take."""


def build(work: Path, *, run_notebooks: bool = True, workers: int = 2) -> int:
    """Collect the pages and build the site, without warnings or not at all.

    Args:
        work: Folder of the collected pages (`source`), the site (`site`) and what may be kept between builds.
        run_notebooks: Whether to show the results of notebooks.
        workers: Number of notebooks that run at once, one thread each.

    Returns:
        The exit status of Sphinx.
    """
    source, extra = work / "source", work / "extra"
    _copy_pages(source)
    extra.mkdir(parents=True, exist_ok=True)
    (extra / "index.html").write_text(START)
    notebooks = sorted((ROOT / "notebooks").glob("*.ipynb"))
    folders = [path.parent for path in notebooks]
    if run_notebooks:
        with ThreadPoolExecutor(workers) as pool:
            folders = list(pool.map(partial(_run_notebook, kept=work / "notebooks"), notebooks))
    for path, folder in zip(notebooks, folders, strict=True):
        _copy_if_new(folder / path.name, source / "notebooks" / path.name)
        if run_notebooks:
            shutil.copytree(folder / "pages", extra / "notebooks", dirs_exist_ok=True)
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "-c", DOCS]
    command += ["-d", work / "doctrees", source, work / "site"]
    return subprocess.run(command, env=os.environ | {"FEATVIZ_SITE_EXTRA": str(extra)}, check=False).returncode


def _copy_pages(source: Path) -> None:
    """Copy the pages and write those of the reference and the command line; remove what is no longer there."""
    import commands
    import reference

    pages = {path.relative_to(ROOT): path for path in DOCS.rglob("*") if path.suffix not in (".py", ".pyc")}
    pages = {name: path for name, path in pages.items() if path.is_file() and "_static" not in name.parts}
    pages |= {Path(name): ROOT / name for name in FILES if (ROOT / name).is_file()}
    for name, path in pages.items():
        _copy_if_new(path, source / name)
    reference.write_pages(source / "docs" / "reference")
    commands.write_pages(source / "docs" / "cli")
    generated = (source / "docs" / "reference", source / "docs" / "cli", source / "notebooks")
    for path in source.rglob("*"):
        if path.is_file() and path.relative_to(source) not in pages and not set(generated) & set(path.parents):
            path.unlink()


def _run_notebook(path: Path, kept: Path) -> Path:
    """Run a notebook, unless its results are there already.

    Args:
        path: The notebook.
        kept: Folder of the results of all notebooks.

    Returns:
        The folder with the notebook, and in `pages` the web pages that it shows.
    """
    import nbclient
    import nbformat

    code = [path, *sorted((ROOT / "featviz").rglob("*.py"))]
    digest = hashlib.sha256(b"".join(each.read_bytes() for each in code)).hexdigest()[:16]
    done = kept / f"{path.stem}-{digest}"
    if done.is_dir():
        return done
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder) / "notebooks"
        here.mkdir()
        for name in ("docs", "tools"):  # what notebooks read
            (here.parent / name).symlink_to(ROOT / name)
        place = {"metadata": {"path": str(here)}}
        client = nbclient.NotebookClient(notebook, timeout=NOTEBOOK_SECONDS, kernel_name="python3", resources=place)
        threads = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
        client.execute(env=os.environ | threads | {"PYTHONPATH": str(ROOT)})
        result = here.parent / "result"
        (result / "pages").mkdir(parents=True)
        for page in here.glob("*/index.html"):
            shutil.copytree(page.parent, result / "pages" / page.parent.name)
        _clean(notebook, str(here))
        nbformat.write(notebook, result / path.name)
        for old in kept.glob(f"{path.stem}-*"):
            shutil.rmtree(old)
        partial_copy = kept / f"{path.stem}-partial"
        shutil.copytree(result, partial_copy)
        partial_copy.rename(done)
    return done


def _clean(notebook: Any, folder: str) -> None:
    """Remove progress bars and warnings from the results of a notebook, and the folder in which it ran from paths."""
    for cell in notebook.cells:
        outputs = [each for each in cell.get("outputs", ()) if each.get("name") != "stderr"]
        for texts in (*outputs, *(each.get("data", {}) for each in outputs)):
            for kind in [key for key in texts if key.startswith("text")]:
                texts[kind] = texts[kind].replace(f"{folder}/", "")
        if "outputs" in cell:
            cell["outputs"] = outputs


def _copy_if_new(path: Path, copy: Path) -> None:
    """Copy a file if its content changed, so that Sphinx reads only changed pages again."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    content = path.read_bytes()
    if not copy.is_file() or copy.read_bytes() != content:
        copy.write_bytes(content)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--work", type=Path, default=ROOT / "build", help="folder of the site and what is kept")
    parser.add_argument("--no-notebooks", action="store_true", help="show notebooks without results, which is faster")
    parser.add_argument("--workers", type=int, default=2, help="number of notebooks that run at once")
    given = parser.parse_args()
    sys.exit(build(given.work, run_notebooks=not given.no_notebooks, workers=given.workers))
