"""What probing told is remembered on disk, and only for the same network."""

import copy
import functools
import importlib
import json
import sys
import types
from pathlib import Path

import pytest
import torch
import toys
from torch import Tensor, nn

import featviz as fv
from featviz.io import cache_folder
from featviz.network import network as network_module
from featviz.network.code_hash import code_hash
from featviz.network.probing import probe_cache


def files():
    folder = cache_folder() / "layers"
    return sorted(folder.glob("*.json")) if folder.is_dir() else []


@pytest.fixture
def no_passes(monkeypatch):
    """Fail on every pass that measures a network."""

    def stop():
        def fail(*_, **__):
            raise AssertionError("a pass ran")

        for name in ("probe_network", "receptive_fields_of"):
            monkeypatch.setattr(network_module, name, fail)

    return stop


def rows(net):
    return net.layers().rows()


def of(module, **more):
    return fv.Network(module, **{"size": 32, **toys.HALF, **more})


MODULES = [toys.Plain, toys.Vit, toys.ChannelsLast, toys.Dict, toys.Twice, toys.Flattening]


class Several(nn.Module):
    """Has several outputs, calls, special tokens, refused layers and maps that are transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.cls = nn.Conv2d(3, 6, 8, stride=8), nn.Parameter(torch.randn(1, 1, 6))
        self.swap, self.deep, self.norm, self.head = nn.GELU(), nn.Identity(), nn.LayerNorm(6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.swap(self.patches(x).mT).mT
        self.deep(x[:, None])
        tokens = x.flatten(2).mT[:, [*range(8), *range(15, 7, -1)]]
        tokens = self.norm(self.norm(torch.cat([self.cls.expand(len(x), -1, -1), tokens], 1)))
        return {"logits": self.head(tokens[:, 0]), "embedding": tokens[:, 0]}


@pytest.mark.parametrize("make", [*MODULES, Several])
def test_a_second_network_with_the_same_weights_runs_no_pass(make, no_passes):
    module = make()
    first = toys.network(module)
    expected = rows(first)
    assert len(files()) == 1
    no_passes()
    for again in (of(module), of(copy.deepcopy(module))):
        assert rows(again) == expected
        assert again.probed == first.probed
        assert again.table == first.table
        assert again.receptive_fields() == first.receptive_fields()
    assert len(files()) == 1


def test_a_table_without_fields_is_remembered_and_the_fields_are_added(no_passes, monkeypatch):
    module = toys.Plain()
    toys.network(module).table
    assert json.loads(files()[0].read_text())["fields"] is None
    monkeypatch.setattr(network_module, "probe_network", lambda *_: pytest.fail("probed"))
    fields = of(module).receptive_fields()
    no_passes()
    assert of(module).receptive_fields() == fields


@pytest.mark.parametrize(
    "changed",
    [{"size": 48}, {"mean": (0.4, 0.5, 0.5)}, {"std": (0.5, 0.5, 0.2)}, {"channel_order": "BGR"}],
)
def test_another_input_is_measured_again(changed):
    module = toys.Plain()
    toys.network(module).layers()
    of(module, **changed).layers()
    assert len(files()) == 2


def test_two_threads_may_measure_at_once(monkeypatch):
    """The other thread finishes between the moment at which this one sees no measurement and its own."""
    net = toys.network(toys.Plain())
    found = []

    def load(_):
        monkeypatch.undo()
        found.append((net.probed, net.receptive_fields()))

    monkeypatch.setattr(probe_cache, "load", load)
    probed = net.probed
    assert found == [(probed, net.receptive_fields())]
    assert net.accepts((32, 32))


def test_class_names_do_not_matter(no_passes):
    module = toys.Plain()
    toys.network(module).layers()
    no_passes()
    of(module, classes=("a", "b", "c", "d", "e"), name="other").layers()


def test_other_weights_are_measured_again():
    module = toys.Plain()
    toys.network(module).layers()
    with torch.no_grad():
        module.conv1.weight += 1e-3
    of(module).layers()
    module.bn1.running_mean += 1  # a buffer
    of(module).layers()
    assert len(files()) == 3


SOURCE = """
import torch
from torch import nn

SCALE = {scale}

def helper(x):
    return x {operation} 2

class Net(nn.Module):
    width = {width}

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.depth = {depth}
        self.names = {names}

    def other(self, x):
        return {other}

    def forward(self, x):
        x = self.conv(x)
        if {condition}:
            x = self.conv2(x)
        return self.other(helper(x)).mean((2, 3))
