"""Expanded weights, compared with composed kernels, contributions of inputs, and their ablation."""

import pytest
import torch
from torch import nn

import featviz as fv
from featviz.apps.circuits.ablate import ablate, falls
from featviz.apps.circuits.contributions import contributions
from featviz.apps.circuits.expand import SKIP, expand, nearest_source
from featviz.apps.circuits.linearise import linearised
from featviz.apps.shared.operations.connections import Connections

HALF = {"mean": (0.5,) * 3, "std": (0.5,) * 3}


def network(module, size=24):
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            part.reset_parameters()
        if isinstance(part, nn.BatchNorm2d) and part.affine:
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
            part.weight.data.uniform_(-1.5, 1.5)
            part.bias.data.normal_()
    return fv.Network(module, size=size, **HALF)


def full(conv):
    """Return the kernel of a convolution without groups and without dilation, by loops."""
    out, _, height, width = conv.weight.shape
    dilation, per_group = conv.dilation[0], conv.in_channels // conv.groups
    found = torch.zeros(out, conv.in_channels, dilation * (height - 1) + 1, dilation * (width - 1) + 1).double()
    for o in range(out):
        for i in range(per_group):
            channel = o // (out // conv.groups) * per_group + i
            for y in range(height):
                for x in range(width):
                    found[o, channel, y * dilation, x * dilation] = conv.weight[o, i, y, x].item()
    return found


def composed(second, first):
    """Return the kernel of two convolutions without strides, one after the other, by loops."""
    out, middle, height, width = second.shape
    found = torch.zeros(out, first.shape[1], height + first.shape[2] - 1, width + first.shape[3] - 1).double()
    for o in range(out):
        for m in range(middle):
            for y in range(height):
                for x in range(width):
                    shape = first.shape[2:]
                    found[o, :, y : y + shape[0], x : x + shape[1]] += second[o, m, y, x] * first[m]
    return found


def folded(kernel, norm):
    return kernel * (norm.weight / (norm.running_var + norm.eps).sqrt()).detach().double()[:, None, None, None]


SECOND = {
    "plain": {"padding": 1},
    "grouped": {"padding": 1, "groups": 2},
    "dilated": {"padding": 2, "dilation": 2},
    "depthwise": {"padding": 1, "groups": 6},
    "dilated depthwise": {"padding": 3, "dilation": 3, "groups": 6},
}


@pytest.mark.parametrize("kind", SECOND)
def test_weights_across_layers_are_the_composed_kernels(kind):
    """With batch normalisation, a rectifier and a pool of stride 1 between the convolutions."""
    second = nn.Conv2d(6, 6, 3, **SECOND[kind])
    parts = [
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.AvgPool2d(3, 1, 1),
        second,
        nn.BatchNorm2d(6),
    ]
    net = network(nn.Sequential(nn.Identity(), *parts, nn.ReLU6(inplace=True)))
    pool = torch.eye(6).double()[:, :, None, None].expand(6, 6, 3, 3) / 9
    first = folded(full(net.module[1]), net.module[2])
    whole = composed(folded(full(second), net.module[6]), composed(pool, first))
    for weights, expected in zip(expand(net, "7", range(6), "0"), whole, strict=True):
        assert weights.kernels.shape == expected.shape
        assert (weights.kernels - expected).abs().max() < 1e-5
        assert weights.weights == pytest.approx(expected.sum((1, 2)).float(), abs=1e-5)
        assert not weights.paths


def test_max_pools_are_average_pools_and_activation_functions_are_identities():
    between = (nn.MaxPool2d(2), nn.GELU(), nn.LeakyReLU(0.1), nn.SiLU(inplace=True), nn.Tanh())
    net = network(nn.Sequential(nn.Conv2d(3, 4, 1), *between, nn.Conv2d(4, 5, 3, padding=1)))
    (found,) = expand(net, "6", [2], "0")
    expected = net.module[6].weight[2].repeat_interleave(2, 1).repeat_interleave(2, 2) / 4
    assert found.kernels == pytest.approx(expected.detach(), abs=1e-6)


