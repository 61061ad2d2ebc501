"""Attribution maps and comparisons of them, and how they are drawn."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from featviz.apps.explain.drawing import draw, enlarged, tint, with_class_names, with_legend
from featviz.apps.explain.request import Method, box_averaged
from featviz.apps.shared.pages.input_pictures import draw_input, rgb
from featviz.errors import OutputError, SettingError
from featviz.interfaces import ObjectiveLike, show_size
from featviz.io import (
    EXPLAINED_KEY,
    KINDS,
    NIFTI,
    NPY,
    auto_bar,
    check_matplotlib,
    check_nibabel,
    check_output,
    contact_sheet,
    encode,
    ending_of,
    has_matplotlib,
    is_folder,
    pack_texts,
    save_image,
    save_nifti,
    save_npy,
    text_tile,
    write,
)
from featviz.network import Network

FULL_STRENGTH_QUANTILE = 0.995
"""Quantile of the absolute map that is drawn at full strength; with the maximum, single pixels would dim the rest."""
SMOOTHING_DIVISOR = 96
"""Maps of single pixels are box-averaged for display, over the image's shorter side divided by this."""
PAGE_ENDINGS = (".html",)
"""File endings of a page."""
MAP_ENDINGS = (NPY, *NIFTI)
"""File endings of maps as numbers."""
LEGEND_OF_METHODS = (
    "Some methods give magnitudes only, in red; those that compare classes colour each pixel by its class."
)


