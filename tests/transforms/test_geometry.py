"""Each geometric transform, compared with slicing, flipping and loops."""

import math
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F

from featviz import transforms as T
from featviz.errors import SettingError
from featviz.random import Generators

IMAGE = torch.rand(2, 3, 9, 14, generator=torch.Generator().manual_seed(0))


def view(*stack, images=IMAGE, seeds=(0, 1)):
    return T.apply_transforms(images, T.fuse(stack), Generators(seeds))[0]


def test_pad_extends_every_side():
    assert torch.allclose(view(T.Pad(2)), F.pad(IMAGE, (2, 2, 2, 2), value=0.5), atol=1e-5)
    assert torch.allclose(view(T.Pad(2, None)), F.pad(IMAGE, (2, 2, 2, 2), mode="reflect"), atol=1e-5)


def test_crop_keeps_the_center():
    assert torch.allclose(view(T.Crop(3)), IMAGE[..., 3:-3, 3:-3], atol=1e-5)


def test_jitter_crops_windows_at_every_offset():
    windows = {}
    for seed in range(60):
        out = view(T.Jitter(2), images=IMAGE[:1], seeds=(seed,))
        assert out.shape == (1, 3, 7, 12)
        match = [
            (y, x)
            for y in range(3)
            for x in range(3)
            if torch.allclose(out[0], IMAGE[0, :, y : y + 7, x : x + 12], atol=1e-5)
        ]
        assert len(match) == 1
        windows[match[0]] = windows.get(match[0], 0) + 1
    assert len(windows) == 9  # all nine offsets occur


@pytest.mark.parametrize(("degrees", "turns"), [(90, 1), (180, 2), (-90, -1)])
def test_rotate_turns_counter_clockwise(degrees, turns):
    square = IMAGE[..., :9]
    turned = view(T.Rotate(T.OneOf((degrees,))), images=square)
    assert torch.allclose(turned, torch.rot90(square, turns, (2, 3)), atol=1e-4)


def test_scale_enlarges_about_the_center():
    row = torch.arange(9.0).view(1, 1, 1, 9).expand(1, 1, 9, 9) / 8
    enlarged = view(T.Scale(T.OneOf((2.0,))), images=row, seeds=(0,))
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
        torch.allclose(view(T.Flip(), images=IMAGE[:1], seeds=(s,)), IMAGE[:1].flip(-1), atol=1e-5) for s in range(40)
    ]
    assert 8 < sum(flipped) < 32


def test_resize_agrees_with_interpolate():
    small = view(T.Resize((18, 28)))
    assert torch.allclose(
        small[..., 1:-1, 1:-1], F.interpolate(IMAGE, (18, 28), mode="bilinear")[..., 1:-1, 1:-1], atol=1e-4
    )


def test_resize_to_a_fraction():
    assert view(T.Resize(0.5)).shape == (2, 3, 4, 7)
    assert torch.equal(view(T.Resize(2.0)), view(T.Resize((18, 28))))
    assert view(T.Resize(0.5, min_side=6)).shape == (2, 3, 6, 9)
    assert torch.allclose(view(T.Resize(0.5, min_side=20)), IMAGE, atol=1e-6)


def test_pointwise_transforms_do_not_separate_geometric_ones():
    steps = (T.Shift(0.2), T.ColorShift(0.4), T.Rotate(20), T.Scale(0.7))
    fused = T.fuse(steps)
    assert [type(step).__name__ for step in fused] == ["Warp", "ColorShift"]
    first, color_shift, last = T.Warp(steps[:1]), T.ColorShift(0.4), T.Warp(steps[2:])
    draws = [step.draw(Generators([3, 4]), (3, 9, 14)) for step in (first, color_shift, last)]
    moved = first.apply(IMAGE, draws[0])
    before, after = (
        last.apply(color_shift.apply(moved, draws[1]), draws[2]),
        color_shift.apply(last.apply(moved, draws[2]), draws[1]),
    )
    assert torch.allclose(before, after, atol=1e-5)
    assert [type(step).__name__ for step in T.fuse((T.ColorShift(0.4), T.Pad(2)))] == ["ColorShift", "Warp"]


