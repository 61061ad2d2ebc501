"""Resampling of images by the affine map to which neighbouring geometric transforms are fused."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Complex64, Float, Int64
from torch import Tensor

from featviz.errors import SettingError, shown
from featviz.interfaces import Geometric, Padding, Shape, Size, show_size
from featviz.network.neutral_state import neutral_state
from featviz.random import Generators

Matrices = Float[Tensor, "n axes1 axes1"]
"""The map of each image from old to new pixel coordinates: `(x, y, 1)`, and `(x, 1)` or `(x, y, z, 1)`."""

AffineMap = tuple[Matrices, Size]
"""The map of each image, and the new size."""

BILINEAR = 0
ZEROS, REFLECTION = 0, 2
"""Numbers of the interpolation and padding modes of `torch.grid_sampler`."""


def identity(n: int, axes: int = 2) -> Matrices:
    """Return maps that leave every pixel where it is.

    Args:
        n: Number of images.
        axes: Number of their spatial axes.

    Returns:
        Identity matrices.
    """
    return torch.eye(axes + 1).repeat(n, 1, 1)


@dataclass(frozen=True)
class Warp:
    """Apply neighbouring geometric transforms with one resampling. `fuse` makes these.

    One resampling instead of several is faster, and it blurs the image once instead of several times.

    Args:
        steps: The transforms in the order in which they apply. Only the first may pad.

    Raises:
        SettingError: A step is not geometric, or one after the first pads.
    """

    steps: tuple[Geometric, ...]

    def __post_init__(self) -> None:
        """Check the transforms."""
        if not isinstance(self.steps, tuple | list) or not all(isinstance(each, Geometric) for each in self.steps):
            raise SettingError(f"steps of Warp must be geometric transforms, got {shown(self.steps)}")
        if any(isinstance(each, Padding) for each in self.steps[1:]):
            raise SettingError(f"only the first of the steps of Warp may pad, got {shown(self.steps)}; use fuse")
        object.__setattr__(self, "steps", tuple(self.steps))

    def draw(self, rng: Generators, shape: Shape) -> Sampling:
        """Draw the map of each transform, multiply them, and invert the product."""
        matrix, size = identity(len(rng), len(shape) - 1), shape[1:]
        for step in self.steps:
            step_map, size = step.place(rng, size)
            matrix = step_map @ matrix
        return Sampling.of(matrix, shape[1:], size)

    def apply(self, images: Float[Tensor, "n c *size"], draw: Sampling) -> Float[Tensor, "n c *size2"]:
        """Resample the images bilinearly."""
        return _resample(images, draw, self._fill)

    def move(self, masks: Float[Tensor, "n c *size"], draw: Sampling) -> Float[Tensor, "n c *size2"]:
        """Move masks as the images were moved. Padding is outside of every mask."""
        return _resample(masks, draw, None if self._fill is None else 0.0)

    @property
    def _fill(self) -> float | None:
        return next((step.fill for step in self.steps if isinstance(step, Padding)), None)


Halvings = tuple[int, ...]
"""Numbers of halvings along x and y (and z)."""


class Sampling(NamedTuple):
    """Where the pixels of each view come from.

    Args:
        coordinates: Coefficients of x and y (and z) in the image, as `torch.grid_sampler` expects these: of the column
            and the row (and the plane) of a pixel of the view, and a constant.
        halvings: How many times x and y (and z) of each image are halved first, by averages over blocks of pixels.
            Bilinear interpolation reads 4 pixels; at half the size or less it would skip pixels, which aliases, and
            which leaves them without a gradient.
        size: Length of each axis of the views in px.
        used: The different rows of `halvings`, where it is on a GPU; `None` on the CPU, where they can be read at once.
    """

    coordinates: Float[Tensor, "n axes1 axes"]
    halvings: Int64[Tensor, "n axes"]
    size: Size
    used: tuple[Halvings, ...] | None = None

    @classmethod
    def of(cls, matrix: Matrices, old: Size, size: Size) -> Sampling:
        """Invert maps of pixel coordinates.

        Args:
            matrix: From pixels of the image to those of the view.
            old: Length of each axis of the images in px.
            size: Length of each axis of the views in px.

        Raises:
            SettingError: A map cannot be inverted, or the size is empty.
        """
        axes = len(size)
        if axes == 2:
            area = matrix[:, 0, 0] * matrix[:, 1, 1] - matrix[:, 0, 1] * matrix[:, 1, 0]
        else:
            area = torch.linalg.det(matrix[:, :axes, :axes])
        if not (area != 0).all() or not area.isfinite().all() or min(size) < 1:
            raise SettingError(
                f"`place` of a geometric transform must return maps that can be inverted, and a size of at least 1 px, "
                f"got a determinant of {area.abs().min():g} and {show_size(size)} px"
            )
        # A column of the matrix is a step of 1 px in the image, as it is seen in the view. Rounded down; 1e-4 keeps an
        # exact half from being rounded down by floating-point errors. A side of 1 px cannot be halved.
        step = torch.linalg.vector_norm(matrix[:, :axes, :axes], dim=1)
        halvings = step.clamp(min=1e-6).log2().neg().add(1e-4).floor().clamp(min=0)
        side = torch.minimum(2**halvings, torch.tensor(old[::-1], dtype=step.dtype))
        # Block k covers the pixels side * k to side * k + side - 1, so its centre is at side * k + (side - 1) / 2.
        inverse = torch.linalg.inv(matrix)[:, :axes]
        inverse[:, :, -1] -= (side - 1) / 2
        inverse = inverse / side[:, :, None]
        # Coordinate p of a side of n px becomes 2 * p / (n - 1) - 1, because -1 and 1 are the centres of the outer
        # pixels. There are ceil(n / side) blocks along a side.
        blocks = (torch.tensor(old[::-1]) / side).ceil()
        inverse = inverse * (2 / (blocks - 1).clamp(min=1))[:, :, None]
        inverse[:, :, -1] -= 1
        return cls(inverse.mT.contiguous(), halvings.long(), size)

    def to(self, device: torch.device) -> Sampling:
        """Copy the tensors to a device, and note the numbers of halvings.

        Args:
            device: Where the images are.
        """
        coordinates, halvings = (each.to(device, non_blocking=True) for each in self[:2])
        rows = set(map(tuple, self.halvings.tolist()))
        # Include all smaller numbers, so that most draws have the same set and share one CUDA graph.
        rows |= {(count,) * len(self.size) for count in range(max(map(min, rows)))}
        return Sampling(coordinates, halvings, self.size, tuple(sorted(rows)))


def _resample(images: Tensor, draw: Sampling, fill: float | None) -> Tensor:
    """Resample images bilinearly; those that shrink by 2 or more are first averaged over blocks of pixels."""
    if draw.used is None:
        return _resample_groups(images, draw, fill)
    # All images are sampled in each resolution, because the GPU would have to wait to learn which ones need which.
    first, *others = draw.used
    grid = _grid(draw.coordinates.to(images), draw.size)
    views = _warp(_average_blocks(images, first), grid, fill)
    for count in others:
        smaller = _warp(_average_blocks(images, count), grid, fill)
        chosen = draw.halvings[:, 0] == count[0]
        for axis in range(1, len(count)):
            chosen = chosen & (draw.halvings[:, axis] == count[axis])
        views = torch.where(chosen.view(-1, *[1] * (views.ndim - 1)), smaller, views)
    return views


def _resample_groups(images: Tensor, draw: Sampling, fill: float | None) -> Tensor:
    """Resample images with the same numbers of halvings together, and put them back into their order."""
    halvings = [tuple(row) for row in draw.halvings.tolist()]
    if len(set(halvings)) == 1:
        grid = _grid(draw.coordinates.to(images, non_blocking=True), draw.size)
        return _warp(_average_blocks(images, halvings[0]), grid, fill)
    order = sorted(range(len(halvings)), key=halvings.__getitem__)
    parts, first = [], 0
    for count in sorted(set(halvings)):
        group = torch.tensor(order[first : first + halvings.count(count)])
        chosen = images.index_select(0, group.to(images.device, non_blocking=True))
        grid = _grid(draw.coordinates[group].to(images, non_blocking=True), draw.size)
        parts.append(_warp(_average_blocks(chosen, count), grid, fill))
        first += len(group)
    back = torch.tensor(sorted(range(len(order)), key=order.__getitem__))
    return torch.cat(parts).index_select(0, back.to(images.device, non_blocking=True))


def _average_blocks(images: Tensor, halvings: Halvings) -> Tensor:
    """Average blocks of 2^halvings px along x and y (and z), or as many as the image has."""
    sides = tuple(min(2**count, length) for count, length in zip(halvings[::-1], images.shape[2:], strict=True))
    if max(sides) == 1:
        return images
    if images.ndim != 4:
        pool = F.avg_pool1d if images.ndim == 3 else F.avg_pool3d
        return pool(images, sides, ceil_mode=True)
    if images.is_cuda and not any(length % side for length, side in zip(images.shape[2:], sides, strict=True)):
        height, width = sides  # several times as fast there as pooling
        return images.unflatten(3, (-1, width)).unflatten(2, (-1, height)).mean((3, 5))
    return F.avg_pool2d(images, sides, ceil_mode=True)


def _warp(images: Tensor, grid: Tensor, fill: float | None) -> Tensor:
    """Resample bilinearly. The outside is filled with a value, or mirrors the image where `fill` is `None`."""
    if images.ndim == 3:  # a signal is sampled as an image of one row
        return _sample(images[:, :, None], grid, fill)[:, :, 0]
    return _sample(images, grid, fill)


def _sample(images: Tensor, grid: Tensor, fill: float | None) -> Tensor:
    if fill is None:
        return _GridSample.apply(images, grid, REFLECTION)  # type: ignore[no-untyped-call,no-any-return]
    # The sampler pads with 0 only, so subtract the fill before and add it after.
    return _GridSample.apply(images - fill, grid, ZEROS) + fill  # type: ignore[no-untyped-call,no-any-return]


class _GridSample(torch.autograd.Function):
    """`torch.grid_sampler` without the gradient of the grid, and so without the images in the backward pass.

    PyTorch's backward function reads the images for the gradient of the grid, even where it is not needed. The gradient
    of the images needs only the grid, because sampling is linear in them. So the backward pass gets a single zero,
    expanded to the shape of the images: it is read from the cache, and the images need not be kept in memory.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, grid: Tensor, padding: int) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.shape, ctx.padding = images.shape, padding
        return torch.grid_sampler(images, grid, BILINEAR, padding, True)

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (grid,), placeholder = ctx.saved_tensors, gradient.new_zeros(()).expand(ctx.shape)
        mode, aten = (BILINEAR, ctx.padding, True), torch.ops.aten
        backward = aten.grid_sampler_2d_backward if grid.ndim == 4 else aten.grid_sampler_3d_backward
        return backward(gradient, placeholder, grid, *mode, [True, False])[0], None, None


