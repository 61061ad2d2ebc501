"""Measurements of a network that are made on first use and cached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

import torch

from featviz.errors import ModelError, kind_and_line, warn
from featviz.interfaces import Size, show_size
from featviz.network.fast.batch_norm_folding import Pair
from featviz.network.inputs.given_inputs import inputs_in
from featviz.network.layers import CombinesNetworks, LayerRow, Probed
from featviz.network.module_errors import raise_known_failure
from featviz.network.probing.grey_images import run_on_grey
from featviz.network.probing.output_scale import output_scale
from featviz.network.probing.passes import FIRST_BATCH, raise_unless_size_error
from featviz.network.probing.probe import probe
from featviz.network.probing.receptive_fields import ReceptiveField
from featviz.network.working_copy import working_copy
from featviz.random import noise_images

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from featviz.network.network import Network
    from featviz.network.outputs import OutputKind, OutputScale

T = TypeVar("T")


@dataclass
class Measurements:
    """Cached measurements of a network. They save time and never change a result."""

    probed: Probed | None = None
    table: dict[str, LayerRow] | None = None
    outputs: dict[str, tuple[OutputKind, OutputScale]] = field(default_factory=dict)
    pairs: tuple[Pair, ...] | None = None
    out_of_place: bool | None = None
    fields: dict[str, ReceptiveField] | None = None
    fingerprint: tuple[object, str] | None = None
    accepted: dict[tuple[Size, frozenset[str]], bool] = field(default_factory=dict)

    def without_values(self) -> Measurements:
        """Return those that other values of given inputs do not change."""
        return replace(self, fingerprint=None, outputs={}, pairs=None, out_of_place=None)


def probe_network(network: Network, like: Tensor) -> Probed:
    """Find the layers of a network by running it.

    Args:
        network: The network.
        like: A weight of its module, whose device and precision its input gets.

    Raises:
        ModelError: The module fails because of its `inputs`, a wrong `layout`, or a `forward` that accepts single
            images only. Other errors of the module get a note.
    """
    if isinstance(network.module, CombinesNetworks):
        return network.module.probed_at(network.size)
    longest = None if network.tokens is None else network.tokens.length
    try:
        probed = probe(network.module, network.input, like, longest)
    except Exception as error:
        raise_known_failure(network.module, network.input, network.label, error)
        _raise_if_given_inputs(network, error)
        _raise_if_another_layout(network, like, error)
        _raise_if_one_image_only(network, error)
        error.add_note(
            f"while running {network.label} on a batch of grey images, ({FIRST_BATCH}, {network.channels}, "
            f"{show_size(network.size, ', ')}); if it reads something else, as a dict, several arguments or signals of "
            "shape (n, length), give inputs=, or wrap it in a module that reads images"
        )
        raise
    if probed.unregistered:
        warn(
            f"{network.label} runs modules that are no part of it ({', '.join(probed.unregistered)}) in training mode: "
            "their statistics change, and their layers are not listed; make them attributes of the network, or call "
            "their eval()"
        )
    return probed


def _raise_if_given_inputs(network: Network, error: Exception) -> None:
    """Raise an error that lists the inputs, which may be at fault where a module does not run.

    Raises:
        ModelError: The network was made with `inputs`.
    """
    raise_unless_size_error(error)
    if inputs_in(network.module):
        listed = "".join(f", {name} = {each.described}" for name, each in network.given.items())
        raise ModelError(
            f"{network.label} does not run on images {network.dims}{listed}: {kind_and_line(error)}; give each input "
            "as the module expects it, with the images first"
        ) from error


def _raise_if_another_layout(network: Network, like: Tensor, error: Exception) -> None:
    """Raise an error that names the layout with which a module runs, if there is one.

    Raises:
        ModelError: There is one.
    """
    given = network.input.layout
    if network.tokens is not None:
        return
    for layout in network.input.layouts:
        if layout == given:
            continue
        try:
            probe(network.module, replace(network.input, layout=layout), like)
        except Exception:
            continue
        raise ModelError(
            f"{network.label} does not run on batches in the layout {given}: {kind_and_line(error)}; it runs with "
            f"layout={layout!r}"
        ) from error


def _raise_if_one_image_only(network: Network, error: Exception) -> None:
    """Raise an error if a module runs on a single image, but not on several.

    Raises:
        ModelError: The module runs on a single image only.
    """
    if network.tokens is None and _runs_on(network, 1) and not _runs_on(network, FIRST_BATCH):
        raise ModelError(
            f"{network.label} runs on one image, and not on {FIRST_BATCH}: {kind_and_line(error)}; let it accept any "
            "number of images, as with x.view(len(x), ...)"
        ) from error


def _runs_on(network: Network, count: int) -> bool:
    """Return whether a module runs on a number of grey images."""
    try:
        run_on_grey(network, working_copy(network.module, share_weights=False), count=count)
    except Exception:
        return False
    return True


def measure_outputs(network: Network, head: str) -> tuple[OutputKind, OutputScale]:
    """Measure on noise what a head outputs, and whether it has turned logits into probabilities already.

    Args:
        network: The network.
        head: Layer that outputs the logits.

    Returns:
        Kind of the outputs, and their scale.
    """
    with torch.enable_grad(), network.session([head]) as forward:
        logits = forward(
            noise_images(1, network.channels, network.size).requires_grad_().to(network.device), rows=slice(0, 1)
        ).logits(head)
        scale, is_sigmoid = output_scale(logits)
    guess: OutputKind = "binary" if logits.shape[1] == 1 else "multilabel" if is_sigmoid else "classes"
    given = network.outputs.get(head) if isinstance(network.outputs, Mapping) else network.outputs
    return given or guess, scale


def try_on_noise(network: Network, trial: Callable[[nn.Module, Tensor], T], otherwise: T) -> T:
    """Try a change of the module on noise. It keeps every layer's output, so memory may run out.

    Args:
        network: The network.
        trial: Function of a working copy of the module and its input.
        otherwise: Result if the trial fails or memory runs out; a render may still fit.

    Returns:
        Result of the trial, or `otherwise`.
    """
    try:
        # A copy, because a forward pass may write to the weights; the copies that a trial makes share them.
        noise = noise_images(1, network.channels, network.size).to(network.device)
        return trial(network.copy_module(), network.normaliser()(noise))
    except Exception:  # the module ran on grey images, so the change does not suit it
        return otherwise
