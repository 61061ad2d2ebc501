"""What a network computes besides its weights decides the keys of caches: settings, constants, buffers and hooks."""

import argparse
import enum
import functools
import inspect
import logging
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
import toys
from PIL import Image
from torch import nn

import featviz as fv
from featviz.network.code_hash import code_hash

TESTS = Path(__file__).parents[1]
FACTOR = 1.0
OPTIONS = {"scale": (1, 2)}


class Mode(enum.Enum):
    SUM = 1
    MEAN = 2


@dataclass
class Inner:
    value: object = 0


@dataclass(slots=True)
class Config:
    value: object
    inner: Inner = field(default_factory=Inner)


class Legacy:
    def __init__(self, value):
        self.value = value


class Configured(nn.Module):
    """A module whose behaviour depends on an attribute."""

    def __init__(self, setting):
        super().__init__()
        self.setting, self.conv = setting, nn.Conv2d(3, 4, 3)


SETTINGS = {
    "dataclass": (Config(1), Config(2)),
    "nested": (Config(0, Inner(1)), Config(0, Inner(2))),
    "namespace": (SimpleNamespace(a=1), SimpleNamespace(a=2)),
    "argparse": (argparse.Namespace(a=1), argparse.Namespace(a=2)),
    "object": (Legacy([1, {"a": 1}]), Legacy([1, {"a": 2}])),
    "enum": (Mode.SUM, Mode.MEAN),
    "enum in a dict": ({"mode": Mode.SUM}, {"mode": Mode.MEAN}),
    "tensor": (torch.ones(3), torch.zeros(3)),
    "tensors": ([torch.ones(3)], [torch.zeros(3)]),
    "array": (np.ones(3), np.zeros(3)),
    "numpy number": (np.float32(1), np.float32(2)),
    "dtype": (torch.float32, torch.float16),
    "complex number": (1j, 2j),
    "set": ({"a", "b"}, {"a", "c"}),
    "slice": (slice(1), slice(2)),
    "keys": ({1: "a"}, {2: "a"}),
    "class": (Legacy(1), SimpleNamespace(value=1)),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_of_any_kind_are_hashed(name):
    one, other = SETTINGS[name]
    assert code_hash(Configured(one)) == code_hash(Configured(one)) != code_hash(Configured(other))


class Scaled(toys.Plain):
    """Reads constants."""

    def forward(self, x):
        return super().forward(x) * FACTOR + OPTIONS["scale"][0]


@pytest.mark.parametrize(("name", "value"), [("FACTOR", 2.0), ("OPTIONS", {"scale": (3, 2)})])
def test_constants_that_a_forward_reads_are_hashed(name, value, monkeypatch):
    module = Scaled()
    before = code_hash(module)
    monkeypatch.setitem(globals(), name, value)
    assert code_hash(module) != before


def test_hooks_are_hashed_and_their_numbers_are_not():
    def ablate(channel):
        return lambda part, inputs, output: output.index_fill(1, torch.tensor(channel), 0)

    def hooked(channel):
        module = toys.Plain()
        if channel is not None:
            module.conv1.register_forward_hook(ablate(channel))
        return code_hash(module)

    assert len({hooked(None), hooked(0), hooked(1)}) == 3
    assert hooked(1) == hooked(1)


def test_a_hash_is_the_same_in_another_process():
    code = (
        "import torch, toys; from featviz.network.code_hash import code_hash; m = toys.Plain(); "
        "m.names = {'a', 'b', 'c', 'd'}; m.conv1.register_forward_hook(lambda *_: None); print(code_hash(m))"
    )
    prints = {subprocess.check_output([sys.executable, "-c", code], cwd=TESTS, text=True) for _ in range(2)}
    assert len(prints) == 1


def test_modules_that_refer_to_each_other_and_to_themselves_have_a_hash():
    module = Configured(None)
    module.setting = [module, module.conv, vars(module)]
    loop: list[object] = [Legacy(module)]
    loop.append(loop)
    module.loop = loop
    assert code_hash(module) == code_hash(module)


@pytest.mark.parametrize(
    "change", [lambda conv: conv.weight.data.add_(1), lambda conv: setattr(conv, "stride", (2, 2))]
)
def test_modules_that_are_not_registered_are_hashed(change):
    module = Configured([nn.Conv2d(1, 1, 1)])
    before = code_hash(module)
    change(module.setting[0])
    assert code_hash(module) != before


def test_arrays_that_cannot_be_read_are_described_by_their_shape():
    odd = torch.eye(3).to_sparse(), torch.ones(2, device="meta"), np.array(["a"]), np.array([{}], dtype=object)
    assert all(code_hash(Configured(each)) == code_hash(Configured(each)) for each in odd)


class Buffered(nn.Module):
    """Two buffers of which a `state_dict` holds none."""

    def __init__(self, sign):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3)
        self.register_buffer("sign", torch.tensor(float(sign)), persistent=False)

    def forward(self, x):
        return self.sign * self.conv(x).mean((2, 3))


