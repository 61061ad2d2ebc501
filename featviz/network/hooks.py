"""Capture the outputs of layers, and stop the forward pass after the last of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress

from torch import Tensor, nn

from featviz.errors import AddressError
from featviz.network.activations import first_tensor

Capture = Callable[[Callable[[], object]], dict[str, Tensor]]
"""Runs a forward pass and returns the outputs of the hooked layers by name."""


class _AllCaptured(BaseException):
    """Ends a forward pass once every layer is captured. No `except Exception` of the user's modules catches it."""


@contextmanager
def capture_outputs(module: nn.Module, calls: Mapping[str, int]) -> Iterator[Capture]:
    """Hook layers while the context is open.

    Args:
        module: The network.
        calls: Names of the layers, and how often each runs in one pass. The last call is captured.

    Yields:
        A function that runs a forward pass and returns the outputs of the layers. It raises `AddressError` if the pass
        does not reach one of them.
    """
    remaining: dict[str, int] = {}
    captured: dict[str, Tensor] = {}

    def hook_for(layer: str) -> Callable[[nn.Module, object, object], object]:
        def hook(_: nn.Module, __: object, output: object) -> object:
            if not remaining:  # a pass of the network that was not started by `run`
                return None
            remaining[layer] -= 1
            tensor = first_tensor(output)
            if remaining[layer] > 0 or tensor is None:
                return None
            captured[layer] = tensor
            if not any(count > 0 for count in remaining.values()):
                raise _AllCaptured
            # Later modules may overwrite the output in place (ReLU(inplace=True), +=). They continue with a clone, so
            # the captured tensor keeps its values, and stays in the graph between the image and later layers: their
            # scores can be differentiated with respect to it.
            if output is tensor:
                return tensor.clone()
            # An output inside of a tuple or dict cannot be replaced. The clone is captured instead, which later layers
            # do not depend on; its gradient still reaches the image.
            captured[layer] = tensor.clone()
            return None

        return hook

    def run(forward: Callable[[], object]) -> dict[str, Tensor]:
        if not calls:
            return {}
        remaining.update(calls)
        captured.clear()
        try:
            with suppress(_AllCaptured):
                forward()
        finally:
            remaining.clear()
        if missed := [layer for layer in calls if layer not in captured]:
            raise AddressError(f"the forward pass did not reach layer {missed[0]!r} for these images")
        return dict(captured)

    with ExitStack() as stack:
        for layer in calls:
            stack.callback(module.get_submodule(layer).register_forward_hook(hook_for(layer)).remove)
        yield run
