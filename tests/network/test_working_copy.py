"""The working copy: what it shares with the user's module, what it copies, and that running it changes nothing."""

from __future__ import annotations

import enum
import functools
import random
import threading
import types
import weakref
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Sized
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
import pytest
import torch
import toys
from torch import nn

import featviz as fv
from featviz.network.working_copy import uncompiled, working_copy

IMAGES = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def module_of(kind=toys.Plain):
    """Return a module in training mode with trainable weights, as a user has it who trains."""
    return toys.network(kind()).module.train()


class Wrapper(nn.Module):
    """Runs a network of its own; tests put state and other code around it."""

    def __init__(self):
        super().__init__()
        self.net = toys.Plain()

    def forward(self, x):
        return self.net(x)


def ran(module):
    """Count the calls of a convolution by a hook."""
    calls = []
    module.conv1.register_forward_hook(lambda *_: calls.append(1))
    return calls


def tensors_of(module):
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


# ---------------------------------------------------------------------------------------------- modes and weights


def test_the_copy_is_in_eval_mode_with_frozen_weights_and_the_original_is_not():
    module = module_of()
    copy = working_copy(module)
    assert not any(part.training for part in copy.modules())
    assert not any(weight.requires_grad for weight in copy.parameters())
    assert all(part.training for part in module.modules())
    assert all(weight.requires_grad for weight in module.parameters())
    assert not {id(part) for part in copy.modules()} & {id(part) for part in module.modules()}


@pytest.mark.parametrize("kind", [toys.Plain, toys.Vit, toys.ChannelsLast, toys.Dict])
def test_the_copy_has_the_names_classes_and_outputs_of_the_original(kind):
    module = module_of(kind)
    copy = working_copy(module)
    size = IMAGES if kind is not toys.Vit else torch.rand(2, 3, 32, 32)

    def described(module):
        return {name: type(part) for name, part in module.named_modules()}

    assert described(copy) == described(module)
    assert tensors_of(copy).keys() == tensors_of(module).keys()
    assert all(type(each) is type(tensors_of(module)[name]) for name, each in tensors_of(copy).items())
    found, expected = copy(size), module.eval()(size)
    if kind is toys.Dict:
        found, expected = found["out"][0], expected["out"][0]
    assert torch.allclose(found, expected, atol=1e-6)  # without gradients, transformers run a fused kernel


@pytest.mark.parametrize("share", [True, False])
def test_parameters_share_their_memory_and_other_tensors_are_copied(share):
    module = module_of()
    copy = working_copy(module, share_weights=share)
    for name, tensor in tensors_of(copy).items():
        original = tensors_of(module)[name]
        shared = share and isinstance(original, nn.Parameter)
        assert tensor is not original
        assert (tensor.data_ptr() == original.data_ptr()) == shared
        assert torch.equal(tensor, original)


def test_new_data_of_a_copied_weight_does_not_reach_the_original():
    module = module_of()
    before = {name: (weight.data_ptr(), weight.clone()) for name, weight in module.named_parameters()}
    for weight in working_copy(module).parameters():
        weight.data = weight.data.double() + 1
    for name, weight in module.named_parameters():
        assert weight.data_ptr() == before[name][0]
        assert weight.dtype == torch.float32
        assert torch.equal(weight, before[name][1])


def test_gradients_do_not_reach_the_weights():
    module, images = module_of(), IMAGES.clone().requires_grad_()
    given = module.head.weight.grad = torch.ones(5, 8)
    working_copy(module)(images).sum().backward()
    assert images.grad.any()
    assert module.head.weight.grad is given
    assert torch.equal(given, torch.ones(5, 8))
    assert all(weight.grad is None for weight in working_copy(module).parameters())


def test_tied_weights_stay_tied():
    class Tied(Wrapper):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(5, 5), nn.Linear(5, 5)
            self.b.weight = self.a.weight
            self.again = self.a
            self.kept = {"weight": self.a.weight, "more": [self.a.bias]}
            self.register_buffer("one", torch.zeros(3))
            self.same = self.one

    copy = working_copy(Tied())
    assert copy.b.weight is copy.a.weight is copy.kept["weight"]
    assert copy.again is copy.a
    assert copy.kept["more"][0] is copy.a.bias
    assert copy.same is copy.one


