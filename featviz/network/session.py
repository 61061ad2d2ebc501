"""Prepare a working copy of a network's module for many fast passes, with hooks on the captured layers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from featviz.errors import SettingError, pluralize
from featviz.network.activations import Activations
from featviz.network.checkpointing import refuse_gradients
from featviz.network.dictionaries.attached import codings_of
from featviz.network.execution import Execution
from featviz.network.fast.batch_norm_folding import fold
from featviz.network.fast.conv_backward import speed_up_backward
from featviz.network.fast.cuda_graphs import cuda_graphed
from featviz.network.fast.memory_formats import convert_weights, in_memory_format
from featviz.network.fast.out_of_place import run_out_of_place
from featviz.network.gradients import SmoothPools, redirect_gradients
from featviz.network.hooks import Capture, CapturedCall, Replacement
from featviz.network.inputs.given_inputs import place_inputs, rows_of_images
from featviz.network.inputs.packing import shape_of
from featviz.network.layers import CombinesNetworks, LayerRow
from featviz.network.layout import Layout
from featviz.network.neutral_state import fast_on_gpu
from featviz.network.working_copy import uncompiled
from featviz.random import Chance

if TYPE_CHECKING:
    from featviz.network.network import Network


class Forward:
    """Runs a working copy of a network up to the last layer needed.

    Args:
        network: The network.
        layers: The rows of the layers to capture, by name.
        execution: How to run the network.
    """

    module: nn.Module
    """The working copy. It may be changed: it ends with the session."""

    def __init__(self, network: Network, layers: Mapping[str, LayerRow], execution: Execution) -> None:
        self._network, self._layers = network, layers
        self._layouts = {name: row.layout for name, row in layers.items()}
        self._shapes = {name: shape_of(spec) for name, spec in network.inputs.items()}
        self._normalise, self._chance = network.normaliser(), Chance(network.device)
        self._draws, self._checkpointed = network.probed.draws, network.probed.checkpointed
        self._given_count = network.given_count
        self._memory = network.probed.memory_format if execution.channels_last else torch.contiguous_format
        self._precision = torch.bfloat16 if execution.precision == "bfloat16" else torch.float32
        self.module = _prepared_module(network, layers, self._memory, self._precision, fold_pairs=execution.fold)
        # At one call, a layer is captured before its codes are computed, so that these depend on what is captured.
        in_order = sorted(layers, key=lambda name: layers[name].base is not None)
        calls = {name: call_of(layers[name]) for name in in_order}
        self._capture = Capture(self.module, calls, codings_of(network, layers.values()))
        # Without layers nothing runs.
        self._graphed = cuda_graphed(self._run) if execution.graph and layers else None

    def __call__(
        self,
        images: Float[Tensor, "n c *size"],
        *,
        redirect: Bool[Tensor, " n"] | None = None,
        replace: Mapping[str, Replacement] = MappingProxyType({}),
        graph: bool = False,
        rows: slice | None = None,
    ) -> Activations:
        """Return the activations of the captured layers.

        Args:
            images: In [0, 1].
            redirect: Images for which blocked gradients are redirected through rectifiers; `None` for none of them.
            replace: For captured layers, functions whose result replaces the layer's output.
            graph: Whether the pass may be recorded as a CUDA graph of its own. Only for callers that compute gradients
                with respect to the images, once, before the next pass: a replay overwrites the memory of the last one,
                and captured layers of a graph have no gradients with respect to each other.
            rows: Of inputs that are given per image, the rows that these images get; `None` for all, one each.

        Raises:
            SettingError: Inputs are given per image, `rows` is `None`, and there are not as many images.
        """
        network = self._network
        if images.requires_grad and self._checkpointed:
            refuse_gradients()
        rows = _rows(network.label, self._given_count, len(images), rows)
        with self._chance() if self._draws else nullcontext(), rows_of_images(rows):
            if replace:
                batch_first = {layer: _batch_first(each, self._layouts[layer]) for layer, each in replace.items()}
                captured = self._run(images, batch_first)
            elif redirect is None:
                run = self._graphed if graph and rows is None else None
                captured = (run or self._run)(images)
            else:
                with redirect_gradients(redirect):
                    captured = self._run(images)
        tensors = {}
        for layer, tensor in captured.items():
            first = tensor.transpose(0, 1) if self._layouts[layer].batch else tensor
            tensors[layer] = _with_batch(first, self._layers[layer], len(images))
        size, heads = tuple(images.shape[2:]), network.heads
        return Activations(tensors, self._layouts, size, heads, outputs_of=network.outputs_of, shapes=self._shapes)

    def trial(self) -> AbstractContextManager[None]:
        """Return a context in which passes do not change what the network draws after it."""
        return self._chance.rewound()

    def close(self) -> None:
        """Free a recorded graph. It refers to this object, so that both would stay until garbage collection."""
        self._graphed = None

    def _run(self, images: Tensor, replace: Mapping[str, Replacement] = MappingProxyType({})) -> dict[str, Tensor]:
        """Return the outputs of the captured layers as the module puts them out."""
        with (
            torch.autocast(images.device.type, self._precision, enabled=self._precision is torch.bfloat16),
            SmoothPools() if self._network.smooth_pools else nullcontext(),
            uncompiled(),
        ):
            return self._capture(lambda: self.module(in_memory_format(self._normalise(images), self._memory)), replace)


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
    forward = Forward(network, {layer: network.layer(layer) for layer in frozenset(layers)}, execution)
    try:
        with fast_on_gpu(network.device, benchmark=execution.benchmark):
            yield forward
    finally:
        forward.close()


def _prepared_module(
    network: Network,
    layers: Mapping[str, LayerRow],
    memory: torch.memory_format,
    precision: torch.dtype,
    *,
    fold_pairs: bool,
) -> nn.Module:
    """Return a working copy of the module that runs fast.

    Args:
        network: The network.
        layers: The rows of the layers to capture, by name.
        memory: Memory format of the weights.
        precision: Floating-point type in which convolutions and products run.
        fold_pairs: Fold batch normalisations into convolutions whose output is not captured.
    """
    module = network.copy_module()
    place_inputs(module, network.device)
    if network.device.type == "cuda":
        _enable_recurrent_gradients(module)
    if fold_pairs:
        read = {name if row.base is None else row.base for name, row in layers.items()}
        fold(module, [pair for pair in network.foldable if not pair.hidden & read])
    if network.runs_out_of_place:
        run_out_of_place(module)
    convert_weights(module, memory, precision)
    speed_up_backward(module)
    if isinstance(module, CombinesNetworks):
        module.captured = tuple(layers)
    return module


def _enable_recurrent_gradients(module: nn.Module) -> None:
    """Set recurrent layers of a working copy to training mode without dropout.

    cuDNN computes their gradients in that mode only. Without dropout, both modes compute the same.

    Args:
        module: A working copy, whose recurrent layers are changed.
    """
    for part in module.modules():
        if isinstance(part, nn.RNNBase):
            vars(part).update(training=True, dropout=0.0)


def _with_batch(tensor: Tensor, layer: LayerRow, count: int) -> Tensor:
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
            f"{label} has inputs per image, for {pluralize(given, 'image')}, and gets {count}; give as many images, or "
            "one row for all with net.with_given(...)"
        )
    return slice(0, given) if rows is None else rows


def _batch_first(replacement: Replacement, layout: Layout) -> Replacement:
    """Return a replacement for outputs as the module puts them out, from one for outputs whose batch comes first."""
    return (lambda output: replacement(output.transpose(0, 1)).transpose(0, 1)) if layout.batch else replacement


def call_of(row: LayerRow) -> CapturedCall:
    """Return what to capture for a layer."""
    name = row.name if row.base is None else row.base
    module = name.removesuffix(f"#{row.call}") if row.call else name  # names may hold other numbers
    return CapturedCall(row.source if row.item else module, row.call or row.calls, row.item)
