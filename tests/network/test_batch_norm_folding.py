"""Folding of batch normalisations: same outputs, which pairs are found, and that the module is not changed."""

import pytest
import torch
import toys
from torch import nn
from torch.nn.utils import prune

import featviz as fv
from featviz.network.fast.batch_norm_folding import Pair, fold, foldable
from featviz.network.working_copy import working_copy

IMAGES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def trained(module):
    """Return a module in eval mode with random weights, and with statistics as training leaves them."""
    toys.network(module)
    generator = torch.Generator().manual_seed(1)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d) and part.running_mean is not None:
            part.running_mean.copy_(0.3 * torch.randn(part.num_features, generator=generator))
            part.running_var.copy_(0.5 + torch.rand(part.num_features, generator=generator))
    return module.eval()


def chain(*parts):
    return trained(nn.Sequential(*parts))


class TwoPairs(nn.Module):
    """Two convolutions with a normalisation each, the first without a bias and the second without weights."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6)
        self.conv2, self.bn2 = nn.Conv2d(6, 6, 3, groups=2, stride=2), nn.BatchNorm2d(6, affine=False, eps=0.1)

    def forward(self, x):
        return self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))


def state(module):
    return {
        "values": {name: value.clone() for name, value in module.state_dict().items()},
        "parameters": dict(module.named_parameters()),
        "addresses": {name: weight.data_ptr() for name, weight in module.named_parameters()},
        "biases": [part.bias for part in module.modules() if isinstance(part, nn.Conv2d)],
        "own": {name: sorted(vars(part)) for name, part in module.named_modules()},
    }


def assert_unchanged(module, before):
    after = state(module)
    assert after["values"].keys() == before["values"].keys()
    assert all(torch.equal(value, before["values"][name]) for name, value in after["values"].items())
    assert all(weight is before["parameters"][name] for name, weight in after["parameters"].items())
    assert all(bias is wanted for bias, wanted in zip(after["biases"], before["biases"], strict=True))
    assert after["addresses"] == before["addresses"]
    assert after["own"] == before["own"]


def is_folded(norm):
    return norm(x := torch.rand(1, norm.num_features, 2, 2)) is x


# ---------------------------------------------------------------------------------------------- folding


def folded_copy(module, pairs):
    copy = working_copy(module)
    fold(copy, pairs)
    return copy


@pytest.mark.parametrize("make", [TwoPairs, toys.Plain])
def test_outputs_with_folding_are_the_same(make):
    module = trained(make())
    pairs = foldable(module, IMAGES)
    assert len(pairs) == (2 if make is TwoPairs else 1)
    with torch.no_grad():
        expected = module(IMAGES)
        copy = folded_copy(module, pairs)
        assert all(is_folded(copy.get_submodule(pair.norm)) for pair in pairs)
        assert (copy(IMAGES) - expected).abs().max() < 1e-4
        assert torch.equal(module(IMAGES), expected)


def test_folded_convolution_puts_out_normalised_values():
    module = trained(TwoPairs())
    expected = module.bn1(module.conv1(IMAGES))
    copy = folded_copy(module, foldable(module, IMAGES))
    assert (copy.conv1(IMAGES) - expected).abs().max() < 1e-4


def test_only_the_given_pairs_are_folded():
    module = trained(TwoPairs())
    first, second = foldable(module, IMAGES)
    for pairs in ([], [first], [second], [first, second]):
        copy = folded_copy(module, pairs)
        assert [is_folded(copy.bn1), is_folded(copy.bn2)] == [first in pairs, second in pairs]
        assert torch.allclose(copy(IMAGES), module(IMAGES), atol=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_the_module_is_not_changed(training):
    module = trained(TwoPairs()).train(training)
    before = state(module)
    copy = folded_copy(module, foldable(module, IMAGES))
    assert not torch.equal(copy.conv1.weight, before["values"]["conv1.weight"])
    assert copy.conv1.bias is not None
    assert not any(weight.requires_grad for weight in copy.parameters())
    assert module.conv1.bias is None
    assert module.training == training
    assert_unchanged(module, before)


def test_nested_sessions_of_one_network():
    net = fv.Network(trained(TwoPairs()), size=16, **toys.HALF)
    before = state(net.module)
    expected = {name: net.capture(IMAGES, [name])[name] for name in ("conv1", "bn1", "")}
    with net.session([""]) as outer:
        for name in ("conv1", "bn1"):
            with net.session([name]) as inner:
                assert torch.allclose(inner(IMAGES)[name], expected[name], atol=1e-4)
            assert torch.allclose(outer(IMAGES)[""], expected[""], atol=1e-4)
    assert_unchanged(net.module, before)


@pytest.mark.parametrize("measured", [True, False])
def test_nested_sessions_of_two_networks_that_share_a_module(measured):
    """`with_input` shares the module; both networks fold, whether the second has been measured before or not."""
    net = fv.Network(trained(TwoPairs()), size=16, **toys.HALF)
    other = net.with_input(size=24)
    before = state(net.module)
    expected = net.capture(IMAGES, [""])[""]
    if measured:
        other.capture(IMAGES, [""])
    with net.session([""]) as forward:
        assert torch.allclose(other.capture(IMAGES, [""])[""], expected, atol=1e-4)
        assert torch.allclose(forward(IMAGES)[""], expected, atol=1e-4)
    assert_unchanged(net.module, before)
    assert torch.equal(net.capture(IMAGES, [""])[""], expected)


# ---------------------------------------------------------------------------------------------- which pairs are found


def test_layers_between_convolution_and_normalisation_are_hidden():
    module = chain(nn.Conv2d(3, 4, 3), nn.Identity(), nn.Dropout(), nn.BatchNorm2d(4), nn.ReLU())
    assert foldable(module, IMAGES) == (Pair("0", "3", frozenset({"0", "1", "2"})),)
    net = fv.Network(module, size=16, **toys.HALF)
    conv = module[0]((IMAGES - 0.5) / 0.5)
    for name in ("0", "1", "2"):
        assert torch.allclose(net.capture(IMAGES, [name, "4"])[name], conv, atol=1e-5)
    assert torch.allclose(net.capture(IMAGES, ["3"])["3"], module[3](conv), atol=1e-4)


class Reused(toys.Plain):
    """Uses the output of a convolution in its normalisation and in a sum."""

    def forward(self, x):
        y = self.conv1(x)
        return self.bn1(y) + y


class Repeated(nn.Module):
    """Runs its convolution twice, and normalises one of the outputs."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)

    def forward(self, x):
        return self.bn(self.conv(self.conv(x)))


