"""LRP as gradient times input: every rule compared with a slow restatement, however the network is written."""

import copy

import pytest
import text_toys
import torch
import torch.nn.functional as F
import toys
from torch import nn

import featviz as fv
from featviz import methods
from featviz.apps.explain.methods.lrp.gradient_rules import GradientMode, GradientRules, are_attention_weights
from featviz.apps.explain.request import AttributionRequest

CP, ATTN = GradientRules(halves=False), GradientRules(halves=True)
X = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def relevance(function, *inputs, rules=CP, weight=None):
    """Return the output, and gradient times input of each input, where the output has its own values as relevance."""
    leaves = [x.clone().requires_grad_() for x in inputs]
    with GradientMode(rules):
        out = function(*leaves)
    weight = torch.ones_like(out) if weight is None else weight
    gradients = torch.autograd.grad(out, leaves, weight, allow_unused=True)
    pairs = zip(leaves, gradients, strict=True)
    return out.detach(), [torch.zeros_like(x) if g is None else (x * g).detach() for x, g in pairs]


# ---------------------------------------------------------------------------------------------------- single functions

PASS_ALL = {  # functions of one value, which pass all relevance on: gradient times input is the output
    "gelu": F.gelu,
    "tanh approximation of gelu": nn.GELU("tanh"),
    "silu": F.silu,
    "silu in place": lambda x: F.silu(x.clone(), inplace=True),
    "mish": nn.Mish(),
    "hard swish": lambda x: nn.Hardswish(inplace=True)(x.clone()),
    "tanh": torch.tanh,
    "tanh in place": lambda x: x.clone().tanh_(),
    "elu": F.elu,
    "relu": F.relu,
    "relu6": F.relu6,
    "leaky relu": F.leaky_relu,
    "x / its norm": lambda x: x / x.norm(dim=-1, keepdim=True),
    "normalize": lambda x: F.normalize(x, dim=-1),
    "rms norm": lambda x: F.rms_norm(x, (8,), torch.linspace(1, 2, 8, dtype=x.dtype)),
    "rms norm, written out": lambda x: x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6),
    "rms norm by a power": lambda x: x * (x.square().mean(-1, keepdim=True) + 1e-6) ** -0.5,
    "times a constant, in place": lambda x: x.clone().mul_(3),
}


@pytest.mark.parametrize("name", PASS_ALL)
@pytest.mark.parametrize("rules", [CP, ATTN], ids=["cp", "attn"])
def test_a_function_of_one_value_passes_its_relevance_on(name, rules):
    plain = PASS_ALL[name](X.clone())
    out, (found,) = relevance(PASS_ALL[name], X, rules=rules)
    torch.testing.assert_close(out, plain)
    torch.testing.assert_close(found, plain)


NORMALISATIONS = {
    "layer": (nn.LayerNorm(8), (-1,)),
    "layer over two": (nn.LayerNorm((5, 8)), (-2, -1)),
    "one group": (nn.GroupNorm(1, 5), (1, 2)),
    "instance": (nn.InstanceNorm1d(5, affine=True), (2,)),
}


@pytest.mark.parametrize("name", NORMALISATIONS)
def test_a_normalisation_divides_by_a_constant(name):
    module, dims = copy.deepcopy(NORMALISATIONS[name][0]).double().eval(), NORMALISATIONS[name][1]
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    std = (X.var(dims, unbiased=False, keepdim=True) + 1e-5).sqrt()

    def linear(x):  # the same, whose denominator is known
        normalised = (x - x.mean(dims, keepdim=True)) / std
        weight, bias = module.weight, module.bias
        if name in ("one group", "instance"):
            weight, bias = weight[:, None], bias[:, None]
        return normalised * weight + bias

    out, (found,) = relevance(module, X)
    leaf = X.clone().requires_grad_()
    expected = linear(leaf)
    torch.testing.assert_close(out, expected.detach())
    torch.testing.assert_close(out, module(X).detach())
    (gradient,) = torch.autograd.grad(expected.sum(), leaf)
    torch.testing.assert_close(found, (leaf * gradient).detach())


