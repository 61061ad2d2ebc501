"""A module, what it expects as input, its class names and its layers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, fields, replace
from typing import Any, NoReturn, Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from featviz.errors import AddressError, ModelError, nearest
from featviz.interfaces import Size, as_size
from featviz.network.activations import OUTPUT, Activations, Layout
from featviz.network.execution import Execution
from featviz.network.fast.batch_norm_folding import Folds, Pair, foldable
from featviz.network.fast.conv_backward import fast_conv_backward
from featviz.network.fast.cuda_graphs import cuda_graphed
from featviz.network.gradients import SmoothPools, redirect_gradients
from featviz.network.hooks import capture_outputs
from featviz.network.input_spec import InputSpec
from featviz.network.layers import Layer, LayerTable, Probed, probe, raise_unless_size_error
from featviz.network.module_state import converted_weights, frozen, version
from featviz.network.receptive_fields import ReceptiveField, receptive_fields
from featviz.random import Chance

FIELD_IMAGE_SIDE = 256
"""Smallest side in px of the images on which receptive fields are measured; smaller images would clip them."""


class Forward(Protocol):
    """Runs the network up to the last layer needed."""

    def __call__(self, images: Float[Tensor, "n c h w"], *, redirect: Bool[Tensor, " n"] | None = None) -> Activations:
        """Return the activations of the captured layers.

        Args:
            images: In [0, 1].
            redirect: Images for which blocked gradients are redirected through rectifiers; `None` for none of them.
        """


@dataclass
class _Measured:
    """Cached measurements of a network. They save time and never change a result."""

    probed: Probed | None = None
    pairs: tuple[Pair, ...] | None = None
    fingerprint: tuple[object, str] | None = None
    sizes: set[Size] = field(default_factory=set)
    smallest: int | None = None


class Network:
    """A module with its input specification, its class names and its layer table. Immutable.

    Creating a network changes nothing on the module. While a `session` is open, parameters are frozen, eval mode is
    set and hooks are placed; closing it restores everything, also after an error or Ctrl-C.

    Args:
        module: Any `nn.Module` that takes a batch of images. Of a module made by `torch.compile`, the original is used.
        size: Height and width in px, or one side, of the images that the network was trained on.
        mean: Mean of each channel, in [0, 1]. Its length is the number of input channels.
        std: Standard deviation of each channel, > 0. The module gets `(image - mean) / std`.
        channel_order: Order in which the module expects the channels of an RGB image: `"RGB"` or `"BGR"`.
        layout: Dimension order of a batch that the module expects: `"NCHW"` or `"NHWC"`.
        classes: Class names in output order, or by index.
        name: Name under which `fv.load` finds the network, for messages and recipes; empty for a module made in Python.
        weights: File of the weights, or `"default"` or `"none"`, for recipes.
        heads: Layers that put out class logits, and their class names; `None` for the output with `classes`.
        smooth_pools: Spread the gradient of max pooling over the whole window, which removes its grid pattern.
        probed: The layer table, where it is known already; `None` to find it by running the module when needed.

    Raises:
        SettingError: A value of the input specification is out of its range.
        ModelError: The module has no weights yet, or is TorchScript.
    """

    module: nn.Module
    input: InputSpec
    classes: tuple[str, ...]
    heads: Mapping[str, tuple[str, ...]]
    name: str
    weights: str | None
    smooth_pools: bool
    _measured: _Measured

    def __init__(
        self,
        module: nn.Module,
        *,
        size: int | Size,
        mean: Sequence[float],
        std: Sequence[float],
        channel_order: str = "RGB",
        layout: str = "NCHW",
        classes: Sequence[str] | Mapping[int, str] = (),
        name: str = "",
        weights: str | None = None,
        heads: Mapping[str, Sequence[str] | Mapping[int, str]] | None = None,
        smooth_pools: bool = False,
        probed: Probed | None = None,
    ) -> None:
        names = _in_output_order(classes)
        vars(self).update(
            module=getattr(module, "_orig_mod", module),
            input=InputSpec(size, mean, std, channel_order, layout),  # type: ignore[arg-type]
            classes=names,
            heads={OUTPUT: names} if heads is None else {head: _in_output_order(own) for head, own in heads.items()},
            name=name,
            weights=weights,
            smooth_pools=smooth_pools,
            _measured=_Measured(probed),
        )
        if isinstance(self.module, torch.jit.ScriptModule):
            raise ModelError(f"{self.label} is TorchScript, whose layers cannot be hooked; give the original nn.Module")
        if any(is_lazy(weight) for weight in self.module.parameters()):
            raise ModelError(f"{self.label} has uninitialised lazy layers; run it once on a batch of images first")
        if any(weight.is_meta for weight in self.module.parameters()):
            raise ModelError(f"{self.label} is on the meta device and has no weights; load them first")

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse: networks are immutable."""
        _refuse_change(name)

    def __delattr__(self, name: str) -> None:
        """Refuse: networks are immutable."""
        _refuse_change(name)

    def __repr__(self) -> str:
        """Show the name and the input specification."""
        spec = self.input
        expects = f"{spec.size[0]}x{spec.size[1]} px, {spec.channels} channels, mean {spec.mean}, std {spec.std}"
        return f"<Network {self.label}: {expects}, {len(self.classes)} class names, on {self.device}>"

    # ------------------------------------------------------------------------------------------ facts

    @property
    def label(self) -> str:
        """Name for messages: that of `fv.load`, or the class of the module."""
        return self.name or type(self.module).__name__

    @property
    def size(self) -> Size:
        """Height and width of the input in px."""
        return self.input.size

    @property
    def channels(self) -> int:
        """Number of input channels."""
        return self.input.channels

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self._weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the weights."""
        return self._weight.dtype

    @property
    def _weight(self) -> Tensor:
        floating = (weight for weight in self.module.parameters() if weight.is_floating_point())
        return next(floating, torch.empty(0))

    @property
    def storages(self) -> set[int]:
        """Memory addresses of its weights and buffers."""
        tensors = [*self.module.parameters(), *self.module.buffers()]
        return {tensor.untyped_storage().data_ptr() for tensor in tensors}

    @property
    def fingerprint(self) -> str:
        """Hash of its weights, the same wherever they were loaded from."""
        state = {key: value for key, value in sorted(self.module.state_dict().items()) if isinstance(value, Tensor)}
        now = [(value.data_ptr(), version(value), value.sum().item()) for value in state.values()]
        known = self._measured.fingerprint
        if known is None or known[0] != now:
            digest = hashlib.sha256()
            for key, value in state.items():
                digest.update(key.encode() + str(tuple(value.shape)).encode())
                digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
            known = self._measured.fingerprint = now, digest.hexdigest()[:16]
        return known[1]

    @property
    def probed(self) -> Probed:
        """The layers and what else two passes tell about the network; measured on first use."""
        if self._measured.probed is None:
            try:
                self._measured.probed = probe(self.module, self._grey, self.size)
            except Exception as error:
                error.add_note(f"while running {self.label} on grey images of {self.size[0]}x{self.size[1]} px")
                raise
        return self._measured.probed

    @property
    def table(self) -> dict[str, Layer]:
        """Every layer that can be addressed, by name, in execution order."""
        return self.probed.table

    @property
    def fixed_size(self) -> bool:
        """Whether it accepts images of its own size only, as far as two other sizes tell."""
        return self.probed.fixed_size

    def layers(self, size: int | Size | None = None) -> LayerTable:
        """List every layer: address, kind, shape, channels, receptive field and stride in px.

        Args:
            size: Height and width in px of the images, or one side; `None` for the network's input size.

        Returns:
            The table, which prints as text.

        Raises:
            ModelError: The network does not accept images of this size.
        """
        size = self.size if size is None else as_size(size)
        if size == self.size:
            return LayerTable(self.table, self.receptive_fields())
        self.check_size(size)
        return self.with_input(size=size).layers()

    def receptive_fields(self) -> dict[str, ReceptiveField]:
        """Measure the receptive field and stride of every feature map, in as many passes as the largest stride has px.

        Returns:
            The receptive fields by layer name.
        """

        def run(image: Tensor, note: Callable[[str, Tensor], None]) -> None:
            with torch.no_grad(), self.session(self.table) as forward:
                for name, tensor in forward(image.to(self._weight)).items():
                    note(name, tensor)

        size = self.size
        if not self.fixed_size:
            size = max(FIELD_IMAGE_SIDE, size[0]), max(FIELD_IMAGE_SIDE, size[1])
        return receptive_fields(run, self.table, size, self.channels)

    # ------------------------------------------------------------------------------------------ other inputs

    def with_input(self, *, probed: Probed | None = None, **changes: Any) -> Network:
        """Return a network with the same module and another input specification.

        Args:
            probed: The layer table at that input, where it is known already.
            changes: Any fields of `InputSpec`: `size`, `mean`, `std`, `channel_order`, `layout`.

        Returns:
            The network. The modules are shared, nothing is copied.

        Raises:
            SettingError: A value is out of its range.
        """
        return Network(
            self.module,
            **vars(replace(self.input, **changes)),
            classes=self.classes,
            name=self.name,
            weights=self.weights,
            heads=None if OUTPUT in self.heads else self.heads,
            smooth_pools=self.smooth_pools,
            probed=probed,
        )

    def check_size(self, size: Size) -> None:
        """Check that the network accepts images of this size.

        Args:
            size: Height and width in px.

        Raises:
            ModelError: It does not; the message names the smallest square that it accepts.
        """
        if size in self._measured.sizes or self.accepts(size):
            self._measured.sizes.add(size)
            return
        if not self.accepts(self.size):
            with frozen(self.module), Chance(self.device)():
                self.module(self._grey(1, self.size))  # the size is not at fault: let the network's own error surface
        given = f"{self.label} does not accept images of {size[0]}x{size[1]} px"
        if self.fixed_size:
            raise ModelError(f"{given}, only of {self.size[0]}x{self.size[1]}")
        side = self.smallest
        raise ModelError(f"{given}; the smallest square that it accepts is {side}x{side}")

    @property
    def smallest(self) -> int:
        """Side in px of the smallest square that it accepts."""
        if self.fixed_size:
            return min(self.size)
        if self._measured.smallest is None:
            sides = range(1, min(self.size))  # no bisection: some modules accept multiples of a number only
            found = next((side for side in sides if self.accepts((side, side))), min(self.size))
            self._measured.smallest = found
        return self._measured.smallest

    def accepts(self, size: Size) -> bool:
        """Whether the network runs on images of this size.

        Args:
            size: Height and width in px.
        """
        try:
            with frozen(self.module), Chance(self.device)(), torch.no_grad():
                self.module(self._grey(1, size))
        except Exception as error:
            raise_unless_size_error(error)
            return False
        return True

    def normaliser(self) -> Callable[[Tensor], Tensor]:
        """Return a function from images in [0, 1], (n, c, h, w), to what the module expects."""
        return self.input.normaliser(self._weight)

    def check_images(self, images: Tensor) -> None:
        """Check that images are a floating-point batch with the network's channels.

        Args:
            images: Any tensor.

        Raises:
            SettingError: They are not.
        """
        self.input.check(images, self.label)

    # ------------------------------------------------------------------------------------------ running it

    @contextmanager
    def session(self, layers: Iterable[str], execution: Execution = Execution()) -> Iterator[Forward]:
        """Open the network: frozen, hooked, folded and laid out for speed. Restore everything afterwards.

        The forward pass stops at the last layer needed. A module that runs several times in one pass is captured at
        its last call.

        Args:
            layers: Names of the layers to capture.
            execution: How to run the network.

        Yields:
            A function from images in [0, 1] to activations.

        Raises:
            AddressError: There is no such layer.
        """
        layouts = {layer: self._layout(layer) for layer in frozenset(layers)}
        calls = {layer: self.table[layer].calls for layer in layouts}
        tokens_first = [layer for layer, layout in layouts.items() if layout.batch]

        def run(images: Tensor) -> dict[str, Tensor]:
            with (
                torch.autocast(images.device.type, precision, enabled=lower),
                SmoothPools() if self.smooth_pools else nullcontext(),
            ):
                return capture(lambda: self.module(normalise(images).contiguous(memory_format=memory)))

        def forward(images: Tensor, *, redirect: Tensor | None = None) -> Activations:
            if images.requires_grad and not images.is_leaf:
                # The backward pass of the first convolution puts out channels-last gradients. One copy here saves
                # three slow strided passes in the transforms and the param.
                images.register_hook(Tensor.contiguous)
            with chance() if self.probed.draws else nullcontext():
                if redirect is None:
                    captured = recorded(images)
                else:
                    with redirect_gradients(redirect):
                        captured = run(images)
            captured = captured | {layer: captured[layer].transpose(0, 1) for layer in tokens_first}
            return Activations(captured, layouts, (images.shape[-2], images.shape[-1]), self.heads)

        normalise, chance = self.normaliser(), Chance(self.device)
        memory = self.probed.memory_format if execution.channels_last else torch.contiguous_format
        lower = execution.precision == "bfloat16"
        precision = torch.bfloat16 if lower else torch.float32
        recorded = cuda_graphed(run) if execution.graph and layouts else run  # without layers nothing runs
        pairs = [pair for pair in self._foldable if execution.fold and not pair.hidden & layouts.keys()]
        with (
            frozen(self.module),
            Folds.of(self.module).only(pairs),
            converted_weights(self.module, memory, precision),
            fast_conv_backward(self.module),
            capture_outputs(self.module, calls) as capture,
        ):
            yield forward

    def capture(self, images: Float[Tensor, "n c h w"], layers: Iterable[str]) -> Activations:
        """Return the activations of layers for images.

        Args:
            images: In [0, 1], on any device. If they need a gradient, so do the activations.
            layers: Names of the layers to capture.

        Returns:
            The activations, on the network's device.

        Raises:
            AddressError: There is no such layer.
            SettingError: The images do not have the network's channels.
        """
        self.check_images(images)
        with self.session(layers) as forward:
            return forward(images.to(self.device))

    @property
    def _foldable(self) -> tuple[Pair, ...]:
        """Convolutions with a batch normalisation that can be folded into them; measured on first use."""
        if self._measured.pairs is None:
            noise = torch.rand(1, self.channels, *self.size, generator=torch.Generator().manual_seed(0))
            try:
                with Folds.of(self.module).only(()):  # measured without what an open session has folded
                    self._measured.pairs = foldable(self.module, self.normaliser()(noise.to(self.device)))
            except torch.OutOfMemoryError:  # the measurement keeps every layer's output; a render may still fit
                self._measured.pairs = ()
        return self._measured.pairs

    def _grey(self, n: int, size: Size) -> Tensor:
        """Return what the module gets for n grey images."""
        return self.normaliser()(torch.full((n, self.channels, *size), 0.5, device=self.device))

    def _layout(self, layer: str) -> Layout:
        if layer in self.table:
            return self.table[layer].layout
        if layer == OUTPUT and OUTPUT not in self.heads:
            options = " or ".join(f"logit:NAME@{head}" for head in self.heads)
            raise AddressError(f"several networks are combined; name the one whose class is meant: {options}")
        modules = dict(self.module.named_modules())
        if layer not in modules:
            command = f" (list all: featviz layers --model {self.name})" if self.name else " (list all: net.layers())"
            raise AddressError(f"no layer {layer!r} in {self.label}{nearest(layer, self.table)}{command}")
        raise AddressError(
            f"layer {layer!r} of {self.label} cannot be addressed: it does not run in eval mode, or its output is "
            f"not a feature map, token sequence or vector{nearest(layer, self.table)}"
        )


def _refuse_change(name: str) -> NoReturn:
    is_input = name in {field.name for field in fields(InputSpec)}
    remedy = f"net.with_input({name}=...) makes another" if is_input else "create another with fv.Network or fv.load"
    raise AttributeError(f"a Network is immutable, {name!r} cannot change; {remedy}")


def _in_output_order(classes: Sequence[str] | Mapping[int, str]) -> tuple[str, ...]:
    return tuple(classes[key] for key in sorted(classes, key=int)) if isinstance(classes, Mapping) else tuple(classes)
