"""What a network put out, and which dimension of it means what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.address import Place
from featviz.errors import AddressError, nearest

OUTPUT = ""
"""The layer that is the whole network, as PyTorch's `named_modules` calls it: the class logits."""


@dataclass(frozen=True)
class Layout:
    """Which dimension of a layer's output means what.

    Args:
        kind: a feature map, a sequence of tokens, or one vector for each image.
        channel: the dimension that counts channels.
        patch: height and width in px of one token of the patch grid; `None` where there is no such grid.
        prefix: how many tokens (class token, registers) stand before the patch grid.
    """

    kind: Literal["map", "tokens", "vector"]
    channel: int = 1
    patch: tuple[int, int] | None = None
    prefix: int = 0


@dataclass(frozen=True, eq=False)
class Activations(Mapping[str, Tensor]):
    """The captured layers by name, each as the layer put it out, and what an objective needs to read them.

    Args:
        tensors: layer name to what the layer put out, images first.
        layouts: layer name to the layout of that.
        size: height and width in px of the images that the network saw.
        classes: class names in output order; may be empty.
        canvas: the pictures themselves, before any transform, in [0, 1].
    """

    tensors: Mapping[str, Tensor]
    layouts: Mapping[str, Layout]
    size: tuple[int, int]
    classes: tuple[str, ...] = ()
    canvas: Float[Tensor, "n c h w"] | None = None

    def __getitem__(self, layer: str) -> Tensor:
        """Return what the layer put out, unchanged."""
        if layer not in self.tensors:
            raise KeyError(f"layer {layer!r} is not captured; name it in @objective(...)")
        return self.tensors[layer]

    def __iter__(self) -> Iterator[str]:
        """Go through the captured layers' names."""
        return iter(self.tensors)

    def __len__(self) -> int:
        """Return the number of captured layers."""
        return len(self.tensors)

    def units(self, layer: str) -> Float[Tensor, "n channel *place"]:
        """Return what the layer put out with its channels as dimension 1, in single precision at least."""
        tensor = self.tensors[layer]
        tensor = tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
        return tensor.movedim(self.layouts[layer].channel, 1)

    def channel(self, layer: str, index: int) -> Float[Tensor, "n *place"]:
        """Return one channel of a layer.

        Raises:
            AddressError: there is no such channel.
        """
        units = self.units(layer)
        if not 0 <= index < units.shape[1]:
            raise AddressError(f"no channel {index} in {layer!r}; it has {units.shape[1]}, 0 to {units.shape[1] - 1}")
        return units[:, index]

    def neuron(self, layer: str, index: int, at: Place) -> Float[Tensor, " n"]:
        """Return one channel of a layer at one place.

        Raises:
            AddressError: there is no such channel or place.
        """
        channel, layout = self.channel(layer, index), self.layouts[layer]
        if layout.kind == "map" and at != "cls":
            y, x = self._within(layer, at, (channel.shape[1], channel.shape[2]))
            return channel[:, y, x]
        if layout.kind == "tokens" and at == "cls":
            if not layout.prefix:
                raise AddressError(f"no class token in {layer!r}; address its patches as @row,column")
            return channel[:, 0]
        if layout.kind == "tokens" and layout.patch:
            grid = self.size[0] // layout.patch[0], self.size[1] // layout.patch[1]
            y, x = self._within(layer, at, grid)
            return channel[:, layout.prefix + y * grid[1] + x]
        what = {"map": "a feature map", "tokens": "tokens off any grid", "vector": "one vector"}[layout.kind]
        raise AddressError(f"no place @{_show(at)} in {layer!r}; it puts out {what}; use {layer}:{index}")

    @staticmethod
    def _within(layer: str, at: Place, grid: tuple[int, int]) -> tuple[int, int]:
        y, x = (grid[0] // 2, grid[1] // 2) if isinstance(at, str) else at
        if not (0 <= y < grid[0] and 0 <= x < grid[1]):
            found = f"its map is {grid[0]} x {grid[1]}, rows 0 to {grid[0] - 1}, columns 0 to {grid[1] - 1}"
            raise AddressError(f"no place @{_show(at)} in {layer!r}; at this size {found}")
        return y, x

    def logits(self) -> Float[Tensor, "n classes"]:
        """Return the network's class logits.

        Raises:
            AddressError: the network does not end in one vector for each image.
        """
        logits = self.units(OUTPUT)
        if logits.ndim != 2:
            shape = " x ".join(map(str, logits.shape[1:]))
            raise AddressError(f"no class logits: the network puts out {shape} for each image; address a layer instead")
        return logits

    def class_index(self, name: int | str) -> int:
        """Find a class by its name, or check its index.

        Raises:
            AddressError: there is no such class.
        """
        count = self.logits().shape[1]
        if isinstance(name, int):
            if not 0 <= name < count:
                raise AddressError(f"no class {name}; the network has {count}, 0 to {count - 1}")
            return name
        if not self.classes:
            raise AddressError(
                f"no class {name!r}: the network's classes have no names; use an index, 0 to {count - 1}"
            )
        if name in self.classes:
            return self.classes.index(name)
        raise AddressError(f"no class {name!r}{nearest(name, self.classes)}")

    def of(self, canvas: Float[Tensor, "n c h w"]) -> Activations:
        """Say which pictures these are the activations of."""
        return replace(self, canvas=canvas)

    def split(self, each: int) -> list[Activations]:
        """Cut the batch into pieces of `each` images; the gradient comes back in one piece."""
        tensors = {layer: tensor.split(each) for layer, tensor in self.tensors.items()}
        canvas = None if self.canvas is None else self.canvas.split(each)
        count = max((len(pieces) for pieces in [*tensors.values(), canvas or ()]), default=0)
        return [
            Activations(
                {layer: pieces[i] for layer, pieces in tensors.items()},
                self.layouts,
                self.size,
                self.classes,
                None if canvas is None else canvas[i],
            )
            for i in range(count)
        ]


def first_tensor(output: object) -> Tensor | None:
    """Find the first tensor in what a module returned: itself, or within tuples, lists and dicts."""
    if isinstance(output, torch.Tensor):
        return output
    inside = output.values() if isinstance(output, Mapping) else output if isinstance(output, tuple | list) else ()
    return next((found for item in inside if (found := first_tensor(item)) is not None), None)


def _show(at: Place) -> str:
    return at if isinstance(at, str) else f"{at[0]},{at[1]}"
