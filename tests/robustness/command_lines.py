"""Every option of every command with text that is wrong for most options."""

from __future__ import annotations

import contextlib
import io
import random
from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import typer
from PIL import Image
from robustness.trial import DAMAGE, FINE, RAW, REFUSED, Trial, snapshot

from featviz.apps.explore.explore import Explorer
from featviz.cli import app, main

MODEL = ["--model", "mine.py:net"]
FACTORY = """\
import sys
sys.path.insert(0, {tests!r})
import toys
net = toys.plain
def other():
    import torch
    torch.manual_seed(1)
    return toys.plain()
"""
TEXTS = (
    "", " ", "nan", "inf", "-inf", "-1", "0", "1.5", "1e400", "9" * 12, "9" * 40, "no such", "[", "(", ")", "'", '"',
    ",", ":", "@", "1,2", "0.5,0.5,0.5", "a,b,c", "0x10", "1x", "0x0", "8x8x8", "é", "\n", "-", "..", "/dev/null", ".",
    "photo.png", "text.png", "empty.png", "none", "None", "True", "lambda: 1", "__import__('os').getcwd()", "conv2",
    "conv2:1", "logit", "a" * 300, "1-0", "0-9999999999", "{}", "%s", "mine.py", "mine.py:", "mine.py:os", "1" * 5000,
    "b/" * 200 + "c", "é" * 200 + ".png",
    "no.pt", "https://", "image::x", "a/b", "'photo.png'", "Fourier(", "Fourier(decay=nan)", "Adam(lr=0)", "()", "[[]]",
)  # fmt: skip
"""Values of options. Where one is right, the command may succeed."""


def base_lines() -> dict[str, list[str]]:
    """Return words with which each command succeeds quickly, by its name."""
    few = ["--steps", "1", "--size", "16"]
    return {
        "accentuate": ["photo.png", "conv2:1", "--steps", "1", "--crops", "1", "-o", "accentuated.png", *MODEL],
        "atlas": ["photos", "--layer", "conv2", "-o", "out", *few, *MODEL],
        "attention": ["photo.png", "-o", "attention.html", "--model", "motifvit"],
        "blocks": ["photo.png", "--layer", "conv2", "-o", "out", "--cells", "2", "--groups", "1", *few, *MODEL],
        "concept": ["positive", "negative", "--layer", "conv2", "-o", "c.safetensors", *MODEL],
        "circuit": ["conv2:1", "-o", "out", "--inputs", "1", "--groups", "1", "--depth", "0", *few, *MODEL],
        "dictionary": [
            "photos",
            "--layer",
            "conv2",
            "--features",
            "2",
            "--k",
            "1",
            "--steps",
            "1",
            "-o",
            "d.safetensors",
            *MODEL,
        ],
        "diff": [
            "mine.py:net",
            "mine.py:other",
            "photos",
            "--layer",
            "conv2",
            "--class",
            "1",
            "-o",
            "out",
            *few,
            "--most",
            "1",
        ],
        "doctor": ["--photographs", "photos", *MODEL],
        "dream": ["photo.png", "conv2:1", "--octaves", "1", "--steps", "1", "-o", "dream.png", *MODEL],
        "embeddings": ["photos", "a.png", "-o", "map.html", "--method", "pca", "--steps", "1", *MODEL],
        "evidence": ["photos", "--layer", "conv2", "-o", "evidence.html", *MODEL],
        "examples": ["photos", "--layer", "conv2", "-o", "examples.png", *few, *MODEL],
        "explain": ["photo.png", "logit:1", "--method", "gradient", "-o", "explained.png", *MODEL],
        "explore": ["--no-browser", "--photographs", "photos", "-o", "out", *MODEL],
        "fit-prior": ["photos", "--size", "32", "-o", "prior.json"],
        "gallery": ["--classes", "1", "-o", "out", *few, *MODEL],
        "judge": ["rendered.png", "--judge", "mine.py:other", *MODEL],
        "layers": [*MODEL],
        "render": ["conv2:1", "-o", "rendered2.png", *few, *MODEL],
        "replay": ["rendered.png", "-o", "again.png", *MODEL],
        "texture": [
            "box",
            "logit:1",
            "--size",
            "32",
            "--view",
            "32",
            "--views",
            "2",
            "--steps",
            "1",
            "-o",
            "out",
            *MODEL,
        ],
        "unit": ["conv2:1", "--photographs", "photos", "-o", "unit.html", *few, *MODEL],
        "sweep": ["--layer", "conv2", "--channels", "1", "-o", "out", *few, *MODEL],
    }


