"""Redirected gradients of rectifiers and smoothed gradients of max pools."""

import pytest
import torch
import torch.nn.functional as F
import toys
from torch import nn

import featviz as fv
from featviz.network.gradients import SmoothPools, redirect_gradients


def redirect_all(count=1):
    """Redirect the gradients of all samples."""
    return redirect_gradients(torch.ones(count, dtype=torch.bool))


def gradient(unit, x, mode, weight=1.0):
    """Return the output and the gradient of minus its sum, as in a render, with one sample per row."""
    leaf = x.clone().requires_grad_()
    with mode:
        out = unit(leaf * 1.0)
    (-weight * out).sum().backward()
    return out.detach(), leaf.grad


UNITS = {
    "nn.ReLU": nn.ReLU(),
    "nn.ReLU in place": nn.ReLU(inplace=True),
    "F.relu": F.relu,
    "F.relu in place": lambda x: F.relu(x, True),
    "F.relu_": lambda x: F.relu_(x),
    "x.relu_": lambda x: x.relu_(),
    "x.relu": lambda x: x.relu(),
    "nn.ReLU6": nn.ReLU6(),
    "nn.ReLU6 in place": nn.ReLU6(inplace=True),
    "nn.Hardswish": nn.Hardswish(),
}


@pytest.mark.parametrize("name", UNITS)
def test_blocked_gradients_that_would_activate_a_unit_pass(name):
    unit, inactive = UNITS[name], -4.0
    x = torch.tensor([[inactive, inactive], [inactive, 2.0], [2.0, 1.0]])
    plain, own = gradient(unit, x, torch.enable_grad())
    found, redirected = gradient(unit, x, redirect_all(3))
    assert torch.equal(plain, found)
    assert own[0].tolist() == [0, 0]
    assert redirected[0].tolist() == [-1, -1]  # both are pushed towards the active range
    assert torch.equal(own[1:], redirected[1:])  # a sample with any gradient of its own keeps it


def test_gradients_that_would_push_a_unit_further_away_stay_blocked():
    x = torch.tensor([[-1.0, -2.0]])
    _, redirected = gradient(F.relu, x, redirect_all(), weight=torch.tensor([[1.0, -1.0]]))
    assert redirected.tolist() == [[-1, 0]]
    _, redirected = gradient(F.relu6, torch.tensor([[7.0, 8.0]]), redirect_all(), weight=torch.tensor([[1.0, -1.0]]))
    assert redirected.tolist() == [[0, 1]]  # above 6, only a decrease activates it


@pytest.mark.parametrize(("unit", "inactive"), [(F.gelu, -8.0), (F.silu, -30.0), (F.mish, -40.0)])
def test_smooth_activations_are_redirected_where_they_are_flat(unit, inactive):
    _, own = gradient(unit, torch.tensor([[inactive]]), torch.enable_grad())
    _, redirected = gradient(unit, torch.tensor([[inactive]]), redirect_all())
    assert abs(own.item()) < 1e-4 and redirected.item() == -1
    near = torch.tensor([[-0.5, 0.3]])
    assert torch.equal(gradient(unit, near, torch.enable_grad())[1], gradient(unit, near, redirect_all())[1])


def test_other_functions_keep_their_gradients():
    x = torch.randn(2, 3)
    for unit in (torch.sigmoid, F.leaky_relu, lambda x: x.clamp(min=0), lambda x: x * 2):
        assert torch.equal(gradient(unit, x, torch.enable_grad())[1], gradient(unit, x, redirect_all(len(x)))[1])
    with redirect_all():
        assert F.relu(torch.tensor([-1.0, 2.0])).tolist() == [0, 2]


@pytest.mark.parametrize("layout", ["batch first", "windows", "tokens first"])
def test_an_image_is_blocked_only_as_a_whole(layout):
    """Of the three images, the second has one active unit."""
    images = torch.full((3, 4, 2), -1.0)  # images, tokens, channels
    images[1, 2, 0] = 1.0
    expected = torch.full((3, 4, 2), -1.0)
    expected[1] = 0.0
    expected[1, 2, 0] = -1.0
    order = {
        "batch first": lambda x: x,
        "windows": lambda x: x.view(6, 2, 2),
        "tokens first": lambda x: x.transpose(0, 1).contiguous(),
    }[layout]
    _, redirected = gradient(F.relu, order(images), redirect_all(3))
    assert torch.equal(redirected, order(expected))


def test_gradients_stay_where_the_dimension_of_images_is_unclear():
    for shape in [(5, 4), (6, 3, 2)]:  # no multiple of the number of images; windows, or tokens first
        _, redirected = gradient(F.relu, torch.full(shape, -1.0), redirect_all(3))
        assert torch.equal(redirected, torch.zeros(shape))


