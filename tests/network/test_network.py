"""The layer table, capture, input checks, folding, and that the module is not changed."""

import gc
import weakref

import pytest
import torch
import torchvision
import toys
from torch import nn

import featviz as fv


def kinds(net):
    return {name: (layer.layout.kind, layer.layout.channel, layer.channels) for name, layer in net.table.items()}


def test_layer_table_of_a_plain_network():
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
        "bn1    map     6x32x32  6         3         1          *",
    ]


@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("width", [12, 16, 18])  # there are 17 tokens and 16 patches
def test_tokens_and_channels_of_a_transformer_are_told_apart(fixed, width):
    net = toys.network(toys.Vit(fixed=fixed, width=width))
    assert net.fixed_size == fixed
    block = net.table["block"]
    assert (block.layout.kind, block.channels, block.map_size) == ("tokens", width, (17,))
    assert (block.layout.patch, block.layout.prefix) == ((8, 8), 1)
    assert kinds(net)["patches"] == ("map", 1, width)


def test_feature_maps_with_channels_last_are_recognised():
    found = kinds(toys.network(toys.ChannelsLast()))
    assert found["conv"] == ("map", 1, 4)
    assert found["norm"] == found["act"] == ("map", 3, 4)


def test_torchvisions_vit_has_tokens_with_a_patch_grid():
    net = fv.load("vit_b_16", weights="none", device="cpu")
    layer = net.table["encoder.layers.encoder_layer_5"]
    assert (layer.layout.kind, layer.channels, layer.map_size) == ("tokens", 768, (197,))
    assert net.table["encoder.layers.encoder_layer_5.mlp.0"].channels == 3072
    images = torch.rand(1, 3, 224, 224)
    acts = net.capture(images, ["encoder.layers.encoder_layer_0", "conv_proj"])
    assert (
        acts.neuron("encoder.layers.encoder_layer_0", 5, (7, 7))
        == acts["encoder.layers.encoder_layer_0"][0, 1 + 7 * 14 + 7, 5]
    )
    with pytest.raises(fv.ModelError, match="^vit_b_16 does not accept images of 100x100 px, only of 224x224$"):
        net.check_size((100, 100))


def test_receptive_fields_of_a_published_network():
    """ResNet-18 by hand: the 7x7 stem sees 7 px, its pooling adds 4, each 3x3 convolution twice the stride so far."""
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


def test_capture_returns_outputs_before_they_are_overwritten_in_place():
    net = toys.plain()
    images = torch.rand(2, 3, 8, 8)
    module = net.module.eval()
    normal = (images - 0.5) / 0.5
    conv = module.conv1(normal)
    acts = net.capture(images, ["conv1", "bn1", "conv2", ""])
    assert torch.allclose(acts["conv1"], conv, atol=1e-6)
    assert torch.allclose(acts["bn1"], module.bn1(conv), atol=1e-6)
    assert (acts["bn1"] < 0).any()  # not rectified by the in-place ReLU that follows
    assert torch.allclose(acts[""], module(normal), atol=1e-6)
    functional = toys.network(toys.Functional())
    assert (functional.capture(images, ["conv", "head"])["conv"] < 0).any()


def test_the_forward_pass_stops_at_the_last_layer_needed():
    net, ran = toys.plain(), []
    net.module.conv2.register_forward_hook(lambda *_: ran.append("conv2"))
    net.capture(torch.rand(1, 3, 8, 8), ["bn1"])  # measuring the layer table runs everything once
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
    with pytest.raises(
        fv.AddressError,
        match="layer 'aux' of Twice cannot be addressed: it is not called in a forward pass in eval mode",
    ):
        net.capture(images, ["aux"])


def test_outputs_inside_of_dicts_and_named_tuples():
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
        "addresses": [weight.data_ptr() for weight in module.parameters()],
        "values": [value.sum().item() for value in module.state_dict().values()],
    }


