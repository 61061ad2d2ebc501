"""The faster input gradients of convolutions are equal to autograd's."""

import pytest
import torch
import toys
from torch import nn

import featviz as fv
from featviz.network.fast.conv_backward import depthwise_input_gradient, speed_up_backward, strided_input_gradient
from featviz.network.working_copy import working_copy


def equals_autograd(input_gradient, conv, size):
    conv = conv.double()
    images = torch.rand(2, conv.in_channels, *size, dtype=torch.float64, requires_grad=True)
    out = conv(images)
    gradient = torch.randn_like(out)
    (wanted,) = torch.autograd.grad(out, images, gradient)
    return torch.allclose(input_gradient(gradient, conv.weight, conv, size), wanted)


@pytest.mark.parametrize("size", [(16, 16), (17, 23), (12, 31)])
@pytest.mark.parametrize(
    ("side", "stride", "padding"), [(7, 2, (3, 3)), (3, 2, (1, 1)), (4, 4, (0, 0)), (5, 3, (2, 0)), (2, 4, (1, 1))]
)
def test_gradient_of_a_strided_convolution(side, stride, padding, size):
    torch.manual_seed(0)
    assert equals_autograd(strided_input_gradient, nn.Conv2d(3, 5, side, stride, padding), size)


@pytest.mark.parametrize("size", [(16, 16), (17, 23), (12, 31)])
@pytest.mark.parametrize(
    ("side", "stride", "padding", "dilation"),
    [(3, 2, (1, 1), 1), (5, 2, (2, 2), 1), (3, 3, (0, 2), 1), (3, 1, (2, 2), 2), (3, 2, (1, 4), 2), (2, 4, (1, 1), 1)],
)
def test_gradient_of_a_depthwise_convolution(side, stride, padding, dilation, size):
    torch.manual_seed(0)
    assert equals_autograd(depthwise_input_gradient, nn.Conv2d(4, 4, side, stride, padding, dilation, groups=4), size)


def stem(**options):
    torch.manual_seed(0)
    first = nn.Conv2d(3, 8, 7, stride=2, padding=3, **options)
    strided, dilated = nn.Conv2d(8, 8, 3, stride=2, groups=8), nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8)
    return nn.Sequential(first, nn.ReLU(inplace=True), strided, dilated, nn.Conv2d(8, 4, 3))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_render_with_fast_gradients_is_the_same(precision, monkeypatch):
    options = {"transforms": (), "steps": 4, "execution": fv.Execution(precision)}
    net = toys.network(stem())
    fast = fv.render(net, '"4":1', **options)
    monkeypatch.setattr("featviz.network.fast.conv_backward._faster_backward", lambda conv: None)
    plain = fv.render(net, '"4":1', **options)
    assert (fast.images - plain.images).abs().mean() < (1e-5 if precision == "float32" else 0.02)


def test_gradients_use_the_weights_of_the_forward_pass():
    """LRP rules replace the weights for one forward pass."""
    module, images = stem(), torch.rand(1, 3, 20, 20, requires_grad=True)
    module = working_copy(module)
    speed_up_backward(module)
    out = module[3](module[2](module[0](images)))
    (wanted,) = torch.autograd.grad(out.sum(), images, retain_graph=True)
    for part in (module[0], module[2], module[3]):
        part.weight = nn.Parameter(torch.zeros_like(part.weight))
    (found,) = torch.autograd.grad(out.sum(), images)
    assert torch.equal(found, wanted) and found.any()


def test_outputs_of_a_copy_are_the_same_and_the_module_is_not_changed():
    module, images = stem(), torch.rand(1, 3, 20, 20)
    copy = working_copy(module)
    speed_up_backward(copy)
    assert [name for name, part in copy.named_modules() if "forward" in vars(part)] == ["0", "3"]
    assert not any("forward" in vars(part) for part in module)
    assert torch.equal(copy(images), module(images))


FASTER = {
    "stem": nn.Conv2d(3, 8, 7, stride=2),
    "strided depthwise in bfloat16": nn.Conv2d(8, 8, 3, stride=2, groups=8).bfloat16(),
    "dilated depthwise": nn.Conv2d(8, 8, 3, dilation=2, groups=8),
}
UNCHANGED = {
    "no stride": nn.Conv2d(3, 8, 3),
    "many channels": nn.Conv2d(8, 8, 3, stride=2),
    "reflected padding": nn.Conv2d(3, 8, 3, stride=2, padding_mode="reflect"),
    "strided depthwise": nn.Conv2d(8, 8, 3, stride=2, groups=8),
    "depthwise": nn.Conv2d(8, 8, 3, groups=8).bfloat16(),
    "groups": nn.Conv2d(8, 8, 3, stride=2, groups=4).bfloat16(),
    "wide padding": nn.Conv2d(8, 8, 3, stride=2, padding=3, groups=8).bfloat16(),
    "padding by name": nn.Conv2d(8, 8, 3, padding="same", dilation=2, groups=8),
}


@pytest.mark.parametrize("name", [*FASTER, *UNCHANGED])
def test_only_slow_convolutions_are_replaced(name):
    conv = working_copy((FASTER | UNCHANGED)[name])
    speed_up_backward(conv)
    assert ("forward" in vars(conv)) == (name in FASTER)


def test_a_forward_that_was_replaced_on_a_convolution_is_kept():
    conv = nn.Conv2d(3, 8, 7, stride=2)
    own = conv.forward = lambda x: 2 * x
    speed_up_backward(conv)
    assert conv.forward is own
