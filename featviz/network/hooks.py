"""Catch what layers put out, and stop the forward pass when the last of them has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress

from torch import Tensor, nn

from featviz.errors import AddressError
from featviz.network.activations import first_tensor

Run = Callable[[Callable[[], object]], dict[str, Tensor]]


class _Seen(BaseException):
    """Everything asked for is caught: the rest of the forward pass would be for nothing."""


@contextmanager
def catching(module: nn.Module, calls: Mapping[str, int]) -> Iterator[Run]:
    """Hook layers for as long as the context lasts.

    Args:
        module: the network.
        calls: the layers' names, and how often each runs in one pass; its last call counts.

    Yields:
        A function that runs a forward pass and returns what the layers put out. It raises `AddressError` where the
        pass takes another way.
    """
    left: dict[str, int] = {}
    caught: dict[str, Tensor] = {}

    def hook_for(layer: str) -> Callable[[nn.Module, object, object], object]:
        def hook(_: nn.Module, __: object, output: object) -> object:
            if not left:  # another run of the network, within or between ours
                return None
            left[layer] -= 1
            tensor = first_tensor(output)
            if left[layer] > 0 or tensor is None:
                return None
            caught[layer] = tensor
            if not any(count > 0 for count in left.values()):
                raise _Seen
            if output is tensor:
                return tensor.clone()  # what follows may overwrite it in place, and has a gradient in what is caught
            caught[layer] = tensor.clone()
            return None

        return hook

    def run(forward: Callable[[], object]) -> dict[str, Tensor]:
        if not calls:
            return {}
        left.update(calls)
        caught.clear()
        try:
            with suppress(_Seen):
                forward()
        finally:
            left.clear()
        if missed := [layer for layer in calls if layer not in caught]:
            raise AddressError(f"the forward pass did not reach {missed[0]!r} for these images")
        return dict(caught)

    with ExitStack() as stack:
        for layer in calls:
            stack.callback(module.get_submodule(layer).register_forward_hook(hook_for(layer)).remove)
        yield run
