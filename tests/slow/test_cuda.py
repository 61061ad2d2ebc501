"""Renders on a CUDA GPU: the same images as on the CPU, without synchronization in the loop, and CUDA graphs."""

import gc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import toys
from examples import MODULES, OBJECTIVES, PARAMS, REFERENCE, TRANSFORMS
from motifs.draw import draw

import featviz as fv
from featviz import optimizers, param
from featviz import transforms as T
from featviz.engine import autotune
from featviz.interfaces import ImageProgress, traits_of
from featviz.io import save_image
from featviz.random import Generators

pytestmark = pytest.mark.gpu
DEVICES = ("cpu", "cuda")
OPTIMIZERS = {
    "Adam": optimizers.Adam(),
    "Ascent": optimizers.Ascent(),
    "Clipped": optimizers.Clipped(0.1, optimizers.Adam()),
    "LaplacianNormalized": optimizers.LaplacianNormalized(2),
    "Normalized": optimizers.Normalized(),
    "Smoothed": optimizers.Smoothed(1.0),
}


def network_on(device):
    net = toys.plain()
    net.module.to(device)
    return net


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
def test_loop_does_not_synchronize():
    """Gradients are checked in the first steps, which waits for the device. Later steps must not wait."""

    def watch(step, _):
        torch.cuda.set_sync_debug_mode("error" if 40 <= step < 200 else "default")

    try:
        # Images of 256 px are larger than the views, so views are resampled in every step.
        options = {"steps": 202, "progress": watch, "execution": fv.Execution("float32")}
        rendering = fv.render(network_on("cuda"), ["conv2:1", "logit:bee"], param=param.Image(256), **options)
        assert rendering.plan == "201 of 202 steps were replayed as a CUDA graph"
    finally:
        torch.cuda.set_sync_debug_mode("default")


class Watching(ImageProgress):
    """Takes the images after some steps."""

    def __init__(self, at):
        self.at, self.seen = at, {}

    def __call__(self, done, steps):
        pass

    def wants_images(self, done, steps):
        return done in self.at

    def show(self, done, steps, images):
        self.seen[done] = images


def test_images_are_seen_as_they_are_while_steps_are_replayed():
    at = (1, 2, 30, 31, 40)
    options = {"steps": 40, "execution": fv.Execution("float32")}
    watching = Watching(at)
    rendering = fv.render(network_on("cuda"), "conv2:1", progress=watching, snapshots=at, **options)
    assert rendering.plan == "39 of 40 steps were replayed as a CUDA graph"
    assert list(watching.seen) == list(at)
    for done, images in watching.seen.items():
        assert images.device.type == "cpu" and torch.equal(images, rendering.snapshots[done])
        alone = fv.render(network_on("cuda"), "conv2:1", until=done, **options)
        assert torch.allclose(images, alone.images, atol=1e-3)
    assert not torch.equal(watching.seen[30], watching.seen[31])


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
TEXT = "the actor was not good"
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
    made = APPS[name](fv.load("motifnet", device="cuda"), tmp_path)
    assert not getattr(made, "problems", None)


def test_precision_is_measured_on_the_gpu(monkeypatch):
    monkeypatch.setattr(autotune, "MIN_PASSES", 1)
    found = fv.render(network_on("cuda"), "conv2:1", steps=8).execution.precision
    assert set(autotune._read_choices().values()) == {found}


# ---------------------------------------------------------------------------------------------- recorded steps

UNRECORDED = {
    "GaussianBlur": "reads values from the GPU",
    "ModuleTransform": "reads values from the GPU",
    "Roll": "reads values from the GPU",
}
"""What cannot be recorded, and the reason."""


def both(objective, steps=40, network=None, **options):
    """Render with and without a recorded step, and check that the images and scores are the same."""
    found = []
    for graph in (True, False, False):
        execution = fv.Execution("float32", graph=graph)
        options = {**options, "execution": execution, "robustness_views": 0}
        found.append(fv.render(network or network_on("cuda"), objective, steps=steps, **options))
    recorded, plain, again = found
    assert plain.plan == "no step was replayed as a CUDA graph: the execution has graph=False"
    # Some backward passes add up numbers in an order that varies, so two renders without a graph differ, too.
    scale = plain.history.abs().max().clamp(min=1e-3)
    early = slice(0, 8)  # optimisation amplifies differences later
    varies = (again.history - plain.history)[early].abs().max()
    assert (recorded.history - plain.history)[early].abs().max() < 4 * varies + 2e-3 * scale
    assert (recorded.images - plain.images).abs().mean() < 0.02
    return recorded


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_is_recorded(name):
    image = param.Image((18, 25), batch=3 if traits_of(OBJECTIVES[name]).compares_images else 1)
    chosen = param.Alpha(image) if name == "Opacity" else image
    recorded = both(OBJECTIVES[name], param=chosen, transforms=())
    wanted = "remembers earlier steps" if name == "Style" else "39 of 40 steps were replayed"
    assert wanted in recorded.plan, recorded.plan


