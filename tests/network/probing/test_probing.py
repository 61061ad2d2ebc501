"""What probing tells about outputs: the channel dimension, the places of tokens, and why some have no address."""

import pytest
import torch
import torch.nn.functional as F
import toys
from probing_networks import PATCH, SIDE, WIDTH, Fixed, Tokens, message_of, net_of, refusal
from torch import Tensor, nn

import featviz as fv


@pytest.fixture(autouse=True)
def always_the_same_weights():
    torch.manual_seed(0)


# ---------------------------------------------------------------------------------------------- channels


@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("package", ["torchvision.models.convnext", "timm.layers"])
@pytest.mark.parametrize("width", [6, 8])  # also as many channels as rows
def test_layer_norms_of_maps_with_channels_first(package, width, fixed):
    norm = pytest.importorskip(package).LayerNorm2d
    body = nn.Sequential(nn.Conv2d(3, width, 4, stride=4), norm(width), nn.GELU(), nn.Conv2d(width, 5, 1))
    net = toys.network(Fixed(body) if fixed else body)
    assert net.fixed_size == fixed
    name = "body.1" if fixed else "1"
    layer = net.layer(name)
    assert (layer.layout.kind, layer.layout.channel, layer.channels, layer.map_size) == ("map", 1, width, (8, 8))
    images = torch.rand(2, 3, SIDE, SIDE)
    body.eval()
    expected = body[1](body[0]((images - 0.5) / 0.5))
    torch.testing.assert_close(net.capture(images, [name]).as_map(name), expected)
    assert [row[3] for row in net.layers().rows() if row[0] == name] == [str(width)]


class ToLast(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)


class ToFirst(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 3, 1, 2)


@pytest.mark.parametrize("width", [5, 8])  # 8 is also the number of rows
@pytest.mark.parametrize("size", [(32, 32), (32, 48)])
def test_maps_with_channels_last_in_a_network_of_fixed_size(width, size):
    body = nn.Sequential(
        nn.Conv2d(3, width, 4, stride=4), ToLast(), nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), ToFirst()
    )
    net = toys.network(Fixed(body, size), size=size)
    assert net.fixed_size
    images = torch.rand(1, 3, *size)
    expected = (images - 0.5) / 0.5
    captured = net.capture(images, [f"body.{i}" for i in range(6)])
    for i, part in enumerate(body):
        expected = part(expected)
        layer = net.table[f"body.{i}"]
        last = 0 < i < 5
        assert (layer.layout.kind, layer.layout.channel) == ("map", 3 if last else 1), i
        torch.testing.assert_close(captured.as_map(f"body.{i}"), expected.movedim(3, 1) if last else expected)


class Transposed(nn.Module):
    """Swaps rows and columns before an activation, and swaps them back."""

    def __init__(self, last: bool = False) -> None:
        super().__init__()
        self.conv, self.act, self.last = nn.Conv2d(3, 5, 4, stride=4), nn.GELU(), last

    def forward(self, x: Tensor) -> Tensor:
        swapped = self.conv(x).permute((0, 3, 2, 1) if self.last else (0, 1, 3, 2))
        swapped = self.act(swapped)
        return swapped.permute((0, 3, 2, 1) if self.last else (0, 1, 3, 2))


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("size", [(32, 32), (32, 48)])
def test_maps_whose_columns_come_before_their_rows(size, fixed, last):
    body = Transposed(last)
    net = toys.network(Fixed(body, size) if fixed else body, size=size)
    name = "body.act" if fixed else "act"
    images = torch.rand(1, 3, *size)
    layout = net.layer(name).layout
    assert (layout.kind, layout.channel, layout.transposed) == ("map", 3 if last else 1, True)
    acts = net.capture(images, [name])
    expected = F.gelu(body.conv((images - 0.5) / 0.5))
    torch.testing.assert_close(acts.as_map(name), expected)
    torch.testing.assert_close(acts.neuron(name, 2, (1, 6)), expected[:, 2, 1, 6])
    # A mask over the upper left corner restricts the gradient to it.
    mask = torch.zeros(size)
    mask[:8, :4] = 1
    seen = images.clone().requires_grad_()
    acts = net.capture(seen, [name]).of(seen)
    acts.within(mask, [name]).channels_first(name).sum().backward()
    assert torch.equal(seen.grad.abs().sum((0, 1)) > 0, mask > 0)