@pytest.mark.parametrize("stop", [None, KeyboardInterrupt, ZeroDivisionError])
def test_a_render_changes_neither_the_module_nor_the_random_state(stop):
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


def test_the_smallest_accepted_size_is_found():
    class Unpadded11(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 11)

        def forward(self, x):
            return self.conv(x).mean((2, 3))

    with pytest.raises(
        fv.ModelError,
        match="^Unpadded11 does not accept images of 5x40 px; the smallest square that it accepts is 11x11$",
    ):
        fv.render(toys.network(Unpadded11()), "conv:0", param=fv.param.Image((5, 40)))


def test_capture_checks_the_shape_of_images():
    with pytest.raises(
        fv.SettingError, match=r"^Plain expects images of shape \(n, 3, h, w\) in \[0, 1\], got \(3, 8, 8\)$"
    ):
        toys.plain().capture(torch.rand(3, 8, 8), ["conv1"])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"std": (0.5, 0.5)}, "mean and std need one value per channel each, got (0.5, 0.5, 0.5) and (0.5, 0.5)"),
        ({"std": (0.5, 0.5, 0)}, "std must be > 0, got (0.5, 0.5, 0.0)"),
        ({"mean": 0.5}, "mean must be a sequence with one number per channel, e.g. mean=(0.1307,), got 0.5"),
        (
            {"mean": (124, 116, 104)},
            "mean must be in [0, 1], as the images are, got (124.0, 116.0, 104.0); for images in 0..255 divide mean "
            "and std by 255",
        ),
        ({"size": 0}, "size must be at least 1 px on each side, got 0 x 0"),
        ({"channel_order": "GRB"}, "channel_order must be RGB or BGR, got 'GRB'"),
        ({"layout": "CHW"}, "layout must be NCHW or NHWC, got 'CHW'"),
    ],
)
def test_invalid_input_specifications_raise(more, message):
    with pytest.raises(fv.SettingError) as caught:
        fv.Network(nn.Identity(), **{"size": 8, **toys.HALF, **more})
    assert str(caught.value) == message


@pytest.mark.filterwarnings("ignore:`torch.jit.trace")
def test_torchscript_is_refused():
    traced = torch.jit.trace(nn.Conv2d(3, 4, 3).eval(), torch.rand(1, 3, 8, 8))
    with pytest.raises(
        fv.ModelError, match="is TorchScript, whose layers cannot be hooked; give the original nn.Module$"
    ):
        fv.Network(traced, size=8, **toys.HALF)


@pytest.mark.filterwarnings("ignore:.*class names, so names may:featviz.FeatvizWarning")
def test_a_class_name_without_an_output_raises():
    net = fv.Network(nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), size=8, classes=["a", "b", "c"], **toys.HALF)
    with pytest.raises(
        fv.AddressError,
        match="^class 'c' has index 2 of 3 names, but the network has 2 outputs; give classes= in output order",
    ):
        fv.render(net, "logit:c", steps=1)


def test_the_repr_shows_the_input_specification():
    assert repr(toys.plain()) == (
        "<Network Plain: 32x32 px, 3 channels, mean (0.5, 0.5, 0.5), std (0.5, 0.5, 0.5), 5 class names, on cpu>"
    )


def test_the_fingerprint_depends_on_the_weights_only():
    assert toys.plain().fingerprint == toys.plain().fingerprint
    other = toys.plain()
    with torch.no_grad():
        other.module.conv1.weight[0, 0, 0, 0] += 1e-3
    assert other.fingerprint != toys.plain().fingerprint


def test_half_precision_networks_render():
    net = toys.network(toys.Plain().to(torch.bfloat16))
    assert fv.render(net, "conv2:1", steps=2).history.isfinite().all()


def test_networks_that_flatten_feature_maps_with_view():
    net = toys.network(toys.Flattening(), 29)
    assert net.fixed_size
    assert fv.render(net, ["logit:1", "conv:2"], steps=3).history.isfinite().all()


