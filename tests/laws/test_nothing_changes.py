"""No call changes the user's module, however it ends, and what runs at the same time does not disturb each other."""

from __future__ import annotations

import copy
import functools
import inspect
import tempfile
import threading
import time
import types
import warnings
from collections import Counter, deque
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import toys
from explore_client import Client
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

import featviz as fv
from featviz import methods, param

CLASSES = ("ant", "bee", "cat", "dog", "elk")
OUTPUTS = {"Computed": 4, "Dict": 4, "Functional": 3, "Vit": 3, "ChannelsLast": 3, "Twice": 2, "Flattening": 3}
"""Number of classes of the networks that do not have 5."""
SIDE = 32
SIDES = {"Flattening": 29, "Unpadded": 28}
"""Sides of the input in px of the toy networks that do not accept 32 px."""
GENERATOR = torch.Generator().manual_seed(0)


# ---------------------------------------------------------------------------------------------- networks


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


# ---------------------------------------------------------------------------------------------- what must not change

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
    """Return what a copy of the module puts out, as it is and in eval mode."""
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


CHANGES = {
    "weight": lambda module: module.conv1.weight.data.add_(1),
    "weight written back": lambda module: module.conv1.weight.detach().mul_(1),
    "weight replaced": lambda module: setattr(module.head, "weight", copy.deepcopy(module.head.weight)),
    "data replaced": lambda module: setattr(module.head.weight, "data", module.head.weight.data.clone()),
    "requires_grad": lambda module: module.head.bias.requires_grad_(not module.head.bias.requires_grad),
    "grad": lambda module: module.conv1.weight.grad.add_(1),
    "no grad": lambda module: setattr(module.conv1.weight, "grad", None),
    "buffer": lambda module: module.bn1.running_mean.add_(1),
    "buffer replaced": lambda module: setattr(module.bn1, "running_mean", module.bn1.running_mean.clone()),
    "number": lambda module: setattr(module, "calls", 1),
    "list": lambda module: module.seen.append(1),
    "dict": lambda module: module.cache.update(a=1),
    "object": lambda module: setattr(module.log, "count", 1),
    "object in an object": lambda module: module.space.nested.shapes.append(1),
    "array": lambda module: module.array.fill(1),
    "generator": lambda module: module.source.random(),
    "new attribute": lambda module: setattr(module.conv1, "mark", 1),
    "hook": lambda module: module.conv1.register_forward_hook(lambda *_: None),
    "pre-hook": lambda module: module.conv1.register_forward_pre_hook(lambda *_: None),
    "training": lambda module: module.conv1.train(not module.conv1.training),
    "class": lambda module: setattr(module.relu, "__class__", nn.Identity),
    "forward": lambda module: setattr(module.relu, "forward", lambda x: x),
    "part replaced": lambda module: setattr(module, "relu", nn.ReLU(inplace=True)),
    "random state": lambda module: torch.rand(1),
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_change_is_noticed(name):
    module = training("WritesAttributes").module
    before, expected = state(module), outputs(module)
    assert_unchanged(module, before, expected)
    CHANGES[name](module)
    with pytest.raises(AssertionError):
        assert_unchanged(module, before, expected)


# ---------------------------------------------------------------------------------------------- calls


@functools.cache
def pictures(side=SIDE, count=2):
    """Return a folder of photographs."""
    folder = Path(tempfile.mkdtemp())
    for i in range(count):
        pixels = (255 * torch.rand(side, side, 3, generator=GENERATOR)).byte().numpy()
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


def image_of(net):
    return torch.rand(1, 3, *net.size, generator=torch.Generator().manual_seed(2))


def first_map(net):
    return next(name for name, layer in net.table.items() if layer.layout.kind == "map" and name)


def unit(net):
    return fv.objectives.Channel(first_map(net), 0)


def explained(method):
    return lambda net, folder: fv.explain(net, image_of(net), "logit:0", method)


def rendered(**more):
    return lambda net, folder: fv.render(net, [unit(net), "logit:1"], **{"steps": 2, "robustness_views": 1, **more})


def by_weights(**more):
    """Render an objective that reads the user's own weights, which need gradients."""

    def call(net, folder):
        layer = first_map(net)

        @fv.objectives.objective(layer)
        def weighted(acts):
            total = sum(weight.square().sum() for weight in net.module.parameters())
            return acts[layer].flatten(1).mean(1) * total

        fv.render(net, [weighted, 2 * weighted], **{"steps": 1, "robustness_views": 0, **more})

    return call


def session(net, folder):
    with net.session([first_map(net)]) as forward:
        forward.module.train()
        forward.module.requires_grad_(True)
        forward(image_of(net))


def with_features(net, folder):
    layer = first_map(net)
    made = fv.Dictionary(kind="topk", encoder=torch.randn(4, net.table[layer].channels, generator=GENERATOR), k=2)
    attached = net.with_dictionary(layer, made)
    fv.render(attached, f'"{layer}~":1 + logit:1', steps=1, robustness_views=0)
    attached.capture(image_of(net).requires_grad_(), [f"{layer}~", ""])[""].sum().backward()


def concepts(net, folder):
    layer, bright, dark = first_map(net), folder / "bright", folder / "dark"
    for each, brightest in ((bright, 1), (dark, 0.2)):
        each.mkdir()
        for i in range(10):
            pixels = (255 * brightest * torch.rand(8, 8, 3, generator=GENERATOR)).byte().numpy()
            Image.fromarray(pixels).save(each / f"{i}.png")
    concept = fv.Concept.from_photographs(net, layer, bright, dark)
    concept.sensitivity(net, bright, "logit:0")
    fv.render(net, concept.objective() + fv.objectives.Cosine(layer, concept.vector), steps=1, robustness_views=0)


def combined(net, folder):
    both = fv.combine(first=net, second=other_network())
    fv.render(both, f"first.{first_map(net)}:0 + second.conv1:1", steps=1, param=param.Image(net.size))


def judged(net, folder):
    rendering = fv.render(net, ["logit:ant", unit(net)], steps=1, robustness_views=0)
    fv.judge(rendering, judge=other_network(), network=net, photographs=pictures(net.size[0]))


def judging(net, folder):
    plain = other_network()
    rendering = fv.render(plain, "logit:ant", steps=0, param=param.Image(net.size))
    fv.judge(rendering, judge=net, network=plain)


def other_network():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return fv.Network(toys.Plain(), size=SIDE, classes=CLASSES, **toys.HALF)


def replayed(net, folder):
    recipe = fv.render(net, unit(net), steps=1).recipe
    fv.replay(recipe, network=net)


def explored(net, folder):
    """Draw one unit on the page of the explorer."""
    with (
        fv.explore(net, output=folder / "explored", open_browser=False) as running,
        closing(Client(running.url)) as client,
        client.listening(),
    ):
        answer = client.images(f"{first_map(net)}:0", size=net.size[0]).json()
        return [client.ended(image["id"]) for image in answer.get("images", ()) if "error" not in image]


def trained_head(net, folder):
    batches = [(image_of(net).repeat(2, 1, 1, 1), torch.tensor([0, 1]))] * 2
    methods.train_scouter(net, first_map(net), batches, folder / "head.safetensors")


def photograph(net):
    return pictures(net.size[0]) / "0.png"


TINY = {"steps": 1, "size": 16}
CALLS = {
    "render": rendered(),
    "render in chunks": rendered(execution=fv.Execution(chunk_size=1)),
    "render in bfloat16": rendered(execution=fv.Execution("bfloat16", channels_last=True)),
    "render without folding": rendered(execution=fv.Execution(fold=False, channels_last=False)),
    "render in tiles": rendered(param=param.Image((128, 192)), steps=1, execution=fv.Execution(tile=128)),
    "render a style": lambda net, folder: fv.render(
        net, fv.objectives.Style(first_map(net), image_of(net)[0]) + unit(net), steps=1
    ),
    "render by weights": by_weights(),
    "render by weights in chunks": by_weights(execution=fv.Execution(chunk_size=1)),
    "render by weights in tiles": by_weights(param=param.Image((128, 192)), execution=fv.Execution(tile=128)),
    "replay": replayed,
    "score": lambda net, folder: fv.score(net, ["logit:0", unit(net)], image_of(net)),
    "capture": lambda net, folder: net.capture(image_of(net).requires_grad_(), list(net.table))[""].sum().backward(),
    "session": session,
    "layers": lambda net, folder: str(net.layers()),
    "sizes": lambda net, folder: (net.fixed_size, net.smallest, net.check_size((56, 42)), net.receptive_fields()),
    "fingerprint": lambda net, folder: (net.fingerprint, net.storages, repr(net)),
    "combine": combined,
    "accentuate": lambda net, folder: fv.accentuate(net, image_of(net)[:1], unit(net), steps=2, crops=2),
    "dream": lambda net, folder: fv.dream(net, image_of(net), octaves=2, steps=1, jitter=2),
    "dream_zoom": lambda net, folder: list(fv.dream_zoom(net, image_of(net), frames=2, octaves=1, steps=1)),
    "attention": lambda net, folder: fv.attention(net, image_of(net)[:1]).save(folder / "attention.html"),
    "compare": lambda net, folder: fv.compare(
        net, image_of(net)[0], ["logit:0"], ["Gradient", "GuidedBackprop", "CAM"]
    ),
    "compare on a page": lambda net, folder: fv.compare(net, image_of(net)[0], [0], ["Gradient"]).save(
        folder / "a.html"
    ),
    "evidence": lambda net, folder: fv.evidence(net, pictures(net.size[0])),
    "fit_dictionary": lambda net, folder: fv.fit_dictionary(
        net, pictures(net.size[0]), first_map(net), features=2, steps=1, compare_seeds=False
    ),
    "with_dictionary": with_features,
    "concepts": concepts,
    "examples": lambda net, folder: fv.examples(net, pictures(net.size[0]), first_map(net), [0], top=1, rest=1),
    "diff": lambda net, folder: fv.diff(
        net,
        other_network(),
        pictures(net.size[0], 4),
        folder,
        layers=[first_map(net)],
        second_layers=["conv1"],
        most=1,
        checkpoints=[net],
        **TINY,
    ),
    "judge": judged,
    "judge as judge": judging,
    "doctor": lambda net, folder: fv.doctor(net, photographs=pictures(net.size[0])),
    "gallery": lambda net, folder: fv.gallery(net, folder, classes=["ant"], photographs=pictures(SIDE), **TINY),
    "sweep": lambda net, folder: fv.sweep(net, folder, [first_map(net)], channels=[0], **TINY),
    "unit": lambda net, folder: fv.unit(net, f"{first_map(net)}:0", pictures(net.size[0]), **TINY).save(
        folder / "u.html"
    ),
    "blocks": lambda net, folder: fv.blocks(net, photograph(net), first_map(net), folder, cells=1, groups=1, **TINY),
    "circuit": lambda net, folder: fv.circuit(net, unit(net), folder, inputs=1, depth=0, groups=1, **TINY),
    "texture": lambda net, folder: fv.texture(net, "box", f"{first_map(net)}:0", view=SIDE, views=2, **TINY),
    "explore": explored,
    "train_scouter": trained_head,
    **{
        f"explain by {name}": explained(getattr(methods, name)())
        for name in methods.__all__
        if inspect.isclass(getattr(methods, name)) and name not in ("Scouter", "IntegratedGradients", "NoiseTunnel")
    },
    "explain by IntegratedGradients": explained(methods.IntegratedGradients(steps=2)),
    "explain by NoiseTunnel": explained(methods.NoiseTunnel(methods.GuidedBackprop(), samples=2)),
}
SLOW = {
    "unit",
    "doctor",
    "explore",
    "gallery",
    "sweep",
    "blocks",
    "judge",
    "examples",
    "sizes",
    "layers",
    "circuit",
    "diff",
}
"""Calls that take more than about 0.1 s."""
ELSEWHERE = {
    "atlas": "umap takes seconds to load; it reads the network as `blocks` does",
    "dream_video": "needs a video; it calls `dream` for each frame",
    "fit_prior": "reads the input specification alone",
    "load": "makes a network",
}


def test_every_public_function_that_takes_a_network_is_called():
    public = {name for name in fv.__all__ if inspect.isfunction(getattr(fv, name))}
    parameters = {name: inspect.signature(getattr(fv, name)).parameters.keys() for name in public}
    taking = {name for name, given in parameters.items() if {"network", "judge", "networks", "first"} & given}
    assert taking <= CALLS.keys() | ELSEWHERE.keys() | {"explain"}, taking - CALLS.keys()
    own = {name for name, value in vars(fv.Network).items() if inspect.isfunction(value) and name[0] != "_"}
    called = {
        "layers",
        "layer",
        "name_of",
        "outputs_of",
        "accepts",
        "session",
        "capture",
        "check_size",
        "receptive_fields",
        "with_dictionary",
        "embed_texts",
    }
    text = {"bind", "embed"}  # see test_text_networks.py
    no_pass = {"with_input", "with_given", "normaliser", "check_images", "copy_module", "copied", "pack"}
    assert own <= called | text | no_pass


OWN_ERRORS = {toys.Broken: RuntimeError, toys.Functional: RuntimeError, toys.Unpadded: AssertionError}
"""What networks raise themselves; `Functional` overwrites what its own gradient needs."""


class Interruption(Exception):  # noqa: N818
    """Raised in the middle of a pass."""


@contextmanager
def interrupted(error, at):
    """Raise an error at the given module call of this thread, in the user's module or a copy of it."""
    thread, count = threading.get_ident(), 0

    def hook(*_):
        nonlocal count
        if threading.get_ident() == thread:
            count += 1
            if count == at:
                raise error

    handle = nn.modules.module.register_module_forward_pre_hook(hook) if error else None
    try:
        yield
    finally:
        if handle:
            handle.remove()


def assert_call_changes_nothing(net, call, error=None, at=0, *, must_succeed=False):
    before, expected = state(net.module), outputs(net.module)
    allowed = (Interruption, KeyboardInterrupt, fv.FeatvizError, StopIteration)
    allowed += (OWN_ERRORS[type(net.module)],) if type(net.module) in OWN_ERRORS else ()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with suppress(*(() if must_succeed else allowed)), interrupted(error, at):
            CALLS[call](net, Path(folder))
    assert_unchanged(net.module, before, expected)


@pytest.mark.parametrize("call", CALLS)
def test_no_call_changes_the_module(call):
    of_transformers = ("attention", "explain by Attention", "explain by Rollout", "explain by GradientRollout")
    name = "Vit" if call in of_transformers else "WritesAttributes"
    assert_call_changes_nothing(training(name), call, must_succeed=True)


QUICK_PHASES = (Phase.explicit, Phase.reuse, Phase.generate)  # finding the smallest failure would take minutes
QUICK = sorted(CALLS.keys() - SLOW)


@pytest.mark.parametrize("name", NETWORKS)
@given(
    call=st.sampled_from(QUICK),
    error=st.sampled_from([None, KeyboardInterrupt, Interruption]),
    at=st.integers(1, 60),
    flags=st.integers(0, 31),
)
@settings(max_examples=8, deadline=None, phases=QUICK_PHASES)
def test_no_call_changes_any_network_however_it_ends(name, call, error, at, flags):
    assert_call_changes_nothing(training(name, flags), call, error, at)


@given(
    name=st.sampled_from(sorted(NETWORKS)),
    call=st.sampled_from(sorted(SLOW)),
    error=st.sampled_from([None, KeyboardInterrupt, Interruption]),
    at=st.integers(1, 120),
)
@settings(max_examples=8, deadline=None, phases=QUICK_PHASES)
def test_no_slow_call_changes_any_network_however_it_ends(name, call, error, at):
    assert_call_changes_nothing(training(name), call, error, at)


@pytest.mark.parametrize("name", STATEFUL)
def test_results_do_not_depend_on_earlier_calls(name):
    """What a pass writes to its copy does not reach later calls, or the user's own passes."""

    def results():
        return [fv.render(net, unit(net), steps=2).images, fv.explain(net, image_of(net), "logit:0").map]

    net = training(name)
    first = results()
    net.capture(image_of(net) * 0.3, [""])
    assert all(map(torch.equal, results(), first))


# ---------------------------------------------------------------------------------------------- at the same time


class Counting(Hooked):
    """Counts its calls, and draws no random numbers."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return super().forward(x)


def jobs(net):
    """Return functions that use one network, and their names."""
    images = image_of(net)

    def infer():
        with torch.no_grad():
            return net.module(images)

    def learn():
        weights = [weight for weight in net.module.parameters() if weight.requires_grad]
        return torch.cat([each.flatten() for each in torch.autograd.grad(net.module(images).square().sum(), weights)])

    explained = {
        f"explain by {name}": lambda name=name: fv.explain(net, images, "logit:1", name).map
        for name in ("gradcam", "guidedbackprop", "LRP('zplus')", "deconvnet")
    }
    return {
        "render": lambda: fv.render(net, ["conv2:1", "logit:0"], steps=3).images,
        "render without folding": lambda: fv.render(net, "conv1:1", steps=3, execution=fv.Execution(fold=False)).images,
        "dream": lambda: fv.dream(net, images, octaves=1, steps=2).images,
        "score": lambda: fv.score(net, ["conv2:1", "logit:0"], images),
        "layers": lambda: torch.tensor([layer.channels for layer in net.with_input(size=24).table.values()]),
        "infer": infer,
        "learn": learn,
        **explained,
    }


def at_once(functions, seconds):
    """Run each function again and again in a thread of its own, and return the results of each."""
    results, errors = {name: [] for name in functions}, []
    end = time.monotonic() + seconds
    together = threading.Barrier(len(functions))

    def work(name):
        together.wait()
        try:
            while not results[name] or time.monotonic() < end:
                results[name].append(functions[name]())
        except BaseException as error:
            errors.append((name, error))

    threads = [threading.Thread(target=work, args=[name]) for name in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors
    return results


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("measured", [True, False])
def test_threads_get_the_results_of_running_alone(measured):
    net = toys.network(Counting(), SIDE, classes=CLASSES)
    net.module.eval()
    alone = {name: run() for name, run in jobs(net).items()}
    if not measured:
        net = toys.network(Counting(), SIDE, classes=CLASSES)
        net.module.eval()
    module = net.module
    module.calls = module.count = 0
    before = state(module)
    results = at_once(jobs(net), 2)
    for name, found in results.items():
        assert all(torch.equal(each, alone[name]) for each in found), name
    own = len(results["infer"]) + len(results["learn"])
    assert 0 < module.calls <= own and 0 < module.count <= own  # two threads may count the same call
    module.calls = module.count = 0
    now = state(module)
    assert {**now, "random": None} == {**before, "random": None}


def test_threads_with_networks_that_draw_random_numbers():
    net = training("Random")
    functions = {
        "render": lambda: fv.render(net, "conv2:1", steps=3).images,
        "explain": lambda: fv.explain(net, image_of(net), "logit:1").map,
    }
    alone = {name: run() for name, run in functions.items()}
    for name, found in at_once(functions, 0.5).items():
        assert all(torch.equal(each, alone[name]) for each in found), name


@pytest.mark.parametrize("name", ["Plain", "WritesBuffers", "Hooked", "Replaced", "Computed"])
def test_what_a_callback_does_with_the_network_does_not_change_a_render(name):
    net = training(name)
    goal = unit(net)
    expected = fv.render(net, goal, steps=3)
    inner = [fv.render(net, "logit:1", steps=2).images, fv.explain(net, image_of(net), "logit:1").map]

    def progress(done, steps):
        if done > 1:
            return
        found = [fv.render(net, "logit:1", steps=2).images, fv.explain(net, image_of(net), "logit:1").map]
        assert all(map(torch.equal, found, inner))
        net.module.train()
        net.module(image_of(net).repeat(2, 1, 1, 1)).sum().backward()  # a step of the user's own training
        net.module.register_forward_hook(lambda *_: pytest.fail("a later hook ran in an earlier session"))

    found = fv.render(net, goal, steps=3, progress=progress)
    assert torch.equal(found.images, expected.images)
    assert torch.equal(found.history, expected.history)


@given(st.permutations(range(4)), st.sampled_from(["Plain", "WritesBuffers", "Hooked", "Replaced", "Vit"]))
@settings(max_examples=8, deadline=None, phases=QUICK_PHASES)
def test_sessions_that_overlap_and_end_in_any_order(order, name):
    net = training(name)
    before, expected = state(net.module), outputs(net.module)
    images, layers = image_of(net), [*list(net.table)[:3], ""]
    alone = [net.capture(images, [layer])[layer] for layer in layers]
    contexts = [net.session([layer]) for layer in layers]
    forwards = [context.__enter__() for context in contexts]
    closed = set()
    for i in order:
        for k, forward in enumerate(forwards):
            if k not in closed and name != "WritesBuffers":
                assert torch.equal(forward(images)[layers[k]], alone[k])
        contexts[i].__exit__(None, None, None)
        closed.add(i)
        assert_unchanged(net.module, before, expected)


def test_dreams_that_are_drawn_frame_by_frame_in_turns():
    net = training("WritesBuffers")
    images, options = image_of(net), {"frames": 3, "octaves": 1, "steps": 1}
    goals = ["conv1:1", "logit:1"]
    alone = [list(fv.dream_zoom(net, images, goal, **options)) for goal in goals]
    before, expected = state(net.module), outputs(net.module)
    turns = list(zip(*(fv.dream_zoom(net, images, goal, **options) for goal in goals), strict=True))
    assert all(np.array_equal(turn[k], frame) for k in range(2) for turn, frame in zip(turns, alone[k], strict=True))
    abandoned = fv.dream_zoom(net, images, "conv1:1", **options)
    next(abandoned)
    assert_unchanged(net.module, before, expected)
    abandoned.close()
    assert_unchanged(net.module, before, expected)
