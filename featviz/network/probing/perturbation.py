"""Find the meaning of ambiguous output dimensions by perturbing images."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor, nn

from featviz.interfaces import Shape, Size
from featviz.network.layout import Layout
from featviz.network.probing.passes import CallIndex, Passes, defined_channel, show
from featviz.network.probing.receptive_fields import MAX_PASS_PIXELS
from featviz.network.probing.token_grids import MAX_EXTRA, Codes, TokenOrder, agrees, contrasts, find_order
from featviz.network.trees import first_tensor

MAX_CODED_PASSES = 3
"""Maximum number of grids whose codes are tried. The first one covers all layers of most networks."""
MIN_POSITION_VARIATION = 0.02
"""Smallest variance of the contrasts along a dimension that is taken for one of positions."""


class Perturbation:
    """Measurements on perturbed images, for outputs whose shapes are ambiguous.

    Args:
        passes: Runs the network.
        unclear: Shapes of these outputs, batch first.
        layouts: Layouts of the other outputs; those of the unclear ones are added.
        refused: Why outputs have no layout; more are added.
    """

    def __init__(
        self,
        passes: Passes,
        unclear: dict[CallIndex, Shape],
        layouts: dict[CallIndex, Layout],
        refused: dict[CallIndex, str],
    ) -> None:
        self.passes, self.unclear, self.layouts, self.refused = passes, unclear, layouts, refused
        self.orders: dict[CallIndex, tuple[int, TokenOrder]] = {}  # dimension of the tokens, and their order
        self.maps: dict[CallIndex, Layout] = {}
        self.constant: set[CallIndex] = set()  # outputs without a batch dimension
        self.contradicting: dict[tuple[CallIndex, int], tuple[Tensor, Codes]] = {}  # dimensions in an unknown order
        self.size = passes.spec.size

    def tell(self) -> None:
        """Add to the layouts, and to the reasons why an output has none."""
        sequences = {call for call, shape in self.unclear.items() if len(shape) == 3}
        for codes in self._codes(sequences):
            self._measure(codes, self.unclear.keys() - self.orders.keys() - self.maps.keys())
        for call, shape in self.unclear.items():
            if call in self.constant:
                self.refused[call] = f"its output is {show(shape)}, whatever the number of images"
            elif len(shape) == 3:
                self.layouts[call] = self._sequence(call, shape)
            elif call in self.maps:
                self.layouts[call] = self.maps[call]
            else:
                found = f"which dimensions of its output {show(shape[1:])} are channels, rows and columns"
                self.refused[call] = f"it is unclear {found}"

    def _grids(self, count: int) -> list[Size]:
        """Return possible grids of a sequence, the most likely first."""
        height, width = self.size
        patches = [(side, side) for side in range(1, min(self.size) + 1)]
        patches += [(side, factor * side) for side in range(1, height + 1) for factor in (2, 4)]
        patches += [(factor * side, side) for side in range(1, width + 1) for factor in (2, 4)]
        cut = [(height // y, width // x) for y, x in patches if height % y == 0 and width % x == 0]
        grids = (grid for grid in {*self._maps, *cut} if math.prod(grid) > 1)
        fitting = [grid for grid in grids if 0 <= count - math.prod(grid) <= MAX_EXTRA]

        def unlikely(grid: Size) -> tuple[bool, bool, int, Size]:
            return grid not in self._maps, not self._is_square(grid), count - math.prod(grid), grid

        return sorted(fitting, key=unlikely)

    @cached_property
    def _maps(self) -> set[Size]:
        """Rows and columns of the feature maps."""
        found: set[Size] = set()
        for call, layout in self.layouts.items():
            if layout.kind == "map":
                shape, _ = self.passes.shapes_of(call)
                assert shape is not None
                rows, columns = (shape[i] for i in (1, 2, 3) if i != layout.channel)
                found.add((columns, rows) if layout.transposed else (rows, columns))
        return found

    def _is_square(self, grid: Size) -> bool:
        """Whether the cells of a grid are square."""
        return self.size[0] * grid[1] == self.size[1] * grid[0]

    def _codes(self, sequences: set[CallIndex]) -> Iterator[Codes]:
        """Yield codes to try: for each length the most likely grid, the finest first; then the second most likely."""
        grids = {count: self._grids(count)[:2] for call in sequences for count in self._lengths(call)}
        tried: list[Codes] = []
        for rank in (0, 1):
            ranked = [(found[rank], count) for count, found in grids.items() if len(found) > rank]
            for grid, count in sorted(ranked, key=lambda one: -math.prod(one[0])) or [((8, 8), 0)][rank:]:
                known = {self.unclear[call][dim] for call, (dim, _) in self.orders.items()}
                covered = any(codes.covers(grid) for codes in tried)
                if count not in known and not covered and len(tried) < MAX_CODED_PASSES:
                    tried.append(Codes(*grid))
                    yield tried[-1]

    def _lengths(self, call: CallIndex) -> list[int]:
        """Return the lengths of the dimensions that may be the tokens."""
        return [self.unclear[call][dim] for dim in self._sequence_dims(call)]

    def _sequence_dims(self, call: CallIndex) -> list[int]:
        """Return the dimensions that may be the tokens."""
        growing = self.passes.growing(call)
        channel = defined_channel(self.passes.parts[call[0]], self.unclear[call])
        return growing if len(growing) == 1 else [1 + 2 - channel] if channel else [1, 2]

    def _measure(self, codes: Codes, calls: set[CallIndex]) -> None:
        """Run the images of the codes, and record the response of some outputs."""
        images = codes.images(self.size, self.passes.spec.channels).to(self.passes.device)
        found: dict[CallIndex, list[list[Tensor]]] = {}
        number_of_images = 0

        def note(name: str, number: int, output: object) -> None:
            call, tensor = (name, number), first_tensor(output)
            if call not in calls or tensor is None:
                return
            tensor = tensor.detach().transpose(0, 1) if call in self.passes.tokens_first else tensor.detach()
            if len(tensor) != number_of_images:  # a constant with as many rows as there were images before
                self.constant.add(call)
                return
            first, second = ((tensor[2:] - tensor[i]).float().square() for i in (0, 1))
            dims = range(1, tensor.ndim)
            for kept, dim in zip(found.setdefault(call, [[] for _ in dims]), dims, strict=True):
                others = [other for other in dims if other != dim]
                kept.append(contrasts(first.sum(others), second.sum(others)).cpu())

        for some in images[2:].split(max(1, MAX_PASS_PIXELS // math.prod(self.size))):
            number_of_images = 2 + len(some)
            self.passes.watch(torch.cat([images[:2], some]), note)
        for call, parts in found.items():
            contrast = [torch.cat(part) for part in parts]
            if len(contrast) == 2:
                self._note_sequence(call, contrast, codes)
            else:
                self._note_map(call, contrast, codes)

    def _note_sequence(self, call: CallIndex, contrast: list[Tensor], codes: Codes) -> None:
        shape = self.unclear[call]
        for dim in self._sequence_dims(call):
            grids = self._grids(shape[dim])
            usual = [grid for grid in grids if grid in self._maps or self._is_square(grid)]
            found = find_order(contrast[dim - 1], codes, usual or grids)
            if found.order is not None:
                self.orders[call] = dim, found.order
                return
            if found.contradicts:
                self.contradicting[call, dim] = contrast[dim - 1], codes

    def _note_map(self, call: CallIndex, contrast: list[Tensor], codes: Codes) -> None:
        """Note the layout of a map: one dimension tells the rows of the images apart, and another one the columns."""
        dims = []
        for bits in (slice(0, codes.bits[0]), slice(codes.bits[0], None)):
            variation = [profile[bits].var(1).mean().item() if profile.shape[1] > 1 else 0.0 for profile in contrast]
            dims.append(variation.index(max(variation)))
            others = [each for i, each in enumerate(variation) if i != dims[-1]]
            if max(variation) < max(MIN_POSITION_VARIATION, 4 * max(others)):
                return
        if dims[0] != dims[1]:
            self.maps[call] = Layout("map", 1 + (0 + 1 + 2 - sum(dims)), transposed=dims[0] > dims[1])

    def _sequence(self, call: CallIndex, shape: Shape) -> Layout:
        """Return the layout of a 3-dimensional output."""
        growing = self.passes.growing(call)
        dim, order = self.orders.get(call) or self._inherit(call, shape)
        if dim == 0:
            dim = growing[0] if len(growing) == 1 else 0
        if dim == 0:
            channel = defined_channel(self.passes.parts[call[0]], shape)
            channel = channel or _channel_by_weight(self.passes.parts[call[0]], shape)
            dim = 1 + 2 - channel if channel else 2 if shape[2] == 1 else 1
        layout = Layout("tokens", 1 + 2 - dim)
        if order is None:
            return layout
        patch = self.size[0] // order.grid[0], self.size[1] // order.grid[1]
        _, other = self.passes.shapes_of(call)
        if other and order.order is None:
            rows, columns = (side // step for side, step in zip(self.passes.larger, patch, strict=True))
            if rows * columns + shape[dim] - math.prod(order.grid) != other[dim]:
                return layout  # the grid of another size is not that of these patches
        return replace(layout, patch=patch, prefix=order.prefix, order=order.order)

    def _inherit(self, call: CallIndex, shape: Shape) -> tuple[int, TokenOrder | None]:
        """Return the order that all other sequences of the same length have, where the output itself does not tell.

        The output of an attention is a mixture of all tokens: its positions are those of the queries, but perturbed
        images do not show that.
        """
        known = {(self.unclear[other][dim], order) for other, (dim, order) in self.orders.items() if other != call}
        for dim in self._sequence_dims(call):
            same = [order for length, order in known if length == shape[dim]]
            if len(same) == 1:
                contradicting = self.contradicting.get((call, dim))
                return dim, same[0] if contradicting is None or agrees(*contradicting, same[0]) else None
        return 0, None


def _channel_by_weight(part: nn.Module, shape: Shape) -> int:
    """Return the only dimension that is as long as the module's own vectors of weights; 0 if there is none."""
    lengths = {weight.numel() for weight in part.parameters(recurse=False) if weight.ndim == 1}
    dims = [dim for dim in range(1, len(shape)) if shape[dim] in lengths]
    return dims[0] if len(dims) == 1 else 0
