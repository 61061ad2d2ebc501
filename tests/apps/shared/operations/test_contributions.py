"""Contributions to class logits: where the truth is known, and what they add up to."""

import pytest
import torch
import toys
from motifs.draw import draw
from torch import nn

import featviz as fv
from featviz.apps.shared.operations.contributions import (
    ablation_effects,
    cell_contributions,
    integrated_gradients,
    position_contributions,
)

GENERATOR = torch.Generator().manual_seed(0)


@pytest.fixture
def opened():
    """Open a layer of a network, and run an image."""
    contexts = []

    def open_layer(net, layer, image):
        context = net.session([layer, ""])
        forward = context.__enter__()
        contexts.append(context)
        return forward, forward(image.clone().requires_grad_())

    yield open_layer
    for context in contexts:
        context.__exit__(None, None, None)


def single_cells(maps):
    rows, columns = maps.shape[-2:]
    return torch.eye(rows * columns).view(rows, columns, rows, columns)


def test_every_method_is_exact_before_a_mean_and_a_linear_layer(opened):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5, bias=False))
    net = toys.network(module)
    image = torch.rand(1, 3, 8, 8, generator=GENERATOR)
    forward, acts = opened(net, "0", image)
    maps = acts["0"].detach()
    expected = torch.einsum("kc,cyx->kyx", module[3].weight.detach(), maps[0]) / maps[0, 0].numel()
    classes = torch.tensor([[3, 1]])
    zero = torch.zeros_like(maps)
    gradients = integrated_gradients(forward, image, acts, "0", classes, zero, 3)[0].sum(1)
    positions = position_contributions(forward, image, acts, "0", classes, 3)[0]
    cells = cell_contributions(forward, image, acts, "0", single_cells(maps), [3, 1])
    for found in (gradients, positions):
        torch.testing.assert_close(found, expected[[3, 1]], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(cells.sum((1, 2)), expected[[3, 1]].sum((1, 2)), atol=1e-5, rtol=1e-4)
    windows = torch.nn.functional.avg_pool2d(expected[None, [3, 1]], 2, 1)[0]  # inside, a cell is the mean over windows
    smooth = torch.nn.functional.avg_pool2d(windows[None], 2, 1)[0]
    torch.testing.assert_close(cells[:, 1:-1, 1:-1], smooth, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("layer", ["stage1", "stage2", "stage3"])
def test_contributions_add_up_to_the_fall_of_the_logit_at_zero(motifnet, layer, opened):
    image = draw(torch.tensor([3]), (64, 64), GENERATOR)
    forward, acts = opened(motifnet, layer, image)
    logits = acts.logits()[0].detach()
    at_zero = forward(image, replace={layer: torch.zeros_like}).logits()[0].detach()
    expected = (logits - at_zero)[[3, 5]]
    cells = cell_contributions(forward, image, acts, layer, single_cells(acts[layer]), [3, 5])
    positions = position_contributions(forward, image, acts, layer, torch.tensor([[3, 5]]), 4)[0]
    for found in (cells, positions):
        torch.testing.assert_close(found.sum((1, 2)), expected, atol=1e-3, rtol=1e-3)
    zero = torch.zeros_like(acts[layer])
    gradients = integrated_gradients(forward, image, acts, layer, torch.tensor([[3, 5]]), zero, 64)[0].sum((1, 2, 3))
    torch.testing.assert_close(gradients, expected, atol=0.1, rtol=0.02)
    assert expected[0] > 0  # it recognises the class


def test_effects_are_falls_of_the_logit(motifnet, opened):
    image = draw(torch.tensor([7]), (64, 64), GENERATOR)
    forward, acts = opened(motifnet, "stage2", image)
    maps = acts["stage2"].detach()
    changes = torch.zeros(20, *maps.shape[1:])  # more than run together
    changes[:10] = -maps[0] / torch.arange(1, 11)[:, None, None, None]
    found = ablation_effects(forward, image, acts, "stage2", changes, [7, 0])
    assert found.shape == (2, 20)
    torch.testing.assert_close(found[:, 10:], torch.zeros(2, 10), atol=1e-4, rtol=0)
    for i in (0, 9):
        after = forward(image, replace={"stage2": lambda output, i=i: output + changes[i]}).logits()[0]
        torch.testing.assert_close(found[:, i], (acts.logits()[0] - after)[[7, 0]].detach(), atol=1e-4, rtol=1e-3)


def test_tokens_are_put_back_where_they_were_read(opened):
    """Special tokens keep their activation, and patches go back to their place."""
    net, layer = fv.load("motifvit", device="cpu"), "encoder.layers.encoder_layer_1"
    image = torch.rand(1, 3, *net.size, generator=GENERATOR)
    forward, acts = opened(net, layer, image)
    maps = acts.as_map(layer).detach()
    seen = []

    def watch(output):
        seen.append(output.detach().clone())
        return output

    changes = torch.zeros_like(maps).repeat(2, 1, 1, 1)
    changes[1, ::2, 0, 1] = 5  # not all channels, since layer normalisation would undo it
    ablation_effects(forward, image, acts, layer, changes, [0])
    changed = acts[layer].detach()
    forward(image, replace={layer: watch})
    torch.testing.assert_close(seen[0], changed)
    effects = ablation_effects(forward, image, acts, layer, changes, [0])
    assert effects[0, 0].abs() < 1e-4 < effects[0, 1].abs()


class Tuple(nn.Module):
    """Its block outputs a tuple, whose first item goes on."""

    def __init__(self):
        super().__init__()
        self.block, self.head = Pair(), nn.Linear(4, 5)

    def forward(self, x):
        out, extra = self.block(x)
        return self.head(out.mean((2, 3)) + 0 * extra["b"].mean())


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.conv(x), {"b": x}


def test_outputs_inside_of_tuples_are_replaced():
    torch.manual_seed(0)
    net = toys.network(Tuple())
    image = torch.rand(1, 3, 32, 32, generator=GENERATOR)
    with net.session(["block", ""]) as forward:
        expected = net.module.head.bias.detach()
        found = forward(image, replace={"block": torch.zeros_like}).logits()[0].detach()
    torch.testing.assert_close(found, expected)
    with net.session(["block", ""]) as forward:  # nothing is left of it
        assert not torch.allclose(forward(image).logits()[0], expected)


def test_an_atlas_lights_the_class_of_its_photographs(motifnet, tmp_path):
    """Six photographs of one class: most cells list it."""
    folder = tmp_path / "photos"
    folder.mkdir()
    from PIL import Image

    from featviz.io import to_bytes

    for i in range(6):
        image = draw(torch.tensor([3]), (64, 64), torch.Generator().manual_seed(i))[0]
        Image.fromarray(to_bytes(image.numpy())).save(folder / f"{i}.png")
    for layer in ("stage1", "stage2", "stage3"):
        from featviz.apps.atlas.collect import collect

        found = collect(motifnet, folder, layer, tmp_path / "out", per_image=20, seed=0)
        of_class = found.labels[:] == 3
        assert of_class.any(1).all()  # recognised in each
        assert (found.shares[:][of_class] > 0).mean() > 0.6
