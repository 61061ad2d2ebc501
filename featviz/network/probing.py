"""Find the layers of a network by running it: which dimension of an output is which, and where its positions lie."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor, nn

from featviz.interfaces import Size
from featviz.network.activations import OUTPUT, Layout, first_tensor, tensors_in
from featviz.network.hooks import PassDone, watch_outputs
from featviz.network.input_spec import InputSpec
from featviz.network.layers import Layer, Probed, Shape
from featviz.network.modules import noticed_checkpointing
from featviz.network.token_grids import (
    MAX_EXTRA,
    Codes,
    TokenOrder,
    contrasts,
    find_order,
)
from featviz.network.working_copy import working_copy
from featviz.random import Chance

CHANNELS_LAST_MODULES = (nn.Linear, nn.LayerNorm, nn.MultiheadAttention, nn.Embedding)
"""Modules whose output has its channels last, whatever its shape, unless a subclass replaces `forward`."""
CHANNELS_FIRST_MODULES = (
    nn.Conv1d, nn.Conv2d, nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.InstanceNorm2d, nn.AvgPool1d, nn.AvgPool2d,
    nn.MaxPool1d, nn.MaxPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Upsample,
    nn.PixelShuffle,
)  # fmt: skip
"""Modules whose output has its channels as dimension 1, unless a subclass replaces `forward`."""
FIRST_BATCH, SECOND_BATCH = 2, 3
"""Number of images in the first two passes. They differ, so that the batch dimension can be recognised."""
MAX_PASS_PIXELS = 8 * 224**2
"""Number of pixels of the images that run at once on perturbed images."""
MAX_CODED_PASSES = 3
"""Maximum number of grids whose codes are tried. The first one covers all layers of most networks."""
MIN_POSITION_VARIATION = 0.02
"""Smallest variance of the contrasts along a dimension that is taken for one of positions."""
MAX_TOKEN_PARAMETERS = 32
"""Maximum number of parameters that are tried as the vector of a class token or register."""
READ_RATIO = 10
"""A token counts as read by the output if its gradient is this many times that of the mean patch."""

Call = tuple[str, int]
"""Name of a module, and the number of the call in one pass, from 0."""


def probe(module: nn.Module, spec: InputSpec, like: Tensor) -> Probed:
    """Find the layers of a network, and tell the dimensions of their outputs apart.

    - The network runs on 2 images of its own size, then on 3 images of a larger size with another aspect ratio. The
      dimension of an output that goes from 2 to 3 is the batch, dimensions that grow with the size are positions, and
      the one that stays the same is the channels. Where the network accepts one size only, the second pass tells about
      the layers before the refusal.
    - Where there are tokens, or the dimensions are still unclear, it runs on perturbed images: see `token_grids`.
    - The parameters of class tokens and registers are perturbed, too, to find which token is which.

    Args:
        module: The network. It is not changed.
        spec: What it expects of its input.
        like: A weight, whose device and precision the input gets.

    Returns:
        The layer table and further properties of the network.
    """
    return _Probing(module, spec, like).result()


def raise_unless_size_error(error: Exception) -> None:
    """Raise an error again unless it can mean that the network refuses the size of its input.

    Modules refuse a size with errors of any type and text. Only running out of memory certainly means something else.

    Args:
        error: What the forward pass raised.

    Raises:
        Exception: The same error, if it is about memory.
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "allocate memory" in str(error):
        raise error


@dataclass
class _Record:
    """Shapes of the outputs in one pass, by call, in the order of the calls; `None` for an output without tensors."""

    shapes: dict[Call, Shape | None] = field(default_factory=dict)
    items: dict[str, Shape] = field(default_factory=dict)  # shapes of the tensors in the network's output, by path
    draws: bool = False

    def note(self, name: str, call: int, output: object) -> None:
        tensor = first_tensor(output)
        self.shapes[name, call] = None if tensor is None else tuple(tensor.shape)
        if name == OUTPUT:
            self.items = {path: tuple(each.shape) for path, each in tensors_in(output).items() if each.ndim}

    @cached_property
    def counts(self) -> dict[str, int]:
        """Number of calls of each module, in the order of the last calls."""
        found: dict[str, int] = {}
        for name, call in self.shapes:
            found.pop(name, None)
            found[name] = call + 1
        return found


