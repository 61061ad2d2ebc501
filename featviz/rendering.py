"""What `render` gives back."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from featviz.errors import SettingError
from featviz.output import contact_sheet, encode, save_picture, to_bytes
from featviz.plan import Plan
from featviz.protocols import Size, as_size
from featviz.recipe import Recipe

POINTS = 100
"""How much of the history goes into a picture's file."""


@dataclass(frozen=True, eq=False)
class Trust:
    """What finished pictures score outside of the views that they were made in.

    Args:
        clean: as they are, whole.
        fresh: in views of the same transforms that no step has seen.
        start: what the first step scored.
    """

    clean: Float[Tensor, " n"]
    fresh: Float[Tensor, "views n"]
    start: Float[Tensor, " n"]

    @property
    def kept(self) -> Float[Tensor, " n"]:
        """How much of what was gained since the start is there in fresh views, as a share of the clean picture's."""
        gained = self.clean - self.start
        return torch.where(gained > 0, (self.fresh.mean(0) - self.start) / gained, 0.0)

    def __getitem__(self, picture: int) -> Trust:
        """Return one picture's."""
        return Trust(*(scores[..., picture : picture + 1] for scores in (self.clean, self.fresh, self.start)))


@dataclass(frozen=True, eq=False)
class Rendering:
    """Pictures, how they came about, and the recipe that makes them again.

    Args:
        images: in [0, 1], on the CPU.
        history: the score of every step.
        names: what each picture shows.
        recipe: everything that decided them.
        snapshots: the pictures after the steps that were asked for.
        problems: what went wrong with which picture; empty when all went well.
        alpha: whether the last channel is alpha.
        plan: how the network was run.
        again: draws the same pictures at another height and width; `None` where the param has one size only.
        trust: what the finished pictures score; `None` where that was not asked for, or cannot be told.
    """

    images: Float[Tensor, "n c h w"]
    history: Float[Tensor, "steps n"]
    names: tuple[str, ...]
    recipe: Recipe
    snapshots: Mapping[int, Float[Tensor, "n c h w"]] = field(default_factory=dict)
    problems: Mapping[int, str] = field(default_factory=dict)
    alpha: bool = False
    plan: Plan = Plan()
    again: Callable[[Size], Tensor] | None = None
    trust: Trust | None = None

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.images)

    def __repr__(self) -> str:
        """Say what it shows."""
        height, width = self.images.shape[-2:]
        return f"<Rendering of {', '.join(self.names)}: {len(self)} x {height}x{width} px, {len(self.history)} steps>"

    def __getitem__(self, picture: int) -> Rendering:
        """Return one picture as a rendering of its own.

        Raises:
            IndexError: there is no such picture.
        """
        i = range(len(self))[picture]
        kept = {step: images[i : i + 1] for step, images in self.snapshots.items()}
        which = self.recipe.only(i if self.recipe.picture is None else self.recipe.picture)
        return replace(
            self,
            images=self.images[i : i + 1],
            history=self.history[:, i : i + 1],
            names=(self.names[i],),
            recipe=which,
            snapshots=kept,
            trust=None if self.trust is None else self.trust[i],
            problems={0: self.problems[i]} if i in self.problems else {},
            again=None if self.again is None else partial(_one_again, self.again, i),
        )

    def at(self, size: int | Size) -> Rendering:
        """Draw the same pictures at another size, without optimising again.

        Args:
            size: height and width in px, or one side.

        Raises:
            SettingError: they have a size of their own, those of `param.CPPN` have none; or a side is below 1.
        """
        if self.again is None:
            raise SettingError("these pictures have a size of their own; render with param.CPPN() to draw them at any")
        size = as_size(size)
        if min(size) < 1:
            raise SettingError(f"size {size[0]} x {size[1]} has no pixels; give a height and width from 1")
        with torch.no_grad():
            return replace(self, images=self.again(size), recipe=replace(self.recipe, shown=size), snapshots={})

    @property
    def file_name(self) -> str:
        """A name for its file: what it shows."""
        return f"{_slug(self.names[0])}.png" if len(self) == 1 else "sheet.png"

    def sheet(self, *, labels: bool = True) -> UInt8[np.ndarray, "h w rgba"]:
        """Lay all pictures out on one page; a single one stays as it is, and keeps its alpha channel.

        Args:
            labels: write under each what it shows.
        """
        pictures = [to_bytes(image.numpy(), alpha=self.alpha) for image in self.images]
        return pictures[0] if len(pictures) == 1 else contact_sheet(pictures, self.names if labels else ())

    def save(self, path: str | Path, *, labels: bool = True) -> list[Path]:
        """Write the pictures: to a file as one sheet, to an existing folder as a file each.

        Args:
            path: ends in .png (which keeps the recipe), .jpg, .jpeg or .webp; or is a folder.
            labels: on a sheet, write under each picture what it shows.

        Returns:
            The files.

        Raises:
            OutputError: the folder is missing or not writable, or the format is another.
        """
        path = Path(path)
        if not path.is_dir():
            report = json.dumps(self.report) if len(self) == 1 else None
            return [save_picture(self.sheet(labels=labels), path, self.recipe.to_json(), report)]
        each = [self[i] for i in range(len(self))]
        return [file for i, one in enumerate(each) for file in one.save(path / f"{i:02d}-{one.file_name}")]

    @property
    def report(self) -> dict[str, Any]:
        """How the render of a single picture went, as it stands in its file: what it shows, its scores, its trust.

        The history is of at most `POINTS` steps, evenly spread.
        """
        steps = len(self.history)
        some = torch.linspace(0, steps - 1, min(steps, POINTS)).round().long().unique()
        history = [round(score, 5) if math.isfinite(score) else None for score in self.history[some, 0].tolist()]
        report = {"shows": self.names[0], "steps": steps, "history": history}
        if self.trust is not None:
            report |= {"score": self.trust.clean.item(), "kept": self.trust.kept.item()}
        return report

    def encoded(self, ending: str = ".png", *, side: int | None = None) -> bytes:
        """Return the file that `save` would write.

        Args:
            ending: its format.
            side: the longer side in px to which it is shrunk; `None` means not at all.
        """
        pixels = self.sheet()
        if side and side < max(pixels.shape[:2]):
            share = side / max(pixels.shape[:2])
            whole = Image.fromarray(pixels)
            size = max(1, round(pixels.shape[1] * share)), max(1, round(pixels.shape[0] * share))
            pixels = np.asarray(whole.resize(size, Image.Resampling.LANCZOS))
        return encode(pixels, ending, self.recipe.to_json(), json.dumps(self.report) if len(self) == 1 else None)

    def _repr_png_(self) -> bytes:
        """Show itself in Jupyter."""
        return encode(self.sheet(), ".png")


def _one_again(again: Callable[[Size], Tensor], picture: int, size: Size) -> Float[Tensor, "1 c h w"]:
    """Draw one of the pictures at a size."""
    return again(size)[picture : picture + 1]


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in ".-_" else "_" for letter in name)[:80]
