import math

import pytest
import torch

from featviz import transforms as T
from featviz.errors import SettingError
from featviz.random import Generators


def test_color_shift_restated():
    images = torch.rand(2, 4, 3, 5)
    color_shift = T.ColorShift(0.3)
    gain, shift = color_shift.draw(Generators([0, 1]), (4, 3, 5))
    views = color_shift.apply(images, (gain, shift))
    for i in range(2):
        for c in range(4):
            wanted = images[i, c] * gain[i, c, 0, 0] + shift[i, c, 0, 0]
            assert torch.allclose(views[i, c], wanted)


def test_color_shift_covers_its_range():
    gain, shift = T.ColorShift(0.3).draw(Generators(range(2000)), (3, 1, 1))
    assert 0.7 <= gain.min() < 0.701
    assert 1.299 < gain.max() <= 1.3
    assert -0.3 <= shift.min() < -0.299
    assert 0.299 < shift.max() <= 0.3
    assert abs(torch.corrcoef(torch.stack([gain.flatten(), shift.flatten()]))[0, 1]) < 0.05


def test_contrast_changes_about_the_mean_of_each_channel():
    images = torch.rand(2, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    gain = T.Contrast(0.5).draw(Generators([0, 1]), (3, 4, 5))
    views = T.Contrast(0.5).apply(images, gain)
    for i in range(2):
        for c in range(3):
            mean = images[i, c].sum() / 20
            assert torch.allclose(views[i, c], mean + gain[i, 0, 0, 0] * (images[i, c] - mean))
    wide = T.Contrast(0.5).draw(Generators(range(1000)), (3, 1, 1))
    assert 0.5 <= wide.min() < 0.505 and 1.495 < wide.max() <= 1.5


def test_gaussian_blur_restated_with_a_std_for_each_image():
    image = torch.rand(1, 1, 9, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    views = T.GaussianBlur(1.0).apply(image.repeat(2, 1, 1, 1), torch.tensor([0.7, 1.2]))
    for i, std in enumerate((0.7, 1.2)):
        reach = 4  # px on each side
        raw = [math.exp(-(j**2) / (2 * std**2)) for j in range(-reach, reach + 1)]
        weights = [value / sum(raw) for value in raw]
        for y, x in ((0, 0), (4, 5), (8, 2)):
            wanted = 0.0
            for j in range(-reach, reach + 1):
                for k in range(-reach, reach + 1):
                    v, u = abs(y + j), abs(x + k)
                    v, u = (16 - v if v > 8 else v), (20 - u if u > 10 else u)
                    wanted += weights[j + reach] * weights[k + reach] * image[0, 0, v, u].item()
            assert views[i, 0, y, x].item() == pytest.approx(wanted, rel=1e-4)


def test_noise_has_its_std_and_range():
    images = torch.full((64, 3, 20, 30), 0.5)
    added = T.Noise(0.2).apply(images, T.Noise(0.2).draw(Generators(range(64)), (3, 20, 30))) - images
    assert added.std().item() == pytest.approx(0.2, rel=0.02)
    assert added.abs().max() > 0.6
    uniform = T.UniformNoise(0.2).apply(images, T.UniformNoise(0.2).draw(Generators(range(64)), (3, 20, 30))) - images
    assert 0.199 < uniform.abs().max() <= 0.2 + 1e-6
    assert uniform.std().item() == pytest.approx(0.2 / 3**0.5, rel=0.02)


def test_composite_alpha_mixes_linear_light():
    images = torch.zeros(3, 4, 6, 8)
    images[:, :3], images[0, 3], images[1, 3], images[2, 3] = 0.2, 1.0, 0.0, 0.5
    drawn = T.CompositeAlpha().draw(Generators([0, 1, 2]), (4, 6, 8))
    views = T.CompositeAlpha().apply(images, drawn)
    background = T.CompositeAlpha().apply(torch.zeros(3, 4, 6, 8), drawn)
    assert torch.allclose(views[0], torch.tensor(0.2), atol=1e-5)
    assert torch.allclose(views[1], background[1], atol=1e-5)

    def to_linear(v):
        return v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4

    def to_srgb(v):
        return 12.92 * v if v <= 0.0031308 else 1.055 * v ** (1 / 2.4) - 0.055

    for y, x in ((0, 0), (3, 5)):
        wanted = to_srgb((to_linear(0.2) + to_linear(background[2, 1, y, x].item())) / 2)
        assert views[2, 1, y, x].item() == pytest.approx(wanted, abs=1e-4)
    flat = torch.zeros(1, 1, 4, 3, 2), torch.full((1, 1, 1, 1), math.log(0.1 / 0.9))  # a background of 0.1
    grey = T.CompositeAlpha().apply(torch.full((1, 2, 4, 4), 0.5), flat)
    assert torch.allclose(grey, torch.tensor(0.3))  # other channels than RGB have no gamma


def test_backgrounds_vary_like_photographs():
    drawn = T.CompositeAlpha().draw(Generators(range(100)), (4, 32, 32))
    background = T.CompositeAlpha().apply(torch.zeros(100, 4, 32, 32), drawn)
    assert 0.15 < background.std() < 0.3
    assert background.mean((2, 3)).std() > 0.1  # their mean colours differ
    assert (background.std((2, 3)) > 0.02).all()


def test_a_blur_of_0_px_is_refused():
    with pytest.raises(SettingError, match=r"^std of GaussianBlur must be > 0, got 0$"):
        T.GaussianBlur(0)
