"""What is verified on every architecture, by means that share no code with featviz."""

from __future__ import annotations

import copy
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from networks.architectures import Architecture
from torch import Tensor, nn

import featviz as fv

SAMPLED_LAYERS = 8
"""Number of layers of each kind that are compared with a hook of the test's own."""
STEPS = 8
"""Steps of the renders whose scores must rise."""

WIDTHS = {nn.Linear: "out_features"}
WIDTHS |= dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d), "out_channels")
WIDTHS |= dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), "num_features")
"""The attribute of layers of PyTorch that says how many channels they output."""


@dataclass
class Report:
    """What was found on one architecture.

    Args:
        name: Name of the architecture.
        family: Its family.
        passed: Number of passed checks by kind.
        failures: What failed, as text.
    """

    name: str
    family: str
    passed: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def note(self, kind: str, passed: bool, text: str = "") -> None:
        """Note the result of one check."""
        if passed:
            self.passed[kind] += 1
        else:
            self.failures.append(f"{kind}: {text}")


def examine(architecture: Architecture, checks: tuple[Callable[..., None], ...] | None = None) -> Report:
    """Build an architecture, and run the checks.

    Args:
        architecture: What to build.
        checks: The checks; `None` for all of them.
    """
    torch.manual_seed(0)
    module = architecture.build().eval()
    half = (0.5,) * architecture.channels
    net = fv.Network(module, size=architecture.size, mean=half, std=half, axes=architecture.axes)
    report = Report(architecture.name, architecture.family)
    images = torch.rand(2, net.channels, *net.size, generator=torch.Generator().manual_seed(1))
    before = _state(module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fv.FeatvizWarning)  # random weights have dead units
        for check in CHECKS if checks is None else checks:
            check(net, images, report)
    changed = [name for name, value in _state(module).items() if not _same(before[name], value)]
    report.note("module unchanged", not changed, ", ".join(changed))
    return report


def check_listing(net: fv.Network, images: Tensor, report: Report) -> None:
    """Every layer is listed with a shape, and the table prints."""
    text = net.layers().text(all_layers=True)
    report.note(
        "layers listed", len(net.table) > 0 and len(text.splitlines()) == len(net.table) + 3
    )  # header and legend


def check_captures(net: fv.Network, images: Tensor, report: Report) -> None:
    """Captured activations equal those of an independent hook."""
    names = _sample([name for name in net.table if name or _has_logits(net)])
    expected = _outputs(net, images, names)
    for name in names:
        found = net.capture(images, [name])[name]
        wanted = expected[name]
        wanted = wanted.transpose(0, 1) if net.table[name].layout.batch else wanted
        wanted = wanted if wanted.ndim > 1 else wanted[:, None]
        close = found.shape == wanted.shape and torch.allclose(found, wanted, rtol=1e-2, atol=1e-3 * _size(wanted))
        report.note("captures equal a hook", close, name)


def check_channels(net: fv.Network, images: Tensor, report: Report) -> None:
    """The number of channels is that of the weights, for modules of PyTorch that define it."""
    for name, layer in net.table.items():
        part = net.module.get_submodule(name)
        width = WIDTHS.get(type(part))
        if width and "forward" not in vars(part):
            expected = getattr(part, width)
            report.note("channel axis", layer.channels == expected, f"{name}: {layer.channels}, not {expected}")


