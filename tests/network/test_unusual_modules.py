"""Modules that compute gradients, run in TorchScript or under `torch.func`, or have outputs of unusual kinds."""

import random
import subprocess
import sys
import warnings
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.models import quantization

import featviz as fv

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def network(module, **more):
    spec = {"size": 32, "mean": (0.0,) * 3, "std": (1.0,) * 3} | more
    return fv.Network(module.eval(), **spec)


class Tokens(nn.Module):
    """A transformer of one size: patches as tokens, with channels last, and added positions."""

    def __init__(self, conv, count):
        super().__init__()
        self.conv, self.place = conv, nn.Parameter(torch.randn(1, count, 24))
        self.embed, self.norm, self.head = nn.Identity(), nn.LayerNorm(24), nn.Linear(24, 4)

    def forward(self, x):
        x = self.embed(self.conv(x).flatten(2).transpose(1, 2) + self.place)
        return self.head(self.norm(x).mean(1))


@pytest.mark.parametrize(
    ("conv", "axes", "size"),
    [(nn.Conv3d(3, 24, 4, 4), "tyx", (8, 16, 16)), (nn.Conv1d(1, 24, 4, 4), "x", (128,))],
    ids=["video", "signal"],
)
def test_channels_of_tokens_are_those_of_a_later_layer_of_their_shape(conv, axes, size):
    count = 32
    channels = conv.in_channels
    net = fv.Network(Tokens(conv, count).eval(), axes=axes, size=size, mean=(0.0,) * channels, std=(1.0,) * channels)
    assert net.layer("embed").channels == net.layer("norm").channels == 24
    images = torch.rand(1, channels, *size)
    values = net.capture(images, ["embed"]).channels_first("embed")
    expected = net.module.conv(net.normaliser()(images)).flatten(2) + net.module.place.transpose(1, 2)
    assert torch.allclose(values, expected, atol=1e-5)


def test_gradcam_leaves_out_layers_whose_positions_have_no_place_in_the_image():
    net = fv.Network(
        Tokens(nn.Conv3d(3, 24, 4, 4), 32).eval(), axes="tyx", size=(8, 16, 16), mean=(0,) * 3, std=(1,) * 3
    )
    found = fv.explain(net, torch.rand(3, 8, 16, 16), "logit:0", "gradcam")
    assert found.map.shape == (1, 8, 16, 16)


class Rows(nn.Module):
    """A map whose rows are of one number, whatever the size of the image."""

    def __init__(self):
        super().__init__()
        self.pool, self.conv, self.head = (
            nn.AdaptiveAvgPool2d((4, None)),
            nn.Conv2d(3, 16, 3, padding=1),
            nn.Linear(16, 2),
        )

    def forward(self, x):
        return self.head(self.conv(self.pool(x)).mean((2, 3)))


def test_a_convolution_is_a_map_also_where_one_side_has_a_fixed_length():
    layer = network(Rows()).layer("conv")
    assert (layer.layout.kind, layer.shape) == ("map", (16, 4, 32))


class Scripted(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, 4, 3), torch.jit.script(nn.Hardswish())

    def forward(self, x):
        return self.act(self.conv(x)).mean((2, 3))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:FutureWarning")
def test_a_part_in_torchscript_is_no_layer_and_the_others_are():
    net = network(Scripted())
    assert set(net.table) == {"conv", ""}
    fv.render(net, "conv:1", steps=2)


def test_float_modules_of_the_package_for_quantisation_are_networks():
    net = network(quantization.mobilenet_v2(weights=None, quantize=False))
    assert net.layer("features.3").channels == 24


class Energy(nn.Module):
    """Outputs the gradient of an energy with respect to its input, pooled."""

    def __init__(self, stride):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride)

    def forward(self, x):
        with torch.enable_grad():
            x = x if x.requires_grad else x.requires_grad_()
            (force,) = torch.autograd.grad(self.conv(x).tanh().square().sum(), x, create_graph=True)
        return force.mean((2, 3))


@pytest.mark.parametrize("stride", [1, 2])
def test_modules_that_compute_gradients_have_layers_and_gradients(stride):
    net = network(Energy(stride))
    assert "conv" in net.table
    images = IMAGES.clone().requires_grad_()
    with net.session([""]) as forward:
        found = torch.autograd.grad(forward(images)[""].sum(), images)[0]
    expected = torch.autograd.grad(net.module(images).sum(), images)[0]
    assert expected.abs().sum() > 0
    assert torch.allclose(found, expected, atol=1e-5)


