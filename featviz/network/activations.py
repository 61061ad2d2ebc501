"""Captured activations, read by layer, channel, position or class."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from featviz.errors import AddressError, SettingError, UndeclaredLayerError, nearest
from featviz.interfaces import Position, Shape, Size
from featviz.network.channel_picking import pick_channels
from featviz.network.inputs.packing import split
from featviz.network.layout import Layout
from featviz.network.outputs import OUTPUT, OutputKind, OutputScale, in_single_precision, index_of_class

MoveMasks = Callable[[Float[Tensor, "n c *size"]], Float[Tensor, "n c *size2"]]
"""Moves masks, (n, c, h, w), as the transforms of this step moved the images."""


def _unmoved(images: Tensor) -> Tensor:
    return images


def _logits_of_classes(_head: str) -> tuple[OutputKind, OutputScale]:
    return "classes", "logits"


@dataclass(frozen=True, eq=False)
class Activations(Mapping[str, Tensor]):
    """The outputs of captured layers by name, and what an objective needs to read them.

    Args:
        tensors: Output of each captured layer, batch first.
        layouts: Meaning of the dimensions of each.
        size: Length in px of each axis of what the network saw at once: a tile, or the whole view where there are no
            tiles.
        heads: Layers that output class logits, and their class names in output order (possibly none).
        source: The images before any transform, in [0, 1]; `None` where the views come from no images.
        done: Fraction of the render that is done, in [0, 1]; a tensor of one number while a CUDA graph is recorded.
        move_masks: Moves masks as the transforms of this step moved the images.
        has_alpha: Whether the last channel of the images is alpha.
        outputs_of: Returns what a head's outputs are.
        shapes: Channels and length of each axis of the images of each optimised input by name, where there are several:
            `source` has them packed into one signal.
    """

    tensors: Mapping[str, Tensor]
    layouts: Mapping[str, Layout]
    size: Size
    heads: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: {OUTPUT: ()})
    source: Float[Tensor, "n c *size"] | None = None
    done: float | Tensor = 0.0
    move_masks: MoveMasks = _unmoved
    has_alpha: bool = False
    outputs_of: Callable[[str], tuple[OutputKind, OutputScale]] = _logits_of_classes
    shapes: Mapping[str, Shape] = field(default_factory=dict)

    def __getitem__(self, layer: str) -> Tensor:
        """Return the output of a layer, batch first."""
        if layer not in self.tensors:
            captured = ", ".join(map(repr, self.tensors))
            everything = ", ".join(map(repr, [*self.tensors, layer]))
            only = f"only {captured}" if captured else "as no layer is"
            raise UndeclaredLayerError(f"layer {layer!r} is not captured, {only}; declare it: @objective({everything})")
        return self.tensors[layer]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the captured layers."""
        return iter(self.tensors)

    def __len__(self) -> int:
        """Return the number of captured layers."""
        return len(self.tensors)

    def channels_first(self, layer: str) -> Float[Tensor, "n channel *position"]:
        """Return the output of a layer with channels as dimension 1, in single precision at least.

        Args:
            layer: Name of the layer.

        Raises:
            AddressError: The layer outputs complex numbers.
        """
        layout = self.layouts[layer]
        self._check_real(layer)
        values = in_single_precision(self[layer]).movedim(layout.channel, 1)
        return values.transpose(2, 3) if layout.transposed else values

    def channel(self, layer: str, index: int) -> Float[Tensor, "n *position"]:
        """Return one channel of a layer.

        Args:
            layer: Name of the layer.
            index: Index of the channel, from 0.

        Raises:
            AddressError: There is no such channel.
        """
        self.check_channel(layer, index)
        return self.channels_first(layer)[:, index]

    def check_channel(self, layer: str, index: int) -> None:
        """Check that a layer has a channel, without reading any value.

        Args:
            layer: Name of the layer.
            index: Index of the channel, from 0.

        Raises:
            AddressError: There is no such channel.
        """
        self._check_real(layer)
        count = self[layer].shape[self.layouts[layer].channel]
        if not 0 <= index < count:
            raise AddressError(f"no channel {index} in {layer!r}; it has {count}, 0 to {count - 1}")

    def _check_real(self, layer: str) -> None:
        if self.layouts[layer].kind == "complex":
            raise AddressError(
                f"{layer!r} outputs complex numbers; use the layer as a whole, a later layer, or an objective of your "
                f"own that scores e.g. acts[{layer!r}].abs()"
            )

    def channel_of_each(self, layer: str, indices: Sequence[int]) -> Float[Tensor, "n *position"]:
        """Return one channel of a layer for each image.

        Args:
            layer: Name of the layer.
            indices: Index of the channel of each image, from 0.

        Raises:
            AddressError: There is no such channel.
        """
        layout, tensor = self.layouts[layer], self[layer]
        for index in set(indices):
            self.check_channel(layer, index)
        values = in_single_precision(pick_channels(tensor.movedim(layout.channel, 1), indices))
        return values.transpose(1, 2) if layout.transposed else values

    def neuron(self, layer: str, index: int, at: Position) -> Float[Tensor, " n"]:
        """Return one channel of a layer at one position.

        Args:
            layer: Name of the layer.
            index: Index of the channel, from 0.
            at: The position.

        Raises:
            AddressError: There is no such channel or position.
        """
        self.check_channel(layer, index)
        return self.at(layer, at, f"{layer}:{index}")[:, index]

    def at(self, layer: str, at: Position, instead: str = "") -> Float[Tensor, "n channel"]:
        """Return every channel of a layer at one position.

        Args:
            layer: Name of the layer.
            at: The position.
            instead: Address to suggest where the layer has no positions; empty for the layer itself.

        Raises:
            AddressError: There is no such position.
        """
        values, layout = self.channels_first(layer), self.layouts[layer]
        is_special = isinstance(at, str) and at != "center"
        if layout.kind == "map" and not is_special:
            values = _with_row(values, layout)
            return values[_at(self._inside(layer, at, values.shape[2:]))]
        if layout.kind == "tokens" and is_special:
            indices = dict(layout.special)
            if at not in indices:
                what = "class token" if at == "cls" else f"token @{at}"
                others = ", ".join(f"@{name}" for name in indices)
                off_grid = f"its tokens off the patch grid are {others}" if others else ""
                raise AddressError(f"no {what} in {layer!r}; {off_grid or 'address its patches by @row,column'}")
            return values[:, :, indices[at]]
        if layout.kind == "tokens" and layout.patch:
            place = self._inside(layer, at, self._grid(layout))
            return self.as_map(layer)[_at(place)]
        raise AddressError(
            f"no position @{_show(at)} in {layer!r}; its output is {layout.described}; use {instead or layer}"
        )

    def as_map(self, layer: str) -> Float[Tensor, "n channel *position"]:
        """Return the output of a layer as a map: a feature map, or the tokens of a patch grid.

        The map of a sequence has one row in a network of images.

        Args:
            layer: Name of the layer.

        Raises:
            AddressError: The layer has no positions.
        """
        values, layout = self.channels_first(layer), self.layouts[layer]
        if layout.kind == "map":
            return _with_row(values, layout)
        if layout.patch is None:
            found = f"no positions in {layer or 'logit'!r}; its output is {layout.described}"
            raise AddressError(f"{found}; use a feature map or patch tokens")
        rows, columns = self._grid(layout)
        tokens = values[:, :, layout.prefix : layout.prefix + rows * columns]
        if layout.order is not None:
            if len(layout.order) != rows * columns:
                raise AddressError(
                    f"the tokens of {layer!r} are in an order that is known at the network's input size only, where "
                    f"there are {len(layout.order)}; here are {rows * columns}"
                )
            # Not `tokens[:, :, list]`: a CUDA graph can contain this copy of the indices, but not that of indexing.
            tokens = tokens.index_select(2, torch.tensor(layout.order).to(tokens.device, non_blocking=True))
        return tokens.unflatten(2, (rows, columns))

    def _grid(self, layout: Layout) -> tuple[int, int]:
        """Return the number of rows and columns of the patch grid."""
        grid = layout.grid(self.size)
        assert grid is not None, "callers check that there are patches"
        return grid

    @staticmethod
    def _inside(layer: str, at: Position, grid: Sequence[int]) -> tuple[int, ...]:
        place = tuple(side // 2 for side in grid) if isinstance(at, str) else at
        if len(place) != len(grid):
            example, axes = ",".join("0" for _ in grid), f"{len(grid)} {'axis' if len(grid) == 1 else 'axes'}"
            raise AddressError(f"no position @{_show(at)} in {layer!r}; its map has {axes}, as in @{example}")
        if not all(0 <= index < side for index, side in zip(place, grid, strict=True)):
            ranges = " and ".join(f"{name} 0 to {side - 1}" for name, side in zip(_axis_names(grid), grid, strict=True))
            raise AddressError(f"no position @{_show(at)} in {layer!r}; at this size its map has {ranges}")
        return place

    @property
    def images(self) -> Float[Tensor, "n c *size"]:
        """The images before any transform, in [0, 1]; alpha is the last channel where they have one.

        Raises:
            SettingError: These activations come from no images, or from several inputs.
        """
        if self.shapes:
            names = " and ".join(self.shapes)
            raise SettingError(
                f"the objective is about one image, and the inputs {names} are optimised; leave out such terms, or "
                "give values for all inputs but one with net.with_given(...)"
            )
        return self._attached

    @property
    def each_input(self) -> list[Float[Tensor, "n c *size"]]:
        """The images of each optimised input, in [0, 1]; one item for one input.

        Raises:
            SettingError: These activations come from no images.
        """
        return [*split(self._attached, self.shapes).values()] if self.shapes else [self._attached]

    @property
    def _attached(self) -> Tensor:
        if self.source is None:
            raise SettingError("these activations come from no images; attach them with acts.of(images)")
        return self.source

    @property
    def alpha(self) -> Float[Tensor, "n 1 *size"]:
        """The alpha channel of the images, in [0, 1].

        Raises:
            SettingError: They have none.
        """
        if not self.has_alpha:
            raise SettingError("the image has no alpha channel; use param=param.Alpha(), or --param alpha")
        return self.images[:, -1:]

    def logits(self, head: str = OUTPUT) -> Float[Tensor, "n classes"]:
        """Return class logits.

        Args:
            head: Layer that puts them out, for a network with several heads.

        Raises:
            AddressError: The output is not one vector per image.
        """
        logits = self.channels_first(head)
        if logits.ndim > 2 and logits[0, 0].numel() == 1:
            return logits.flatten(1)
        if logits.ndim != 2:
            shape = " x ".join(map(str, logits.shape[1:]))
            raise AddressError(
                f"no class logits: the network's output is {shape} per image; address a layer instead, or a channel "
                """of the output as '"":0'"""
            )
        return logits

    def probabilities(self, head: str = OUTPUT) -> Float[Tensor, "n classes"]:
        """Return class probabilities: the softmax of the logits, or the sigmoid of each where labels are independent.

        Args:
            head: Layer that outputs the logits, for a network with several heads.

        Raises:
            AddressError: The output is not one vector per image, or has no probabilities.
        """
        logits, (kind, scale) = self.logits(head), self.outputs_of(head)
        if kind == "regression":
            raise AddressError("the network's outputs are values of a regression, without probabilities; use logit:")
        if scale != "logits":
            return logits if scale == "probabilities" else logits.exp()
        if kind != "classes":
            return logits.sigmoid()
        if logits.shape[1] == 1:
            raise AddressError("the softmax of a single output is always 1; give outputs='binary' to the network")
        return logits.softmax(1)

    def class_index(self, name: int | str, head: str = OUTPUT) -> int:
        """Return the index of a class name, or check an index.

        Args:
            name: A class name, in any spelling that fits one class only; or an index from 0.
            head: Layer that outputs the logits, for a network with several heads.

        Raises:
            AddressError: There is no such class.
        """
        count, classes = self.logits(head).shape[1], self.heads.get(head, ())
        if isinstance(name, int):
            if not 0 <= name < count:
                raise AddressError(f"no class {name}; the network has {count}, 0 to {count - 1}")
            return name
        if not classes:
            raise AddressError(f"no class {name!r}: the network has no class names; use an index, 0 to {count - 1}")
        index = index_of_class(name, classes)
        if index is None:
            raise AddressError(f"no class {name!r}{nearest(name, classes)}")
        if index >= count:
            given = f"class {name!r} has index {index} of {len(classes)} names"
            raise AddressError(f"{given}, but the network has {count} outputs; give classes= in output order")
        return index

    def of(self, images: Float[Tensor, "n c *size"], **more: Any) -> Activations:
        """Return a copy with the images before any transform.

        Args:
            images: In [0, 1].
            more: Other fields to replace, such as `done` and `move_masks`.
        """
        return replace(self, source=images, **more)

    def replaced(self, tensors: Mapping[str, Tensor]) -> Activations:
        """Return a copy with other outputs of some layers, such as gradients or detached copies.

        Args:
            tensors: Tensors of the same layout, by layer.
        """
        return replace(self, tensors={**self.tensors, **tensors})

    def within(self, mask: Float[Tensor, "*size"], layers: Iterable[str]) -> Activations:
        """Return layers and images with the same values, whose gradient is restricted to a mask.

        An objective of them then changes the image under the mask only. The gradient is scaled by the inverse of the
        mask's area, as that of a mean over the masked positions would be. The mask moves with the transforms.

        Args:
            mask: In [0, 1], over the image before any transform.
            layers: Layers to return.

        Returns:
            A copy with the same values and other gradients.

        Raises:
            AddressError: A layer has no positions.
        """
        masks = mask.to(self.images, non_blocking=True)[None, None].expand(len(self.images), 1, *mask.shape)
        moved = self.move_masks(masks)
        tensors = {layer: _gradient_weighted(self[layer], self._weights(layer, moved)) for layer in layers}
        return replace(self, tensors=tensors, source=_gradient_weighted(self.images, masks))

    def _weights(self, layer: str, masks: Float[Tensor, "n 1 *size"]) -> Tensor:
        """Return the weight of each position under a mask, with mean 1, shaped for the layer's output."""
        tensor, layout = self[layer], self.layouts[layer]
        if layout.kind == "map":
            map_size = [side for i, side in enumerate(tensor.shape[1:], 1) if i != layout.channel]
            masks = masks.transpose(2, 3) if layout.transposed else masks
        elif layout.patch:
            map_size = list(self._grid(layout))
        else:
            raise AddressError(
                f"no positions to mask in {layer or 'logit'!r}; its output is {layout.described}; mask a feature map"
            )
        weight = F.interpolate(masks, map_size, mode="area").flatten(1)
        if layout.kind == "tokens":
            count = tensor.shape[1 + 2 - layout.channel]
            if layout.order is not None:
                order = torch.tensor(layout.order).to(weight.device, non_blocking=True)
                weight = torch.empty_like(weight).index_copy_(1, order, weight)
            weight = F.pad(weight, (layout.prefix, count - layout.prefix - weight.shape[1]))
        weight = weight / weight.mean(1, keepdim=True).clamp(min=1e-6)
        weight = weight.view(-1, *map_size) if layout.kind == "map" else weight
        return weight.unsqueeze(layout.channel).to(tensor.dtype)

    def split(self, sizes: Sequence[int]) -> list[Activations]:
        """Split the batch. One backward node joins the gradients of the parts.

        Args:
            sizes: Number of images in each part; they add up to the batch.

        Returns:
            The activations of each part.
        """
        tensors = {layer: tensor.split(sizes) for layer, tensor in self.tensors.items()}
        source = None if self.source is None else self.source.split(sizes)
        ends = list(accumulate(sizes))
        return [
            replace(
                self,
                tensors={layer: pieces[i] for layer, pieces in tensors.items()},
                source=None if source is None else source[i],
                move_masks=partial(_move_part, self.move_masks, ends[-1], slice(ends[i] - sizes[i], ends[i])),
            )
            for i in range(len(sizes))
        ]


def _move_part(move_masks: MoveMasks, count: int, part: slice, masks: Tensor) -> Tensor:
    """Move the masks of a part of a batch of `count` images. Transforms have draws for the whole batch."""
    whole = masks.new_zeros(count, *masks.shape[1:])
    whole[part] = masks
    return move_masks(whole)[part]


def _gradient_weighted(tensor: Tensor, weight: Tensor) -> Tensor:
    """Return the same values with a gradient multiplied by weights."""
    constant = tensor.detach()
    return constant + weight * (tensor - constant)  # the difference is 0, but has the gradient of `tensor`


def _show(at: Position) -> str:
    return at if isinstance(at, str) else ",".join(map(str, at))


def _with_row(values: Tensor, layout: Layout) -> Tensor:
    """Return a map, which has one row where it is of a sequence in a network of images."""
    return values[:, :, None] if values.ndim == 3 and layout.axes == 2 else values


def _at(place: tuple[int, ...]) -> tuple[Any, ...]:
    """Return the index of one position of a map, `(n, channel, *position)`."""
    return (slice(None), slice(None), *place)


def _axis_names(grid: Sequence[int]) -> tuple[str, ...]:
    """Return the names of the axes of a map for a message."""
    return ("planes", "rows", "columns")[-len(grid) :] if len(grid) > 1 else ("positions",)