def test_images_with_different_numbers_of_halvings_keep_their_order():
    images = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    stack = (T.Scale(T.LogUniform(0.2, 1.5)),)
    together = view(*stack, images=images, seeds=range(6))
    alone = torch.cat([view(*stack, images=images[i : i + 1], seeds=[i]) for i in range(6)])
    assert torch.allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("on_gpu", [False, True])
def test_each_axis_is_halved_as_often_as_it_shrinks(on_gpu):
    """`on_gpu` runs the code of a GPU, which samples each image in all resolutions."""
    columns = (torch.arange(64.0) % 2).expand(1, 1, 64, 64)  # of one pixel each
    (warp,) = T.fuse((T.Resize((8, 64)),))
    draw = warp.draw(Generators([0]), (1, 64, 64))
    assert torch.allclose(
        warp.apply(columns, draw.to(torch.device("cpu")) if on_gpu else draw), columns[:, :, :8], atol=1e-4
    )
    clip = torch.arange(8.0).view(1, 1, 8, 1, 1).expand(1, 1, 8, 32, 32)
    (warp,) = T.fuse((T.Scale(T.OneOf((0.3,)), axes=2),))
    draw = warp.draw(Generators([0]), (1, 8, 32, 32))
    seen = warp.apply(clip, draw.to(torch.device("cpu")) if on_gpu else draw)
    assert torch.allclose(seen, clip[..., : seen.shape[3], : seen.shape[4]], atol=1e-5)


def test_on_a_gpu_images_with_different_numbers_of_halvings_equal_those_on_a_cpu():
    images = torch.rand(6, 3, 32, 40, generator=torch.Generator().manual_seed(0))
    (warp,) = T.fuse((T.Scale(T.LogUniform(0.1, 1.5)), T.Resize((20, 8))))
    draw = warp.draw(Generators(range(6)), (3, 32, 40))
    assert len(set(map(tuple, draw.halvings.tolist()))) > 2
    assert torch.allclose(warp.apply(images, draw.to(torch.device("cpu"))), warp.apply(images, draw), atol=1e-6)


def test_a_warp_multiplies_the_maps_of_its_steps_in_order():
    steps = (T.Crop(1), T.Shift(0.2), T.Rotate(20), T.Scale(T.LogUniform(0.8, 1.2)), T.Resize((5, 6)))
    coordinates, _, size, _ = T.Warp(steps).draw(Generators([5]), (3, 9, 14))
    rng, product, current = Generators([5]), torch.eye(3)[None], (9, 14)
    for step in steps:
        step_map, current = step.place(rng, current)
        product = step_map @ product
    assert size == current == (5, 6)
    corner = torch.linalg.inv(product)[0] @ torch.tensor([4.0, 2.0, 1.0])  # where pixel (row 2, column 4) comes from
    x, y = torch.tensor([4.0, 2.0, 1.0]) @ coordinates[0]
    assert torch.allclose(torch.stack([(x + 1) / 2 * 13, (y + 1) / 2 * 8]), corner[:2], atol=1e-4)


def test_lucid_fuses_into_one_resampling_of_the_expected_size():
    assert len(T.fuse(T.LUCID)) == 1
    assert view(*T.LUCID, images=torch.rand(1, 3, 64, 96), seeds=(0,)).shape == (1, 3, 64 + 24 - 12, 96 + 24 - 12)


def test_padding_and_other_transforms_start_a_new_resampling():
    class Blur:
        def draw(self, rng, size):
            return None

        def apply(self, images, draw):
            return images

    fused = T.fuse((T.Jitter(2), T.Crop(1), T.Pad(1), T.Rotate(5), Blur(), T.Crop(1)))
    assert [type(step).__name__ for step in fused] == ["Warp", "Warp", "Blur", "Warp"]
    assert [len(step.steps) for step in fused if isinstance(step, T.Warp)] == [2, 2, 1]


def test_every_image_has_its_own_draw():
    same = IMAGE[:1].expand(2, -1, -1, -1)
    out = view(*T.STANDARD, images=same)
    assert not torch.allclose(out[0], out[1])