class Differentiated(nn.Module):
    """Computes a gradient by `torch.func.grad`, through a strided convolution."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3, 2), nn.Linear(3, 2)

    def forward(self, x):
        force = torch.func.grad(lambda x: self.conv(x).tanh().square().sum())(x)
        return self.head(force.mean((2, 3)))


def test_modules_that_use_a_gradient_of_torch_func():
    net = network(Differentiated())
    assert "head" in str(net.layers())
    fv.render(net, "logit:1", steps=2)


class Mapped(nn.Module):
    """Runs a strided convolution under `vmap`."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3, 2), nn.Linear(8, 2)

    def forward(self, x):
        return self.head(torch.func.vmap(lambda one: self.conv(one[None])[0])(x).mean((2, 3)))


def test_layers_under_vmap_are_refused_and_those_around_them_render():
    net = network(Mapped())
    assert list(net.table) == ["head", ""]
    fv.render(net, "logit:1", steps=2)
    with pytest.raises(fv.AddressError, match=r"within a transform of torch\.func"):
        fv.render(net, "conv:1", steps=2)


@dataclass(slots=True)
class Slotted:
    logits: Tensor
    more: str = ""


class InSlots(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return Slotted(self.conv(x).mean((2, 3)))


def test_an_output_that_is_a_dataclass_with_slots():
    net = network(InSlots())
    assert torch.allclose(net.capture(IMAGES, [""])[""], net.module(IMAGES).logits, atol=1e-6)


class Summed(nn.Module):
    def forward(self, x):
        return x.sum()


def test_one_number_for_all_images_is_no_output_of_a_network():
    with pytest.raises(fv.AddressError, match="one number for all images; return one per image"):
        fv.render(network(Summed()), "logit:0", steps=1)


def test_lazy_buffers_are_named():
    with pytest.raises(fv.ModelError, match="uninitialised lazy layers"):
        network(nn.Sequential(nn.Conv2d(3, 4, 3), nn.LazyBatchNorm2d(affine=False)))


def test_the_fingerprint_of_8_bit_floating_point_weights():
    module = nn.Conv2d(3, 4, 3)
    net = network(module)
    before = net.fingerprint
    module.weight = nn.Parameter(module.weight.detach().to(torch.float8_e4m3fn), requires_grad=False)
    assert network(module).fingerprint != before


def test_layers_that_do_not_depend_on_the_image_are_named():
    class Placed(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.place = nn.Conv2d(3, 4, 3), nn.Conv2d(1, 4, 3)

        def forward(self, x):
            return (self.conv(x) + self.place(torch.ones(len(x), 1, *x.shape[2:]))).mean((2, 3))

    net = network(Placed())
    with pytest.raises(fv.SettingError, match="layer must depend on the image, got 'place'"):
        fv.accentuate(net, IMAGES[0], "logit:1", layer="place", steps=2)
    with pytest.raises(fv.SettingError, match="no gradient at the positions of 'place'"):
        fv.explain(net, IMAGES[:1], "logit:1", "GradCAM(layer='place')")


class Adaptive(nn.Module):
    """Runs a layer once for flat images, and three times for others."""

    def __init__(self):
        super().__init__()
        self.conv, self.again = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        times = 3 if x.std() > 0.01 else 1
        x = self.conv(x)
        for _ in range(times):
            x = self.again(x).tanh()
        return x.mean((2, 3))


@pytest.mark.parametrize("image", [torch.full((1, 3, 32, 32), 0.5), IMAGES[:1]], ids=["flat", "noise"])
def test_the_last_call_is_captured_where_the_number_of_calls_depends_on_the_image(image):
    torch.manual_seed(0)
    net = network(Adaptive())
    calls = []
    handle = net.module.again.register_forward_hook(lambda _, __, output: calls.append(output.detach()))
    net.module(image)
    handle.remove()
    assert len(calls) == (1 if image.std() == 0 else 3)
    assert torch.allclose(net.capture(image, ["again"])["again"], calls[-1], atol=1e-5)


class Quantised(nn.Module):
    """Has a layer that outputs whole numbers, as the indices of a codebook."""

    class Index(nn.Module):
        def forward(self, x):
            return x.argmax(1, keepdim=True)

    def __init__(self):
        super().__init__()
        self.conv, self.index = nn.Conv2d(3, 4, 3), self.Index()

    def forward(self, x):
        x = self.conv(x)
        return x.mean((2, 3)) + self.index(x).float().mean((2, 3))


@pytest.mark.parametrize("unit", ["index:0", "index", "index:0@3,4"])
def test_whole_numbers_are_scored_and_have_no_gradient(unit):
    net = network(Quantised())
    assert fv.score(net, unit, IMAGES).isfinite().all()
    with pytest.raises(fv.RenderError, match="has no gradient"):
        fv.render(net, unit, steps=2)


class DrawsElsewhere(nn.Module):
    """Draws from the generators of Python or NumPy."""

    def __init__(self, draw):
        super().__init__()
        self.conv, self.draw = nn.Conv2d(3, 4, 3), draw

    def forward(self, x):
        return self.conv(x).mean((2, 3)) * (0.5 + self.draw())


@pytest.mark.parametrize("draw", [random.random, np.random.rand])
def test_random_numbers_of_python_and_numpy_are_reproducible(draw):
    net = fv.Network(DrawsElsewhere(draw).eval(), size=16, mean=(0.5,) * 3, std=(0.5,) * 3)
    one, two = (fv.render(net, "logit:1", steps=4, progress=None) for _ in range(2))
    assert net.probed.draws
    assert torch.equal(one.images, two.images) and torch.equal(one.history, two.history)
    assert len(set(one.history[:, 0].tolist())) == 4


def test_the_random_state_of_python_and_numpy_is_unchanged():
    code = """
import random, numpy as np, torch, featviz as fv
class Drawing(torch.nn.Conv2d):
    def forward(self, x):
        return super().forward(x).mean((2, 3)) * random.random() * np.random.rand()
net = fv.Network(Drawing(3, 4, 3).eval(), size=16, mean=(0.5,) * 3, std=(0.5,) * 3)
states = [], []
for each in states:
    each += [random.getstate(), np.random.get_state()[1].tobytes()]
    fv.render(net, "logit:1", steps=4, progress=None)
print(states[0] == states[1])
"""  # in a process of its own, since the type checker of the tests draws, too
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "True\n"


def backbone():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))