class _Probing:
    """The passes over one network, and what follows from them."""

    def __init__(self, module: nn.Module, spec: InputSpec, like: Tensor) -> None:
        self.module, self.spec = module, spec
        self.normalise, self.device = spec.normaliser(like), like.device
        self.parts = dict(module.named_modules())
        self.first, self.memory_format, self.writes_weights = self._first_pass()
        self.second, self.larger, self.fixed_size = self._larger_pass()
        self.tokens_first = {
            call for call, shape in self.first.shapes.items() if shape and self._has_tokens_first(call, shape)
        }

    def result(self) -> Probed:
        """Return what is known after all passes."""
        layouts, refused = self._layouts()
        layers = {call: self._layer(call, layout) for call, layout in layouts.items()}
        last = {name: count - 1 for name, count in self.first.counts.items()}
        table = {name: layers[name, call] for name, call in last.items() if (name, call) in layers}
        numbered = {
            f"{name}#{call + 1}": replace(layer, name=f"{name}#{call + 1}", calls=1)
            for (name, call), layer in layers.items()
            if last[name]
        }
        reasons = {name: refused[name, call] for name, call in last.items() if (name, call) in refused}
        items = self.first.items if len(self.first.items) > 1 else {}
        vectors = {path: shape for path, shape in items.items() if shape[0] == FIRST_BATCH and len(shape) == 2}
        return Probed(
            table,
            self.fixed_size,
            self.memory_format,
            draws=self.first.draws,
            calls=numbered,
            refused=reasons,
            outputs={
                f"output.{path}": Layer(f"output.{path}", Layout("vector"), shape[1:], item=path)
                for path, shape in vectors.items()
            },
            writes_weights=self.writes_weights,
            checkpointed=self.checkpointed,
        )

    # ------------------------------------------------------------------------------------------ passes

    def _grey(self, count: int, size: Size) -> Tensor:
        return torch.full((count, self.spec.channels, *size), 0.5, device=self.device)

    def _watch(
        self, images: Float[Tensor, "n c h w"], note: Callable[[str, int, object], None], copy: nn.Module | None = None
    ) -> Chance:
        """Run a working copy on images in [0, 1]; return the random state that it used."""
        copy = working_copy(self.module, share_weights=not self.writes_weights) if copy is None else copy
        chance = Chance(self.device)
        with chance():
            watch_outputs(copy, self.normalise(images).contiguous(memory_format=self.memory_format), note)
        return chance

    def _first_pass(self) -> tuple[_Record, torch.memory_format, bool]:
        """Run the network at its own size, with channels last in memory if it allows that."""
        self.writes_weights = True  # not known yet: this pass runs on copied weights
        for self.memory_format in (torch.channels_last, torch.contiguous_format):
            record, copy = _Record(), working_copy(self.module, share_weights=False)
            try:
                with noticed_checkpointing() as checkpointed:
                    record.draws = self._watch(self._grey(FIRST_BATCH, self.spec.size), record.note, copy).used
                self.checkpointed = bool(checkpointed)
                break
            except Exception:
                # Feature maps that are flattened with `view` must be contiguous. If the network is broken instead, the
                # contiguous pass fails too, and its error surfaces.
                if self.memory_format is torch.contiguous_format:
                    raise
        pairs = zip(copy.parameters(), self.module.parameters(), strict=False)
        return record, self.memory_format, any(not torch.equal(mine, own) for mine, own in pairs if own.numel())

    def _larger_pass(self) -> tuple[_Record, Size, bool]:
        """Run the network at a larger size.

        Returns:
            The record, the last size that was tried, and whether all were refused. The record of a refused size is
            kept, because it tells about the layers before the one that refused.
        """
        size = self.spec.size
        # The second size is a multiple of the network's own, for networks that accept multiples of some number only.
        for larger in ((size[0] + 32, size[1] + 64), (2 * size[0], 3 * size[1])):
            record = _Record()
            try:
                self._watch(self._grey(SECOND_BATCH, larger), record.note)
                return record, larger, False
            except Exception as error:
                raise_unless_size_error(error)
        return record, larger, True

    def _has_tokens_first(self, call: Call, shape: Shape) -> bool:
        """Whether an output is (tokens, batch, channels), the default of PyTorch's transformer layers."""
        other = self.second.shapes.get(call)
        batch_is_second = len(shape) == 3 and shape[0] != FIRST_BATCH == shape[1]
        return batch_is_second and (other is None or other[1:2] == (SECOND_BATCH,))

    def _shapes(self, call: Call) -> tuple[Shape | None, Shape | None]:
        """Return the shapes of both passes, batch first."""
        found = self.first.shapes.get(call), self.second.shapes.get(call)
        if call not in self.tokens_first:
            return found
        first, second = ((shape[1], shape[0], *shape[2:]) if shape else None for shape in found)
        return first, second

    # ------------------------------------------------------------------------------------------ layouts

    def _layouts(self) -> tuple[dict[Call, Layout], dict[Call, str]]:
        """Return the layout of each output that can be addressed, and why the others cannot."""
        layouts: dict[Call, Layout] = {}
        refused: dict[Call, str] = {}
        unclear: dict[Call, Shape] = {}
        for call in self.first.shapes:
            shape, other = self._shapes(call)
            if shape is None:
                refused[call] = "its output contains no tensor"
            elif shape[:1] != (FIRST_BATCH,) or (other and (other[0] != SECOND_BATCH or len(other) != len(shape))):
                if other and other[:1] == (SECOND_BATCH,) and shape[:1] == (FIRST_BATCH,):
                    refused[call] = "the number of dimensions of its output depends on the size of the image"
                else:
                    refused[call] = (
                        f"its output for {FIRST_BATCH} images is {_show(shape)}, whose first dimension is not the "
                        "image, as where windows are cut out of the images"
                    )
            elif len(shape) <= 2:
                layouts[call] = Layout("vector")
            elif len(shape) == 3:
                unclear[call] = shape
            elif len(shape) == 4:
                found = self._map(call, shape, other)
                if isinstance(found, Layout):
                    layouts[call] = found
                elif found:
                    refused[call] = found
                else:
                    unclear[call] = shape
            else:
                found = f"its output for one image is {_show(shape[1:])}"
                refused[call] = f"{found}, which is not a feature map, token sequence or vector"
        if unclear:
            _Perturbed(self, unclear, layouts, refused).tell()
        return layouts, refused

    def growing(self, call: Call) -> list[int]:
        """Return the dimensions that grow with the size of the image."""
        shape, other = self._shapes(call)
        return [i for i in range(1, len(shape)) if other[i] != shape[i]] if shape and other else []

    def _map(self, call: Call, shape: Shape, other: Shape | None) -> Layout | str | None:
        """Return the layout of a 4-dimensional output, why it has none, or `None` if its growth does not tell."""
        growing = self.growing(call)
        if len(growing) == 2 and other:
            one, two = growing
            lengths = {shape[1:] for shape in self.first.shapes.values() if shape and len(shape) == 3}
            if shape[one] == shape[two] and other[one] == other[two] and any(shape[one] in both for both in lengths):
                return "its output is a matrix of tokens by tokens, as attention weights are"
            more = [other[i] - shape[i] for i in growing]
            by = [self.larger[i] - self.spec.size[i] for i in (0, 1)]
            # Rows grow as the height does, columns as the width: then more[0] / by[0] = more[1] / by[1].
            straight, across = abs(more[0] * by[1] - more[1] * by[0]), abs(more[0] * by[0] - more[1] * by[1])
            if min(straight, across) > sum(by):  # more than rounding explains
                return "its output has two dimensions that grow, but not as the sides of the image do"
            return Layout("map", 1 + 2 + 3 - sum(growing), transposed=across < straight)
        if len(growing) == 1 and other:
            rest = [i for i in (1, 2, 3) if i not in growing]
            if not any(shape[i] == 1 for i in rest):
                return "its output has one dimension of positions and two others, as heads and their channels"
        if shape[2:] == (1, 1):
            return Layout("map", 1)
        # A linear layer or a normalisation of the last dimension may have heads and tokens before it.
        return Layout("map", 1) if _defined_channel(self.parts[call[0]], shape) == 1 else None

    def _layer(self, call: Call, layout: Layout) -> Layer:
        shape, other = self._shapes(call)
        assert shape is not None
        layout = replace(layout, batch=int(call in self.tokens_first))
        layer = Layer(call[0], layout, shape[1:] or (1,), calls=self.first.counts[call[0]])
        return replace(layer, stride=self._stride(layer, other))

    def _stride(self, layer: Layer, other: Shape | None) -> int:
        """Return the distance in px of neighbouring columns of a map; 0 where it has one column or row only."""
        if layer.layout.kind != "map" or min(layer.map_size) == 1:
            return 0
        size, larger = self.spec.size, self.larger
        # The growth of the map is exact also for convolutions without padding, whose map is smaller than size / stride.
        if other and (more := replace(layer, shape=other[1:]).map_size[1] - layer.map_size[1]) > 0:
            return round((larger[1] - size[1]) / more)
        return round(size[1] / layer.map_size[1])


