"""Score images again with their own network: in new views, against noise, and against photographs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.apps.judge.subjects import Subject
from featviz.apps.shared.activations.image_batches import image_batches
from featviz.apps.shared.judging.judge_crops import resize_to_cover
from featviz.engine import Robustness
from featviz.interfaces import Size
from featviz.io import resize

IMAGE_VIEWS = 16
"""Random views in which an image is scored."""
NOISE_IMAGES, NOISE_VIEWS = 8, 2
"""Noise images with which an image is compared, and random views in which each is scored."""
PHOTOGRAPHS_AT_ONCE = 16
"""Number of photographs per batch."""


@dataclass(frozen=True, eq=False)
class Case:
    """An image to judge, with its own network: the one that rendered it.

    Args:
        subject: The image and what it shows.
        network: Its own network.
        classes: Index of the class in its own network and in the judge; `None` where the unit is not a class.
    """

    subject: Subject
    network: fv.Network
    classes: tuple[int, int] | None

    @property
    def size(self) -> Size:
        """Height and width in px at which the image is scored: where positions matter, those of the render."""
        subject = self.subject
        height, width = subject.size if subject.depends_on_position else subject.image.shape[-2:]
        return height, width

    @cached_property
    def robustness(self) -> Robustness:
        """Scores of the image without transforms and in new random views."""
        return self.robustness_of(self.rescore(resize(self.subject.image[None], self.size)))

    @cached_property
    def score(self) -> float:
        """Score of the unit, without transforms."""
        if self.subject.depends_on_position:
            return self.robustness.clean.item()
        return fv.score(self.network, self.subject.unit, self.fit(self.subject.image)).item()

    def fit(self, image: Float[Tensor, "c h w"]) -> Float[Tensor, "1 c h2 w2"]:
        """Resize an image to the network's input size, keeping its aspect ratio where the network accepts that."""
        size = self.network.size
        return resize(image[None], size) if self.network.fixed_size else resize_to_cover(image, size)

    def rescore(self, images: Float[Tensor, "n c h w"] | None, views: int = IMAGE_VIEWS) -> fv.Rendering:
        """Score images without optimising them: a render of 0 steps.

        Args:
            images: Images of the case's size; `None` for `NOISE_IMAGES` images of initial noise.
            views: Number of random views.
        """
        param = fv.param.Image(self.size, batch=NOISE_IMAGES)
        if images is not None:
            param = fv.param.Image(self.size, batch=len(images), spatial=fv.param.Pixel(), color=fv.param.Clamped())
        return fv.render(
            self.network,
            self.subject.unit,
            param=param,
            start=images,
            transforms=self.subject.transforms,
            steps=0,
            robustness_views=views,
        )

    def robustness_of(self, rendering: fv.Rendering) -> Robustness:
        """Return the scores of a rendering.

        Raises:
            ModelError: The network does not accept images of this size.
        """
        if rendering.robustness is None:
            height, width = self.size
            raise fv.ModelError(
                f"{self.network.label} does not accept {self.subject.name}, which has {height}x{width} px; "
                "judge images of a size that it accepts"
            )
        return rendering.robustness


def percentiles(cases: Sequence[Case], folder: str | Path) -> list[float]:
    """Return for each case the share of photographs in which its unit scores lower than in its image.

    Units that depend on position are scored one by one, at the size of the image. All others of a network are scored
    together, at its input size, so the folder is read once.

    Args:
        cases: The cases.
        folder: A folder of photographs.

    Raises:
        OutputError: The folder or a photograph cannot be read.
    """
    shares = [0.0] * len(cases)
    for i, case in enumerate(cases):
        if case.subject.depends_on_position:
            scores = torch.cat(
                [
                    case.robustness_of(case.rescore(images, views=1)).clean
                    for images in _photographs(case.network, folder, case.size)
                ]
            )
            shares[i] = (scores < case.score).float().mean().item()
    others = [i for i, case in enumerate(cases) if not case.subject.depends_on_position]
    for network in {id(cases[i].network): cases[i].network for i in others}.values():
        mine = [i for i in others if cases[i].network is network]
        units = [cases[i].subject.unit for i in mine]
        scores = torch.cat([fv.score(network, units, images) for images in _photographs(network, folder, network.size)])
        for k, i in enumerate(mine):
            shares[i] = (scores[:, k] < cases[i].score).float().mean().item()
    return shares


def _photographs(network: fv.Network, folder: str | Path, size: Size) -> Iterator[Float[Tensor, "n c h w"]]:
    """Read the photographs of a folder in batches."""
    for batch in image_batches(folder, size=size, channels=network.channels, batch=PHOTOGRAPHS_AT_ONCE):
        yield batch.images
