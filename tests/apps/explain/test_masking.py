"""Methods that hide parts of an image, and class activation maps by position: each restated slowly by loops."""

import math

import pytest
import text_toys
import torch
import torch.nn.functional as F
import toys
from torch import nn

import featviz as fv
from featviz import methods
from featviz.apps.explain.request import AttributionRequest

IMAGES = torch.rand(2, 3, 16, 20, generator=torch.Generator().manual_seed(0))


class Small(nn.Module):
    """Two convolutions, a ReLU, and a linear layer of all positions."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(4, 5, 3, padding=1, stride=2)
        self.head = nn.Linear(5 * 80, 3)

    def forward(self, x):
        return self.head(self.conv2(self.conv1(x).relu()).relu().flatten(1))


@pytest.fixture
def small():
    return toys.network(Small(), size=(16, 20), classes=("ant", "bee", "cat"))


def fall(network, image, rows, columns):
    """Return how much the logit falls when some rows and columns have the mean color."""
    hidden = image.clone()
    hidden[:, rows, columns] = torch.tensor(network.input.mean)[:, None, None]
    scores = fv.score(network, "logit:bee", torch.stack([image, hidden]))[:, 0]
    return (scores[0] - scores[1]).item()


@pytest.mark.parametrize(("window", "stride"), [(4, 2), (5, 5), (1, 1)])
def test_occlusion_is_the_mean_fall_of_the_windows_over_a_pixel(small, window, stride):
    found = fv.explain(small, IMAGES, "logit:bee", methods.Occlusion(window, stride)).map
    image, total, count = IMAGES[1], torch.zeros(16, 20), torch.zeros(16, 20)
    for top in range(0, 16 - window + stride, stride):
        for left in range(0, 20 - window + stride, stride):
            place = slice(top, top + window), slice(left, left + window)
            total[place] += fall(small, image, *place)
            count[place] += 1
    torch.testing.assert_close(found[1], total / count, atol=1e-5, rtol=1e-3)


def test_occlusion_has_windows_of_an_eighth_by_default(small):
    found = fv.explain(small, IMAGES, "logit:bee", "occlusion")
    assert torch.equal(found.map, fv.explain(small, IMAGES, "logit:bee", methods.Occlusion(2, 1)).map)


def test_feature_ablation_is_the_fall_of_each_cell(small):
    found = fv.explain(small, IMAGES, "logit:bee", methods.FeatureAblation(5)).map
    for top in range(0, 16, 5):
        for left in range(0, 20, 5):
            place = slice(top, top + 5), slice(left, left + 5)
            expected = torch.full_like(found[0][place], fall(small, IMAGES[0], *place))
            torch.testing.assert_close(found[0][place], expected, atol=1e-5, rtol=1e-3)


def test_windows_that_would_leave_gaps_are_refused(small):
    """The default window is known only when the image is."""
    with pytest.raises(fv.SettingError, match="^stride of Occlusion must be at most the window, 2 px, got 3$"):
        fv.explain(small, IMAGES, "logit:bee", methods.Occlusion(stride=3))


def test_rise_weights_its_masks_by_their_scores(small):
    method = methods.RISE(samples=9, cells=3, seed=4)
    found = fv.explain(small, IMAGES, "logit:cat", method).map
    generator = torch.Generator().manual_seed(4)
    masks = torch.cat([method._mask((16, 20), generator) for _ in range(9)])
    mean = torch.tensor(small.input.mean)[:, None, None]
    scores = [fv.score(small, "logit:cat", (mean + mask * (IMAGES[1] - mean))[None]).item() for mask in masks]
    average = sum(scores) / 9
    expected = sum((score - average) * mask for score, mask in zip(scores, masks, strict=True)) / (9 * 0.5)
    torch.testing.assert_close(found[1], expected, atol=1e-5, rtol=1e-3)


def test_masks_of_rise_are_smooth_and_keep_half_in_the_mean():
    generator = torch.Generator().manual_seed(0)
    masks = torch.cat([methods.RISE()._mask((40, 64), generator) for _ in range(300)])
    assert masks.shape == (300, 40, 64)
    assert masks.min() >= 0
    assert masks.max() <= 1 + 1e-6
    assert masks.mean().item() == pytest.approx(0.5, abs=0.02)
    assert masks.diff(dim=-1).abs().max() < 0.3


class Corner(nn.Module):
    """Responds to red in the upper left corner only."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(2))

    def forward(self, x):
        return x[:, 0, :6, :6].mean((1, 2))[:, None] * self.gain