def test_groups_are_normalised_each_on_its_own():
    x = torch.randn(2, 6, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    module = nn.GroupNorm(3, 6).double()
    out, (found,) = relevance(module, x)
    torch.testing.assert_close(out, module(x).detach())
    for group in range(3):
        part = x[:, 2 * group : 2 * group + 2]
        _, (one,) = relevance(nn.GroupNorm(1, 2).double(), part)
        torch.testing.assert_close(found[:, 2 * group : 2 * group + 2], one)


# ------------------------------------------------------------------------------------------------------------- products


def test_a_product_gives_each_factor_half_or_the_signal_everything():
    gate = Y.sigmoid()
    product = X * gate
    _, (signal, other) = relevance(torch.mul, X, gate, rules=ATTN)
    torch.testing.assert_close(signal, product / 2)
    torch.testing.assert_close(other, product / 2)
    for function, inputs in ((torch.mul, (X, gate)), (lambda g, x: g * x, (gate, X))):
        _, found = relevance(function, *inputs, rules=CP)
        everything, nothing = found if inputs[0] is X else found[::-1]
        torch.testing.assert_close(everything, product)
        assert not nothing.any()


def test_a_square_gives_its_value_everything():
    _, (found,) = relevance(lambda x: x * x, X, rules=ATTN)
    torch.testing.assert_close(found, X * X)


def test_a_product_in_place_writes_to_the_tensor():
    def function(x, y):
        kept = x.clone()
        kept.mul_(y)
        return kept

    out, (one, other) = relevance(function, X, Y, rules=ATTN)
    torch.testing.assert_close(out, X * Y)
    torch.testing.assert_close(one, X * Y / 2)
    torch.testing.assert_close(other, X * Y / 2)


@pytest.mark.parametrize(
    "function",
    [torch.matmul, torch.bmm, lambda a, b: a @ b, lambda a, b: torch.einsum("nij,njk->nik", a, b)],
    ids=["matmul", "bmm", "@", "einsum"],
)
def test_attention_weights_are_constant_or_get_half(function):
    weights = torch.softmax(X @ Y.mT, -1)
    out = function(weights, Y)
    _, (of_weights, of_values) = relevance(function, weights, Y, rules=CP)
    assert not of_weights.any()
    torch.testing.assert_close(of_values, Y * weights.sum(1, keepdim=True).mT)
    _, (of_weights, of_values) = relevance(function, weights, Y, rules=ATTN)
    torch.testing.assert_close(of_weights.sum() + of_values.sum(), out.sum())
    torch.testing.assert_close(of_weights.sum(), out.sum() / 2)


def test_attention_weights_are_rows_that_add_up_to_one():
    assert are_attention_weights(X.softmax(-1))
    assert are_attention_weights(X.softmax(-1).bfloat16())
    assert not are_attention_weights(X)
    assert not are_attention_weights(X.sigmoid())
    assert not are_attention_weights(torch.ones(3))


def gated(x):
    """A gated linear unit."""
    return x[..., :4] * x[..., 4:].sigmoid()


def test_a_gated_linear_unit_is_a_product():
    for rules in (CP, ATTN):
        _, (named,) = relevance(lambda x: F.glu(input=x, dim=-1), X, rules=rules)
        out, (found,) = relevance(F.glu, X, rules=rules)
        torch.testing.assert_close(named, found)
        expected_out, (expected,) = relevance(gated, X, rules=rules)
        torch.testing.assert_close(out, expected_out)
        torch.testing.assert_close(found, expected)


# ------------------------------------------------------------------------------------------------------ weighted sums


@pytest.mark.parametrize(("gamma", "epsilon"), [(0.0, 0.3), (0.5, 0.0), (0.25, 0.1)])
def test_weighted_sums_by_gamma_and_epsilon_restated_by_loops(gamma, epsilon):
    layer = nn.Linear(8, 3).double().requires_grad_(False)
    rules = GradientRules(halves=True, gamma=gamma, epsilon=epsilon)
    out, (found,) = relevance(layer, X[:, 0], rules=rules)
    torch.testing.assert_close(out, layer(X[:, 0]).detach())
    totals = torch.empty(2, 3, dtype=torch.float64)
    parts = torch.zeros(2, 3, 8, dtype=torch.float64)
    for n in range(2):
        for j in range(3):
            terms = [(X[n, 0, i] * layer.weight[j, i]).item() for i in range(8)] + [layer.bias[j].item()]
            sign = 1 if sum(terms) > 0 else -1
            boosted = [term * (1 + gamma if term * sign > 0 else 1) for term in terms]
            totals[n, j] = sum(boosted)
            parts[n, j] = torch.tensor(boosted[:8])
    size = totals.abs()
    stable = torch.where(totals < 0, -1, 1) * (size + epsilon * size.square().mean().sqrt())
    expected = (parts / stable[..., None] * out[..., None]).sum(1)
    torch.testing.assert_close(found, expected)


def test_convolutions_are_weighted_sums_too():
    x = torch.randn(1, 2, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    conv = nn.Conv2d(2, 3, 5).double().requires_grad_(False)
    line = nn.Linear(50, 3).double().requires_grad_(False)
    line.load_state_dict({"weight": conv.weight.detach().flatten(1), "bias": conv.bias.detach()})
    rules = GradientRules(halves=True, gamma=0.5, epsilon=0.1)
    _, (one,) = relevance(conv, x, rules=rules)
    _, (other,) = relevance(line, x.flatten(1), rules=rules)
    torch.testing.assert_close(one.flatten(1), other)


@pytest.mark.parametrize("gamma", [0.0, 0.5])
def test_a_product_with_a_constant_matrix_is_a_linear_layer(gamma):
    layer = nn.Linear(8, 3, bias=False).double().requires_grad_(False)
    biased = nn.Linear(8, 3).double().requires_grad_(False)
    x, rules = X[:, 0], GradientRules(halves=True, gamma=gamma, epsilon=0.2)
    _, (expected,) = relevance(layer, x, rules=rules)
    for function in (
        lambda x: x @ layer.weight.T,
        lambda x: torch.matmul(x, layer.weight.T),
        lambda x: torch.einsum("ni,oi->no", x, layer.weight),
        lambda x: (layer.weight @ x.T).T,
    ):
        torch.testing.assert_close(relevance(function, x, rules=rules)[1][0], expected)
    _, (expected,) = relevance(biased, x, rules=rules)
    for function in (
        lambda x: torch.addmm(biased.bias, x, biased.weight.T),
        lambda x: torch.addmm(input=biased.bias, mat1=x, mat2=biased.weight.T),
    ):
        torch.testing.assert_close(relevance(function, x, rules=rules)[1][0], expected)


# ------------------------------------------------------------------------------------------------------------ attention


class Written(nn.Module):
    """`nn.MultiheadAttention`, written out."""

    def __init__(self, attention, kind):
        super().__init__()
        self.attention, self.kind = attention, kind

    def forward(self, x, mask=None):
        part = self.attention
        triple = [
            F.linear(x, w, b) for w, b in zip(part.in_proj_weight.chunk(3), part.in_proj_bias.chunk(3), strict=True)
        ]
        q, k, v = (each.unflatten(-1, (part.num_heads, -1)).transpose(1, 2) for each in triple)
        if self.kind == "fused":
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        else:
            logits = q @ k.mT * q.shape[-1] ** -0.5
            mixed = (logits if mask is None else logits + mask).softmax(-1) @ v
        return part.out_proj(mixed.transpose(1, 2).flatten(2))


@pytest.mark.parametrize("rules", [CP, ATTN], ids=["cp", "attn"])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_has_the_same_relevance_however_it_is_written(rules, masked):
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(8, 2, batch_first=True).double()
    mask = torch.zeros(5, 5, dtype=torch.float64).masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf)
    mask = mask if masked else None
    kinds = {
        "module": lambda x: attention(x, x, x, attn_mask=mask, need_weights=False)[0],
        "with weights": lambda x: attention(x, x, x, attn_mask=mask)[0],
        "fused": lambda x: Written(attention, "fused")(x, mask),
        "functions": lambda x: Written(attention, "functions")(x, mask),
    }
    out, (expected,) = relevance(kinds["functions"], X, rules=rules)
    torch.testing.assert_close(out, kinds["module"](X).detach())
    for name, kind in kinds.items():
        other, (found,) = relevance(kind, X, rules=rules)
        torch.testing.assert_close(other, out, msg=name)
        torch.testing.assert_close(found, expected, msg=name)


def test_padding_is_hidden_and_weights_are_returned_as_asked():
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(8, 2, batch_first=True).double()
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    for average in (False, True):
        expected = attention(X, X, X, key_padding_mask=padding, average_attn_weights=average)
        leaf = X.clone().requires_grad_()
        with GradientMode(ATTN):
            found = attention(leaf, leaf, leaf, key_padding_mask=padding, average_attn_weights=average)
        torch.testing.assert_close(found[0], expected[0])
        torch.testing.assert_close(found[1], expected[1])


def test_in_cp_lrp_queries_and_keys_get_nothing():
    q, k, v = (torch.randn(1, 2, 4, 3, dtype=torch.float64) for _ in range(3))
    out, (of_q, of_k, of_v) = relevance(F.scaled_dot_product_attention, q, k, v, rules=CP)
    assert not of_q.any()
    assert not of_k.any()
    torch.testing.assert_close(of_v.sum((1, 2)), out.sum((1, 2)))


def test_in_attn_lrp_queries_keys_and_values_get_quarters_and_half_of_the_gradient():
    q, k, v = (torch.randn(1, 2, 4, 3, dtype=torch.float64).requires_grad_() for _ in range(3))
    plain = torch.autograd.grad(F.scaled_dot_product_attention(q, k, v).sum(), (q, k, v))
    _, found = relevance(F.scaled_dot_product_attention, q.detach(), k.detach(), v.detach(), rules=ATTN)
    for x, gradient, share, own in zip((q, k, v), plain, (0.25, 0.25, 0.5), found, strict=True):
        torch.testing.assert_close(own, (share * gradient * x).detach())


# ------------------------------------------------------------------------------------------------------------ recurrent


def slow_lrp_linear(x, weight, bias, out, relevance, eps):
    """The ε-rule of the published LSTM code, for one vector: the bias absorbs its share."""
    result = torch.zeros_like(x)
    for j in range(len(out)):
        sign = 1 if out[j] >= 0 else -1
        for i in range(len(x)):
            result[i] += weight[j, i] * x[i] / (out[j] + eps * sign) * relevance[j]
    return result


def slow_lrp_all(lstm, xs, relevance, eps):
    """LRP-all by loops: the relevance of each input of one sequence, given that of the last hidden state."""
    d = lstm.hidden_size
    w, u, b = lstm.weight_ih_l0, lstm.weight_hh_l0, (lstm.bias_ih_l0 + lstm.bias_hh_l0)
    h, c, seen = torch.zeros(d, dtype=xs.dtype), torch.zeros(d, dtype=xs.dtype), []
    for x in xs:
        z = w @ x + u @ h + b
        i, f, g, o = z[:d].sigmoid(), z[d : 2 * d].sigmoid(), z[2 * d : 3 * d], z[3 * d :].sigmoid()
        before = (h, c)
        c = f * c + i * g.tanh()
        h = o * c.tanh()
        seen.append((x, before, i, f, g, c))
    r_h, r_c, found = relevance, torch.zeros(d, dtype=xs.dtype), []
    eye = torch.eye(d, dtype=xs.dtype)
    for x, (h, c_before), i, f, g, c in reversed(seen):
        r_c = r_c + r_h
        r_g = slow_lrp_linear(i * g.tanh(), eye, None, c, r_c, eps)
        r_c = slow_lrp_linear(f * c_before, eye, None, c, r_c, eps)
        found.append(slow_lrp_linear(x, w[2 * d : 3 * d], None, g, r_g, eps))
        r_h = slow_lrp_linear(h, u[2 * d : 3 * d], None, g, r_g, eps)
    return torch.stack(found[::-1])


@torch.no_grad()
def recurrent(kind, bias=True, **settings):
    torch.manual_seed(0)
    return kind(8, 6, bias=bias, **settings).double()


def test_an_lstm_agrees_with_the_published_rule():
    lstm = recurrent(nn.LSTM)
    xs = X[0]
    leaf = xs[:, None].clone().requires_grad_()
    with GradientMode(CP):
        out = lstm(leaf)[0][-1, 0]
    torch.testing.assert_close(out, lstm(xs[:, None])[0][-1, 0])
    (gradient,) = torch.autograd.grad(out.sum(), leaf)
    found = (leaf * gradient)[:, 0].detach()
    with torch.no_grad():
        expected = slow_lrp_all(lstm, xs, out, 1e-9)
        damped = slow_lrp_all(lstm, xs, out, 1e-3)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-8)
    assert torch.corrcoef(torch.stack([found.flatten(), damped.flatten()]))[0, 1] > 0.99
    plain = torch.autograd.grad(lstm(leaf)[0][-1, 0].sum(), leaf)[0]
    assert (plain - gradient).abs().max() > 1e-3  # the rules change something


