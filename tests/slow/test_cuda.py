"""On a GPU: the same pictures, and a loop that never waits for it."""

import pytest
import torch
import toys

import featviz as fv

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def on(device):
    net = toys.plain()
    net.module.to(device)
    return net


def test_the_loop_does_not_wait_for_the_device():
    """Gradients are listened for in the first steps, which has to wait; after those nothing does."""

    def watch(step, _):
        torch.cuda.set_sync_debug_mode("error" if 40 <= step < 60 else "default")

    try:
        fv.render(on("cuda"), ["conv2:1", "logit:bee"], steps=62, progress=watch, plan=fv.Plan("float32"))
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_gpu_draws_what_the_cpu_draws(precision):
    options = {"steps": 4, "transforms": (), "plan": fv.Plan(precision)}
    one, two = (fv.render(on(device), "conv2:1", **options).images for device in ("cpu", "cuda"))
    assert (one - two).abs().mean() < (1e-3 if precision == "float32" else 0.05)


def test_plans_are_measured_there():
    assert fv.render(on("cuda"), "conv2:1", steps=64).plan.precision in ("float32", "bfloat16")