@pytest.mark.parametrize("make", [T.Crop(5), T.Jitter(9)])
def test_cropping_more_than_the_image_is_refused(make):
    with pytest.raises(SettingError) as caught:
        view(make)
    assert str(caught.value) == f"{make} leaves nothing of 9 x 14 px; use fewer px or a larger image"


def test_distributions_cover_their_ranges():
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


def test_crop_or_pad_to_keeps_the_center():
    images = torch.rand(1, 2, 6, 9, generator=torch.Generator().manual_seed(0))
    views = view(T.CropOrPadTo((10, 5), 0.25), images=images, seeds=[0])
    assert views.shape == (1, 2, 10, 5)
    assert torch.allclose(views[:, :, 2:8], images[..., 2:7], atol=1e-5)
    assert torch.allclose(views[:, :, :2], torch.tensor(0.25))
    assert torch.allclose(views[:, :, 8:], torch.tensor(0.25))


def test_one_side_gives_a_square():
    assert T.CropOrPadTo(64) == T.CropOrPadTo((64, 64))
    assert T.ResizedView(size=64) == T.ResizedView(size=(64, 64))


def test_a_distribution_without_a_smallest_number_is_not_checked():
    class Fixed:
        def sample(self, rng):
            return torch.full((len(rng),), -1.0)

    T.Scale(Fixed())
    with pytest.raises(SettingError):
        T.Scale(T.OneOf((-1.0,)))


def test_a_resized_view_is_a_window_inside_the_image():
    ys, xs = torch.meshgrid(torch.arange(40.0), torch.arange(60.0), indexing="ij")
    images = torch.stack([ys, xs])[None].repeat(200, 1, 1, 1) / 60
    resized_view = T.ResizedView(T.LogUniform(1.0, 4.0), size=(16, 24), whole=0.25)
    views = view(resized_view, images=images, seeds=range(200)) * 60
    assert views.shape == (200, 2, 16, 24)
    tall = (views[:, 0, -1, 0] - views[:, 0, 0, 0]) / 15 * 16  # px of the image that the view covers
    wide = (views[:, 1, 0, -1] - views[:, 1, 0, 0]) / 23 * 24
    assert (tall > 9).all() and (tall < 40.5).all()
    assert torch.allclose(wide / tall, torch.tensor(1.5), atol=0.1)
    assert views.min() >= -1e-3 and views[:, 0].max() <= 39.01 and views[:, 1].max() <= 59.01
    assert 0.15 < (tall > 39).float().mean() < 0.4  # views of the whole image
    zooms = 40 / tall[tall < 39]
    assert zooms.min() < 1.3 and zooms.max() > 3.5
    assert zooms.log().mean().item() == pytest.approx(math.log(4) / 2, abs=0.12)  # uniform on a logarithmic scale


def test_large_shrinks_average_all_pixels():
    images = (torch.arange(64).view(1, 1, 1, 64) % 2).float().expand(2, 3, 64, 64)  # stripes of one pixel
    small = view(T.Resize((16, 16)), images=images, seeds=[0, 1])
    assert (small - 0.5).abs().max() < 1e-5
    skipped = torch.nn.functional.interpolate(images, (16, 16), mode="nearest")
    assert (skipped - 0.5).abs().max() == 0.5  # the check can fail
    ramp = torch.linspace(0, 1, 64).view(1, 1, 1, 64).expand(1, 3, 64, 64)
    wanted = torch.nn.functional.interpolate(ramp, (16, 16), mode="area")
    assert torch.allclose(view(T.Resize((16, 16)), images=ramp, seeds=[0]), wanted, atol=1e-4)


def test_every_pixel_of_a_large_canvas_has_a_gradient():
    canvas = torch.rand(1, 3, 128, 128, requires_grad=True)
    stack = T.fuse((T.ResizedView(T.LogUniform(1, 1.001), size=(32, 32)),))
    views, _ = T.apply_transforms(canvas, stack, Generators([0]))
    views.sum().backward()
    assert (canvas.grad != 0).float().mean() > 0.99


