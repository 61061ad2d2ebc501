"""Receptive fields of signals, volumes and video along each axis: by recursion over kernels, and by gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import featviz as fv

LAYERS = {
    1: [((7,), (2,), (1,)), ((3,), (1,), (4,)), ((4,), (3,), (1,)), ((5,), (1,), (2,))],
    3: [((1, 5, 7), (1, 2, 2), (1, 1, 1)), ((3, 1, 1), (1, 1, 1), (2, 1, 1)), ((3, 3, 2), (2, 1, 2), (1, 2, 1))],
}
"""Kernels, strides and dilations."""
SIZES = {1: (128,), 3: (16, 24, 32)}


def network(count: int, **settings: object) -> fv.Network:
    torch.manual_seed(0)
    conv = nn.Conv1d if count == 1 else nn.Conv3d
    layers = []
    for kernel, stride, dilation in LAYERS[count]:
        padding = tuple((k - 1) * d // 2 for k, d in zip(kernel, dilation, strict=True))
        layers.append(conv(1 if not layers else 3, 3, kernel, stride, padding, dilation))
    return fv.Network(nn.Sequential(*layers).eval(), size=SIZES[count], mean=(0.0,), std=(1.0,), **settings)


def by_recursion(axes: int) -> list[tuple[list[int], list[int]]]:
    """Return the field and the stride along each axis after each layer."""
    found, field, stride = [], [1] * axes, [1] * axes
    for kernel, step, dilation in LAYERS[axes]:
        for i in range(axes):
            field[i] += (kernel[i] - 1) * dilation[i] * stride[i]
            stride[i] *= step[i]
        found.append((list(field), list(stride)))
    return found


@pytest.mark.parametrize("names", ["x", "zyx", "tyx"])
def test_fields_are_those_of_the_recursion_along_each_axis(names):
    axes = len(names)
    net, rows = network(axes, axes=names), []
    for name, (field, stride) in zip(net.table, by_recursion(axes), strict=False):
        found = net.receptive_fields()[name]
        assert (found.px, found.stride) == (field[-1], stride[-1])
        assert found.sides == (tuple(field) if axes == 3 else ())
        rows.append(tuple("x".join(map(str, each if len(set(each)) > 1 else each[:1])) for each in (field, stride)))
    assert len(rows) == len(LAYERS[axes])
    assert [row[4:] for row in net.layers().rows()][: len(rows)] == rows


@pytest.mark.parametrize("axes", [1, 3])
def test_fields_reach_as_far_as_gradients(axes):
    """Where no kernel is dilated, all px between the outermost ones belong to the field."""
    net, size = network(axes), (200,) if axes == 1 else (40, 48, 56)
    x = torch.rand(1, 1, *size, requires_grad=True)
    found, y = net.receptive_fields(), x
    for name, layer in enumerate(net.module):
        y = layer(y)
        middle = y[(0, slice(None), *(side // 2 for side in y.shape[2:]))]
        (gradient,) = torch.autograd.grad(middle.square().sum(), x, retain_graph=True)
        touched = (gradient[0, 0] != 0).nonzero()
        lengths = (touched.amax(0) - touched.amin(0) + 1).tolist()
        assert lengths == list(found[str(name)].sides or [found[str(name)].px]), name


def test_axes_along_which_everything_is_seen_say_all():
    torch.manual_seed(0)

    class OverTime(nn.Module):
        def forward(self, x):
            return x - x.mean(2, keepdim=True)

    module = nn.Sequential(nn.Conv3d(1, 2, (1, 3, 3), padding=(0, 1, 1)), OverTime()).eval()
    net = fv.Network(module, size=(8, 12, 12), mean=(0.0,), std=(1.0,))
    assert [row[4] for row in net.layers().rows()][:2] == ["1x3x3", "allx3x3"]


def test_fields_of_volumes_come_from_the_cache_as_they_were_measured():
    first, second = network(3), network(3)
    assert first.receptive_fields() == second.receptive_fields()
    assert first.receptive_fields()["2"].sides == tuple(by_recursion(3)[2][0])
