"""The result of a render."""

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

from featviz.checks import as_whole, check_axes, check_size
from featviz.engine.pictures import in_range_of_data, picture_of, same_size
from featviz.engine.recipe import Recipe
from featviz.engine.result_files import NUMBER_ENDINGS, save_numbers
from featviz.errors import SettingError
from featviz.interfaces import Shape, Size, show_size
from featviz.io import (
    NPY,
    check_result,
    clip_html,
    contact_sheet,
    encode,
    ending_of,
    free_path,
    has_matplotlib,
    is_folder,
    save_image,
    sheets_of,
    slug,
    volume_html,
)
from featviz.io.clips import FRAME_RATE
from featviz.network import Execution, neutral_state
from featviz.network.inputs.packing import split

HISTORY_POINTS = 100
"""Largest number of scores that are stored in an image file."""


@dataclass(frozen=True, eq=False)
class Robustness:
    """Scores of finished images outside of the views in which they were optimised.

    An image that was fitted to a few exact views scores low in others; an image of what the unit detects does not.

    Args:
        clean: Score of each image without transforms.
        augmented: Score in new random views, through the transforms of the render.
        start: Score of the initial image in one random view.
    """

    clean: Float[Tensor, " n"]
    augmented: Float[Tensor, "views n"]
    start: Float[Tensor, " n"]

    @property
    def retained(self) -> Float[Tensor, " n"]:
        """Share of the score gain since the start that is retained in new random views, clipped to [0, 1].

        1 means that new views score at least as high as the clean image; 0 that nothing was gained, or none of it is
        retained.
        """
        gain = self.clean - self.start
        return torch.where(gain > 0, (self.augmented.mean(0) - self.start) / gain, 0.0).clamp(0, 1)

    def __getitem__(self, image: int) -> Robustness:
        """Return the scores of one image."""
        return Robustness(*(scores[..., image : image + 1] for scores in (self.clean, self.augmented, self.start)))