def test_the_receptive_field_of_a_transposed_map_is_that_of_its_columns():
    net = toys.network(Transposed(), size=(32, 48))
    found = net.receptive_fields()
    assert (found["act"].px, found["act"].stride) == (4, 4)


# ---------------------------------------------------------------------------------------------- what has no address


class Heads(nn.Module):
    """Attention whose weights, and values by head, are outputs of modules."""

    def __init__(self, heads: int = 2) -> None:
        super().__init__()
        self.patches, self.heads = nn.Conv2d(3, WIDTH, PATCH, stride=PATCH), heads
        self.qkv, self.softmax, self.drop = nn.Linear(WIDTH, 3 * WIDTH), nn.Softmax(-1), nn.Identity()
        self.per_head, self.project, self.head = nn.Identity(), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).mT
        q, k, v = self.qkv(tokens).view(len(x), -1, 3, self.heads, WIDTH // self.heads).permute(2, 0, 3, 1, 4)
        weights = self.drop(self.softmax(q @ k.mT))
        mixed = self.per_head(weights @ v).transpose(1, 2).flatten(2)
        return self.head((tokens + self.project(mixed)).mean(1))


def test_attention_weights_and_tokens_by_head_are_refused_with_their_reason():
    net = toys.network(Heads())
    assert not net.fixed_size
    for name in ("softmax", "drop"):
        assert refusal(net, name) == (
            f"layer {name!r} of Heads cannot be addressed: its output is a matrix of tokens by tokens, as attention "
            f"weights are"
        )
    assert refusal(net, "per_head").startswith(
        "layer 'per_head' of Heads cannot be addressed: its output has one dimension of positions and two others, as "
        "heads and their channels"
    )
    assert set(net.table) == {"patches", "qkv", "project", "head", ""}
    assert net.table["project"].layout.patch == PATCH


def test_attention_weights_in_a_network_of_fixed_size_are_no_map():
    net = toys.network(Fixed(Heads()))
    assert net.fixed_size
    for name, shape in (("softmax", "2 x 16 x 16"), ("per_head", "2 x 16 x 6")):
        assert refusal(net, f"body.{name}").startswith(
            f"layer 'body.{name}' of Fixed cannot be addressed: it is unclear which dimensions of its "
            f"output {shape} are channels, rows and columns"
        )


class Windows(nn.Module):
    """Folds windows of 4 x 4 positions into the batch, and unfolds them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.inner, self.after = nn.Conv2d(3, 6, 4, stride=4), nn.Linear(6, 6), nn.Linear(6, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).permute(0, 2, 3, 1)
        n, h, w, c = x.shape
        windows = x.view(n, h // 4, 4, w // 4, 4, c).transpose(2, 3).reshape(-1, 16, c)
        windows = self.inner(windows).view(n, h // 4, w // 4, 4, 4, c).transpose(2, 3).reshape(n, h, w, c)
        return self.head(self.after(windows).mean((1, 2)))


def test_windows_folded_into_the_batch_are_refused_with_their_reason():
    net = toys.network(Windows())
    assert refusal(net, "inner").startswith(
        "layer 'inner' of Windows cannot be addressed: its output for 2 images is 8 x 16 x 6, whose first dimension "
        "is not the batch, as in window attention; use a layer around it"
    )
    assert (net.table["after"].layout.kind, net.table["after"].layout.channel) == ("map", 3)


class Constant(nn.Module):
    """A table of two rows, as many as the images of the first pass, that does not depend on the images."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.table, self.keep = nn.Parameter(torch.randn(2, *shape)), nn.Identity()
        self.conv, self.head = nn.Conv2d(3, 4, 8, stride=8), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).mean((2, 3))) + self.keep(self.table).mean()


@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("shape", [(5, 4), (6, 5, 4)])
def test_a_constant_whose_first_dimension_equals_the_number_of_images(shape, fixed):
    net = toys.network(Fixed(Constant(shape)) if fixed else Constant(shape))
    name, label = ("body.keep", "Fixed") if fixed else ("keep", "Constant")
    shown = " x ".join(map(str, (2, *shape)))
    reason = f"its output is {shown}, whatever the number of images"
    if not fixed:  # a second pass on three images tells already
        reason = f"its output for 2 images is {shown}, whose first dimension is not the batch"
    assert refusal(net, name).startswith(f"layer {name!r} of {label} cannot be addressed: {reason}")


