"""The layer table, capture, and what is undone afterwards."""

import pytest
import torch
import torchvision
import toys
from torch import nn

import featviz as fv


def kinds(net):
    return {name: (layer.layout.kind, layer.layout.channel, layer.channels) for name, layer in net.table.items()}


def test_table_of_a_plain_network():
    assert kinds(toys.plain()) == {
        "conv1": ("map", 1, 6),
        "bn1": ("map", 1, 6),
        "conv2": ("map", 1, 8),
        "relu": ("map", 1, 8),
        "head": ("vector", 1, 5),
        "": ("vector", 1, 5),
    }
    assert str(toys.plain().layers()).splitlines()[:3] == [
        "layer  kind    shape    channels  field px  stride px",
        "conv1  map     6x32x32  6         3         1",
        "bn1    map     6x32x32  6         3         1",
    ]


@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("width", [12, 16, 18])  # 17 tokens; 16 channels are as many as the patches
def test_a_channel_of_a_transformer_is_a_channel(fixed, width):
    net = toys.network(toys.Vit(fixed=fixed, width=width))
    assert net.fixed_size == fixed
    block = net.table["block"]
    assert (block.layout.kind, block.channels, block.places) == ("tokens", width, (17,))
    assert (block.layout.patch, block.layout.prefix) == ((8, 8), 1)
    assert kinds(net)["patches"] == ("map", 1, width)


def test_maps_with_channels_last_are_maps():
    found = kinds(toys.network(toys.ChannelsLast()))
    assert found["conv"] == ("map", 1, 4)
    assert found["norm"] == found["act"] == ("map", 3, 4)


def test_torchvisions_vit_has_tokens_and_its_middle_patch_is_where_it_should_be():
    net = fv.load("vit_b_16", weights="none", device="cpu")
    layer = net.table["encoder.layers.encoder_layer_5"]
    assert (layer.layout.kind, layer.channels, layer.places) == ("tokens", 768, (197,))
    assert net.table["encoder.layers.encoder_layer_5.mlp.0"].channels == 3072
    images = torch.rand(1, 3, 224, 224)
    acts = net.capture(images, ["encoder.layers.encoder_layer_0", "conv_proj"])
    assert (
        acts.neuron("encoder.layers.encoder_layer_0", 5, (7, 7))
        == acts["encoder.layers.encoder_layer_0"][0, 1 + 7 * 14 + 7, 5]
    )
    with pytest.raises(fv.ModelError, match="^vit_b_16 does not take 100x100 px; it takes 224x224 only$"):
        net.check_size((100, 100))


def test_receptive_fields_of_a_published_network():
    """ResNet-18 by hand: each 3x3 convolution adds twice the stride so far, the 7x7 stem six, its pooling four."""
    net = toys.network(torchvision.models.resnet18(), 224)
    fields = net.receptive_fields()
    assert {name: (fields[name].px, fields[name].stride) for name in ("conv1", "maxpool", "layer1", "layer2")} == {
        "conv1": (7, 2),
        "maxpool": (11, 4),
        "layer1": (43, 4),
        "layer2": (99, 8),
    }
    assert fields["layer4"].px is None
    assert "avgpool" not in fields


def test_capture_returns_what_the_layer_put_out_before_anything_overwrote_it():
    net = toys.plain()
    images = torch.rand(2, 3, 8, 8)
    module = net.module.eval()
    normal = (images - 0.5) / 0.5
    conv = module.conv1(normal)
    acts = net.capture(images, ["conv1", "bn1", "conv2", ""])
    assert torch.allclose(acts["conv1"], conv, atol=1e-6)
    assert torch.allclose(acts["bn1"], module.bn1(conv), atol=1e-6)
    assert (acts["bn1"] < 0).any()  # the in-place ReLU that follows has left it alone
    assert torch.allclose(acts[""], module(normal), atol=1e-6)
    functional = toys.network(toys.Functional())
    assert (functional.capture(images, ["conv", "head"])["conv"] < 0).any()


def test_the_forward_pass_stops_at_the_last_layer_needed():
    net, ran = toys.plain(), []
    net.module.conv2.register_forward_hook(lambda *_: ran.append("conv2"))
    net.capture(torch.rand(1, 3, 8, 8), ["bn1"])  # probing runs everything, once
    ran.clear()
    net.capture(torch.rand(1, 3, 8, 8), ["bn1"])
    assert not ran
    net.capture(torch.rand(1, 3, 8, 8), ["head"])
    assert ran == ["conv2"]


