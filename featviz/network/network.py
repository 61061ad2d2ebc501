"""A module and what it expects: made once, never changed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property
from typing import Any, Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from featviz.activations import OUTPUT, Activations, Layout
from featviz.errors import AddressError, ModelError, SettingError, nearest
from featviz.network.capture import catching
from featviz.network.folding import Folds, Pair, foldable
from featviz.network.gradients import SmoothPools, redirected
from featviz.network.graphs import replayed
from featviz.network.layers import Field, Layer, LayerTable, Probed, probe, receptive_fields, refuses_size
from featviz.network.surgery import frozen, laid_out, version
from featviz.network.ways_back import quick_ways_back
from featviz.plan import Plan
from featviz.protocols import Size, as_size
from featviz.random import Chance

ORDERS = ("RGB", "BGR")
LAYOUTS = ("NCHW", "NHWC")
ROOMY = 256
"""Side in px of the images on which receptive fields are measured: smaller ones cut the fields off."""


class See(Protocol):
    """Looks at images with a network that is being watched."""

    def __call__(self, images: Float[Tensor, "n c h w"], *, wake: Bool[Tensor, " n"] | None = None) -> Activations:
        """Return what the layers put out for images in [0, 1]."""


class Network:
    """A module, the input it expects, and its classes. Making one changes nothing on the module.

    Args:
        module: any `nn.Module` that takes a batch of images; of one that `torch.compile` made, what it was made of.
        size: height and width in px, or one side, of the images it was trained on.
        mean: of each input channel, in [0, 1] as the images are; how many there are says how many channels they have.
        std: of each input channel; the module sees `(image - mean) / std`.
        classes: names in output order, or by number.
        name: what `fv.load` calls it, for messages and recipes; empty for a module made in Python.
        weights: the file its weights came from, or `default` or `none`, for recipes.
        heads: layers that put out class logits, and their class names; `None` means the output and `classes`.
        order: in which order the module wants the channels of an RGB image, `"RGB"` or `"BGR"`.
        layout: in which order it wants the dimensions of a batch, `"NCHW"` or `"NHWC"`.
        smooth_pools: spread the gradient of maximum pools over all that they see, which takes their grid away.
        probed: what its layers put out, where that is known; `None` means that running it will tell.

    Raises:
        SettingError: the numbers do not make sense.
        ModelError: the module has no weights yet.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        size: int | Size,
        mean: Sequence[float],
        std: Sequence[float],
        classes: Sequence[str] | Mapping[int, str] = (),
        name: str = "",
        weights: str | None = None,
        heads: Mapping[str, Sequence[str] | Mapping[int, str]] | None = None,
        order: str = "RGB",
        layout: str = "NCHW",
        smooth_pools: bool = False,
        probed: Probed | None = None,
    ) -> None:
        self.module = getattr(module, "_orig_mod", module)
        self.size = as_size(size)
        try:
            self.mean, self.std = tuple(map(float, mean)), tuple(map(float, std))
        except (TypeError, ValueError) as error:
            raise SettingError(
                f"mean {mean!r} and std {std!r} are no lists of numbers; give one of each per channel"
            ) from error
        self.classes = _names(classes)
        self.heads = {OUTPUT: self.classes} if heads is None else {head: _names(names) for head, names in heads.items()}
        self.name, self.weights = name, weights
        self.order, self.layout = order, layout
        self.smooth_pools = smooth_pools
        self._known = probed
        self._folds = Folds()
        self._hashed: tuple[object, str] | None = None
        self._taken: set[Size] = set()
        self.footprints: dict[object, float] = {}
        """How many bytes a picture takes, by how it is seen; whoever measures it notes it here."""
        if isinstance(self.module, torch.jit.ScriptModule):
            raise ModelError(f"{self.label} is TorchScript, which cannot be looked into; give what it was made from")
        if any(is_lazy(weight) for weight in self.module.parameters()):
            raise ModelError(f"{self.label} has layers whose size is still open; run it once on a batch of images")
        if any(weight.is_meta for weight in self.module.parameters()):
            raise ModelError(f"{self.label} has no weights, it is on the meta device; load them first")
        if len(self.mean) != len(self.std) or not self.mean or min(self.std) <= 0:
            raise SettingError(
                f"mean {self.mean} and std {self.std} do not go together; give one of each per channel, std above 0"
            )
        if min(self.mean) < 0 or max(self.mean) > 1:
            raise SettingError(f"mean {self.mean} is not in [0, 1], as the images are; divide mean and std by 255")
        if order not in ORDERS or layout not in LAYOUTS:
            known = f"{' or '.join(ORDERS)} and {' or '.join(LAYOUTS)}"
            raise SettingError(f"there is no order {order!r} with layout {layout!r}; give {known}")
        if min(self.size) < 1:
            raise SettingError(f"size {self.size[0]} x {self.size[1]} has no pixels; give the size it was trained on")

    def __repr__(self) -> str:
        """Show what it is and what it expects."""
        expects = f"{self.size[0]}x{self.size[1]} px, {self.channels} channels, mean {self.mean}, std {self.std}"
        return f"<Network {self.label}: {expects}, {len(self.classes)} class names, on {self.device}>"

    @property
    def label(self) -> str:
        """What to call it in messages."""
        return self.name or type(self.module).__name__

    @property
    def channels(self) -> int:
        """How many channels its images have."""
        return len(self.mean)

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self._weight.device

    @property
    def precision(self) -> torch.dtype:
        """What kind of numbers its weights are."""
        return self._weight.dtype

    @property
    def _weight(self) -> Tensor:
        floating = (weight for weight in self.module.parameters() if weight.is_floating_point())
        return next(floating, torch.empty(0))

    @property
    def storages(self) -> set[int]:
        """Where in memory its weights and buffers lie."""
        tensors = [*self.module.parameters(), *self.module.buffers()]
        return {tensor.untyped_storage().data_ptr() for tensor in tensors}

    @property
    def fingerprint(self) -> str:
        """A hash of its weights: the same for the same network, wherever it came from."""
        state = {key: value for key, value in sorted(self.module.state_dict().items()) if isinstance(value, Tensor)}
        now = [(value.data_ptr(), version(value), value.sum().item()) for value in state.values()]
        if self._hashed is None or self._hashed[0] != now:
            digest = hashlib.sha256()
            for key, value in state.items():
                digest.update(key.encode() + str(tuple(value.shape)).encode())
                digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
            self._hashed = now, digest.hexdigest()[:16]
        return self._hashed[1]

    @cached_property
    def probed(self) -> Probed:
        """What a look at its layers tells; found when it is first needed."""
        if self._known is not None:
            return self._known
        try:
            return probe(self.module, self._grey, self.size)
        except Exception as error:
            error.add_note(f"while running {self.label} on grey images of {self.size[0]}x{self.size[1]} px")
            raise

    @cached_property
    def _foldable(self) -> tuple[Pair, ...]:
        noise = torch.rand(1, self.channels, *self.size, generator=torch.Generator().manual_seed(0))
        try:
            return foldable(self.module, self.normaliser()(noise.to(self.device)))
        except torch.OutOfMemoryError:  # finding out keeps every layer's output; a render may still fit
            return ()

    @property
    def table(self) -> dict[str, Layer]:
        """Every layer that can be addressed, by name, in the order in which they end."""
        return self.probed.table

    @property
    def fixed_size(self) -> bool:
        """Whether it takes images of its own size only, as far as two others tell."""
        return self.probed.fixed_size

    def layers(self, size: int | Size | None = None) -> LayerTable:
        """List every layer: address, kind, shape, channels, receptive field and stride in px.

        Args:
            size: height and width in px at which to look; `None` means the network's own.

        Raises:
            ModelError: it does not take images of this size.
        """
        size = self.size if size is None else as_size(size)
        if size == self.size:
            return LayerTable(self.table, self.receptive_fields())
        self.check_size(size)
        return self.expecting(size=size).layers()

    def expecting(self, **other: Any) -> Network:
        """Return a network that runs the same module, but expects something else of its input.

        Args:
            other: any of `size`, `mean`, `std`, `order`, `layout`, `probed`.
        """
        kept = {key: getattr(self, key) for key in ("size", "mean", "std", "order", "layout")}
        named = {"classes": self.classes, "name": self.name, "weights": self.weights, "smooth_pools": self.smooth_pools}
        heads = None if OUTPUT in self.heads else self.heads
        return Network(self.module, heads=heads, **named, **(kept | other))  # type: ignore[arg-type]

    def receptive_fields(self) -> dict[str, Field]:
        """Measure the receptive field and stride of every feature map, in as many passes as the largest stride."""

        def run(image: Tensor, note: Callable[[str, Tensor], None]) -> None:
            with torch.no_grad(), self.watch(self.table) as see:
                for name, tensor in see(image.to(self._weight)).items():
                    note(name, tensor)

        size = self.size if self.fixed_size else (max(ROOMY, self.size[0]), max(ROOMY, self.size[1]))
        return receptive_fields(run, self.table, size, self.channels)

    def check_size(self, size: Size) -> None:
        """Make sure that the network runs on images of this size.

        Raises:
            ModelError: it does not; the message has the smallest square that it takes.
        """
        if size in self._taken or self.takes(size):
            self._taken.add(size)
            return
        if not self.takes(self.size):
            with frozen(self.module), Chance(self.device)():
                self.module(self._grey(1, self.size))  # not the size's fault: let the network's own error surface
        given = f"{self.label} does not take {size[0]}x{size[1]} px"
        if self.fixed_size:
            raise ModelError(f"{given}; it takes {self.size[0]}x{self.size[1]} only")
        side = self.smallest
        raise ModelError(f"{given}; the smallest square it takes is {side}x{side}")

    @cached_property
    def smallest(self) -> int:
        """The side in px of the smallest square that it takes."""
        if self.fixed_size:
            return min(self.size)
        sides = range(1, min(self.size))  # one after another: a module may want multiples of a number
        return next((side for side in sides if self.takes((side, side))), min(self.size))

    def takes(self, size: Size) -> bool:
        """Whether the network runs on images of this size."""
        try:
            with frozen(self.module), Chance(self.device)(), torch.no_grad():
                self.module(self._grey(1, size))
        except Exception as error:
            refuses_size(error)
            return False
        return True

    def normaliser(self) -> Callable[[Tensor], Tensor]:
        """Return a function that turns images in [0, 1] into what the module expects."""
        weight = self._weight
        scale = (1 / torch.tensor(self.std, device=weight.device)).view(-1, 1, 1)
        shift = -torch.tensor(self.mean, device=weight.device).view(-1, 1, 1) * scale

        def normal(images: Tensor) -> Tensor:
            normalised = torch.addcmul(shift, images, scale).to(weight.dtype)
            normalised = normalised.flip(1) if self.order == "BGR" else normalised
            return normalised.permute(0, 2, 3, 1) if self.layout == "NHWC" else normalised

        return normal

    @contextmanager
    def watch(self, layers: Iterable[str], plan: Plan = Plan()) -> Iterator[See]:
        """Open the network for as long as the context lasts: frozen, hooked, folded, as planned; then undo it all.

        The function it gives takes images in [0, 1] and returns the layers' activations; told which images to `wake`,
        it redirects gradients of theirs that units which are off would block. The forward pass stops at the last layer
        asked for. A module that runs several times is captured at its last.

        Raises:
            AddressError: there is no such layer.
        """
        layouts = {layer: self._layout(layer) for layer in frozenset(layers)}
        calls = {layer: self.table[layer].calls for layer in layouts}
        turned = [layer for layer, layout in layouts.items() if layout.batch]

        def forward(images: Tensor) -> dict[str, Tensor]:
            with (
                torch.autocast(images.device.type, precision, enabled=lower),
                SmoothPools() if self.smooth_pools else nullcontext(),
            ):
                return run(lambda: self.module(normal(images).contiguous(memory_format=memory)))

        def see(images: Tensor, *, wake: Tensor | None = None) -> Activations:
            if images.requires_grad and not images.is_leaf:
                images.register_hook(Tensor.contiguous)  # one copy here saves three slow passes further back
            with chance() if self.probed.draws else nullcontext():
                if wake is None:
                    caught = quick(images)
                else:
                    with redirected(wake):
                        caught = forward(images)
            caught = caught | {layer: caught[layer].transpose(0, 1) for layer in turned}
            return Activations(caught, layouts, (images.shape[-2], images.shape[-1]), self.heads)

        normal, chance = self.normaliser(), Chance(self.device)
        memory = self.probed.memory_format if plan.channels_last else torch.contiguous_format
        lower = plan.precision == "bfloat16"
        precision = torch.bfloat16 if lower else torch.float32
        quick = replayed(forward) if plan.graph and layouts else forward  # or there is nothing to record
        pairs = [pair for pair in self._foldable if plan.fold and not pair.hidden & layouts.keys()]
        with (
            frozen(self.module),
            self._folds.only(pairs),
            laid_out(self.module, memory, precision),
            quick_ways_back(self.module),
            catching(self.module, calls) as run,
        ):
            yield see

    def capture(self, images: Float[Tensor, "n c h w"], layers: Iterable[str]) -> Activations:
        """Return what the layers put out for images in [0, 1].

        Raises:
            AddressError: there is no such layer.
            SettingError: the images do not have the network's channels.
        """
        self.check_images(images)
        with self.watch(layers) as see:
            return see(images.to(self.device))

    def check_images(self, images: Tensor) -> None:
        """Make sure that images are a batch of floating-point numbers with the network's channels.

        Raises:
            SettingError: they are not.
        """
        if images.ndim != 4 or images.shape[1] != self.channels:
            wanted = f"(n, {self.channels}, h, w)"
            raise SettingError(f"images of shape {tuple(images.shape)}; {self.label} takes {wanted} in [0, 1]")
        if not images.is_floating_point():
            raise SettingError(f"images of {images.dtype}; {self.label} takes floating-point numbers in [0, 1]")

    def _grey(self, n: int, size: Size) -> Tensor:
        """Make what the module sees of grey images."""
        return self.normaliser()(torch.full((n, self.channels, *size), 0.5, device=self.device))

    def _layout(self, layer: str) -> Layout:
        if layer in self.table:
            return self.table[layer].layout
        if layer == OUTPUT and OUTPUT not in self.heads:
            which = " or ".join(f"logit:NAME@{head}" for head in self.heads)
            raise AddressError(f"several networks run together; say whose class it is, as {which}")
        modules = dict(self.module.named_modules())
        if layer not in modules:
            see = f" (featviz layers --model {self.name} lists all)" if self.name else " (net.layers() lists all)"
            raise AddressError(f"no layer {layer!r} in {self.label}{nearest(layer, self.table)}{see}")
        raise AddressError(
            f"layer {layer!r} of {self.label} cannot be addressed: it does not run in eval mode, or what it puts out "
            f"is no map, tokens or vector{nearest(layer, self.table)}"
        )


def _names(classes: Sequence[str] | Mapping[int, str]) -> tuple[str, ...]:
    """Bring class names into the order of the outputs."""
    return tuple(classes[key] for key in sorted(classes, key=int)) if isinstance(classes, Mapping) else tuple(classes)
