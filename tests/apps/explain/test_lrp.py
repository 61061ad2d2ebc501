"""LRP: each operation compared with a slow restatement of its rule, however it is written, and conservation."""

import re

import pytest
import torch
import torch.nn.functional as F
import toys
from PIL import Image
from torch import nn

import featviz as fv
from featviz import methods
from featviz.apps.explain.methods.lrp.method import HALVES
from featviz.apps.explain.methods.lrp.weighted import RULES
from featviz.cli import main

IMAGES = torch.rand(2, 3, 16, 20, generator=torch.Generator().manual_seed(0))
CONSERVING = ("zplus", "alphabeta", "flat", "deep_taylor")


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


class Shortcut(nn.Module):
    """A residual connection, a gate and activations that are all functions, and a depthwise convolution."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(4)
        self.deep = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.gate = nn.Conv2d(4, 4, 1)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = F.relu6(self.norm1(self.conv1(x)))
        x = x + F.silu(self.deep(x))
        x = x * self.gate(F.adaptive_avg_pool2d(x, 1)).sigmoid()
        x = 2 * (x.sigmoid() * x) - 0.1  # a gate of the same shape as the signal, as the first factor; and constants
        return self.head(F.avg_pool2d(x, 2).mean((2, 3)))


def normalised(images):
    return (images - 0.5) / 0.5


@pytest.fixture
def small():
    return toys.network(Small(), size=(16, 20), classes=("ant", "bee", "cat"))


# ------------------------------------------------------------------------------------------------- slow restatements


def zplus(weight, inputs, relevance, padding):
    """Distribute relevance by positive contributions, output by output."""
    padded = F.pad(inputs, (padding,) * 4)
    result = torch.zeros_like(padded)
    side = weight.shape[-1]
    for o in range(weight.shape[0]):
        for y in range(relevance.shape[2]):
            for x in range(relevance.shape[3]):
                window = padded[:, :, y : y + side, x : x + side]
                parts = (window * weight[o]).clamp(min=0)
                total = parts.sum((1, 2, 3), keepdim=True)
                result[:, :, y : y + side, x : x + side] += (
                    parts / (total + 1e-6) * relevance[:, o : o + 1, y : y + 1, x : x + 1]
                )
    return result[:, :, padding : padding + inputs.shape[2], padding : padding + inputs.shape[3]]


def test_lrp_zplus_distributes_by_positive_contributions(small):
    images = IMAGES[:1, :, :8, :8]
    found = fv.explain(small, images, "logit:bee", "LRP('zplus')")
    net = small.module
    with torch.no_grad():
        inputs = normalised(images)
        a = net.conv1(inputs).relu()
        pooled, where = F.max_pool2d(a, 2, return_indices=True)
        b = net.conv2(pooled).relu()
        means = b.mean((2, 3))
        parts = (means * net.head.weight[1]).clamp(min=0)
        score = (means @ net.head.weight[1] + net.head.bias[1]).abs()
        relevance = parts / parts.sum() * score
        relevance = relevance[:, :, None, None] * b / b.sum((2, 3), keepdim=True).clamp(min=1e-9)
        relevance = zplus(net.conv2.weight, pooled, relevance, 1)
        relevance = F.max_unpool2d(relevance, where, 2)
        relevance = zplus(net.conv1.weight, inputs, relevance, 1)
    torch.testing.assert_close(found.per_channel, relevance, atol=1e-4, rtol=1e-2)
    assert found.delta.abs().max() < 0.01
    assert found.map.sum().item() == pytest.approx(score.item(), rel=0.01)


class Opposed(nn.Module):
    """A class that red raises and blue lowers three times as much; so does the channel of `mix`."""

    def __init__(self):
        super().__init__()
        self.pick, self.mix, self.head = nn.Conv2d(3, 2, 1, bias=False), nn.Conv2d(2, 1, 1), nn.Linear(2, 3)
        with torch.no_grad():
            self.pick.weight[:] = torch.tensor([[1.0, 0, 0], [0, 0, 1]])[:, :, None, None]
            self.mix.weight[:] = torch.tensor([[1.0, -3]])[:, :, None, None]
            self.head.weight[:] = torch.tensor([[1.0, -3], [1, 1], [0, 1]])
            self.mix.bias.zero_()
            self.head.bias.zero_()

    def forward(self, x):
        x = F.relu(self.pick(x))
        return self.head(x.mean((2, 3))) + 0 * self.mix(x).mean()


@pytest.mark.filterwarnings("ignore::featviz.FeatvizWarning")  # contributions of one sign only
@pytest.mark.parametrize("target", ["logit:0", "mix:0"])
@pytest.mark.parametrize("rule", sorted({*RULES, *HALVES} - {"flat"}))  # which only tells where a layer looks
def test_evidence_for_a_negative_score_is_positive(rule, target):
    net = fv.Network(Opposed(), size=16, mean=(0.5,) * 3, std=(0.5,) * 3, classes=("ant", "bee", "cat"))
    image = torch.full((3, 16, 16), 0.5)
    image[0, :, :8] = image[2, :, 8:] = 1.0
    assert fv.score(net, target, image[None]).item() < -0.5
    red, blue = (half.sum().item() for half in fv.explain(net, image, target, f"LRP({rule!r})").map[0].split(8, 1))
    assert red > 0.01 and blue < 0.01


class Step(nn.Module):
    """One operation on three channels of 16 x 20 px, whose output the target reads."""

    def __init__(self, operation):
        super().__init__()
        self.operation, self.out = operation, nn.Identity()
        self.anchor = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return self.out(self.operation(x))


X = normalised(IMAGES)
C = torch.linspace(-1, 2, 20)


def shares(total):
    """Return the share of each input in a sum of magnitudes."""
    return X.abs() / total(X.abs())


def twofold(x):
    return x.repeat_interleave(2, -2).repeat_interleave(2, -1)


OPERATIONS = {  # relevance of the inputs, for relevance R of the outputs
    "2 - x": (lambda x: 2 - x, lambda r: r),
    "-x": (torch.neg, lambda r: r),
    "x * constant": (lambda x: C * x, lambda r: r),
    "x / constant": (lambda x: x / (C + 3), lambda r: r),
    "1 / x": (lambda x: 1 / (x + 3), lambda r: r),
    "tanh": (torch.tanh, lambda r: r),
    "sigmoid in place": (lambda x: x.clone().sigmoid_(), lambda r: r),
    "hard swish": (nn.Hardswish(), lambda r: r),
    "softmax": (nn.Softmax(1), lambda r: r),
    "log of softmax": (lambda x: F.log_softmax(x, 1), lambda r: r),
    "power": (lambda x: (x + 3) ** 2.5, lambda r: r),
    "x * sigmoid(x)": (lambda x: x * x.sigmoid(), lambda r: r),
    "sigmoid(x) * x in place": (lambda x: x.sigmoid().mul_(x), lambda r: r),
    "x / its norm": (lambda x: x / x.norm(dim=1, keepdim=True), lambda r: r),
    "normalize": (lambda x: F.normalize(x, dim=1), lambda r: r),
    "local response norm": (nn.LocalResponseNorm(2), lambda r: r),
    "x + x² in place": (lambda x: x.clone().add_(x.square()), lambda r: r),
    "affine": (lambda x: torch.addcmul(C, x, C), lambda r: r),
    "x[::2] - x[1::2]": (
        lambda x: x[:, :, ::2] - x[:, :, 1::2],
        lambda r: r.repeat_interleave(2, 2) * shares(lambda a: (a[:, :, ::2] + a[:, :, 1::2]).repeat_interleave(2, 2)),
    ),
    "mean": (
        lambda x: x.mean(-1),
        lambda r: r[..., None] * shares(lambda a: a.sum(-1, keepdim=True)),
    ),
    "average pool": (
        lambda x: F.avg_pool2d(x, 2),
        lambda r: twofold(r) * shares(lambda a: twofold(4 * F.avg_pool2d(a, 2))),
    ),
    "gated linear unit": (lambda x: F.glu(x, 2), lambda r: torch.cat([r, torch.zeros_like(r)], 2)),
    "transposed": (lambda x: x.mT.flip(-1), lambda r: r.flip(-1).mT),
    "no gradient": (lambda x: x * (1 + x.detach().abs()), lambda r: r),
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_has_a_rule(name):
    operation, expected = OPERATIONS[name]
    network = fv.Network(Step(operation), size=(16, 20), **toys.HALF)
    found = fv.explain(network, IMAGES, "out:1", "LRP('zplus')")
    with torch.no_grad():
        values = operation(X)
    relevance = torch.zeros_like(values)
    relevance[:, 1] = values[:, 1].abs() / values[:, 1][0].numel()
    torch.testing.assert_close(found.per_channel, expected(relevance), atol=1e-5, rtol=1e-3)


# ------------------------------------------------------------------------------------------------------- conservation


@pytest.mark.parametrize("rule", CONSERVING)
def test_relevance_is_conserved_through_residuals_gates_and_functions(rule):
    network = toys.network(Shortcut(), size=(16, 20))
    for target in ("logit:0", "logit:2", "deep:1"):
        found = fv.explain(network, IMAGES, target, methods.LRP(rule))
        assert found.delta.abs().max() < 0.01, (target, found.delta)


class Bare(nn.Module):
    """A unit that all inputs lower, so zplus has nothing to distribute to."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)
        with torch.no_grad():
            self.conv.weight.fill_(-0.1)
            self.conv.bias.fill_(1)

    def forward(self, x):
        return self.conv(x.abs()).mean((2, 3))


