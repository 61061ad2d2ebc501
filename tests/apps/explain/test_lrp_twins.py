"""LRP of networks that compute the same in other ways: shared and unshared modules, modules and functions."""

import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
import toys
from torch import nn

import featviz as fv
from featviz import methods
from featviz.apps.explain.methods.lrp import RULES

IMAGES = torch.rand(2, 3, 16, 20, generator=torch.Generator().manual_seed(0))


def correlation(one, other):
    return torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1].item()


def lrp(network, rule, target="logit:1"):
    """Return the relevance of each channel of each pixel, whether or not it is conserved."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fv.FeatvizWarning)
        return fv.explain(network, IMAGES, target, methods.LRP(rule))


class Shared(nn.Module):
    """One convolution and normalisation that is used twice."""

    def __init__(self):
        super().__init__()
        self.stem, self.conv, self.norm = (
            nn.Conv2d(3, 5, 3, stride=2, padding=1),
            nn.Conv2d(5, 5, 3, padding=1),
            nn.BatchNorm2d(5),
        )
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        x = self.stem(x).relu()
        x = self.norm(self.conv(x)).relu()
        x = self.norm(self.conv(x)).relu()
        return self.head(x.mean((2, 3)))


class Unshared(Shared):
    """The same, with a copy of both."""

    def __init__(self, twin):
        super().__init__()
        self.load_state_dict(twin.state_dict())
        self.conv2, self.norm2 = copy.deepcopy(self.conv), copy.deepcopy(self.norm)

    def forward(self, x):
        x = self.stem(x).relu()
        x = self.norm(self.conv(x)).relu()
        x = self.norm2(self.conv2(x)).relu()
        return self.head(x.mean((2, 3)))


class AsFunctions(Shared):
    """The same, with functions in place of modules."""

    def forward(self, x):
        conv, norm = self.conv, self.norm
        x = F.relu(torch.conv2d(x, self.stem.weight, self.stem.bias, 2, 1), inplace=True)
        for _ in range(2):
            x = F.conv2d(input=x, weight=conv.weight, bias=conv.bias, padding=1)
            x = F.relu_(F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps))
        return torch.addmm(self.head.bias, F.adaptive_avg_pool2d(x, 1).flatten(1), self.head.weight.t())


class AsMatrices(Shared):
    """The same, whose head is a product of matrices."""

    def forward(self, x):
        x = self.stem(x).relu()
        x = self.norm(self.conv(x)).relu()
        x = self.norm(self.conv(x)).relu().mean((2, 3))
        return (self.head.weight @ x.T).T + self.head.bias if len(x) > 1 else x @ self.head.weight.T + self.head.bias


def randomised(module):
    """Return the network of a module, whose normalisations have random statistics and scales of both signs."""
    generator = torch.Generator().manual_seed(0)
    toys.network(module)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                for tensor in (part.running_mean, part.running_var, part.weight, part.bias):
                    tensor.copy_(torch.randn(tensor.shape, generator=generator))
                part.running_var.abs_().add_(0.5)
    return fv.Network(module, size=(16, 20), **toys.HALF)


def twin_of(kind, module):
    made = kind(module) if kind is Unshared else kind()
    made.load_state_dict(module.state_dict(), strict=False)
    return fv.Network(made, size=(16, 20), **toys.HALF)


@pytest.mark.parametrize("rule", RULES)
def test_twins_have_the_same_map(rule):
    network = randomised(Shared())
    one = lrp(network, rule).per_channel
    for kind in (Unshared, AsFunctions, AsMatrices):
        other = lrp(twin_of(kind, network.module), rule).per_channel
        assert correlation(one, other) > 0.999, kind


class Kinds(nn.Module):
    """Convolutions of every kind and linear layers, as modules or as functions."""

    def __init__(self, *, functions=False):
        super().__init__()
        self.functions = functions
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.grouped = nn.Conv2d(4, 6, 3, groups=2, dilation=2)
        self.up = nn.ConvTranspose2d(6, 4, 3, stride=2)
        self.line = nn.Conv1d(4, 4, 3, padding=1)
        self.cube = nn.Conv3d(1, 2, 3)
        self.mix = nn.Linear(2, 5)
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        if self.functions:
            x = F.conv2d(x, self.conv.weight, self.conv.bias, padding="same").relu()
            x = F.conv2d(x, self.depthwise.weight, self.depthwise.bias, 1, 1, 1, 4).relu()
            x = F.conv2d(x, self.grouped.weight, self.grouped.bias, dilation=2, groups=2).relu()
            x = F.conv_transpose2d(x, self.up.weight, self.up.bias, stride=2).relu()
            x = F.conv1d(x.flatten(2), self.line.weight, self.line.bias, padding=1).view_as(x).relu()
            x = F.conv3d(x[:, None], self.cube.weight, self.cube.bias).relu().flatten(2).transpose(1, 2)
            x = torch.einsum("ntc,oc->nto", x, self.mix.weight) + self.mix.bias
            return F.linear(x.relu().mean(1), self.head.weight, self.head.bias)
        x = self.conv(x).relu()
        x = self.depthwise(x).relu()
        x = self.grouped(x).relu()
        x = self.up(x).relu()
        x = self.line(x.flatten(2)).view_as(x).relu()
        x = self.cube(x[:, None]).relu().flatten(2).transpose(1, 2)
        return self.head(self.mix(x).relu().mean(1))


@pytest.mark.parametrize("rule", RULES)
def test_functions_have_the_rules_of_modules(rule):
    network = randomised(Kinds())
    other = Kinds(functions=True)
    other.load_state_dict(network.module.state_dict())
    one, two = (lrp(net, rule) for net in (network, fv.Network(other, size=(16, 20), **toys.HALF)))
    torch.testing.assert_close(one.per_channel, two.per_channel, atol=1e-6, rtol=1e-3)


class Patches(nn.Module):
    """A first layer that is a convolution of patches, or a linear layer of them."""

    def __init__(self, *, linear):
        super().__init__()
        self.linear = linear
        self.conv, self.head = nn.Conv2d(3, 6, 4, stride=4), nn.Linear(6, 3)

    def forward(self, x):
        if self.linear:
            x = x.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).flatten(3)
            x = F.linear(x, self.conv.weight.flatten(1), self.conv.bias).permute(0, 3, 1, 2)
        else:
            x = self.conv(x)
        return self.head(x.relu().mean((2, 3)))


@pytest.mark.parametrize("rule", ["deep_taylor", "epsilon_plus_flat"])
def test_a_first_layer_may_be_a_linear_one(rule):
    one, other = (lrp(toys.network(Patches(linear=linear), size=(16, 20)), rule) for linear in (False, True))
    torch.testing.assert_close(one.per_channel, other.per_channel, atol=1e-6, rtol=1e-3)


class Stems(nn.Module):
    """Two first layers, the second of which is defined first."""

    def __init__(self):
        super().__init__()
        self.later, self.one, self.two = nn.Conv2d(8, 4, 3), nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = torch.cat([self.one(x), self.two(1 - x)], 1).relu()
        return self.head(self.later(x).relu().mean((2, 3)))


def test_every_layer_that_reads_the_image_is_a_first_layer():
    network = toys.network(Stems(), size=(16, 20))
    found = fv.explain(network, IMAGES, "logit:1", "LRP('deep_taylor')")
    assert found.delta.abs().max() < 0.01
    # The z-box rule gives relevance >= 0, also where inputs are negative, if all of it is >= 0 before.
    assert found.map.min() >= -1e-6 * found.map.max()


def test_images_of_black_and_white_bound_the_first_layer_in_any_order():
    """The z-box rule needs the range of each input, also where the network itself turns it around."""

    class Inverted(Patches):
        def forward(self, x):
            return super().forward(-x)

    network = toys.network(Inverted(linear=False), size=(16, 20))
    found = fv.explain(network, IMAGES, "logit:1", "LRP('deep_taylor')")
    assert found.delta.abs().max() < 0.01 and found.map.min() >= -1e-6 * found.map.max()
