"""Attention and Rollout, compared with the weights that libraries return and with slow restatements."""

import math
from dataclasses import replace

import pytest
import text_toys
import torch
import torch.nn.functional as F
import toys
from torch import nn

import featviz as fv
from featviz import methods
from featviz.apps.explain.methods.attention_weights import attention_layers, fused_weights
from featviz.apps.explain.request import AttributionRequest

SIDE, GRID = 64, 4


def images(n=2, side=SIDE):
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(1))


def request_of(network):
    return AttributionRequest(network, fv.objectives.Logit(0), network.size)


def layers_of(network):
    """Return the recorded weights of every attention."""
    return [layer.weights for layer in attention_layers(request_of(network), images(side=network.size[0]))]


def map_of(network, method):
    return method.attribute(request_of(network), images(side=network.size[0])).map


def network_of(module, size=SIDE):
    return fv.Network(module.eval(), size=size, **toys.HALF)


def vit_attention(network, images):
    """Return the attention weights of the block, computed by hand."""
    net = network.module
    with torch.no_grad():
        tokens = net.patches((images - 0.5) / 0.5).flatten(2).transpose(1, 2)
        tokens = torch.cat([net.cls.expand(len(images), -1, -1), tokens], 1) + net.place
        q, k, _ = F.linear(tokens, net.block.self_attn.in_proj_weight, net.block.self_attn.in_proj_bias).chunk(3, -1)
        heads = []
        for h in range(2):
            some = slice(6 * h, 6 * h + 6)
            heads.append((q[..., some] @ k[..., some].transpose(1, 2) / math.sqrt(6)).softmax(-1))
    return torch.stack(heads, 1)


def test_attention_and_rollout_are_the_weights_of_the_class_token():
    network = toys.network(toys.Vit())
    weights = vit_attention(network, images(side=32))
    for head in (0, 1, None):
        expected = weights.mean(1) if head is None else weights[:, head]
        torch.testing.assert_close(map_of(network, methods.Attention(0, head)), expected[:, 0, 1:].view(2, 4, 4))
    expected = (0.5 * weights.mean(1) + 0.5 * torch.eye(17))[:, 0, 1:].view(2, 4, 4)
    torch.testing.assert_close(map_of(network, methods.Rollout()), expected)


# ----------------------------------------------------------------------------------------- the weights of libraries


HF = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64, "image_size": SIDE,
    "patch_size": SIDE // GRID,
}  # fmt: skip
FAMILIES = {  # name of the class: number of tokens before the patches, further settings
    "ViT": (1, {}),
    "DeiT": (2, {}),
    "Beit": (1, {"use_relative_position_bias": True}),
    "Dinov2WithRegisters": (5, {"num_register_tokens": 4}),
}


@pytest.fixture(scope="module")
def hugging_face():
    transformers = pytest.importorskip("transformers")

    def build(family, implementation):
        torch.manual_seed(0)
        config = getattr(transformers, f"{family}Config")(**HF, **FAMILIES[family][1], num_labels=5)
        config._attn_implementation = implementation
        module = getattr(transformers, f"{family}ForImageClassification")(config).eval()
        with torch.no_grad():
            for weight in module.parameters():  # sharper attention than that of initial weights
                weight.add_(0.2 * torch.randn_like(weight))
        return network_of(module)

    return build


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("family", FAMILIES)
def test_weights_are_those_that_hugging_face_returns(hugging_face, family, implementation):
    eager, network = hugging_face(family, "eager"), hugging_face(family, implementation)
    prefix = FAMILIES[family][0]
    with torch.no_grad():
        expected = eager.module((images() - 0.5) / 0.5, output_attentions=True).attentions
    found = layers_of(network)
    assert len(found) == len(expected) == 3
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    last = expected[-1].mean(1)[:, 0, prefix:].unflatten(1, (GRID, GRID))
    torch.testing.assert_close(map_of(network, methods.Attention()), last, atol=1e-5, rtol=1e-4)
    rolled = slow_rollout(expected)[:, 0, prefix:].unflatten(1, (GRID, GRID))
    torch.testing.assert_close(map_of(network, methods.Rollout()), rolled, atol=1e-5, rtol=1e-4)


