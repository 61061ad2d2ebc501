"""Run a network on images of several kinds, and record the outputs of its modules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from threading import get_ident

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from featviz.interfaces import Shape, Size
from featviz.network.checkpointing import noticed_checkpointing
from featviz.network.fast.trial import without_tf32
from featviz.network.hooks import Note, watch_outputs
from featviz.network.inputs.given_inputs import inputs_in
from featviz.network.inputs.input_spec import InputSpec
from featviz.network.inputs.packing import packed_length
from featviz.network.out_of_memory import is_out_of_memory
from featviz.network.outputs import OUTPUT
from featviz.network.trees import first_tensor, tensors_in
from featviz.network.working_copy import working_copy
from featviz.random import Chance, noise_images

CHANNELS_LAST_MODULES = (nn.Linear, nn.LayerNorm, nn.MultiheadAttention, nn.Embedding)
"""Modules whose output has its channels last, whatever its shape, unless a subclass replaces `forward`."""
CHANNELS_FIRST_MODULES = (
    nn.Conv1d, nn.Conv2d, nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.InstanceNorm2d, nn.AvgPool1d, nn.AvgPool2d,
    nn.MaxPool1d, nn.MaxPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Upsample,
    nn.PixelShuffle, nn.Conv3d, nn.BatchNorm3d, nn.InstanceNorm1d, nn.InstanceNorm3d, nn.AvgPool3d, nn.MaxPool3d,
    nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool3d,
)  # fmt: skip
"""Modules whose output has its channels as dimension 1, unless a subclass replaces `forward`."""
FIRST_BATCH, SECOND_BATCH = 2, 3
"""Number of images in the first two passes. They differ, so that the batch dimension can be recognised."""

FORMAT_TOLERANCE = 1e-2
"""Largest difference of outputs between memory formats in single precision, relative to the largest output."""

CallIndex = tuple[str, int]
"""Name of a module, and the number of the call in one pass, from 0."""


def raise_unless_size_error(error: Exception) -> None:
    """Raise an error again unless it can mean that the network refuses the size of its input.

    Modules refuse a size with errors of any type and text. Only running out of memory certainly means something else.

    Args:
        error: What the forward pass raised.

    Raises:
        Exception: The same error, if it is about memory.
    """
    if is_out_of_memory(error):
        raise error


@dataclass
class Record:
    """Shapes of the outputs in one pass, by call, in the order of the calls; `None` for an output without tensors."""

    shapes: dict[CallIndex, Shape | None] = field(default_factory=dict)
    items: dict[str, Shape] = field(default_factory=dict)  # shapes of the tensors in the network's output, by path
    draws: bool = False
    without_gradient: set[CallIndex] = field(default_factory=set)  # outputs from which no gradient reaches the images
    complex: set[CallIndex] = field(default_factory=set)  # outputs of complex numbers
    refused: dict[CallIndex, str] = field(default_factory=dict)  # why outputs with tensors have no shape here

    def note(self, name: str, call: int, output: object) -> None:
        """Record the output of one call of a module."""
        tensor = first_tensor(output)
        if tensor is not None and (reason := _reason_to_refuse(tensor)):
            self.refused[name, call], tensor = reason, None
        self.shapes[name, call] = None if tensor is None else tuple(tensor.shape)
        if tensor is not None and tensor.is_complex():
            self.complex.add((name, call))
        if tensor is not None and not tensor.requires_grad:
            self.without_gradient.add((name, call))
        if name == OUTPUT and tensor is not None:
            self.items = {path: tuple(each.shape) for path, each in tensors_in(output).items() if each.ndim}

    @cached_property
    def counts(self) -> dict[str, int]:
        """Number of calls of each module, in the order of the last calls."""
        found: dict[str, int] = {}
        for name, call in self.shapes:
            found.pop(name, None)
            found[name] = call + 1
        return found


def _reason_to_refuse(tensor: Tensor) -> str:
    """Return why an output cannot be captured; empty if it can."""
    if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        return "it is computed within a transform of torch.func, such as vmap, and not available outside of it"
    return "its output is a nested tensor" if tensor.is_nested else ""


@dataclass(frozen=True)
class _Attempt:
    """How a network is run.

    Args:
        memory_format: Memory format of the input.
        keeps_graph: Whether the graph of a pass is kept while it runs, for modules that compute gradients in `forward`.
    """

    memory_format: torch.memory_format
    keeps_graph: bool = False


@dataclass(frozen=True)
class _FirstPass:
    """The first pass that succeeded.

    Args:
        attempt: How the network was run.
        record: What was recorded.
        checkpointed: Whether the network recomputes activations with `torch.utils.checkpoint`.
        writes_weights: Whether the forward pass writes to the weights.
        unregistered: Classes of modules with weights that ran in training mode and are no part of the network.
    """

    attempt: _Attempt
    record: Record
    checkpointed: bool
    writes_weights: bool
    unregistered: tuple[str, ...]


class Passes:
    """Passes over one network, and the state that they share.

    Args:
        module: The network. It is not changed.
        spec: What it expects of its input.
        like: A weight, whose device and precision the input gets.
        longest: Number of tokens of the longest sequence, if the network reads sequences; `None` for images.
    """

    def __init__(self, module: nn.Module, spec: InputSpec, like: Tensor, longest: int | None = None) -> None:
        self.module, self.spec, self.longest = module, spec, longest
        self.normalise, self.device = spec.normaliser(like), like.device
        self.parts = dict(module.named_modules())
        inputs = inputs_in(module).get("")
        self.specs = inputs.specs if inputs is not None and len(inputs.specs) > 1 else {}
        """Specifications of the optimised inputs by name, where there are several."""
        first = self._first_pass()
        self.first, self.writes_weights, self.checkpointed = first.record, first.writes_weights, first.checkpointed
        self.unregistered, self._attempt = first.unregistered, first.attempt
        is_given = any(inputs.given for inputs in inputs_in(module).values())
        self.from_given = self.first.without_gradient if is_given else set[CallIndex]()
        """Outputs that are computed from given inputs only, and are the same for all images."""
        self.second, self.larger, self.fixed_size = self._larger_pass()
        self.tokens_first = {
            call for call, shape in self.first.shapes.items() if shape and self._has_tokens_first(call, shape)
        }

    @property
    def memory_format(self) -> torch.memory_format:
        """Memory format in which the network runs."""
        return self._attempt.memory_format

    @property
    def keeps_graph(self) -> bool:
        """Whether modules compute gradients in their forward pass, and need the graph."""
        return self._attempt.keeps_graph

    def grey(self, count: int, size: Size) -> Float[Tensor, "n c *size"]:
        """Return grey images."""
        return torch.full((count, self.spec.channels, *size), 0.5, device=self.device)

    def noise(self, count: int, size: Size) -> Float[Tensor, "n c *size"]:
        """Return images of uniform noise, the same in each run."""
        return noise_images(count, self.spec.channels, size).to(self.device)

    @property
    def varying(self) -> set[str]:
        """Modules that run another number of times for noise than for grey images."""
        if self.fixed_size:  # the second pass ended early
            return set()
        counts = self.second.counts
        return {name for name, count in self.first.counts.items() if counts.get(name, count) != count}

    def copy_module(self) -> nn.Module:
        """Return a working copy, whose weights are copied only if the forward pass writes to them."""
        return working_copy(self.module, share_weights=not self.writes_weights)

    def watch(self, images: Float[Tensor, "n c *size"], note: Note, copy: nn.Module | None = None) -> Chance:
        """Run a working copy on images in [0, 1]; return the random state that it used."""
        return self._run(self.copy_module() if copy is None else copy, images, note, self._attempt)

    def _run(self, copy: nn.Module, images: Float[Tensor, "n c *size"], note: Note, attempt: _Attempt) -> Chance:
        chance = Chance(self.device)
        with chance():
            inputs = self.normalise(images).contiguous(memory_format=attempt.memory_format)
            watch_outputs(copy, inputs, note, keep_graph=attempt.keeps_graph)
        return chance

    def _first_pass(self) -> _FirstPass:
        """Run the network at its own size, with channels last in memory if it allows that.

        Modules that compute gradients in their forward pass need the graph, which the other passes drop.
        """
        attempts = [_Attempt(torch.channels_last)] if len(self.spec.size) == 2 else []
        attempts += [_Attempt(torch.contiguous_format), _Attempt(torch.contiguous_format, keeps_graph=True)]
        images = self.grey(FIRST_BATCH, self.spec.size)
        for attempt in attempts:
            # Weights are copied, since whether the forward pass writes to them is not known yet.
            record, copy = Record(), working_copy(self.module, share_weights=False)
            try:
                with noticed_checkpointing() as checkpointed, _noticed_others(copy) as unregistered:
                    record.draws = self._run(copy, images, record.note, attempt).used
                if attempt.memory_format is torch.contiguous_format or self._agrees_with_contiguous(attempt):
                    break
            except Exception as error:
                # Feature maps that are flattened with `view` must be contiguous. If the network is broken instead, the
                # contiguous pass fails too, and its error surfaces.
                if attempt.keeps_graph or is_out_of_memory(error):
                    raise
        pairs = zip(copy.parameters(), self.module.parameters(), strict=False)
        writes_weights = any(not torch.equal(mine, own) for mine, own in pairs if own.numel())
        return _FirstPass(attempt, record, bool(checkpointed), writes_weights, tuple(unregistered))

    def _agrees_with_contiguous(self, attempt: _Attempt) -> bool:
        """Whether the network outputs the same for noise in a memory format as for contiguous noise.

        Code that reads memory in its order, as custom kernels and `as_strided` do, may not raise an error. True where
        outputs cannot be compared, as they are random or not floating-point numbers, or the network needs the format.
        """
        images = self.noise(FIRST_BATCH, self.spec.size)
        found, expected = (self._output(images, each) for each in (attempt, _Attempt(torch.contiguous_format)))
        if found is None or expected is None:
            return True
        if found.shape != expected.shape:
            return False
        eps = torch.finfo(expected.dtype).eps / torch.finfo(torch.float32).eps
        tolerance = FORMAT_TOLERANCE * max(1, eps) ** 0.5
        found, expected = found.nan_to_num(), expected.nan_to_num()
        return bool((found - expected).abs().max() <= tolerance * expected.abs().max())

    def _output(self, images: Float[Tensor, "n c *size"], attempt: _Attempt) -> Tensor | None:
        """Return all floating-point numbers that the network outputs; `None` if it fails, draws, or outputs none."""
        outputs: list[Tensor] = []

        def note(name: str, _: int, output: object) -> None:
            if name == OUTPUT:
                tensors = (each.detach() for each in tensors_in(output).values() if not each.is_nested)
                outputs[:] = [each.flatten() for each in tensors if each.is_floating_point()]

        try:
            with without_tf32(self.device):
                chance = self._run(working_copy(self.module, share_weights=False), images, note, attempt)
        except Exception as error:
            raise_unless_size_error(error)
            return None
        return None if chance.used or not any(each.numel() for each in outputs) else torch.cat(outputs)

    def _larger_pass(self) -> tuple[Record, Size, bool]:
        """Run the network at a larger size, or a smaller one of a volume, and on noise if it reads images.

        Returns:
            The record, the last size that was tried, and whether the network has one size only: all others were
            refused, or there are several inputs. The record of a refused size is kept, because it tells about the
            layers before the one that refused.
        """
        record, larger = Record(), self.spec.size
        for larger in self._larger_sizes():
            record = Record()
            try:
                images = self.noise if self.longest is None else self.grey
                self.watch(images(SECOND_BATCH, larger), record.note)
                return record, larger, bool(self.specs)
            except Exception as error:
                raise_unless_size_error(error)
        return record, larger, True

    def _larger_sizes(self) -> list[Size]:
        """Return the sizes to try in the second pass."""
        if self.specs:
            return [(packed_length(self.specs.values(), 2),)]
        if len(self.spec.size) != 2:
            return _other_sizes(self.spec.size)
        height, width = self.spec.size
        if self.longest is not None:  # a sequence is one row
            longer = dict.fromkeys(min(self.longest, each) for each in (width + 4, 2 * width, self.longest))
            return [(height, each) for each in longer if each > width]
        # The second size is a multiple of the network's own, for networks that accept multiples of some number only.
        return [(height + 32, width + 64), (2 * height, 3 * width)]

    def _has_tokens_first(self, call: CallIndex, shape: Shape) -> bool:
        """Whether an output is (tokens, batch, channels), the default of PyTorch's transformer layers."""
        other = self.second.shapes.get(call)
        batch_is_second = len(shape) == 3 and shape[0] != FIRST_BATCH == shape[1]
        return batch_is_second and (other is None or other[1:2] == (SECOND_BATCH,))

    def shapes_of(self, call: CallIndex) -> tuple[Shape | None, Shape | None]:
        """Return the shapes of both passes, batch first."""
        found = self.first.shapes.get(call), self.second.shapes.get(call)
        if call not in self.tokens_first:
            return found
        first, second = ((shape[1], shape[0], *shape[2:]) if shape else None for shape in found)
        return first, second

    def growing(self, call: CallIndex) -> list[int]:
        """Return the dimensions that grow with the size of the image."""
        shape, other = self.shapes_of(call)
        return [i for i in range(1, len(shape)) if other[i] != shape[i]] if shape and other else []