def _grid(coordinates: Float[Tensor, "n axes1 axes"], size: Size) -> Float[Tensor, "n *size2 xyz"]:
    """Return where each pixel of the view comes from, as `torch.grid_sampler` expects it: x and y in [-1, 1].

    A signal gets y = 0, the only row of an image of one row.

    An affine map is the sum of a part that depends on the row and a part that depends on the column. So the grid is an
    outer sum of two vectors, with x and y as one complex number: one addition per pixel, which takes a hundredth of the
    time of a matrix product per pixel.
    """
    if len(size) != 2:
        return _grid_of_axes(coordinates, size)
    per_column, per_row, origin = torch.view_as_complex(coordinates)[:, :, None].unbind(1)
    rows, columns = _counting(size[0], coordinates.device), _counting(size[1], coordinates.device)
    return torch.view_as_real((origin + per_row * rows)[:, :, None] + (per_column * columns)[:, None])


def _grid_of_axes(coordinates: Float[Tensor, "n axes1 axes"], size: Size) -> Float[Tensor, "n *size2 xyz"]:
    """Return the grid of a signal or a volume as an outer sum of one vector for each axis."""
    *per_axis, grid = coordinates[(slice(None), slice(None), *[None] * len(size))].unbind(1)  # (n, 1 …, axes) each
    for i, side in enumerate(reversed(size)):  # columns first
        index = torch.arange(side, device=coordinates.device, dtype=coordinates.dtype)
        grid = grid + per_axis[i] * index.view(-1, *[1] * (i + 1))
    return torch.cat([grid, torch.zeros_like(grid)], -1)[:, None] if len(size) == 1 else grid


@lru_cache(maxsize=64)
@neutral_state()
def _counting(side: int, device: torch.device) -> Complex64[Tensor, " side"]:
    """Return 0, 1, 2 … as complex numbers, for products with complex coordinates."""
    return torch.arange(side, device=device).to(torch.complex64)
