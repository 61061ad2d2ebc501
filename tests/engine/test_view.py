"""Views: how transforms are completed for the network, which views are refused, and masks that move along."""

import pytest
import torch
import toys
from torch import nn

import featviz as fv
from featviz import transforms as T
from featviz.engine.view import View, size_of
from featviz.interfaces import Traits
from featviz.random import Generators
from featviz.transforms.fusing import new_draws

STEPS = (T.Shift(0.1), T.Rotate(5))


def images(height=32, width=32, count=1, channels=3):
    return torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(0))


def prepare(transforms, network, given, max_tile=None):
    return View.prepare(transforms, network, given, max_tile)


def unpadded():
    """Return a network that accepts images of at least 11 px per side."""
    return toys.network(nn.Sequential(nn.Conv2d(3, 2, 11)))


class OfTheFullView:
    """An objective that cannot be scored on tiles."""

    layers = frozenset({"conv2"})
    traits = Traits(needs_full_view=True)

    def __call__(self, acts):
        return acts["conv2"].flatten(1).mean(1)

    def __str__(self):
        return "full"


# ---------------------------------------------------------------------------------------------- completed transforms


@pytest.mark.parametrize("sequence", [tuple, list])
def test_transforms_are_fused(sequence):
    view = prepare(sequence((*STEPS, T.ColorShift(0.3))), toys.plain(), images())
    assert view == View((T.Warp(STEPS), T.ColorShift(0.3)), (32, 32), (32, 32))


def test_size_of_the_view_is_that_after_the_transforms():
    view = prepare((T.Resize(0.5), T.Pad(1)), toys.plain(), images(32, 48))
    assert view.size == view.tile == (18, 26)
    assert len(view.tiles) == 1


@pytest.mark.parametrize("channels", [1, 3])
def test_images_with_alpha_are_composited_first(channels):
    net = toys.network(toys.Plain(channels), mean=(0.5,) * channels, std=(0.5,) * channels)
    given = images(channels=channels + 1)
    view = prepare((T.Roll(2),), net, given)
    assert view.transforms == (T.CompositeAlpha(), T.Roll(2))
    assert view.transformed(given, new_draws(Generators([0])))[0].shape == (1, channels, 32, 32)


def test_alpha_is_composited_once():
    own = (T.Roll(2), T.CompositeAlpha())
    assert prepare(own, toys.plain(), images(channels=4)).transforms == own
    assert prepare((T.Roll(2),), toys.plain(), images()).transforms == (T.Roll(2),)  # no alpha, nothing to composite


def test_views_are_resized_to_the_fixed_size_of_a_network():
    view = prepare(STEPS, toys.network(toys.Vit()), images(48, 40))
    assert view == View((T.Warp((*STEPS, T.Resize((32, 32)))),), (32, 32), (32, 32))
    assert view.transformed(images(48, 40), new_draws(Generators([0])))[0].shape == (1, 3, 32, 32)


def test_views_of_the_fixed_size_are_not_resized():
    view = prepare(STEPS, toys.network(toys.Vit()), images())
    assert view == View((T.Warp(STEPS),), (32, 32), (32, 32))


@pytest.mark.parametrize("size", [(32, 20), (150, 20), (20, 150)])
def test_views_smaller_than_the_tiles_of_a_fixed_size_network_are_resized(size):
    view = prepare((), toys.network(toys.Vit()), images(*size), 128)
    assert view == View((T.Warp((T.Resize((32, 32)),)),), (32, 32), (32, 32))


def test_too_small_views_are_enlarged_to_the_size_of_the_image():
    view = prepare((T.Resize(0.2),), unpadded(), images(40, 44))
    assert view == View((T.Warp((T.Resize(0.2), T.Resize((40, 44)))),), (40, 44), (40, 44))
    assert prepare((T.Resize(0.5),), unpadded(), images(40, 44)).size == (20, 22)  # large enough


# ---------------------------------------------------------------------------------------------- refused views


