"""Sizes of images that a network accepts, found by running it on grey images."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, NoReturn

from featviz.errors import ModelError
from featviz.interfaces import Size, show_size
from featviz.network.hooks import Capture
from featviz.network.probing.grey_images import run_on_grey
from featviz.network.probing.passes import raise_unless_size_error
from featviz.network.session import call_of

if TYPE_CHECKING:
    from featviz.network.network import Network


def runs_on(network: Network, size: Size, layers: Collection[str] = ()) -> bool:
    """Return whether a network runs on grey images of a size.

    Args:
        network: The network.
        size: Length of each axis in px.
        layers: Layers up to which it must run; empty for the whole network.

    Raises:
        Exception: The network fails for a reason other than the size.
    """
    calls = {layer: call_of(network.layer(layer)) for layer in layers}
    module = network.copy_module()  # its errors are not about the size
    try:
        run_on_grey(network, module, size=size, capture=Capture(module, calls) if calls else None)
    except Exception as error:
        raise_unless_size_error(error)
        return False
    return True


def smallest_size(network: Network, layers: frozenset[str] = frozenset()) -> Size:
    """Return the smallest size that a network accepts, of those that are tried.

    Args:
        network: The network.
        layers: Layers up to which it must run; empty for the whole network.
    """
    if network.fixed_size:
        return network.size
    # No bisection: some modules accept multiples of a number only.
    return next((size for size in _smaller_sizes(network.size) if network.accepts(size, layers)), network.size)


def refuse_size(network: Network, size: Size, layers: Collection[str] = ()) -> NoReturn:
    """Raise the error for a size that a network does not accept.

    Args:
        network: The network.
        size: Length of each axis in px.
        layers: Layers up to which it must run; empty for the whole network.

    Raises:
        ModelError: The message names the smallest square that it accepts. If it does not even run on its own size, its
            own error.
    """
    if not network.accepts(network.size, layers):
        run_on_grey(network, network.copy_module())
    given = f"{network.label} does not accept images of {show_size(size, 'x')} px"
    if network.inputs:
        raise ModelError(f"{given}; each input has the size of its fv.InputSpec: {network.dims}")
    if network.fixed_size:
        raise ModelError(f"{given}, only of {show_size(network.size, 'x')}")
    smallest = show_size(smallest_size(network, frozenset(layers)), "x")
    raise ModelError(f"{given}; the smallest {'square' if len(size) == 2 else 'size'} that it accepts is {smallest}")


def _smaller_sizes(size: Size) -> Iterator[Size]:
    """Yield sizes from small to large: squares of every side, or for signals and volumes sixteenths of the size."""
    if len(size) == 2:
        yield from ((side, side) for side in range(1, min(size)))
    else:
        yield from (tuple(max(1, side * part // 16) for side in size) for part in range(1, 16))
