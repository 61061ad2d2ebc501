"""Match the images of a page to photographs, and mark those that are copies of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

import featviz as fv
from featviz.apps.match import BATCH_NORM, Matched, Nearest, match_units, nearest_photographs
from featviz.apps.shared.rendering.album import Album, Pages, RenderedImages
from featviz.apps.shared.rendering.stored_images import image_file
from featviz.io import open_image, pillow_pixels
from featviz.objectives import Objective

NEGATIVE, PROBABILITY = "negative", "probability"
"""Notes of images that stand beside those of a unit and are not matched."""


@dataclass(frozen=True)
class Matching:
    """The units of a page with the photographs that they are matched to.

    Args:
        network: The network; it also detects copies.
        objectives: What to render for each unit: the unit alone, or with distributions and spectrum.
        units: Each unit with its photographs, by its title on the page; empty where nothing is matched.
    """

    network: fv.Network
    objectives: Sequence[Objective]
    units: Mapping[str, Matched]

    @classmethod
    def of(
        cls, network: fv.Network, units: Mapping[str, Objective], match: str | Path | None, weight: float
    ) -> Matching:
        """Choose the photographs of each unit.

        Args:
            network: The network.
            units: The units by title.
            match: A folder of photographs, or `"batch-norm"`; `None` for no matching.
            weight: Weight of distributions and spectrum, as for `apps.match.match_units`.

        Raises:
            OutputError: The folder is missing or has no images.
            SettingError: The weight is < 0, or the network has no batch norm.
        """
        if match is None:
            return cls(network, list(units.values()), {})
        found = match_units(network, list(units.values()), None if match == BATCH_NORM else match, weight=weight)
        return cls(network, [each.objective for each in found], dict(zip(units, found, strict=True)))

    def nearest(self, album: Album, rendered: RenderedImages) -> dict[str, Nearest]:
        """Return the nearest photograph of each image that was matched to photographs, by the name of the image.

        Args:
            album: The images of the page.
            rendered: Those that are in the store.

        Raises:
            OutputError: A photograph cannot be read any more.
        """
        found: dict[str, Nearest] = {}
        for title, images in album.cards.items():
            unit, unmatched = self.units.get(title), (NEGATIVE, PROBABILITY)
            names = [name for name, note in images if name in rendered.names and note not in unmatched]
            if unit is None or len(unit.photographs) < 2 or not names:
                continue
            pixels = torch.stack([_pixels(rendered, name, self.network.channels) for name in names])
            found.update(zip(names, nearest_photographs(self.network, pixels, unit.photographs), strict=True))
        return found


def mark_copies(rendered: RenderedImages, nearest: Mapping[str, Nearest]) -> RenderedImages:
    """Return images whose problems include that some are copies, which a page shows beside them.

    Args:
        rendered: The images in the store.
        nearest: The nearest photograph by the name of the image.
    """
    copies = {name: str(one) for name, one in nearest.items() if one.is_copy}
    return replace(rendered, problems={**copies, **rendered.problems})


def add_copies_to_pages(pages: Pages, albums: Sequence[Album], nearest: Mapping[str, Nearest]) -> Pages:
    """Return pages whose problems include that some images are copies.

    Args:
        pages: What was made.
        albums: The images of each page.
        nearest: The nearest photograph by the name of the image.
    """
    copies = {
        ", ".join(filter(None, (title, note))): str(nearest[name])
        for album in albums
        for title, images in album.cards.items()
        for name, note in images
        if name in nearest and nearest[name].is_copy
    }
    return replace(pages, problems={**pages.problems, **copies})


def facts_of(nearest: Mapping[str, Nearest]) -> dict[str, dict[str, str]]:
    """Return the line of each image's dialog about its nearest photograph.

    Args:
        nearest: The nearest photograph by the name of the image.
    """
    return {name: {"nearest photograph": str(one).partition(": ")[2]} for name, one in nearest.items()}


def _pixels(rendered: RenderedImages, name: str, channels: int) -> torch.Tensor:
    """Read an image of the store."""
    with open_image(rendered.store.read(image_file(name))) as picture:
        return torch.from_numpy(pillow_pixels(picture, channels))
