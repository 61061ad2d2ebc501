"""What probing tells about tokens: their places, names and order."""

import pytest
import torch
import torch.nn.functional as F
import toys
from probing_networks import PATCH, SIDE, WIDTH, Fixed, message_of, net_of
from torch import Tensor, nn

import featviz as fv


@pytest.fixture(autouse=True)
def always_the_same_weights():
    torch.manual_seed(0)


LAYERS = ("first", "second", "norm")
CASES = {
    "none": ({}, ()),
    "class token first": ({"before": {"cls_token": 1}, "read": 0}, (("cls", 0),)),
    "class token last": ({"after": {"cls_token": 1}, "read": -1}, (("cls", -1),)),
    "registers only": ({"before": {"reg_token": 2}}, (("reg0", 0), ("reg1", 1))),
    "class token and registers": (
        {"before": {"cls_token": 1, "register_tokens": 2}, "read": 0},
        (("cls", 0), ("reg0", 1), ("reg1", 2)),
    ),
    "registers before the class token": (
        {"before": {"register_tokens": 2, "cls_token": 1}, "read": 2},
        (("reg0", 0), ("reg1", 1), ("cls", 2)),
    ),
    "distillation token": (
        {"before": {"cls_token": 1, "dist_token": 1}, "read": 0},
        (("cls", 0), ("reg0", 1)),
    ),
    "detection tokens": (
        {"before": {"cls_token": 1}, "after": {"detection_tokens": 3}, "read": 0},
        (("cls", 0), ("reg0", -3), ("reg1", -2), ("reg2", -1)),
    ),
    "named oddly": ({"before": {"special": 1}, "read": 0}, (("cls", 0),)),
    "named oddly, last": ({"after": {"special": 1}, "read": -1}, (("cls", -1),)),
}


def output_of(module, name, images):
    """The output of a layer, by a hook."""
    found = []
    handle = module.get_submodule(name).register_forward_hook(lambda _, __, output: found.append(output))
    module(((images - 0.5) / 0.5).requires_grad_())
    handle.remove()
    return found[-1].detach()


@pytest.mark.parametrize("case", CASES)
def test_places_and_names_of_tokens(case):
    options, special = CASES[case]
    net = net_of(**options)
    prefix = sum(options.get("before", {}).values())
    images = torch.rand(2, 3, SIDE, SIDE)
    acts = net.capture(images, LAYERS)
    for name in LAYERS:
        layout = net.table[name].layout
        assert (layout.kind, layout.channel, layout.patch, layout.prefix) == ("tokens", 2, PATCH, prefix), name
        assert layout.special == special, name
        assert layout.order is None
        expected = output_of(net.module, name, images)
        for row, column in ((0, 0), (1, 2), (3, 3)):
            found = acts.at(name, (row, column))
            torch.testing.assert_close(found, expected[:, prefix + 4 * row + column])
        for token, index in special:
            torch.testing.assert_close(acts.at(name, token), expected[:, index])


def test_registers_only_have_no_class_token():
    net = net_of(before={"reg_token": 2})
    acts = net.capture(torch.rand(1, 3, SIDE, SIDE), ["first"])
    assert message_of(acts.at, "first", "cls") == (
        "no class token in 'first'; its tokens off the patch grid are @reg0, @reg1"
    )
    assert message_of(acts.at, "first", "reg2") == (
        "no token @reg2 in 'first'; its tokens off the patch grid are @reg0, @reg1"
    )
    with pytest.raises(fv.AddressError, match="^no class token in 'first'; its tokens off the patch grid are @reg0, "):
        fv.render(net, "first:3@cls", steps=2)
    rendering = fv.render(net, "first:3@reg0", transforms=(), steps=6, robustness_views=0)
    assert rendering.history[:, 0].max() > rendering.history[0, 0]


def test_sequences_of_patches_only_have_no_special_tokens():
    acts = net_of().capture(torch.rand(1, 3, SIDE, SIDE), ["first"])
    assert message_of(acts.at, "first", "cls") == "no class token in 'first'; address its patches by @row,column"
    assert message_of(acts.at, "first", "reg0") == "no token @reg0 in 'first'; address its patches by @row,column"
    assert message_of(acts.at, "first", (4, 0)) == (
        "no position @4,0 in 'first'; at this size its map has rows 0 to 3 and columns 0 to 3"
    )


