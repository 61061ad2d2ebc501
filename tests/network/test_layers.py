"""The layer table: kind, shape, channels and stride of layers, and what else two passes tell about a network."""

import re
from dataclasses import replace

import pytest
import torch
import toys
from torch import nn

import featviz as fv
from featviz.network.inputs.input_spec import InputSpec
from featviz.network.layers import LayerRow
from featviz.network.layout import Layout
from featviz.network.probing.probe import probe


class WithoutClassToken(toys.Vit):
    """A transformer that averages its patches."""

    def forward(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        return self.head(self.block(tokens).mean(1))


class TokensFirst(toys.Vit):
    """A transformer with the default of PyTorch's layers: (tokens, batch, channels)."""

    def __init__(self):
        super().__init__(fixed=False)
        self.block = nn.TransformerEncoderLayer(12, 2, 24, batch_first=False)

    def forward(self, x):
        tokens = self.patches(x).flatten(2).permute(2, 0, 1)
        return self.head(self.block(tokens).mean(0))


class Convolved(nn.Module):
    """A sequence of one value per pixel, which is no patch grid of more than one pixel, with channels first."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(3, 4, 3, padding=1)

    def forward(self, x):
        return self.conv(x.flatten(2)).mean(2)


class Chances(nn.Module):
    """Draws random numbers in eval mode too."""

    def forward(self, x):
        return nn.functional.dropout(x.mean((2, 3)), 0.5, training=True)


def table(module, size=32):
    return toys.network(module, size).table


def probed(module, size=(32, 32)):
    return probe(module, InputSpec(size, (0.5,) * 3, (0.5,) * 3), torch.empty(0))


# ---------------------------------------------------------------------------------------------- kinds of layers


@pytest.mark.parametrize("size", [(32, 32), (32, 48), (33, 40), (8, 8)])
def test_feature_maps(size):
    layers, (height, width) = table(toys.Plain(), size), size
    assert layers["conv1"] == LayerRow("conv1", Layout("map"), (6, height, width), 1)
    half = -(-height // 2), -(-width // 2)
    assert layers["conv2"] == LayerRow("conv2", Layout("map"), (8, *half), 2)
    assert (layers["conv2"].channels, layers["conv2"].map_size) == (8, half)


def test_strides_of_maps_without_padding():
    """Their maps are smaller than size / stride; the growth of the map gives the stride."""
    layers = table(toys.Unpadded(), 224)
    assert [layers[name].stride for name in ("conv", "pool", "conv2")] == [4, 8, 8]
    assert layers["conv"].map_size == (54, 54)


def test_feature_maps_with_channels_last():
    layers = table(toys.ChannelsLast())
    assert layers["conv"] == LayerRow("conv", Layout("map"), (4, 8, 8), 4)
    for name in ("norm", "act"):
        assert layers[name] == LayerRow(name, Layout("map", channel=3), (8, 8, 4), 4)
        assert (layers[name].channels, layers[name].map_size) == (4, (8, 8))


def test_vectors():
    layers = table(toys.Plain())
    assert layers["head"] == LayerRow("head", Layout("vector"), (5,))
    assert layers[""] == LayerRow("", Layout("vector"), (5,))
    assert (layers["head"].channels, layers["head"].map_size, layers["head"].stride) == (5, (), 0)


@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("width", [12, 16, 18])  # there are 17 tokens and 16 patches
def test_tokens_with_a_class_token(fixed, width):
    layer = table(toys.Vit(fixed=fixed, width=width))["block"]
    assert layer == LayerRow(
        "block", Layout("tokens", channel=2, patch=(8, 8), prefix=1, special=(("cls", 0),)), (17, width)
    )
    assert (layer.channels, layer.map_size, layer.stride) == (width, (17,), 0)


@pytest.mark.parametrize("size", [(32, 32), (32, 48), (16, 64)])
def test_tokens_without_a_class_token(size):
    layer = table(WithoutClassToken(fixed=False), size)["block"]
    count = (size[0] // 8) * (size[1] // 8)
    assert layer == LayerRow("block", Layout("tokens", channel=2, patch=(8, 8)), (count, 12))


def test_tokens_before_the_batch():
    layers = table(TokensFirst())
    assert layers["block"] == LayerRow("block", Layout("tokens", channel=2, patch=(8, 8), batch=1), (16, 12))
    net = toys.network(TokensFirst())
    images = torch.rand(3, 3, 32, 32)
    acts = net.capture(images, ["block"])
    assert acts["block"].shape == (3, 16, 12)
    alone = net.capture(images[1:2], ["block"])
    assert torch.allclose(acts.at("block", (2, 1))[1], alone["block"][0, 2 * 4 + 1], atol=1e-5)


def test_sequences_with_channels_first():
    layer = table(Convolved(), 16)["conv"]
    assert layer == LayerRow("conv", Layout("tokens", channel=1, patch=(1, 1)), (4, 256))
    assert (layer.channels, layer.map_size) == (4, (256,))


# ---------------------------------------------------------------------------------------------- calls


def test_module_that_is_called_twice():
    layers = table(toys.Twice())
    assert layers["conv"] == LayerRow("conv", Layout("map"), (3, 32, 32), 1, calls=2)
    assert layers["head"].calls == 1


def test_module_that_does_not_run_is_not_listed():
    assert set(table(toys.Twice())) == {"conv", "head", ""}


def test_layers_are_in_the_order_of_their_last_calls():
    assert list(table(toys.Plain())) == ["conv1", "bn1", "conv2", "relu", "head", ""]


# ---------------------------------------------------------------------------------------------- the network


@pytest.mark.parametrize(
    ("module", "size", "fixed"),
    [
        (toys.Plain(), 32, False),
        (toys.Vit(fixed=False), 32, False),
        (toys.Vit(fixed=True), 32, True),
        (toys.Flattening(), 29, True),
        (toys.Unpadded(), 224, False),  # it accepts multiples of 14 only, so the first larger size is refused
    ],
)
def test_networks_of_a_fixed_size(module, size, fixed):
    assert toys.network(module, size).fixed_size == fixed


def test_memory_format():
    assert probed(toys.Plain()).memory_format == torch.channels_last
    assert probed(toys.Flattening(), (29, 29)).memory_format == torch.contiguous_format


def test_networks_that_draw_random_numbers():
    assert not probed(toys.Vit()).draws  # its dropout is off
    state = torch.get_rng_state()
    assert probed(Chances()).draws
    assert torch.equal(torch.get_rng_state(), state)


def test_error_of_a_broken_network_surfaces():
    with pytest.raises(RuntimeError, match="^the author's own mistake$"):
        probed(toys.Broken())


def test_probing_changes_nothing():
    module = toys.Plain().train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    probed(module)
    assert all(part.training for part in module.modules())
    assert not any(part._forward_hooks for part in module.modules())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(weight.grad is None for weight in module.parameters())


# ---------------------------------------------------------------------------------------------- the table as text


def test_table_as_text():
    assert str(toys.network(toys.ChannelsLast()).layers()).splitlines() == [
        "layer  kind    shape  channels  field px  stride px",
        "conv   map     4x8x8  4         4         4",
        "norm   map     8x8x4  4         4         4",
        "act    map     8x8x4  4         4         4          *",
        "head   vector  3      3",
        "logit  vector  3      3                              *",
        "",
        "* good to render first",
    ]


def test_many_layers_are_grouped():
    blocks = nn.Sequential(*(nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()) for _ in range(30)))
    table = toys.network(nn.Sequential(blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 5))).layers()
    assert len(table.layers) == 30 * 3 + 5
    assert table.shown == [*(f"0.{i}" for i in range(30)), "0", "1", "2", "3", ""]
    assert table.suggested == {"0.6", "0.14", "0.22", "0", ""}  # of 31 maps of one size, each quarter's last
    lines = str(table).splitlines()
    assert lines[1].split() == ["0.0", "map", "3x32x32", "3", "1", "1", "+2", "inside"]
    assert lines[-1].endswith("; 60 more layers inside: featviz layers --all, or layers().text(all_layers=True)")
    assert len(table.text(all_layers=True).splitlines()) == 30 * 3 + 5 + 3
    assert len(table.rows()) == 30 * 3 + 5


class Named(nn.Module):
    """A network whose only layer has a given name."""

    def __init__(self, name):
        super().__init__()
        self.add_module(name, nn.Conv2d(3, 4, 3, padding=1))

    def forward(self, images):
        return next(self.children())(images)


@pytest.mark.parametrize(
    "name", ["block4-1", "a/b", "a+b", "a b", "a,b", "a@b", "a:1", "ü", "a~b", "output", "a'b", "("]
)
def test_names_with_any_characters_can_be_copied_from_the_table_into_an_objective(name):
    net = toys.network(Named(name))
    typed, *_ = net.layers().rows()[0]
    assert fv.objectives.parse(typed) == fv.objectives.Layer(name)
    assert fv.objectives.parse(f"{typed}:2 - tv") == fv.objectives.Channel(name, 2) - fv.objectives.parse("tv")
    rendering = fv.render(net, f"{typed}:2", size=16, steps=1)
    assert rendering.names == (str(fv.objectives.Channel(name, 2)),)
    whole, *_ = net.layers().rows()[-1]
    assert fv.objectives.parse(f"{whole}:2") == fv.objectives.Channel("", 2)
    assert len(fv.render(net, f"{whole}:2", size=16, steps=1).images) == 1


def test_a_name_that_is_read_as_a_difference_is_explained():
    with pytest.raises(fv.AddressError) as caught:
        fv.render(toys.network(Named("block4-1")), "block4-1:2", size=16, steps=1)
    near = re.escape("; nearest: '\"block4-1\"'")
    end = "; a name with other characters than letters, digits, _ and . needs double quotes (list all: net.layers())"
    assert re.fullmatch(rf"no layer '(block4|1)' in Named({near})?{re.escape(end)}", str(caught.value))


def test_output_is_called_logit_or_output():
    assert toys.plain().layers().rows()[-1] == ("logit", "vector", "5", "5", "", "")
    layers = toys.network(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1))).layers()
    assert layers.rows()[-1] == ('""', "map", "4x32x32", "4", "3", "1")


def test_channels_and_map_size_follow_the_layout():
    layer = LayerRow("a", Layout("map", channel=1), (4, 8, 9))
    assert (layer.channels, layer.map_size) == (4, (8, 9))
    last = replace(layer, layout=Layout("map", channel=3))
    assert (last.channels, last.map_size) == (9, (4, 8))