def test_a_module_called_twice_is_captured_at_its_last_call():
    net = toys.network(toys.Twice())
    assert net.table["conv"].calls == 2
    images = torch.rand(1, 3, 8, 8)
    normal = (images - 0.5) / 0.5
    conv = net.module.conv
    assert torch.allclose(net.capture(images, ["conv"])["conv"], conv(conv(normal)), atol=1e-6)
    with pytest.raises(fv.AddressError, match="layer 'aux' of Twice cannot be addressed: it does not run in eval mode"):
        net.capture(images, ["aux"])


def test_odd_outputs_do_not_matter():
    net = toys.network(toys.Dict())
    assert net.table[""].shape == (4,)
    assert fv.render(net, "logit:2", steps=2).images.shape == (1, 3, 32, 32)
    googlenet = fv.load("googlenet", weights="none", device="cpu")
    assert "inception4a" in googlenet.table and "aux1" not in googlenet.table


def state(module):
    return {
        "training": [part.training for part in module.modules()],
        "trainable": [weight.requires_grad for weight in module.parameters()],
        "grads": [weight.grad is None for weight in module.parameters()],
        "hooks": [len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules()],
        "strides": [weight.stride() for weight in module.parameters()],
        "where": [weight.data_ptr() for weight in module.parameters()],
        "values": [value.sum().item() for value in module.state_dict().values()],
    }


@pytest.mark.parametrize("stop", [None, KeyboardInterrupt, ZeroDivisionError])
def test_everything_is_as_it_was(stop):
    net = toys.plain()
    net.module.train()
    net.module.bn1.eval()
    net.module.head.weight.requires_grad_(False)
    before = state(net.module)
    random = torch.get_rng_state()

    def progress(done, steps):
        if stop and done == 2:
            raise stop

    if stop is ZeroDivisionError:
        with pytest.raises(ZeroDivisionError):
            fv.render(net, "conv2:1", steps=4, progress=progress)
    else:
        assert len(fv.render(net, "conv2:1", steps=4, progress=progress).history) == (4 if stop is None else 2)
    assert state(net.module) == before
    assert torch.equal(torch.get_rng_state(), random)


def test_the_smallest_size_is_found():
    class Fussy(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 11)

        def forward(self, x):
            return self.conv(x).mean((2, 3))

    with pytest.raises(fv.ModelError, match="^Fussy does not take 5x40 px; the smallest square it takes is 11x11$"):
        fv.render(toys.network(Fussy()), "conv:0", param=fv.param.Image((5, 40)))


def test_capture_checks_its_images():
    with pytest.raises(fv.SettingError, match=r"images of shape \(3, 8, 8\); Plain takes \(n, 3, h, w\) in \[0, 1\]"):
        toys.plain().capture(torch.rand(3, 8, 8), ["conv1"])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"std": (0.5, 0.5)}, "do not go combine; give one of each per channel, std above 0"),
        ({"std": (0.5, 0.5, 0)}, "do not go combine; give one of each per channel, std above 0"),
        ({"mean": 0.5}, "are no lists of numbers; give one of each per channel"),
        ({"size": 0}, "size 0 x 0 has no pixels; give the size it was trained on"),
    ],
)
def test_impossible_networks(more, message):
    with pytest.raises(fv.SettingError) as caught:
        fv.Network(nn.Identity(), **{"size": 8, **toys.HALF, **more})
    assert str(caught.value).endswith(message)


@pytest.mark.filterwarnings("ignore:`torch.jit.trace")
def test_torchscript_is_refused():
    traced = torch.jit.trace(nn.Conv2d(3, 4, 3).eval(), torch.rand(1, 3, 8, 8))
    with pytest.raises(fv.ModelError, match="is TorchScript, which cannot be looked into; give what it was made from$"):
        fv.Network(traced, size=8, **toys.HALF)


def test_more_class_names_than_outputs_are_told():
    net = fv.Network(nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), size=8, classes=["a", "b", "c"], **toys.HALF)
    with pytest.raises(
        fv.AddressError, match=r"^class 'c' is number 2 of 3, and the network puts out 2; give classes="
    ):
        fv.render(net, "logit:c", steps=1)


def test_a_network_shows_what_it_expects():
    assert repr(toys.plain()) == (
        "<Network Plain: 32x32 px, 3 channels, mean (0.5, 0.5, 0.5), std (0.5, 0.5, 0.5), 5 class names, on cpu>"
    )