KINDS = {
    "LSTM": nn.LSTM,
    "GRU": nn.GRU,
    "tanh": nn.RNN,
    "relu": lambda *sizes, **settings: nn.RNN(*sizes, nonlinearity="relu", **settings),
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    "settings",
    [{}, {"batch_first": True}, {"num_layers": 2}, {"bidirectional": True}, {"num_layers": 2, "bidirectional": True}],
    ids=str,
)
@pytest.mark.parametrize("rules", [CP, ATTN], ids=["cp", "attn"])
def test_recurrent_layers_conserve_relevance_without_biases(name, settings, rules):
    layer = recurrent(KINDS[name], bias=False, **settings)
    leaf = X.clone().requires_grad_()
    with GradientMode(rules):
        out, state = layer(leaf)
    plain, plain_state = layer(X)
    torch.testing.assert_close(out, plain)
    torch.testing.assert_close(state, plain_state)
    (gradient,) = torch.autograd.grad(out[:, -1].sum() + out[0].sum(), leaf)
    total = (out[:, -1].sum() + out[0].sum()).item()
    assert (leaf * gradient).sum().item() == pytest.approx(total, rel=1e-4)


def test_recurrent_layers_with_biases_have_the_same_outputs():
    for name, kind in KINDS.items():
        layer = recurrent(kind, num_layers=2, bidirectional=True)
        leaf = X.clone().requires_grad_()
        with GradientMode(CP):
            out, _ = layer(leaf)
        torch.testing.assert_close(out, layer(X)[0], msg=name)


