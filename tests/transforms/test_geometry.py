"""What each geometric transform does to a picture, against slicing and flipping."""

import math
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F

from featviz import transforms as T
from featviz.errors import SettingError
from featviz.random import Generators

PICTURE = torch.rand(2, 3, 9, 14, generator=torch.Generator().manual_seed(0))


def seen(*stack, picture=PICTURE, seeds=(0, 1)):
    return T.look(picture, T.fuse(stack), Generators(seeds))[0]


def test_pad_fills_with_its_value_on_the_right_sides():
    assert torch.allclose(seen(T.Pad(2)), F.pad(PICTURE, (2, 2, 2, 2), value=0.5), atol=1e-5)
    assert torch.allclose(seen(T.Pad(2, None)), F.pad(PICTURE, (2, 2, 2, 2), mode="reflect"), atol=1e-5)


def test_crop_is_the_middle():
    assert torch.allclose(seen(T.Crop(3)), PICTURE[..., 3:-3, 3:-3], atol=1e-5)


def test_jitter_is_a_window_of_real_pixels_at_every_place():
    windows = {}
    for seed in range(60):
        out = seen(T.Jitter(2), picture=PICTURE[:1], seeds=(seed,))
        assert out.shape == (1, 3, 7, 12)
        match = [
            (y, x)
            for y in range(3)
            for x in range(3)
            if torch.allclose(out[0], PICTURE[0, :, y : y + 7, x : x + 12], atol=1e-5)
        ]
        assert len(match) == 1
        windows[match[0]] = windows.get(match[0], 0) + 1
    assert len(windows) == 9  # symmetric: all nine offsets occur


@pytest.mark.parametrize(("degrees", "turns"), [(90, 1), (180, 2), (-90, -1)])
def test_rotate_turns_counter_clockwise(degrees, turns):
    square = PICTURE[..., :9]
    turned = seen(T.Rotate(T.OneOf((degrees,))), picture=square)
    assert torch.allclose(turned, torch.rot90(square, turns, (2, 3)), atol=1e-4)


def test_scale_enlarges_about_the_middle():
    row = torch.arange(9.0).view(1, 1, 1, 9).expand(1, 1, 9, 9) / 8
    enlarged = seen(T.Scale(T.OneOf((2.0,))), picture=row, seeds=(0,))
    assert torch.allclose(enlarged[0, 0, 4], torch.linspace(2, 6, 9) / 8, atol=1e-5)


def test_shift_moves_each_axis_by_its_own_side():
    matrices, size = T.Shift(0.25).place(Generators(range(500)), (9, 14))
    assert size == (9, 14)
    moves = matrices[:, :2, 2]
    assert 0.95 * 0.25 * 14 < moves[:, 0].max() <= 0.25 * 14
    assert 0.95 * 0.25 * 9 < moves[:, 1].max() <= 0.25 * 9
    assert moves.mean(0).abs().max() < 0.3


def test_flip_mirrors_about_half_the_images():
    flipped = [
        torch.allclose(seen(T.Flip(), picture=PICTURE[:1], seeds=(s,)), PICTURE[:1].flip(-1), atol=1e-5)
        for s in range(40)
    ]
    assert 8 < sum(flipped) < 32


def test_resize_is_interpolate():
    small = seen(T.Resize((18, 28)))
    assert torch.allclose(
        small[..., 1:-1, 1:-1], F.interpolate(PICTURE, (18, 28), mode="bilinear")[..., 1:-1, 1:-1], atol=1e-4
    )


def test_resize_to_a_share():
    assert seen(T.Resize(0.5)).shape == (2, 3, 4, 7)
    assert torch.equal(seen(T.Resize(2.0)), seen(T.Resize((18, 28))))
    assert seen(T.Resize(0.5, least=6)).shape == (2, 3, 6, 9)
    assert torch.allclose(seen(T.Resize(0.5, least=20)), PICTURE, atol=1e-6)
    for nothing in (0.0, (0, 4)):
        with pytest.raises(SettingError, match="leaves nothing; give px or a share above 0$"):
            T.Resize(nothing)


