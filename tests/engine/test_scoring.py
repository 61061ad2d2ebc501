"""Scores of given images, without optimising anything."""

import pytest
import torch
import toys

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


@pytest.mark.parametrize(
    ("score", "returned"),
    [
        (lambda acts: acts["conv2"].mean((2, 3)), (1, 8)),
        (lambda acts: acts["conv2"].flatten(), (8 * 16 * 16,)),
        (lambda acts: acts["conv2"].mean(), ()),
        (lambda _: None, "NoneType"),
    ],
)
@pytest.mark.parametrize("use", ["score", "gradient", "gradcam", "occlusion", "accentuate"])
def test_an_objective_must_return_one_score_per_image_everywhere(net, images, score, returned, use):
    goal = obj.objective("conv2")(score)
    uses = {
        "score": lambda: fv.score(net, goal, images[:1]),
        "accentuate": lambda: fv.accentuate(net, images[0], goal, crops=1, steps=1),
    }
    with pytest.raises(fv.SettingError) as caught:
        uses.get(use, lambda: fv.explain(net, images[0], goal, use))()
    assert str(caught.value) == (
        f"an objective must return one score per image, here a tensor of shape (1,); <lambda> returned {returned}"
    )


def test_scores_must_be_real(net, images):
    complex_ = obj.objective("conv2")(lambda acts: torch.fft.fft2(acts["conv2"]).mean((1, 2, 3)))
    for run in (lambda: fv.score(net, complex_, images), lambda: fv.render(net, complex_, steps=1)):
        with pytest.raises(fv.SettingError, match="^scores must be real, and <lambda> returned complex ones;"):
            run()
    count = obj.objective("conv2")(lambda acts: (acts["conv2"] > 0).sum((1, 2, 3)))
    assert torch.equal(fv.score(net, count, images)[:, 0], count(net.capture(images, ["conv2"])).float())


@pytest.mark.parametrize("method", ["gradient", "integratedgradients", "lrp", "gradcam"])
def test_what_needs_a_gradient_says_that_there_is_none(images, method):
    blocked = toys.network(toys.Blocked())
    for run in (
        lambda: fv.explain(blocked, images[0], "conv:1", method),
        lambda: fv.accentuate(blocked, images[0], "conv:1", crops=1, steps=1),
    ):
        with pytest.raises(fv.RenderError, match="^the score has no gradient: the layer does not depend on the image"):
            run()
    assert fv.score(blocked, "conv:1", images).shape == (3, 1)