def test_weights_in_lists_share_their_memory():
    class Hidden(Wrapper):
        def __init__(self):
            super().__init__()
            self.weights = [nn.Parameter(torch.rand(5)), (nn.Parameter(torch.rand(5)),)]

        def forward(self, x):
            return super().forward(x) * self.weights[0] + self.weights[1][0]

    module = Hidden().eval()
    copy = working_copy(module)
    for weight, original in ((copy.weights[0], module.weights[0]), (copy.weights[1][0], module.weights[1][0])):
        assert weight.data_ptr() == original.data_ptr()
        assert isinstance(weight, nn.Parameter) and not weight.requires_grad and original.requires_grad
    assert torch.equal(copy(IMAGES), module(IMAGES))


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_flat_weights_of_recurrent_layers_are_those_of_the_copy(kind):
    module = kind(3, 4, num_layers=2, batch_first=True)
    copy = working_copy(module)
    weights = {id(weight) for weight in copy.parameters()}
    assert {id(weight) for weight in copy._flat_weights} == weights
    x = torch.rand(2, 5, 3)
    assert torch.allclose(copy(x)[0], module.eval()(x)[0], atol=1e-6)
    assert {id(weight) for weight in module._flat_weights} == {id(weight) for weight in module.parameters()}
    copy.weight_hh_l0.data = torch.zeros(copy.weight_hh_l0.shape)
    assert not torch.equal(copy(x)[0], module(x)[0])


def test_embeddings_run():
    module = nn.Embedding(5, 3, padding_idx=0)
    copy = working_copy(module)
    assert torch.equal(copy(torch.arange(5)), module(torch.arange(5)))
    assert copy.weight.data_ptr() == module.weight.data_ptr()


class Marked(nn.Parameter):
    """A parameter of the user's own class."""


def test_classes_and_attributes_of_parameters_are_kept():
    module = nn.Linear(2, 2)
    module.weight = Marked(torch.rand(2, 2))
    module.weight.scale = 3
    copy = working_copy(module)
    assert type(copy.weight) is Marked
    assert copy.weight.scale == 3
    assert copy.weight.data_ptr() == module.weight.data_ptr()
    assert not copy.weight.requires_grad and module.weight.requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_in_other_precisions_share_their_memory(dtype):
    module = module_of().to(dtype)
    copy = working_copy(module)
    assert {weight.dtype for weight in copy.parameters()} == {dtype}
    assert copy.conv1.weight.data_ptr() == module.conv1.weight.data_ptr()
    assert torch.equal(copy(IMAGES.to(dtype)), module.eval()(IMAGES.to(dtype)))


def test_integer_parameters_and_missing_ones_are_kept():
    module = nn.Linear(2, 2, bias=False)
    module.register_parameter("count", nn.Parameter(torch.ones(2, dtype=torch.int8), requires_grad=False))
    module.register_buffer("empty", None)
    copy = working_copy(module)
    assert copy.bias is None and copy.empty is None
    assert copy.count.dtype == torch.int8


def test_tensors_that_are_no_leaves_are_detached_copies():
    module = toys.Plain()
    module.mixed = module.head.weight * 2
    module.register_buffer("derived", module.head.bias + 1)
    copy = working_copy(module)
    for name in ("mixed", "derived"):
        made, original = getattr(copy, name), getattr(module, name)
        assert torch.equal(made, original)
        assert made.grad_fn is None and original.grad_fn is not None
        assert made.data_ptr() != original.data_ptr()


@pytest.mark.parametrize("make", [toys.Plain, lambda: nn.BatchNorm2d(3), lambda: nn.BatchNorm2d(3, affine=False)])
def test_modules_made_in_inference_mode_can_be_differentiated(make):
    with torch.inference_mode():
        module = make()
    images = IMAGES.clone().requires_grad_()
    for each in (working_copy(module), _copy_in_inference_mode(module)):
        each(images).sum().backward()
        assert images.grad.isfinite().all()
        assert not any(tensor.is_inference() for tensor in tensors_of(each).values())


def _copy_in_inference_mode(module):
    with torch.inference_mode():
        return working_copy(module)


# ---------------------------------------------------------------------------------------------- what a pass writes


def write_in_place(self):
    self.state += 1


def assign(self):
    self.state = self.state + 1


@pytest.mark.parametrize("write", [write_in_place, assign])
@pytest.mark.parametrize("kind", ["buffer", "tensor", "number"])
def test_what_a_pass_writes_to_buffers_and_attributes_stays_on_the_copy(kind, write):
    class Counting(Wrapper):
        def __init__(self):
            super().__init__()
            if kind == "buffer":
                self.register_buffer("state", torch.zeros(3))
            else:
                self.state = torch.zeros(3) if kind == "tensor" else 0

        def forward(self, x):
            write(self)
            return super().forward(x)

    module = Counting()
    original = module.state
    copy = working_copy(module)
    copy(IMAGES)
    copy(IMAGES)
    assert torch.equal(torch.as_tensor(copy.state), torch.as_tensor(original) + 2)
    assert module.state is original
    assert not torch.as_tensor(module.state).any()


