"""On a GPU: the same pictures, and a loop that never waits for it."""

from pathlib import Path

import pytest
import torch
import toys
from examples import FOREIGN, OBJECTIVES, OTHER, PARAMS, TRANSFORMS

import featviz as fv
from featviz import param
from featviz import transforms as T
from featviz.random import Generators

pytestmark = pytest.mark.gpu


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
        options = {"steps": 62, "progress": watch, "execution": fv.Execution("float32")}
        fv.render(on("cuda"), ["conv2:1", "logit:bee"], param=param.Image(256), **options)  # so large that views shrink
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_gpu_draws_what_the_cpu_draws(precision):
    options = {"steps": 4, "transforms": (), "execution": fv.Execution(precision)}
    one, two = (fv.render(on(device), "conv2:1", **options).images for device in ("cpu", "cuda"))
    assert (one - two).abs().mean() < (1e-3 if precision == "float32" else 0.05)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_rises_there(name):
    image = param.Image((18, 25), batch=3 if OBJECTIVES[name].couples else 1)
    whole = param.Alpha(image) if name == "Opacity" else image
    rendering = fv.render(on("cuda"), OBJECTIVES[name], param=whole, transforms=(), steps=25)
    assert (rendering.history[-1] > rendering.history[0]).all()


@pytest.mark.parametrize("name", PARAMS)
def test_every_param_draws_there(name):
    rendering = fv.render(on("cuda"), "conv2:1", param=PARAMS[name], start=OTHER, transforms=(), steps=12)
    assert (rendering.history[-1] > rendering.history[0]).any()


@pytest.mark.parametrize("name", [*TRANSFORMS, *FOREIGN])
def test_every_transform_looks_there(name):
    """With the same draws as on the CPU, but for those that a module of others makes itself."""
    stack = T.fuse((TRANSFORMS.get(name) or FOREIGN[name],))
    images = torch.rand(2, 4 if name == "CompositeAlpha" else 3, 21, 34, generator=torch.Generator().manual_seed(0))
    one, two = (T.look(images.to(device), stack, Generators([0, 1]))[0].cpu() for device in ("cpu", "cuda"))
    assert one.shape == two.shape
    assert name in FOREIGN or name == "ModuleTransform" or torch.allclose(one, two, atol=1e-3)


DOCS = Path(__file__).parents[2] / "docs"
CAT = DOCS / "chelsea.webp"
APPS = {
    "dream": lambda net, folder: fv.dream(net, CAT, "stage2", octaves=2, steps=2),
    "gallery": lambda net, folder: fv.gallery(net, folder, classes=["star"], steps=8, judge=fv.load("motifvit")),
    "sweep": lambda net, folder: fv.sweep(net, folder, "stage1", channels=[0, 1], steps=8, photographs=DOCS),
    "judge": lambda net, folder: fv.judge(fv.render(net, "logit:star", steps=8), by=fv.load("motifvit")),
    "doctor": lambda net, folder: fv.doctor(net, photographs=DOCS),
    "explain": lambda net, folder: fv.explain(net, CAT, "logit:star", "gradcam"),
    "examples": lambda net, folder: fv.examples(net, DOCS, "stage2", [0, 1]),
    "evidence": lambda net, folder: fv.evidence(net, DOCS, "stage2"),
    "atlas": lambda net, folder: fv.atlas(net, DOCS, "stage2", folder, grids=(3,), steps=8),
    "blocks": lambda net, folder: fv.blocks(net, CAT, "stage2", folder, steps=8),
}


@pytest.mark.parametrize("name", APPS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # umap's, and those of what it uses
def test_apps_run_there(name, tmp_path):
    APPS[name](fv.load("motifnet", device="cuda"), tmp_path)


def test_plans_are_measured_there():
    assert fv.render(on("cuda"), "conv2:1", steps=64).execution.precision in ("float32", "bfloat16")


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
        options = {
            "steps": 40,
            "transforms": (),
            "execution": fv.Execution("float32", graph=graph),
            "robustness_views": 0,
        }
        pictures.append(fv.render(net, "logit:1", **options).images)
        passes.append(module.passes - before)
    assert (pictures[0] - pictures[1]).abs().mean() < 1e-3
    assert passes[1] >= 40
    assert passes[0] >= 40 if waits else passes[0] < 40