def check_places(net: fv.Network, images: Tensor, report: Report) -> None:
    """A change of one part of the image moves the position at that part most, in the first layers with positions."""
    placed = [name for name, layer in net.table.items() if name and _grid(net, name)]
    maps = [name for name in placed if net.table[name].layout.kind == "map"][:2]
    tokens = [name for name in placed if net.table[name].layout.kind == "tokens"][:3]
    names = [*maps, *tokens]
    if not names:
        return
    first = net.capture(images[:1], names)
    for place in ((0.4, 0.2, 0.7), (0.2, 0.7, 0.3)):
        changed, at = images[:1].clone(), place[-len(net.size) :]
        parts = [
            slice(int(share * side), int(share * side) + max(1, side // 8))
            for share, side in zip(at, net.size, strict=True)
        ]
        changed[(..., *parts)] = 1 - changed[(..., *parts)]
        second = net.capture(changed, names)
        center = [(part.start + part.stop) / 2 / side for part, side in zip(parts, net.size, strict=True)]
        for name in names:
            moved = (second.as_map(name) - first.as_map(name)).double().square().sum(1)[0]
            moved /= moved.sum() or 1
            found = [
                ((torch.arange(side) + 0.5) / side * moved.movedim(dim, 0).reshape(side, -1).sum(1)).sum().item()
                for dim, side in enumerate(moved.shape)
            ]
            # The centre of the change, one cell of tolerance, and half of the way for what reaches every position.
            near = all(abs(a - b) < 0.2 + 1 / side for a, b, side in zip(found, center, moved.shape, strict=True))
            report.note("places", near, f"{name}: {found}, not {center}")


def check_objectives(net: fv.Network, images: Tensor, report: Report) -> None:
    """The scores of a channel, a logit and a token rise."""
    layers = [
        name for name, layer in net.table.items() if name and layer.layout.kind != "vector" and layer.channels > 1
    ]
    goals = [fv.objectives.Channel(layers[len(layers) * 2 // 3], 1)] if layers else []
    output = net.table.get("")
    if output is not None and output.layout.kind == "vector" and output.channels > 1 and _has_logits(net):
        goals.append(fv.objectives.Logit(1))
    tokens = [name for name in layers if net.table[name].layout.kind == "tokens" and _grid(net, name)]
    if tokens:
        goals.append(fv.objectives.Neuron(tokens[len(tokens) // 2], 0, "center"))
    for goal in goals:
        try:
            rendering = fv.render(net, goal, transforms=(), steps=STEPS, robustness_views=0)
        except fv.FeatvizError as error:
            refused = "does not depend on the image" in str(error) and _is_constant(net, goal.layer, images)
            kind = "objectives refused with a reason" if refused else "objectives rise"
            report.note(kind, refused, f"{goal}: {error}")
            continue
        start, end = rendering.history[0, 0].item(), rendering.history[:, 0].max().item()
        # The mean of a channel after an instance normalisation does not depend on the image.
        constant = abs(end - start) <= 1e-6 and _is_constant(net, goal.layer, images)
        report.note("objectives rise", end > start or constant, f"{goal}: {start} to {end}")


def check_attribution(net: fv.Network, images: Tensor, report: Report) -> None:
    """Grad-CAM explains a logit; rollout gives a map, or says why not."""
    output = net.table.get("")
    if output is None or output.layout.kind != "vector" or output.channels < 2 or not _has_logits(net):
        return
    for method, kind in (("gradcam", "Grad-CAM"), ("rollout", "rollout")):
        try:
            found = fv.explain(net, images, 1, method)
            report.note(kind, found.map.shape == (2, *net.size) and bool(found.map.isfinite().all()), method)
        except fv.SettingError as error:
            refused = method == "rollout" or "no layer with positions" in str(error)
            report.note(f"{kind} refused with a reason", refused, str(error))


CHECKS = (check_listing, check_captures, check_channels, check_places, check_objectives, check_attribution)
QUICK_CHECKS = (check_listing, check_captures, check_channels, check_places)


def _sample(names: list[str]) -> list[str]:
    step = max(1, len(names) // SAMPLED_LAYERS)
    return names[::step]


def _is_constant(net: fv.Network, layer: str, images: Tensor) -> bool:
    """Whether a layer is the same for different images, such as the queries of a decoder before they meet the image."""
    with torch.no_grad():
        first, *others = (net.capture(image[None], [layer])[layer] for image in (*images, torch.rand_like(images[0])))
    return all(torch.equal(first, other) for other in others)


def _has_logits(net: fv.Network) -> bool:
    """Whether the network has one unambiguous output of class logits."""
    try:
        net.layer("")
    except fv.AddressError:
        return False
    return True


def _outputs(net: fv.Network, images: Tensor, names: list[str]) -> dict[str, Tensor]:
    """Return the outputs of modules at their last calls, by hooks on a deep copy."""
    module, found = copy.deepcopy(net.module).eval(), {}

    def keep(name: str, output: object) -> None:
        item = net.table[name].item
        tensors = [output[int(item) if item.isdigit() else item]] if item else _tensors(output)
        found[name] = next(tensor for tensor in tensors if tensor.ndim).detach().clone()

    for name in names:
        module.get_submodule(name).register_forward_hook(lambda _, __, output, name=name: keep(name, output))
    state = torch.get_rng_state()
    torch.manual_seed(0)
    module(((net.input.values(images) - 0.5) / 0.5).requires_grad_())
    torch.set_rng_state(state)
    return found


def _tensors(output: object) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, dict):
        for item in output.values():
            yield from _tensors(item)
    elif isinstance(output, tuple | list):
        for item in output:
            yield from _tensors(item)


def _grid(net: fv.Network, name: str) -> bool:
    layer = net.table[name]
    return bool(layer.layout.patch) or (layer.layout.kind == "map" and min(layer.map_size) > 3)


def _size(tensor: Tensor) -> float:
    return tensor.abs().max().item() + 1e-6


def _state(module: nn.Module) -> dict[str, object]:
    state: dict[str, object] = {
        f"state {name}": value.clone() for name, value in module.state_dict().items() if isinstance(value, Tensor)
    }
    for name, part in module.named_modules():
        state[f"class of {name}"] = type(part)
        state[f"mode of {name}"] = part.training
        state[f"hooks of {name}"] = len(part._forward_hooks) + len(part._forward_pre_hooks)
        state[f"attributes of {name}"] = {
            key: value for key, value in vars(part).items() if isinstance(value, int | float | str | tuple)
        }
    state["gradients"] = [(weight.requires_grad, weight.grad is None) for weight in module.parameters()]
    return state


def _same(one: object, other: object) -> bool:
    return torch.equal(one, other) if isinstance(one, Tensor) and isinstance(other, Tensor) else one == other