@pytest.mark.parametrize("stack", [T.STANDARD, T.LUCID, (T.Pad(3, 0.0), T.Rotate(40), T.Scale(0.4))])
def test_the_backward_pass_is_the_transpose_of_the_forward_pass(stack):
    """For a linear map A and its transpose A': <Ax, y> = <x, A'y>."""
    stack = tuple(step for step in stack if not isinstance(step, T.ColorShift))
    images = torch.rand(2, 3, 40, 57, dtype=torch.float64, requires_grad=True)
    out = view(*stack, images=images) - view(*stack, images=torch.zeros_like(images))
    other = torch.randn_like(out)
    (back,) = torch.autograd.grad(out, images, other)
    assert torch.allclose((out * other).sum(), (images * back).sum())


def test_a_padding_transform_of_the_user_sets_the_fill():
    @dataclass(frozen=True)
    class Below:
        fill: float = 0.25

        def place(self, rng, size):
            return torch.eye(3).repeat(len(rng), 1, 1), (size[0] + 5, size[1])

    assert [len(step.steps) for step in T.fuse((T.Flip(), Below(), T.Flip()))] == [1, 2]
    assert torch.allclose(view(Below()), F.pad(IMAGE, (0, 0, 0, 5), value=0.25), atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: T.Scale(0), "factor of Scale must be > 0, got 0 (1 changes nothing)"),
        (
            lambda: T.Scale(T.Uniform(-1, 1)),
            "factor of Scale must be > 0, got Uniform(low=-1, high=1) (1 changes nothing)",
        ),
        (
            lambda: T.Scale(T.OneOf((1, 0))),
            "factor of Scale must be > 0, got OneOf(values=(1, 0)) (1 changes nothing)",
        ),
        (lambda: T.ResizedView(0.5), "zoom of ResizedView must be >= 1, got 0.5 (1 changes nothing)"),
        (
            lambda: T.ResizedView(T.LogUniform(0.5, 2)),
            "zoom of ResizedView must be >= 1, got LogUniform(low=0.5, high=2) (1 changes nothing)",
        ),
        (lambda: T.ResizedView(whole=7), "whole of ResizedView must be in [0, 1], got 7 (default 0.0)"),
        (lambda: T.ResizedView(size=0), "size of ResizedView must be at least 1 px on each side, got 0 x 0"),
        (lambda: T.Pad(2, 1.5), "fill of Pad must be in [0, 1], got 1.5 (default 0.5; None mirrors the image)"),
        (
            lambda: T.CropOrPadTo(8, -1),
            "fill of CropOrPadTo must be in [0, 1], got -1 (default 0.5; None mirrors the image)",
        ),
        (lambda: T.CropOrPadTo((0, 5)), "size of CropOrPadTo must be at least 1 px on each side, got 0 x 5"),
        (
            lambda: T.Resize(0.0),
            "size of Resize must be > 0 and at most 8, got 0.0 (a fraction of the image's sides; or height and width "
            "in px, such as (224, 224))",
        ),
        (lambda: T.Resize((0, 4)), "size of Resize must be at least 1 px on each side, got 0 x 4"),
        (lambda: T.Pad(-1), "px of Pad must be a whole number in [0, 65536], got -1"),
        (lambda: T.Crop(-1), "px of Crop must be a whole number in [0, 65536], got -1"),
        (lambda: T.Jitter(-2), "px of Jitter must be a whole number in [0, 65536], got -2"),
        (lambda: T.Roll(-1), "px of Roll must be a whole number in [0, 65536], got -1"),
        (lambda: T.LogUniform(0, 1), "low of LogUniform must be > 0, got 0"),
        (
            lambda: T.Warp((T.Crop(4), T.Pad(4, 0.0))),
            "only the first of the steps of Warp may pad, got (Crop(px=4), Pad(px=4, fill=0.0)); use fuse",
        ),
        (lambda: T.OneOf(()), "values of OneOf must hold at least one number, got ()"),
    ],
)
def test_wrong_arguments_are_refused(make, message):
    with pytest.raises(SettingError) as caught:
        make()
    assert str(caught.value) == message