def make_files(folder: Path) -> None:
    """Write the files that `base_lines` and `TEXTS` name into a folder, which must be the current one."""
    (folder / "photos").mkdir()
    numbers = np.random.default_rng(0)
    for name in ("photo.png", *(f"photos/{letter}.png" for letter in "abcd")):
        Image.fromarray(numbers.integers(0, 255, (40, 48, 3), np.uint8)).save(folder / name)
    for name, brightest in (("positive", 255), ("negative", 100)):
        (folder / name).mkdir()
        for i in range(10):
            Image.fromarray(numbers.integers(0, brightest, (8, 8, 3), np.uint8)).save(folder / name / f"{i}.png")
    (folder / "text.png").write_text("no image")
    (folder / "empty.png").write_bytes(b"")
    (folder / "mine.py").write_text(FACTORY.format(tests=str(Path(__file__).parents[1])))
    assert main(["render", "logit:1", "--steps", "1", "-o", "rendered.png", "--quiet", *MODEL]) == 0


def trials(
    folder: Path, count: int | None = None, seed: int = 0, commands: Collection[str] | None = None
) -> Iterator[Trial]:
    """Return trials of command lines.

    Args:
        folder: An empty folder, which must be the current one.
        count: Number of trials, drawn at random; `None` for all.
        seed: Seed of the draw.
        commands: Names of the commands to try; `None` for all.
    """
    make_files(folder)
    lines = [words for words in _lines() if commands is None or words[0] in commands]
    if count is not None:
        lines = random.Random(seed).sample(lines, count)
    Explorer.wait = _no_wait  # `featviz explore` starts its server, and ends at once instead of after Ctrl-C
    for words in lines:
        yield Trial(" ".join(map(repr, words))[:200], partial(_run, words, folder))


def _no_wait(_: Explorer) -> None:
    """Return at once."""


def _lines() -> Iterator[list[str]]:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    bases = base_lines()
    missing = commands.keys() - bases.keys() - {"models", "compare"}
    if missing:
        raise AssertionError(f"no words for {sorted(missing)}")
    for name, base in bases.items():
        yield [name, *base]
        for i, word in enumerate(base):
            if not word.startswith("-"):
                yield from ([name, *base[:i], text, *base[i + 1 :]] for text in TEXTS)
        for parameter in commands[name].params:
            if parameter.param_type_name != "option" or parameter.opts[0] in base:
                continue
            if getattr(parameter, "is_flag", False):
                yield [name, *base, parameter.opts[0]]
            else:
                yield from ([name, *base, parameter.opts[0], text] for text in TEXTS)


def _remove_empty_folders(folder: Path) -> None:
    """Remove the folders that a command has made, so that later trials do not search them."""
    for path in sorted(folder.rglob("*/"), reverse=True):
        with contextlib.suppress(OSError):  # it is not empty
            path.rmdir()


def _run(words: list[str], folder: Path) -> tuple[str, str]:
    """Run a command; check its status and its message, and that no file is changed or left half-written."""
    before = snapshot(folder)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(words)
        except SystemExit as exit_:
            status = int(exit_.code or 0)
        except Exception as error:
            return RAW, f"{type(error).__name__}: {error}"
    said = err.getvalue().strip()
    after = snapshot(folder)
    inputs = {"photo.png", "text.png", "mine.py"} - set(words[words.index("-o") :] if "-o" in words else ())
    changed = [name for name in before if name in inputs and before[name] != after[name]]
    parts = [name for name in after if ".part" in name]
    for name in after.keys() - before.keys():
        (folder / name).unlink()
    _remove_empty_folders(folder)
    if changed or parts:
        return DAMAGE, f"changed {changed}, left {parts}"
    lines = [line for line in said.splitlines() if line.startswith("featviz: ")]
    found_problems = status == 1 and words[0] == "doctor" and all("skipped" in line for line in lines)
    if status == 0 or found_problems:
        return FINE, said
    if status != 2 or not lines or "Traceback" in said:
        return RAW, f"status {status}: {said[-200:]}"
    return REFUSED, said