def test_a_tint_parts_no_neighbours():
    steps = (T.Shift(0.2), T.ColorShift(0.4), T.Rotate(20), T.Scale(0.7))
    fused = T.fuse(steps)
    assert [type(step).__name__ for step in fused] == ["Warp", "ColorShift"]
    first, tint, last = T.Warp(steps[:1]), T.ColorShift(0.4), T.Warp(steps[2:])
    draws = [step.draw(Generators([3, 4]), (3, 9, 14)) for step in (first, tint, last)]
    moved = first.apply(PICTURE, draws[0])
    before, after = last.apply(tint.apply(moved, draws[1]), draws[2]), tint.apply(last.apply(moved, draws[2]), draws[1])
    assert torch.allclose(before, after, atol=1e-5)
    assert [type(step).__name__ for step in T.fuse((T.ColorShift(0.4), T.Pad(2)))] == ["ColorShift", "Warp"]


def test_images_that_shrink_unlike_stay_in_their_places():
    picture = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    stack = (T.Scale(T.LogUniform(0.2, 1.5)),)
    combine = seen(*stack, picture=picture, seeds=range(6))
    alone = torch.cat([seen(*stack, picture=picture[i : i + 1], seeds=[i]) for i in range(6)])
    assert torch.allclose(combine, alone, atol=1e-5)


def test_neighbours_fuse_and_keep_their_order():
    steps = (T.Crop(1), T.Shift(0.2), T.Rotate(20), T.Scale(T.LogUniform(0.8, 1.2)), T.Resize((5, 6)))
    matrix, size = T.Warp(steps).draw(Generators([5]), (3, 9, 14))
    rng, product, at = Generators([5]), torch.eye(3)[None], (9, 14)
    for step in steps:
        move, at = step.place(rng, at)
        product = move @ product
    assert size == at == (5, 6)
    assert torch.allclose(matrix, product)


def test_lucid_fuses_into_one_resampling_of_the_expected_size():
    assert len(T.fuse(T.LUCID)) == 1
    assert seen(*T.LUCID, picture=torch.rand(1, 3, 64, 96), seeds=(0,)).shape == (1, 3, 64 + 24 - 12, 96 + 24 - 12)


def test_a_pad_begins_a_new_resampling_and_others_stay_between():
    class Blur:
        def draw(self, rng, size):
            return None

        def apply(self, images, draw):
            return images

    fused = T.fuse((T.Jitter(2), T.Crop(1), T.Pad(1), T.Rotate(5), Blur(), T.Crop(1)))
    assert [type(step).__name__ for step in fused] == ["Warp", "Warp", "Blur", "Warp"]
    assert [len(step.steps) for step in fused if isinstance(step, T.Warp)] == [2, 2, 1]


def test_every_image_has_a_draw_of_its_own():
    same = PICTURE[:1].expand(2, -1, -1, -1)
    out = seen(*T.STANDARD, picture=same)
    assert not torch.allclose(out[0], out[1])


@pytest.mark.parametrize("make", [T.Crop(5), T.Jitter(9)])
def test_nothing_left(make):
    with pytest.raises(SettingError, match=r"leaves nothing of 9 x 14 px; give fewer px or a larger size$"):
        seen(make)


def test_spreads_reach_their_ends_and_no_further():
    rng = Generators(range(4000))
    uniform, log = T.Uniform(-2, 3).sample(rng), T.LogUniform(0.5, 8).sample(rng)
    assert -2 <= uniform.min() < -1.98 and 2.98 < uniform.max() <= 3
    assert 0.5 <= log.min() < 0.51 and 7.9 < log.max() <= 8.0001
    assert (log < 2).float().mean().item() == pytest.approx(0.5, abs=0.04)  # two of four doublings
    chosen = T.OneOf((1, 2, 2)).sample(rng)
    assert (chosen == 2).float().mean().item() == pytest.approx(2 / 3, abs=0.04)
    assert math.isclose(
        T.Rotate(20).place(rng, (9, 9))[0][:, 1, 0].abs().max().item(), math.sin(math.radians(20)), rel_tol=0.01
    )


def test_crop_or_pad_to_keeps_the_middle():
    picture = torch.rand(1, 2, 6, 9, generator=torch.Generator().manual_seed(0))
    views = seen(T.CropOrPadTo((10, 5), 0.25), picture=picture, seeds=[0])
    assert views.shape == (1, 2, 10, 5)
    assert torch.allclose(views[:, :, 2:8], picture[..., 2:7], atol=1e-5)
    assert torch.allclose(views[:, :, :2], torch.tensor(0.25))
    assert torch.allclose(views[:, :, 8:], torch.tensor(0.25))


