"""Networks on signals, volumes and video: their input, their layers, and places in their feature maps."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import featviz as fv
from featviz.errors import AddressError, ModelError, SettingError
from featviz.network import InputSpec


class Block(nn.Module):
    """A residual block of a signal network."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv1d(channels, channels, 5, padding=2), nn.BatchNorm1d(channels)

    def forward(self, x):
        return torch.relu(self.norm(self.conv(x)) + x)


class Tokens(nn.Module):
    """Convolutions, then a transformer whose tokens lie along the signal, channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.block = (
            nn.Conv1d(1, 16, 8, stride=8),
            nn.TransformerEncoderLayer(16, 2, 32, batch_first=True),
        )
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        return self.head(self.block(self.patches(x).transpose(1, 2)).mean(1))


def signal_network(**more) -> fv.Network:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv1d(2, 8, 7, stride=2, padding=3), nn.ReLU(), Block(8), nn.MaxPool1d(2),
        nn.Conv1d(8, 12, 3, dilation=2, padding=2), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(12, 5),
    )  # fmt: skip
    return fv.Network(module, size=(256,), mean=(0.0, 0.0), std=(1.0, 1.0), **more)


def volume_network() -> fv.Network:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv3d(1, 4, 3, padding=1), nn.BatchNorm3d(4), nn.ReLU(), nn.Conv3d(4, 6, 3, stride=2), nn.ReLU(),
        nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(6, 4),
    )  # fmt: skip
    return fv.Network(module, size=(16, 20, 24), mean=(0.0,), std=(1.0,))


# ---------------------------------------------------------------------------------------------- layers


def test_the_layers_of_a_signal_network_have_their_shapes_fields_and_strides():
    rows = {row[0]: row[1:] for row in signal_network().layers().rows()}
    assert rows == {
        "0": ("map", "8x128", "8", "7", "2"),
        "1": ("map", "8x128", "8", "7", "2"),
        "2.conv": ("map", "8x128", "8", "15", "2"),  # 7 + (5 - 1) * 2
        "2.norm": ("map", "8x128", "8", "15", "2"),
        "2": ("map", "8x128", "8", "15", "2"),
        "3": ("map", "8x64", "8", "17", "4"),  # 15 + (2 - 1) * 2
        "4": ("map", "12x64", "12", "33", "4"),  # 17 + 2 * (3 - 1) * 4
        "5": ("map", "12x64", "12", "33", "4"),
        "6": ("map", "12x1", "12", "", ""),
        "7": ("vector", "12", "12", "", ""),
        "8": ("vector", "5", "5", "", ""),
        "logit": ("vector", "5", "5", "", ""),
    }


def test_the_layers_of_a_volume_network_have_their_shapes_fields_and_strides():
    rows = {row[0]: row[1:] for row in volume_network().layers().rows()}
    assert rows["0"] == ("map", "4x16x20x24", "4", "3", "1")
    assert rows["3"] == ("map", "6x7x9x11", "6", "5", "2")
    assert rows["5"] == ("map", "6x1x1x1", "6", "", "")
    assert rows["logit"] == ("vector", "4", "4", "", "")
    assert len(rows) == 9


def test_channels_that_come_last_are_found_by_the_growth_of_the_others():
    table = fv.Network(Tokens(), size=(128,), mean=(0,), std=(1,)).table
    assert (table["patches"].channels, table["patches"].map_size, table["patches"].stride) == (16, (16,), 8)
    for name in ("block", "block.norm1", "block.linear1", "block.linear2"):
        assert table[name].layout.channel == 2
        assert table[name].map_size == (16,)


@pytest.mark.parametrize(("layout", "axes"), [("NHWC", 1), ("NHWC", 3), ("NTCHW", 3)])
def test_a_module_gets_its_channels_where_the_layout_says(layout, axes):
    shapes = []

    class Noting(nn.Module):
        def forward(self, x):
            shapes.append(tuple(x.shape))
            return x.flatten(1)[:, :2]

    size = (5, 6, 7)[:axes]
    fv.Network(Noting(), size=size, mean=(0.5, 0.5), std=(1, 1), layout=layout).capture(torch.rand(4, 2, *size), [""])
    expected = (4, *size, 2) if layout == "NHWC" else (4, 5, 2, 6, 7)
    assert expected in shapes


# ---------------------------------------------------------------------------------------------- value range


def test_images_are_values_scaled_to_zero_to_one():
    spec = InputSpec((8,), (2.0, -1.0), (0.5, 3.0))
    assert spec.bounds == ((0.0, -13.0), (4.0, 11.0))  # 4 standard deviations on both sides
    values = torch.stack([torch.linspace(0, 4, 8), torch.linspace(-13, 11, 8)])[None]
    images = spec.images(values)
    assert torch.allclose(images[0, 0], torch.linspace(0, 1, 8)) and torch.allclose(spec.values(images), values)
    normalised = spec.normaliser(torch.empty(0))(images)
    for channel in (0, 1):
        for i in range(8):
            expected = (values[0, channel, i].item() - spec.mean[channel]) / spec.std[channel]
            assert normalised[0, channel, i].item() == pytest.approx(expected, abs=1e-5)


def test_the_value_range_of_audio_and_video():
    assert InputSpec((8,), (0,), (0.1,), value_range=(-1, 1)).bounds == ((-1.0,), (1.0,))
    assert InputSpec((4, 8, 8), (0.4,) * 3, (0.2,) * 3, axes="tyx").bounds == ((0.0,) * 3, (1.0,) * 3)
    assert InputSpec((8,), (0,), (1,)).images(torch.tensor([[[-9.0, 9.0]]])).tolist() == [[[0.0, 1.0]]]  # clipped


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": (1, 2, 3, 4)}, "size must be one side or (height, width) in px, or 1 to 3 lengths, got (1, 2, 3, 4)"),
        ({"axes": "tyx"}, "axes must be x for the size (8,), got 'tyx'"),
        ({"size": (4, 8, 8), "axes": "xyz"}, "axes must be zyx or tyx for the size (4, 8, 8), got 'xyz'"),
        ({"value_range": (1, -1)}, "the highest value of value_range must be > 1, got -1.0"),
        ({"value_range": (1, 2, 3)}, "value_range must be the lowest and the highest value, got (1.0, 2.0, 3.0)"),
        ({"value_range": (1, 2)}, "mean must be in value_range, [1, 2], got (0.0,)"),
        ({"layout": "NTCHW"}, "layout must be NCHW or NHWC, got 'NTCHW'"),
    ],
)
def test_a_wrong_input_specification_is_named(arguments, message):
    with pytest.raises(SettingError) as caught:
        InputSpec(**{"size": (8,), "mean": (0,), "std": (1,)} | arguments)
    assert str(caught.value) == message


# ---------------------------------------------------------------------------------------------- places and errors


def test_a_neuron_is_addressed_by_one_index_per_axis():
    signals, volumes = torch.rand(2, 2, 256), torch.rand(2, 1, 16, 20, 24)
    one, three = signal_network(), volume_network()
    found = one.capture(signals, ["2"])["2"]
    assert torch.allclose(fv.score(one, "2:3@100", signals)[:, 0], found[:, 3, 100], atol=1e-5)
    assert torch.allclose(fv.score(one, "2:3@center", signals)[:, 0], found[:, 3, 64], atol=1e-5)
    found = three.capture(volumes, ["3"])["3"]
    assert torch.allclose(fv.score(three, "3:5@6,0,10", volumes)[:, 0], found[:, 5, 6, 0, 10], atol=1e-5)
    assert torch.allclose(fv.score(three, "3:5@center", volumes)[:, 0], found[:, 5, 3, 4, 5], atol=1e-5)


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ("2:3@128", "no position @128 in '2'; at this size its map has positions 0 to 127"),
        ("2:3@1,2", "no position @1,2 in '2'; its map has 1 axis, as in @0"),
    ],
)
def test_a_place_outside_of_a_map_is_refused(objective, message):
    with pytest.raises(AddressError) as caught:
        fv.score(signal_network(), objective, torch.rand(1, 2, 256))
    assert str(caught.value) == message


def test_a_size_of_other_axes_than_the_first_convolution_is_explained():
    network = fv.Network(signal_network().module, size=32, mean=(0, 0), std=(1, 1))
    message = "size (32, 32) has 2 axes, but the first convolution of Sequential is a Conv1d, which reads 1"
    with pytest.raises(ModelError) as caught:
        network.layers()
    assert str(caught.value) == f"{message}; give e.g. size=(4096,)"


def test_a_signal_that_is_too_short_is_refused_with_the_shortest_that_is_accepted():
    module = nn.Sequential(nn.Conv1d(1, 2, 65), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    network = fv.Network(module, size=(256,), mean=(0,), std=(1,))
    with pytest.raises(ModelError) as caught:
        network.check_size((32,))
    assert str(caught.value) == "Sequential does not accept images of 32 px; the smallest size that it accepts is 80"