@pytest.mark.parametrize("method", [methods.Occlusion(4), methods.FeatureAblation(3), methods.RISE(800)], ids=str)
def test_what_matters_is_found(method):
    network = fv.Network(Corner(), size=(24, 24), **toys.HALF)
    image = torch.full((1, 3, 24, 24), 1.0)
    found = fv.explain(network, image, "logit:0", method).map[0]
    inside, outside = found[:6, :6].mean().item(), found[10:, 10:].abs().mean().item()
    assert inside > 5 * outside
    assert found.argmax().item() % 24 < 6


BAD = [
    (lambda: methods.Occlusion(0), "window of Occlusion must be a whole number >= 1, got 0 (px)"),
    (lambda: methods.Occlusion(2.5), "window of Occlusion must be a whole number >= 1, got 2.5 (px)"),
    (lambda: methods.Occlusion(4, 5), "stride of Occlusion must be a whole number in [1, 4], got 5 (px)"),
    (lambda: methods.Occlusion(stride=0), "stride of Occlusion must be a whole number >= 1, got 0 (px)"),
    (lambda: methods.FeatureAblation(0), "cell of FeatureAblation must be a whole number >= 1, got 0 (px)"),
    (lambda: methods.RISE(0), "samples of RISE must be a whole number >= 1, got 0"),
    (lambda: methods.RISE(cells=0), "cells of RISE must be a whole number >= 1, got 0"),
    (lambda: methods.RISE(keep=1.0), "keep of RISE must be in (0, 1), got 1.0 (default 0.5)"),
    (lambda: methods.RISE(keep="a"), "keep of RISE must be in (0, 1), got 'a' (default 0.5)"),
    (lambda: methods.NoiseTunnel(shift=-1), "shift of NoiseTunnel must be a whole number >= 0, got -1 (px, default 0)"),
    (lambda: methods.Smoothed(std=0), "std of Smoothed must be > 0, got 0 (px, default 4)"),
    (lambda: methods.Smoothed("cam"), "method must be an attribution method, such as GradCAM(), got 'cam'"),
    (lambda: methods.LRP("cp_lrp", epsilon=-1), "epsilon of LRP must be >= 0, got -1"),
    (lambda: methods.LRP("gamma", gamma="a"), "gamma of LRP must be a finite number >= 0, got 'a'"),
]