class _Perturbed:
    """What perturbed images and parameters tell about outputs whose shapes do not tell enough."""

    def __init__(
        self, probing: _Probing, unclear: dict[Call, Shape], layouts: dict[Call, Layout], refused: dict[Call, str]
    ) -> None:
        self.probing, self.unclear, self.layouts, self.refused = probing, unclear, layouts, refused
        self.orders: dict[Call, tuple[int, TokenOrder]] = {}  # dimension of the tokens, and their order
        self.maps: dict[Call, Layout] = {}
        self.constant: set[Call] = set()  # outputs without a batch dimension
        self.contradicting: set[tuple[Call, int]] = set()  # dimensions with positions in an unknown order
        self.size = probing.spec.size

    def tell(self) -> None:
        """Add to the layouts, and to the reasons why an output has none."""
        sequences = {call for call, shape in self.unclear.items() if len(shape) == 3}
        for codes in self._codes(sequences):
            self._measure(codes, self.unclear.keys() - self.orders.keys() - self.maps.keys())
        for call, shape in self.unclear.items():
            if call in self.constant:
                self.refused[call] = f"its output is {_show(shape)}, whatever the number of images"
            elif len(shape) == 3:
                self.layouts[call] = self._sequence(call, shape)
            elif call in self.maps:
                self.layouts[call] = self.maps[call]
            else:
                found = f"which dimensions of its output {_show(shape[1:])} are channels, rows and columns"
                self.refused[call] = f"perturbed images do not tell {found}"
        self._name_special_tokens()

    # ------------------------------------------------------------------------------------------ perturbed images

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
        found = set()
        for call, layout in self.layouts.items():
            if layout.kind == "map":
                shape, _ = self.probing._shapes(call)
                assert shape is not None
                rows, columns = (shape[i] for i in (1, 2, 3) if i != layout.channel)
                found.add((rows, columns))
        return found

    def _is_square(self, grid: Size) -> bool:
        """Whether the cells of a grid are square."""
        return self.size[0] * grid[1] == self.size[1] * grid[0]

    def _codes(self, sequences: set[Call]) -> Iterator[Codes]:
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

    def _lengths(self, call: Call) -> list[int]:
        """Return the lengths of the dimensions that may be the tokens."""
        return [self.unclear[call][dim] for dim in self._sequence_dims(call)]

    def _sequence_dims(self, call: Call) -> list[int]:
        """Return the dimensions that may be the tokens."""
        growing = self.probing.growing(call)
        channel = _defined_channel(self.probing.parts[call[0]], self.unclear[call])
        return growing if len(growing) == 1 else [1 + 2 - channel] if channel else [1, 2]

    def _measure(self, codes: Codes, calls: set[Call]) -> None:
        """Run the images of the codes, and note what they tell about some outputs."""
        images = codes.images(self.size, self.probing.spec.channels).to(self.probing.device)
        found: dict[Call, list[list[Tensor]]] = {}
        number_of_images = 0

        def note(name: str, number: int, output: object) -> None:
            call, tensor = (name, number), first_tensor(output)
            if call not in calls or tensor is None:
                return
            tensor = tensor.detach().transpose(0, 1) if call in self.probing.tokens_first else tensor.detach()
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
            self.probing._watch(torch.cat([images[:2], some]), note)
        for call, parts in found.items():
            contrast = [torch.cat(part) for part in parts]
            if len(contrast) == 2:
                self._note_sequence(call, contrast, codes)
            else:
                self._note_map(call, contrast, codes)

    def _note_sequence(self, call: Call, contrast: list[Tensor], codes: Codes) -> None:
        shape = self.unclear[call]
        for dim in self._sequence_dims(call):
            grids = self._grids(shape[dim])
            usual = [grid for grid in grids if grid in self._maps or self._is_square(grid)]
            found = find_order(contrast[dim - 1], codes, usual or grids)
            if found.order is not None:
                self.orders[call] = dim, found.order
                return
            if found.contradicts:
                self.contradicting.add((call, dim))

    def _note_map(self, call: Call, contrast: list[Tensor], codes: Codes) -> None:
        """Note the layout of a map: one dimension tells the rows of the images apart, and another one the columns."""
        dims = []
        for bits in (slice(0, codes.bits[0]), slice(codes.bits[0], None)):
            variation = [profile[bits].var(1).mean().item() if profile.shape[1] > 1 else 0.0 for profile in contrast]
            dims.append(variation.index(max(variation)))
            others = [each for i, each in enumerate(variation) if i != dims[-1]]
            if max(variation) < max(MIN_POSITION_VARIATION, 4 * max(others)):
                return
        if dims[0] != dims[1]:
            self.maps[call] = Layout("map", 1 + 0 + 1 + 2 - sum(dims), transposed=dims[0] > dims[1])

    # ------------------------------------------------------------------------------------------ sequences

    def _sequence(self, call: Call, shape: Shape) -> Layout:
        """Return the layout of a 3-dimensional output."""
        growing = self.probing.growing(call)
        dim, order = self.orders.get(call) or self._inherited(call, shape)
        if dim == 0:
            dim = growing[0] if len(growing) == 1 else 0
        if dim == 0:
            channel = _defined_channel(self.probing.parts[call[0]], shape)
            channel = channel or _channel_by_weight(self.probing.parts[call[0]], shape)
            dim = 1 + 2 - channel if channel else 2 if shape[2] == 1 else 1
        layout = Layout("tokens", 1 + 2 - dim)
        if order is None:
            return layout
        patch = self.size[0] // order.grid[0], self.size[1] // order.grid[1]
        _, other = self.probing._shapes(call)
        if other and order.order is None:
            rows, columns = (side // step for side, step in zip(self.probing.larger, patch, strict=True))
            if rows * columns + shape[dim] - math.prod(order.grid) != other[dim]:
                return layout  # the grid of another size is not that of these patches
        return replace(layout, patch=patch, prefix=order.prefix, order=order.order)

    def _inherited(self, call: Call, shape: Shape) -> tuple[int, TokenOrder | None]:
        """Return the order that all other sequences of the same length have, where the output itself does not tell.

        The output of an attention is a mixture of all tokens: its positions are those of the queries, but perturbed
        images do not show that.
        """
        known = {(self.unclear[other][dim], order) for other, (dim, order) in self.orders.items() if other != call}
        for dim in self._sequence_dims(call):
            same = [order for length, order in known if length == shape[dim]]
            if len(same) == 1:
                return dim, None if (call, dim) in self.contradicting else same[0]
        return 0, None

    # ------------------------------------------------------------------------------------------ tokens without a place

    def _name_special_tokens(self) -> None:
        """Name the tokens besides those of the grid, by perturbing the parameters that may be their vectors."""
        extras: dict[tuple[int, int, int], list[Call]] = {}  # by length, prefix and number of tokens without a place
        for call in self.unclear:
            layout = self.layouts.get(call)
            if layout and layout.kind == "tokens" and layout.patch:
                length = self.unclear[call][1 + 2 - layout.channel]
                grid = (self.size[0] // layout.patch[0]) * (self.size[1] // layout.patch[1])
                if length > grid:
                    extras.setdefault((length, layout.prefix, length - grid), []).append(call)
        for (length, prefix, count), calls in extras.items():
            after = count - prefix
            indices = [*range(prefix), *range(-after, 0)]
            dim = 1 + 2 - self.layouts[calls[0]].channel
            class_tokens = self._class_tokens(calls, dim, length, indices)
            names, registers = [], 0
            for index in indices:
                if index in class_tokens:
                    names.append(("cls", index))
                else:
                    names.append((f"reg{registers}", index))
                    registers += 1
            for call in calls:
                self.layouts[call] = replace(self.layouts[call], special=tuple(names))

    def _class_tokens(self, calls: list[Call], dim: int, length: int, indices: list[int]) -> list[int]:
        """Return the index of the class token; none if there is no such token."""
        known: dict[int, str] = {}
        places = {index % length: index for index in indices}
        for name in self._token_parameters(len(indices)):
            changed = self._changed_tokens(name, calls[0], dim)
            if changed and changed <= places.keys():
                known.update({places[position]: name.rpartition(".")[2].lower() for position in changed})
            if len(known) == len(indices):
                break
        named = [index for index in indices if re.search("cls|class", known.get(index, ""))]
        if named:
            return named[:1]
        unknown = [i for i in indices if not re.search("reg|stor|dist|det|mem|mask|prompt", known.get(i, ""))]
        return self._read_token(calls[-1], dim, unknown)[:1] if unknown else []

    def _token_parameters(self, count: int) -> list[str]:
        """Return the names of parameters that may hold the vectors of up to `count` tokens, the likely ones first."""
        candidates = []
        for owner, part in self.probing.parts.items():
            if type(part).__module__.startswith("torch.nn"):
                continue
            for name, weight in part.named_parameters(recurse=False):
                rows = weight.numel() // max(1, weight.shape[-1]) if weight.ndim else 0
                if 1 <= rows <= count and (weight.ndim > 1 or "class" in name or "cls" in name):
                    candidates.append(f"{owner}.{name}" if owner else name)
        likely = re.compile("cls|class|reg|token|stor")
        return sorted(candidates, key=lambda name: not likely.search(name.rpartition(".")[2]))[:MAX_TOKEN_PARAMETERS]

    def _changed_tokens(self, parameter: str, call: Call, dim: int) -> set[int]:
        """Return the indices of the tokens of an output that change with a parameter."""
        outputs = []
        for shift in (0.0, 1.0):
            copy = working_copy(self.probing.module, share_weights=False)
            weight = copy.get_parameter(parameter)
            weight.data = weight.data + shift
            found = self._output(call, copy)
            if found is None:
                return set()
            outputs.append(found[:1].movedim(dim, 1).flatten(2)[0])
        return set((outputs[0] != outputs[1]).any(1).nonzero().flatten().tolist())

    def _output(self, call: Call, copy: nn.Module) -> Tensor | None:
        """Return one output for a grey image, batch first, and end the pass there."""
        found: list[Tensor] = []

        def note(name: str, number: int, output: object) -> None:
            tensor = first_tensor(output)
            if (name, number) == call and tensor is not None:
                found.append(tensor.detach().transpose(0, 1) if call in self.probing.tokens_first else tensor.detach())
                raise PassDone

        self.probing._watch(self.probing._grey(FIRST_BATCH, self.size), note, copy)
        return found[0] if found else None

    def _read_token(self, call: Call, dim: int, indices: list[int]) -> list[int]:
        """Return which tokens of an output the network's own output reads much more than the patches."""
        copy, tensors, outputs = working_copy(self.probing.module), [], []

        def note(name: str, number: int, output: object) -> None:
            tensor = first_tensor(output)
            if (name, number) == call and tensor is not None and tensor.requires_grad:
                tensors.append(tensor)
            if not name and tensor is not None and tensor.is_floating_point():
                outputs.append(tensor)

        with Chance(self.probing.device)():
            images = self.probing.normalise(self.probing._grey(1, self.size))
            watch_outputs(copy, images, note, keep_graph=True)
        if not tensors or not outputs or outputs[0].ndim != 2 or not outputs[0].requires_grad:
            return []
        with torch.inference_mode(False), torch.enable_grad():
            (gradient,) = torch.autograd.grad(outputs[0].square().sum(), tensors[-1], allow_unused=True)
        if gradient is None:
            return []
        gradient = gradient.transpose(0, 1) if call in self.probing.tokens_first else gradient
        read = gradient.movedim(dim, 1)[0].flatten(1).norm(dim=1)
        special = {index % len(read) for index in indices}
        patches = [value for i, value in enumerate(read.tolist()) if i not in special]
        return [index for index in indices if read[index] > READ_RATIO * sum(patches) / max(1, len(patches))]


def _defined_channel(part: nn.Module, shape: Shape) -> int:
    """Return the channel dimension that the kind of a module defines; 0 if its kind does not."""
    for kinds, dim in ((CHANNELS_LAST_MODULES, len(shape) - 1), (CHANNELS_FIRST_MODULES, 1)):
        if any(isinstance(part, kind) and type(part).forward is kind.forward for kind in kinds):
            return dim
    return 0


def _channel_by_weight(part: nn.Module, shape: Shape) -> int:
    """Return the only dimension that is as long as the module's own vectors of weights; 0 if there is none."""
    lengths = {weight.numel() for weight in part.parameters(recurse=False) if weight.ndim == 1}
    dims = [dim for dim in range(1, len(shape)) if shape[dim] in lengths]
    return dims[0] if len(dims) == 1 else 0


def _show(shape: Iterable[int]) -> str:
    return " x ".join(map(str, shape))