def test_statistics_of_normalisations_stay_even_if_the_copy_trains():
    module = module_of()
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    working_copy(module).train()(IMAGES)
    assert all(torch.equal(buffer, before[name]) for name, buffer in module.named_buffers())


@dataclass
class Log:
    count: int = 0
    seen: list = field(default_factory=list)


@dataclass(frozen=True)
class FrozenLog:
    seen: list = field(default_factory=list)


class Abstract(Sized):  # like Generic, it has empty __slots__
    def __init__(self):
        self.seen = []

    def __len__(self):
        return 1


Item = TypeVar("Item")


class Typed(Generic[Item]):
    def __init__(self):
        self.seen = []


class Slotted(dict):
    """A container with attributes."""


Pair = namedtuple("Pair", "seen other")

CONTAINERS = {
    "list": ([], lambda held: held.append(1)),
    "dict": ({"a": 1}, lambda held: held.update(a=2, b=3)),
    "ordered dict": (OrderedDict(a=1, b=2), lambda held: held.move_to_end("a")),
    "defaultdict": (defaultdict(list), lambda held: held["a"].append(1)),
    "dict subclass": (Slotted(a=1), lambda held: held.update(a=2)),
    "deque": (deque([1], maxlen=2), lambda held: held.extend((1, 2, 3))),
    "set": ({1}, lambda held: held.add(2)),
    "counter": (Counter("ab"), lambda held: held.update("a")),
    "list in a dict": ({"a": {"b": [1]}}, lambda held: held["a"]["b"].append(1)),
    "list in a tuple": (("a", [1]), lambda held: held[1].append(2)),
    "named tuple": (Pair([1], 2), lambda held: held.seen.append(2)),
    "dataclass": (Log(), lambda held: (setattr(held, "count", 5), held.seen.append(1))),
    "frozen dataclass": (FrozenLog(), lambda held: held.seen.append(1)),
    "namespace": (types.SimpleNamespace(n=0, seen=[]), lambda held: (setattr(held, "n", 5), held.seen.append(1))),
    "object in a list": ([Log()], lambda held: held[0].seen.append(1)),
    "object in an object": (types.SimpleNamespace(log=Log()), lambda held: held.log.seen.append(1)),
    "abstract": (Abstract(), lambda held: held.seen.append(1)),
    "generic": (Typed(), lambda held: held.seen.append(1)),
    "array": (np.zeros(3), lambda held: held.fill(1)),
    "tensor in a list": ([torch.zeros(3)], lambda held: held[0].fill_(1)),
    "tensor in a dict": ({"a": torch.zeros(3)}, lambda held: held["a"].fill_(1)),
    "tensor in an object": (types.SimpleNamespace(a=torch.zeros(3)), lambda held: held.a.fill_(1)),
}


def shown(value):
    """Return a value as text, with the attributes of its objects."""
    if isinstance(value, dict):
        return [type(value), [(key, shown(each)) for key, each in value.items()]]
    if isinstance(value, list | tuple | deque):
        return [type(value), list(map(shown, value))]
    if hasattr(value, "__dict__") and not isinstance(value, torch.Tensor):
        return [type(value), shown(vars(value))]
    return repr(value)


def test_attributes_of_a_state_dict_are_copied_whether_it_is_empty_or_not():
    module = Wrapper()
    module.full, module.empty = module.state_dict(), OrderedDict()
    module.empty._metadata = {"version": 1}
    made = working_copy(module)
    assert made.full._metadata.keys() == module.full._metadata.keys() and made.empty._metadata == {"version": 1}


@pytest.mark.parametrize("name", CONTAINERS)
def test_what_a_pass_writes_to_containers_and_objects_stays_on_the_copy(name):
    held, write = CONTAINERS[name]
    before = shown(held)

    class Holding(Wrapper):
        def __init__(self):
            super().__init__()
            self.held = held

        def forward(self, x):
            write(self.held)
            return super().forward(x)

    module = Holding()
    copy = working_copy(module)
    assert shown(copy.held) == before
    assert type(copy.held) is type(held)
    copy(IMAGES)
    assert shown(copy.held) != before
    assert shown(module.held) == before
    assert module.held is held


def test_containers_keep_their_settings():
    module = Wrapper()
    module.queue, module.default = deque([1, 2], maxlen=3), defaultdict(int, a=1)
    copy = working_copy(module)
    assert copy.queue.maxlen == 3
    assert copy.default["new"] == 0 and dict(copy.default) == {"a": 1, "new": 0}
    assert "new" not in module.default


