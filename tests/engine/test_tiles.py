"""Tiles: their weights add up to 1 in every pixel, and tiled gradients match those of the whole view."""

import pytest
import torch
import toys
from torch import nn

import featviz as fv
from featviz import objectives as obj
from featviz import param
from featviz import transforms as T
from featviz.engine.tiles import OVERLAP, tile_size, tiles


@pytest.mark.parametrize(
    "view", [(100, 640), (641, 641), (1000, 700), (3000, 4001), (640, 1279), (65, 2000), (5000,), (40, 300, 260)]
)
@pytest.mark.parametrize("max_tile", [128, 224, 640])
def test_tile_weights_add_up_to_one(view, max_tile):
    size = tile_size(view, max_tile)
    assert all(length <= max(max_tile, 2 * OVERLAP) for length in size)
    weights = torch.zeros(view)
    for tile in tiles(view, size):
        for part, length, whole in zip(tile.part, size, view, strict=True):
            start, stop, _ = part.indices(whole)
            assert stop - start == min(length, whole)
            assert 0 <= start < stop <= whole
        tile.cut(weights[None, None])[0, 0] += tile.weights
    assert torch.allclose(weights, torch.ones(view), atol=1e-5)


def test_whole_view_is_one_tile():
    assert tile_size((300, 500), None) == (300, 500)
    (tile,) = tiles((300, 500), (300, 500))
    assert tile.weights.min() == 1


def test_weights_decrease_towards_a_neighbour():
    first, *_ = tiles((100, 600), tile_size((100, 600), 256))
    assert first.weights[0, 0] == 1
    assert (first.weights[0].diff() <= 1e-6).all()
    assert first.weights[0, -1] < 0.05


def local_network():
    """Return a network whose receptive field is smaller than the overlap of tiles."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 5, stride=2, padding=2), nn.ReLU(), nn.Conv2d(8, 8, 5, padding=2)]
    return toys.network(nn.Sequential(*layers))


def first_step(execution, objective='"2"', mask=None):
    """Return how far one step of gradient ascent moves each pixel, relative to the step size, and the rendering."""
    start = torch.rand(3, 160, 420, generator=torch.Generator().manual_seed(1))
    image = param.Image((160, 420), spatial=param.Pixel(), color=param.Clamped())
    objective = obj.parse(objective) if isinstance(objective, str) else objective
    rendering = fv.render(
        local_network(),
        objective if mask is None else obj.Within(objective, mask),
        param=image,
        start=start,
        transforms=T.Roll(9),
        steps=1,
        optimizer=fv.optimizers.Normalized(fv.optimizers.Ascent(0.001)),
        execution=execution,
    )
    return (rendering.images[0] - start) / 0.001, rendering


@pytest.mark.parametrize("tile", [128, 224])
def test_tiled_gradients_match_those_of_the_whole_view_without_seams(tile):
    whole, one = first_step(fv.Execution("float32"))
    tiled, two = first_step(fv.Execution("float32", tile=tile))
    assert len(tiles((160, 420), tile_size((160, 420), tile))) > 1
    inside = (slice(None), slice(20, -20), slice(20, -20))
    assert (whole - tiled)[inside].abs().mean() < 0.05 * whole.abs().mean()
    assert (whole - tiled)[inside].abs().mean((0, 1)).max() < 0.2 * whole.abs().mean()  # no column stands out
    assert two.history.item() == pytest.approx(one.history.item(), rel=0.05)


def test_masks_are_cut_into_tiles_too():
    mask = torch.zeros(160, 420)
    mask[40:100, 200:300] = 1
    tiled, _ = first_step(fv.Execution("float32", tile=128), mask=mask)
    assert tiled[:, 44:96, 204:296].abs().mean() > 0.3
    assert tiled[:, :, :180].abs().max() == tiled[:, :, 320:].abs().max() == 0


def test_regularizers_count_once_with_tiles():
    objective = obj.parse('"2"') - 3 * obj.TotalVariation()
    whole, one = first_step(fv.Execution("float32"), objective)
    tiled, two = first_step(fv.Execution("float32", tile=128), objective)
    assert (whole - tiled)[:, 20:-20, 20:-20].abs().mean() < 0.05 * whole.abs().mean()
    assert two.history.item() == pytest.approx(one.history.item(), rel=0.05)


def test_network_of_fixed_size_sees_tiles_of_that_size():
    net = toys.network(toys.Vit())
    seen = []
    layer = next(name for name, found in net.table.items() if name and found.layout.kind == "tokens")
    net.module.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape[2:])))
    fv.render(
        net, f'"{layer}":1', param=param.Image((150, 70)), transforms=(), steps=1, execution=fv.Execution(tile=128)
    )
    assert set(seen) == {net.size}


def test_tile_below_the_minimum():
    with pytest.raises(fv.SettingError) as caught:
        fv.Execution(tile=100)
    assert str(caught.value) == "tile must be a whole number >= 128, got 100 (px, or None for no tiles)"
