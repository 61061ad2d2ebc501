"""The working copy: what it shares with the module of the user, and what it copies."""

from __future__ import annotations

import enum
import random
import threading
import types
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Sized
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
import pytest
import torch
import toys
from torch import nn
from working_copies import IMAGES, Wrapper, module_of, tensors_of

from featviz.network.working_copy import working_copy

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


@pytest.mark.parametrize("make", [Closing, Copying, lambda: Made(1), threading.Lock, object])
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


class Described:
    """Keeps an attribute behind a property without a setter."""

    def __init__(self):
        vars(self)["side"] = 3

    @property
    def side(self):
        return vars(self)["side"]


class Sentinel:
    __slots__ = ("name",)


class Linked:
    __slots__ = ("module", "other", "unset")

    def __getattr__(self, name):
        raise RuntimeError("code of the class ran")


def test_attributes_are_copied_without_running_code_of_the_class():
    module, one, two = Wrapper(), Linked(), Linked()
    one.module, one.other, two.module, two.other = module.net, two, module.net, one
    module.held, module.linked = Described(), one
    copy = working_copy(module)
    assert copy.held is not module.held and copy.held.side == 3
    assert copy.linked is not one and copy.linked.module is copy.net
    assert copy.linked.other.other is copy.linked


def test_values_with_slots_keep_their_identity():
    module, none = Wrapper(), Sentinel()
    none.name = "none"
    module.held, module.table = none, {none: 1}
    copy = working_copy(module)
    assert copy.held is none and copy.table[copy.held] == 1
