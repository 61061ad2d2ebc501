"""Let a module with several inputs run on images alone: some inputs are optimised, and the others are given."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from featviz.checks import check_flag
from featviz.errors import SettingError, shown
from featviz.network.inputs.input_spec import InputSpec
from featviz.network.inputs.packing import module_inputs, packed_spec
from featviz.network.inputs.replaced_forward import own_forward, with_forward, without_forward
from featviz.network.trees import rebuilt
from featviz.network.working_copy import SharedByCopies

SMALL = 64
"""Number of values of the largest tensor that recipes and messages hold by value."""
_INPUTS = "_featviz_inputs"
"""Name of the attribute with the inputs of a module that `on_images` returned."""
_ROWS: ContextVar[slice | None] = ContextVar("rows", default=None)
"""Images of a render that the current pass is about; `None` for all."""

Rows = Literal["one", "own", "none"]
"""How a given value belongs to a batch: one row, which every image gets; a row for each image; or no rows, where the
module gets the value as it is."""


@dataclass(frozen=True, eq=False)
class Given:
    """Fixed value of an input: one row per image, or a tensor that is passed unchanged.

    A tensor alone, of shape (1, ...), is a row that every image gets, and needs no `Given`.

    Args:
        value: A tensor, or an array of numpy.
        per_image: If true, the first axis is the images: row *i* belongs to image *i* of a render, and there must be as
            many rows as images. If false, the module gets the value as it is, whatever the number of images, as the
            adjacency matrix of a graph.

    Raises:
        SettingError: The value is no dense tensor of numbers.

    >>> Given(torch.zeros(4, 2), per_image=True).value.shape
    torch.Size([4, 2])
    """

    value: Tensor
    per_image: bool = False

    def __post_init__(self) -> None:
        """Copy and check the value, so that later changes of the tensor do not matter."""
        check_flag("per_image", self.per_image)
        object.__setattr__(self, "value", dense_copy("a given input", self.value))
        if self.per_image and not self.value.ndim:
            raise SettingError("a value per image must have one row per image, got a single number")


@dataclass(frozen=True, eq=False, slots=True)
class GivenInput(SharedByCopies):
    """A checked value of a given input.

    Args:
        value: A tensor, or a number, text, flag or `None`.
        rows: How it belongs to a batch.
    """

    value: Any
    rows: Rows

    def of(self, count: int, some: slice | None, device: torch.device) -> Any:
        """Return what a pass over some images gets; a copy, since modules may write to their inputs.

        Args:
            count: Number of images.
            some: Which images of a render they are; `None` for others, which get the first row.
            device: Device of the images.
        """
        if not isinstance(self.value, Tensor):
            return self.value
        value = self.value.to(device)
        if self.rows == "own":
            value = value[:1] if some is None else value[some]
        return (value if self.rows == "none" else value.expand(count, *value.shape[1:])).clone()

    @property
    def shown(self) -> str:
        """The value if it is small, else its type and shape."""
        if not isinstance(self.value, Tensor):
            return repr(self.value)
        if self.value.numel() > SMALL or self.value.is_complex():
            return self.described
        return json.dumps(_as_lists(self.value))

    @property
    def described(self) -> str:
        """Type and shape, such as `"float32 (1, 8)"`."""
        if not isinstance(self.value, Tensor):
            return repr(self.value)
        return f"{str(self.value.dtype).removeprefix('torch.')} {tuple(self.value.shape)}"

    @property
    def kind(self) -> tuple[object, ...]:
        """Type and shape without the number of rows. Networks with equal ones share measurements."""
        if not isinstance(self.value, Tensor):
            return type(self.value), self.value
        shape = self.value.shape if self.rows == "none" else self.value.shape[1:]
        return self.value.dtype, tuple(shape), self.rows == "none"

    @property
    def fingerprint(self) -> str:
        """Hash of the value, the same on each device."""
        digest = hashlib.sha256(f"{self.rows} {self.described}".encode())
        if isinstance(self.value, Tensor):
            flat = self.value.cpu().contiguous().flatten()
            digest.update((flat.view(torch.uint8) if flat.numel() else flat).numpy().tobytes())
        return digest.hexdigest()[:16]


@dataclass(frozen=True, eq=False, slots=True)
class Inputs(SharedByCopies):
    """Inputs of a module by name or by position: an `InputSpec` where an optimised one goes, and given values.

    Args:
        tree: A mapping or a tuple of inputs, which may hold further mappings and sequences.
        as_one: Whether the module gets the mapping as its only argument.
    """

    tree: Mapping[str, Any] | tuple[Any, ...]
    as_one: bool = False

    @property
    def leaves(self) -> dict[str, Any]:
        """The inputs by path, as `"image"`, `"0"`, or `"batch.image"`."""
        found: dict[str, Any] = {}
        map_leaves(self.tree, found.setdefault)
        return found

    @property
    def given(self) -> dict[str, GivenInput]:
        """The given inputs by path."""
        return {name: each for name, each in self.leaves.items() if isinstance(each, GivenInput)}

    @property
    def specs(self) -> dict[str, InputSpec]:
        """The optimised inputs by path."""
        return {name: each for name, each in self.leaves.items() if isinstance(each, InputSpec)}

    @property
    def spec(self) -> InputSpec:
        """Specification of the optimised input; where there are several, of all of them packed into one signal."""
        first, *others = self.specs.values()
        return packed_spec([first, *others]) if others else first

    @property
    def count(self) -> int | None:
        """Number of images for which values are given per image; `None` where none is."""
        counts = [len(each.value) for each in self.given.values() if each.rows == "own"]
        return counts[0] if counts else None

    def changed(self, change: Callable[[str, Any], Any]) -> Inputs:
        """Return the inputs with each leaf changed by a function of its path and itself."""
        return replace(self, tree=map_leaves(self.tree, change))

    def run(self, forward: Callable[..., Any], images: Tensor, rows: slice | None) -> Any:
        """Call a module's `forward` as it is declared.

        Args:
            forward: The function.
            images: What the optimised input gets; packed images in [0, 1] where there are several.
            rows: Which images of a render they are; `None` for others, which get the first rows.
        """
        specs = self.specs
        optimised = module_inputs(images, specs) if len(specs) > 1 else dict.fromkeys(specs, images)

        def value(name: str, leaf: Any) -> Any:
            return optimised[name] if name in optimised else leaf.of(len(images), rows, images.device)

        filled = map_leaves(self.tree, value)
        if self.as_one:
            return forward(filled)
        if isinstance(filled, tuple):
            return forward(*filled)
        parameters = parameters_of(forward).items()
        only = inspect.Parameter.POSITIONAL_ONLY
        first = [filled.pop(name) for name, each in parameters if each.kind is only and name in filled]
        return forward(*first, **filled)


# ---------------------------------------------------------------------------------------------- modules


def on_images(module: nn.Module, inputs: Inputs) -> nn.Module:
    """Return a module with the same parts and weights, which gets the optimised inputs alone.

    The user's module is not changed: see `with_forward`.

    Args:
        module: The user's module, or one that this function returned.
        inputs: What its `forward` gets.
    """
    return with_forward(module, _forward, {_INPUTS: inputs})


def _forward(self: nn.Module, images: Tensor) -> Any:
    """Run a working copy on the optimised input. Takes the place of its own `forward`."""
    return vars(self)[_INPUTS].run(own_forward(self), images, _ROWS.get())


def without_inputs(module: nn.Module) -> nn.Module:
    """Return the user's module as it was before `on_images`."""
    return without_forward(module, _INPUTS) if _INPUTS in vars(module) else module