@dataclass(slots=True)
class Parts:
    net: nn.Module


class PartsInSlots(nn.Module):
    """Has its weights in an object without an attribute dictionary, and a slot of its own."""

    __slots__ = ("scale",)

    def __init__(self):
        super().__init__()
        self.parts, self.head, self.scale = Parts(backbone()), nn.Linear(8, 3), 2.0

    def forward(self, x):
        return self.scale * self.head(self.parts.net(x).mean((2, 3)))


def test_modules_in_slots_are_copied():
    module = PartsInSlots()
    net = fv.Network(module, size=16, mean=(0.5,) * 3, std=(0.5,) * 3)
    norm = module.parts.net[1]
    before = norm.running_mean.clone(), norm.num_batches_tracked.clone()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fv.render(net, "logit:0", steps=3)
    assert torch.equal(norm.running_mean, before[0]) and torch.equal(norm.num_batches_tracked, before[1])
    assert norm.training
    images = torch.rand(2, 3, 16, 16)
    found = net.capture(images, "")[""]
    module.parts.net.eval()
    assert torch.allclose(found, module((images - 0.5) / 0.5), atol=1e-5)


def test_modules_that_are_not_registered_and_in_training_mode_are_named():
    hidden = backbone()

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(8, 3)

        def forward(self, x):
            return self.head(hidden(x).mean((2, 3)))

    def table():
        return fv.Network(Net(), size=16, mean=(0.5,) * 3, std=(0.5,) * 3).table

    for _ in range(2):  # nothing is cached
        with pytest.warns(fv.FeatvizWarning, match=r"runs modules that are no part of it \(Sequential, Conv2d, Batch"):
            table()
    hidden.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table()


class Spectrum(nn.Module):
    def forward(self, x):
        return torch.fft.fft2(x)


