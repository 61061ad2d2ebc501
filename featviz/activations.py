"""What a network put out, and which dimension of it means what."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass, replace
from types import SimpleNamespace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from featviz.address import Place
from featviz.errors import AddressError, SettingError, nearest

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
        size: height and width in px of the images that the layer's network sees, where it resizes them.
        batch: the dimension that counts images, in what the layer puts out; once captured, it is the first.
    """

    kind: Literal["map", "tokens", "vector"]
    channel: int = 1
    patch: tuple[int, int] | None = None
    prefix: int = 0
    size: tuple[int, int] | None = None
    batch: int = 0


Moved = Callable[[Float[Tensor, "n c h w"]], Float[Tensor, "n c h2 w2"]]
"""Moves pixels as the transforms moved those of the pictures."""


def _unmoved(images: Tensor) -> Tensor:
    return images


@dataclass(frozen=True, eq=False)
class Activations(Mapping[str, Tensor]):
    """The captured layers by name, each as the layer put it out, and what an objective needs to read them.

    Args:
        tensors: layer name to what the layer put out, images first.
        layouts: layer name to the layout of that.
        size: height and width in px of the images that the network saw.
        heads: layers that put out class logits, and their class names in output order, which may be none.
        pictures: the pictures themselves, before any transform, in [0, 1].
        done: how much of the render is done, from 0 to 1.
        moved: shows a mask as the transforms showed the pictures this time.
        has_alpha: whether the pictures' last channel is alpha.
    """

    tensors: Mapping[str, Tensor]
    layouts: Mapping[str, Layout]
    size: tuple[int, int]
    heads: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: {OUTPUT: ()})
    pictures: Float[Tensor, "n c h w"] | None = None
    done: float = 0.0
    moved: Moved = _unmoved
    has_alpha: bool = False

    def __getitem__(self, layer: str) -> Tensor:
        """Return what the layer put out, images first."""
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
        self.channel(layer, index)
        return self.at(layer, at, f"{layer}:{index}")[:, index]

    def at(self, layer: str, at: Place, instead: str = "") -> Float[Tensor, "n channel"]:
        """Return every channel of a layer at one place.

        Args:
            layer: its name.
            at: where.
            instead: what to address where the layer has no places.

        Raises:
            AddressError: there is no such place.
        """
        units, layout = self.units(layer), self.layouts[layer]
        if layout.kind == "map" and at != "cls":
            y, x = self._inside(layer, at, (units.shape[2], units.shape[3]))
            return units[:, :, y, x]
        if layout.kind == "tokens" and at == "cls":
            if not layout.prefix:
                raise AddressError(f"no class token in {layer!r}; address its patches as @row,column")
            return units[:, :, 0]
        if layout.kind == "tokens" and layout.patch:
            grid = self._grid(layout)
            y, x = self._inside(layer, at, grid)
            return units[:, :, layout.prefix + y * grid[1] + x]
        what = {"map": "a feature map", "tokens": "tokens off any grid", "vector": "one vector"}[layout.kind]
        raise AddressError(f"no place @{_show(at)} in {layer!r}; it puts out {what}; use {instead or layer}")

    def places(self, layer: str) -> Float[Tensor, "n channel rows columns"]:
        """Return what the layer put out over its places: a feature map, or the tokens of a patch grid.

        Raises:
            AddressError: it has no places.
        """
        units, layout = self.units(layer), self.layouts[layer]
        if layout.kind == "map":
            return units
        if layout.patch is None:
            what = "one vector" if layout.kind == "vector" else "tokens off any grid"
            raise AddressError(f"no places in {layer or 'logit'!r}; it puts out {what}; take a feature map")
        return units[:, :, layout.prefix :].unflatten(2, self._grid(layout))

    def _grid(self, layout: Layout) -> tuple[int, int]:
        """Return the rows and columns of the patch grid."""
        size, patch = layout.size or self.size, layout.patch or (1, 1)
        return size[0] // patch[0], size[1] // patch[1]

    @staticmethod
    def _inside(layer: str, at: Place, grid: tuple[int, int]) -> tuple[int, int]:
        y, x = (grid[0] // 2, grid[1] // 2) if isinstance(at, str) else at
        if not (0 <= y < grid[0] and 0 <= x < grid[1]):
            found = f"its map is {grid[0]} x {grid[1]}, rows 0 to {grid[0] - 1}, columns 0 to {grid[1] - 1}"
            raise AddressError(f"no place @{_show(at)} in {layer!r}; at this size {found}")
        return y, x

    @property
    def canvas(self) -> Float[Tensor, "n c h w"]:
        """The pictures themselves, before any transform, in [0, 1]; alpha is the last channel where they have it.

        Raises:
            SettingError: these activations are of no pictures that are being made.
        """
        if self.pictures is None:
            raise SettingError("these activations have no canvas; give them one with acts.of(images)")
        return self.pictures

    @property
    def alpha(self) -> Float[Tensor, "n 1 h w"]:
        """The pictures' alpha channel, in [0, 1].

        Raises:
            SettingError: they have none.
        """
        if not self.has_alpha:
            raise SettingError(
                "the picture has no alpha channel, so no opacity; give param=param.Alpha(), or --param alpha"
            )
        return self.canvas[:, -1:]

    def logits(self, head: str = OUTPUT) -> Float[Tensor, "n classes"]:
        """Return class logits.

        Args:
            head: the layer that puts them out, where the network has several.

        Raises:
            AddressError: the network does not end in one vector for each image.
        """
        logits = self.units(head)
        if logits.ndim != 2:
            shape = " x ".join(map(str, logits.shape[1:]))
            raise AddressError(f"no class logits: the network puts out {shape} for each image; address a layer instead")
        return logits

    def class_index(self, name: int | str, head: str = OUTPUT) -> int:
        """Find a class by its name, or check its index.

        Raises:
            AddressError: there is no such class.
        """
        count, classes = self.logits(head).shape[1], self.heads.get(head, ())
        if isinstance(name, int):
            if not 0 <= name < count:
                raise AddressError(f"no class {name}; the network has {count}, 0 to {count - 1}")
            return name
        if not classes:
            raise AddressError(
                f"no class {name!r}: the network's classes have no names; use an index, 0 to {count - 1}"
            )
        if name in classes:
            if classes.index(name) >= count:
                given = f"class {name!r} is number {classes.index(name)} of {len(classes)}"
                raise AddressError(f"{given}, and the network puts out {count}; give classes= in output order")
            return classes.index(name)
        raise AddressError(f"no class {name!r}{nearest(name, classes)}")

    def of(self, pictures: Float[Tensor, "n c h w"], **more: Any) -> Activations:
        """Say which pictures these are the activations of, and what more there is to say: `done`, `moved`, …."""
        return replace(self, pictures=pictures, **more)

    def replaced(self, tensors: Mapping[str, Tensor]) -> Activations:
        """Return the same of other tensors, laid out alike: gradients, or copies that may have some."""
        return replace(self, tensors={**self.tensors, **tensors})

    def within(self, mask: Float[Tensor, "h w"], layers: Iterable[str]) -> Activations:
        """Return some layers that keep their values, but have a gradient only under a mask, as does the canvas.

        So whatever is asked of them, only what lies under the mask is changed for it. A layer's gradient grows as its
        places become fewer, as that of a mean over them would. The mask goes where the transforms moved the pictures.

        Raises:
            AddressError: a layer has no places.
        """
        picture = mask.to(self.canvas, non_blocking=True)[None, None].expand(len(self.canvas), -1, -1, -1)
        seen = self.moved(picture)
        tensors = {layer: _held_outside(self.tensors[layer], self._share(layer, seen)) for layer in layers}
        return replace(self, tensors=tensors, pictures=_held_outside(self.canvas, picture))

    def _share(self, layer: str, seen: Float[Tensor, "n 1 h w"]) -> Tensor:
        """Return each place's weight under a mask, of mean 1, to be multiplied with what the layer put out."""
        layout, tensor = self.layouts[layer], self.tensors[layer]
        if layout.kind == "map":
            places = [side for i, side in enumerate(tensor.shape[1:], 1) if i != layout.channel]
        elif layout.patch:
            places = list(self._grid(layout))
        else:
            what = "one vector" if layout.kind == "vector" else "tokens off any grid"
            raise AddressError(f"no place to mask in {layer or 'logit'!r}; it puts out {what}; mask a feature map")
        weight = F.interpolate(seen, places, mode="area").flatten(1)
        if layout.kind == "tokens":
            weight = F.pad(weight, (layout.prefix, 0))
        weight = weight / weight.mean(1, keepdim=True).clamp(min=1e-6)
        weight = weight.view(-1, *places) if layout.kind == "map" else weight
        return weight.unsqueeze(layout.channel).to(tensor.dtype)

    def split(self, sizes: Sequence[int]) -> list[Activations]:
        """Cut the batch into pieces of so many images; the gradient comes back in one piece."""
        tensors = {layer: tensor.split(sizes) for layer, tensor in self.tensors.items()}
        pictures = None if self.pictures is None else self.pictures.split(sizes)
        before = [sum(sizes[:i]) for i in range(len(sizes))]

        def moved(i: int) -> Moved:
            def move(images: Tensor) -> Tensor:
                whole = images.new_zeros(sum(sizes), *images.shape[1:])
                some = slice(before[i], before[i] + sizes[i])
                whole[some] = images
                return self.moved(whole)[some]

            return move

        return [
            replace(
                self,
                tensors={layer: pieces[i] for layer, pieces in tensors.items()},
                pictures=None if pictures is None else pictures[i],
                moved=moved(i),
            )
            for i in range(len(sizes))
        ]


def _held_outside(tensor: Tensor, share: Tensor) -> Tensor:
    """Return the same values, their gradient weighed."""
    held = tensor.detach()
    return held + share * (tensor - held)


def first_tensor(output: object) -> Tensor | None:
    """Find the first tensor in what a module returned: itself, or within tuples, lists, dicts and records."""
    if isinstance(output, torch.Tensor):
        return output
    output = vars(output) if is_dataclass(output) or isinstance(output, SimpleNamespace) else output
    inside = output.values() if isinstance(output, Mapping) else output if isinstance(output, tuple | list) else ()
    return next((found for item in inside if (found := first_tensor(item)) is not None), None)


def _show(at: Place) -> str:
    return at if isinstance(at, str) else f"{at[0]},{at[1]}"