def test_an_lstm_with_a_projection_and_a_given_state():
    layer = recurrent(nn.LSTM, proj_size=3, num_layers=2)
    state = (torch.randn(2, 5, 3, dtype=torch.float64), torch.randn(2, 5, 6, dtype=torch.float64))
    leaf = X.clone().requires_grad_()
    with GradientMode(CP):
        out, last = layer(leaf, state)
    expected, expected_last = layer(X, state)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(last, expected_last)


CELLS = {"LSTMCell": nn.LSTMCell, "GRUCell": nn.GRUCell, "RNNCell": nn.RNNCell}


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("bias", [False, True])
def test_a_cell_is_the_layer_of_one_step(name, bias):
    cell = recurrent(CELLS[name], bias=bias)
    leaf = X[:, 0].clone().requires_grad_()
    with GradientMode(CP):
        out = cell(leaf)
    expected = cell(X[:, 0])
    torch.testing.assert_close(out, expected)
    first = out[0] if name == "LSTMCell" else out
    (gradient,) = torch.autograd.grad(first.sum(), leaf)
    if not bias:
        torch.testing.assert_close((leaf * gradient).sum(), first.sum(), rtol=1e-4, atol=1e-8)


def test_packed_sequences_of_one_length_run_and_others_are_refused():
    layer = recurrent(nn.LSTM, bidirectional=True)
    leaf = X.clone().requires_grad_()
    pack = nn.utils.rnn.pack_padded_sequence
    with GradientMode(CP):
        out, _ = layer(pack(leaf, torch.tensor([5, 5]), batch_first=True))
    expected, _ = layer(pack(X, torch.tensor([5, 5]), batch_first=True))
    torch.testing.assert_close(out.data, expected.data)
    message = "^LRP takes packed sequences of one length; explain each sequence on its own$"
    with GradientMode(CP), pytest.raises(fv.SettingError, match=message):
        layer(pack(leaf, torch.tensor([5, 3]), batch_first=True))


