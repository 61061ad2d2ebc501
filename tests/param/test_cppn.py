"""Images that a small network computes from coordinates."""

import math

import pytest
import torch

from featviz import param
from featviz.param.cppn import WEIGHT_STEP_SCALE
from featviz.random import Generators


def test_cppn_restated_at_two_sizes():
    cppn = param.CPPN(width=3, depth=2)
    leaves = cppn.start(Generators([0]), 3, (4, 6))
    leaves = [leaf + 0.5 * torch.randn(leaf.shape, generator=torch.Generator().manual_seed(1)) for leaf in leaves]
    canvas = cppn.canvas(leaves, (4, 6))[0]
    for y in range(4):
        for x in range(6):
            inputs = [2 * math.sqrt(3) / 4 * (y + 0.5 - 2), 2 * math.sqrt(3) / 4 * (x + 0.5 - 3)]
            for weight, bias in zip(leaves[:-2:2], leaves[1:-2:2], strict=True):
                units = [
                    WEIGHT_STEP_SCALE
                    * (bias[0, 0, j] + sum(inputs[i] * weight[0, i, j] for i in range(len(inputs)))).item()
                    for j in range(3)
                ]
                bent = [math.atan(unit) for unit in units]
                inputs = [b / 0.67 for b in bent] + [(b * b - 0.45) / 0.396 for b in bent]
            for c in range(3):
                wanted = (
                    WEIGHT_STEP_SCALE
                    * (leaves[-1][0, 0, c] + sum(inputs[i] * leaves[-2][0, i, c] for i in range(6))).item()
                )
                assert canvas[c, y, x].item() == pytest.approx(wanted, abs=1e-5)
    large = cppn.canvas(leaves, (12, 18))[0]
    assert torch.allclose(large[:, 1::3, 1::3], canvas, atol=1e-5)  # every third pixel has the same center


def test_images_of_a_periodic_cppn_can_be_tiled():
    leaves = param.CPPN(periodic=True).start(Generators([0]), 1, (8, 8))
    leaves = [
        leaf + torch.randn(leaf.shape, generator=torch.Generator().manual_seed(i)) for i, leaf in enumerate(leaves)
    ]
    fine = param.CPPN(periodic=True).canvas(leaves, (200, 200))[0, 0]
    for axis in (0, 1):
        seam = (fine.roll(1, axis) - fine).abs().select(axis, 0).max()
        assert seam <= (fine.diff(dim=axis)).abs().max() * 1.01
    last = torch.randn(1, 48, 1, generator=torch.Generator().manual_seed(0))
    leaves = [*param.CPPN().start(Generators([0]), 1, (8, 8))[:-2], last, torch.zeros(1, 1, 1)]
    plain = param.CPPN().canvas(leaves, (200, 200))[0, 0]
    assert (plain.roll(1, 0) - plain).abs()[0].max() > 3 * plain.diff(dim=0).abs().max()  # the check can fail