class CustomNorm(nn.BatchNorm2d):
    """A subclass, whose forward pass may do anything."""


@pytest.mark.parametrize(
    "module",
    [
        Reused(),
        Repeated(),
        nn.Sequential(nn.Conv2d(3, 4, 3), CustomNorm(4)),
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)),
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)),
        nn.Sequential(nn.ConvTranspose2d(3, 4, 3), nn.BatchNorm2d(4)),
        nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3)),
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()),
    ],
    ids=["reused", "repeated", "subclass", "no statistics", "rectified", "transposed", "norm first", "no norm"],
)
def test_pairs_that_cannot_be_folded(module):
    trained(module)
    before = state(module)
    assert foldable(module, IMAGES) == ()
    assert_unchanged(module, before)


def test_networks_in_half_precision_are_not_folded():
    module = trained(TwoPairs()).to(torch.bfloat16)
    assert foldable(module, IMAGES.to(torch.bfloat16)) == ()


def test_convolutions_that_share_their_weights_are_folded_apart():
    module = chain(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3))
    module[2].weight = module[0].weight
    before = state(module)
    pairs = foldable(module, IMAGES)
    assert [pair.conv for pair in pairs] == ["0", "2"]
    assert torch.allclose(folded_copy(module, pairs)(IMAGES), module(IMAGES), atol=1e-5)
    assert_unchanged(module, before)


class Shortcut(nn.Module):
    """Adds the output of the convolution to the normalised one, so that folding is not possible."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 5)

    def forward(self, x):
        y = self.conv(x)
        return self.head((self.norm(y).relu() + y).mean((2, 3)))


def test_an_untrained_normalisation_proves_nothing():
    module = Shortcut().eval()
    net = fv.Network(module, size=16, mean=(0.0,) * 3, std=(1.0,) * 3)
    assert net.foldable == ()
    with torch.no_grad():  # as training does
        module.norm.running_mean.uniform_(-1, 1)
        module.norm.running_var.uniform_(0.2, 3)
        module.norm.weight.zero_()
    assert torch.allclose(net.capture(IMAGES.clamp(0, 1), "")[""], module(IMAGES.clamp(0, 1)), atol=1e-5)
    assert foldable(chain(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)), IMAGES)


def test_weights_that_are_computed_before_each_call_are_not_folded():
    conv = nn.Conv2d(3, 4, 3)
    weight = conv.weight.detach().clone()
    del conv._parameters["weight"]
    conv.weight = weight
    conv.register_forward_pre_hook(lambda part, _: setattr(part, "weight", weight * 1))
    assert foldable(chain(conv, nn.BatchNorm2d(4)), IMAGES) == ()


class Gated(nn.Module):
    """Adds the output of the convolution only if a given input says so."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)

    def forward(self, x, gate):
        y = self.conv(x)
        return (self.norm(y) + gate[:, :, None, None] * y).mean((2, 3))


def test_other_given_values_are_tried_again():
    torch.manual_seed(0)
    module = Gated().eval()
    module.norm.running_mean.uniform_(-1, 1)
    spec = fv.InputSpec(size=(16, 16), mean=(0.0,) * 3, std=(1.0,) * 3)
    net = fv.Network(module, inputs={"x": spec, "gate": torch.zeros(1, 1)})
    assert net.foldable
    images, other = IMAGES.clamp(0, 1), net.with_given({"gate": torch.ones(1, 1)})
    assert torch.allclose(other.capture(images, "")[""], module(images, torch.ones(1, 1)), atol=1e-5)


def test_forward_that_was_replaced_on_a_normalisation_is_kept():
    """Libraries that place hooks, such as accelerate, replace `forward` on the instance."""
    module = chain(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    own = module[1].forward = lambda x: 2 * x
    expected = module(IMAGES)
    foldable(module, IMAGES)
    assert vars(module[1]).get("forward") is own
    assert torch.equal(module(IMAGES), expected)
    assert is_folded(folded_copy(chain(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), [Pair("0", "1", frozenset())])[1])


@pytest.mark.parametrize("name", ["weight", "bias"])
def test_pruned_normalisations_are_not_folded(name):
    module = chain(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    prune.l1_unstructured(module[1], name, amount=0.5)
    assert foldable(module, IMAGES) == ()