class Odd(nn.Module):
    """Outputs without a tensor, with five dimensions, and a module that never runs."""

    class Say(nn.Module):
        def forward(self, x: Tensor) -> str:
            return "word"

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.say, self.deep, self.unused = nn.Conv2d(3, 4, 3), self.Say(), nn.Identity(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        self.say(x)
        x = self.conv(x)
        return self.deep(x[:, None]).mean((1, 3, 4))


def test_other_outputs_are_refused_with_their_reason():
    net = toys.network(Odd())
    prefix = "of Odd cannot be addressed:"
    assert refusal(net, "say") == f"layer 'say' {prefix} its output contains no tensor"
    assert refusal(net, "deep") == (
        f"layer 'deep' {prefix} its output for one image is 1 x 4 x 30 x 30, which is not a feature map, token "
        "sequence or vector"
    )
    assert refusal(net, "unused") == (
        f"layer 'unused' {prefix} it is not called in a forward pass in eval mode on grey images"
    )


# ---------------------------------------------------------------------------------------------- calls


class Pyramid(nn.Module):
    """A head that runs once per level of a pyramid, as detectors have it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down = nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.Conv2d(6, 6, 3, stride=2, padding=1)
        self.shared, self.norm = nn.Conv2d(6, 4, 3, padding=1), nn.LayerNorm(6)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.stem(x)
        coarse = self.down(fine)
        self.norm(coarse.flatten(2).mT)
        self.norm(fine.flatten(2).mT)
        return self.shared(fine).mean((2, 3)) + self.shared(coarse).mean((2, 3))


def test_calls_of_a_module_are_addressed_by_number():
    net = toys.network(Pyramid())
    module, images = net.module, torch.rand(1, 3, SIDE, SIDE)
    fine = module.stem((images - 0.5) / 0.5)
    expected = {"shared#1": module.shared(fine), "shared#2": module.shared(module.down(fine))}
    expected["shared"] = expected["shared#2"]
    acts = net.capture(images, expected)
    for name, values in expected.items():
        torch.testing.assert_close(acts.as_map(name), values)
        assert net.layer(name).map_size == tuple(values.shape[2:])
    assert (net.layer("shared#1").stride, net.layer("shared#2").stride) == (2, 4)
    assert net.layer("shared").calls == 2
    assert net.layer("norm#1").layout.patch == (4, 4)
    assert net.layer("norm#2").layout.patch == (2, 2)
    torch.testing.assert_close(
        net.capture(images, ["norm#1"]).as_map("norm#1"),
        module.norm(module.down(fine).movedim(1, 3)).movedim(3, 1),
    )
    # The table lists each module once.
    assert [row[0] for row in net.layers().rows()] == ["stem", "down", "norm", "shared", "logit"]
    assert refusal(net, "shared#3") == ("no layer 'shared#3' in Pyramid; nearest: 'shared' (list all: net.layers())")
    assert refusal(net, "stem#1") == "no layer 'stem#1' in Pyramid; nearest: 'stem' (list all: net.layers())"


@pytest.mark.parametrize(
    "text", ["shared#1:2", "shared#2:2@1,1", "shared#1", "norm#2:0@center", "shared#1:0 - shared#2:0"]
)
def test_addresses_of_calls_are_read_back_and_rise(text):
    objective = fv.objectives.as_objective(text)
    assert str(objective) == text
    assert fv.objectives.as_objective(str(objective)) == objective
    net = toys.network(Pyramid())
    rendering = fv.render(net, text, transforms=(), steps=8, robustness_views=0)
    assert rendering.history[:, 0].max() > rendering.history[0, 0]


# ---------------------------------------------------------------------------------------------- modules that branch


class Experts(nn.Module):
    """A mixture of experts: which of them run depends on the image; where none is chosen, it stays empty."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gate = nn.Conv2d(3, 6, 4, stride=4), nn.Linear(6, 3)
        self.experts = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.conv(x).flatten(2).mT
        chosen = self.gate(tokens).argmax(-1)
        out = tokens.clone()
        for i, expert in enumerate(self.experts):
            if (chosen == i).any():
                out[chosen == i] = expert(tokens[chosen == i])
        return self.head(out.mean(1))


class Routed(nn.Module):
    """One branch for bright images and one for others."""

    def __init__(self) -> None:
        super().__init__()
        self.bright, self.dark, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((self.bright if x.mean() > 0.5 else self.dark)(x).mean((2, 3)))


def test_networks_whose_branches_depend_on_the_image():
    experts = toys.network(Experts())
    assert {"conv", "gate", "head", ""} <= set(experts.table)
    assert any(f"experts.{i}" in experts.probed.refused for i in range(3))
    assert "conv" in experts.receptive_fields()
    routed = toys.network(Routed())
    assert set(routed.table) == {"dark", "head", ""}
    assert str(routed.layers())
    assert refusal(routed, "bright") == (
        "layer 'bright' of Routed cannot be addressed: it is not called in a forward pass in eval mode on grey images"
    )
    assert message_of(routed.capture, torch.ones(1, 3, SIDE, SIDE), ["dark"]) == (
        "the forward pass did not reach layer 'dark' for these images"
    )


class Writes(nn.Module):
    """Adds to its weight in every forward pass."""

    def __init__(self, through_data: bool) -> None:
        super().__init__()
        self.conv, self.through_data = nn.Conv2d(3, 4, 3, padding=1), through_data
        self.tokens, self.cls = nn.Conv2d(4, 6, 8, stride=8), nn.Parameter(torch.randn(1, 1, 6))
        self.norm, self.head = nn.LayerNorm(6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        if self.through_data:
            self.conv.weight.data += 0.01
        else:
            with torch.no_grad():
                self.conv.weight.add_(0.01)
        tokens = self.tokens(self.conv(x)).flatten(2).mT
        return self.head(self.norm(torch.cat([self.cls.expand(len(x), -1, -1), tokens], 1))[:, 0])


@pytest.mark.parametrize("through_data", [True, False])
def test_a_forward_pass_that_writes_its_weights_leaves_those_of_the_user(through_data):
    net = toys.network(Writes(through_data))
    before = {name: value.clone() for name, value in net.module.state_dict().items()}
    images = torch.rand(1, 3, SIDE, SIDE)
    net.layers()
    found = [net.capture(images, ["conv"]).as_map("conv") for _ in range(2)]
    rendering = fv.render(net, "conv:1", transforms=(), steps=4, robustness_views=0)
    assert rendering.history[:, 0].max() > rendering.history[0, 0]
    fv.score(net, ["conv:1"], images)
    assert net.probed.writes_weights
    for name, value in net.module.state_dict().items():
        assert torch.equal(value, before[name]), name
    expected = F.conv2d((images - 0.5) / 0.5, before["conv.weight"] + 0.01, before["conv.bias"], padding=1)
    for each in found:
        torch.testing.assert_close(each, expected)


def test_the_projection_inside_of_multi_head_attention_says_why_it_has_no_address():
    """`nn.MultiheadAttention` reads the weights of its `out_proj` without calling it."""
    net = net_of()
    assert refusal(net, "first.self_attn.out_proj") == (
        "layer 'first.self_attn.out_proj' of Tokens cannot be addressed: it is not called in a forward pass in eval "
        "mode on grey images; nearest: 'first.self_attn', 'second.self_attn', 'first.norm2'"
    )
    assert net.table["first.self_attn"].layout.patch == PATCH


def test_mistaken_orders_of_a_few_tokens_do_not_spread():
    """Chance agrees with a grid of 2 x 2 cells in a few channels or tokens; no layer may follow it."""
    for seed in range(6):
        torch.manual_seed(seed)
        module = Tokens({"cls_token": 1}, patch=(8, 16), read=0)
        net = fv.Network(module.eval(), size=SIDE, **toys.HALF)
        for name, layer in net.table.items():
            if layer.layout.kind == "tokens":
                assert layer.layout.channel == 2, (seed, name)
                assert layer.layout.patch in (None, (8, 16)), (seed, name)