def test_a_linear_layer_reads_a_flattened_map():
    net = network(nn.Sequential(nn.Conv2d(3, 4, 3, stride=8), nn.ReLU(), nn.Flatten(), nn.Linear(36, 5)))
    (found,) = expand(net, "3", [1], "1")
    assert found.kernels == pytest.approx(net.module[3].weight[1].detach().view(4, 3, 3), abs=1e-6)


def test_the_head_reads_a_mean():
    net = network(nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(4, 5)), 10)
    (found,) = expand(net, "", [3], "0")
    expected = net.module[3].weight[3].detach()[:, None, None].expand(4, 8, 8) / 64
    assert found.kernels == pytest.approx(expected, abs=1e-7)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.conv1, self.conv2 = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.relu = nn.BatchNorm2d(4), nn.ReLU(inplace=True)
        self.end = nn.Identity()

    def forward(self, x):
        x = self.relu(self.stem(x))
        y = self.norm(self.conv2(self.relu(self.conv1(x))))
        y += x
        return self.end(self.relu(y))


def test_a_residual_block_by_path():
    net = network(Residual())
    module = net.module
    branch = composed(folded(full(module.conv2), module.norm), full(module.conv1))
    for weights, expected in zip(expand(net, "end", range(4), "stem"), branch, strict=True):
        assert weights.paths.keys() == {"conv1 → conv2", SKIP}
        assert weights.paths["conv1 → conv2"] == pytest.approx(expected.float(), abs=1e-5)
        own = torch.zeros(4, 5, 5)
        own[weights.channel, 2, 2] = 1
        assert weights.paths[SKIP] == pytest.approx(own, abs=1e-6)
        assert weights.kernels == pytest.approx(sum(weights.paths.values()), abs=1e-5)


class Gated(nn.Module):
    """Squeeze-and-excitation: the gate is a constant, whatever its weights are."""

    def __init__(self):
        super().__init__()
        self.conv, self.squeeze, self.after = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 5, 1)

    def forward(self, x):
        x = self.conv(x)
        return self.after(x * torch.sigmoid(self.squeeze(x.mean((2, 3), keepdim=True))))


def test_gates_are_constants():
    net = network(Gated())
    image = torch.rand(1, 3, 24, 24)
    with net.session(["conv"]) as forward, torch.no_grad():
        gate = torch.sigmoid(net.module.squeeze(forward(image)["conv"].mean((2, 3), keepdim=True)))[0, :, 0, 0]
    (found,) = expand(net, "after", [1], "conv", images=image)
    assert found.kernels[:, 0, 0] == pytest.approx((net.module.after.weight[1, :, 0, 0] * gate).detach(), abs=1e-5)


@pytest.mark.parametrize(
    "make", [lambda: nn.LayerNorm(5), lambda: nn.GroupNorm(2, 6), lambda: nn.GELU(), lambda: nn.MaxPool1d(2)]
)
def test_linearising_keeps_outputs(make):
    torch.manual_seed(0)
    module, x = make(), torch.randn(2, 6, 5, requires_grad=True)
    with torch.no_grad():
        expected = module(x)
    with linearised():
        assert torch.allclose(module(x), expected, atol=1e-6)


def test_a_layer_normalisation_divides_by_a_constant():
    torch.manual_seed(0)
    norm, x = nn.LayerNorm(5), torch.randn(5, requires_grad=True)
    norm.weight.data.normal_()
    with linearised():
        (found,) = torch.autograd.grad(norm(x[None])[0, 2], x)
    std = (x.detach().var(correction=0) + norm.eps).sqrt()
    expected = norm.weight[2] * (torch.eye(5)[2] - 1 / 5) / std
    assert found == pytest.approx(expected.detach(), abs=1e-6)