@contextmanager
def _noticed_others(module: nn.Module) -> Iterator[dict[str, None]]:
    """Notice modules in training mode that run, have weights, and are no part of a working copy.

    A module that is reached in a way that copies do not follow, as a global variable or one of a function around a
    class, runs as it is.

    Args:
        module: The working copy.

    Yields:
        A dict whose keys become the classes of these modules.
    """
    parts, thread, found = {id(part) for part in module.modules()}, get_ident(), dict[str, None]()

    def notice(part: nn.Module, _: object) -> None:
        has_weights = any(True for _ in part.parameters()) or any(True for _ in part.buffers())
        if part.training and has_weights and id(part) not in parts and get_ident() == thread:
            found[type(part).__name__] = None

    handle = register_module_forward_pre_hook(notice)
    try:
        yield found
    finally:
        handle.remove()


def _other_sizes(size: Size) -> list[Size]:
    """Return sizes to try in the second pass of a network on signals or volumes.

    Signals are doubled, so that maps of any stride grow. Volumes are made smaller first, which takes less time: by
    multiples of 32 px or a power of 2, so that strides divide the difference and no map is rounded.
    """
    double = tuple(2 * side for side in size)
    if len(size) == 1:
        return [double]
    smaller = tuple(side - (32 * round(side / 64) if side >= 48 else 2 ** side.bit_length() // 4) for side in size)
    larger = (size[0] + 16, *(side + 32 for side in size[1:]))
    return [each for each in (smaller, larger, double) if all(a != b for a, b in zip(each, size, strict=True))]


def defined_channel(part: nn.Module, shape: Shape) -> int:
    """Return the channel dimension that the kind of a module defines; 0 if its kind does not."""
    for kinds, dim in ((CHANNELS_LAST_MODULES, len(shape) - 1), (CHANNELS_FIRST_MODULES, 1)):
        if any(isinstance(part, kind) and type(part).forward is kind.forward for kind in kinds):
            return dim
    return 0


def show(shape: Iterable[int]) -> str:
    """Return a shape for a message."""
    return " x ".join(map(str, shape))