@pytest.mark.parametrize(("make", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_settings_are_named(make, message):
    with pytest.raises(fv.SettingError) as caught:
        make()
    assert str(caught.value) == message


# ------------------------------------------------------------------------------------------------ class activation maps


def layer_and_gradient(network, image):
    """Return the activations of `conv2` and the gradient of a logit in them, by the module itself."""
    module = network.module
    maps = module.conv2(module.conv1((image[None] - 0.5) / 0.5).relu())
    maps = maps.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(module.head(maps.relu().flatten(1))[0, 1], maps)
    return maps.detach()[0], gradient[0]


def enlarged(grid):
    return F.interpolate(grid[None, None], (16, 20), mode="bilinear")[0, 0]


def test_maps_by_position_are_restated(small):
    maps, gradient = layer_and_gradient(small, IMAGES[0])
    expected = {
        "hirescam": (maps * gradient).sum(0),
        "layercam": (maps * gradient.clamp(min=0)).sum(0).clamp(min=0),
        "gradcam": (maps * gradient.mean((1, 2), keepdim=True)).sum(0).clamp(min=0),
    }
    for name, grid in expected.items():
        found = fv.explain(small, IMAGES[:1], "logit:bee", name, layer="conv2").map[0]
        torch.testing.assert_close(found, enlarged(grid), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("name", ["gradcam++", "GradCAMPlusPlus", "gradcampp"])
def test_gradcam_plus_plus_is_restated_by_loops(small, name):
    maps, gradient = layer_and_gradient(small, IMAGES[0])
    weights = []
    for a, g in zip(maps, gradient, strict=True):
        total = 0.0
        for slope in g.flatten().tolist():
            below = 2 * slope**2 + slope**3 * a.sum().item()
            total += (slope**2 / below if below else 0.0) * max(slope, 0.0)
        weights.append(total)
    grid = sum(w * a for w, a in zip(weights, maps, strict=True)).clamp(min=0)
    found = fv.explain(small, IMAGES[:1], "logit:bee", name, layer="conv2").map[0]
    torch.testing.assert_close(found, enlarged(grid), atol=1e-5, rtol=1e-3)


def test_scorecam_is_restated_by_loops(small):
    maps, _ = layer_and_gradient(small, IMAGES[0])
    scores, mean = [], torch.tensor(small.input.mean)[:, None, None]
    for channel in maps:
        mask = enlarged(channel)
        mask = (mask - mask.min()) / (mask.max() - mask.min())
        scores.append(fv.score(small, "logit:bee", (mean + mask * (IMAGES[0] - mean))[None]).item())
    weights = torch.tensor(scores).softmax(0)
    grid = (weights[:, None, None] * maps).sum(0).clamp(min=0)
    found = fv.explain(small, IMAGES[:1], "logit:bee", "scorecam", layer="conv2").map[0]
    torch.testing.assert_close(found, enlarged(grid), atol=1e-5, rtol=1e-3)


def test_hirescam_adds_up_to_the_score_before_linear_layers():
    network = toys.network(Small(), size=(16, 20))
    with torch.no_grad():
        network.module.head.bias.zero_()
    target = fv.objectives.Logit(1)
    request = AttributionRequest(network, target, (16, 20))
    found = methods.HiResCAM("conv2").attribute(request, IMAGES)
    torch.testing.assert_close(found.map.sum((1, 2)), fv.score(network, target, IMAGES)[:, 0], atol=1e-5, rtol=1e-4)


# --------------------------------------------------------------------------------------------------------------- shifts


def test_shifted_copies_are_shifted_back():
    network = fv.Network(Corner(), size=(24, 24), **toys.HALF)
    image = torch.full((1, 3, 24, 24), 1.0)
    plain = fv.explain(network, image, "logit:0", methods.Gradient(absolute=False)).map[0]
    method = methods.NoiseTunnel(methods.Gradient(absolute=False), samples=40, noise=0, shift=3)
    found = fv.explain(network, image, "logit:0", method).map[0]
    generator = torch.Generator().manual_seed(0)
    expected = torch.zeros(24, 24)
    for _ in range(40):
        torch.randn(image.shape, generator=generator)
        down, right = torch.randint(-3, 4, (2,), generator=generator).tolist()
        for y in range(24):
            for x in range(24):
                if 0 <= y + down < 24 and 0 <= x + right < 24:
                    expected[y, x] += plain[y + down, x + right] / 40
    torch.testing.assert_close(found, expected)


# ------------------------------------------------------------------------------------------------------------ smoothing


def test_maps_are_smoothed_with_a_gaussian():
    network, std = fv.Network(Corner(), size=(24, 24), **toys.HALF), 1.5
    image = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    plain = fv.explain(network, image, "logit:0", methods.InputXGradient()).map[0].double()
    found = fv.explain(network, image, "logit:0", methods.Smoothed(methods.InputXGradient(), std)).map[0]
    reach = round(3 * std)
    weights = [math.exp(-(k**2) / (2 * std**2)) for k in range(-reach, reach + 1)]
    mirrored = [abs(i) if i < 24 else 46 - i for i in range(-reach, 24 + reach)]
    expected = torch.zeros(24, 24, dtype=torch.float64)
    for y in range(24):
        for x in range(24):
            for dy, down in enumerate(weights):
                for dx, right in enumerate(weights):
                    weight = down * right / sum(weights) ** 2
                    expected[y, x] += weight * plain[mirrored[y + dy], mirrored[x + dx]]
    torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=1e-4)


def test_text_is_not_smoothed():
    with pytest.raises(fv.SettingError) as caught:
        fv.explain(
            fv.Network(text_toys.Recurrent(), tokens=text_toys.SPEC, classes=("negative", "positive")),
            text_toys.TEXT,
            "logit:positive",
            methods.Smoothed(),
        )
    assert str(caught.value) == "Smoothed filters maps of images; for text, use its method alone"