@pytest.mark.parametrize("name", PARAMS)
def test_every_param_is_recorded(name):
    recorded = both("conv2:1", param=PARAMS[name], start=REFERENCE, transforms=())
    assert "39 of 40 steps were replayed" in recorded.plan, recorded.plan


@pytest.mark.parametrize("name", [*TRANSFORMS, *MODULES])
def test_every_transform_is_recorded_or_says_why_not(name):
    chosen = param.Alpha() if name == "CompositeAlpha" else param.Image()
    recorded = both(["conv2:1", "conv2:2"], param=chosen, transforms=(TRANSFORMS.get(name) or MODULES[name],))
    if name in MODULES or name in UNRECORDED:
        assert "reads values from the GPU" in recorded.plan
    else:
        assert "39 of 40 steps were replayed" in recorded.plan, recorded.plan


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_is_recorded(name):
    pixels = param.Image(spatial=param.Pixel())
    recorded = both(["conv2:1", "logit:bee"], param=pixels, optimizer=OPTIMIZERS[name])
    assert "39 of 40 steps were replayed" in recorded.plan, recorded.plan


def test_a_replay_gives_the_same_image():
    rendering = fv.render(network_on("cuda"), ["conv2:1", "logit:bee"], steps=80)
    again = fv.replay(rendering.recipe, network=network_on("cuda"))
    assert (rendering.images - again.images).abs().max() < 1e-2
    assert (rendering.images - again.images).abs().mean() < 1e-4


class Reading(fv.objectives.Objective):
    """An objective that branches on a value of the GPU."""

    layer = "conv2"

    def __call__(self, acts):
        values = acts["conv2"][:, 1].flatten(1).mean(1)
        return values * 2 if float(values.detach().sum()) > 0 else values


class Counting(fv.objectives.Objective):
    """An objective that changes with each call."""

    layer, calls = "conv2", 0

    def __call__(self, acts):
        self.calls += 1
        return acts["conv2"][:, 1].square().flatten(1).mean(1) * self.calls


@pytest.mark.parametrize(
    ("objective", "reason"),
    [(Reading(), "__call__ (test_cuda.py, line "), (Counting(), "a replayed step gives other results")],
)
def test_what_cannot_be_recorded_runs_without_a_graph(objective, reason):
    rendering = fv.render(network_on("cuda"), objective, steps=40, robustness_views=0)
    assert rendering.plan.startswith(f"no step was replayed as a CUDA graph: {reason}"), rendering.plan
    assert rendering.history[-1] > rendering.history[0]


PASSES = []
"""The images of each pass of `CountingNetwork`."""


class CountingNetwork(torch.nn.Module):
    """Counts its forward passes. With `waits`, it reads a result, which a CUDA graph cannot record."""

    def __init__(self, waits):
        super().__init__()
        self.network, self.waits = toys.plain().module, waits

    def forward(self, images):
        PASSES.append(len(images))
        found = self.network(images)
        return found + found.sum().item() if self.waits else found


@pytest.mark.parametrize("waits", [False, True])
def test_a_step_is_recorded_once(waits):
    module = CountingNetwork(waits).cuda()
    net = fv.Network(module, size=64, mean=(0.5,) * 3, std=(0.5,) * 3)
    fv.render(net, "logit:1", steps=0)  # the layer table is measured now
    PASSES.clear()
    rendering = fv.render(
        net, "logit:1", steps=40, transforms=(), robustness_views=0, execution=fv.Execution("float32")
    )
    # The first step, an ordinary second one, and the recorded one.
    assert len(PASSES) >= 40 if waits else len(PASSES) == 3
    assert ("forward (test_cuda.py" in rendering.plan) if waits else ("39 of 40" in rendering.plan)


def test_graphs_of_the_network_alone_serve_other_transforms():
    """A module of another library cannot be recorded, but the network's pass can."""
    rendering = both(["conv2:1", "logit:bee"], transforms=(MODULES["kornia.RandomAffine"],))
    assert "no step was replayed" in rendering.plan


# ---------------------------------------------------------------------------------------------- where no graph may be


