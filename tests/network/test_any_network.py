"""Unusual networks work, or raise an error that explains why not, and are left unchanged."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import featviz as fv
from featviz import param
from tests import toys


class Small(nn.Module):
    """A small network with batch normalisation, from which the tests derive unusual ones."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 5)

    def maps(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.norm(self.conv(x)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.maps(x).mean((2, 3)))


def rendered(network: fv.Network, goal: str = "logit:1", steps: int = 4, **more: object) -> fv.Rendering:
    return fv.render(network, goal, steps=steps, **more)


def test_always_active_dropout_is_deterministic_and_leaves_the_global_generator_alone():
    class AlwaysDropout(Small):
        def forward(self, x):
            return self.head(F.dropout(self.maps(x).mean((2, 3))))

    net = toys.network(AlwaysDropout())
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = rendered(net).images
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(one, rendered(net).images)
    assert net.probed.draws
    assert not toys.plain().probed.draws


def test_buffers_that_a_forward_pass_writes_do_not_change():
    class Counting(Small):
        def __init__(self):
            super().__init__()
            self.register_buffer("in_place", torch.zeros(()))
            self.register_buffer("replaced", torch.zeros(()))

        def forward(self, x):
            self.in_place += 1
            self.replaced = self.replaced + 1
            return super().forward(x)

    module = Counting()
    net = toys.network(module)
    original, before = module.replaced, net.fingerprint
    recipe = rendered(net).recipe
    assert module.in_place == 0
    assert module.replaced is original
    assert net.fingerprint == before == recipe.fingerprint


def test_eval_mode_does_not_call_a_users_train_method():
    class Merging(nn.Linear):
        def train(self, mode=True):
            super().train(mode)
            if not mode:
                self.weight.data += 1
            return self

    module = Small()
    module.head = Merging(8, 5)
    net = toys.network(module)
    weights = module.head.weight.clone()
    rendered(net)
    assert module.training
    assert torch.equal(module.head.weight, weights)


def test_the_fingerprint_notices_writes_to_weight_data():
    net = toys.network(Small())
    before = net.fingerprint
    net.module.conv.weight.data.mul_(2)
    doubled = net.fingerprint
    assert doubled != before
    with torch.no_grad():
        net.module.conv.weight.copy_(net.module.conv.weight.flip(0))  # the sum stays the same
    assert net.fingerprint not in (before, doubled)


class BooleanOutput(nn.Module):
    def forward(self, x):
        return x > 0


class EmptyOutput(nn.Module):
    def forward(self, x):
        return x[:, :0]


@pytest.mark.parametrize("extra", [BooleanOutput(), EmptyOutput()])
def test_folding_with_boolean_and_empty_outputs_of_other_layers(extra):
    class WithExtra(Small):
        def __init__(self):
            super().__init__()
            self.extra = extra

        def forward(self, x):
            self.extra(x)
            return super().forward(x)

    assert rendered(toys.network(WithExtra())).images.shape == (1, 3, 32, 32)


@dataclass
class Record:
    logits: torch.Tensor


@pytest.mark.parametrize("wrap", [Record, lambda logits: SimpleNamespace(logits=logits)])
def test_outputs_inside_of_dataclasses_and_namespaces(wrap):
    class Wrapped(Small):
        def forward(self, x):
            return wrap(super().forward(x))

    assert toys.network(Wrapped()).table[""].shape == (5,)


def test_channel_dimension_of_rectangular_maps_in_a_network_of_fixed_size():
    module = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16 * 16 * 24, 10)
    )
    net = fv.Network(module, size=(32, 48), mean=(0.5,), std=(0.25,))
    assert net.fixed_size
    assert {name: net.table[name].channels for name in "012"} == {"0": 16, "1": 16, "2": 16}
    cube = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(32**3, 10))
    assert fv.Network(cube, size=32, mean=(0.5,), std=(0.25,)).table["1"].layout.channel == 1


def test_the_original_of_a_compiled_module_is_used():
    module = Small()
    net = toys.network(torch.compile(module))
    assert net.module is module
    assert torch.equal(rendered(net).images, rendered(toys.network(module)).images)


def test_networks_without_weights_raise():
    with pytest.raises(
        fv.ModelError, match="^Sequential has uninitialised lazy layers; run it once on a batch of images first$"
    ):
        fv.Network(nn.Sequential(nn.LazyConv2d(8, 3)), size=32, **toys.HALF)
    with pytest.raises(fv.ModelError, match="^Sequential is on the meta device and has no weights; load them first$"):
        fv.Network(nn.Sequential(nn.Conv2d(3, 8, 3, device="meta")), size=32, **toys.HALF)


def test_a_network_without_gradients_raises():
    class NoGrad(Small):
        @torch.no_grad()
        def forward(self, x):
            return super().forward(x)

    with pytest.raises(
        fv.RenderError,
        match="^the score has no gradient: the layer does not depend on the image, or the network or the ",
    ):
        rendered(toys.network(NoGrad()))


def test_numbers_of_numpy_and_torch_are_accepted(tmp_path):
    module = Small()
    net = fv.Network(
        module,
        size=[np.int64(32), 32],
        mean=torch.full((3,), 0.5),
        std=np.full(3, 0.25),
        classes={1: "b", 0: "a"},
    )
    assert (net.size, net.input.mean, net.classes) == ((32, 32), (0.5, 0.5, 0.5), ("a", "b"))
    goal = np.float32(0.5) * fv.objectives.Neuron("conv", 5, [3, np.int64(4)]) * np.float32(2)
    small = param.Image((np.int64(24), np.int64(32)))
    made = fv.render(net, goal, param=small, steps=2, seed=np.arange(1), optimizer=fv.optimizers.Adam(np.float64(0.05)))
    (file,) = made.save(tmp_path / "picture.png")
    assert torch.equal(fv.replay(file, network=net).images, made.images)


def test_images_outside_of_0_to_1_or_of_integers_are_refused():
    net = toys.plain()
    with pytest.raises(
        fv.SettingError, match=r"^images holds torch.float32 from 0 to 255; give floating-point numbers"
    ):
        fv.score(net, "conv1:0", torch.linspace(0, 255, 3 * 32 * 32).view(1, 3, 32, 32))
    with pytest.raises(fv.SettingError, match=r"^Plain expects floating-point images in \[0, 1\], got torch.uint8$"):
        net.capture(torch.zeros(1, 3, 32, 32, dtype=torch.uint8), ["conv1"])


class TokensFirst(nn.Module):
    """Tokens as (length, batch, channels): the default of PyTorch, used by the first CLIP."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 8, 8)
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=False)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(x).flatten(2).permute(2, 0, 1)
        return self.head(self.encoder(tokens).mean(0))


def test_tokens_before_the_batch_dimension_are_addressed_like_others():
    net = toys.network(TokensFirst())
    layer = net.table["encoder.layers.1"]
    assert (layer.layout.kind, layer.channels, layer.shape, layer.layout.patch) == ("tokens", 16, (16, 16), (8, 8))
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    acts = net.capture(images, ["encoder.layers.0", "patches"])
    assert acts["encoder.layers.0"].shape == (3, 16, 16)
    alone = net.capture(images[1:2], ["encoder.layers.0"])
    assert torch.allclose(acts.neuron("encoder.layers.0", 5, (2, 3))[1], alone.neuron("encoder.layers.0", 5, (2, 3))[0])
    made = fv.render(
        net, ["encoder.layers.0:5", "encoder.layers.1:3@1,2", "encoder.layers.1.self_attn:2"], steps=32, transforms=()
    )
    assert (made.history[-1] > made.history[0]).all()
