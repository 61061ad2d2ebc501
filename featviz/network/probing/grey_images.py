"""Run working copies of a module on grey images, to find out what it does with images at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from featviz.interfaces import Size
from featviz.network.working_copy import uncompiled
from featviz.random import Chance

if TYPE_CHECKING:
    from torch import nn

    from featviz.network.network import Network


def run_on_grey(
    network: Network,
    module: nn.Module,
    *,
    size: Size | None = None,
    count: int = 1,
    capture: Callable[[Callable[[], Any]], Any] | None = None,
) -> None:
    """Run a working copy on grey images, without gradients. Global random states do not change.

    Args:
        network: The network.
        module: A working copy of its module.
        size: Length of each axis in px; `None` for the network's own.
        count: Number of images.
        capture: Runs the pass that it is given, such as a `Capture`; `None` to run all of it.
    """
    shape = (count, network.channels, *(network.size if size is None else size))
    grey = network.normaliser()(torch.full(shape, 0.5, device=network.device))
    with Chance(network.device)(), torch.no_grad(), uncompiled():
        if capture is None:
            module(grey)
        else:
            capture(lambda: module(grey))