def test_sensitivity_to_a_layer_is_that_of_the_cpu(tmp_path):
    """Captured layers of a recorded pass would have no gradients with respect to each other."""
    labels = torch.arange(80) % 27
    for i, image in enumerate(draw(labels, (64, 64), torch.Generator().manual_seed(0))):
        save_image(image, tmp_path / f"{i}.png")
    net = fv.load("motifnet", device="cpu")
    direction = torch.randn(1, net.layer("stage2").channels, generator=torch.Generator().manual_seed(1))
    concept = fv.Concept(fv.Dictionary(kind="probe", encoder=direction, layer="stage2"))
    shares = [concept.sensitivity(fv.load("motifnet", device=device), tmp_path, 3) for device in DEVICES]
    assert shares[0] == pytest.approx(shares[1], abs=0.05)


def test_accentuation_on_gpu_and_cpu_agree():
    options = {"steps": 16, "progress": None}
    one, two = (fv.accentuate(fv.load("motifnet", device=device), CAT, "logit:star", **options) for device in DEVICES)
    assert (one.images - two.images).abs().mean() < 0.02


class Failing(torch.nn.Module):
    """A network with an operation that a CUDA graph cannot contain."""

    def __init__(self, reads):
        super().__init__()
        self.conv, self.reads = torch.nn.Conv2d(3, 4, 3), reads

    def forward(self, x):
        return self.reads(self.conv(x)).mean((2, 3))


def masked(x):
    x = x.clone()
    x[x < 0] = 0
    return x


READS = {
    "item": lambda x: x * x.mean().item(),
    "mask": masked,
    "list": lambda x: x[:, [1, 0, 3, 2]],
    "new": lambda x: x * torch.tensor(2.0, device=x.device),
    "assertion": lambda x: x * float(x.sum() != 0),
}


@pytest.mark.parametrize("name", READS)
def test_a_step_that_cannot_be_recorded_leaves_nothing_behind(name):
    net = fv.Network(Failing(READS[name]).to("cuda"), size=16, mean=(0.5,) * 3, std=(0.5,) * 3)
    with torch.cuda.stream(torch.cuda.default_stream()):
        rendering = fv.render(net, "conv:1 + 0.1*logit:2", steps=20, transforms=())
        assert torch.cuda.current_stream() == torch.cuda.default_stream()
    if name not in ("list", "new"):  # which are recorded where PyTorch allows it
        assert rendering.plan.startswith("no step was replayed")
    eager = fv.render(net, "conv:1 + 0.1*logit:2", steps=20, transforms=(), execution=fv.Execution(graph=False))
    assert torch.allclose(rendering.images, eager.images, atol=1e-3)


def test_texts_are_explained_on_the_gpu():
    maps = [fv.explain(fv.load("phraseformer", device=each), TEXT, "logit:0", "inputxgradient").map for each in DEVICES]
    assert torch.allclose(maps[0].cpu(), maps[1].cpu(), atol=1e-3)


class OfTorch:
    """An optimizer of PyTorch, whose momentum and learning rate a graph would not follow."""

    def begin(self, leaves, steps):
        made = torch.optim.SGD(leaves, lr=0.05, momentum=0.9)
        step = made.step

        def step_and_forget():
            step()
            made.zero_grad()
            made.param_groups[0]["lr"] *= 0.95

        made.step = step_and_forget
        return made


def test_optimizers_of_pytorch_give_the_same_images_as_without_a_graph():
    options = {"steps": 20, "optimizer": OfTorch(), "transforms": ()}
    executions = (fv.Execution("float32"), fv.Execution("float32", graph=False))
    one, two = (fv.render(network_on("cuda"), "conv2:1", execution=each, **options) for each in executions)
    assert torch.allclose(one.images, two.images, atol=1e-3)


@pytest.mark.parametrize("name", ["", *READS])
def test_a_render_frees_its_memory(name):
    net = network_on("cuda")
    if name:
        net = fv.Network(Failing(READS[name]).to("cuda"), size=32, mean=(0.5,) * 3, std=(0.5,) * 3)
    unit = "conv:1" if name else "conv2:1"
    fv.render(net, unit, steps=20)
    gc.collect()
    before = torch.cuda.memory_allocated()
    gc.disable()
    try:
        fv.render(net, unit, steps=20, param=param.Image(128, batch=16))
        assert torch.cuda.memory_allocated() <= before + 2**20
    finally:
        gc.enable()


def test_threads_may_render_at_once():
    def draw(seed):
        return fv.render(network_on("cuda"), "conv2:1", steps=40, seed=seed, execution=fv.Execution("float32")).images

    alone = [draw(seed) for seed in range(2)]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(draw, range(2)))
    for one, two in zip(alone, together, strict=True):
        assert torch.allclose(one, two, atol=1e-3)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_are_recorded_one_after_the_other():
    plans = [fv.render(network_on(f"cuda:{i}"), "conv2:1", steps=20).plan for i in (0, 1, 0)]
    assert set(plans) == {"19 of 20 steps were replayed as a CUDA graph"}
