"""On a GPU: the same pictures, and a loop that never waits for it."""

import pytest
import torch
import toys

import featviz as fv
from featviz import param

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def on(device):
    net = toys.plain()
    net.module.to(device)
    return net


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
def test_the_loop_does_not_wait_for_the_device():
    """Gradients are listened for in the first steps, which has to wait; after those nothing does."""

    def watch(step, _):
        torch.cuda.set_sync_debug_mode("error" if 40 <= step < 60 else "default")

    try:
        options = {"steps": 62, "progress": watch, "plan": fv.Plan("float32")}
        fv.render(on("cuda"), ["conv2:1", "logit:bee"], param=param.image(256), **options)  # so large that views shrink
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_gpu_draws_what_the_cpu_draws(precision):
    options = {"steps": 4, "transforms": (), "plan": fv.Plan(precision)}
    one, two = (fv.render(on(device), "conv2:1", **options).images for device in ("cpu", "cuda"))
    assert (one - two).abs().mean() < (1e-3 if precision == "float32" else 0.05)


def test_plans_are_measured_there():
    assert fv.render(on("cuda"), "conv2:1", steps=64).plan.precision in ("float32", "bfloat16")


class Counted(torch.nn.Module):
    """Counts its passes, and may wait for what it computed, which no recording can."""

    def __init__(self, waits):
        super().__init__()
        self.inside, self.waits, self.passes = toys.plain().module, waits, 0

    def forward(self, images):
        self.passes += 1
        found = self.inside(images)
        return found + found.sum().item() if self.waits else found


@pytest.mark.parametrize("waits", [False, True])
def test_a_pass_is_recorded_once_and_replayed(waits):
    """And one that cannot be recorded runs as it is; the picture is the same either way."""
    pictures, passes = [], []
    for graph in (True, False):
        module = Counted(waits).cuda()
        net = fv.Network(module, size=64, mean=(0.5,) * 3, std=(0.5,) * 3)
        before = module.passes
        options = {"steps": 40, "transforms": (), "plan": fv.Plan("float32", graph=graph), "trials": 0}
        pictures.append(fv.render(net, "logit:1", **options).images)
        passes.append(module.passes - before)
    assert (pictures[0] - pictures[1]).abs().mean() < 1e-3
    assert passes[1] >= 40
    assert passes[0] >= 40 if waits else passes[0] < 40