def test_attention_weights_are_constants_and_values_are_followed():
    """The path through the heads is OV: the sum over the patches of attention times W_V W_O."""
    vit = fv.load("motifvit", device="cpu")
    block = "encoder.layers.encoder_layer_2"
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    (found,) = expand(vit, f"{block}.self_attention", [7], f"{block}.ln_1", images=image)
    attention = vit.module.get_submodule(f"{block}.self_attention")
    with vit.session([f"{block}.ln_1"], fv.Execution("float32")) as forward, torch.no_grad():
        tokens = forward(image)[f"{block}.ln_1"]
        _, weights = attention(tokens, tokens, tokens, average_attn_weights=False)
    values, width = attention.in_proj_weight[256:], 128 // 4
    middle = 1 + 8 * 4 + 4  # after the class token, row 4, column 4
    expected = torch.zeros(128, 64)
    for head in range(4):
        rows = slice(head * width, (head + 1) * width)
        ov = attention.out_proj.weight[7, rows] @ values[rows]
        expected += torch.outer(ov, weights[0, head, middle, 1:]).detach()
    assert found.kernels == pytest.approx(expected.view(128, 8, 8), abs=1e-5)


def test_sums_of_kernels_are_the_connections_of_the_explorer(motifnet):
    found = Connections(motifnet)
    for layer, channel in (("stage2.1.relu1", 3), ("stage3.2.norm1", 100), ("head", 5)):
        inputs = found.inputs(layer, channel)
        (weights,) = expand(motifnet, layer, [channel], inputs[0][0])
        assert weights.weights == pytest.approx([weight for *_, weight in inputs], abs=1e-5)


SOURCES = {
    "stem": "image", "stage2": "stage2.1", "stage2.1": "stage2.0", "stage2.1.relu1": "stage2.0",
    "stage2.1.conv2": "stage2.1.relu1", "pool": "stage3.1", "": "pool",
}  # fmt: skip


@pytest.mark.parametrize("layer", SOURCES)
def test_the_nearest_source_is_one_through_which_everything_passes(motifnet, layer):
    assert nearest_source(motifnet, layer) == SOURCES[layer]


def test_a_depthwise_convolution_is_passed_over():
    parts = nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 6, 1), nn.ReLU(), nn.Conv2d(6, 6, 3, groups=6), nn.ReLU()
    assert nearest_source(network(nn.Sequential(*parts)), "5") == "1"


def test_no_weights_between(motifnet):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)

        def forward(self, x):
            return self.one(x) + self.two(x)

    for net, layer, source in ((network(Two()), "two", "one"), (motifnet, "stage2.1.relu1", "stage2.1.norm1")):
        with pytest.raises(fv.AddressError) as caught:
            expand(net, layer, [0], source)
        assert str(caught.value) == (
            f"no weights lie between {source!r} and {layer!r} of {net.label}; give a layer before a convolution or "
            f"linear layer that {layer!r} depends on, or leave the source out"
        )


# ------------------------------------------------------------------------------------------ which inputs are strongest


def test_the_strongest_inputs():
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 1, (1, 2), bias=False))
    net = network(module)
    module[1].weight.data = torch.tensor([[1.0, 1.0], [3.0, -1.0], [-5.0, 1.0], [0.5, -2.0]]).view(1, 4, 1, 2)
    (found,) = expand(net, "1", [0], "0")
    assert found.strongest(5) == ([1, 0], [2, 3])
    assert found.strongest(1) == ([1], [2])
    assert found.strongest(5, torch.tensor([2.0, -1.0, 3.0, 0.0])) == ([2, 0], [1])
    assert found.strongest(1, torch.tensor([2.0, -1.0, 3.0, -2.0])) == ([2], [3])


