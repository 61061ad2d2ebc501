"""Calls at the same time, in each other, or in turns do not disturb each other."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch
import toys
from hypothesis import given, settings
from hypothesis import strategies as st
from stateful_networks import (
    CLASSES,
    QUICK_PHASES,
    SIDE,
    Hooked,
    assert_unchanged,
    image_of,
    outputs,
    state,
    training,
    unit,
)

import featviz as fv


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
