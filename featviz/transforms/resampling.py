"""Resampling of images by the affine map to which neighbouring geometric transforms are fused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from featviz.errors import SettingError, shown
from featviz.interfaces import Geometric, Padding, Shape, Size
from featviz.random import Generators

AffineMap = tuple[Float[Tensor, "n 3 3"], Size]
"""The map of each image from old to new pixel coordinates `(x, y, 1)`, and the new size."""

BILINEAR = 0
ZEROS, REFLECTION = 0, 2
"""Numbers of the interpolation and padding modes of `torch.grid_sampler`."""


def identity(n: int) -> Float[Tensor, "n 3 3"]:
    """Return maps that leave every pixel where it is.

    Args:
        n: Number of images.

    Returns:
        Identity matrices.
    """
    return torch.eye(3).repeat(n, 1, 1)


@dataclass(frozen=True)
class Warp:
    """Apply neighbouring geometric transforms with one resampling. `fuse` makes these.

    One resampling instead of several is faster, and it blurs the image once instead of several times.

    Args:
        steps: The transforms in the order in which they apply. Only the first may pad.
    """

    steps: tuple[Geometric, ...]

    def __post_init__(self) -> None:
        """Check the transforms."""
        if not isinstance(self.steps, tuple | list) or not all(isinstance(each, Geometric) for each in self.steps):
            raise SettingError(f"steps of Warp must be geometric transforms, got {shown(self.steps)}")
        object.__setattr__(self, "steps", tuple(self.steps))

    def draw(self, rng: Generators, shape: Shape) -> AffineMap:
        """Draw the map of each transform and multiply them."""
        matrix, size = identity(len(rng)), shape[1:]
        for step in self.steps:
            step_map, size = step.place(rng, size)
            matrix = step_map @ matrix
        return matrix, size

    def apply(self, images: Float[Tensor, "n c h w"], draw: AffineMap) -> Float[Tensor, "n c h2 w2"]:
        """Resample the images bilinearly."""
        return self._resample(images, draw, self._fill)

    def move(self, masks: Float[Tensor, "n c h w"], draw: AffineMap) -> Float[Tensor, "n c h2 w2"]:
        """Move masks as the images were moved. Padding is outside of every mask."""
        return self._resample(masks, draw, None if self._fill is None else 0.0)

    @property
    def _fill(self) -> float | None:
        return next((step.fill for step in self.steps if isinstance(step, Padding)), None)

    @staticmethod
    def _resample(images: Tensor, draw: AffineMap, fill: float | None) -> Tensor:
        """Resample images; those that shrink by 2 or more are first averaged over blocks of pixels.

        Bilinear interpolation reads 4 pixels. At half the size or less it would skip pixels, which aliases, and which
        leaves them without a gradient.
        """
        matrix, size = draw
        halvings = _halvings(matrix)
        if not halvings.any():
            return _warp(images, matrix, size, fill)
        # Images with the same number of halvings are resampled together, then put back into their order.
        views, groups = [], [(halvings == count).nonzero().flatten() for count in halvings.unique()]
        for group in groups:
            chosen = images.index_select(0, group.to(images.device, non_blocking=True))
            views.append(_warp(*_average_blocks(chosen, matrix[group], int(halvings[group[0]])), size, fill))
        order = torch.cat(groups).argsort().to(images.device, non_blocking=True)
        return torch.cat(views).index_select(0, order)


def _halvings(matrix: Float[Tensor, "n 3 3"]) -> Int64[Tensor, " n"]:
    """Return how many times the sides of each image are halved, rounded down: floor(-log2(sqrt(determinant)))."""
    area = matrix[:, 0, 0] * matrix[:, 1, 1] - matrix[:, 0, 1] * matrix[:, 1, 0]
    # 1e-4 keeps an exact half from being rounded down by floating-point errors.
    return area.abs().clamp(min=1e-6).log2().div(-2).add(1e-4).floor().clamp(min=0).long()


def _average_blocks(images: Tensor, matrix: Tensor, halvings: int) -> tuple[Tensor, Tensor]:
    """Average blocks of 2^halvings px, and return the map from the smaller images."""
    side = min(2**halvings, *images.shape[2:])
    if side == 1:
        return images, matrix
    # Block k covers the pixels side * k to side * k + side - 1, so its center is at side * k + (side - 1) / 2.
    from_blocks = identity(len(matrix))
    from_blocks[:, 0, 0] = from_blocks[:, 1, 1] = side
    from_blocks[:, 0, 2] = from_blocks[:, 1, 2] = (side - 1) / 2
    return F.avg_pool2d(images, side, ceil_mode=True), matrix @ from_blocks


def _warp(images: Tensor, matrix: Tensor, size: Size, fill: float | None) -> Tensor:
    """Resample bilinearly. The outside is filled with a value, or mirrors the image where `fill` is `None`."""
    grid = _grid(matrix, images, size)
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
        mode = BILINEAR, ctx.padding, True
        return torch.ops.aten.grid_sampler_2d_backward(gradient, placeholder, grid, *mode, [True, False])[0], None, None


def _grid(matrix: Float[Tensor, "n 3 3"], images: Float[Tensor, "n c h w"], size: Size) -> Float[Tensor, "n h2 w2 2"]:
    """Return where each pixel of the view comes from, as `torch.grid_sampler` expects it: x and y in [-1, 1].

    An affine map is the sum of a part that depends on the row and a part that depends on the column. So the grid is an
    outer sum of two vectors, with x and y as one complex number: one addition per pixel, which takes a hundredth of the
    time of a matrix product per pixel.
    """
    # Coordinate p of a side of n px becomes 2 * p / (n - 1) - 1, because -1 and 1 are the centers of the outer pixels.
    unit = torch.tensor([2 / max(1, side - 1) for side in (images.shape[3], images.shape[2])])
    inverse = torch.linalg.inv(matrix)[:, :2] * unit[:, None]
    inverse[:, :, 2] -= 1
    inverse = inverse.mT.contiguous().to(images, non_blocking=True)
    per_column, per_row, origin = torch.view_as_complex(inverse)[:, :, None].unbind(1)
    rows, columns = (torch.arange(side, device=images.device, dtype=images.dtype) for side in size)
    return torch.view_as_real((origin + per_row * rows)[:, :, None] + (per_column * columns)[:, None])
