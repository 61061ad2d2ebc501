"""Tell from perturbed images where in the image the positions of an output lie.

Two images are mixed: in each row (or column) of a grid of cells, either the first or the second one is shown. Which
rows show the second one follows a Gray code: mixture k shows it in all rows whose code has bit k set. A position of an
output belongs to a row with bit k set if its value for mixture k is closer to that for the second image than to that
for the first one. So log₂ images tell the row, and as many the column, of every token, in any order, for layers whose
positions each depend most on their own part of the image. Neighbouring rows differ in one bit of a Gray code, and the
finest stripes are two rows wide, so overlapping patches are told apart, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from featviz.interfaces import Size
from featviz.random import noise_images

REQUIRED_FIT, MIN_FIT = 0.5, 0.25
"""Smallest agreement of an order with the contrasts, in [-1, 1]: the mean over the bits, and that of each bit.

Of a wrong order, some bit agrees by chance only: by about 1 / √(number of tokens)."""
SURE_FIT = 0.6
"""Smallest agreement of each bit for a small grid, where chance is more likely."""
SURE_STRENGTH = 0.5
"""Smallest agreement of each bit for a small grid, times the mean variation of the contrast, in [0, 1]."""
CONTRADICTING_FIT = 0.1
"""An order whose worst bit agrees less than this is wrong, if the tokens have positions at all."""
STRONG_CONTRAST = 0.3
"""Mean variation of the contrast along the tokens above which these certainly have positions, in whatever order."""
MAX_EXTRA = 128
"""Largest number of tokens besides those of the patch grid: class token, registers, detection tokens.