"""
USUAL = {
    "scale": 1, "operation": "*", "width": 4, "depth": 1, "names": "('a', 'b')", "other": "x", "condition": "True",
}  # fmt: skip


def network_of(folder: Path, weights=None, **changed):
    """A network whose code is in a file of its own."""
    (folder / "own_net.py").write_text(SOURCE.format(**USUAL | changed))
    sys.modules.pop("own_net", None)
    importlib.invalidate_caches()
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
    try:
        module = importlib.import_module("own_net").Net()
    finally:
        sys.dont_write_bytecode = before
    if weights:
        module.load_state_dict(weights)
    return of(module)


@pytest.mark.parametrize(
    "changed",
    [
        {"condition": "False"},
        {"condition": "x.shape[2] > 8"},
        {"other": "x.permute(0, 1, 3, 2)"},
        {"operation": "+"},
        {"depth": 2},
        {"names": "('a', 'c')"},
        {"width": 5},
    ],
    ids=str,
)
def test_other_code_or_attributes_with_the_same_weights_are_measured_again(changed, tmp_path, monkeypatch, no_passes):
    monkeypatch.syspath_prepend(tmp_path)
    first = network_of(tmp_path)
    weights = first.module.state_dict()
    first.layers()
    network_of(tmp_path, weights, **changed).layers()
    assert len(files()) == 2
    no_passes()
    network_of(tmp_path, weights).layers()  # as at first
    network_of(tmp_path, weights, **changed).layers()


def test_training_mode_hooks_and_own_functions():
    module = toys.Plain()
    net = toys.network(module)
    net.layers()
    module.train(not module.training)
    of(module).layers()
    assert len(files()) == 1
    inner = module.head.forward
    module.head.forward = lambda x: inner(x) * 2  # a function on an instance
    of(module).layers()
    assert len(files()) == 2
    module.head.forward = types.MethodType(lambda self, x: inner(x) * 3, module.head)  # a method of an instance
    of(module).layers()
    assert len(files()) == 3


# ---------------------------------------------------------------------------------------------- files


def broken_files():
    good = files()[0].read_text()
    content = json.loads(good)
    yield "empty", ""
    yield "truncated", good[: len(good) // 2]
    yield "no JSON", "never"
    yield "another type", "3"
    yield "a list", "[1, 2]"
    yield "null", "null"
    yield "foreign", '{"a": 1}'
    yield (
        "no table",
        json.dumps(content | {"probed": {key: value for key, value in content["probed"].items() if key != "table"}}),
    )
    yield "other fields", json.dumps(content | {"probed": content["probed"] | {"more": 1}})
    yield "no format", json.dumps(content | {"probed": content["probed"] | {"memory_format": "sideways"}})
    yield "rows of another type", json.dumps(content | {"probed": content["probed"] | {"table": {"conv1": 3}}})
    yield (
        "a row without a layout",
        json.dumps(content | {"probed": content["probed"] | {"table": {"conv1": {"name": "a"}}}}),
    )
    yield "fields of another type", json.dumps(content | {"fields": {"conv1": 3}})
    yield "no fields", json.dumps({"probed": content["probed"]})


def test_files_that_cannot_be_read_are_measured_again():
    module = toys.Plain()
    expected = rows(toys.network(module))
    good = files()[0].read_text()
    for kind, text in list(broken_files()):
        files()[0].write_text(text)
        assert rows(of(module)) == expected, kind
        assert json.loads(files()[0].read_text()) == json.loads(good), kind
    files()[0].write_bytes(b"\xff\xfe\x00")
    assert rows(of(module)) == expected


def test_a_cache_that_cannot_be_written_does_not_matter(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setattr(probe_cache, "cache_folder", lambda: tmp_path / "file")
    module = toys.Plain()
    assert rows(toys.network(module)) == rows(of(module))
    assert (tmp_path / "file").read_text() == "not a folder"

    def fail(*_):
        raise fv.OutputError("the disk is full")

    monkeypatch.undo()
    monkeypatch.setattr("featviz.io.cache.write", fail)
    assert rows(of(module, size=40))


def test_a_folder_in_place_of_the_file_does_not_matter():
    module = toys.Plain()
    expected = rows(toys.network(module))
    path = files()[0]
    path.unlink()
    path.mkdir()
    assert rows(of(module)) == expected


class Pooled(torch.nn.Module):
    """A network whose `forward` uses a value of the function around it."""

    def __init__(self, step, default):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3, padding=1)

        def pool(x):
            return torch.nn.functional.avg_pool2d(x, step)

        def forward(x, *, again=default):
            found = pool(self.conv(x))
            return torch.nn.functional.avg_pool2d(found, again)

        self.forward = forward


def test_values_of_enclosing_functions_and_keyword_defaults_are_code():
    first = Pooled(2, 1)
    assert code_hash(first) == code_hash(Pooled(2, 1))
    assert len({code_hash(each) for each in (first, Pooled(4, 1), Pooled(2, 2))}) == 3
    networks = [of(module) for module in (first, with_weights_of(first, Pooled(4, 1)))]
    assert [network.table[""].shape for network in networks] == [(4, 16, 16), (4, 8, 8)]


def with_weights_of(module, other):
    other.load_state_dict(module.state_dict())
    return other


@pytest.mark.parametrize(
    "make",
    [
        lambda step: {"step": step},
        lambda step: functools.partial(torch.nn.functional.avg_pool2d, kernel_size=step),
        lambda step: lambda: step,
    ],
)
def test_enclosed_dicts_and_partials_are_code(make):
    def module(step):
        made, enclosed = toys.Plain(), make(step)
        made.forward = lambda x: (enclosed, x)
        return made

    assert code_hash(module(2)) == code_hash(module(2)) != code_hash(module(4))


def test_functions_that_enclose_each_other_have_a_hash():
    def one(x):
        return two(x)

    def two(x):
        return one(x)

    module = toys.Plain()
    module.forward = one
    assert code_hash(module)