def test_containers_that_hold_themselves():
    module = Wrapper()
    module.loop = [1]
    module.loop.append(module.loop)
    module.owner = types.SimpleNamespace(module=module)
    copy = working_copy(module)
    assert copy.loop[1] is copy.loop is not module.loop
    assert copy.owner.module is copy


def test_containers_of_which_another_thread_changes_the_size():
    """A pass of the user's, in another thread, may write to a cache meanwhile."""
    module, stop = Wrapper(), threading.Event()
    module.cache = {i: [i] for i in range(2000)}
    module.seen, module.queue = set(range(2000)), deque(range(2000))

    def write():
        count = 0
        while not stop.is_set():
            count += 1
            module.cache[count % 997 - 1000] = [0]
            module.cache.pop((count + 500) % 997 - 1000, None)
            module.seen.add(-count % 997 - 1000)
            module.seen.discard((500 - count) % 997 - 1000)
            module.queue.append(count)
            module.queue.popleft()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(30):
            working_copy(module)
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize(
    ("make", "draw"),
    [
        (lambda: np.random.default_rng(0), lambda source: source.random()),
        (lambda: np.random.RandomState(0), lambda source: source.rand()),
        (lambda: random.Random(0), lambda source: source.random()),
        (lambda: torch.Generator().manual_seed(0), lambda source: torch.rand((), generator=source).item()),
    ],
    ids=["numpy", "numpy (old)", "random", "torch"],
)
def test_random_generators_continue_in_the_copy_and_stay_in_the_original(make, draw):
    module, expected = Wrapper(), make()
    module.source, module.more = make(), [make()]
    draw(module.source), draw(expected)
    copy = working_copy(module)
    drawn = [draw(expected) for _ in range(3)]
    assert [draw(copy.source) for _ in range(3)] == drawn
    assert draw(copy.more[0]) == draw(make())
    assert [draw(module.source) for _ in range(3)] == drawn


class Choice(enum.Enum):
    ONE = 1


@pytest.mark.parametrize(
    "value",
    [1, 2.5, "text", b"bytes", None, (1, "a"), torch.float32, torch.device("cpu"), torch.Size((1, 2)), Choice.ONE],
)
def test_values_without_state_are_shared(value):
    module = Wrapper()
    module.value = value
    assert working_copy(module).value is value


# ---------------------------------------------------------------------------------------------- other classes


def test_objects_are_copied_where_a_module_reaches_them_and_deep_ones_are_shared():
    """As where a module keeps its trainer, which keeps its data, loggers and files."""
    deep = types.SimpleNamespace(seen=[])
    trainer = types.SimpleNamespace(loops=types.SimpleNamespace(data=deep), module=None, steps=[0])
    module = Wrapper()
    module.trainer, trainer.module = trainer, module
    copy = working_copy(module)
    assert copy.trainer is not trainer
    assert copy.trainer.steps is not trainer.steps
    assert copy.trainer.loops is not trainer.loops
    assert copy.trainer.loops.data is deep
    assert copy.trainer.module is copy
    assert trainer.module is module


class Closing:
    """Releases something when it is deleted, so a copy of it would release it too early."""

    def __init__(self):
        self.handle = [1]

    def __del__(self):
        self.handle.clear()


class Copying:
    """Knows how to be copied, as configurations do."""

    def __init__(self):
        self.items = []

    def __deepcopy__(self, memo):
        raise AssertionError("copied")


class Made:
    """Needs an argument to be made."""

    def __new__(cls, value):
        return super().__new__(cls)


class Fast:
    """Has no attribute dictionary."""

    __slots__ = ("value",)


@pytest.mark.parametrize("make", [Closing, Copying, lambda: Made(1), Fast, threading.Lock, object])
def test_objects_that_are_more_than_their_attributes_are_shared(make):
    module = Wrapper()
    module.held = make()
    copy = working_copy(module)
    assert copy.held is module.held
    if isinstance(module.held, Closing):
        del copy
        assert module.held.handle == [1]


def test_an_open_file_is_shared(tmp_path):
    module = Wrapper()
    with (tmp_path / "log").open("w") as module.file:
        working_copy(module).file.write("text")
        assert not module.file.closed
    assert (tmp_path / "log").read_text() == "text"


def test_modules_classes_and_functions_are_shared():
    module = Wrapper()
    module.lib, module.kind, module.function, module.builtin = np, toys.Plain, torch.relu, len
    copy = working_copy(module)
    assert (copy.lib, copy.kind, copy.function, copy.builtin) == (np, toys.Plain, torch.relu, len)


