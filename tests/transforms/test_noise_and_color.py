import math

import pytest
import torch

from featviz import transforms as T
from featviz.errors import SettingError
from featviz.random import Generators


def test_tint_multiplies_and_adds_for_each_channel_of_each_image():
    images = torch.rand(2, 4, 3, 5)
    tint = T.ColorShift(0.3)
    gain, shift = tint.draw(Generators([0, 1]), (4, 3, 5))
    seen = tint.apply(images, (gain, shift))
    for i in range(2):
        for c in range(4):
            wanted = images[i, c] * gain[i, c, 0, 0] + shift[i, c, 0, 0]
            assert torch.allclose(seen[i, c], wanted)


def test_tint_reaches_its_ends_and_no_further():
    gain, shift = T.ColorShift(0.3).draw(Generators(range(2000)), (3, 1, 1))
    assert 0.7 <= gain.min() < 0.701
    assert 1.299 < gain.max() <= 1.3
    assert -0.3 <= shift.min() < -0.299
    assert 0.299 < shift.max() <= 0.3
    assert abs(torch.corrcoef(torch.stack([gain.flatten(), shift.flatten()]))[0, 1]) < 0.05


def test_contrast_stretches_about_each_channels_mean():
    images = torch.rand(2, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    gain = T.Contrast(0.5).draw(Generators([0, 1]), (3, 4, 5))
    seen = T.Contrast(0.5).apply(images, gain)
    for i in range(2):
        for c in range(3):
            mean = images[i, c].sum() / 20
            assert torch.allclose(seen[i, c], mean + gain[i, 0, 0, 0] * (images[i, c] - mean))
    wide = T.Contrast(0.5).draw(Generators(range(1000)), (3, 1, 1))
    assert 0.5 <= wide.min() < 0.505 and 1.495 < wide.max() <= 1.5


def test_gaussian_blur_restated_with_a_deviation_for_each_image():
    image = torch.rand(1, 1, 9, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    seen = T.GaussianBlur(1.0).apply(image.repeat(2, 1, 1, 1), torch.tensor([0.7, 1.2]))
    for i, std in enumerate((0.7, 1.2)):
        reach = 4  # of the widest, for all
        raw = [math.exp(-(j**2) / (2 * std**2)) for j in range(-reach, reach + 1)]
        weights = [value / sum(raw) for value in raw]
        for y, x in ((0, 0), (4, 5), (8, 2)):
            wanted = 0.0
            for j in range(-reach, reach + 1):
                for k in range(-reach, reach + 1):
                    v, u = abs(y + j), abs(x + k)
                    v, u = (16 - v if v > 8 else v), (20 - u if u > 10 else u)
                    wanted += weights[j + reach] * weights[k + reach] * image[0, 0, v, u].item()
            assert seen[i, 0, y, x].item() == pytest.approx(wanted, rel=1e-4)


def test_noise_is_what_it_says():
    images = torch.full((64, 3, 20, 30), 0.5)
    added = T.Noise(0.2).apply(images, T.Noise(0.2).draw(Generators(range(64)), (3, 20, 30))) - images
    assert added.std().item() == pytest.approx(0.2, rel=0.02)
    assert added.abs().max() > 0.6
    even = T.UniformNoise(0.2).apply(images, T.UniformNoise(0.2).draw(Generators(range(64)), (3, 20, 30))) - images
    assert 0.199 < even.abs().max() <= 0.2 + 1e-6
    assert even.std().item() == pytest.approx(0.2 / 3**0.5, rel=0.02)


def test_collapse_mixes_light_over_backgrounds_that_change():
    images = torch.zeros(3, 4, 6, 8)
    images[:, :3], images[0, 3], images[1, 3], images[2, 3] = 0.2, 1.0, 0.0, 0.5
    behind = T.CompositeAlpha().draw(Generators([0, 1, 2]), (4, 6, 8))
    seen = T.CompositeAlpha().apply(images, behind)
    assert torch.allclose(seen[0], torch.tensor(0.2), atol=1e-5)
    assert torch.allclose(seen[1], behind[1], atol=1e-5)

    def light(v):
        return v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4

    def shown(v):
        return 12.92 * v if v <= 0.0031308 else 1.055 * v ** (1 / 2.4) - 0.055

    for y, x in ((0, 0), (3, 5)):
        wanted = shown((light(0.2) + light(behind[2, 1, y, x].item())) / 2)
        assert seen[2, 1, y, x].item() == pytest.approx(wanted, abs=1e-4)
    grey = T.CompositeAlpha().apply(torch.full((1, 2, 4, 4), 0.5), torch.full((1, 1, 4, 4), 0.1))
    assert torch.allclose(grey, torch.tensor(0.3))  # gamma is known of RGB alone


def test_backgrounds_are_as_varied_as_photographs():
    behind = T.CompositeAlpha().draw(Generators(range(100)), (4, 32, 32))
    assert 0.15 < behind.std() < 0.3
    assert behind.mean((2, 3)).std() > 0.1  # nor is their mean colour to be foreseen
    assert (behind.std((2, 3)) > 0.02).all()


def test_what_cannot_blur():
    with pytest.raises(SettingError, match=r"^a blur of 0 px does nothing; give a deviation above 0$"):
        T.GaussianBlur(0)