@pytest.mark.parametrize(("transforms", "size"), [((), (5, 40)), ((T.Resize((4, 4)),), (8, 8))])
def test_images_that_are_too_small_are_refused(transforms, size):
    with pytest.raises(fv.ModelError) as caught:
        prepare(transforms, unpadded(), images(*size))
    assert str(caught.value) == (
        f"Sequential does not accept images of {size[0]}x{size[1]} px; the smallest square that it accepts is 11x11"
    )


@pytest.mark.parametrize(
    ("transforms", "channels", "message"),
    [
        ((), 1, "the views have 1; give a param and transforms for 3 channels"),
        ((), 5, "the views have 5; give a param and transforms for 3 channels"),
        (
            (T.CompositeAlpha(),),
            3,
            "the views have 2; CompositeAlpha() removes a channel and needs param.Alpha(), --param alpha",
        ),
    ],
)
def test_views_with_other_channels_are_refused(transforms, channels, message):
    with pytest.raises(fv.SettingError) as caught:
        prepare(transforms, toys.plain(), images(channels=channels))
    assert str(caught.value) == f"the network expects 3 channels, {message}"


# ---------------------------------------------------------------------------------------------- tiles


def test_large_views_are_cut_into_tiles():
    view = prepare((), toys.plain(), images(300, 100), 128)
    assert view.size == (300, 100)
    assert max(view.tile) <= 128
    covered = torch.zeros(view.size)
    for tile in view.tiles:
        tile.cut(covered[None, None]).add_(tile.weights)
    assert torch.allclose(covered, torch.ones(view.size), atol=1e-5)
    assert view.tiles is view.tiles  # computed once


def test_tiles_of_a_fixed_size_network_have_its_size():
    view = prepare((), toys.network(toys.Vit()), images(150, 70), 128)
    assert view == View((), (150, 70), (32, 32))
    assert {size_of(tile.cut(images(150, 70))) for tile in view.tiles} == {(32, 32)}


def test_objective_that_needs_the_full_view_is_refused_with_tiles():
    whole, tiled = prepare((), toys.plain(), images(100, 100), 128), prepare((), toys.plain(), images(300, 100), 128)
    whole.check(OfTheFullView())
    with pytest.raises(fv.SettingError) as caught:
        tiled.check(OfTheFullView())
    assert str(caught.value) == (
        "full needs the full view, but a view of 300 x 100 px is cut into tiles of "
        f"{tiled.tile[0]} x {tiled.tile[1]}; use a smaller image or larger tiles"
    )
    tiled.check(fv.objectives.Channel("conv2", 1))


# ---------------------------------------------------------------------------------------------- looking


def test_masks_move_with_the_images():
    given = images(20, 24, count=3)
    view = prepare((T.Roll(6),), toys.plain(), given)
    views, move_masks = view.transformed(given, new_draws(Generators([0, 1, 2])))
    assert not torch.equal(views, given)
    assert torch.equal(move_masks(given[:, :1]), views[:, :1])


def test_masks_take_the_size_of_the_views_but_not_their_colours():
    given = images(20, 24, count=2)
    view = prepare((T.Resize(0.5), T.ColorShift(0.3)), toys.plain(), given)
    views, move_masks = view.transformed(given, new_draws(Generators([0, 1])))
    assert views.shape == (2, 3, 10, 12)
    masks = move_masks(torch.ones(2, 1, 20, 24))
    assert torch.allclose(masks, torch.ones(2, 1, 10, 12), atol=1e-5)


def test_each_look_draws_anew_and_each_seed_the_same():
    given = images()
    view = prepare((T.Roll(6),), toys.plain(), given)
    rng = Generators([0])
    first, second = view.transformed(given, new_draws(rng))[0], view.transformed(given, new_draws(rng))[0]
    assert not torch.equal(first, second)
    assert torch.equal(view.transformed(given, new_draws(Generators([0])))[0], first)


def test_views_without_transforms_have_a_gradient_of_their_own():
    given = images().requires_grad_()
    views, _ = prepare((), toys.plain(), given).transformed(given, new_draws(Generators([0])))
    assert views is not given
    assert torch.equal(views, given)
    views.retain_grad()
    (2 * views).sum().backward()
    assert torch.equal(views.grad, torch.full_like(views, 2))