# ---------------------------------------------------------------------------------------------- hidden modules


def in_list(part):
    held = [part]
    return lambda self, x: self.held[0](x), held


def in_nested(part):
    return lambda self, x: self.held["a"][0][1](x), {"a": [(None, part)]}


def in_closure(part):
    return lambda self, x: self.held(x), lambda x: part(x)


def in_listed_closure(part):
    parts = [part]
    return lambda self, x: self.held(x), lambda x: parts[0](x)


def in_dict_closure(part):
    parts = {"a": (part,)}
    return lambda self, x: self.held(x), lambda x: parts["a"][0](x)


def in_default(part):
    return lambda self, x: self.held(x), lambda x, run=part: run(x)


def in_keyword_default(part):
    return lambda self, x: self.held(x), lambda x, *, run=part: run(x)


def in_partial(part):
    return lambda self, x: self.held(x=x), functools.partial(lambda run, x: run(x), part)


def in_partial_keyword(part):
    return lambda self, x: self.held(x), functools.partial(lambda x, run: run(x), run=part)


def in_partial_closure(part):
    call = functools.partial(lambda run, x: run(x), part)
    return lambda self, x: self.held(x), lambda x: call(x)


def in_object(part):
    return lambda self, x: self.held.part(x), types.SimpleNamespace(part=part)


def in_callable_object(part):
    return lambda self, x: self.held(x), Callable(part)


def in_method(part):
    return lambda self, x: self.held(x), part.forward


def in_method_of_an_object(part):
    return lambda self, x: self.held(x), Callable(part).run


def in_closure_with_an_object(part):
    held = Callable(part)
    return lambda self, x: self.held(x), lambda x: held.run(x)


def in_recursive_closure(part):
    def call(x, again=True):
        return call(x, again=False) if again else part(x)

    return lambda self, x: self.held(x), call


def in_wrapped_function(part):
    @functools.wraps(part.forward)
    def call(x):
        return part(x)

    return lambda self, x: self.held(x), call


def in_cache(part):
    @functools.lru_cache(2)
    def call(x):
        return part(x)

    return lambda self, x: self.held(x), call


def in_set(part):
    return lambda self, x: next(iter(self.held))(x), {part}


def in_frozenset(part):
    return lambda self, x: next(iter(self.held))(x), frozenset({part})


def in_keys(part):
    return lambda self, x: next(iter(self.held))(x), {part: "name"}


def in_weak_reference(part):
    return lambda self, x: self.held()(x), weakref.ref(part)


class Callable:
    """An object that runs a module."""

    def __init__(self, part):
        self.part = part

    def __call__(self, x):
        return self.part(x)

    def run(self, x):
        return self.part(x)


HIDDEN = [
    *(in_list, in_nested, in_closure, in_listed_closure, in_dict_closure, in_default, in_keyword_default, in_partial),
    *(in_partial_keyword, in_partial_closure, in_object, in_callable_object, in_method, in_method_of_an_object),
    *(in_closure_with_an_object, in_recursive_closure, in_wrapped_function, in_cache, in_set, in_frozenset, in_keys),
    in_weak_reference,
]


@pytest.mark.parametrize("registered", [True, False])
@pytest.mark.parametrize("hide", HIDDEN, ids=lambda hide: hide.__name__.removeprefix("in_"))
def test_hidden_modules_run_as_copies(hide, registered):
    """In training mode, a run of the original would change its statistics."""
    part = module_of()
    call, held = hide(part)

    class Hiding(nn.Module):
        def forward(self, x):
            return call(self, x)

    module = Hiding()
    module.held = held
    if registered:
        module.part = part
    elif hide is in_weak_reference:
        pytest.skip("a module that is referred to weakly belongs to someone else")
    before = {name: buffer.clone() for name, buffer in part.named_buffers()}
    calls = ran(part)
    expected = toys.network(toys.Plain()).module.eval()(IMAGES)
    copy = working_copy(module)
    assert torch.allclose(copy(IMAGES), expected)
    assert all(torch.equal(buffer, before[name]) for name, buffer in part.named_buffers())
    assert module.held is held
    assert calls == [1]  # the user's hook ran, on the copy
    if registered:
        copied = []
        copy.part.conv1.register_forward_hook(lambda *_: copied.append(1))
        copy(2 * IMAGES)  # other images, for the one that caches results
        assert copied
        part.eval()(IMAGES)
        assert len(copied) == 1


