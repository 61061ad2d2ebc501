"""Expanded weights: how a unit depends on each channel of an earlier layer, across everything between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

import featviz as fv
from featviz.apps.circuits.graph_paths import Node, find_paths, is_cut, names_on
from featviz.apps.circuits.linearise import linearised
from featviz.apps.shared.arguments.probe import grey
from featviz.apps.shared.operations.connections import WEIGHTED
from featviz.network import OUTPUT, Activations, Forward

IMAGE = "image"
"""Name of the image itself as the earlier layer."""
SKIP = "skip connection"
"""Name of a path without weights."""
RELATIVE_ZERO = 1e-6
"""Weights smaller than this share of the largest are rounding errors, and do not belong to the kernel."""
ATTENTION = (nn.MultiheadAttention,)
PASSING = (nn.Identity, nn.Dropout, nn.Dropout2d)
"""Modules that return their input unchanged in evaluation mode."""
FLOAT32 = fv.Execution("float32", graph=False)
"""Single precision, without CUDA graphs, which could not be differentiated here."""


@dataclass(frozen=True, eq=False)
class ExpandedWeights:
    """The weights between a unit at the central position and the channels of an earlier layer.

    Args:
        layer: Layer of the unit; empty for the class logits.
        channel: Index of the unit.
        source: The earlier layer, or `"image"`.
        kernels: How much the unit changes per change of each channel at each position, cut to the positions that
            reach it. A layer without positions has one.
        paths: The parts of the kernels that come along each path, by the names of the modules with weights on it;
            empty where there is only one path, or too many.
    """

    layer: str
    channel: int
    source: str
    kernels: Float[Tensor, "channel rows columns"]
    paths: dict[str, Float[Tensor, "channel rows columns"]] = field(default_factory=dict)

    @property
    def weights(self) -> Float[Tensor, " channel"]:
        """The sum of each kernel: the response to a uniform activation."""
        return self.kernels.sum((1, 2))

    @property
    def unit(self) -> str:
        """Address of the unit."""
        return address(self.layer, self.channel)

    def strongest(
        self, count: int, contributions: Float[Tensor, " channel"] | None = None
    ) -> tuple[list[int], list[int]]:
        """Return the inputs that excite and inhibit the unit most, the strongest first.

        Args:
            count: Largest number of each.
            contributions: Contribution of each input to the response to exemplars: above 0 it excites, below 0 it
                inhibits. `None` for the weights alone: then an input excites if the positive part of its kernel is
                larger than the negative one, and its strength is this part.
        """
        if contributions is not None:
            return (
                _largest(contributions, contributions > 0, count),
                _largest(-contributions, contributions < 0, count),
            )
        positive, negative = self.kernels.clamp(min=0).sum((1, 2)), (-self.kernels).clamp(min=0).sum((1, 2))
        return _largest(positive, positive > negative, count), _largest(negative, negative > positive, count)


def _largest(strength: Float[Tensor, " channel"], chosen: Tensor, count: int) -> list[int]:
    order = strength.argsort(descending=True, stable=True).tolist()
    return [k for k in order if chosen[k]][:count]


def address(layer: str, channel: int) -> str:
    """Return the address of a channel, or of a class logit."""
    return f"{layer}:{channel}" if layer else f"logit:{channel}"


def expand(
    network: fv.Network,
    layer: str,
    channels: Sequence[int],
    source: str,
    *,
    images: Float[Tensor, "n c h w"] | None = None,
    by_path: bool = True,
    cut: bool = True,
) -> list[ExpandedWeights]:
    """Return the expanded weights between units of a layer and an earlier layer.

    The network between them is linearised: activation functions are identities and max pools average pools. The
    weights are the gradient of the unit at the central position. Where nothing but weights, normalisations, activation
    functions and pools lies between, they do not depend on the images.

    Args:
        network: A network that reads images.
        layer: Layer of the units; empty for the class logits.
        channels: Their indices.
        source: An earlier layer, or `"image"`.
        images: Images whose attention, gates and layer normalisation are used, in [0, 1]; the weights are the mean over
            them. `None` for a grey image.
        by_path: Also return the part of the weights along each path, as through a block and its skip connection.
        cut: Cut the kernels to the positions that reach the unit; otherwise they are as large as the source.

    Returns:
        One for each channel, on the CPU.

    Raises:
        AddressError: There is no such layer or channel, the source does not come before the layer, or no weights lie
            between them.

    Source: Voss et al. 2021, https://doi.org/10.23915/distill.00024.006.
    """
    check_order(network, layer, source)
    with run_linearised(network, layer, source, images) as (acts, leaf, made):
        values = _central(acts, layer)
        for channel in channels:
            acts.check_channel(layer, channel)
        if not values.requires_grad:
            raise _unconnected(network, layer, source)
        found = []
        for channel in channels:
            parts = _gradients(values[:, channel].sum(), leaf, made, by_path=by_path)
            if _is_weightless(parts):
                raise _unconnected(network, layer, source)
            maps = {name: _as_map(acts, source, each) for name, each in parts.items()}
            rows, columns = _bounding_box(list(maps.values())) if cut else (slice(None), slice(None))
            shown = {name: each[:, rows, columns] for name, each in maps.items()}
            found.append(ExpandedWeights(layer, channel, source, shown.pop(""), shown if len(shown) > 1 else {}))
    return found


def _gradients(value: Tensor, leaf: Tensor, made: dict[Node, str], *, by_path: bool) -> dict[str, Tensor]:
    """Return the gradient of a value, under an empty name, and its parts by the names of the modules on each path."""
    (whole,) = torch.autograd.grad(value, leaf, retain_graph=True)
    found = {"": whole}
    paths = find_paths(value) if by_path else []
    for path in paths:
        name = " → ".join(names_on(path, made)) or SKIP
        part = path.gradient(value, leaf) if len(paths) > 1 else whole
        found[name] = found[name] + part if name in found else part
    return found


def _is_weightless(parts: dict[str, Tensor]) -> bool:
    """Whether no module with weights lies on any path, and the gradient is that of one activation per image."""
    if parts.keys() != {"", SKIP}:
        return False
    size = parts[""].abs()
    return int((size > RELATIVE_ZERO * size.max()).sum()) <= len(size)


def nearest_source(network: fv.Network, layer: str) -> str:
    """Return the nearest earlier layer that all paths to a layer pass, with weights in between.

    If several modules return the same tensor, the outermost name is returned. Layers that only depthwise
    convolutions join are skipped. Without any such layer, it is the image.

    Args:
        network: A network that reads images.
        layer: Name of the layer; empty for the class logits.

    Raises:
        AddressError: There is no such layer.
    """
    names = list(network.table)
    before = names[: names.index(layer)] if layer in names else names
    image = grey(network).requires_grad_()
    with linearised(), network.session([*before, layer], FLOAT32) as forward, torch.enable_grad():
        acts = forward(image)
        value = _central(acts, layer).sum()
        if not value.requires_grad:
            return IMAGE
        cuts = [name for name in reversed(before) if acts[name].requires_grad and _can_cut(value, acts[name])]
    parts = dict(network.module.named_modules())
    for name in cuts:
        if isinstance(parts.get(name), PASSING):  # its input has a name that says more
            continue
        try:
            (found,) = expand(network, layer, [0], name)
        except fv.AddressError:  # no weights between
            continue
        if (found.kernels.abs().sum((1, 2)) > 0).sum() > 1:
            return name
    return IMAGE


def check_order(network: fv.Network, layer: str, source: str) -> None:
    """Check that a layer exists and that another one comes before it.

    Raises:
        AddressError: There is no such layer, or `source` does not run before `layer`.
    """
    network.layer(layer)
    if source == IMAGE and IMAGE not in network.table:
        return
    network.layer(source)
    names = list(network.table)
    known = source in names and layer in names
    if source in (layer, OUTPUT) or (known and names.index(source) > names.index(layer)):
        raise fv.AddressError(
            f"the inputs of {layer or 'logit'!r} must be in a layer before it, got {source or 'logit'!r}; layers run "
            f"in the order of: featviz layers{f' --model {network.name}' if network.name else ''}"
        )


def _unconnected(network: fv.Network, layer: str, source: str) -> fv.AddressError:
    return fv.AddressError(
        f"no weights lie between {source!r} and {layer or 'logit'!r} of {network.label}; give a layer before a "
        f"convolution or linear layer that {layer or 'logit'!r} depends on, or leave the source out"
    )


@contextmanager
def run_linearised(
    network: fv.Network, layer: str, source: str, images: Tensor | None
) -> Iterator[tuple[Activations, Tensor, dict[Node, str]]]:
    """Run the linearised network with a source that is a leaf.

    Yields:
        The activations, the leaf, and the names of modules with weights by the node of their output.
    """
    given = (grey(network) if images is None else images).to(network.device)
    is_image = source == IMAGE and IMAGE not in network.table
    leaves: list[Tensor] = []

    def as_leaf(output: Tensor) -> Tensor:
        leaves.append(output.detach().clone().requires_grad_())
        return leaves[0]

    captured = [layer] if is_image else [source, layer]
    with linearised(), network.session(captured, FLOAT32) as forward, torch.enable_grad():
        made: dict[Node, str] = {}
        _note_outputs(forward, made)
        if is_image:
            leaves.append(given.clone().requires_grad_())
            acts = forward(leaves[0])
        else:
            acts = forward(given, replace={source: as_leaf})
        yield acts, leaves[0], made


def _note_outputs(forward: Forward, made: dict[Node, str]) -> None:
    """Note the autograd node of the output of each module with weights."""

    def note(name: str, _: nn.Module, __: Any, output: Any) -> None:
        tensor = output[0] if isinstance(output, tuple) else output
        if isinstance(tensor, Tensor) and tensor.grad_fn is not None:
            made[tensor.grad_fn] = name

    for name, part in forward.module.named_modules():
        if isinstance(part, (*WEIGHTED, *ATTENTION)):
            part.register_forward_hook(partial(note, name))


def _central(acts: Activations, layer: str) -> Float[Tensor, "n channel"]:
    """Return the channels of a layer at the central position; without positions, the mean over all other dimensions."""
    layout = acts.layouts[layer]
    if layout.kind == "map" or layout.patch:
        return acts.at(layer, "center")
    return acts.channels_first(layer).unsqueeze(-1).flatten(2).mean(2)


def _as_map(acts: Activations, source: str, gradient: Tensor) -> Float[Tensor, "channel rows columns"]:
    """Return a gradient of the source as a map, the mean over the images."""
    mean = gradient.detach().mean(0, keepdim=True)
    if source not in acts:
        return mean[0].cpu()
    replaced, layout = acts.replaced({source: mean}), acts.layouts[source]
    if layout.kind == "map" or layout.patch:
        return replaced.as_map(source)[0].cpu()
    return replaced.channels_first(source).unsqueeze(-1).flatten(2)[0][:, None].cpu()


def _bounding_box(maps: Sequence[Tensor]) -> tuple[slice, slice]:
    """Return the smallest rectangle of positions outside of which all maps are 0."""
    size = torch.stack([each.abs().amax(0) for each in maps]).amax(0)
    inside = size > RELATIVE_ZERO * size.max()
    if not inside.any():
        return slice(0, 1), slice(0, 1)
    rows, columns = (inside.any(dim).nonzero().flatten().tolist() for dim in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _can_cut(value: Tensor, output: Tensor) -> bool:
    return output.grad_fn is not None and is_cut(value, output.grad_fn)