@pytest.mark.parametrize("patch", [(16, 8), (8, 16), (4, 16)])
@pytest.mark.parametrize("before", [{}, {"cls_token": 1}])
def test_patches_that_are_not_square(patch, before):
    net = net_of(before=before, patch=patch, read=0 if before else "patches")
    rows, columns = SIDE // patch[0], SIDE // patch[1]
    images = torch.rand(1, 3, SIDE, SIDE)
    acts = net.capture(images, LAYERS)
    for name in LAYERS:
        assert net.table[name].layout.patch == patch
        tokens = output_of(net.module, name, images)[:, len(before) :]
        assert tokens.shape[1] == rows * columns
        expected = torch.stack([tokens[:, i * columns : (i + 1) * columns] for i in range(rows)], 1).movedim(3, 1)
        torch.testing.assert_close(acts.as_map(name), expected)


@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("stride", [(16, 8), (8, 16), (4, 16), (2, 8), (16, 4), (8, 32)])
@pytest.mark.parametrize("size", [(64, 64), (64, 96), (96, 32)])
def test_maps_with_another_stride_for_rows_than_for_columns(size, stride, fixed):
    body = nn.Sequential(nn.Conv2d(3, 5, stride, stride=stride), nn.GELU())
    net = toys.network(Fixed(body, size) if fixed else body, size=size)
    name = "body.0" if fixed else "0"
    layout = net.layer(name).layout
    assert (layout.kind, layout.channel, layout.transposed) == ("map", 1, False)
    images = torch.rand(1, 3, *size)
    torch.testing.assert_close(net.capture(images, [name]).as_map(name), body[0]((images - 0.5) / 0.5))


# ---------------------------------------------------------------------------------------------- orders


def blocks():
    """Quarters of the grid one after the other, as the mask units of Hiera."""
    return [row * 4 + column for y in (0, 2) for x in (0, 2) for row in (y, y + 1) for column in (x, x + 1)]


def serpentine():
    return [row * 4 + (column if row % 2 == 0 else 3 - column) for row in range(4) for column in range(4)]


def by_columns():
    return [row * 4 + column for column in range(4) for row in range(4)]


ORDERS = {
    "blocks": blocks(),
    "serpentine": serpentine(),
    "columns": by_columns(),
    "permuted": torch.randperm(16, generator=torch.Generator().manual_seed(3)).tolist(),
}


@pytest.mark.parametrize("before", [{}, {"cls_token": 1}])
@pytest.mark.parametrize("order", ORDERS)
def test_tokens_in_other_orders_than_by_rows(order, before):
    cells = ORDERS[order]
    net = net_of(before=before, order=torch.tensor(cells), read=0 if before else "patches")
    images = torch.rand(2, 3, SIDE, SIDE)
    acts = net.capture(images, LAYERS)
    for name in LAYERS:
        tokens = output_of(net.module, name, images)[:, len(before) :]
        expected = torch.empty(2, WIDTH, 4, 4)
        for token, cell in enumerate(cells):
            expected[:, :, cell // 4, cell % 4] = tokens[:, token]
        torch.testing.assert_close(acts.as_map(name), expected)
        torch.testing.assert_close(acts.at(name, (1, 2)), expected[:, :, 1, 2])
        layout = net.table[name].layout
        assert (layout.patch, layout.prefix) == (PATCH, len(before))
        assert layout.order == tuple(cells.index(cell) for cell in range(16))


class Blocks(nn.Module):
    """Tokens in blocks of 2 x 2 patches, at any size, without a place of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.norm, self.head = (
            nn.Conv2d(3, WIDTH, PATCH, stride=PATCH),
            nn.LayerNorm(WIDTH),
            nn.Linear(WIDTH, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x)
        n, c, h, w = x.shape
        tokens = x.view(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 3, 5, 1).reshape(n, h * w, c)
        return self.head(self.norm(tokens).mean(1))


def test_an_order_is_known_at_the_networks_own_size_only():
    net = toys.network(Blocks())
    assert not net.fixed_size
    images = torch.rand(1, 3, SIDE, SIDE)
    module = net.module
    expected = F.layer_norm(
        module.patches((images - 0.5) / 0.5).movedim(1, 3), (WIDTH,), module.norm.weight, module.norm.bias
    )
    torch.testing.assert_close(net.capture(images, ["norm"]).as_map("norm"), expected.movedim(3, 1))
    larger = net.capture(torch.rand(1, 3, SIDE, 64), ["norm"])
    refused = (
        "the tokens of 'norm' are in an order that is known at the network's input size only, where there are 16; "
        "here are 32"
    )
    assert message_of(larger.as_map, "norm") == refused
    assert message_of(larger.at, "norm", (0, 0)) == refused
    wide = net.with_input(size=(SIDE, 64))
    rows = torch.rand(1, 3, SIDE, 64)
    expected = F.layer_norm(
        module.patches((rows - 0.5) / 0.5).movedim(1, 3), (WIDTH,), module.norm.weight, module.norm.bias
    )
    torch.testing.assert_close(wide.capture(rows, ["norm"]).as_map("norm"), expected.movedim(3, 1))


class Mixed(nn.Module):
    """Every token is a random mixture of all patches, so it has no place."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, PATCH, stride=PATCH)
        self.mix = nn.Parameter(torch.randn(16, 16))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.mix @ self.patches(x).flatten(2).mT).mean(1))


