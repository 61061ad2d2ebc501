"""Each attribution method, compared with a slow restatement of its formula on small networks."""

import math

import pytest
import torch
import torch.nn.functional as F
import toys
from torch import nn

import featviz as fv
from featviz import methods
from featviz.apps.explain.methods.clear import class_attention
from featviz.apps.explain.request import AttributionRequest


class Small(nn.Module):
    """Two convolutions with functional ReLUs, max pooling, global average pooling and a linear layer."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(4, 5, 3, padding=1)
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        return self.head(F.relu(self.conv2(x)).mean((2, 3)))


IMAGES = torch.rand(2, 3, 16, 20, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def small():
    return toys.network(Small(), size=(16, 20), classes=("ant", "bee", "cat"))


def normalised(images):
    return (images - 0.5) / 0.5


def backward_by_hand(network, images, rule):
    """Return the gradient of logit 1 with respect to the images, with rectifiers that map (x, gradient) by a rule."""
    net = network.module
    with torch.no_grad():
        a = net.conv1(normalised(images))
        pooled, where = F.max_pool2d(a.relu(), 2, return_indices=True)
        b = net.conv2(pooled)
        gradient = net.head.weight[1].view(1, -1, 1, 1).expand_as(b) / b[0, 0].numel()
        gradient = F.conv_transpose2d(rule(b, gradient), net.conv2.weight, padding=1)
        gradient = F.max_unpool2d(gradient, where, 2)  # the switches
        return F.conv_transpose2d(rule(a, gradient), net.conv1.weight, padding=1) / 0.5


RECTIFIER_RULES = {
    "Gradient": lambda x, gradient: gradient * (x > 0),
    "DeconvNet": lambda x, gradient: gradient.clamp(min=0),
    "GuidedBackprop": lambda x, gradient: gradient.clamp(min=0) * (x > 0),
}


@pytest.mark.parametrize("name", RECTIFIER_RULES)
def test_gradients_through_rectifiers_follow_their_rules(small, name):
    method = methods.Gradient(absolute=False) if name == "Gradient" else getattr(methods, name)()
    found = fv.explain(small, IMAGES, "logit:bee", method)
    expected = backward_by_hand(small, IMAGES, RECTIFIER_RULES[name])
    torch.testing.assert_close(found.per_channel, expected, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(found.map, expected.sum(1), atol=1e-6, rtol=1e-4)


def test_class_saliency_is_the_largest_gradient_of_a_pixel(small):
    found = fv.explain(small, IMAGES, "logit:bee", "gradient")
    torch.testing.assert_close(found.map, backward_by_hand(small, IMAGES, RECTIFIER_RULES["Gradient"]).abs().amax(1))


def test_input_times_gradient_is_measured_from_the_mean(small):
    found = fv.explain(small, IMAGES, "logit:bee", "inputxgradient")
    torch.testing.assert_close(
        found.per_channel, (IMAGES - 0.5) * backward_by_hand(small, IMAGES, RECTIFIER_RULES["Gradient"])
    )


@pytest.mark.parametrize(("baseline", "start"), [("zero", 0.0), ("mean", 0.5)])
def test_integrated_gradients_are_the_mean_gradient_along_a_line(small, baseline, start):
    found = fv.explain(small, IMAGES, "logit:bee", methods.IntegratedGradients(baseline, 400))
    total = torch.zeros_like(IMAGES)
    for i in range(400):
        point = start + (i + 0.5) / 400 * (IMAGES - start)
        total += backward_by_hand(small, point, RECTIFIER_RULES["Gradient"]) / 400
    torch.testing.assert_close(found.per_channel, (IMAGES - start) * total, atol=2e-4, rtol=1e-2)
    assert found.delta.abs().max() < 0.01


def test_grad_cam_weights_channels_by_their_mean_gradient(small):
    found = fv.explain(small, IMAGES, "logit:bee", "gradcam", layer="conv2")
    net = small.module
    with torch.no_grad():
        maps = net.conv2(F.max_pool2d(net.conv1(normalised(IMAGES)).relu(), 2))
    expected = torch.zeros(2, 8, 10)
    for n in range(2):
        for k in range(5):
            mean_gradient = (maps[n, k] > 0).float().mean() * net.head.weight[1, k].item() / 80
            expected[n] += mean_gradient * maps[n, k]
    expected = F.interpolate(expected.relu()[:, None], (16, 20), mode="bilinear")[:, 0]
    torch.testing.assert_close(found.map, expected, atol=1e-6, rtol=1e-4)
    guided = fv.explain(small, IMAGES, "logit:bee", "guidedgradcam", layer="conv2")
    torch.testing.assert_close(
        guided.per_channel,
        backward_by_hand(small, IMAGES, RECTIFIER_RULES["GuidedBackprop"]) * expected[:, None],
        atol=1e-7,
        rtol=1e-3,
    )


def test_cam_is_the_weighted_map_and_proportional_to_grad_cam(motifnet, photo):
    found = fv.explain(motifnet, photo, "logit:eye", "cam")
    acts = motifnet.capture(photo, ["stage3"])
    weights = motifnet.module.head.weight[motifnet.classes.index("eye")].detach()
    expected = sum(weights[k] * acts["stage3"][0, k] for k in range(len(weights)))
    expected = F.interpolate(expected[None, None], photo.shape[-2:], mode="bilinear")[0, 0]
    torch.testing.assert_close(found.map[0], expected, atol=1e-4, rtol=1e-3)
    request = AttributionRequest(motifnet, fv.objectives.Logit("eye"), tuple(photo.shape[-2:]))
    one, other = (method.attribute(request, photo.clone()).map for method in (methods.CAM(), methods.GradCAM()))
    torch.testing.assert_close(one.relu(), other * one[0].numel(), atol=1e-4, rtol=1e-3)


def test_noise_tunnels_are_statistics_of_the_maps_of_noisy_copies(small):
    plain = methods.InputXGradient()
    generator = torch.Generator().manual_seed(3)
    noisy = 0.1 * torch.cat([torch.randn(1, 3, 16, 20, generator=generator) for _ in range(8)])
    maps = plain.attribute(AttributionRequest(small, fv.objectives.Logit("bee"), (16, 20)), IMAGES[:1] + noisy).map
    expected = {
        "smoothgrad": maps.mean(0),
        "smoothgrad_sq": maps.square().mean(0),
        "vargrad": maps.var(0, unbiased=False),
    }
    for kind, value in expected.items():
        found = fv.explain(small, IMAGES[:1], "logit:bee", methods.NoiseTunnel(plain, kind, 8, 0.1, seed=3))
        torch.testing.assert_close(found.map[0], value, atol=1e-4, rtol=1e-2)


def test_noise_does_not_touch_the_global_random_state(small):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fv.explain(small, IMAGES, "logit:bee", "vargrad")
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(("order", "layout"), [("BGR", "NCHW"), ("RGB", "NHWC")])
def test_maps_do_not_depend_on_channel_order_and_layout(small, order, layout):
    class Other(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            x = x.permute(0, 3, 1, 2) if layout == "NHWC" else x
            return self.inner(x.flip(1) if order == "BGR" else x)

    spec = small.input
    other = fv.Network(
        Other(small.module), size=small.size, mean=spec.mean, std=spec.std, channel_order=order, layout=layout
    )
    for method in ("gradient", "integratedgradients", "LRP('zplus')", "LRP('deep_taylor')", "gradcam"):
        one, two = (fv.explain(net, IMAGES, "logit:1", method) for net in (small, other))
        torch.testing.assert_close(one.map, two.map, atol=1e-5, rtol=1e-3)


def test_class_attention_equals_its_formula():
    generator = torch.Generator().manual_seed(0)
    q, k, c = (torch.randn(2, 6, 4, generator=generator) for _ in range(3))
    shares = class_attention(q, k, c)
    for n in range(2):
        for i in range(6):
            row = [math.exp(float((q[n, i] @ k[n, j] + q[n, i] @ c[n, j]) / 2)) for j in range(6)]
            assert shares[n, i].tolist() == pytest.approx([value / sum(row) for value in row], rel=1e-4)


def test_a_layer_that_the_next_one_changes_in_place_still_has_a_gradient():
    network = toys.plain()
    images = torch.rand(1, 3, 32, 32, requires_grad=True)
    with network.session(["bn1", "conv2"]) as forward:
        acts = forward(images)
        (gradient,) = torch.autograd.grad(acts["conv2"].sum(), acts["bn1"])
    assert (acts["bn1"] < 0).any() and gradient[acts["bn1"] < 0].abs().max() == 0
    assert gradient[acts["bn1"] > 0].abs().max() > 0


@pytest.mark.parametrize("kind", ["smoothgrad", "smoothgrad_sq", "vargrad"])
def test_the_noise_of_an_image_does_not_depend_on_its_batch(small, kind):
    method = methods.NoiseTunnel(methods.Gradient(absolute=False), kind, 6, 0.2, seed=3)
    alone = fv.explain(small, IMAGES[1:], "logit:bee", method).map[0]
    for targets in ("logit:bee", ["logit:cat", "logit:bee"]):
        torch.testing.assert_close(fv.explain(small, IMAGES, targets, method).map[1], alone)
