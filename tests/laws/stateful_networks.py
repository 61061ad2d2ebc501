"""Networks that write to themselves, and whether anything of a module has changed."""

from __future__ import annotations

import copy
import functools
import types
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
import toys
from hypothesis import Phase
from torch import nn

import featviz as fv

CLASSES = ("ant", "bee", "cat", "dog", "elk")
OUTPUTS = {"Computed": 4, "Dict": 4, "Functional": 3, "Vit": 3, "ChannelsLast": 3, "Twice": 2, "Flattening": 3}
"""Number of classes of the networks that do not have 5."""
SIDE = 32
SIDES = {"Flattening": 29, "Unpadded": 28}
"""Sides of the input in px of the toy networks that do not accept 32 px."""


@dataclass
class Log:
    count: int = 0
    shapes: list = field(default_factory=list)


class WritesBuffers(toys.Plain):
    """Writes to buffers in place, assigns others, and one that was empty."""

    def __init__(self):
        super().__init__()
        for name in ("in_place", "assigned"):
            self.register_buffer(name, torch.zeros(3))
        self.register_buffer("empty", None)
        self.register_buffer("temporary", torch.zeros(3), persistent=False)

    def forward(self, x):
        self.in_place += 1
        self.temporary.add_(1)
        self.assigned = self.assigned + 1
        self.empty = torch.ones(2)
        self.bn1.num_batches_tracked.add_(1)
        return super().forward(x)


class WritesAttributes(toys.Plain):
    """Writes to attributes of many kinds."""

    def __init__(self):
        super().__init__()
        self.calls, self.last, self.cache = 0, None, {}
        self.seen, self.recent, self.kinds, self.shapes = [], deque(maxlen=2), Counter(), set()
        self.log, self.space = Log(), types.SimpleNamespace(count=0, nested=Log())
        self.array, self.source = np.zeros(2), np.random.default_rng(0)

    def forward(self, x):
        self.calls += 1
        self.last = x
        self.cache[tuple(x.shape)] = x.detach()
        self.seen.append(x.shape)
        self.recent.append(x.shape)
        self.kinds["x"] += 1
        self.shapes.add(tuple(x.shape))
        self.log.count += 1
        self.log.shapes.append(x.shape)
        self.space.count += 1
        self.space.nested.shapes.append(1)
        self.array += 1
        self.source.random()
        return super().forward(x)


class Hooked(toys.Plain):
    """Has the user's hooks of all kinds, and a method as a hook that writes to the module."""

    def __init__(self):
        super().__init__()
        self.count = 0
        self.conv1.register_forward_hook(self.note)
        self.conv1.register_forward_pre_hook(lambda _, inputs: (inputs[0] * 1,))
        self.conv2.register_forward_hook(lambda _, __, out: out * 2)
        self.head.register_full_backward_hook(lambda *_: None)  # on `conv2` it does not allow the in-place ReLU
        self.head.register_forward_hook(lambda _, __, ___, out: None, with_kwargs=True)

    def note(self, *_):
        self.count += 1


class Replaced(toys.Plain):
    """Has parts whose `forward` was replaced, and code that refers to parts."""

    def __init__(self):
        super().__init__()
        own, conv2, relu = self.conv1.forward, self.conv2, self.relu
        self.conv1.forward = lambda x: 2 * own(x)
        self.relu.forward = functools.partial(type(relu).forward, relu)
        self.head.forward = types.MethodType(lambda head, x: F.linear(x, head.weight) + head.bias, self.head)
        self.second = lambda x: conv2(x)
        self.parts, self.owner = [self.bn1], types.SimpleNamespace(part=self.head)

    def forward(self, x):
        x = self.relu(self.parts[0](self.conv1(x)))
        return self.owner.part(self.relu(self.second(x)).mean((2, 3)))


class Computed(nn.Module):
    """Computes a weight from others, ties weights, and runs a recurrent layer."""

    def __init__(self):
        super().__init__()
        self.conv = nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 4, 3, stride=2))
        self.lstm = nn.LSTM(4, 4, batch_first=True)
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)
        self.two.weight = self.one.weight

    def forward(self, x):
        x = self.conv(x).relu()
        return self.two(self.one(self.lstm(x.mean(3).transpose(1, 2))[0][:, -1]))


class Random(toys.Plain):
    """Draws random numbers in eval mode."""

    def forward(self, x):
        return super().forward(F.dropout(x, 0.2) + 0.01 * torch.randn_like(x))