def test_containers_with_modules_as_keys_have_the_copies_as_keys():
    module = Wrapper()
    module.names = OrderedDict([(module.net, "net"), (module.net.conv1, "conv1"), ("other", 1)])
    module.some = {module.net.conv1}
    copy = working_copy(module)
    assert list(copy.names.items()) == [(copy.net, "net"), (copy.net.conv1, "conv1"), ("other", 1)]
    assert copy.some == {copy.net.conv1}
    assert list(module.names) == [module.net, module.net.conv1, "other"]


# ---------------------------------------------------------------------------------------------- replaced forward


def by_method(part):
    def forward(self, x):
        return 2 * toys.Plain.forward(self, x)

    return types.MethodType(forward, part)


def by_partial(part):
    return functools.partial(lambda run, x: 2 * run(x), part.forward)


def by_closure(part):
    own = part.forward

    @functools.wraps(own)
    def forward(x):
        return 2 * own(x)

    return forward


def by_default(part):
    return lambda x, own=part.forward: 2 * own(x)


def by_class_function(part):
    return lambda x: 2 * toys.Plain.forward(part, x)


def by_partial_of_a_function(part):
    return functools.partial(lambda self, x: 2 * toys.Plain.forward(self, x), part)


class Doubled:
    """A wrapper around a forward pass, as quantisation and offloading libraries make."""

    def __init__(self, part):
        self.part, self.own = part, part.forward

    def __call__(self, x):
        return 2 * self.own(x)

    def forward(self, x):
        return 2 * type(self.part).forward(self.part, x)


def by_object(part):
    return Doubled(part)


def by_method_of_an_object(part):
    return Doubled(part).forward


REPLACED = [by_method, by_partial, by_closure, by_default, by_class_function, by_partial_of_a_function, by_object]
REPLACED += [by_method_of_an_object]


@pytest.mark.parametrize("replace", REPLACED, ids=lambda replace: replace.__name__.removeprefix("by_"))
def test_a_forward_that_was_replaced_on_an_instance_runs_the_copy(replace):
    module = Wrapper()
    module.net = module_of()
    expected = 2 * toys.network(toys.Plain()).module.eval()(IMAGES)
    own = module.net.forward = replace(module.net)
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    copy = working_copy(module)
    seen = ran(copy.net)
    assert torch.allclose(copy(IMAGES), expected)
    assert seen == [1]
    assert all(torch.equal(buffer, before[name]) for name, buffer in module.named_buffers())
    assert vars(module.net)["forward"] is own


def test_a_wrapper_that_replaces_the_forward_of_its_submodules():
    """As timm users do to collect attention maps: `block.forward = wrapper(block)`."""
    maps = []

    def wrapper(block):
        own = block.forward

        def forward(x):
            out = own(x)
            maps.append(out.detach())
            return out

        return forward

    module = module_of()
    for part in (module.conv1, module.conv2):
        part.forward = wrapper(part)
    net = fv.Network(module, size=8, **toys.HALF)
    assert torch.equal(net.capture(IMAGES, ["conv1"])["conv1"], maps[-1])
    assert module.conv1.forward.__closure__


def test_functions_keep_their_name_attributes_and_unset_variables():
    def maker(part):
        def forward(x, *, factor=2):
            """Run."""
            return part(x) * factor if factor else later(x)

        forward.mark = [1]
        if part is None:
            later = None  # a variable of the closure without a value
        return forward

    module = Wrapper()
    module.run = maker(module.net)
    copy = working_copy(module)
    assert copy.run is not module.run
    assert (copy.run.__name__, copy.run.mark) == ("forward", [1])
    assert copy.run.__kwdefaults__ == {"factor": 2}
    assert copy.run(IMAGES).shape == (2, 5)
    with pytest.raises(NameError, match="later"):
        copy.run(IMAGES, factor=0)


def test_functions_that_refer_to_no_module_are_shared():
    seen = []

    def note(x):
        seen.append(x)

    def recursive(n):
        return recursive(n - 1) if n else 0

    module = Wrapper()
    module.note, module.recursive = note, recursive
    copy = working_copy(module)
    assert copy.note is note
    assert copy.recursive is recursive or copy.recursive(3) == 0


def test_functions_that_call_each_other_run_the_copies():
    part = module_of()

    def even(x, n):
        return part(x) if n == 0 else odd(x, n - 1)

    def odd(x, n):
        return even(x, n - 1)

    module = Wrapper()
    module.part, module.run = part, odd
    copy = working_copy(module)
    calls = ran(copy.part)
    copy.run(IMAGES, 3)
    assert calls == [1]
    assert not part.bn1.num_batches_tracked


# ---------------------------------------------------------------------------------------------- hooks