class Partial(Buffered):
    """A state_dict that leaves out everything."""

    def state_dict(self, *args, **kwargs):
        return {}


def test_buffers_that_are_not_stored_are_hashed():
    assert code_hash(Buffered(1)) == code_hash(Buffered(1)) != code_hash(Buffered(-1))


def test_weights_that_a_state_dict_leaves_out_belong_to_the_fingerprint():
    def print_of(module):
        return fv.Network(module.eval(), size=16, mean=(0.5,) * 3, std=(0.5,) * 3).fingerprint

    changed = Partial(1)
    with torch.no_grad():
        changed.conv.weight.mul_(2)
    assert print_of(Partial(1)) != print_of(changed)


def jagged():
    return torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged)


@pytest.mark.filterwarnings("ignore")  # of deprecated and of experimental kinds
@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.eye(3).to_sparse(),
        lambda: torch.ones(2, device="meta"),
        lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.quint8),
        lambda: torch.ones(3, dtype=torch.complex64).conj(),
        jagged,
    ],
    ids=["sparse", "meta", "quantised", "conjugate", "nested"],
)
def test_buffers_of_any_kind(make):
    module = Buffered(1)
    module.register_buffer("other", make(), persistent=False)
    assert code_hash(module) == code_hash(module)
    assert fv.Network(module.eval(), size=16, mean=(0.5,) * 3, std=(0.5,) * 3).fingerprint


class Raising(dict):
    def items(self):
        raise RuntimeError("computed later")


class RaisingList(list):
    def __iter__(self):
        raise KeyError("no")


def nested_list(depth):
    found = []
    for _ in range(depth):
        found = [found]
    return found


class OddKeys:
    def __init__(self):
        vars(self)[1] = 2
        self.a = 3


ODD = {
    "byte order": np.arange(3, dtype=">f4"),
    "deep": nested_list(3000),
    "raising mapping": Raising(a=1),
    "raising list": RaisingList([1]),
    "odd keys": OddKeys(),
    "huge number": 10**5000,
    "nested tensor": jagged(),
    "logger": logging.getLogger("featviz.odd"),
    "lock": threading.Lock(),
    "thread": threading.Thread(target=print),
    "generator": (i for i in range(3)),
    "optimizer": torch.optim.Adam([nn.Parameter(torch.ones(2))]),
}


@pytest.mark.parametrize("name", ODD)
def test_any_attribute_can_be_hashed(name):
    module = Configured(ODD[name])
    assert code_hash(module) == code_hash(module)


def test_what_changes_with_use_is_not_hashed():
    path, logger = Path("a") / "b", logging.getLogger("featviz.used")
    module = Configured([path, logger])
    module.weights = list(module.parameters())
    before = code_hash(module)
    hash(path), str(path)
    logger.info("used")
    logging.getLogger("featviz.another")
    with torch.no_grad():
        module.conv.weight.add_(1)  # has a hash of its own
    assert code_hash(module) == before


class Classy(nn.Module):
    """Has settings in its class, and calls functions that read constants."""

    SETTINGS: ClassVar = {"scale": 1}

    def forward(self, x):
        return [inner(each) for each in x]


def inner(x):
    return innermost(x)


@functools.lru_cache
def innermost(x):
    return (lambda y: y * FACTOR)(x)


def test_settings_of_classes_and_constants_of_called_functions_are_hashed(monkeypatch):
    module = Classy()
    found = [code_hash(module)]
    monkeypatch.setitem(Classy.SETTINGS, "scale", 2)
    found.append(code_hash(module))
    monkeypatch.setitem(globals(), "FACTOR", 3.0)
    found.append(code_hash(module))
    assert len(set(found)) == 3


@pytest.fixture
def folder(tmp_path):
    for i in range(6):
        pixels = np.random.default_rng(i).integers(0, 255, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    return tmp_path


def test_examples_are_those_of_the_network_as_it_is(folder):
    module = toys.Plain()
    first = fv.examples(toys.network(module), folder, "conv1", [0])
    module.conv1.register_forward_hook(lambda part, inputs, output: -output)
    second, third = (fv.examples(toys.network(module), folder, "conv1", [0]) for _ in range(2))
    assert first.of(0)[0].activation != second.of(0)[0].activation
    assert second.of(0)[0].activation == pytest.approx(third.of(0)[0].activation)


def test_a_hash_is_the_same_after_use():
    class Bare(nn.Module):
        def forward(self, x):
            return x.mean((2, 3))

    for module in (Bare(), toys.Plain(), toys.Vit()):
        before = code_hash(module)
        for part in module.modules():
            assert isinstance(type(part).__annotations__, dict)  # which creates it
            inspect.signature(part.forward)
        fv.render(toys.network(module), "logit:1", steps=2)
        assert code_hash(module) == before
