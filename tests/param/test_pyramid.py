"""Laplacian pyramids."""

import torch

from featviz import param
from featviz.random import Generators


def test_pyramid_restated():
    pyramid = param.Pyramid(3)
    leaves = pyramid.start(Generators([0]), 2, (9, 14))
    assert [tuple(leaf.shape[2:]) for leaf in leaves] == [(9, 14), (5, 7), (3, 4)]

    def enlarge(image, size):
        out = torch.empty(image.shape[0], image.shape[1], *size)
        h, w = image.shape[2:]
        for y in range(size[0]):
            for x in range(size[1]):
                v = min(max((y + 0.5) * h / size[0] - 0.5, 0), h - 1)
                u = min(max((x + 0.5) * w / size[1] - 0.5, 0), w - 1)
                a, b = int(v), int(u)
                c, d = min(a + 1, h - 1), min(b + 1, w - 1)
                top = image[..., a, b] * (1 - (u - b)) + image[..., a, d] * (u - b)
                low = image[..., c, b] * (1 - (u - b)) + image[..., c, d] * (u - b)
                out[..., y, x] = top * (1 - (v - a)) + low * (v - a)
        return out

    wanted = leaves[0] + enlarge(leaves[1] + enlarge(leaves[2], (5, 7)), (9, 14))
    assert torch.allclose(pyramid.canvas(leaves, (9, 14)), wanted, atol=1e-6)