def test_hooks_of_the_copy_stay_on_the_copy():
    module = module_of()
    copy = working_copy(module)
    for part in copy.modules():
        part.register_forward_hook(lambda *_: pytest.fail("a hook of the copy ran"))
        part.register_forward_pre_hook(lambda *_: pytest.fail("a hook of the copy ran"))
    module(IMAGES)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


def test_hooks_of_the_user_run_on_the_copy():
    seen = []

    def double(part, _, out):
        seen.append(part)
        return 2 * out

    class Recorder:
        def __init__(self):
            self.seen = []

        def note(self, part, inputs):
            self.seen.append(part)

    recorder, module = Recorder(), module_of()
    handle = module.head.register_forward_hook(double)
    module.head.register_forward_pre_hook(recorder.note)
    copy = working_copy(module)
    expected = toys.network(toys.Plain()).module.eval()(IMAGES)
    assert torch.allclose(copy(IMAGES), 2 * expected)
    assert seen == recorder.seen == [copy.head]
    handle.remove()
    assert not module.head._forward_hooks and copy.head._forward_hooks


def test_hooks_that_are_methods_of_the_module_write_to_the_copy():
    class Counting(Wrapper):
        def __init__(self):
            super().__init__()
            self.count = 0
            self.net.register_forward_hook(self.note)
            self.net.register_forward_pre_hook(functools.partial(type(self).note, self))

        def note(self, *_):
            self.count += 1

    module = Counting()
    copy = working_copy(module)
    copy(IMAGES)
    assert (copy.count, module.count) == (2, 0)


# ---------------------------------------------------------------------------------------------- parametrized weights


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize(
    "apply",
    [
        nn.utils.weight_norm,
        nn.utils.spectral_norm,
        nn.utils.parametrizations.weight_norm,
        nn.utils.parametrizations.spectral_norm,
        nn.utils.parametrizations.orthogonal,
    ],
    ids=["old weight norm", "old spectral norm", "weight norm", "spectral norm", "orthogonal"],
)
def test_computed_weights_are_those_of_the_copy(apply):
    torch.manual_seed(0)
    module = nn.Sequential(apply(nn.Conv2d(3, 4, 3, stride=2)), nn.BatchNorm2d(4), apply(nn.Conv2d(4, 2, 1)))
    module(IMAGES)
    net = fv.Network(module, size=8, **toys.HALF)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    copy = working_copy(module)
    for name, weight in copy.named_parameters():
        assert weight.data_ptr() == dict(module.named_parameters())[name].data_ptr()
    assert fv.render(net, '"2":1', steps=2).history.isfinite().all()
    captured = net.capture(IMAGES, ["2"])["2"]
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert module.training and all(weight.requires_grad for weight in module.parameters())
    normal = (IMAGES - 0.5) / 0.5
    expected = module.eval()(normal)
    assert torch.allclose(captured, expected, atol=1e-5)
    assert torch.allclose(copy(normal), expected, atol=1e-5)


# ---------------------------------------------------------------------------------------------- other kinds of modules


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_a_scripted_submodule_runs_and_is_not_changed():
    module = module_of()
    module.bn1 = torch.jit.script(module.bn1)
    expected = toys.network(toys.Plain()).module.eval()(IMAGES)
    copy = working_copy(module)
    assert torch.allclose(copy(IMAGES), expected)
    assert not copy.bn1.training and module.bn1.training
    assert not any(weight.requires_grad for weight in copy.parameters())
    assert all(weight.requires_grad for weight in module.parameters())
    copy.train()(IMAGES)
    assert copy.bn1.num_batches_tracked == 1 and module.bn1.num_batches_tracked == 0


def test_a_traced_graph_module_runs_its_copy():
    module = torch.fx.symbolic_trace(toys.Plain())
    copy = working_copy(module)
    calls = ran(copy)
    assert torch.equal(copy(IMAGES), module.eval()(IMAGES))
    assert calls == [1]
    assert copy.conv1 is not module.conv1


def test_the_users_own_special_methods_are_not_called():
    class Strict(toys.Plain):
        def __init__(self):
            super().__init__()
            vars(self)["ready"] = True

        def train(self, mode=True):
            raise AssertionError("adapters were merged")

        def requires_grad_(self, requires_grad=True):
            raise AssertionError("requires_grad_ was called")

        def __setattr__(self, name, value):
            assert "ready" not in vars(self), "written"
            super().__setattr__(name, value)

        def __deepcopy__(self, memo):
            raise AssertionError("copied")

        def __getstate__(self):
            raise AssertionError("copied")

    module = Strict()
    assert torch.equal(working_copy(module)(IMAGES), working_copy(module)(IMAGES))


