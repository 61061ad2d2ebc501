"""The objective that compares amplitude spectra, restated by loops."""

import cmath
import math

import pytest
import torch
import toys

import featviz as fv
from featviz import objectives as obj
from featviz.interfaces import RenderContext
from featviz.network.activations import Activations
from featviz.objectives.spectrum import log_amplitudes
from featviz.param.spectrum import power_law, slope


def images_of(slopes, size=(96, 96)):
    """Return grey images with random phases and spectra 1/f^slope, in [0, 1]."""
    rng = torch.Generator().manual_seed(3)
    made = []
    for each in slopes:
        phases = torch.rand(size[0], size[1] // 2 + 1, generator=rng) * 2 * math.pi
        spectrum = torch.polar(power_law(size, each, torch.device("cpu")), phases)
        image = torch.fft.irfft2(spectrum, s=size)
        image = (image - image.min()) / (image.max() - image.min())
        made.append(image.expand(3, *size))
    return torch.stack(made)


def bound(photographs, size):
    return obj.MatchSpectrum(photographs).bind(RenderContext(lambda *_: None, 3, size, size))


def score(photographs, images):
    size = tuple(images.shape[2:])
    return bound(photographs, size)(Activations({}, {}, size).of(images))


def restated(image):
    """Window, transform, average the power of each octave, and subtract the mean of the logarithms."""
    height, width = image.shape[1:]
    grey = [[sum(image[c, y, x].item() for c in range(3)) / 3 for x in range(width)] for y in range(height)]
    mean = sum(map(sum, grey)) / (height * width)
    hann = [[0.5 - 0.5 * math.cos(2 * math.pi * i / side) for i in range(side)] for side in (height, width)]
    values = [[(grey[y][x] - mean) * hann[0][y] * hann[1][x] for x in range(width)] for y in range(height)]
    lowest = 2 / min(height, width)
    powers = {}
    for v in range(height):
        for u in range(width // 2 + 1):
            frequency = math.hypot(min(v, height - v) / height, u / width)
            if frequency < lowest - 1e-9:
                continue
            octave = math.floor(math.log2(frequency / lowest) + 1e-4)
            total = sum(
                values[y][x] * cmath.exp(-2j * math.pi * (v * y / height + u * x / width))
                for y in range(height)
                for x in range(width)
            )
            powers.setdefault(octave, []).append(abs(total) ** 2 / (height * width))
    logs = [math.log(sum(powers[k]) / len(powers[k])) / 2 for k in range(round(math.log2(0.5 / lowest)))]
    return [each - sum(logs) / len(logs) for each in logs]


@pytest.mark.parametrize("size", [(18, 25), (16, 16)])
def test_log_amplitudes_restated(size):
    image = torch.rand(3, *size, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(log_amplitudes(image[None])[0], torch.tensor(restated(image)), atol=1e-4, rtol=1e-4)


def test_score_is_the_distance_from_the_mean_over_photographs():
    photographs, images = images_of([1.0, 1.4]), images_of([0.8, 1.2, 1.6])
    target = log_amplitudes(photographs).mean(0)
    expected = [
        -sum((a - b) ** 2 for a, b in zip(one, target, strict=True)) / len(one) for one in log_amplitudes(images)
    ]
    torch.testing.assert_close(score(tuple(photographs), images), torch.stack(expected))


def test_contrast_brightness_and_alpha_do_not_count():
    photograph, image = images_of([1.2]), images_of([0.9])
    plain = score(tuple(photograph), image)
    torch.testing.assert_close(score(tuple(photograph), 0.5 * image + 0.3), plain, atol=1e-4, rtol=1e-3)
    alpha = torch.rand(1, 1, 96, 96)
    torch.testing.assert_close(score(tuple(photograph), torch.cat([image, alpha], 1)), plain)
    assert score(tuple(photograph), photograph).item() == pytest.approx(0, abs=1e-6)


def test_constant_images_have_a_score_and_a_gradient_without_nan():
    grey = torch.full((1, 3, 32, 32), 0.5, requires_grad=True)
    found = score(tuple(images_of([1.2])), grey)
    found.sum().backward()
    assert found.isfinite().all()
    assert grey.grad.isfinite().all()


@pytest.mark.parametrize("size", [(11, 40), (3, 3), (1, 1)])
def test_small_images_have_one_octave(size):
    assert score((torch.rand(3, *size),), torch.rand(2, 3, *size)).tolist() == [0, 0]


@pytest.mark.parametrize("size", [(4096,), (16, 20, 24)])
def test_signals_and_volumes(size):
    assert log_amplitudes(torch.rand(2, 1, *size)).isfinite().all()


@pytest.mark.parametrize("exponent", [0.6, 1.6])
def test_images_get_the_spectrum_of_the_photographs(exponent):
    photographs = images_of([exponent] * 2)
    rendering = fv.render(toys.plain(), obj.MatchSpectrum(tuple(photographs)), param=fv.param.Image(96), steps=60)
    target = log_amplitudes(photographs).mean(0)
    torch.testing.assert_close(log_amplitudes(rendering.images)[0], target, atol=0.1, rtol=0)
    assert slope(rendering.images).item() == pytest.approx(slope(photographs).mean().item(), abs=0.3)


def test_text_files_and_messages(tmp_path):
    rendering = fv.render(fv.load("motifnet"), "logit:star", size=32, steps=0, robustness_views=0)
    (file,) = rendering.save(tmp_path / "a.png")
    objective = obj.MatchSpectrum(tmp_path)
    assert objective.files == (str(file),)
    assert obj.parse(str(objective)) == objective
    assert str(obj.MatchSpectrum((torch.zeros(3, 4, 4),) * 2)) == "spectrum(2 photographs)"
    with pytest.raises(fv.SettingError, match="there is no photograph to match"):
        obj.MatchSpectrum(())
    with pytest.raises(fv.OutputError):
        bound(str(tmp_path / "missing.png"), (32, 32))