def test_a_resized_view_is_a_window_inside_the_image():
    ys, xs = torch.meshgrid(torch.arange(40.0), torch.arange(60.0), indexing="ij")
    picture = torch.stack([ys, xs])[None].repeat(200, 1, 1, 1) / 60
    view = T.ResizedView(T.LogUniform(1.0, 4.0), size=(16, 24), whole=0.25)
    views = seen(view, picture=picture, seeds=range(200)) * 60
    assert views.shape == (200, 2, 16, 24)
    tall = (views[:, 0, -1, 0] - views[:, 0, 0, 0]) / 15 * 16  # px of the image that a view covers
    wide = (views[:, 1, 0, -1] - views[:, 1, 0, 0]) / 23 * 24
    assert (tall > 9).all() and (tall < 40.5).all()
    assert torch.allclose(wide / tall, torch.tensor(1.5), atol=0.1)
    assert views.min() >= -1e-3 and views[:, 0].max() <= 39.01 and views[:, 1].max() <= 59.01
    assert 0.15 < (tall > 39).float().mean() < 0.4  # whole views
    zooms = 40 / tall[tall < 39]
    assert zooms.min() < 1.3 and zooms.max() > 3.5
    assert zooms.log().mean().item() == pytest.approx(math.log(4) / 2, abs=0.12)  # every doubling equally likely


def test_what_shrinks_a_lot_is_averaged_and_not_skipped():
    picture = (torch.arange(64).view(1, 1, 1, 64) % 2).float().expand(2, 3, 64, 64)  # stripes of one pixel
    small = seen(T.Resize((16, 16)), picture=picture, seeds=[0, 1])
    assert (small - 0.5).abs().max() < 1e-5
    skipped = torch.nn.functional.interpolate(picture, (16, 16), mode="nearest")
    assert (skipped - 0.5).abs().max() == 0.5  # the measure can fail
    ramp = torch.linspace(0, 1, 64).view(1, 1, 1, 64).expand(1, 3, 64, 64)
    wanted = torch.nn.functional.interpolate(ramp, (16, 16), mode="area")
    assert torch.allclose(seen(T.Resize((16, 16)), picture=ramp, seeds=[0]), wanted, atol=1e-4)


def test_every_pixel_of_a_large_canvas_has_a_gradient_in_a_whole_view():
    canvas = torch.rand(1, 3, 128, 128, requires_grad=True)
    views, _ = T.look(canvas, T.fuse((T.ResizedView(T.LogUniform(1, 1.001), size=(32, 32)),)), Generators([0]))
    views.sum().backward()
    assert (canvas.grad != 0).float().mean() > 0.99


@pytest.mark.parametrize("stack", [T.STANDARD, T.LUCID, (T.Pad(3, 0.0), T.Rotate(40), T.Scale(0.4))])
def test_the_way_back_is_the_transpose(stack):
    """As it must be for what is linear: <Ax, y> = <x, A'y>."""
    stack = tuple(step for step in stack if not isinstance(step, T.ColorShift))
    picture = torch.rand(2, 3, 40, 57, dtype=torch.float64, requires_grad=True)
    out = seen(*stack, picture=picture) - seen(*stack, picture=torch.zeros_like(picture))
    other = torch.randn_like(out)
    (back,) = torch.autograd.grad(out, picture, other)
    assert torch.allclose((out * other).sum(), (picture * back).sum())


def test_one_of_your_own_that_widens_fills_with_its_value():
    @dataclass(frozen=True)
    class Below:
        value: float = 0.25

        def place(self, rng, size):
            return torch.eye(3).repeat(len(rng), 1, 1), (size[0] + 5, size[1])

    assert [len(step.steps) for step in T.fuse((T.Flip(), Below(), T.Flip()))] == [1, 2]
    assert torch.allclose(seen(Below()), F.pad(PICTURE, (0, 0, 0, 5), value=0.25), atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: T.Scale(0), "Scale(factor=0) leaves nothing; give a factor above 0, 1 is as it is"),
        (
            lambda: T.Scale(T.Uniform(-1, 1)),
            "Scale(factor=Uniform(low=-1, high=1)) leaves nothing; give a factor above 0",
        ),
        (lambda: T.Scale(T.OneOf((1, 0))), "Scale(factor=OneOf(values=(1, 0))) leaves nothing; give a factor above 0"),
        (lambda: T.ResizedView(0), "ResizedView(zoom=0, size=None, whole=0.0) leaves nothing; give a factor above 0"),
        (lambda: T.CropOrPadTo((0, 5)), "CropOrPadTo(size=(0, 5), value=0.5) leaves nothing; give a height and width"),
    ],
)
def test_what_would_leave_nothing_is_refused_when_it_is_made(make, message):
    with pytest.raises(SettingError) as caught:
        make()
    assert str(caught.value).startswith(message)
