"""Scores that are relative do not depend on the scale of a layer, or on an offset of its channels.

Layers of a small scale exist: ConvNeXt and CaiT multiply their branches by about 1e-6 at first.
"""

import math

import pytest
import torch
import torch.nn.functional as F
import toys
from torch import nn

import featviz as fv
from featviz import objectives as obj
from featviz.apps.circuits.factorise import group_inputs
from featviz.apps.dictionaries.factorise import k_means, nonnegative_factors
from featviz.apps.dictionaries.measure import measured
from featviz.objectives.directions import lengths

SCALES = (1e-2, 1e-4, 1e-6)
GENERATOR = torch.Generator().manual_seed(0)
IMAGES, REFERENCE = torch.rand(2, 3, 24, 24, generator=GENERATOR), torch.rand(3, 24, 24, generator=GENERATOR)
VECTOR = torch.randn(6, generator=GENERATOR)
RELATIVE = {
    "match": obj.Match("out", REFERENCE),
    "style": obj.Style("out", REFERENCE),
    "caricature": obj.Caricature("out", REFERENCE),
    "cosine": obj.Cosine("out", VECTOR),
    "distribution": obj.MatchDistribution("out", (REFERENCE, REFERENCE.flip(1))),
    "diversity": obj.Diversity("out"),
}
LINEAR = {
    "direction": obj.Direction("out", VECTOR, power=1.5),
    "neuron": obj.DirectionNeuron("out", VECTOR, power=1.5),
    "tensor": obj.TensorDirection("out", VECTOR[:, None, None].expand(-1, 3, 3).contiguous(), power=1.5),
    "channel": obj.Channel("out", 2),
}


class Scaled(nn.Module):
    """A layer whose output is multiplied by a factor and moved by an offset, and divided by it afterwards."""

    def __init__(self, factor=1.0, offset=0.0):
        super().__init__()
        self.factor, self.offset = factor, offset
        self.conv, self.out, self.head = nn.Conv2d(3, 6, 3, padding=1), nn.Identity(), nn.Linear(6, 4)
        with torch.no_grad():
            for tensor in self.parameters():
                tensor.copy_(torch.randn(tensor.shape, generator=torch.Generator().manual_seed(tensor.numel())) / 3)

    def forward(self, x):
        found = self.out(F.relu(self.conv(x)) * self.factor + self.offset)
        return self.head((found / self.factor).mean((2, 3)))


def scores(objective, **kind):
    return fv.score(toys.network(Scaled(**kind), size=24), objective, IMAGES)


@pytest.mark.parametrize("factor", SCALES)
@pytest.mark.parametrize("name", RELATIVE)
def test_relative_scores_do_not_depend_on_the_scale(name, factor):
    expected = scores(RELATIVE[name])
    assert expected.abs().max() > 1e-4
    torch.testing.assert_close(scores(RELATIVE[name], factor=factor), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("factor", SCALES)
@pytest.mark.parametrize("name", LINEAR)
def test_other_scores_are_proportional_to_it(name, factor):
    expected = scores(LINEAR[name])
    assert expected.abs().max() > 1e-4
    torch.testing.assert_close(scores(LINEAR[name], factor=factor) / factor, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("offset", [30.0, 3000.0])
def test_distributions_do_not_depend_on_an_offset(offset):
    expected = scores(RELATIVE["distribution"])
    torch.testing.assert_close(scores(RELATIVE["distribution"], offset=offset), expected, rtol=2e-2, atol=1e-5)


@pytest.mark.parametrize("objective", [obj.Cosine("out", VECTOR), obj.Direction("out", VECTOR, power=2.0)])
def test_activations_of_zero_have_a_finite_gradient(objective):
    net, images = toys.network(Scaled(1e-30), size=24), torch.zeros(1, 3, 24, 24).requires_grad_()
    with net.session(["out"]) as forward:
        (gradient,) = torch.autograd.grad(objective(forward(images)).sum(), images)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("offset", [0.0, 100.0, 3000.0])
def test_clusters_do_not_depend_on_an_offset(offset):
    centres = torch.tensor([[0.0, 0, 0, 0], [1, 0, 0, 0], [2, 0, 0, 0]])
    generator = torch.Generator().manual_seed(0)
    rows = torch.cat([0.05 * torch.randn(200, 4, generator=generator) + centre for centre in centres])
    found = k_means(rows + offset, 3, 0) - offset
    torch.testing.assert_close(found[found[:, 0].argsort()], centres, atol=0.02, rtol=0)


@pytest.mark.parametrize("factor", SCALES)
def test_factors_do_not_depend_on_the_scale(factor):
    generator = torch.Generator().manual_seed(0)
    rows = torch.rand(120, 3, generator=generator) @ torch.rand(3, 8, generator=generator)
    expected, found = (nonnegative_factors(each, 3, 0).decoder for each in (rows, factor * rows))
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-3)
    kernels = torch.randn(7, 3, 3, generator=generator)
    wanted, groups = (group_inputs(each, 3) for each in (kernels, factor * kernels))
    torch.testing.assert_close(groups.shares, wanted.shares, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(groups.kernels, factor * wanted.kernels, rtol=1e-3, atol=1e-4 * factor)
    assert math.isclose(groups.explained, wanted.explained, abs_tol=1e-6)


class Rows:
    """Collected activations that are given."""

    def __init__(self, rows):
        self.all, self.rows = rows, len(rows)

    def take(self, indices):
        return self.all[indices]


@pytest.mark.parametrize("factor", SCALES)
def test_sparsity_does_not_depend_on_the_scale(factor):
    generator = torch.Generator().manual_seed(0)
    rows = torch.rand(50, 4, generator=generator)
    encoder = torch.randn(6, 4, generator=generator)
    dictionary = fv.Dictionary(kind="relu", encoder=encoder, decoder=encoder)
    expected, found = (measured(dictionary, Rows(each), 25) for each in (rows, factor * rows))
    assert found == pytest.approx(expected, rel=1e-4) and 0 < found["l0"] < 6


@pytest.mark.parametrize("factor", SCALES[:2])  # a score that rises by less than 1e-6 in all counts as rounding
def test_a_rising_score_of_small_scale_is_not_called_constant(factor, recwarn):
    fv.render(toys.network(Scaled(factor), size=24), "out:2", steps=20, robustness_views=0)
    assert not recwarn.list


def test_cosines_of_half_precision_are_finite():
    values = torch.tensor([[[2e-4, 0, 0]], [[0, 0, 0]]], dtype=torch.float16)
    assert (values.sum(1) / lengths(values)).isfinite().all()