def test_redirection_is_per_step_and_leaves_the_module_unchanged():
    net = toys.network(toys.Dead())
    net.module.conv.bias.data.fill_(-0.3)
    before = {name: value.clone() for name, value in net.module.state_dict().items()}
    images = torch.full((1, 3, 32, 32), 0.5, requires_grad=True)
    with net.session(["relu"]) as forward:
        for redirect, arrives in ((False, False), (True, True), (False, False)):
            images.grad = None
            (-forward(images, redirect=torch.tensor([True]) if redirect else None)["relu"].sum()).backward()
            assert bool(images.grad.any()) == arrives
    assert all(torch.equal(value, before[name]) for name, value in net.module.state_dict().items())
    assert not net.module.relu._forward_hooks


@pytest.mark.parametrize(
    "pool",
    [
        nn.MaxPool2d(2),
        nn.MaxPool2d(3, 2, padding=1),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        lambda x: F.max_pool2d(x, 2, 2),
    ],
)
def test_smoothed_pools_have_the_same_output_and_a_spread_gradient(pool):
    x = torch.rand(2, 3, 9, 8, generator=torch.Generator().manual_seed(0))
    plain, own = gradient(pool, x, torch.enable_grad())
    smooth, spread = gradient(pool, x, SmoothPools())
    assert torch.allclose(plain, smooth)
    assert (spread != 0).float().mean() > 0.85 > 0.45 > (own != 0).float().mean()


def test_smoothed_pool_gradient_restated():
    values = [0.2, 0.5, 0.9, 0.1]
    x = torch.tensor(values).view(1, 1, 2, 2)
    _, spread = gradient(nn.MaxPool2d(2), x, SmoothPools())
    squares, sizes = sum(v * v for v in values) / 4, sum(values) / 4 + 1e-2
    wanted = [-(2 * v / 4 * sizes - squares / 4) / sizes**2 for v in values]
    assert spread.flatten().tolist() == pytest.approx(wanted, rel=1e-4)


def test_pools_that_cannot_be_smoothed_are_unchanged():
    x = torch.rand(1, 1, 9, 9)
    for pool in (nn.MaxPool2d(2, dilation=2), nn.AdaptiveMaxPool2d(2)):
        assert torch.equal(gradient(pool, x, torch.enable_grad())[1], gradient(pool, x, SmoothPools())[1])
    with SmoothPools():
        _, where = F.max_pool2d(x, 2, return_indices=True)
    assert where.dtype == torch.int64


def test_smoothed_pools_change_the_render_and_are_in_its_recipe(tmp_path):
    plain = toys.network(toys.Flattening())
    smooth = fv.Network(plain.module, size=32, **toys.HALF, smooth_pools=True)
    one, two = (fv.render(net, "pool:1", transforms=(), steps=8) for net in (plain, smooth))
    assert torch.allclose(one.history[0], two.history[0], atol=1e-5)
    assert not torch.allclose(one.images, two.images, atol=1e-3)
    assert (one.recipe.smooth_pools, two.recipe.smooth_pools) == (False, True)
    assert fv.load("motifnet", smooth_pools=True).smooth_pools


def test_only_the_given_images_are_redirected():
    x = torch.tensor([[-1.0, -2.0], [-1.0, -3.0]])
    _, redirected = gradient(F.relu, x, redirect_gradients(torch.tensor([False, True])))
    assert redirected.tolist() == [[0, 0], [-1, -1]]


def test_units_at_exactly_zero_are_pushed_up():
    _, redirected = gradient(F.relu, torch.zeros(1, 2), redirect_all())
    assert redirected.tolist() == [[-1, -1]]


def test_transforms_that_block_the_gradient_raise():
    net = toys.plain()

    def rounded(images):
        return (images * 4).round() / 4

    with pytest.raises(fv.RenderError, match="^no gradient reaches the image"):
        fv.render(net, "conv1:0", steps=40, transforms=(as_module(rounded),))
    with pytest.raises(
        fv.RenderError,
        match="^no gradient passes through the transforms to the image; leave out the one that is not differentiable, "
        "such as rounding",
    ):
        fv.render(net, "conv1:0", steps=40, transforms=(as_module(lambda images: images.detach()),))


def as_module(function):
    class Step(nn.Module):
        def forward(self, images):
            return function(images)

    return Step()


def test_a_render_stopped_during_redirection_reports_no_dead_units():
    net = toys.network(toys.Dead())
    net.module.conv.bias.data.fill_(-0.3)
    rendering = fv.render(net, "relu:1", steps=128, until=20, robustness_views=0, transforms=())
    assert rendering.history[-1] > rendering.history[0]
    assert rendering.problems == {}
