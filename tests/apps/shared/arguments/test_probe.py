"""Checks of layers, channels and positions by running a network once."""

from __future__ import annotations

import pytest
import toys

import featviz as fv
from featviz.apps.shared.arguments.probe import check_channels, check_positions, in_network_order, noise, probe
from featviz.network import OUTPUT


def test_a_probe_is_one_grey_image_of_the_input_size_or_another(net):
    assert probe(net, ["conv1"])["conv1"].shape == (1, 6, 32, 32)
    with pytest.raises(fv.AddressError, match="^no layer 'conv9' in "):
        probe(net, ["conv9"])


def test_noise_is_the_same_at_each_call(net):
    images = noise(net, 3)
    assert images.shape == (3, 3, 32, 32)
    assert images.equal(noise(net, 3))
    assert 0 <= images.min() < 0.01 < 0.99 < images.max() <= 1


def test_channels_are_checked(net):
    assert check_channels(net, "conv1", None) == [0, 1, 2, 3, 4, 5]
    assert check_channels(net, "conv1", (4, 0)) == [4, 0]
    assert check_channels(net, OUTPUT, None) == [0, 1, 2, 3, 4]
    with pytest.raises(fv.SettingError, match="^channels must not be empty; give some, or None for all$"):
        check_channels(net, "conv1", [])
    with pytest.raises(fv.AddressError, match="^no channel 6 in 'conv1'; it has 6, 0 to 5$"):
        check_channels(net, "conv1", [0, 6])
    with pytest.raises(fv.AddressError, match="^no layer 'conv9' in "):
        check_channels(net, "conv9", None)


def test_positions_are_checked(net):
    assert check_positions(net, "conv2") == (16, 16)
    assert check_positions(toys.network(toys.Vit()), "block") == (4, 4)
    with pytest.raises(
        fv.AddressError, match="^no positions in 'logit'; its output is one vector; use a feature map or patch tokens$"
    ):
        check_positions(net, OUTPUT)
    with pytest.raises(fv.AddressError, match="^no layer 'conv9' in "):
        check_positions(net, "conv9")


def test_layers_are_in_the_order_of_the_network():
    given = ["output.x", "relu", "conv2", "conv1#10", "conv1", "conv1#2"]
    assert in_network_order(toys.plain(), given) == ["conv1#2", "conv1#10", "conv1", "conv2", "relu", "output.x"]