def test_strides_and_receptive_fields_without_padding():
    """AlexNet's first layers: an 11x11 convolution of stride 4, a 3x3 pooling of stride 2, a 5x5 convolution."""
    net = toys.network(toys.Unpadded(), 224)
    assert not net.fixed_size  # it accepts other multiples of 14
    fields = toys.network(torchvision.models.alexnet(), 224).receptive_fields()
    assert {name: (fields[name].px, fields[name].stride) for name in ("features.0", "features.2", "features.3")} == {
        "features.0": (11, 4),
        "features.2": (19, 8),
        "features.3": (51, 8),
    }


def test_running_out_of_memory_is_not_taken_for_a_refused_size():
    class Hungry(toys.Plain):
        def forward(self, x):
            if x.shape[-1] > 40:
                raise torch.OutOfMemoryError("no more")
            return super().forward(x)

    with pytest.raises(torch.OutOfMemoryError):
        toys.network(Hungry()).table


def test_an_untrained_transformer_has_the_size_of_its_trained_weights():
    net = fv.load("vit_b_16", weights="none", device="cpu")
    assert net.size == (224, 224)
    assert net.module.image_size == 224


class Shared(toys.Plain):
    """Uses a convolution's output twice, in its normalisation and in a sum, so that it cannot be folded."""

    def forward(self, x):
        y = self.conv1(x)
        x = self.relu(self.bn1(y) + y)
        return self.head(self.conv2(x).mean((2, 3)))


def with_statistics(module):
    """Give batch normalisations random statistics, as trained ones have."""
    generator = torch.Generator().manual_seed(1)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.copy_(0.3 * torch.randn(part.num_features, generator=generator))
            part.running_var.copy_(0.5 + torch.rand(part.num_features, generator=generator))
    return module


@pytest.mark.parametrize(("make", "pairs"), [(toys.Plain, 1), (Shared, 0), (torchvision.models.resnet18, 20)])
def test_folding_changes_no_captured_output(make, pairs):
    net = toys.network(with_statistics(make()), 64)
    assert len(net.foldable) == pairs
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
        captured = net.capture(images, [name])[name]
        assert (captured - tensor).abs().max() <= 1e-4 * tensor.abs().max() + 1e-5, name


def test_a_session_folds_its_copy_only():
    net = toys.network(with_statistics(toys.Plain()))
    before = {key: value.clone() for key, value in net.module.state_dict().items()}
    bias = net.module.conv1.bias
    with net.session(["head"]) as forward:
        assert not torch.equal(forward.module.conv1.weight, before["conv1.weight"])
        assert forward.module.conv1.bias is not bias
        assert net.module.conv1.bias is bias
        assert "forward" not in vars(net.module.bn1)
        assert all(torch.equal(value, before[key]) for key, value in net.module.state_dict().items())
    with net.session(["conv1"]) as forward:  # its own output is captured, so it is not folded
        assert torch.equal(forward.module.conv1.weight, before["conv1.weight"])
    with net.session(["head"], fv.Execution(fold=False)) as forward:
        assert torch.equal(forward.module.conv1.weight, before["conv1.weight"])


def test_the_module_can_run_and_change_while_a_session_is_open():
    """A session shows the weights of its time; it shares their memory, except for converted and folded ones."""
    net = toys.network(with_statistics(toys.Plain()))
    images = torch.rand(1, 3, 16, 16)
    with net.session(["head"]) as forward:
        expected = forward(images)["head"]
        alone = net.module.train()(images)
        assert alone.requires_grad and not expected.requires_grad
        assert not torch.allclose(alone, expected)
        net.module.bn1.reset_running_stats()
        net.module.conv2.register_forward_hook(lambda *_: pytest.fail("the hook of the user's module ran"))
        assert torch.equal(forward(images)["head"], expected)
        forward.module.train()
        assert net.module.eval().training is False and forward.module.training


