"""The hash of the weights and buffers of a module, which networks and generators share."""

from __future__ import annotations

import copy
import hashlib

import pytest
import torch
from torch import nn

import featviz as fv
from featviz import param
from featviz.network.state_hash import state_hash, tensors_of


@pytest.fixture
def module():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def test_it_is_that_of_names_shapes_and_bytes(module):
    expected = hashlib.sha256()
    for name in sorted(module.state_dict()):
        tensor = module.state_dict()[name]
        expected.update(name.encode() + str(tuple(tensor.shape)).encode() + tensor.numpy().tobytes())
    assert state_hash(tensors_of(module.state_dict())) == expected.hexdigest()[:16]
    expected.update(b"more")
    assert state_hash(tensors_of(module.state_dict()), ["more"]) == expected.hexdigest()[:16]


def test_networks_and_generators_have_the_same_one(module):
    network = fv.Network(module, size=16, mean=(0.5,) * 3, std=(0.5,) * 3)
    assert network.fingerprint == param.Generator(module, (3, 8, 8)).fingerprint
    assert network.fingerprint == state_hash(tensors_of(module.state_dict()))


def test_values_that_are_no_tensors_and_empty_tensors_are_allowed():
    state = {"b": torch.zeros(0, 3), "a": torch.ones(2), "extra": {"version": 1}}
    assert list(tensors_of(state)) == ["a", "b"]
    assert state_hash(tensors_of(state)) != state_hash({"a": torch.ones(2), "b": torch.zeros(0, 4)})


def test_a_copied_network_is_the_same_with_a_module_of_its_own(module):
    network = fv.Network(module, inputs={"input": fv.InputSpec(16, (0.5,) * 3, (0.5,) * 3)}, classes=tuple("abcd"))
    made = network.copied()
    assert made.fingerprint == network.fingerprint and (made.input, made.classes) == (network.input, network.classes)
    kept = copy.deepcopy(module.state_dict())
    with torch.no_grad():
        next(made.module.parameters()).add_(1)
    assert made.fingerprint != network.fingerprint
    assert all(torch.equal(value, kept[name]) for name, value in module.state_dict().items())
    images = torch.rand(1, 3, 16, 16)
    assert not torch.equal(fv.score(made, "0:1", images), fv.score(network, "0:1", images))
