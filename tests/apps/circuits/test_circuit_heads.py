"""Circuits of attention heads, compared with products of their matrices."""

import pytest
import torch
from torch import nn

import featviz as fv
from featviz.apps.circuits.expand import expand
from featviz.apps.circuits.heads import Heads, circuits_of, strongest_pairs

HALF = {"mean": (0.5,) * 3, "std": (0.5,) * 3}


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