There may not be more of them than patches, either."""
MIN_SURE_AREA = 16
"""Number of cells from which on an agreement is hardly chance."""
MAX_EXTRA_OF_SMALL = 8
"""Largest number of further tokens where chance must be ruled out: for small grids, and other orders than by rows."""


@dataclass(frozen=True)
class Codes:
    """Binary codes of the rows and columns of a grid.

    Args:
        rows: Number of rows of the grid.
        columns: Number of columns of the grid.
    """

    rows: int
    columns: int

    @property
    def bits(self) -> tuple[int, int]:
        """Number of bits of the row and of the column."""
        return _bits(self.rows), _bits(self.columns)

    def images(self, size: Size, channels: int) -> Float[Tensor, "n c h w"]:
        """Return the two images, and then their mixture for each bit of the row and the column.

        Args:
            size: Height and width in px.
            channels: Number of channels.
        """
        first, second = noise_images(2, channels, size)
        row = torch.arange(size[0]) * self.rows // size[0]
        column = torch.arange(size[1]) * self.columns // size[1]
        masks = [bit.view(-1, 1).expand(size) for bit in _code(row, self.bits[0])]
        masks += [bit.view(1, -1).expand(size) for bit in _code(column, self.bits[1])]
        return torch.stack([first, second, *(torch.where(mask, second, first) for mask in masks)])

    def covers(self, grid: Size) -> bool:
        """Whether a grid has these rows and columns, or halves of them, so that the first bits tell its cells."""
        pairs = zip(self, grid, strict=True)
        return all(fine % coarse == 0 and _is_power_of_2(fine // coarse) for fine, coarse in pairs)

    def __iter__(self) -> Iterator[int]:
        """Iterate over the number of rows and the number of columns."""
        return iter((self.rows, self.columns))

    def cells(self, contrast: Float[Tensor, "bits tokens"], grid: Size) -> Int[Tensor, " tokens"]:
        """Return the cell of each token on a grid that the codes cover, counted row by row.

        Args:
            contrast: As `contrasts` returns it, along the tokens.
            grid: Number of rows and columns.
        """
        row = _number(contrast[: _bits(grid[0])])
        column = _number(contrast[self.bits[0] :][: _bits(grid[1])])
        return torch.where(column < grid[1], row * grid[1] + column, -1)

    def fits(self, contrast: Float[Tensor, "bits tokens"], grid: Size) -> Float[Tensor, "used_bits prefixes"]:
        """Return how well each bit agrees with tokens that lie row by row after a prefix, in [-1, 1].

        Args:
            contrast: As `contrasts` returns it, along the tokens.
            grid: Number of rows and columns.
        """
        used = self._used(grid)
        row, column = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
        expected = torch.stack([*_code(row, _bits(grid[0])), *_code(column, _bits(grid[1]))]).flatten(1)
        windows = contrast[used].unfold(1, math.prod(grid), 1)
        agreement = (windows * (2.0 * expected[:, None] - 1)).sum(2)
        return agreement / windows.abs().sum(2).clamp(min=1e-12)

    def strength(self, contrast: Float[Tensor, "bits tokens"], grid: Size, prefix: int) -> Float[Tensor, " used_bits"]:
        """Return the mean absolute contrast of the tokens of a grid, for each bit that tells its cells.

        Args:
            contrast: As `contrasts` returns it, along the tokens.
            grid: Number of rows and columns.
            prefix: Number of tokens before those of the grid.
        """
        return contrast[self._used(grid), prefix : prefix + math.prod(grid)].abs().mean(1)

    def _used(self, grid: Size) -> list[int]:
        """Return the indices of the bits that tell the cells of a grid."""
        return [*range(_bits(grid[0])), *range(self.bits[0], self.bits[0] + _bits(grid[1]))]


def contrasts(
    from_first: Float[Tensor, "bits positions"], from_second: Float[Tensor, "bits positions"]
) -> Float[Tensor, "bits positions"]:
    """Return how much closer a position is to the second image than to the first, in [-1, 1].

    Args:
        from_first: Squared distance of each mixture's output to the first image's.
        from_second: Squared distance to the second image's.
    """
    return ((from_first - from_second) / (from_first + from_second)).nan_to_num()


@dataclass(frozen=True)
class TokenOrder:
    """Where the tokens of a sequence lie.

    Args:
        grid: Number of rows and columns.
        prefix: Number of tokens before those of the grid.
        order: Index of each cell's token among those of the grid, row by row; `None` if they are in this order.
    """

    grid: Size
    prefix: int
    order: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Found:
    """Result of comparing contrasts along a sequence.

    Args:
        order: The order that fits; `None` if none does.
        contradicts: Whether the tokens have positions that fit no order, so that no other layer's order is theirs.
    """

    order: TokenOrder | None
    contradicts: bool = False


def find_order(contrast: Float[Tensor, "bits tokens"], codes: Codes, grids: list[Size]) -> Found:
    """Find the order of tokens that fits best.

    Args:
        contrast: As `contrasts` returns it, along the tokens.
        codes: The codes of the images.
        grids: Grids that are possible. Those that the codes do not cover are left out.

    Returns:
        The order of the tokens, if one fits.
    """
    count, best, best_fit, best_fits = contrast.shape[1], None, 0.0, None
    fitting = [grid for grid in grids if codes.covers(grid) and math.prod(grid) > 1]
    for grid in fitting:
        area = math.prod(grid)
        small = area < MIN_SURE_AREA
        if not 0 <= count - area <= (MAX_EXTRA_OF_SMALL if small else min(area, MAX_EXTRA)):
            continue
        fits = codes.fits(contrast, grid)
        prefix = int(fits.mean(0).argmax())
        fit, lowest = fits[:, prefix].mean().item(), fits[:, prefix].min().item()
        if fit > best_fit:
            best_fit, best_fits = fit, fits[:, prefix]
            certain = lowest >= (SURE_FIT if small else MIN_FIT) and fit >= REQUIRED_FIT
            if small:  # a few tokens with little contrast agree by chance
                certain &= bool((codes.strength(contrast, grid, prefix) * best_fits).min() >= SURE_STRENGTH)
            best = TokenOrder(grid, prefix) if certain else None
    if best:
        return Found(best)
    permutation = max(
        (found for grid in fitting if (found := _permutation(contrast, codes, grid))),
        key=lambda found: math.prod(found.grid),
        default=None,
    )
    varies = (contrast - contrast.mean(1, keepdim=True)).abs().mean(1) > STRONG_CONTRAST
    # Attention over windows leaves no contrast within a window, so the fine bits tell nothing: no contradiction.
    wrong = varies if best_fits is None or len(best_fits) != len(varies) else varies & (best_fits < CONTRADICTING_FIT)
    return Found(permutation, contradicts=bool(wrong.any()) and not permutation)


def agrees(contrast: Float[Tensor, "bits tokens"], codes: Codes, order: TokenOrder) -> bool:
    """Return whether an order that is known from other layers agrees with contrasts.

    A few tokens may have a contrast of the wrong sign; `find_order` allows none.

    Args:
        contrast: As `contrasts` returns it, along the tokens.
        codes: The codes of the images.
        order: The order.
    """
    if not codes.covers(order.grid):
        return False
    tokens = contrast[:, order.prefix : order.prefix + math.prod(order.grid)]
    tokens = tokens if order.order is None else tokens[:, list(order.order)]
    fits = codes.fits(tokens, order.grid)[:, 0]
    return fits.mean().item() >= REQUIRED_FIT and fits.min().item() >= MIN_FIT


def _permutation(contrast: Float[Tensor, "bits tokens"], codes: Codes, grid: Size) -> TokenOrder | None:
    """Return the order of tokens of which each cell has exactly one; `None` if there is no such run of tokens."""
    area = math.prod(grid)
    if area < MIN_SURE_AREA or not 0 <= contrast.shape[1] - area <= MAX_EXTRA_OF_SMALL:
        return None
    cells, order = codes.cells(contrast, grid).unfold(0, area, 1).sort(dim=1)
    starts = (cells == torch.arange(area)).all(1).nonzero().flatten().tolist()
    strength = contrast.abs().mean(0).unfold(0, area, 1).mean(1)  # tokens without a place have little contrast
    start = max(starts, key=lambda start: strength[start].item(), default=None)
    return None if start is None else TokenOrder(grid, start, tuple(order[start].tolist()))


def _bits(count: int) -> int:
    return max(count - 1, 0).bit_length()


def _code(index: Tensor, bits: int) -> list[Tensor]:
    """Return the bits of the Gray code of whole numbers, the highest first."""
    return [((index ^ (index >> 1)) >> bit) & 1 == 1 for bit in reversed(range(bits))]


def _number(contrast: Float[Tensor, "bits tokens"]) -> Int[Tensor, " tokens"]:
    """Return the numbers whose Gray code has the bits set where the contrast is positive, the highest bit first."""
    bits = (contrast > 0).long().cumsum(0) % 2  # bit k of a number is the exclusive or of the code's bits down to k
    weights = torch.tensor([2**bit for bit in reversed(range(len(contrast)))], dtype=torch.long)
    return (bits * weights[:, None]).sum(0)


def _is_power_of_2(number: int) -> bool:
    return math.log2(number).is_integer()
