"""Regularizers, each restated by loops, in double precision."""

import math

import pytest
import torch
from sample import ACTS, IMAGES, N, assert_scores

from featviz import objectives as obj
from featviz.errors import SettingError
from featviz.network.activations import Activations


def test_total_variation():
    expected = []
    for image in IMAGES:
        down = [abs(image[c, y + 1, x] - image[c, y, x]) for c in range(3) for y in range(5) for x in range(9)]
        along = [abs(image[c, y, x + 1] - image[c, y, x]) for c in range(3) for y in range(6) for x in range(8)]
        expected.append((sum(down) / len(down) + sum(along) / len(along)).item())
    assert_scores(obj.TotalVariation()(ACTS), expected)


def test_l1_and_l2():
    pixels = [image.flatten().tolist() for image in IMAGES]
    assert_scores(obj.L1(0.3)(ACTS), [sum(abs(p - 0.3) for p in row) / len(row) for row in pixels])
    assert_scores(obj.L2(0.3)(ACTS), [sum((p - 0.3) ** 2 for p in row) / len(row) for row in pixels])


def blurred(image, std, radius_y, radius_x):
    """Blur with the normalized weights of a Gaussian; borders are mirrored without repeating the last pixel."""
    h, w = image.shape

    def mirrored(i, n):
        i = abs(i) % (2 * n - 2)
        return i if i < n else 2 * n - 2 - i

    def weights(radius):
        raw = [math.exp(-(i**2) / (2 * std**2)) for i in range(-radius, radius + 1)]
        return [value / sum(raw) for value in raw]

    wy, wx = weights(radius_y), weights(radius_x)
    out = torch.empty_like(image)
    for y in range(h):
        for x in range(w):
            out[y, x] = sum(
                wy[j + radius_y] * wx[i + radius_x] * image[mirrored(y + j, h), mirrored(x + i, w)]
                for j in range(-radius_y, radius_y + 1)
                for i in range(-radius_x, radius_x + 1)
            )
    return out


def test_blur_is_half_the_mean_squared_difference_from_the_blurred_image():
    expected = [
        sum((image[c] - blurred(image[c], 0.8, 2, 2)).square().sum().item() for c in range(3)) / (2 * 162)
        for image in IMAGES
    ]
    assert_scores(obj.Blur(0.8)(ACTS), expected)


def test_descending_blur_smooths_noise():
    noise = torch.rand(1, 3, 20, 20, generator=torch.Generator().manual_seed(0)).requires_grad_()
    acts = Activations({}, {}, (20, 20), source=noise)
    (-obj.Blur()(acts)).sum().backward()
    smoother = acts.of((noise + 500 * noise.grad).detach())
    assert obj.TotalVariation()(smoother).item() < obj.TotalVariation()(acts).item()
    assert obj.Blur()(smoother).item() < obj.Blur()(acts).item()


def test_boundary_complexity_measures_the_border_only():
    expected = []
    for image in IMAGES:
        total = 0.0
        for c in range(3):
            soft = blurred(image[c], 2.5, 5, 8)
            for y in range(6):
                for x in range(9):
                    if not (2 <= y < 4 and 2 <= x < 7):
                        pixel = image[c, y, x].item()
                        total += (pixel - soft[y, x].item()) ** 2 + 0.8 * (pixel - 0.4) ** 2
        expected.append(total / (3 * (54 - 10)))
    assert_scores(obj.BoundaryComplexity(2, 0.4)(ACTS), expected)


def test_opacity_is_the_mean_of_alpha():
    rgba = torch.rand(N, 4, 8, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    acts = ACTS.of(rgba, has_alpha=True)
    assert_scores(obj.Opacity()(acts), [image[3].mean().item() for image in rgba])
    assert_scores(obj.Opacity(True)(acts), [image[3, 2:6, 3:9].mean().item() for image in rgba])


def test_opacity_needs_an_alpha_channel():
    with pytest.raises(SettingError) as caught:
        obj.Opacity()(ACTS)
    assert str(caught.value) == "the image has no alpha channel; use param=param.Alpha(), or --param alpha"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: obj.Blur(0), "std of Blur must be > 0, got 0 (default 1 px)"),
        (
            lambda: obj.BoundaryComplexity(0),
            "px of BoundaryComplexity must be a whole number in [1, 65536], got 0 (default 20)",
        ),
        (lambda: obj.BoundaryComplexity(grey=7), "grey of BoundaryComplexity must be in [0, 1], got 7 (default 0.5)"),
    ],
)
def test_invalid_regularizers(make, message):
    with pytest.raises(SettingError) as caught:
        make()
    assert str(caught.value) == message


@pytest.mark.parametrize("penalty", ["l1", "l2(0)", "boundary(4)"])
def test_penalties_of_pixels_leave_alpha_alone(penalty):
    images = torch.rand(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    opaque = images.clone()
    opaque[:, 3] = 1
    goal, none = obj.parse(penalty), Activations({}, {}, (16, 16))
    found = goal(none.of(images, has_alpha=True))
    assert torch.equal(found, goal(none.of(opaque, has_alpha=True)))
    assert torch.equal(found, goal(none.of(images[:, :3])))
