"""Run a network for a while: a working copy of its module, prepared for speed and hooked where it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from featviz.errors import SettingError
from featviz.network.activations import Activations, Layout
from featviz.network.dictionaries.attached import codings_of
from featviz.network.execution import Execution
from featviz.network.fast.batch_norm_folding import fold
from featviz.network.fast.conv_backward import speed_up_backward
from featviz.network.fast.cuda_graphs import cuda_graphed
from featviz.network.fast.memory_formats import convert_weights, in_memory_format
from featviz.network.fast.out_of_place import run_out_of_place
from featviz.network.given_inputs import place_inputs, rows_of_images
from featviz.network.gradients import SmoothPools, redirect_gradients
from featviz.network.hooks import CapturedCall, Replacement, hook_outputs
from featviz.network.layers import CombinesNetworks, Layer
from featviz.network.modules import check_gradients, enable_recurrent_gradients
from featviz.network.neutral_state import fast_on_gpu
from featviz.network.packing import shape_of
from featviz.network.working_copy import uncompiled
from featviz.random import Chance

if TYPE_CHECKING:
    from featviz.network.network import Network


@dataclass(frozen=True, eq=False)
class Forward:
    """Runs a working copy of the network up to the last layer needed.

    Args:
        module: The working copy. It may be changed: it ends with the session.
        run: Runs it on images, redirects the gradients of some of them, and replaces outputs of layers.
    """

    module: nn.Module
    run: Callable[[Tensor, Tensor | None, Mapping[str, Replacement], bool, slice | None], Activations]

    def __call__(
        self,
        images: Float[Tensor, "n c *size"],
        *,
        redirect: Bool[Tensor, " n"] | None = None,
        replace: Mapping[str, Replacement] = MappingProxyType({}),
        graph: bool = True,
        rows: slice | None = None,
    ) -> Activations:
        """Return the activations of the captured layers.

        Args:
            images: In [0, 1].
            redirect: Images for which blocked gradients are redirected through rectifiers; `None` for none of them.
            replace: For captured layers, functions from their output to the one with which the pass goes on.
            graph: Whether the pass may be recorded as a CUDA graph of its own.
            rows: Of inputs that are given per image, the rows that these images get; `None` for all, one each.

        Raises:
            SettingError: Inputs are given per image, `rows` is `None`, and there are not as many images.
        """
        return self.run(images, redirect, replace, graph, rows)


@contextmanager
def open_session(network: Network, layers: Iterable[str], execution: Execution) -> Iterator[Forward]:
    """Open a network: a working copy of the module, frozen, hooked, folded and laid out for speed.

    The forward pass stops at the last layer needed. A module that runs several times in one pass is captured at
    its last call.

    Args:
        network: The network.
        layers: Names of the layers to capture.
        execution: How to run the network.

    Yields:
        A function from images in [0, 1] to activations.

    Raises:
        AddressError: There is no such layer.
    """
    found = {layer: network.layer(layer) for layer in frozenset(layers)}
    layouts = {layer: row.layout for layer, row in found.items()}
    # At one call, a layer is captured before its codes are computed, so that these depend on what is captured.
    in_order = sorted(found, key=lambda layer: found[layer].base is not None)
    calls = {layer: call_of(found[layer]) for layer in in_order}
    read = {layer if row.base is None else row.base for layer, row in found.items()}
    tokens_first = [layer for layer, layout in layouts.items() if layout.batch]

    def run(images: Tensor, replace: Mapping[str, Replacement] = MappingProxyType({})) -> dict[str, Tensor]:
        with (
            torch.autocast(images.device.type, precision, enabled=lower),
            SmoothPools() if network.smooth_pools else nullcontext(),
            uncompiled(),
        ):
            return capture(lambda: module(in_memory_format(normalise(images), memory)), replace)

    def forward(
        images: Tensor, redirect: Tensor | None, replace: Mapping[str, Replacement], graph: bool, rows: slice | None
    ) -> Activations:
        if images.requires_grad:
            check_gradients(network.probed.checkpointed)
        rows = _rows(network.label, per_image, len(images), rows)
        with chance() if network.probed.draws else nullcontext(), rows_of_images(rows):
            if replace:
                captured = run(images, {layer: _batch_first(each, layouts[layer]) for layer, each in replace.items()})
            elif redirect is None:
                captured = recorded(images) if graph and rows is None else run(images)
            else:
                with redirect_gradients(redirect):
                    captured = run(images)
        captured = captured | {layer: captured[layer].transpose(0, 1) for layer in tokens_first}
        captured = {layer: _with_batch(tensor, found[layer], len(images)) for layer, tensor in captured.items()}
        return Activations(
            captured, layouts, tuple(images.shape[2:]), network.heads, outputs_of=network.outputs_of, shapes=shapes
        )

    normalise, chance, per_image = network.normaliser(), Chance(network.device), network.given_images
    shapes = {name: shape_of(spec) for name, spec in network.inputs.items()}
    memory = network.probed.memory_format if execution.channels_last else torch.contiguous_format
    lower = execution.precision == "bfloat16"
    precision = torch.bfloat16 if lower else torch.float32
    recorded = cuda_graphed(run) if execution.graph and layouts else run  # without layers nothing runs
    module = network.copy_module()
    place_inputs(module, network.device)
    if network.device.type == "cuda":
        enable_recurrent_gradients(module)
    if execution.fold:
        fold(module, [pair for pair in network.foldable if not pair.hidden & read])
    if network.runs_out_of_place:
        run_out_of_place(module)
    convert_weights(module, memory, precision)
    speed_up_backward(module)
    if isinstance(module, CombinesNetworks):
        module.captured = tuple(found)
    capture = hook_outputs(module, calls, codings_of(network, found.values()))
    with fast_on_gpu(network.device, benchmark=execution.benchmark):
        yield Forward(module, forward)


def _with_batch(tensor: Tensor, layer: Layer, count: int) -> Tensor:
    """Return an output, batch first, with a channel dimension. Of one image, `squeeze` removes the batch dimension.

    Args:
        tensor: The output.
        layer: What is known of the layer.
        count: Number of images.
    """
    if count == 1 and tensor.ndim == len(layer.shape) and tensor.shape[:1] != (1,):
        tensor = tensor[None]
    return tensor if tensor.ndim > 1 else tensor.view(count, -1)


def _rows(label: str, given: int | None, count: int, rows: slice | None) -> slice | None:
    """Return the rows that images get of inputs that are given per image; `None` where none is.

    Args:
        label: Name of the network for messages.
        given: Number of images for which inputs are given; `None` where none is.
        count: Number of images of the pass.
        rows: The rows that were chosen; `None` for all.

    Raises:
        SettingError: No rows are chosen, and there are not as many images.
    """
    if given is None:
        return None
    if rows is None and count != given:
        raise SettingError(
            f"{label} has inputs per image, for {given} image(s), and gets {count}; give as many images, or "
            "one row for all with net.with_given(...)"
        )
    return slice(0, given) if rows is None else rows


def _batch_first(replacement: Replacement, layout: Layout) -> Replacement:
    """Return a replacement for outputs as the module puts them out, from one for outputs whose batch comes first."""
    return (lambda output: replacement(output.transpose(0, 1)).transpose(0, 1)) if layout.batch else replacement


def call_of(row: Layer) -> CapturedCall:
    """Return what to capture for a layer."""
    name, _, number = (row.name if row.base is None else row.base).partition("#")
    return CapturedCall(row.source if row.item else name, int(number) if number else row.calls, row.item)
