"""The one resampling that neighbouring geometric transforms become."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from featviz.interfaces import Geometric, Padding, Shape, Size
from featviz.random import Generators

Place = tuple[Float[Tensor, "n 3 3"], Size]

BILINEAR = 0
ZEROS, MIRRORED = 0, 2
"""How PyTorch's samplers number interpolation, and what lies outside of an image."""


def identity(n: int) -> Float[Tensor, "n 3 3"]:
    """Return maps that leave every pixel where it is."""
    return torch.eye(3).repeat(n, 1, 1)


@dataclass(frozen=True)
class Warp:
    """Neighbouring geometric transforms as one resampling.

    Args:
        steps: in the order in which they apply.
    """

    steps: tuple[Geometric, ...]

    def draw(self, rng: Generators, shape: Shape) -> Place:
        """Draw every step and multiply the maps."""
        matrix, size = identity(len(rng)), shape[1:]
        for step in self.steps:
            move, size = step.place(rng, size)
            matrix = move @ matrix
        return matrix, size

    def apply(self, images: Float[Tensor, "n c h w"], draw: Place) -> Float[Tensor, "n c h2 w2"]:
        """Resample once, bilinearly."""
        return self._resample(images, draw, self._fill)

    def move(self, masks: Float[Tensor, "n c h w"], draw: Place) -> Float[Tensor, "n c h2 w2"]:
        """Move masks as the images were moved; padding is outside of them."""
        return self._resample(masks, draw, None if self._fill is None else 0.0)

    @property
    def _fill(self) -> float | None:
        return next((step.fill for step in self.steps if isinstance(step, Padding)), None)

    @staticmethod
    def _resample(images: Tensor, draw: Place, fill: float | None) -> Tensor:
        matrix, size = draw
        halvings = _halvings(matrix)
        if not halvings.any():
            return _warp(images, matrix, size, fill)
        views, alike = [], [(halvings == times).nonzero().flatten() for times in halvings.unique()]
        for some in alike:
            these = images.index_select(0, some.to(images.device, non_blocking=True))
            views.append(_warp(*_halved(these, matrix[some], int(halvings[some[0]])), size, fill))
        back = torch.cat(alike).argsort().to(images.device, non_blocking=True)
        return torch.cat(views).index_select(0, back)


def _halvings(matrix: Float[Tensor, "n 3 3"]) -> Int64[Tensor, " n"]:
    """Say how often each image is at least halved."""
    area = matrix[:, 0, 0] * matrix[:, 1, 1] - matrix[:, 0, 1] * matrix[:, 1, 0]
    return area.abs().clamp(min=1e-6).log2().div(-2).add(1e-4).floor().clamp(min=0).long()


def _halved(images: Tensor, matrix: Tensor, times: int) -> tuple[Tensor, Tensor]:
    """Average squares of pixels, or a large shrink would skip most of them, and give the map from the smaller image."""
    side = min(2**times, *images.shape[2:])
    if side == 1:
        return images, matrix
    back = identity(len(matrix))
    back[:, 0, 0] = back[:, 1, 1] = side
    back[:, 0, 2] = back[:, 1, 2] = (side - 1) / 2
    return F.avg_pool2d(images, side, ceil_mode=True), matrix @ back


def _warp(images: Tensor, matrix: Tensor, size: Size, fill: float | None) -> Tensor:
    """Resample bilinearly, mirrored at the edges or filled."""
    grid = _grid(matrix, images, size)
    if fill is None:
        return _Sampled.apply(images, grid, MIRRORED)  # type: ignore[no-untyped-call,no-any-return]
    return _Sampled.apply(images - fill, grid, ZEROS) + fill  # type: ignore[no-untyped-call,no-any-return]


class _Sampled(torch.autograd.Function):
    """Resampling with a quicker way back: PyTorch's own finds the grid's gradient, too, asked for or not.

    For that it reads the images. Here it is given one number in the place of them all, which is read from the cache.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, grid: Tensor, padding: int) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.shape, ctx.padding = images.shape, padding
        return torch.grid_sampler(images, grid, BILINEAR, padding, True)

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (grid,), anything = ctx.saved_tensors, gradient.new_zeros(()).expand(ctx.shape)
        how = BILINEAR, ctx.padding, True
        return torch.ops.aten.grid_sampler_2d_backward(gradient, anything, grid, *how, [True, False])[0], None, None


def _grid(matrix: Float[Tensor, "n 3 3"], images: Float[Tensor, "n c h w"], size: Size) -> Float[Tensor, "n h2 w2 2"]:
    """Return where in the image, from -1 to 1, each pixel of the view comes from.

    Row by column as a sum of two lines, x and y being one complex number, which takes a hundredth of what a matrix
    product for each pixel does.
    """
    unit = torch.tensor([2 / max(1, side - 1) for side in (images.shape[3], images.shape[2])])
    back = torch.linalg.inv(matrix)[:, :2] * unit[:, None]
    back[:, :, 2] -= 1
    back = back.mT.contiguous().to(images, non_blocking=True)
    across, down, first = torch.view_as_complex(back)[:, :, None].unbind(1)
    rows, columns = (torch.arange(side, device=images.device, dtype=images.dtype) for side in size)
    return torch.view_as_real((first + down * rows)[:, :, None] + (across * columns)[:, None])