def inputs_in(module: nn.Module) -> dict[str, Inputs]:
    """Return the inputs of a module, and of those of its parts that `on_images` returned, by name of the part."""
    return {name: vars(part)[_INPUTS] for name, part in module.named_modules() if _INPUTS in vars(part)}


def place_inputs(module: nn.Module, device: torch.device) -> None:
    """Move the given values of a working copy to a device, so that passes copy nothing there."""

    def moved(_: str, leaf: Any) -> Any:
        is_tensor = isinstance(leaf, GivenInput) and isinstance(leaf.value, Tensor)
        return replace(leaf, value=leaf.value.to(device)) if is_tensor else leaf

    for part in module.modules():
        if _INPUTS in vars(part):
            vars(part)[_INPUTS] = vars(part)[_INPUTS].changed(moved)


@contextmanager
def rows_of_images(rows: slice | None) -> Iterator[None]:
    """Select the rows of values that are given per image, for passes within a context.

    Args:
        rows: Images of a render that a pass is about; `None` for all.
    """
    token = _ROWS.set(rows)
    try:
        yield
    finally:
        _ROWS.reset(token)


# ---------------------------------------------------------------------------------------------- signatures and trees


def parameters_of(forward: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a function by name; none of one that has no signature, as functions written in C."""
    try:
        return inspect.signature(forward).parameters
    except (TypeError, ValueError):
        return {}


def map_leaves(tree: Any, change: Callable[[str, Any], Any], path: str = "") -> Any:
    """Return mappings and sequences with each leaf changed by a function of its path and itself."""
    if isinstance(tree, Mapping):
        return {key: map_leaves(each, change, f"{path}.{key}".lstrip(".")) for key, each in tree.items()}
    if isinstance(tree, tuple | list):
        return rebuilt(tree, [map_leaves(each, change, f"{path}.{i}".lstrip(".")) for i, each in enumerate(tree)])
    return change(path, tree)


def dense_copy(what: str, given: Any) -> Tensor:
    """Return a dense copy of a tensor or array.

    Raises:
        SettingError: `given` is not a tensor or array of numbers, or is empty.
    """
    if not isinstance(given, Tensor | np.ndarray):
        raise SettingError(f"{what} must be a tensor, got {shown(given)}")
    if isinstance(given, np.ndarray) and given.dtype.kind not in "biufc":
        raise SettingError(f"{what} must hold numbers, got an array of {given.dtype}")
    with torch.inference_mode(False):
        value = torch.tensor(given) if isinstance(given, np.ndarray) else given.detach()
        if value.layout != torch.strided or value.is_quantized:
            raise SettingError(f"{what} must be a dense tensor, got {value.layout}; give tensor.to_dense()")
        if value.is_meta:
            raise SettingError(f"{what} is on the meta device and has no values; give it on the CPU or a GPU")
        return value.clone()


def _as_lists(value: Tensor) -> Any:
    """Return a tensor as lists of the shortest numbers that are read as the same ones."""
    if not value.is_floating_point():
        return value.tolist()
    array = (value if value.dtype == torch.float64 else value.float()).cpu().numpy()
    short = np.array([float(str(number)) for number in array.flat], dtype=object)  # 0.1, not 0.10000000149
    return short.reshape(array.shape).tolist()
