"""Renders on a CUDA GPU: the same images as on the CPU, without synchronization in the loop, and CUDA graphs."""

from pathlib import Path

import pytest
import torch
import toys
from examples import MODULES, OBJECTIVES, PARAMS, REFERENCE, TRANSFORMS

import featviz as fv
from featviz import param
from featviz import transforms as T
from featviz.engine import autotune
from featviz.interfaces import traits_of
from featviz.random import Generators

pytestmark = pytest.mark.gpu


def network_on(device):
    net = toys.plain()
    net.module.to(device)
    return net


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
def test_loop_does_not_synchronize():
    """Gradients are checked in the first steps, which waits for the device. Later steps must not wait."""

    def watch(step, _):
        torch.cuda.set_sync_debug_mode("error" if 40 <= step < 60 else "default")

    try:
        # Images of 256 px are larger than the views, so views are resampled in every step.
        options = {"steps": 62, "progress": watch, "execution": fv.Execution("float32")}
        fv.render(network_on("cuda"), ["conv2:1", "logit:bee"], param=param.Image(256), **options)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_gpu_and_cpu_give_the_same_image(precision):
    options = {"steps": 4, "transforms": (), "execution": fv.Execution(precision)}
    one, two = (fv.render(network_on(device), "conv2:1", **options).images for device in ("cpu", "cuda"))
    assert (one - two).abs().mean() < (1e-3 if precision == "float32" else 0.05)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_rises_on_the_gpu(name):
    image = param.Image((18, 25), batch=3 if traits_of(OBJECTIVES[name]).compares_images else 1)
    chosen = param.Alpha(image) if name == "Opacity" else image
    rendering = fv.render(network_on("cuda"), OBJECTIVES[name], param=chosen, transforms=(), steps=25)
    assert (rendering.history[-1] > rendering.history[0]).all()


@pytest.mark.parametrize("name", PARAMS)
def test_every_param_renders_on_the_gpu(name):
    rendering = fv.render(network_on("cuda"), "conv2:1", param=PARAMS[name], start=REFERENCE, transforms=(), steps=12)
    assert (rendering.history[-1] > rendering.history[0]).any()


@pytest.mark.parametrize("name", [*TRANSFORMS, *MODULES])
def test_every_transform_gives_the_same_view_on_gpu_and_cpu(name):
    """Modules of other libraries make their own random draws, which may differ between devices."""
    transforms = T.fuse((TRANSFORMS.get(name) or MODULES[name],))
    images = torch.rand(2, 4 if name == "CompositeAlpha" else 3, 21, 34, generator=torch.Generator().manual_seed(0))
    one, two = (
        T.apply_transforms(images.to(device), transforms, Generators([0, 1]))[0].cpu() for device in ("cpu", "cuda")
    )
    assert one.shape == two.shape
    assert name in MODULES or name == "ModuleTransform" or torch.allclose(one, two, atol=1e-3)


DOCS = Path(__file__).parents[2] / "docs"
CAT = DOCS / "chelsea.webp"
APPS = {
    "dream": lambda net, folder: fv.dream(net, CAT, "stage2", octaves=2, steps=2),
    "gallery": lambda net, folder: fv.gallery(net, folder, classes=["star"], steps=8, judge=fv.load("motifvit")),
    "sweep": lambda net, folder: fv.sweep(net, folder, "stage1", channels=[0, 1], steps=8, photographs=DOCS),
    "judge": lambda net, folder: fv.judge(fv.render(net, "logit:star", steps=8), judge=fv.load("motifvit")),
    "doctor": lambda net, folder: fv.doctor(net, photographs=DOCS),
    "explain": lambda net, folder: fv.explain(net, CAT, "logit:star", "gradcam"),
    "examples": lambda net, folder: fv.examples(net, DOCS, "stage2", [0, 1]),
    "evidence": lambda net, folder: fv.evidence(net, DOCS, "stage2"),
    "atlas": lambda net, folder: fv.atlas(net, DOCS, "stage2", folder, grids=(3,), steps=8),
    "blocks": lambda net, folder: fv.blocks(net, CAT, "stage2", folder, steps=8),
}


@pytest.mark.parametrize("name", APPS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # of umap and its dependencies
def test_apps_run_on_the_gpu(name, tmp_path):
    APPS[name](fv.load("motifnet", device="cuda"), tmp_path)


def test_precision_is_measured_on_the_gpu(monkeypatch):
    monkeypatch.setattr(autotune, "MIN_PASSES", 1)
    found = fv.render(network_on("cuda"), "conv2:1", steps=8).execution.precision
    assert list(autotune._remembered().values()) == [found]


class CountingNetwork(torch.nn.Module):
    """Counts its forward passes. With `waits`, it reads a result, which a CUDA graph cannot record."""

    def __init__(self, waits):
        super().__init__()
        self.network, self.waits, self.passes = toys.plain().module, waits, 0

    def forward(self, images):
        self.passes += 1
        found = self.network(images)
        return found + found.sum().item() if self.waits else found


@pytest.mark.parametrize("waits", [False, True])
def test_cuda_graph_is_recorded_once_and_replayed(waits):
    """A pass that cannot be recorded runs without a graph. The image is the same in both cases."""
    images, passes = [], []
    for graph in (True, False):
        module = CountingNetwork(waits).cuda()
        net = fv.Network(module, size=64, mean=(0.5,) * 3, std=(0.5,) * 3)
        before = module.passes
        options = {
            "steps": 40,
            "transforms": (),
            "execution": fv.Execution("float32", graph=graph),
            "robustness_views": 0,
        }
        images.append(fv.render(net, "logit:1", **options).images)
        passes.append(module.passes - before)
    assert (images[0] - images[1]).abs().mean() < 1e-3
    assert passes[1] >= 40
    assert passes[0] >= 40 if waits else passes[0] < 40
