"""No call changes the user's module, however it ends."""

from __future__ import annotations

import copy
import inspect
import tempfile
import threading
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch
import toys
from hypothesis import given, settings
from hypothesis import strategies as st
from public_calls import CALLS, ELSEWHERE, SLOW
from stateful_networks import (
    NETWORKS,
    QUICK_PHASES,
    STATEFUL,
    assert_unchanged,
    image_of,
    outputs,
    state,
    training,
    unit,
)
from torch import nn

import featviz as fv

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
    no_pass = {
        "with_input",
        "with_given",
        "normaliser",
        "check_images",
        "copy_module",
        "copied",
        "pack",
        "with_classes",
    }
    assert own <= called | text | no_pass


OWN_ERRORS = {
    toys.Broken: RuntimeError,
    toys.Functional: RuntimeError,
    toys.Unpadded: AssertionError,
    toys.Blocked: RuntimeError,
}
"""What networks raise themselves, or PyTorch where captures are differentiated here: `Functional` overwrites what its
own gradient needs, and `Blocked` has none."""


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
