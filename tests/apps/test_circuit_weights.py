"""Expanded weights, compared with composed kernels, and the mathematics of groups, families and ablation."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import featviz as fv
from featviz.apps.circuits.ablate import ablate, falls
from featviz.apps.circuits.contributions import contributions
from featviz.apps.circuits.expand import SKIP, expand, nearest_source
from featviz.apps.circuits.factorise import group_inputs
from featviz.apps.circuits.families import family_of, kernels_alike, rotate, similarities
from featviz.apps.circuits.heads import Heads, circuits_of, strongest_pairs
from featviz.apps.circuits.linearise import linearised
from featviz.apps.explore.connections import Connections

HALF = {"mean": (0.5,) * 3, "std": (0.5,) * 3}


def network(module, size=24):
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            part.reset_parameters()
        if isinstance(part, nn.BatchNorm2d):
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


# ------------------------------------------------------------------------------------------ groups of inputs


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


# ------------------------------------------------------------------------------------------ attention heads


class Attention(nn.Module):
    """Attention with named matrices: one linear layer for queries, keys and values or three, fused or written out.

    Args:
        joint: Compute queries, keys and values by one linear layer, as timm does; else by three, as Hugging Face.
        fused: Use the attention function of PyTorch; else products and a softmax.
        turned: Turn queries and keys by the index of their token, as rotary embeddings do.
    """

    def __init__(self, width=12, heads=3, *, joint=True, fused=True, turned=False):
        super().__init__()
        self.heads, self.fused, self.turned = heads, fused, turned
        self.qkv = nn.Linear(width, 3 * width) if joint else None
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.softmax, self.proj = nn.Softmax(-1), nn.Linear(width, width)

    def forward(self, tokens):
        parts = (self.query, self.key, self.value) if self.qkv is None else ()
        parts = [part(tokens) for part in parts] or self.qkv(tokens).chunk(3, -1)
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        if self.turned:
            at = torch.arange(tokens.shape[1]).to(tokens)[:, None]
            query, key = (torch.cat([x[..., :2] * at.cos(), x[..., 2:] * at.sin()], -1) for x in (query, key))
        if self.fused:
            mixed = nn.functional.scaled_dot_product_attention(query, key, value)
        else:
            mixed = self.softmax(query * query.shape[-1] ** -0.5 @ key.transpose(-2, -1)) @ value
        return self.proj(mixed.transpose(1, 2).flatten(2))

    def matrices(self):
        """Return the matrices of queries, keys, values and of the output."""
        parts = [each.weight for each in (self.query, self.key, self.value)]
        return [*(parts if self.qkv is None else self.qkv.weight.chunk(3)), self.proj.weight]


class Wrapped(nn.Module):
    """A module around an attention, with the same input; with a normalisation, as a block that normalises last."""

    def __init__(self, attention, *, normalised):
        super().__init__()
        self.inner, self.norm = attention, nn.LayerNorm(12) if normalised else None

    def forward(self, tokens):
        mixed = self.inner(tokens)
        return mixed if self.norm is None else self.norm(tokens + mixed)


class Transformer(nn.Module):
    """Patches, and one attention after a normalisation."""

    def __init__(self, attention):
        super().__init__()
        self.patches, self.norm, self.attention = nn.Conv2d(3, 12, 8, 8), nn.LayerNorm(12), attention

    def forward(self, images):
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        return tokens + self.attention(self.norm(tokens))


def products(query, key, value, out, heads):
    """Return OV and QK of each head: products of the rows and columns that belong to it, by loops."""
    width = query.shape[0] // heads
    rows = [slice(head * width, (head + 1) * width) for head in range(heads)]
    ov = torch.stack([out[:, each] @ value[each] for each in rows])
    return ov, torch.stack([query[each].T @ key[each] / width**0.5 for each in rows])


def close_to(found, expected):
    return float((found - expected).abs().max()) <= 1e-5 * float(expected.abs().max())


def check_heads(net, name, matrices, heads, reads):
    """Compare the circuits of an attention with the products of its matrices."""
    found, (ov, qk) = circuits_of(net, name), products(*(each.detach() for each in matrices), heads)
    assert close_to(found.ov, ov) and close_to(found.qk, qk)
    assert (found.name, found.reads) == (name, reads)


def test_circuits_of_heads_describe_the_attention():
    """The logits of an attention without biases are x QK xᵀ; its result is the sum over the heads of A x OVᵀ."""
    torch.manual_seed(0)
    attention = Attention()
    attention.qkv.bias.data.zero_(), attention.proj.bias.data.zero_()
    found = circuits_of(fv.Network(Transformer(attention), size=32, **HALF), "attention")
    x, result = torch.randn(5, 12), torch.zeros(5, 12)
    for head in range(3):
        logits = torch.tensor([[x[i] @ found.qk[head] @ x[j] for j in range(5)] for i in range(5)])
        weights = logits.softmax(1)
        for i in range(5):
            for j in range(5):
                result[i] += weights[i, j] * (found.ov[head] @ x[j])
    assert result == pytest.approx(attention(x[None]).detach()[0], abs=1e-5)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("joint", [True, False])
def test_circuits_of_heads_are_products_of_matrices(joint, fused):
    torch.manual_seed(0)
    attention = Attention(joint=joint, fused=fused)
    net = fv.Network(Transformer(attention), size=32, **HALF)
    check_heads(net, "attention", attention.matrices(), 3, "norm")


@pytest.mark.parametrize("batch_first", [True, False])
def test_circuits_of_heads_of_pytorch(batch_first):
    class Multi(nn.MultiheadAttention):
        def forward(self, tokens):
            given = tokens if batch_first else tokens.transpose(0, 1)
            out = super().forward(given, given, given, need_weights=False)[0]
            return out if batch_first else out.transpose(0, 1)

    torch.manual_seed(0)
    attention = Multi(12, 3, batch_first=batch_first)
    net = fv.Network(Transformer(attention), size=32, **HALF)
    check_heads(net, "attention", [*attention.in_proj_weight.chunk(3), attention.out_proj.weight], 3, "norm")


@pytest.mark.parametrize(("normalised", "name"), [(False, "attention"), (True, "attention.inner")])
def test_the_outermost_module_that_is_bilinear_is_the_attention(normalised, name):
    torch.manual_seed(0)
    inner = Attention()
    net = fv.Network(Transformer(Wrapped(inner, normalised=normalised)), size=32, **HALF)
    (weights,) = expand(net, name, [3], "norm")
    (found,) = Heads(net).of(weights)
    assert found.name == name and close_to(found.ov, products(*inner.matrices(), 3)[0].detach())


def test_heads_whose_matrices_depend_on_the_position_are_refused():
    net = fv.Network(Transformer(Attention(turned=True)), size=32, **HALF)
    with pytest.raises(fv.AddressError) as caught:
        circuits_of(net, "attention")
    assert str(caught.value) == (
        "the heads of 'attention' must have one QK and OV matrix each, those of Transformer depend on the position or "
        "on the other tokens; give another layer"
    )
    (weights,) = expand(net, "attention", [3], "norm")
    assert Heads(net).of(weights) == []


def test_a_module_without_attention_is_refused(motifnet):
    with pytest.raises(fv.AddressError) as caught:
        circuits_of(motifnet, "stage1")
    assert str(caught.value) == "no attention 'stage1' in motifnet; it has none"


@pytest.mark.slow
def test_circuits_of_heads_of_timm():
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    module = timm.models.VisionTransformer(32, 8, embed_dim=24, depth=2, num_heads=3, num_classes=3).eval()
    net, attention = fv.Network(module, size=32, **HALF), module.blocks[1].attn
    matrices = [*attention.qkv.weight.chunk(3), attention.proj.weight]
    for fused in (True, False):
        attention.fused_attn = fused
        check_heads(net, "blocks.1.attn", matrices, 3, "blocks.1.norm1")
    (weights,) = expand(net, "blocks.1", [5], "blocks.0")
    assert [each.name for each in Heads(net).of(weights)] == ["blocks.1.attn"]


@pytest.mark.slow
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_circuits_of_heads_of_hugging_face(implementation):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=24, image_size=32, patch_size=8,
        attn_implementation=implementation,
    )  # fmt: skip
    module = transformers.ViTModel(config, add_pooling_layer=False).eval()
    net = fv.Network(module, size=32, **HALF)
    first, second = (next(name for name in net.table if name.endswith(f".{i}")) for i in range(2))
    (weights,) = expand(net, second, [5], first)
    (found,) = Heads(net).of(weights)
    matrices = [part.weight for part in module.get_submodule(found.name).modules() if isinstance(part, nn.Linear)]
    check_heads(net, found.name, matrices, 3, found.reads)
    assert found.reads.endswith(".1.layernorm_before")


def test_circuits_of_heads_of_torchvision():
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    module = torchvision.models.VisionTransformer(32, 8, 2, 3, 24, 24, num_classes=3).eval()
    net, block = fv.Network(module, size=32, **HALF), "encoder.layers.encoder_layer_1"
    attention = module.get_submodule(f"{block}.self_attention")
    matrices = [*attention.in_proj_weight.chunk(3), attention.out_proj.weight]
    check_heads(net, f"{block}.self_attention", matrices, 3, f"{block}.ln_1")


def test_heads_that_write_into_a_unit():
    vit = fv.load("motifvit", device="cpu")
    block, heads = "encoder.layers.encoder_layer_2", Heads(vit)
    (weights,) = expand(vit, block, [7], "encoder.layers.encoder_layer_1")
    (found,) = heads.of(weights)
    assert (found.name, found.reads) == (f"{block}.self_attention", f"{block}.ln_1")
    assert found.ov.shape == found.qk.shape == (4, 128, 128)
    (weights,) = expand(vit, f"{block}.self_attention", [7], f"{block}.ln_1")
    assert heads.of(weights) == [found]  # probed once
    (weights,) = expand(vit, f"{block}.mlp", [7], f"{block}.ln_2")
    assert heads.of(weights) == []


def test_the_strongest_pairs_have_either_sign():
    qk = torch.tensor([[0.0, 2.0], [-3.0, 1.0]])
    assert strongest_pairs(qk, 2) == [(1, 0, -3.0), (0, 1, 2.0)] and len(strongest_pairs(qk, 9)) == 4