def slow_rollout(layers):
    """Return the share of each token in each token, row by row of Abnar and Zuidema's product."""
    result = []
    for n in range(len(layers[0])):
        count = layers[0].shape[-1]
        mixed = torch.eye(count)
        for layer in layers:
            mean = sum(layer[n, head] for head in range(layer.shape[1])) / layer.shape[1]
            mixed = torch.stack([0.5 * mixed[i] + 0.5 * (mean[i, :, None] * mixed).sum(0) for i in range(count)])
        result.append(mixed)
    return torch.stack(result)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_a_query_that_pools_the_tokens_at_the_end(implementation):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.SiglipVisionConfig(**HF)
    config._attn_implementation = implementation
    network = network_of(transformers.SiglipVisionModel(config))
    *tokens, pooling = layers_of(network)
    assert len(tokens) == 3 and pooling.shape == (2, 2, 1, GRID * GRID)
    torch.testing.assert_close(map_of(network, methods.Attention()), pooling.mean(1).view(2, GRID, GRID))
    rolled = (pooling.mean(1) @ slow_rollout(tokens)).view(2, GRID, GRID)
    torch.testing.assert_close(map_of(network, methods.Rollout()), rolled)


TIMM = {"img_size": SIDE, "patch_size": SIDE // GRID, "embed_dim": 32, "depth": 3, "num_heads": 2, "num_classes": 5}


def timm_network(name, *, fused=True, **more):
    timm = pytest.importorskip("timm")
    timm.layers.set_fused_attn(fused)
    try:
        torch.manual_seed(0)
        module = getattr(timm.models, name)(**{**TIMM, **more})
    finally:
        timm.layers.set_fused_attn(True)
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    return network_of(module)


KINDS = {  # class in timm, further settings, number of attentions over tokens
    "class token": ("VisionTransformer", {}, 3),
    "pooling query": ("VisionTransformer", {"reg_tokens": 4, "class_token": False, "global_pool": "map"}, 4),
    "mean": ("VisionTransformer", {"reg_tokens": 2, "class_token": False, "global_pool": "avg"}, 3),
    "cait": ("Cait", {}, 5),
    "xcit": ("Xcit", {"eta": 1.0}, 2),
}


def kind_of(kind, **more):
    name, settings, _ = KINDS[kind]
    return timm_network(name, **settings, **more)


@pytest.mark.parametrize("kind", KINDS)
def test_timm_gives_the_same_with_and_without_fused_attention(kind):
    fused, unfused = (kind_of(kind, fused=fused) for fused in (True, False))
    assert len(layers_of(fused)) == len(layers_of(unfused)) == KINDS[kind][2]
    for method in (methods.Attention(), methods.Rollout()):
        one, other = (map_of(network, method) for network in (fused, unfused))
        assert one.shape == (2, GRID, GRID)
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_a_class_token_that_joins_later_updates_its_own_row_only():
    network = kind_of("cait")
    *blocks, one, other = layers_of(network)
    assert [layer.shape[-2:] for layer in blocks] == [(16, 16)] * 3 and one.shape[-2:] == other.shape[-2:] == (1, 17)
    patches = slow_rollout(blocks)
    shares = torch.cat([torch.zeros(2, 1, 16), patches], 1)  # the class token holds no patch yet
    for layer in (one, other):
        shares[:, 0] = 0.5 * shares[:, 0] + 0.5 * (layer.mean(1) @ shares)[:, 0]
    torch.testing.assert_close(map_of(network, methods.Rollout()), shares[:, 0].view(2, GRID, GRID))


def test_attention_over_channels_is_none_over_tokens():
    """XCiT's heads have 16 channels here, as many as there are patches."""
    found = layers_of(kind_of("xcit", fused=False))
    assert [layer.shape for layer in found] == [(2, 2, 1, 17)] * 2


def test_registers_leave_before_the_tokens_are_pooled():
    network = kind_of("pooling query")
    *blocks, pooling = layers_of(network)
    assert blocks[0].shape[-1] == 20 and pooling.shape[-1] == 16
    expected = (pooling.mean(1) @ slow_rollout(blocks)[:, 4:])[:, 0, 4:]
    torch.testing.assert_close(map_of(network, methods.Rollout()), expected.view(2, GRID, GRID))


def test_without_a_class_token_the_map_is_the_mean_over_patches():
    network = kind_of("mean")
    last = layers_of(network)[-1].mean(1)
    assert last.shape[-1] == 18
    torch.testing.assert_close(map_of(network, methods.Attention()), last[:, 2:, 2:].mean(1).view(2, GRID, GRID))


@pytest.mark.parametrize("method", [methods.Attention(), methods.Rollout(), methods.Attention(0)])
def test_attention_over_windows_is_refused(method):
    timm = pytest.importorskip("timm")
    module = timm.models.SwinTransformer(32, 4, embed_dim=16, depths=(2, 2), num_heads=(2, 2), window_size=4)
    message = "^attention of SwinTransformer is over windows of 16 tokens, not over the whole input; use e.g. GradCAM$"
    with pytest.raises(fv.SettingError, match=message):
        map_of(network_of(module, size=32), method)


# ---------------------------------------------------------------------------------------- hand-written attention


class Written(nn.Module):
    """Blocks of attention, each written in another way, and a class token at either end or nowhere."""

    FORMS = ("softmax", "bmm", "single head", "fused", "bias", "mask", "multi-head", "dim", "tokens first")

    def __init__(self, forms=FORMS, token="first", reverse=False):
        super().__init__()
        self.forms, self.token, self.reverse = forms, token, reverse
        self.patches = nn.Conv2d(3, 12, 8, stride=8)
        self.cls = nn.Parameter(torch.zeros(1, 1, 12))
        self.place = nn.Parameter(torch.zeros(1, 16 + (token is not None), 12))
        self.qkv = nn.ModuleList(nn.Linear(12, 36) for _ in forms)
        self.multi = nn.MultiheadAttention(12, 2, batch_first=True)
        self.first = nn.MultiheadAttention(12, 2)
        self.bias = nn.Parameter(torch.zeros(2, 17, 17))
        self.head = nn.Linear(12, 3)
        self.seen = []

    def attend(self, form, qkv, x):
        n, t, _ = x.shape
        if form in ("multi-head", "tokens first"):
            attend, x = (self.multi, x) if form == "multi-head" else (self.first, x.transpose(0, 1))
            out, weights = attend(x, x, x, average_attn_weights=False)
            self.seen.append(weights.detach())
            return out if form == "multi-head" else out.transpose(0, 1)
        heads = 1 if form == "single head" else 2
        q, k, v = qkv(x).view(n, t, 3, heads, 12 // heads).permute(2, 0, 3, 1, 4)
        bias = self.bias[:, :t, :t]
        mask = torch.ones(t, t, dtype=torch.bool).tril(3)
        logits = q @ k.transpose(-2, -1) / (12 // heads) ** 0.5
        logits = logits + bias if form == "bias" else logits.masked_fill(~mask, -math.inf) if form == "mask" else logits
        weights = logits.exp() / logits.exp().sum(-1, keepdim=True)  # by hand, so that it is not recorded itself
        self.seen.append(weights.detach())
        if form == "bmm":
            flat = torch.bmm(q.flatten(0, 1), k.flatten(0, 1).transpose(1, 2)).div(6**0.5)
            out = torch.bmm(nn.Softmax(2)(flat), v.flatten(0, 1)).view(n, heads, t, -1)
        elif form == "dim":
            out = F.softmax((k @ q.transpose(-2, -1)) / 6**0.5, dim=-2).transpose(-2, -1) @ v
        elif form in ("fused", "bias", "mask"):
            out = F.scaled_dot_product_attention(q, k, v, {"bias": bias, "mask": mask}.get(form))
        else:
            out = (torch.softmax(logits[:, 0], dim=-1) @ v[:, 0])[:, None] if heads == 1 else logits.softmax(-1) @ v
        return out.transpose(1, 2).reshape(n, t, 12)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = x.flip(1) if self.reverse else x
        cls = self.cls.expand(len(x), -1, -1)
        if self.token is not None:
            x = torch.cat([cls, x] if self.token == "first" else [x, cls], 1)
        x = x + self.place
        self.seen.clear()
        for form, qkv in zip(self.forms, self.qkv, strict=True):
            x = x + self.attend(form, qkv, x)
        return self.head(x.mean(1) if self.token is None else x[:, 0 if self.token == "first" else -1]).softmax(-1)


def written(**more):
    module = Written(**more)
    network = toys.network(module)
    with torch.no_grad():
        module((images(side=32) - 0.5) / 0.5)
    return network, [weights.clone() for weights in module.seen]


@pytest.mark.filterwarnings("ignore:.*nested.*:UserWarning")
def test_however_attention_is_written_its_weights_are_found():
    network, expected = written()
    found = layers_of(network)
    assert len(found) == len(expected) == len(Written.FORMS)  # and not the softmax over the classes
    for form, one, other in zip(Written.FORMS, found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5, msg=form)
    rolled = slow_rollout(expected)[:, 0, 1:].view(2, 4, 4)
    torch.testing.assert_close(map_of(network, methods.Rollout()), rolled)


@pytest.mark.parametrize("token", ["first", "last", None])
@pytest.mark.parametrize("reverse", [False, True])
def test_the_map_follows_the_place_of_the_class_token_and_the_order_of_patches(token, reverse):
    network, expected = written(forms=("fused", "fused"), token=token, reverse=reverse)
    last = expected[-1].mean(1)
    row = {"first": last[:, 0, 1:], "last": last[:, -1, :-1]}.get(token, last.mean(1))
    row = row.flip(1) if reverse else row
    torch.testing.assert_close(map_of(network, methods.Attention()), row.view(2, 4, 4))


FUSED = {
    "plain": {},
    "scale": {"scale": 0.3},
    "causal": {"is_causal": True},
    "boolean": {"attn_mask": torch.rand(5, 7, generator=torch.Generator().manual_seed(0)) > 0.3},
    "numbers": {"attn_mask": torch.randn(2, 1, 5, 7, generator=torch.Generator().manual_seed(0))},
    "shared keys": {"enable_gqa": True},
}


@pytest.mark.parametrize("name", FUSED)
def test_fused_weights_are_those_that_the_fused_function_applies(name):
    generator = torch.Generator().manual_seed(0)
    shared = 2 if name == "shared keys" else 4
    q = torch.randn(2, 4, 5, 3, generator=generator)
    k, v = (torch.randn(2, shared, 7, 3, generator=generator) for _ in range(2))
    weights = fused_weights(q, k, v, **FUSED[name])
    assert weights.shape == (2, 4, 5, 7)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 5))
    expected = F.scaled_dot_product_attention(q, k, v, **FUSED[name])
    torch.testing.assert_close(weights @ v.repeat_interleave(4 // shared, 1), expected)


def test_a_caller_that_asks_for_the_weights_of_multi_head_attention_gets_them():
    class Asking(toys.Vit):
        def forward(self, x):
            tokens = self.patches(x).flatten(2).transpose(1, 2)
            attend = self.block.self_attn
            mean, each, none = (
                attend(tokens, tokens, tokens, need_weights=need, average_attn_weights=average)[1]
                for need, average in ((True, True), (True, False), (False, True))
            )
            assert none is None and each.shape[1] == 2
            torch.testing.assert_close(mean, each.mean(1))
            return self.head(tokens.mean(1))

    assert len(layers_of(toys.network(Asking(fixed=False)))) == 3


class Merging(nn.Module):
    """Attention of 64 tokens, which are then merged into 16."""

    def __init__(self):
        super().__init__()
        self.patches, self.merge, self.head = (
            nn.Conv2d(3, 12, 4, stride=4),
            nn.Conv2d(12, 12, 2, stride=2),
            nn.Linear(12, 3),
        )

    def forward(self, x):
        x = self.patches(x)
        for merge in (self.merge, nn.Identity()):
            n, c, h, w = x.shape
            tokens = x.flatten(2).transpose(1, 2)[:, None]
            x = merge(x + F.scaled_dot_product_attention(tokens, tokens, tokens)[:, 0].transpose(1, 2).view(n, c, h, w))
        return self.head(x.mean((2, 3)))


def test_tokens_that_are_merged_cannot_be_rolled_out():
    network = toys.network(Merging())
    assert map_of(network, methods.Attention(0)).shape == (2, 8, 8)
    assert map_of(network, methods.Attention()).shape == (2, 4, 4)
    with pytest.raises(fv.SettingError, match="^Rollout cannot follow Merging from 64 to 16 tokens; use Attention$"):
        map_of(network, methods.Rollout())


def test_attention_over_a_number_that_no_layer_has_is_named():
    class Odd(toys.Vit):
        def forward(self, x):
            tokens = self.patches(x).flatten(2).transpose(1, 2)[:, None, :13]
            return self.head(F.scaled_dot_product_attention(tokens, tokens, tokens).mean((1, 2)))

    message = "^attention of Odd is over 13 tokens, a number that none of its layers has; use e.g. GradCAM$"
    with pytest.raises(fv.SettingError, match=message):
        map_of(toys.network(Odd()), methods.Attention())


# ----------------------------------------------------------------------------------------------- class-specific rollout


class Readable(nn.Module):
    """Patches and a class token through two attentions, whose weights are kept in the graph."""

    def __init__(self, fused):
        super().__init__()
        torch.manual_seed(0)
        self.patch = nn.Conv2d(3, 8, 8, 8)
        self.cls = nn.Parameter(torch.randn(1, 1, 8))
        self.blocks = nn.ModuleList(nn.MultiheadAttention(8, 2, batch_first=True) for _ in range(2))
        self.head = nn.Linear(8, 3)
        self.mixing, self.tokens = nn.Parameter(torch.zeros(1, 2)), nn.Identity()
        self.fused = fused

    def forward(self, x, kept=None):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = self.tokens(torch.cat([self.cls.expand(len(x), -1, -1), x], 1))
        for part in self.blocks:
            if self.fused:
                x = x + part(x, x, x, need_weights=self.fused == "with weights")[0]
                continue
            triple = F.linear(x, part.in_proj_weight, part.in_proj_bias).chunk(3, -1)
            q, k, v = (each.unflatten(-1, (2, 4)).transpose(1, 2) for each in triple)
            weights = (q @ k.mT / 2).softmax(-1)
            if kept is not None:
                kept.append(weights)
            x = x + part.out_proj((weights @ v).transpose(1, 2).flatten(2))
        return self.head(x[:, 0]) * (1 + self.mixing.softmax(-1).sum())  # a softmax that is no attention


def test_gradient_rollout_is_restated_and_needs_no_certain_implementation():
    images = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    kinds = ("", "fused", "with weights")
    plain, *others = (fv.Network(Readable(kind).eval(), size=(32, 48), **toys.HALF) for kind in kinds)
    kept = []
    logits = plain.module((images - 0.5) / 0.5, kept)
    gradients = torch.autograd.grad(logits[:, 1].sum(), kept)
    relevance = torch.eye(25).repeat(2, 1, 1)
    for weights, gradient in zip(kept, gradients, strict=True):
        relevance = relevance + (gradient * weights).clamp(min=0).mean(1).detach() @ relevance
    expected = relevance[:, 0, 1:].view(2, 4, 6)
    for network in (plain, *others):
        request = AttributionRequest(network, fv.objectives.Logit(1), (32, 48))
        found = methods.GradientRollout().attribute(request, images).map
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)
    other = methods.GradientRollout().attribute(replace(request, target=fv.objectives.Logit(2)), images).map
    assert (other - expected).abs().max() > 1e-4  # it depends on the class


def test_gradient_rollout_of_a_text_reads_the_token_that_the_target_reads():
    network = text_toys.network("transformer")
    found = fv.explain(network, text_toys.TEXT, 0, "gradientrollout").relevance
    assert (found >= 0).all()
    assert found.max() > 0
    network = text_toys.network("end of text")  # a causal attention, read at the largest id, the second token here
    ids = (2, 11, 3, 4)
    found = fv.explain(network, ids, 0, "gradientrollout").relevance
    assert found[1] > 0 or found[0] > 0
    assert found[2:].tolist() == [0, 0]
