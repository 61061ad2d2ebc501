"""Scores of given images, without optimising anything."""

import pytest
import torch

import featviz as fv
from featviz import objectives as obj
from featviz.engine import open_scorer


@pytest.fixture
def images():
    return torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_scores_are_those_of_the_objectives(net, images):
    found = fv.score(net, ["conv2:3", obj.Logit(1), "-tv"], images)
    acts = net.capture(images, ["conv2", ""])
    assert torch.allclose(found[:, 0], acts["conv2"][:, 3].mean((1, 2)), atol=1e-5)
    assert torch.allclose(found[:, 1], acts[""][:, 1], atol=1e-5)
    assert torch.allclose(found[:, 2], -obj.TotalVariation()(acts.of(images)), atol=1e-5)
    assert fv.score(net, "conv2:3", images).shape == (3, 1)


def test_scores_of_an_open_network_are_differentiable(net, images):
    images.requires_grad_()
    with open_scorer(net, ["conv2:3", "logit:1"], (32, 32), layers=["conv1"]) as scorer:
        assert torch.allclose(scorer(images), fv.score(net, ["conv2:3", "logit:1"], images.detach()), atol=1e-5)
        acts = scorer.activations(images)
        assert acts["conv1"].shape == (3, 6, 32, 32)
        (gradient,) = torch.autograd.grad(scorer.scores(acts)[1, 0], images)
    assert gradient[1].abs().sum() > 0 and not gradient[[0, 2]].any()
    assert all(weight.requires_grad for weight in net.module.parameters())  # frozen only while the network is open


def test_images_that_cannot_be_scored(net, images):
    with pytest.raises(
        fv.SettingError, match=r"^Plain expects images of shape \(n, 3, h, w\) in \[0, 1\], got \(3, 32, 32\)$"
    ):
        fv.score(net, "conv2:3", images[0])
    with pytest.raises(
        fv.SettingError,
        match=r"^images holds torch.float32 from -?\S+ to \S+; give floating-point numbers in \[0, 1\]$",
    ):
        fv.score(net, "conv2:3", images - 0.5)