def test_the_fingerprint_is_of_the_weights():
    assert toys.plain().fingerprint == toys.plain().fingerprint
    other = toys.plain()
    with torch.no_grad():
        other.module.conv1.weight[0, 0, 0, 0] += 1e-3
    assert other.fingerprint != toys.plain().fingerprint


def test_half_precision_networks_render():
    net = toys.network(toys.Plain().to(torch.bfloat16))
    assert fv.render(net, "conv2:1", steps=2).history.isfinite().all()


def test_networks_that_flatten_with_view():
    net = toys.network(toys.Flattening(), 29)
    assert net.fixed_size
    assert fv.render(net, ["logit:1", "conv:2"], steps=3).history.isfinite().all()


def test_strides_and_fields_of_unpadded_networks():
    """AlexNet's first layers: an 11x11 convolution of stride 4, a 3x3 pooling of stride 2, a 5x5 convolution."""
    net = toys.network(toys.Unpadded(), 224)
    assert not net.fixed_size  # it takes other multiples of 14
    fields = toys.network(torchvision.models.alexnet(), 224).receptive_fields()
    assert {name: (fields[name].px, fields[name].stride) for name in ("features.0", "features.2", "features.3")} == {
        "features.0": (11, 4),
        "features.2": (19, 8),
        "features.3": (51, 8),
    }


def test_running_out_of_memory_is_no_answer_about_sizes():
    class Hungry(toys.Plain):
        def forward(self, x):
            if x.shape[-1] > 40:
                raise torch.OutOfMemoryError("no more")
            return super().forward(x)

    with pytest.raises(torch.OutOfMemoryError):
        toys.network(Hungry()).table


def test_a_transformer_of_another_size_than_its_builders_default():
    net = fv.load("vit_b_16", weights="none", device="cpu")
    assert net.size == (224, 224)
    assert net.module.image_size == 224


class Shared(toys.Plain):
    """Reads a convolution's output twice: beside its normalisation, too."""

    def forward(self, x):
        y = self.conv1(x)
        x = self.relu(self.bn1(y) + y)
        return self.head(self.conv2(x).mean((2, 3)))


def worn(module):
    """Give batch normalisations statistics as if they had been trained."""
    generator = torch.Generator().manual_seed(1)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.copy_(0.3 * torch.randn(part.num_features, generator=generator))
            part.running_var.copy_(0.5 + torch.rand(part.num_features, generator=generator))
    return module


@pytest.mark.parametrize(("make", "pairs"), [(toys.Plain, 1), (Shared, 0), (torchvision.models.resnet18, 20)])
def test_folding_changes_nothing_that_can_be_captured(make, pairs):
    net = toys.network(worn(make()), 64)
    assert len(net._foldable) == pairs
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    wanted: dict[str, torch.Tensor] = {}
    hooks = [
        part.register_forward_hook(lambda _, __, out, name=name: wanted.__setitem__(name, out.clone()))
        for name, part in net.module.named_modules()
        if net.table[name].calls == 1
    ]
    with torch.no_grad():
        net.module.eval()((images - 0.5) / 0.5)
    for hook in hooks:
        hook.remove()
    for name, tensor in wanted.items():
        caught = net.capture(images, [name])[name]
        assert (caught - tensor).abs().max() <= 1e-4 * tensor.abs().max() + 1e-5, name


def test_folding_is_used_and_undone():
    net = toys.network(worn(toys.Plain()))
    before = {key: value.clone() for key, value in net.module.state_dict().items()}
    bias = net.module.conv1.bias
    with net.session(["head"]):
        assert not torch.equal(net.module.conv1.weight, before["conv1.weight"])
        assert net.module.conv1.bias is not bias
    assert net.module.conv1.bias is bias
    assert "forward" not in vars(net.module.bn1)
    assert all(torch.equal(value, before[key]) for key, value in net.module.state_dict().items())
    with net.session(["conv1"]):  # its own output is asked for
        assert torch.equal(net.module.conv1.weight, before["conv1.weight"])


def test_a_watch_within_a_watch_sees_the_network_as_it_is():
    net = toys.network(worn(toys.Plain()))
    images = torch.rand(1, 3, 16, 16)
    wanted = {name: net.capture(images, [name])[name] for name in ("conv1", "bn1", "head")}
    before = state(net.module)
    with net.session(["head"]) as forward:
        for name in ("conv1", "bn1"):
            assert torch.allclose(net.capture(images, [name])[name], wanted[name], atol=1e-5)
            assert torch.allclose(forward(images)["head"], wanted["head"], atol=1e-5)
    assert state(net.module) == before