@dataclass(frozen=True, eq=False)
class Attribution:
    """How much each pixel of images contributes to a score. Returned by `fv.explain`.

    Args:
        images: The images, in [0, 1].
        map: Contribution of each pixel: > 0 raises the score, < 0 lowers it. Some methods give magnitudes only.
        score: Score of each image.
        target: Text of the objective.
        method: Name of the method, with the settings that are not the default.
        recipe: What determines the map: versions, network, target, method and a hash of the images.
        per_channel: Contribution of each input channel of each pixel; `None` if the method does not compute it.
        delta: Relative error of the sum that the method guarantees, per image; 0 is exact. Integrated gradients
            guarantee the score's increase over the baseline, LRP the relevance at the target. `None` for methods
            without such a guarantee.
        labels: Index into `class_names` of the class to which each pixel contributes most; `None` for methods that do
            not compare classes.
        class_names: Names of the compared classes.
        axes: Names of the spatial axes, as in `InputSpec`.
    """

    images: Float[Tensor, "n c *size"]
    map: Float[Tensor, "n *size"]
    score: Float[Tensor, " n"]
    target: str
    method: str
    recipe: Mapping[str, Any]
    per_channel: Float[Tensor, "n c *size"] | None = None
    delta: Float[Tensor, " n"] | None = None
    labels: Int[Tensor, "n *size"] | None = None
    class_names: tuple[str, ...] = ()
    axes: str = "yx"

    def __repr__(self) -> str:
        """Name the method and the target; say how far the contributions miss a guaranteed sum."""
        error = "" if self.delta is None else f", contributions miss the guaranteed sum by {self.delta.abs().max():.2%}"
        return f"<{self.method} of {self.target}: {len(self)} x {show_size(self.map.shape[1:], 'x')} px{error}>"

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def full_strength(self) -> Float[Tensor, " n"]:
        """Return the absolute contribution that is drawn in full colour: the 99.5 % quantile of each image's map."""
        return self.displayed().abs().flatten(1).quantile(FULL_STRENGTH_QUANTILE, dim=1)

    def overlay(self, full: Float[Tensor, " n"] | None = None) -> Float[Tensor, "n 3 h w"]:
        """Draw the map over the images, which are shown in pale grey.

        Red raises the score and blue lowers it. For methods that compare classes, each class has its own colour.

        Args:
            full: Absolute contribution that is drawn in full colour, per image, to compare maps; `None` for
                `full_strength`.

        Returns:
            RGB images in [0, 1].

        Raises:
            SettingError: The map is of signals or volumes, which `to_bytes` draws.
        """
        if self.axes != "yx":
            raise SettingError("signals and volumes have no overlay of one color per px; use sheet() or to_bytes()")
        return tint(self.images, self._strength(full), self.labels, len(self.class_names))

    def _strength(self, full: Float[Tensor, " n"] | None) -> Float[Tensor, "n 1 *size"]:
        """Return the map as it is shown, with 1 and -1 at full colour."""
        shown = self.displayed()
        scale = (self.full_strength() if full is None else full).clamp(min=1e-12)
        return (shown / scale.view(-1, *[1] * (shown.ndim - 1))).clamp(-1, 1)

    def displayed(self) -> Float[Tensor, "n 1 *size"]:
        """Return the map as it is shown: box-averaged if it has one value per pixel.

        Neighbouring pixels of a gradient often have opposite signs, and red and blue dots mix to purple on a screen.
        """
        side = min(self.map.shape[1:]) // SMOOTHING_DIVISOR * 2 + 1 if self.per_channel is not None else 1
        return box_averaged(self.map[:, None], side)

    def to_bytes(self, full: Float[Tensor, " n"] | None = None) -> list[np.ndarray]:
        """Return the overlays as 8-bit RGB, (h, w, 3), with the names of the classes where there are several.

        A signal is drawn as lines, a volume as its middle slices across z, y and x, a clip as some of its frames.

        Args:
            full: As for `overlay`.
        """
        if self.axes != "yx":
            labels = [None] * len(self) if self.labels is None else list(self.labels)
            shown = zip(self.images, self._strength(full)[:, 0], labels, strict=True)
            drawn = [draw(image, strength, self.axes, own, len(self.class_names)) for image, strength, own in shown]
            return [with_class_names(one, self.class_names) for one in drawn]
        return [with_class_names(enlarged(image), self.class_names) for image in self.overlay(full)]

    def sheet(self) -> np.ndarray:
        """Return all overlays on one contact sheet with a legend, as 8-bit RGB, (h, w, 3)."""
        overlays = self.to_bytes()
        sheet = overlays[0] if len(overlays) == 1 else contact_sheet(overlays)
        return with_legend(sheet, f"Full colour: the largest contributions in the image. {LEGEND_OF_METHODS}")

    def save(self, path: str | Path) -> Path:
        """Write the overlays to a file. The file also holds the recipe, as `explained` in its report.

        Args:
            path: A .png, .jpg or .webp file; or a .npy file for the numbers of `map`, with the recipe in a file beside
                it; or a .nii or .nii.gz file for those of volumes.

        Returns:
            The path.

        Raises:
            OutputError: The folder is missing or not writable, or the format is unknown.
        """
        path, report = Path(path), json.dumps({EXPLAINED_KEY: [[dict(self.recipe)]]})
        if ending_of(path) in MAP_ENDINGS:
            return _save_maps(self.map, path, self.axes, report)
        return save_image(self.sheet(), path, report=report)

    def _repr_png_(self) -> bytes | None:
        """Show the overlays in Jupyter; signals as text where matplotlib is not installed."""
        return encode(self.sheet(), ".png") if self.axes != "x" or has_matplotlib() else None