def test_a_module_whose_class_needs_arguments():
    class Square(nn.Linear):
        def __new__(cls, size):
            return super().__new__(cls)

        def __init__(self, size):
            super().__init__(size, size)

    assert working_copy(Square(3))(torch.rand(1, 3)).shape == (1, 3)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("calibrated", [True, False])
def test_fake_quantisation_does_not_adapt(calibrated):
    from torch.ao.quantization import get_default_qat_qconfig, prepare_qat

    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
    module.qconfig = get_default_qat_qconfig("x86")
    module = prepare_qat(module.train())
    if calibrated:
        module(IMAGES - 0.5)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    net = fv.Network(module, size=8, **toys.HALF)
    captured = net.capture(5 * IMAGES, ["2"])["2"]
    assert captured.isfinite().all()
    assert fv.render(net, '"2":1', steps=3, transforms=()).images.isfinite().all()
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    if calibrated:  # the same image gives the same result, whatever ran before
        assert torch.equal(net.capture(5 * IMAGES, ["2"])["2"], captured)
        copy = working_copy(module)
        first = copy(IMAGES)
        copy(100 * IMAGES)
        assert torch.equal(copy(IMAGES), first)


# ---------------------------------------------------------------------------------------------- torch.compile


def refuse(*_):
    raise AssertionError("compiled")


class Compiled(Wrapper):
    """Compiled in one of several ways, with a backend that fails."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        if how == "submodule":
            self.net = torch.compile(self.net, backend=refuse)
        elif how == "method":
            self.run = torch.compile(self.run, backend=refuse)
        elif how == "forward":
            self.net.forward = torch.compile(self.net.forward, backend=refuse)
        elif how == "closure":
            net = self.net
            self.run = torch.compile(lambda x: net(x), backend=refuse)
        elif how == "compile()":
            self.net.compile(backend=refuse)
        elif how == "compile() of the whole":
            self.compile(backend=refuse)

    def run(self, x):
        return self.net(x)

    def forward(self, x):
        if self.how == "class method":
            return self.decorated(x)
        return self.run(x)

    @torch.compile(backend=refuse)
    def decorated(self, x):
        return self.net(x)


WAYS = ["submodule", "method", "forward", "closure", "compile()", "compile() of the whole", "class method"]


@pytest.mark.parametrize("how", WAYS)
def test_compiled_modules_and_functions_run_uncompiled(how):
    net = toys.network(Compiled(how), 8)
    before = {name: dict(vars(part)) for name, part in net.module.named_modules()}
    calls = []
    inner = getattr(net.module.net, "_orig_mod", net.module.net)
    inner.conv2.register_forward_hook(lambda *_: calls.append(1))
    layer = next(name for name in net.table if name.endswith("conv2"))
    assert fv.render(net, f"{layer}:1", steps=2).history.isfinite().all()
    assert calls
    plain = toys.network(Wrapper(), 8)
    assert torch.equal(net.capture(IMAGES, [layer])[layer], plain.capture(IMAGES, ["net.conv2"])["net.conv2"])
    for name, part in net.module.named_modules():
        assert vars(part).keys() == before[name].keys()
        assert all(value is before[name][key] for key, value in vars(part).items())
    if how != "compile() of the whole":
        with suppress(Exception), torch.no_grad():
            net.module(IMAGES)
            pytest.fail("the user's module is not compiled any more")


def test_attributes_and_methods_of_a_compiled_submodule():
    class Uses(Wrapper):
        def __init__(self):
            super().__init__()
            self.net.width = 7
            self.net = torch.compile(self.net, backend=refuse)
            self.parts = torch.compile(nn.Sequential(nn.Identity(), nn.ReLU()), backend=refuse)

        def forward(self, x):
            assert self.net.width == 7
            assert len(self.parts) == 2
            return self.net.head(self.net.conv2(self.net.conv1(x)).mean((2, 3)))

    copy = working_copy(Uses())
    assert copy(IMAGES).shape == (2, 5)
    with pytest.raises(AttributeError, match="missing"):
        copy.net.missing


def stance():
    import torch._dynamo.eval_frame as frame

    return frame._stance.stance


def test_the_stance_of_the_compiler_is_restored_in_any_order():
    """It is global, so passes in two threads overlap."""
    import torch._dynamo  # noqa: F401

    before = stance()
    first, second = uncompiled(), uncompiled()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert stance() == "force_eager"
    second.__exit__(None, None, None)
    assert stance() == before
    with suppress(ZeroDivisionError), uncompiled():
        raise ZeroDivisionError
    assert stance() == before
