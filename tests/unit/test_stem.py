"""The gradient of a strided convolution, found another way, is the same."""

import copy

import pytest
import torch
import toys
from torch import nn

import featviz as fv
from featviz.network.stem import input_gradient, quick_stem


@pytest.mark.parametrize("size", [(16, 16), (17, 23), (12, 31)])
@pytest.mark.parametrize(
    ("side", "stride", "padding"), [(7, 2, (3, 3)), (3, 2, (1, 1)), (4, 4, (0, 0)), (5, 3, (2, 0)), (2, 4, (1, 1))]
)
def test_gradient_of_a_strided_convolution(side, stride, padding, size):
    torch.manual_seed(0)
    images = torch.rand(2, 3, *size, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, 3, side, side, dtype=torch.float64)
    out = torch.nn.functional.conv2d(images, weight, stride=stride, padding=padding)
    gradient = torch.randn_like(out)
    (wanted,) = torch.autograd.grad(out, images, gradient)
    assert torch.allclose(input_gradient(gradient, weight, stride, padding, size), wanted)


def stem(**options):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 7, stride=2, padding=3, **options), nn.ReLU(inplace=True), nn.Conv2d(8, 4, 3))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_render_through_it_is_the_same(precision, monkeypatch):
    options = {"transforms": (), "steps": 4, "plan": fv.Plan(precision)}
    net = toys.network(stem())
    quick = fv.render(net, '"2":1', **options)
    monkeypatch.setattr("featviz.network.stem.FEW", 0)
    plain = fv.render(net, '"2":1', **options)
    assert (quick.images - plain.images).abs().mean() < (1e-5 if precision == "float32" else 0.02)


def test_the_module_is_as_it_was():
    module = stem()
    before, images = copy.deepcopy(module), torch.rand(1, 3, 20, 20)
    with pytest.raises(RuntimeError, match="channels"), quick_stem(module):
        module(images[:, :2])
    assert "forward" not in module[0].__dict__
    assert module(images).equal(before(images))


def test_others_are_left_alone():
    convs = [nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, stride=2), nn.Conv2d(3, 8, 3, stride=2, padding_mode="reflect")]
    with quick_stem(nn.ModuleList(convs)):
        assert all("forward" not in conv.__dict__ for conv in convs)