def test_tokens_in_no_order_have_no_positions():
    net = toys.network(Mixed())
    layout = net.table["norm"].layout
    assert (layout.kind, layout.channel, layout.patch, layout.special) == ("tokens", 2, None, ())
    acts = net.capture(torch.rand(1, 3, SIDE, SIDE), ["norm"])
    assert message_of(acts.as_map, "norm") == (
        "no positions in 'norm'; its output is tokens that are not on a grid; use a feature map or patch tokens"
    )
    assert message_of(acts.neuron, "norm", 3, (1, 1)) == (
        "no position @1,1 in 'norm'; its output is tokens that are not on a grid; use norm:3"
    )
    masked = acts.of(torch.rand(1, 3, SIDE, SIDE))
    assert message_of(masked.within, torch.ones(SIDE, SIDE), ["norm"]) == (
        "no positions to mask in 'norm'; its output is tokens that are not on a grid; mask a feature map"
    )
    assert net.capture(torch.rand(1, 3, SIDE, SIDE), ["norm"]).channel("norm", 3).shape == (1, 16)


class Steps(nn.Module):
    """Tokens without any exchange between them, in an order, between tokens of its own."""

    def __init__(self, before: int, after: int, order: list[int] | None) -> None:
        super().__init__()
        self.patches, self.norm = nn.Conv2d(3, WIDTH, PATCH, stride=PATCH), nn.LayerNorm(WIDTH)
        self.before, self.after = (
            nn.ParameterList(torch.randn(1, WIDTH) for _ in range(count)) for count in (before, after)
        )
        self.order, self.head = order, nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).mT
        tokens = tokens if self.order is None else tokens[:, self.order]
        first, last = ([part.expand(len(x), -1, -1) for part in parts] for parts in (self.before, self.after))
        return self.head(self.norm(torch.cat([*first, tokens, *last], 1)).mean(1))


@pytest.mark.parametrize(("before", "after"), [(0, 0), (1, 0), (0, 2), (1, 2)])
@pytest.mark.parametrize("order", [None, *ORDERS])
def test_a_mask_restricts_the_gradient_to_the_tokens_under_it(before, after, order):
    cells = None if order is None else ORDERS[order]
    net = toys.network(Steps(before, after, cells))
    mask = torch.zeros(SIDE, SIDE)
    mask[8:16, 16:32] = 1  # cells (1, 2) and (1, 3)
    images = torch.rand(2, 3, SIDE, SIDE, requires_grad=True)
    acts = net.capture(images, ["norm"]).of(images)
    masked = acts.within(mask, ["norm"])
    torch.testing.assert_close(masked["norm"], acts["norm"])
    masked["norm"].square().sum().backward()
    assert torch.equal(images.grad.abs().sum((0, 1)) > 0, mask > 0)
    # The gradient is that of the masked tokens alone, times the number of tokens over theirs: an objective that is a
    # mean over all tokens becomes one over the masked tokens.
    own = images.detach().clone().requires_grad_()
    net.capture(own, ["norm"]).as_map("norm")[:, :, 1, 2:].square().sum().backward()
    torch.testing.assert_close(images.grad, (16 + before + after) / 2 * own.grad, rtol=1e-4, atol=1e-4)