@pytest.mark.parametrize("baseline", [None, 0.3])
def test_contributions_by_loops(baseline):
    """The weights of each input times its activations around the position where the unit is largest."""
    net = network(nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(5, 4, 3, padding=1)), 12)
    images = torch.rand(3, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    acts, expected = net.capture(images, ["0", "1"]), torch.zeros(5)
    given = None if baseline is None else torch.full((5,), baseline)
    for n in range(3):
        y, x = divmod(int(acts["1"][n, 2].argmax()), 12)
        for k in range(5):
            for dy in range(3):
                for dx in range(3):
                    at = y + dy - 1, x + dx - 1
                    if min(at) >= 0 and max(at) < 12:
                        active = acts["0"][n, k, at[0], at[1]].item() - (baseline or 0.0)
                        expected[k] += net.module[1].weight[2, k, dy, dx].item() * active / 3
    found = contributions(net, "1", 2, "0", images, given)
    assert found == pytest.approx(expected, abs=1e-5)
    # The network is linear, so each is also what the response loses without the input.
    lost = falls(net, "1", 2, "0", images, [[k] for k in range(5)], given)[1]
    assert found.tolist() == pytest.approx(lost, abs=1e-5)


def test_contributions_of_colours_and_tokens():
    net = network(nn.Sequential(nn.Conv2d(3, 4, 1)), 8)
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    found = contributions(net, "0", 1, "image", images)
    assert found.tolist() == pytest.approx(falls(net, "0", 1, "image", images, [[0], [1], [2]])[1], abs=1e-5)
    vit, block = fv.load("motifvit", device="cpu"), "encoder.layers.encoder_layer_2"
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    found = contributions(vit, f"{block}.mlp.3", 7, f"{block}.mlp.0", images)
    assert found.shape == (vit.layer(f"{block}.mlp.0").channels,) and found.any()
    with pytest.raises(fv.AddressError):
        contributions(vit, f"{block}.mlp.0", 7, f"{block}.mlp.3", images)


def test_a_negative_activation_excites_by_a_negative_weight():
    net = network(nn.Sequential(nn.Conv2d(3, 2, 1), nn.Conv2d(2, 1, 1, bias=False)))
    net.module[0].weight.data.zero_()
    net.module[0].bias.data = torch.tensor([1.0, -3.0])
    net.module[1].weight.data = torch.tensor([0.5, -2.0]).view(1, 2, 1, 1)
    found = contributions(net, "1", 0, "0", torch.rand(1, 3, 24, 24))
    assert found.tolist() == pytest.approx([0.5, 6.0])
    (weights,) = expand(net, "1", [0], "0")
    assert weights.strongest(2) == ([0], [1]) and weights.strongest(2, found) == ([1, 0], [])


# ------------------------------------------------------------------------------------------ ablation


def test_what_the_response_loses_without_inputs():
    """The layers are linear, so the response loses the weights times the activations at the strongest position."""
    net = network(nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(12, 4, 1)), 12)
    images = torch.rand(3, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    acts = net.capture(images, ["0", "1"])
    sets, expected = ([2], [0, 5, 7]), [0.0, 0.0]
    response = 0.0
    for n in range(3):
        unit = acts["1"][n, 1]
        y, x = divmod(int(unit.argmax()), 12)
        response += unit[y, x].item() / 3
        for i, chosen in enumerate(sets):
            for k in chosen:
                expected[i] += net.module[1].weight[1, k, 0, 0].item() * acts["0"][n, k, y, x].item() / 3
    found, lost = falls(net, "1", 1, "0", images, sets)
    assert found == pytest.approx(response, abs=1e-5) and lost == pytest.approx(expected, abs=1e-5)
    assert falls(net, "1", 1, "0", images, [[2]], torch.ones(12))[1] == pytest.approx(
        [expected[0] - net.module[1].weight[1, 2, 0, 0].item()], abs=1e-5
    )
    made = ablate(net, "1", 1, "0", images, ([2], [0, 5, 7]), single=[2, 3])
    assert made.excitatory == pytest.approx(expected[0], abs=1e-5) and made.single[2] == made.excitatory
    assert made.inhibitory == pytest.approx(expected[1], abs=1e-5) and made.single.keys() == {2, 3}
    assert made == ablate(net, "1", 1, "0", images, ([2], [0, 5, 7]), single=[2, 3])


def test_the_strongest_inputs_of_a_trained_unit_matter_most(motifnet, photo):
    from motifs.draw import draw

    images = draw(torch.arange(54) % 27, (64, 64), torch.Generator().manual_seed(0))
    scores = motifnet.capture(images, ["stage3"])["stage3"].amax((2, 3))
    for weights in expand(motifnet, "stage3", (5, 17, 99), "stage3.1", by_path=False):
        exemplars = images[scores[:, weights.channel].topk(5).indices]
        by_weight = ablate(motifnet, "stage3", weights.channel, "stage3.1", exemplars, weights.strongest(10))
        parts = contributions(motifnet, "stage3", weights.channel, "stage3.1", exemplars)
        found = ablate(motifnet, "stage3", weights.channel, "stage3.1", exemplars, weights.strongest(10, parts))
        assert found.ratio >= by_weight.ratio >= 3


def test_colours_of_the_image_are_ablated_to_grey():
    net = network(nn.Sequential(nn.Conv2d(3, 4, 1)), 8)
    image = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    _, (lost,) = falls(net, "0", 1, "image", image, [[0, 1, 2]])
    at = net.capture(image, ["0"])["0"][0, 1].max().item()
    assert lost == pytest.approx(at - net.module[0].bias[1].item(), abs=1e-5)


@pytest.mark.parametrize("softmax", [torch.softmax, torch.nn.functional.softmax, torch.special.softmax])
def test_every_softmax_is_a_constant(softmax):
    x = torch.randn(4, requires_grad=True)
    with linearised():
        (found,) = torch.autograd.grad((softmax(x, dim=0) * x).sum(), x)
    assert torch.allclose(found, torch.softmax(x.detach(), 0))


class Excited(nn.Module):
    """Squeeze-and-excitation, or another gate, in one of its usual spellings."""

    def __init__(self, spelling):
        super().__init__()
        self.spelling = spelling
        self.stem, self.squeeze = nn.Conv2d(3, 6, 3, padding=1), nn.Linear(6, 6)
        self.after = nn.Conv2d(6, 4, 1)

    def forward(self, x):
        x = self.stem(x)
        pre = self.squeeze(x.mean((2, 3)))
        gate = torch.sigmoid(pre)
        gated = {
            "view first": lambda: x * torch.sigmoid(pre.view(-1, 6, 1, 1)),
            "view": lambda: x * gate.view(-1, 6, 1, 1),
            "index": lambda: gate[:, :, None, None] * x,
            "expand_as": lambda: x * gate.unsqueeze(-1).unsqueeze(-1).expand_as(x),
            "multiply": lambda: torch.multiply(x, gate.reshape(-1, 6, 1, 1)),
            "two gates": lambda: x * (gate * torch.sigmoid(0 * pre + 30)).view(-1, 6, 1, 1),
            "glu": lambda: nn.functional.glu(torch.cat([x, pre.view(-1, 6, 1, 1).expand_as(x)], 1), 1),
        }[self.spelling]()
        return self.after(gated)


@pytest.mark.parametrize("spelling", ["view", "index", "expand_as", "multiply", "two gates", "glu"])
def test_a_gate_is_a_constant_in_any_spelling(spelling):
    image = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    nets = [network(Excited(each)) for each in ("view first", spelling)]
    expected, found = (expand(net, "after", [1], "stem", images=image)[0] for net in nets)
    assert found.kernels.shape == expected.kernels.shape == (6, 1, 1)
    assert spelling == "glu" or not found.paths
    torch.testing.assert_close(found.kernels, expected.kernels, rtol=1e-4, atol=1e-6)


class Normalised(nn.Module):
    """Patches as tokens, normalised, and read by a linear layer."""

    def __init__(self, norm):
        super().__init__()
        self.patch, self.norm, self.out = nn.Conv2d(3, 8, 4, 4), norm, nn.Linear(8, 4)

    def forward(self, x):
        return self.out(self.norm(self.patch(x).flatten(2).transpose(1, 2)))


class ByHand(nn.Module):
    """RMS normalisation as libraries write it."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def forward(self, x):
        square = x.square().mean(-1, keepdim=True) + torch.finfo(x.dtype).eps
        if self.kind == "rsqrt":
            return x * torch.rsqrt(square)
        return x / square.sqrt() if self.kind == "quotient" else x * square.sqrt().reciprocal()


@pytest.mark.parametrize("kind", ["module", "rsqrt", "quotient", "reciprocal"])
def test_a_root_mean_square_is_a_constant(kind):
    norm = nn.RMSNorm(8, elementwise_affine=False) if kind == "module" else ByHand(kind)
    net, image = network(Normalised(norm)), torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    (found,) = expand(net, "out", [1], "patch", images=image)
    with torch.no_grad():
        token = net.capture(image, ["patch"])["patch"][0, :, 3, 3]
    expected = net.module.out.weight[1].detach() / token.square().mean().sqrt()
    center = found.kernels[:, found.kernels.shape[1] // 2, found.kernels.shape[2] // 2]
    torch.testing.assert_close(center, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("norm", "same"),
    [
        (lambda: nn.InstanceNorm2d(6), lambda: nn.GroupNorm(6, 6, affine=False)),
        (lambda: nn.BatchNorm2d(6, affine=False, track_running_stats=False), lambda: nn.GroupNorm(6, 6, affine=False)),
    ],
)
def test_normalisations_that_are_equal_have_equal_weights(norm, same):
    image = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    layers = [nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), make(), nn.Conv2d(6, 4, 1)) for make in (norm, same)]
    expected, found = (expand(network(each), "2", [1], "0", images=image)[0].kernels for each in layers)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["topk", "relu", "jumprelu"])
def test_features_that_are_off_have_the_weights_of_their_encoder(kind, motifnet):
    generator = torch.Generator().manual_seed(0)
    encoder = torch.randn(8, motifnet.table["stage3"].channels, generator=generator)
    gain = 1 + torch.rand(8, generator=generator)
    more = {"k": 2} if kind == "topk" else {"bias": torch.linspace(-90, 90, 8)}
    dictionary = fv.Dictionary(kind=kind, encoder=encoder, gain=gain, **more)
    net = motifnet.with_dictionary("stage3", dictionary)
    found = expand(net, "stage3~", range(8), "stage3")
    for feature, each in enumerate(found):
        torch.testing.assert_close(each.kernels[:, 0, 0], gain[feature] * encoder[feature], rtol=1e-4, atol=1e-5)


class Attending(nn.Module):
    """Attention whose function is called by keywords, or not."""

    def __init__(self, named):
        super().__init__()
        self.named, self.patch, self.qkv, self.out = named, nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 24), nn.Linear(8, 4)

    def forward(self, x):
        query, key, value = self.qkv(torch.flatten(input=self.patch(x), start_dim=2).transpose(1, 2)).chunk(3, -1)
        if self.named:
            mixed = nn.functional.scaled_dot_product_attention(query=query, key=key, value=value)
        else:
            mixed = nn.functional.scaled_dot_product_attention(query, key, value)
        return self.out(mixed)


def test_attention_that_is_called_by_keywords():
    expected, found = (expand(network(Attending(named)), "out", [1], "patch")[0] for named in (False, True))
    assert torch.equal(found.kernels, expected.kernels) and found.kernels.abs().sum() > 0


F = nn.functional


def gate(x):
    return torch.sigmoid(x.sum(-1, keepdim=True))


def normalised_by_neighbours(x):
    return F.local_response_norm(x[..., None], 3, 1.0)[..., 0]


def rms(x):
    return x.square().mean(-1, keepdim=True).sqrt()


@pytest.mark.parametrize(
    ("function", "denominator"),
    [
        (lambda x: F.normalize(x, dim=-1), lambda x: x.norm(dim=-1, keepdim=True)),
        (lambda x: x * (1 / rms(x)), rms),
        (lambda x: x * x.square().mean(-1, keepdim=True).pow(-0.5), rms),
        (lambda x: torch.layer_norm(x, (6,), eps=0.0, cudnn_enable=False), rms),  # of mean 0
        (lambda x: torch.mul(x, other=gate(x)), lambda x: 1 / gate(x)),
        (normalised_by_neighbours, lambda x: x / normalised_by_neighbours(x)),
    ],
)
def test_denominators_and_gates_of_functions_are_constants(function, denominator):
    x = torch.randn(2, 6, generator=torch.Generator().manual_seed(0)).double()
    x = (x - x.mean(-1, keepdim=True)).requires_grad_()
    weights = torch.randn(2, 6, generator=torch.Generator().manual_seed(1)).double()
    with linearised():
        out = function(x)
        (found,) = torch.autograd.grad((weights * out).sum(), x)
    torch.testing.assert_close(out.detach(), function(x.detach()))
    expected = weights / denominator(x.detach())
    centred = expected - expected.mean(-1, keepdim=True)  # of a layer normalisation
    assert torch.allclose(found, expected) or torch.allclose(found, centred)