# ------------------------------------------------------------------------------------------------------ whole networks


class Rows(nn.Module):
    """An LSTM that reads the rows of an image."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3 * 20, 6, batch_first=True, bias=False)
        self.head = nn.Linear(6, 3, bias=False)

    def forward(self, x):
        return self.head(self.lstm(x.transpose(1, 2).flatten(2))[0][:, -1])


IMAGES = torch.rand(2, 3, 16, 20, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("rule", ["cp_lrp", "attn_lrp"])
def test_relevance_of_a_recurrent_network_adds_up_to_the_logit(rule):
    network = toys.network(Rows(), size=(16, 20), classes=("ant", "bee", "cat"))
    found = fv.explain(network, IMAGES, "logit:bee", methods.LRP(rule, epsilon=0, gamma=0))
    torch.testing.assert_close(found.per_channel.sum((1, 2, 3)), found.score, rtol=1e-4, atol=1e-5)
    assert found.delta.abs().max() < 1e-3


def test_the_map_of_an_image_does_not_depend_on_the_batch():
    network = toys.network(Rows(), size=(16, 20), classes=("ant", "bee", "cat"))
    both = fv.explain(network, IMAGES, "logit:bee", "LRP('cp_lrp')").map
    for i in range(2):
        one = fv.explain(network, IMAGES[i : i + 1], "logit:bee", "LRP('cp_lrp')").map
        torch.testing.assert_close(both[i : i + 1], one)


class Convolution(nn.Module):
    """A network without tokens."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.conv(x).relu().mean((2, 3)))