def test_a_rule_that_conserves_warns_where_it_does_not():
    network = fv.Network(Bare(), size=(16, 20), **toys.HALF)
    expected = (
        r"^LRP\('zplus'\) of logit:1: contributions miss the guaranteed sum by \d+.\d\d%, more than 5%; "
        r"outputs without positive contributions pass no relevance on; use LRP\('flat'\)$"
    )
    for _ in range(2):  # always, not once
        with pytest.warns(fv.FeatvizWarning, match=expected) as caught:
            fv.explain(network, IMAGES, "logit:1", "LRP('zplus')")
        assert len(caught) == 1
    with pytest.warns(fv.FeatvizWarning, match=expected.replace("logit:1", "logit:0")):
        fv.compare(network, IMAGES[0], ["logit:0"], ["LRP('zplus')", "gradient"])
    for silent in ("LRP('flat')", "LRP('epsilon')", "LRP('zplus', bias=True)"):  # conserves, or promises nothing
        fv.explain(network, IMAGES, "logit:1", silent)
    assert fv.explain(network, IMAGES, "logit:1", "LRP('epsilon')").delta.abs().max() > 0.05


@pytest.mark.filterwarnings("always::featviz.FeatvizWarning")
def test_integrated_gradients_warn_if_the_sum_is_missed(motifnet, photo, tmp_path, capsys):
    message = r"IntegratedGradients\(steps=1\) of logit:eye: contributions miss the guaranteed sum by .*; raise steps,"
    with pytest.warns(fv.FeatvizWarning, match=f"^{message}"):
        fv.explain(motifnet, photo, "logit:eye", methods.IntegratedGradients(steps=1))
    Image.fromarray((photo[0].permute(1, 2, 0) * 255).byte().numpy()).save(tmp_path / "a.png")
    assert main(["explain", "a.png", "--class", "eye", "--method", "IntegratedGradients(steps=1)", "--quiet"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(f"featviz: {message}", line)


# -------------------------------------------------------------------------------------------- operations without a rule


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient


REFUSED = {
    "layer_norm": nn.LayerNorm(20),
    "group_norm": nn.GroupNorm(1, 3),
    "instance_norm": nn.InstanceNorm2d(3),
    "rms_norm": nn.RMSNorm(20),
    "matmul of two activations": lambda x: (x @ x.mT) @ x,
    "attention": lambda x: F.scaled_dot_product_attention(x, x, x),
    "cumsum": lambda x: x.cumsum(1),
    "Doubled": Doubled.apply,
    "fft_r2_c": lambda x: torch.fft.fft(x).abs(),
}


@pytest.mark.parametrize("name", REFUSED)
def test_operations_without_a_rule_are_named(name):
    network = fv.Network(Step(REFUSED[name]), size=(16, 20), **toys.HALF)
    with pytest.raises(
        fv.SettingError, match=rf"^LRP has no rule for {name} in Step; use LRP\('attn_lrp'\) or GradCAM$"
    ):
        fv.explain(network, IMAGES, "out:0", "LRP")


class Beside(Small):
    """Layers without a rule that are not used, come after the target, or only compute a gate."""

    def __init__(self):
        super().__init__()
        self.unused, self.after = nn.LayerNorm(20), nn.GroupNorm(1, 5)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = x * F.softmax(F.layer_norm(x.mean((2, 3)), (4,)), 1)[:, :, None, None]
        x = self.conv2(x)
        return self.head(self.after(x).mean((2, 3)))


def test_only_operations_between_image_and_target_count():
    network = toys.network(Beside(), size=(16, 20))
    assert fv.explain(network, IMAGES, "conv2:1", "LRP('flat')").delta.abs().max() < 0.01
    with pytest.raises(
        fv.SettingError, match=r"^LRP has no rule for group_norm in Beside; use LRP\('attn_lrp'\) or GradCAM$"
    ):
        fv.explain(network, IMAGES, "logit:1", "LRP('flat')")


class Autocast(nn.Module):
    """Computes in bfloat16, whatever the caller does."""

    def __init__(self, module, enabled):
        super().__init__()
        self.module, self.enabled = module, enabled

    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16, enabled=self.enabled):
            return self.module(x)


@pytest.mark.parametrize("rule", ["epsilon", "zplus", "gamma", "epsilon_gamma_box", "cp_lrp"])
def test_autocast_inside_of_a_module_changes_maps_by_rounding(rule):
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.Flatten(1), nn.Linear(4 * 12 * 12, 5))
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    maps = [
        fv.explain(toys.network(Autocast(module, enabled), 16), image, "module.4:1", methods.LRP(rule)).map.flatten()
        for enabled in (False, True)
    ]
    assert torch.corrcoef(torch.stack(maps))[0, 1] > 0.99