@dataclass(frozen=True, eq=False)
class Comparison:
    """Attribution maps of one image for several targets and methods. Returned by `fv.compare`.

    Args:
        image: The image, in [0, 1].
        rows: One row per target with one attribution per method; `None` where the method does not apply.
        targets: Text of each target.
        methods: Name of each method.
        scores: Score of the image for each target.
        problems: Why a method does not apply, by `"method of target"`.
        layers: Layers that each target reads.
        attributors: The methods themselves.
        objectives: The targets themselves.
        milliseconds: How long each map took; `None` where the method does not apply.
        network: The network.
    """

    image: Float[Tensor, "c *size"]
    rows: Sequence[Sequence[Attribution | None]]
    targets: tuple[str, ...]
    methods: tuple[str, ...]
    scores: Sequence[float]
    problems: Mapping[str, str]
    layers: Sequence[tuple[str, ...]]
    attributors: Sequence[Method]
    objectives: Sequence[ObjectiveLike]
    milliseconds: Sequence[Sequence[float | None]]
    network: Network

    def sheet(self) -> np.ndarray:
        """Return a contact sheet: a row per target with the image first, a column per method; 8-bit RGB, (h, w, 3).

        Maps of one method have the same colour scale where their targets read the same layers, such as two logits.
        A method that does not apply says why.
        """
        axes = self.network.input.axes
        image = enlarged(rgb(self.image[None])[0]) if axes == "yx" else draw_input(self.image, axes)
        cells, labels = [], []
        for i, (target, score) in enumerate(zip(self.targets, self.scores, strict=True)):
            cells += [image, *(self._cell(i, k, image.shape) for k in range(len(self.methods)))]
            labels += [f"{target}: {score:.3g}", *self.methods]
        sheet = contact_sheet(cells, labels, columns=1 + len(self.methods))
        scale = "Full colour: the largest contributions by each method"
        if len(self.targets) > 1:
            scale += ", to all targets of the same layer, so that their rows can be compared"
        return with_legend(sheet, f"{scale}. {LEGEND_OF_METHODS}")

    def _cell(self, row: int, column: int, shape: tuple[int, ...]) -> np.ndarray:
        """Draw the map of a target and method, or the reason why there is none."""
        found = self.rows[row][column]
        if found is None:
            reason = self.problems[f"{self.methods[column]} of {self.targets[row]}"]
            return text_tile(f"refused: {reason}", shape[0], shape[1])
        return found.to_bytes(shared_strength(self.rows, self.layers, row, column))[0]

    def save(self, path: str | Path, *, progress: Callable[[int, int], None] | None = auto_bar) -> Path:
        """Write the sheet to an image file, or everything to a page on which methods are chosen and compared.

        An image file also holds the recipes, as `explained` in its report. A page shows beside each map how faithful it
        is, which takes 34 forward passes per map. It is one file, which opens from the disk. Volumes and video are
        shown one plane or frame at a time.

        Args:
            path: A .png, .jpg, .webp or .html file; or a .npy file for the maps as numbers, of the shape
                `(targets, methods, *size)`, NaN where a method does not apply, with the recipes in a file beside it; or
                a .nii or .nii.gz file for those of volumes.
            progress: For a page, called after each map with the number of maps measured and the number of maps.

        Returns:
            The path.

        Raises:
            OutputError: The folder is missing or not writable, or the format is unknown.
        """
        path = Path(path)
        if path.suffix.lower() in PAGE_ENDINGS:
            from featviz.apps.explain.explain_page import explain_page

            check_output(path, *PAGE_ENDINGS)  # before anything is computed
            write(path, explain_page(self, progress).encode())
            return path
        recipes = [[None if one is None else dict(one.recipe) for one in row] for row in self.rows]
        report = json.dumps({EXPLAINED_KEY: recipes})
        if ending_of(path) in MAP_ENDINGS:
            return _save_maps(self.maps, path, self.network.input.axes, report)
        return save_image(self.sheet(), path, report=report)

    @property
    def maps(self) -> Float[Tensor, "targets methods *size"]:
        """The attribution maps as one tensor; NaN where a method does not apply."""
        none = torch.full(self.image.shape[1:], math.nan)
        return torch.stack([torch.stack([none if one is None else one.map[0] for one in row]) for row in self.rows])

    def _repr_png_(self) -> bytes | None:
        """Show the sheet in Jupyter; signals as text where matplotlib is not installed."""
        return encode(self.sheet(), ".png") if self.network.input.axes != "x" or has_matplotlib() else None


def check_map_output(path: Path, axes: str) -> None:
    """Check that a comparison of inputs with these axes can be written to a file, before anything is computed.

    Args:
        path: A file, or an existing folder for image files.
        axes: As in `InputSpec`.

    Raises:
        OutputError: The ending is of a format for other axes, or its package is not installed.
    """
    ending, kind = "" if is_folder(path) else ending_of(path), KINDS[axes]
    if ending in NIFTI and axes != "zyx":
        raise OutputError(f"cannot write {path}: {ending} is for volumes; for maps of {kind} end it in {NPY}")
    if ending in NIFTI:
        check_nibabel(f"cannot write {path}")
    if axes == "x" and ending not in MAP_ENDINGS:
        check_matplotlib(f"cannot write {path}")


