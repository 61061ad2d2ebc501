"""Damage one file of an output folder; the next run must restore it."""

from __future__ import annotations

import random
import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
import toys
from PIL import Image
from robustness.trial import DAMAGE, FINE, RAW, REFUSED, Trial

import featviz as fv
from featviz.io import read_image

DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "first half": lambda data: data[: len(data) // 2],
    "without its end": lambda data: data[:-3],
    "zeros in the middle": lambda data: data[: len(data) // 3] + bytes(len(data) // 3) + data[2 * (len(data) // 3) :],
    "something else": lambda _: b"\x00\xffwhat is this\n" * 20,
    "other JSON": lambda _: b'[{"layer": 5, "rows": "many"}]',
}
"""What may happen to a file."""
FOREIGN = (".DS_Store", "Thumbs.db", "notes.txt", "a.json", "deep/x.png")
"""Files that somebody else leaves in a folder."""
WITHOUT_CHECKSUM = (".webp",)
"""Formats in which only what is missing can be noticed."""


def runs(folder: Path) -> dict[str, Callable[[Path], object]]:
    """Return functions that write an output folder, by the name of the command."""
    torch.manual_seed(1)
    net, judge = toys.plain(), fv.Network(toys.Plain(), size=32, **toys.HALF)
    photos = folder / "photographs"
    photos.mkdir()
    numbers = np.random.default_rng(0)
    for i in range(8):
        Image.fromarray(numbers.integers(0, 255, (40, 48, 3), np.uint8)).save(photos / f"{i}.png")
    few = {"steps": 1, "size": 16}
    return {
        "gallery": lambda out: fv.gallery(net, out, classes=[0, 1], judge=judge, photographs=photos, **few),
        "sweep": lambda out: fv.sweep(net, out, ["conv2", "conv1"], channels=[0, 1], photographs=photos, **few),
        "blocks": lambda out: fv.blocks(net, photos / "0.png", "conv2", out, cells=2, groups=1, **few),
        "atlas": lambda out: fv.atlas(net, photos, "conv2", out, per_image=4, method="pca", grids=(2,), least=1, **few),
    }


def trials(folder: Path, count: int | None = None, seed: int = 0) -> Iterator[Trial]:
    """Return trials of damaged output folders.

    Args:
        folder: An empty folder.
        count: Number of trials, drawn at random; `None` for all.
        seed: Seed of the draw.
    """
    plans = []
    for name, run in runs(folder).items():
        whole = folder / name
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            run(whole)
        found = (path for path in whole.rglob("*") if path.is_file() and path.name != ".lock")
        files = sorted(str(path.relative_to(whole)) for path in found)
        for file in files:
            for damage in DAMAGES:
                if not (file.endswith(WITHOUT_CHECKSUM) and damage.startswith("zeros")):
                    plans.append((name, run, whole, file, damage))
        folders = {str(Path(file).parent) for file in files}
        plans += [(name, run, whole, f"{parent}/{foreign}", "foreign") for parent in folders for foreign in FOREIGN]
    if count is not None:
        plans = random.Random(seed).sample(plans, count)
    for name, run, whole, file, damage in plans:
        yield Trial(f"{name}: {file}: {damage}", partial(_run, run, whole, folder / "again", file, damage))


def _run(run: Callable[[Path], object], whole: Path, again: Path, file: str, damage: str) -> tuple[str, str]:
    """Damage a file of a copy of an output folder, run again, and compare everything."""
    shutil.rmtree(again, ignore_errors=True)
    shutil.copytree(whole, again)
    target = again / file
    if damage == "foreign":
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(b"\x00of something else")
    else:
        target.write_bytes(DAMAGES[damage](target.read_bytes()))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            run(again)
    except fv.FeatvizError as error:
        return REFUSED if damage == "foreign" else RAW, f"{type(error).__name__}: {error}"
    except Exception as error:
        return RAW, f"{type(error).__name__}: {error}"
    if damage == "foreign" and not target.exists():
        return DAMAGE, "the foreign file is gone"
    different = [
        str(path.relative_to(whole))
        for path in sorted(whole.rglob("*"))
        if path.is_file() and not is_equal(path, again / path.relative_to(whole))
    ]
    return (DAMAGE, f"not as before: {different}") if different else (FINE, "")


def is_equal(path: Path, other: Path) -> bool:
    """Return whether two files hold the same: images their pixels and recipe, pages all but the numbers."""
    if not other.is_file():
        return False
    if path.suffix == ".png":  # the recipe holds the batch, which is another if one image is rendered again
        same_pixels = np.array_equal(read_image(path), read_image(other))
        return same_pixels and fv.Recipe.of(other).hash == fv.Recipe.of(path).hash
    if path.suffix == ".html":
        return _without_numbers(path) == _without_numbers(other)
    return path.read_bytes() == other.read_bytes()


def _without_numbers(page: Path) -> str:
    text = page.read_text().replace(f"/{page.parent.name}", "")
    return re.sub(r"[-+]?[\d.]+(e[-+]?\d+)?", "#", text)
