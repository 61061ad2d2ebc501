"""Networks as people write them: any of these works, or says why not, and is left as it was."""

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


class Own(nn.Module):
    """A small network with batch normalisation, to be varied."""

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


def test_dropout_that_never_stops_draws_the_same_and_leaves_the_callers_chance():
    class Dropping(Own):
        def forward(self, x):
            return self.head(F.dropout(self.maps(x).mean((2, 3))))

    net = toys.network(Dropping())
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = rendered(net).images
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(one, rendered(net).images)
    assert net.probed.draws
    assert not toys.plain().probed.draws


def test_buffers_that_a_forward_pass_changes_are_put_back():
    class Counting(Own):
        def __init__(self):
            super().__init__()
            self.register_buffer("inside", torch.zeros(()))
            self.register_buffer("anew", torch.zeros(()))

        def forward(self, x):
            self.inside += 1
            self.anew = self.anew + 1
            return super().forward(x)

    module = Counting()
    net = toys.network(module)
    kept, before = module.anew, net.fingerprint
    recipe = rendered(net).recipe
    assert module.inside == 0
    assert module.anew is kept
    assert net.fingerprint == before == recipe.fingerprint


def test_a_layer_that_merges_its_weights_when_told_not_to_train_is_left_alone():
    class Merging(nn.Linear):
        def train(self, mode=True):
            super().train(mode)
            if not mode:
                self.weight.data += 1
            return self

    module = Own()
    module.head = Merging(8, 5)
    net = toys.network(module)
    weights = module.head.weight.clone()
    rendered(net)
    assert module.training
    assert torch.equal(module.head.weight, weights)


def test_weights_changed_behind_torchs_back_are_noticed():
    net = toys.network(Own())
    before = net.fingerprint
    net.module.conv.weight.data.mul_(2)
    doubled = net.fingerprint
    assert doubled != before
    with torch.no_grad():
        net.module.conv.weight.copy_(net.module.conv.weight.flip(0))  # whose sum is the same
    assert net.fingerprint not in (before, doubled)


class Mask(nn.Module):
    def forward(self, x):
        return x > 0


class Nothing(nn.Module):
    def forward(self, x):
        return x[:, :0]


@pytest.mark.parametrize("extra", [Mask(), Nothing()])
def test_batch_norms_beside_layers_that_put_out_no_numbers(extra):
    class Odd(Own):
        def __init__(self):
            super().__init__()
            self.extra = extra

        def forward(self, x):
            self.extra(x)
            return super().forward(x)

    assert rendered(toys.network(Odd())).images.shape == (1, 3, 32, 32)


@dataclass
class Record:
    logits: torch.Tensor


@pytest.mark.parametrize("wrap", [Record, lambda logits: SimpleNamespace(logits=logits)])
def test_outputs_in_records(wrap):
    class Wrapped(Own):
        def forward(self, x):
            return wrap(super().forward(x))

    assert toys.network(Wrapped()).table[""].shape == (5,)


def test_channels_of_maps_that_are_not_square_in_a_network_of_one_size():
    module = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16 * 16 * 24, 10)
    )
    net = fv.Network(module, size=(32, 48), mean=(0.5,), std=(0.25,))
    assert net.fixed_size
    assert {name: net.table[name].channels for name in "012"} == {"0": 16, "1": 16, "2": 16}
    cube = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(32**3, 10))
    assert fv.Network(cube, size=32, mean=(0.5,), std=(0.25,)).table["1"].layout.channel == 1


def test_a_compiled_network_is_taken_for_what_it_was_made_of():
    module = Own()
    net = toys.network(torch.compile(module))
    assert net.module is module
    assert torch.equal(rendered(net).images, rendered(toys.network(module)).images)


def test_a_network_without_weights_says_so():
    with pytest.raises(fv.ModelError, match="Sequential has layers whose size is still open; run it once on a batch"):
        fv.Network(nn.Sequential(nn.LazyConv2d(8, 3)), size=32, **toys.HALF)
    with pytest.raises(fv.ModelError, match="Sequential has no weights, it is on the meta device; load them first"):
        fv.Network(nn.Sequential(nn.Conv2d(3, 8, 3, device="meta")), size=32, **toys.HALF)


def test_a_network_without_gradients_says_so():
    class Still(Own):
        @torch.no_grad()
        def forward(self, x):
            return super().forward(x)

    with pytest.raises(fv.RenderError, match="^no gradient leads from the score to the picture: the network or the "):
        rendered(toys.network(Still()))


def test_numbers_of_numpy_and_torch_stand_for_pythons(tmp_path):
    module = Own()
    net = fv.Network(
        module, size=[np.int64(32), 32], mean=torch.full((3,), 0.5), std=np.full(3, 0.25), classes={1: "b", 0: "a"}
    )
    assert (net.size, net.mean, net.classes) == ((32, 32), (0.5, 0.5, 0.5), ("a", "b"))
    goal = np.float32(0.5) * fv.objectives.Neuron("conv", 5, [3, np.int64(4)]) * np.float32(2)
    held = param.Image((np.int64(24), np.int64(32)))
    made = fv.render(net, goal, param=held, steps=2, seed=np.arange(1), optimizer=fv.optimizers.Adam(np.float64(0.05)))
    (file,) = made.save(tmp_path / "picture.png")
    assert torch.equal(fv.replay(file, network=net).images, made.images)


def test_images_that_are_no_shares_are_refused():
    net = toys.plain()
    with pytest.raises(
        fv.SettingError, match=r"^images holds torch.float32 from 0 to 255; give floating-point numbers"
    ):
        fv.score(net, "conv1:0", torch.linspace(0, 255, 3 * 32 * 32).view(1, 3, 32, 32))
    with pytest.raises(
        fv.SettingError, match=r"^images of torch.uint8; Plain takes floating-point numbers in \[0, 1\]"
    ):
        net.capture(torch.zeros(1, 3, 32, 32, dtype=torch.uint8), ["conv1"])


class TokensFirst(nn.Module):
    """Patches as (length, batch, channels), PyTorch's own default and that of the first CLIP."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 8, 8)
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=False)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(x).flatten(2).permute(2, 0, 1)
        return self.head(self.encoder(tokens).mean(0))


def test_tokens_that_come_before_images_are_addressed_as_others_are():
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