def test_maps_are_summed_over_patches_of_transformers_only():
    network = toys.network(Convolution(), size=(16, 20), classes=("ant", "bee", "cat"))
    found = fv.explain(network, IMAGES, "logit:bee", "LRP('attn_lrp')")
    torch.testing.assert_close(found.map, found.per_channel.sum(1))
    network = fv.load("motifvit")
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    request = AttributionRequest(network, fv.objectives.Logit(1), (64, 64))
    found = methods.LRP("attn_lrp").attribute(request, images)
    assert found.map.shape == (1, 8, 8)
    torch.testing.assert_close(found.map.sum(), found.per_channel.sum(), atol=1e-4, rtol=1e-4)


def test_both_rules_are_found_by_their_names():
    motifvit, image = fv.load("motifvit"), IMAGES[:1, :, :16, :16].repeat(1, 1, 4, 4)
    maps = [fv.explain(motifvit, image, "logit:eye", f"LRP('{rule}')").map for rule in ("cp_lrp", "attn_lrp")]
    assert (maps[0] - maps[1]).abs().max() > 0.01 * maps[0].abs().max()
    with pytest.raises(fv.SettingError, match=r"^rule must be epsilon, .* cp_lrp or attn_lrp, got 'lrp_all'$"):
        methods.LRP("lrp_all")


# ----------------------------------------------------------------------------------------------------------------- text


@pytest.mark.parametrize("kind", ["lstm", "transformer", "tokens first", "convolutions", "end of text"])
@pytest.mark.parametrize("rule", ["cp_lrp", "attn_lrp"])
def test_a_text_has_one_number_a_token(kind, rule):
    network = text_toys.network(kind)
    found = fv.explain(network, text_toys.TEXT, 1, methods.LRP(rule))
    assert found.relevance.shape == (len(found.tokens),)
    assert found.relevance.abs().max() > 0


def test_rules_that_need_the_range_of_the_input_refuse_text():
    message = "deep_taylor needs the range of the input, which embeddings of text do not have; use LRP('cp_lrp')"
    with pytest.raises(fv.SettingError) as caught:
        fv.explain(text_toys.network("convolutions"), text_toys.TEXT, 1, "LRP('deep_taylor')")
    assert str(caught.value) == message


# -------------------------------------------------------------------------------------------- transformers of libraries


def timm_vit():
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    return timm.create_model("vit_tiny_patch16_224", pretrained=False, img_size=64, depth=2, num_classes=5)


def hugging_face_vit():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, image_size=64, patch_size=16,
        num_labels=5,
    )  # fmt: skip
    return transformers.ViTForImageClassification(config)


TRANSFORMER_METHODS = [
    "LRP('cp_lrp')", "LRP('attn_lrp')", "GradientRollout", "Rollout", "Attention", "GradCAM", "gradcam++", "HiResCAM",
    "LayerCAM", "ScoreCAM", "Occlusion(16)", "FeatureAblation(16)", "RISE(20)", "InputXGradient",
    "NoiseTunnel(LRP('attn_lrp'), samples=2, shift=4)",
]  # fmt: skip


@pytest.mark.parametrize("make", [timm_vit, hugging_face_vit])
def test_transformers_of_libraries_run_every_method(make):
    network = fv.Network(make().eval(), size=64, **toys.HALF)
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for name in TRANSFORMER_METHODS:
        found = fv.explain(network, image, 3, name).map[0]
        assert found.shape == (64, 64), name
        assert found.std() > 0, name