TOYS = {name: kind for name, kind in vars(toys).items() if isinstance(kind, type) and issubclass(kind, nn.Module)}
STATEFUL = {kind.__name__: kind for kind in (WritesBuffers, WritesAttributes, Hooked, Replaced, Computed, Random)}
NETWORKS = TOYS | STATEFUL


def training(name, flags=0b1011):
    """Return a network whose parts are partly in training mode, and whose weights are partly frozen and have gradients.

    Args:
        name: One of `NETWORKS`.
        flags: A number whose bits decide.
    """
    net = toys.network(NETWORKS[name](), SIDES.get(name, SIDE), classes=CLASSES[: OUTPUTS.get(name, 5)])
    for i, part in enumerate(net.module.modules()):
        vars(part)["training"] = bool(flags >> i % 5 & 1)
    for i, weight in enumerate(net.module.parameters()):
        weight.requires_grad_(bool(flags >> i % 3 & 1))
        weight.grad = torch.ones_like(weight) if flags >> i % 4 & 1 else None
    return net


HOOKS = (
    "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_forward_hooks_with_kwargs",
    "_forward_pre_hooks_with_kwargs", "_forward_hooks_always_called", "_state_dict_hooks",
)  # fmt: skip


def shown(value, seen=()):
    """Return an attribute as a value that can be compared, with the contents of containers and objects."""
    if id(value) in seen or isinstance(value, nn.Module | type | types.FunctionType | types.MethodType):
        return id(value) if not isinstance(value, types.MethodType) else (id(value.__self__), id(value.__func__))
    seen = (*seen, id(value))
    if isinstance(value, torch.Tensor):
        gradient = value.grad if value.is_leaf else None
        known = id(value), value.data_ptr(), value._version, value.dtype, value.stride(), value.requires_grad
        return *known, value.detach().clone().tolist(), id(gradient), None if gradient is None else gradient.tolist()
    if isinstance(value, np.ndarray):
        return id(value), value.tolist()
    if isinstance(value, np.random.Generator):
        return id(value), str(value.bit_generator.state)
    if isinstance(value, dict):
        return id(value), [(str(key), shown(each, seen)) for key, each in value.items()]
    if isinstance(value, list | tuple | set | deque):
        return id(value), [shown(each, seen) for each in value]
    return (id(value), shown(vars(value), seen)) if hasattr(value, "__dict__") else value


def outputs(module):
    """Return what a copy of the module outputs, as it is and in eval mode."""
    found = []
    for training in (False, True):
        one = copy.deepcopy(module)
        one = one if training else one.eval()
        side = SIDES.get(type(module).__name__, SIDE)
        with torch.random.fork_rng(), suppress(RuntimeError):  # one of them is broken
            torch.manual_seed(0)
            out = one(torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1)))
            found.append(out["out"][0] if isinstance(out, dict) else out)
    return found


def state(module):
    """Return everything of a module that a user can notice."""
    names = dict(module.named_modules(remove_duplicate=False))
    return {
        "modules": {name: (id(part), type(part)) for name, part in names.items()},
        "attributes": {name: shown(dict(vars(part)))[1] for name, part in names.items()},
        "order": {name: list(vars(part)) for name, part in names.items()},
        "parameters": {name: shown(each) for name, each in module.named_parameters(remove_duplicate=False)},
        "buffers": {name: shown(each) for name, each in module.named_buffers(remove_duplicate=False)},
        "values": {name: value.tolist() for name, value in module.state_dict().items()},
        "hooks": {(name, kind): shown(vars(part)[kind]) for name, part in names.items() for kind in HOOKS},
        "training": {name: part.training for name, part in names.items()},
        "forward": {name: id(vars(part).get("forward")) for name, part in names.items()},
        "random": torch.get_rng_state().tolist(),
        "settings": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_num_threads()),
    }


def assert_unchanged(module, before, expected):
    now = state(module)
    for name, value in before.items():
        assert now[name] == value, name
    found = outputs(module)
    assert len(found) == len(expected)
    assert all(map(torch.equal, found, expected))


def image_of(net):
    return torch.rand(1, 3, *net.size, generator=torch.Generator().manual_seed(2))


def first_map(net):
    return next(name for name, layer in net.table.items() if layer.layout.kind == "map" and name)


def unit(net):
    return fv.objectives.Channel(first_map(net), 0)


QUICK_PHASES = (Phase.explicit, Phase.reuse, Phase.generate)  # finding the smallest failure would take minutes