class Spectral(nn.Module):
    """A layer of complex numbers between real ones."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.fft, self.head = nn.Conv2d(3, 8, 3, padding=1), Spectrum(), nn.Linear(8, 5)

    def forward(self, x):
        return self.head(self.fft(self.conv(x).relu()).abs().mean((2, 3)))


@pytest.mark.parametrize(
    "run",
    [
        lambda net: fv.render(net, "fft:1", steps=1),
        lambda net: fv.render(net, "fft:1@2,3", steps=1),
        lambda net: fv.render(net, fv.objectives.Match("fft", IMAGES[0]), steps=1),
        lambda net: fv.render(net, fv.objectives.Direction("fft", torch.ones(8)), steps=1),
        lambda net: net.capture(IMAGES, "fft").as_map("fft"),
    ],
)
def test_layers_of_complex_numbers_are_refused_by_name(run):
    net = network(Spectral())
    assert net.layer("fft").layout.kind == "complex"
    assert "fft" not in net.layers().suggested
    with pytest.raises(fv.AddressError, match=r"^'fft' outputs complex numbers; use the layer as a whole"):
        run(net)


def test_layers_of_complex_numbers_as_a_whole_and_beside_others():
    net = network(Spectral())
    acts = net.capture(IMAGES, ["fft"])
    own = fv.objectives.objective("fft")(lambda acts: acts["fft"].abs()[:, 3].mean((1, 2)))
    found = fv.score(net, ["fft", own], IMAGES)
    assert torch.allclose(found[:, 0], acts["fft"].abs().square().flatten(1).mean(1), rtol=1e-4)
    assert torch.allclose(found[:, 1], acts["fft"].abs()[:, 3].mean((1, 2)), rtol=1e-4)
    rendering = fv.render(net, own, steps=64)
    assert rendering.history[-1] > rendering.history[0]
    assert fv.explain(net, IMAGES[:1], "logit:1").map.isfinite().all()
    assert fv.accentuate(net, IMAGES[0], "logit:1", layer="fft", steps=2).images.isfinite().all()
    with pytest.raises(fv.SettingError, match="layer must have positions and not come after logit:1, got 'fft'"):
        fv.explain(net, IMAGES[:1], "logit:1", "GradCAM(layer='fft')")


class Checkpointed(nn.Module):
    """Recomputes activations of a block with max pooling."""

    def __init__(self):
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2))
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        return self.head(checkpoint(self.block, x, use_reentrant=False).mean((2, 3)))


def test_checkpointing_with_changed_gradients_is_refused_in_one_line():
    message = "^the network recomputes activations .* turn checkpointing off$"
    with pytest.raises(fv.ModelError, match=message):
        fv.render(network(Checkpointed(), smooth_pools=True), "logit:1", steps=1)
    with pytest.raises(fv.ModelError, match=message):
        fv.explain(network(Checkpointed()), IMAGES[:1], "logit:1", "LRP('attn_lrp')")
    assert fv.render(network(Checkpointed()), "logit:1", steps=2).history[-1].isfinite()


class Keeping(nn.Module):
    """Keeps a tensor with its gradient for the next pass."""

    def __init__(self):
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 5, 3), None

    def forward(self, x):
        y = self.conv(x).mean((2, 3))
        y, self.last = y if self.last is None or self.last.shape != y.shape else y + self.last, y
        return y


def test_a_module_that_keeps_its_graph_is_told_to_detach():
    with pytest.raises(RuntimeError) as caught:
        fv.render(network(Keeping()), "logit:1", steps=3)
    assert (
        "a module that keeps a tensor for the next pass must detach it: self.last = y.detach()"
        in caught.value.__notes__
    )


class Named(nn.Module):
    """Names with signs that addresses use, a second name, and weights in buffers of double precision."""

    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleDict({"a#1": nn.Conv2d(3, 8, 3), 'b"c': nn.Conv2d(8, 8, 3)})
        self.second = self.parts["a#1"]

    def forward(self, x):
        for _ in range(2):
            y = self.parts["a#1"](x)
        return self.parts['b"c'](y).mean((2, 3))


def test_names_with_signs_of_addresses():
    net = network(Named())
    acts = net.capture(IMAGES, ["parts.a#1", "parts.a#1#1", "parts.a#1#2", 'parts.b"c'])
    assert torch.equal(acts["parts.a#1"], acts["parts.a#1#2"])
    for name in acts:
        unit = fv.objectives.Channel(name, 3)
        assert fv.objectives.parse(str(unit)) == unit
        assert fv.render(net, str(unit), steps=1).history.isfinite().all()
    with pytest.raises(fv.AddressError, match=r"^layer 'second' in Named is the same module as 'parts.a#1'; use this"):
        fv.render(net, "second:1", steps=1)


class InBuffers(nn.Module):
    """Has weights that are no parameters, in double precision."""

    def __init__(self):
        super().__init__()
        self.register_buffer("weight", torch.randn(8, 3, 3, 3, dtype=torch.float64))

    def forward(self, x):
        return nn.functional.conv2d(x, self.weight).mean((2, 3))


def test_weights_in_buffers_decide_the_precision():
    net = network(InBuffers())
    assert net.dtype == torch.float64
    assert fv.render(net, "logit:1", steps=2).history.isfinite().all()


@pytest.mark.parametrize("precision", [torch.float64, torch.bfloat16])
def test_rise_in_other_precisions(precision):
    net = network(nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).to(precision))
    assert fv.explain(net, IMAGES[:1], "logit:1", "RISE(samples=16)").map.abs().max() > 0


def test_another_generator_of_numpy_is_left_alone():
    before = np.random.get_bit_generator()
    try:
        np.random.set_bit_generator(np.random.PCG64(0))
        assert fv.render(network(nn.Conv2d(3, 4, 3)), '"":1', steps=2).images.isfinite().all()
        assert isinstance(np.random.get_bit_generator(), np.random.PCG64)
    finally:
        np.random.set_bit_generator(before)


class Caching(nn.Module):
    """Keeps a buffer that depends on the input, as caches of positions do."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        self.register_buffer("ones", torch.ones(x.shape[-1]), persistent=False)
        return self.conv(x * self.ones).mean((2, 3))


def test_buffers_that_a_forward_makes_do_not_prevent_a_replay():
    module = Caching()
    rendering = fv.render(network(module), "logit:0", steps=2)
    module(IMAGES)
    assert torch.equal(fv.replay(rendering.recipe, network=network(module)).images, rendering.images)