def test_sessions_that_end_in_any_order():
    net = toys.network(with_statistics(toys.Plain()))
    images, before = torch.rand(1, 3, 16, 16), state(net.module)
    expected = net.capture(images, ["head"])["head"]
    first, second = net.session(["head"]), net.session(["head", "conv1"])
    one, two = first.__enter__(), second.__enter__()
    first.__exit__(None, None, None)
    assert torch.allclose(two(images)["head"], expected, atol=1e-5)
    second.__exit__(None, None, None)
    assert torch.equal(one(images)["head"], expected)  # also after its end
    assert state(net.module) == before


def test_a_session_frees_its_working_copy_at_once():
    net, images = toys.plain(), torch.rand(1, 3, 16, 16)
    gc.collect()
    gc.disable()
    try:
        with net.session(["head"], fv.Execution(graph=True)) as forward:
            forward(images, graph=True)
            copy = weakref.ref(forward.module)
        del forward
        assert copy() is None
    finally:
        gc.enable()


def test_only_gradients_of_images_are_taken_from_a_recorded_pass(monkeypatch):
    """Its outputs have no gradients with respect to each other, and the next replay overwrites them."""
    shapes = []

    def recorded(run):
        return lambda images: shapes.append(images.shape) or run(images)

    monkeypatch.setattr("featviz.network.session.cuda_graphed", recorded)
    net, image = toys.plain(), torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
    net.capture(image[None], ["head"])
    fv.score(net, "conv2:1", image[None])
    fv.explain(net, image, "logit:1", "gradcam")
    fv.explain(net, image, "logit:1", "IntegratedGradients(steps=64)")
    fv.accentuate(net, image, "conv2:1", layer="conv1", steps=2)
    assert not shapes
    fv.render(net, "conv2:1", steps=2)
    assert shapes


def test_the_fingerprint_of_a_module_made_in_inference_mode():
    with torch.inference_mode():
        net = toys.plain()
    assert net.fingerprint == toys.plain().fingerprint


def test_nested_sessions_each_fold_their_own_pairs():
    net = toys.network(with_statistics(toys.Plain()))
    images = torch.rand(1, 3, 16, 16)
    wanted = {name: net.capture(images, [name])[name] for name in ("conv1", "bn1", "head")}
    before = state(net.module)
    with net.session(["head"]) as forward:
        for name in ("conv1", "bn1"):
            assert torch.allclose(net.capture(images, [name])[name], wanted[name], atol=1e-5)
            assert torch.allclose(forward(images)["head"], wanted["head"], atol=1e-5)
    assert state(net.module) == before


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("mean", "net.with_input(mean=...) makes another"),
        ("channel_order", "net.with_input(channel_order=...) makes another"),
        ("classes", "create another with fv.Network or fv.load"),
        ("name", "create another with fv.Network or fv.load"),
    ],
)
def test_a_network_cannot_be_changed(name, remedy):
    net = toys.plain()
    for change in (lambda: setattr(net, name, None), lambda: delattr(net, name)):
        with pytest.raises(AttributeError) as caught:
            change()
        assert str(caught.value) == f"a Network is immutable, {name!r} cannot change; {remedy}"
    assert net.name == ""


def test_class_names_are_given_once():
    with pytest.raises(fv.SettingError, match="^give the class names in heads or in classes, not in both$"):
        toys.network(toys.Plain(), heads={"head": ("a", "b")}, classes=("c", "d"))


def test_class_names_by_index_stay_at_their_index():
    net = toys.plain(classes={"1": "bee", 4: "cat"})
    assert net.classes == ("", "bee", "", "", "cat") and toys.plain(classes={}).classes == ()
    images = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert fv.score(net, ["logit:cat"], images) == fv.score(net, ["logit:4"], images)
    for index in (-1, "x", 2.5, 10**9):
        with pytest.raises(fv.SettingError, match="class names must be by index, from 0 to 1000000, got the index"):
            toys.plain(classes={index: "bee"})


def test_other_class_names_keep_the_weights_of_recipes():
    assert toys.plain().with_classes(list("abcde")).weights is None
