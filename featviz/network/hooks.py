"""Capture the outputs of layers, and stop the forward pass after the last of them."""

from __future__ import annotations

import math
import operator
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from types import MappingProxyType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from featviz.errors import AddressError
from featviz.network.state_hash import version_of
from featviz.network.trees import first_tensor, rebuilt, tensors_in
from featviz.network.working_copy import uncompiled

Replacement = Callable[[Tensor], Tensor]
"""From the output of a layer to the one with which the pass goes on, of the same shape."""
Coding = Callable[[Tensor, Replacement | None], tuple[Tensor, Tensor]]
"""From the output of a layer, and a function that replaces its codes, to the codes and the output to go on with."""


@dataclass(frozen=True)
class CapturedCall:
    """One output of one call of a module.

    Args:
        module: Name of the module.
        number: Number of the call in a pass, from 1; 0 for the last one, however many there are.
        item: Path of the tensor in the output; empty for the first one.
    """

    module: str
    number: int = 1
    item: str = ""


Note = Callable[[str, int, object], None]
"""Called after every call of a module with its name, the number of the call in this pass, from 0, and its output."""


class PassDone(BaseException):
    """Raised to stop a forward pass early.

    It is not an `Exception`, so `except Exception` in user modules does not catch it.
    """


def hookable_modules(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the names and modules of a network, except those in TorchScript, on which PyTorch allows no hooks."""
    return ((name, part) for name, part in module.named_modules() if not isinstance(part, torch.jit.ScriptModule))


def watch_outputs(module: nn.Module, images: Tensor, note: Note, *, keep_graph: bool = False) -> None:
    """Run a working copy once, and call back after every call of every module.

    Modules take the paths of a pass with gradients: without them, PyTorch's transformer layers call a fused function
    that skips their submodules.

    Args:
        module: The working copy. Hooks stay on it.
        images: What the module expects.
        note: The callback. It may raise `PassDone` to end the pass.
        keep_graph: Keep what a backward pass needs; by default nothing is kept, which saves memory.
    """
    counts: Counter[str] = Counter()

    def hook(name: str, _: nn.Module, __: object, output: object) -> None:
        counts[name] += 1
        note(name, counts[name] - 1, output)

    for name, part in hookable_modules(module):
        part.register_forward_hook(partial(hook, name))
    dropped = torch.autograd.graph.saved_tensors_hooks(lambda _: None, lambda _: torch.empty(0))
    keeping: AbstractContextManager[object] = nullcontext() if keep_graph else dropped
    with torch.inference_mode(False), torch.enable_grad(), keeping, uncompiled(), suppress(PassDone):
        module(images.requires_grad_().clone())  # a module may write its input, which a leaf tensor does not allow


class Capture:
    """Runs forward passes of a working copy, and returns the outputs of layers.

    Hooks that others add to the copy meanwhile, as those of LRP, run before the capturing ones, which may end the pass.

    Args:
        module: The working copy.
        calls: For each layer, what to capture. Of several at one call, the codes of dictionaries come last.
        codings: For the codes of dictionaries, functions from the output of the call that is captured.
    """

    def __init__(
        self,
        module: nn.Module,
        calls: Mapping[str, CapturedCall],
        codings: Mapping[str, Coding] = MappingProxyType({}),
    ) -> None:
        self._calls, self._codings = calls, codings
        self._parts = {layer: module.get_submodule(call.module) for layer, call in calls.items()}
        self._remaining: dict[str, float] = {}
        self._captured: dict[str, Tensor] = {}
        self._uncopied: dict[str, tuple[Tensor, int]] = {}  # tensors captured without a copy, and their version then
        self._overwritten: set[str] = set()  # layers of which such a tensor is changed in place later
        self._replaced: Mapping[str, Replacement] = {}

    def __call__(
        self, forward: Callable[[], object], replacements: Mapping[str, Replacement] = MappingProxyType({})
    ) -> dict[str, Tensor]:
        """Run a forward pass up to the last of the layers.

        Args:
            forward: Runs the working copy.
            replacements: For some layers, functions whose result replaces the output.

        Returns:
            The outputs, by layer.

        Raises:
            AddressError: The pass does not reach one of the layers.
        """
        if not self._calls:
            return {}
        self._replaced = replacements
        found, overwritten = self._run(forward)
        if overwritten:
            self._overwritten |= overwritten
            found, _ = self._run(forward)
        return found

    def _run(self, forward: Callable[[], object]) -> tuple[dict[str, Tensor], set[str]]:
        """Run a pass. Returns the outputs, and the layers whose captured output was overwritten."""
        self._remaining = {layer: call.number or math.inf for layer, call in self._calls.items()}
        handles = [part.register_forward_hook(partial(self._hook, layer)) for layer, part in self._parts.items()]
        try:
            with suppress(PassDone):
                forward()
            if missed := [layer for layer in self._calls if layer not in self._captured]:
                raise AddressError(f"the forward pass did not reach layer {missed[0]!r} for these images")
            overwritten = {layer for layer, (view, version) in self._uncopied.items() if version_of(view) != version}
            return self._captured, overwritten
        finally:
            for handle in handles:
                handle.remove()
            self._captured, self._uncopied = {}, {}  # activations would otherwise stay until the next pass

    def _hook(self, layer: str, part: nn.Module, inputs: tuple[object, ...], output: object) -> object:
        """Capture the output of a call. Returns the output to go on with; `None` for the same."""
        self._remaining[layer] -= 1
        if self._remaining[layer] and self._calls[layer].number:
            return None
        self._uncopied.pop(layer, None)  # of an earlier call
        item = self._calls[layer].item
        tensor = tensors_in(output).get(item) if item else first_tensor(output)
        if tensor is None:
            return None
        if layer in self._codings:
            self._captured[layer], new = self._codings[layer](tensor, self._replaced.get(layer))
            self._stop_if_done()
            return None if new is tensor else _with_tensor(output, tensor, new)
        if layer in self._replaced:
            new = self._replaced[layer](tensor)
            output, tensor = _with_tensor(output, tensor, new), new
        self._captured[layer] = tensor
        self._stop_if_done()
        if layer not in self._replaced and not getattr(part, "inplace", False) and _is_view(tensor, inputs):
            # Dropout in eval mode returns its input, which a later operation in place on the output changes, too. So
            # the pass goes on with the same tensor. If it is overwritten, the next pass captures a clone and puts that
            # back, so that the input, the output and later layers depend on the clone.
            if layer in self._overwritten:
                self._captured[layer] = tensor.clone()
                tensor.copy_(self._captured[layer])
            else:
                self._uncopied[layer] = tensor, version_of(tensor)
            return None
        # Later modules may overwrite the output in place (ReLU(inplace=True), +=). They continue with a clone, so that
        # the captured tensor keeps its values, and stays in the graph between the image and later layers: their scores
        # can be differentiated with respect to it.
        clone = tensor.clone()
        if layer in self._replaced:
            return _with_tensor(output, tensor, clone)
        if layer not in self._overwritten:
            with suppress(Exception):  # a container of the user's may refuse another item
                changed = _with_tensor(output, tensor, clone)
                if any(each is clone for each in tensors_in(changed).values()):
                    # Code may reach the captured tensor in another way, as by a view of it, and overwrite it.
                    self._uncopied[layer] = tensor, version_of(tensor)
                    return changed
        # The clone is captured instead, which later layers do not depend on; its gradient still reaches the image.
        self._captured[layer] = clone
        return None

    def _stop_if_done(self) -> None:
        if not any(count > 0 for count in self._remaining.values()):
            raise PassDone


def _is_view(output: Tensor, inputs: tuple[object, ...]) -> bool:
    """Return whether an output is an input or a view of one."""
    bases = {id(_base(each)) for each in tensors_in(inputs).values()}
    return id(_base(output)) in bases


def _base(tensor: Tensor) -> Tensor:
    """Return the tensor of which this one is a view, or the tensor itself."""
    return tensor if tensor._base is None else tensor._base


def _with_tensor(output: Any, old: Tensor, new: Tensor) -> Any:
    """Return a module's output with another tensor in place of one, in tuples, lists, dicts and dataclasses too.

    Containers are changed in place, except for tuples: the module may refer to them. An output of another class stays
    as it is.
    """
    if output is old:
        return new
    if isinstance(output, tuple):
        items = [_with_tensor(item, old, new) for item in output]
        return output if all(map(operator.is_, items, output)) else rebuilt(output, items)
    for key, item in _items_of(output):
        changed = _with_tensor(item, old, new)
        if changed is item:
            continue
        if isinstance(output, list | MutableMapping):
            output[key] = changed
        else:
            object.__setattr__(output, key, changed)  # also of a frozen dataclass
    return output


def _items_of(output: Any) -> list[tuple[Any, Any]]:
    """Return keys and values of a list, dict, dataclass or namespace; none of anything else."""
    if isinstance(output, list):
        return list(enumerate(output))
    if isinstance(output, MutableMapping):
        return list(output.items())
    if isinstance(output, SimpleNamespace):
        return list(vars(output).items())
    if is_dataclass(output) and not isinstance(output, type):
        names = [each.name for each in fields(output) if hasattr(output, each.name)]
        return [(name, getattr(output, name)) for name in names]
    return []
