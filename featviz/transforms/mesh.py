"""The image as the texture of a mesh, seen from random directions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from featviz.checks import check_number, check_two_axes
from featviz.errors import SettingError, shown
from featviz.interfaces import Shape
from featviz.io.mesh import SHAPES, Mesh, read_mesh, sampling_grid
from featviz.random import Generators
from featviz.transforms.alpha import CompositeAlpha, Spectrum

GOLDEN_ANGLE = 180 * (3 - math.sqrt(5))
"""Degrees between neighbouring directions of a Fibonacci lattice, which spreads any number of them evenly."""
MAX_VIEWS = 4096
"""Largest number of directions. Each is rasterised once and kept in memory."""


@dataclass(frozen=True)
class MeshView:
    """Show a mesh from a random direction; the image is its texture.

    Put it before all other transforms. The surfaces that are seen from `views` fixed directions are found once. The
    mesh lies over random noise, as in `CompositeAlpha`.

    Args:
        mesh: A `.glb`, `.obj`, `.ply`, `.stl` or `.off` file, or `"sphere"`, `"torus"`, `"capsule"` or `"box"`. A mesh
            is unwrapped by xatlas if one of its parts has no texture coordinates, or, in a `.glb` file, no material.
        size: Height and width of a view in px, in [8, 1024].
        views: Number of directions, in [1, 4096], spread evenly around the mesh.
        elevation: Largest angle in degrees of a camera above or below the horizon, in [0, 90].

    Raises:
        SettingError: A value is out of its range, or the mesh cannot be read.

    Source: Mordvintsev et al. 2018, https://doi.org/10.23915/distill.00012, "Style Transfer on 3D models".
    Differs: directions come from a fixed set, so that surfaces are found once; views are not shaded.
    """

    mesh: str
    size: int = 224
    views: int = 64
    elevation: float = 30.0

    def __post_init__(self) -> None:
        """Check the values, and read the mesh."""
        if not isinstance(self.mesh, str | Path):
            raise SettingError(
                f"mesh must be a file, or the name of a built-in mesh such as 'sphere', got {shown(self.mesh)}"
            )
        object.__setattr__(self, "mesh", str(self.mesh))
        check_number("size of MeshView", self.size, at_least=8, at_most=1024, whole=True, note="(px, default 224)")
        check_number("views of MeshView", self.views, at_least=1, at_most=MAX_VIEWS, whole=True, note="(default 64)")
        check_number("elevation of MeshView", self.elevation, at_least=0, at_most=90, note="(degrees, default 30)")
        _read(self.mesh)

    @property
    def files(self) -> tuple[str, ...]:
        """The file of the mesh, whose content a recipe remembers."""
        return () if self.mesh in SHAPES else (self.mesh,)

    def draw(self, rng: Generators, shape: Shape) -> tuple[Int[Tensor, " n"], Spectrum]:
        """Draw the direction of each view, and its background.

        Raises:
            SettingError: The images do not have two axes.
        """
        check_two_axes("MeshView", shape[1:], "leave it out")
        index = (rng.uniform(1)[:, 0] * self.views).long().clamp(max=self.views - 1)
        return index, CompositeAlpha().draw(rng, (shape[0] + 1, self.size, self.size))

    def apply(
        self, images: Float[Tensor, "n c h w"], draw: tuple[Int[Tensor, " n"], Spectrum]
    ) -> Float[Tensor, "n c size size"]:
        """Show the mesh with the images as its texture."""
        index, background = draw
        grids, covered = _surfaces(self, _version(self.mesh), images.device)
        index = index.to(images.device, non_blocking=True)
        views = F.grid_sample(images, grids[index].to(images), padding_mode="border", align_corners=False)
        return CompositeAlpha().apply(torch.cat([views, covered[index].to(images)], 1), background)

    def move(
        self, masks: Float[Tensor, "n masks h w"], draw: tuple[Int[Tensor, " n"], Spectrum]
    ) -> Float[Tensor, "n masks size size"]:
        """Show the mesh with the masks as its texture, over 0."""
        found = _surfaces(self, _version(self.mesh), masks.device)
        grids, covered = (each[draw[0].to(masks.device, non_blocking=True)].to(masks) for each in found)
        return F.grid_sample(masks, grids, padding_mode="border", align_corners=False) * covered

    @property
    def geometry(self) -> Mesh:
        """The mesh."""
        return _read(self.mesh)

    def directions(self) -> list[tuple[float, float]]:
        """Azimuth and elevation in degrees of each direction."""
        reach = math.sin(math.radians(self.elevation))
        heights = [reach * (1 - (2 * i + 1) / self.views) for i in range(self.views)]
        return [(i * GOLDEN_ANGLE % 360, math.degrees(math.asin(height))) for i, height in enumerate(heights)]


def _version(mesh: str) -> tuple[float, int]:
    """Return when a mesh's file changed, and its size; zeros for a mesh that has none."""
    try:
        found = Path(mesh).stat()
    except (OSError, ValueError):  # no file, or no name of one
        return 0.0, 0
    return found.st_mtime, found.st_size


def _read(mesh: str) -> Mesh:
    return _read_version(mesh, _version(mesh))


@lru_cache(maxsize=8)
def _read_version(mesh: str, _: tuple[float, int]) -> Mesh:
    return read_mesh(mesh)


@lru_cache(maxsize=4)
def _surfaces(
    view: MeshView, _: tuple[float, int], device: torch.device
) -> tuple[Float[Tensor, "views size size 2"], Float[Tensor, "views 1 size size"]]:
    """Return where in the texture each pixel of each view is, and which pixels show the mesh."""
    found = [view.geometry.surface(azimuth, elevation, view.size) for azimuth, elevation in view.directions()]
    grids = torch.stack([sampling_grid(uv) for uv, _ in found])
    covered = torch.stack([torch.from_numpy(seen)[None] for _, seen in found])
    return grids.to(device), covered.to(device)