def _save_maps(maps: Float[Tensor, "..."], path: Path, axes: str, report: str) -> Path:
    """Write maps as numbers, with their recipes.

    Args:
        maps: The maps, with one or two dimensions before those of the input.
        path: A file with one of the endings `MAP_ENDINGS`.
        axes: As in `InputSpec`.
        report: The recipes as JSON.
    """
    check_output(path, *MAP_ENDINGS)
    check_map_output(path, axes)
    if ending_of(path) in NIFTI:
        several = maps if maps.ndim == len(axes) + 2 else maps[:, None]
        return save_nifti(several.numpy(), path, pack_texts(None, report))
    return save_npy(maps.numpy(), path, report)


def shared_strength(
    rows: Sequence[Sequence[Attribution | None]], layers: Sequence[tuple[str, ...]], row: int, column: int
) -> Float[Tensor, " 1"]:
    """Return the contribution in full colour that attributions by one method share where their targets compare.

    Args:
        rows: One row per target with one attribution per method; `None` where the method does not apply.
        layers: Layers that each target reads. Targets that read the same compare.
        row: Index of the target.
        column: Index of the method, which applies to this target.
    """
    alike = [maps[column] for maps, read in zip(rows, layers, strict=True) if read == layers[row]]
    return torch.stack([one.full_strength() for one in alike if one is not None]).amax(0)


def mean_attribution(several: Sequence[Attribution]) -> Attribution:
    """Return the mean of maps of the same images and target, each divided by its largest absolute value.

    Raises:
        SettingError: The maps name a class for each position.
    """
    if any(each.labels is not None for each in several):
        raise SettingError("a map that names the class of each position has no mean over layers; give one layer")

    def mean(maps: Sequence[Tensor]) -> Tensor:
        largest = [each.abs().flatten(1).amax(1).clamp(min=1e-12) for each in maps]
        scaled = [each / one.view(-1, *[1] * (each.ndim - 1)) for each, one in zip(maps, largest, strict=True)]
        return torch.stack(scaled).mean(0)

    channels = [each.per_channel for each in several if each.per_channel is not None]
    recipe = dict(several[0].recipe) | {"method": [each.recipe["method"] for each in several]}
    per_channel = mean(channels) if len(channels) == len(several) else None
    combined: dict[str, Any] = {"map": mean([each.map for each in several]), "per_channel": per_channel}
    return replace(several[0], recipe=recipe, delta=None, **combined)


def join_attributions(parts: Sequence[tuple[Sequence[int], Attribution]], images: str) -> Attribution:
    """Join attributions of different images of a batch for different targets.

    Args:
        parts: The positions in the batch, and the attribution of the images there.
        images: Hash of all images, for the recipe.
    """
    places = torch.tensor([place for rows, _ in parts for place in rows]).argsort()
    found = [part for _, part in parts]
    names = tuple(dict.fromkeys(name for part in found for name in part.class_names))

    def joined(tensors: Sequence[Tensor | None]) -> Tensor | None:
        known = [tensor for tensor in tensors if tensor is not None]
        return torch.cat(known)[places] if len(known) == len(tensors) else None

    labels = [
        None if part.labels is None else torch.tensor([names.index(name) for name in part.class_names])[part.labels]
        for part in found
    ]
    in_order = [_part_of(parts, place) for place in places.tolist()]
    tensors: dict[str, Any] = {
        name: joined([getattr(part, name) for part in found])
        for name in ("images", "map", "score", "per_channel", "delta")
    }
    recipe = dict(found[0].recipe) | {"target": [part.recipe["target"] for part in in_order], "images": images}
    target = ", ".join(part.target for part in in_order)
    return replace(found[0], target=target, recipe=recipe, labels=joined(labels), class_names=names, **tensors)


def _part_of(parts: Sequence[tuple[Sequence[int], Attribution]], place: int) -> Attribution:
    """Return the part of the image at this place of the joined tensors."""
    return [part for rows, part in parts for _ in rows][place]
