"""Groups of inputs, and families of units whose kernels are alike after a rotation."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from featviz.apps.circuits.factorise import group_inputs
from featviz.apps.circuits.families import family_of, kernels_alike, rotate, similarities


def test_groups_are_found_again():
    """Kernels that are non-negative mixtures of two signed ones."""
    generator = torch.Generator().manual_seed(0)
    bases = torch.randn(2, 5, 5, generator=generator)
    shares = torch.rand(12, 2, generator=generator)
    shares[:5, 0] = shares[5:, 1] = 0
    found = group_inputs(torch.einsum("cg,gyx->cyx", shares, bases), 2)
    assert found.explained > 0.999 and (found.shares >= 0).all()
    assert found.shares.norm(dim=1) == pytest.approx(torch.ones(2), abs=1e-5)
    cosine = F.cosine_similarity(found.shares[:, None], shares.T[None], dim=2)
    assert sorted(cosine.argmax(1).tolist()) == [0, 1] and cosine.amax(1).min() > 0.98
    rebuilt = torch.einsum("gc,gyx->cyx", found.shares, found.kernels)
    error = (rebuilt - torch.einsum("cg,gyx->cyx", shares, bases)).square().sum()
    assert 1 - found.explained == pytest.approx((error / rebuilt.square().sum()).item(), abs=1e-3)


def test_updates_never_raise_the_error_and_end_no_worse_than_groups_of_one():
    kernels = torch.randn(20, 3, 3, generator=torch.Generator().manual_seed(1))
    explained = [group_inputs(kernels, 4, steps).explained for steps in (0, 1, 5, 50, 200)]
    assert explained == sorted(explained) and explained[-1] > explained[0] + 0.05
    assert group_inputs(kernels, 1).explained < explained[-1] < group_inputs(kernels, 9).explained <= 1
    again, once = group_inputs(kernels, 4), group_inputs(kernels, 4)
    assert torch.equal(again.shares, once.shares)


def test_kernels_of_zeros_have_no_groups_and_few_inputs_few():
    assert len(group_inputs(torch.zeros(4, 3, 3), 2).shares) == 0
    assert len(group_inputs(torch.eye(3)[:, None], 9).shares) == 3
    assert group_inputs(torch.eye(3)[:, None], 9).explained == pytest.approx(1)


# ------------------------------------------------------------------------------------------ families


def edge(degrees, side=15):
    """Return the kernel of an edge of one colour, at an angle."""
    along = np.arange(side) - (side - 1) / 2
    y, x = np.meshgrid(-along, along, indexing="ij")
    turn = math.radians(degrees)
    across = x * math.cos(turn) + y * math.sin(turn)
    value = np.sin(across * 0.9) * np.exp(-(x**2 + y**2) / 18)
    return torch.tensor(np.stack([value, 0.5 * value, -value]), dtype=torch.float32)


def test_a_rotation_by_a_right_angle_moves_every_weight():
    kernel = torch.arange(27.0).view(1, 3, 3, 3)
    assert rotate(kernel, 90) == pytest.approx(torch.rot90(kernel, 1, (2, 3)), abs=1e-4)
    assert rotate(edge(0)[None], 30)[0] == pytest.approx(edge(30), abs=0.12)


def test_a_family_of_edges_is_found_with_its_angles():
    generator = torch.Generator().manual_seed(0)
    others = torch.randn(4, 3, 15, 15, generator=generator)
    kernels = torch.stack([others[0], edge(10), edge(100), others[1], edge(55), others[2], edge(190), others[3]])
    found = family_of(kernels, 1)
    assert [one.channel for one in found] == [1, 4, 2, 6] and [one.angle for one in found] == [0, 45, 90, 180]
    assert min(one.similarity for one in found) > 0.9
    assert [one.channel for one in family_of(kernels, 0)] == [0]


def test_similarities_are_cosines_within_a_disc():
    kernels = torch.randn(3, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    found = similarities(kernels, angles=4)
    assert found.shape == (4, 3, 3) and found[0].diagonal() == pytest.approx(torch.ones(3), abs=1e-5)
    turned = torch.rot90(kernels, 1, (2, 3))
    vectors = []
    for some in (turned[0], kernels[2]):
        values = []
        for channel in some:
            inside = [channel[y, x].item() for y in range(5) for x in range(5) if (y - 2) ** 2 + (x - 2) ** 2 <= 6.25]
            values += [value - sum(inside) / len(inside) for value in inside]
        vectors.append(np.array(values))
    expected = vectors[0] @ vectors[1] / np.linalg.norm(vectors[0]) / np.linalg.norm(vectors[1])
    assert found[1, 0, 2].item() == pytest.approx(expected, abs=1e-4)


def test_maps_are_cut_to_a_square():
    maps = torch.zeros(2, 3, 9, 9)
    maps[0, 0, 2, 3] = maps[1, 2, 4, 7] = 1
    cut = kernels_alike(maps)
    assert cut.shape == (2, 3, 5, 5) and cut[0, 0, 1, 0] == cut[1, 2, 3, 4] == 1 and cut.sum() == 2


@pytest.mark.parametrize(("rows", "columns"), [(3, 5), (5, 1), (4, 4)])
def test_a_kernel_and_its_half_turn_are_found_alike(rows, columns):
    maps = torch.zeros(2, 2, 12, 12)
    kernel = torch.randn(2, rows, columns, generator=torch.Generator().manual_seed(0))
    maps[0, :, 2 : 2 + rows, 4 : 4 + columns] = kernel
    maps[1, :, 2 : 2 + rows, 4 : 4 + columns] = kernel.flip(1, 2)
    cut = kernels_alike(maps)
    torch.testing.assert_close(rotate(cut, 180)[0], cut[1], atol=1e-5, rtol=0)