@dataclass(frozen=True, eq=False)
class Rendering:
    """Optimised images, their scores, and the recipe that renders them again.

    Args:
        images: In [0, 1], (n, c, h, w), or `(n, c, *size)` for signals and volumes, on the CPU. `values` has them in
            the range of the network's data. Those of several optimised inputs are packed into one signal,
            (n, 1, length): `inputs` has each.
        history: Score of every step, (steps, n).
        names: What each image shows.
        recipe: Everything that determines the images.
        snapshots: Copies of the images after the steps in the argument `snapshots` of `render`.
        problems: Why an image failed, by index; empty if none did.
        alpha: Whether the last channel is alpha.
        execution: How the network was run.
        redraw: Draws the same images at another size; `None` where the param has one size only.
        robustness: Scores of the finished images in new views; `None` where they were not computed.
        plan: How the steps ran: how many were replayed as a CUDA graph, or why none.
        shapes: Of several optimised inputs, channels and length of each axis by name; empty for one.
    """

    images: Float[Tensor, "n c *size"]
    history: Float[Tensor, "steps n"]
    names: tuple[str, ...]
    recipe: Recipe
    snapshots: Mapping[int, Float[Tensor, "n c *size"]] = field(default_factory=dict)
    problems: Mapping[int, str] = field(default_factory=dict)
    alpha: bool = False
    execution: Execution = Execution()
    redraw: Callable[[Size], Tensor] | None = None
    robustness: Robustness | None = None
    plan: str = ""
    shapes: Mapping[str, Shape] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def __repr__(self) -> str:
        """Show what the images are of, their number, size and steps."""
        size = show_size(self.images.shape[2:], "x")
        if self.shapes:
            size = ", ".join(f"{name} {show_size(sides, 'x')}" for name, (_, *sides) in self.shapes.items())
        return f"<Rendering of {', '.join(self.names)}: {len(self)} x {size} px, {len(self.history)} steps>"

    @property
    def values(self) -> Float[Tensor, "n c *size"]:
        """The images in the range of the network's data: amplitudes of a signal, for example.

        They are the images themselves where that range is [0, 1]. An alpha channel stays in [0, 1].

        Raises:
            SettingError: There are several inputs, each with a range of its own.
        """
        if self.shapes:
            raise SettingError(
                f"each optimised input has its own values; use rendering.inputs[{next(iter(self.shapes))!r}].values"
            )
        return in_range_of_data(self.images, self.recipe.spec)

    @property
    def inputs(self) -> dict[str, Rendering]:
        """Of several optimised inputs, the result of each as a rendering of its own, by name; empty for one input."""
        images = split(self.images, self.shapes) if self.shapes else {}
        kept = {step: split(each, self.shapes) for step, each in self.snapshots.items()} if self.shapes else {}
        return {
            name: replace(
                self,
                images=each,
                snapshots={step: images[name] for step, images in kept.items()},
                recipe=replace(self.recipe, part=name),
                shapes={},
            )
            for name, each in images.items()
        }

    def __getitem__(self, image: int) -> Rendering:
        """Return one image as a rendering of its own.

        Raises:
            IndexError: There is no such image.
            SettingError: The index is not a whole number.
        """
        i = range(len(self))[as_whole("the index of an image", image)]
        kept = {step: images[i : i + 1] for step, images in self.snapshots.items()}
        return replace(
            self,
            images=self.images[i : i + 1],
            history=self.history[:, i : i + 1],
            names=(self.names[i],),
            recipe=self.recipe.only(i if self.recipe.index is None else self.recipe.index),
            snapshots=kept,
            robustness=None if self.robustness is None else self.robustness[i],
            problems={0: self.problems[i]} if i in self.problems else {},
            redraw=None if self.redraw is None else partial(_redraw_one, self.redraw, i),
        )

    @neutral_state()
    def at(self, size: int | Size) -> Rendering:
        """Draw the same images at another size, without optimising again.

        Args:
            size: Height and width in px, or one side.

        Raises:
            SettingError: The param has a fixed size (unlike `param.CPPN`), a side is < 1, or there is not one side for
                each axis.
        """
        if self.redraw is None:
            if self.recipe.inputs:
                raise SettingError("images of several inputs have a fixed size; give it in the param of each input")
            raise SettingError("these images have a fixed size; render with param.CPPN() to draw them at any size")
        axes = self.images.ndim - 2
        size = check_size("size", size, axes)
        check_axes(size, axes)
        with torch.no_grad():
            return replace(self, images=self.redraw(size), recipe=replace(self.recipe, shown=size), snapshots={})

    @property
    def image(self) -> Image.Image:
        """The image, or the contact sheet of several, as a Pillow image. `sheet` says how signals are drawn."""
        return Image.fromarray(self.sheet())

    @property
    def images_pil(self) -> list[Image.Image]:
        """Each image as a Pillow image."""
        return [Image.fromarray(pixels) for pixels in self._pictures()]

    @property
    def file_name(self) -> str:
        """Default file name: what the image shows, and how many other objectives there are on its sheet.

        It ends in .png for images, and in .npy for signals and volumes. For one of several inputs it contains the
        input's name, and for all of them it ends in .png.
        """
        ending = ".png" if self.recipe.spec.axes == "yx" or self.shapes else NPY
        first = slug(self.names[0].replace("-", "minus ", 1) if self.names[0].startswith("-") else self.names[0])
        part = f"-{slug(self.recipe.part)}" if self.recipe.part else ""
        others = len(set(self.names)) - 1
        return f"{first}{f'_and_{others}_more' if others else ''}{part}{ending}"

    def sheet(self, *, labels: bool = True, rate: float | None = None) -> UInt8[np.ndarray, "h w rgba"]:
        """Return a contact sheet of all images. A single image stays as it is and keeps its alpha channel.

        A signal is drawn as a line per channel; a volume as its middle slices across z, y and x and its maximum along
        z; a clip as up to 8 of its frames. Each of several inputs has its own picture.

        Args:
            labels: Write under each image what it shows.
            rate: Samples per second of signals, for a time axis in seconds; `None` for one in samples.

        Raises:
            OutputError: The results are signals, and matplotlib is not installed.
        """
        pictures = same_size(self._pictures(rate)) if self.shapes else self._pictures(rate)
        return pictures[0] if len(pictures) == 1 else contact_sheet(pictures, self._labels if labels else ())

    def save(self, path: str | Path, *, labels: bool = True, rate: float | None = None) -> list[Path]:
        """Write the images: to a file as one contact sheet, to an existing folder as one file each.

        The recipe is stored in each file. Files in a folder are named after what they show, with a number where
        there is such a file already. Several inputs are saved as one file each: `x.png` becomes `x-image.png` and
        `x-audio.png`, each of which `fv.replay` renders again.

        Args:
            path: A file that ends in .png, .jpg, .jpeg or .webp gets the picture that `sheet` returns; it is replaced
                if it is there. One that ends in .npy gets the numbers of `values`. Signals can be saved as .wav, with
                1 at the largest possible amplitude if that exceeds 1; volumes as .nii or .nii.gz; video as .mp4,
                .webm or .gif. The recipe of .npy, .mp4 and .webm is in a file beside it. Or a folder.
            labels: On a contact sheet, write under each image what it shows.
            rate: Samples per second of a signal, frames per second of a clip; `None` for 16 000 in a .wav file, 12 in
                a clip, and a time axis in samples in a plot.

        Returns:
            The files.

        Raises:
            OutputError: The folder is missing or not writable, the format is unknown or not for such results, or its
                package is not installed.
            SettingError: `rate` is out of its range, or a .wav file is to hold several signals.
        """
        path = Path(path)
        if is_folder(path):
            each = [(i, one) for i in range(len(self)) for one in (*self[i].inputs.values(),) or (self[i],)]
            return [
                file for i, one in each for file in one.save(free_path(path / f"{i:02d}-{one.file_name}"), rate=rate)
            ]
        if self.shapes:
            named = {name: path.with_name(_with_input(path, name)) for name in self.shapes}
            parts = self.inputs
            for name, file in named.items():
                check_result(file, parts[name].recipe.spec.axes)
            return [f for name, file in named.items() for f in parts[name].save(file, labels=labels, rate=rate)]
        recipe, report = self.recipe.to_json(), json.dumps(self.report) if len(self) == 1 else None
        check_result(path, self.recipe.spec.axes)
        if ending_of(path) not in NUMBER_ENDINGS:
            return [save_image(self.sheet(labels=labels, rate=rate), path, recipe, report)]
        numbers = self.images.numpy(), self.values.numpy()
        shown = self.names if labels else ()
        return [
            save_numbers(*numbers, path, self.recipe.spec, (recipe, report), labels=shown, alpha=self.alpha, rate=rate)
        ]

    @property
    def report(self) -> dict[str, Any]:
        """Metadata of a single image's file: its objective, scores and robustness.

        The history has at most `HISTORY_POINTS` steps, evenly spaced.
        """
        steps = len(self.history)
        some = torch.linspace(0, steps - 1, min(steps, HISTORY_POINTS)).round().long().unique()
        history = [round(score, 5) if math.isfinite(score) else None for score in self.history[some, 0].tolist()]
        report = {"shows": self.names[0], "steps": steps, "history": history}
        if 0 in self.problems:
            report["problem"] = self.problems[0]
        if self.robustness is not None:
            numbers = {"score": self.robustness.clean.item(), "robustness": self.robustness.retained.item()}
            report |= {name: number if math.isfinite(number) else None for name, number in numbers.items()}
        return report

    def encoded(self, ending: str = ".png", *, side: int | None = None) -> bytes:
        """Return the bytes that `save` would write.

        Args:
            ending: File ending of the format.
            side: Longer side in px to which the image is downsampled if it is larger, without the recipe; `None` for
                the image as it is.
        """
        pixels = self.sheet()
        if side and side < max(pixels.shape[:2]):
            ratio = side / max(pixels.shape[:2])
            size = max(1, round(pixels.shape[1] * ratio)), max(1, round(pixels.shape[0] * ratio))
            pixels = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))
        recipe = self.recipe.to_json() if side is None else None  # it would render another size
        return encode(pixels, ending, recipe, json.dumps(self.report) if recipe and len(self) == 1 else None)

    def _repr_png_(self) -> bytes | None:
        """Show the contact sheet in Jupyter; signals as text where matplotlib is not installed."""
        specs = dict(self.recipe.inputs).values() if self.shapes else (self.recipe.spec,)
        return encode(self.sheet(), ".png") if has_matplotlib() or all(spec.axes != "x" for spec in specs) else None

    def _repr_html_(self) -> str | None:
        """Show volumes in Jupyter as slices with sliders, and video as an animation; `None` for the others."""
        if self.recipe.spec.axes == "zyx":
            shown = zip(self.images.numpy(), self.names, strict=True)
            return "".join(volume_html(volume, name) for volume, name in shown)
        if self.recipe.spec.axes == "tyx":
            return clip_html(
                sheets_of(self.images.numpy(), self.names, alpha=self.alpha), FRAME_RATE, ", ".join(self.names)
            )
        return None

    @property
    def _labels(self) -> tuple[str, ...]:
        """Caption of each picture."""
        return tuple(f"{name}, {part}" for name in self.names for part in self.shapes) if self.shapes else self.names

    def _pictures(self, rate: float | None = None) -> list[UInt8[np.ndarray, "h w rgba"]]:
        """Return the picture of each image, as `sheet` describes."""
        if self.shapes:
            parts = [each._pictures(rate) for each in self.inputs.values()]
            return [picture for pictures in zip(*parts, strict=True) for picture in pictures]
        numbers = zip(self.images.numpy(), self.values.numpy(), strict=True)
        spec = self.recipe.spec
        return [picture_of(image, values, spec, alpha=self.alpha, rate=rate) for image, values in numbers]


def _with_input(path: Path, name: str) -> str:
    """Return a file name with the name of an input before its ending."""
    stem = path.name[: len(path.name) - len(ending_of(path))]
    return f"{stem}-{slug(name)}{path.name[len(stem) :]}"


def _redraw_one(redraw: Callable[[Size], Tensor], image: int, size: Size) -> Float[Tensor, "1 c *size"]:
    """Draw one of the images at a size."""
    return redraw(size)[image : image + 1]
