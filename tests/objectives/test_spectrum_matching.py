"""The objective that compares amplitude spectra, restated by loops."""

import cmath
import itertools
import math

import pytest
import torch
import toys

import featviz as fv
from featviz import objectives as obj
from featviz import param
from featviz.interfaces import RenderContext
from featviz.io import save_image
from featviz.network.activations import Activations
from featviz.objectives.spectrum import LEAST_POWER, log_amplitudes
from featviz.param.spectrum import power_law


def images_of(slopes, size=(96, 96), channels=3):
    """Return grey images with random phases and spectra 1/f^slope, in [0, 1]."""
    rng = torch.Generator().manual_seed(3)
    made = []
    for each in slopes:
        phases = torch.rand(*size[:-1], size[-1] // 2 + 1, generator=rng) * 2 * math.pi
        image = torch.fft.irfftn(torch.polar(power_law(size, each, torch.device("cpu")), phases), s=size)
        image = (image - image.min()) / (image.max() - image.min())
        made.append(image.expand(channels, *size))
    return torch.stack(made)


def bound(photographs, size, channels=3):
    return obj.MatchSpectrum(photographs).bind(RenderContext(lambda *_: None, channels, size, size))


def score(photographs, images, channels=3):
    size = tuple(images.shape[2:])
    return bound(photographs, size, channels)(Activations({}, {}, size).of(images))


def restated(image):
    """Window, transform, average the power of each octave over the whole spectrum, and center the logarithms."""
    size = image.shape[1:]
    places = list(itertools.product(*map(range, size)))
    grey = {at: sum(image[(c, *at)].item() for c in range(len(image))) / len(image) for at in places}
    mean = sum(grey.values()) / len(places)
    values = {}
    for at in places:
        window = math.prod(0.5 - 0.5 * math.cos(2 * math.pi * i / side) for i, side in zip(at, size, strict=True))
        values[at] = (grey[at] - mean) * window
    lowest, powers = 2 / max(size), {}
    for wave in places:
        parts = [min(k, side - k) / side for k, side in zip(wave, size, strict=True)]
        frequency = math.hypot(*parts)
        if frequency > lowest - 1e-9:
            turns = {at: sum(k * i / side for k, i, side in zip(wave, at, size, strict=True)) for at in places}
            total = sum(values[at] * cmath.exp(-2j * math.pi * turns[at]) for at in places)
            octave = math.floor(math.log2(frequency / lowest) + 1e-4)
            powers.setdefault(octave, []).append(abs(total) ** 2 / len(places))
    count = math.floor(math.log2(max(size) / 4) + 0.5)
    logs = [math.log(sum(powers[k]) / len(powers[k]) + LEAST_POWER) / 2 for k in range(count)]
    return [each - sum(logs) / len(logs) for each in logs]


@pytest.mark.parametrize("size", [(18, 25), (16, 16), (48,), (6, 7, 12)])
def test_log_amplitudes_restated(size):
    image = torch.rand(2, *size, generator=torch.Generator().manual_seed(1))
    expected = torch.tensor(restated(image))
    assert len(expected) >= 2
    torch.testing.assert_close(log_amplitudes(image[None])[0], expected, atol=1e-4, rtol=1e-4)


def test_rows_and_columns_count_the_same():
    image = torch.rand(1, 3, 24, 40, generator=torch.Generator().manual_seed(1)).cumsum(2)
    torch.testing.assert_close(log_amplitudes(image), log_amplitudes(image.mT), atol=1e-4, rtol=1e-4)


def test_score_is_the_distance_from_the_mean_over_photographs():
    photographs, images = images_of([1.0, 1.4]), images_of([0.8, 1.2, 1.6])
    target = log_amplitudes(photographs).mean(0)
    apart = [[(a - b) ** 2 for a, b in zip(one, target, strict=True)] for one in log_amplitudes(images)]
    expected = [-sum(each) / len(each) for each in apart]
    torch.testing.assert_close(score(tuple(photographs), images), torch.stack(expected))


@pytest.mark.parametrize("more", [0.2, -0.3])
def test_the_score_of_another_exponent(more):
    """About -1.4 times the squared difference of the exponents, at 224 px."""
    photograph, image = (images_of([1.2 + e], (224, 224)) for e in (0, more))
    assert score(tuple(photograph), image).item() == pytest.approx(-1.4 * more**2, rel=0.15)


def test_photographs_are_cropped_to_the_aspect_ratio(tmp_path):
    whole = images_of([1.2], (48, 192))[0]
    save_image((255 * whole).round().byte().movedim(0, 2).numpy(), tmp_path / "wide.png")
    middle = whole[:, :, 48:144]
    assert score(str(tmp_path / "wide.png"), middle[None]).item() == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
def test_contrast_brightness_and_alpha_do_not_count(channels):
    photograph, image = images_of([1.2], channels=channels), images_of([0.9], channels=channels)
    plain = score(tuple(photograph), image, channels)
    torch.testing.assert_close(score(tuple(photograph), 0.5 * image + 0.3, channels), plain, atol=1e-3, rtol=1e-2)
    alpha = torch.rand(1, 1, 96, 96, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(score(tuple(photograph), torch.cat([image, alpha], 1), channels), plain)
    assert score(tuple(photograph), photograph, channels).item() == pytest.approx(0, abs=1e-6)


def test_photographs_of_one_colour_are_left_out():
    grey, photograph, image = torch.full((3, 96, 96), 0.5), images_of([1.2])[0], images_of([0.9])
    torch.testing.assert_close(score((grey, photograph), image), score((photograph,), image))
    assert score((grey,), image).item() == 0


def test_constant_and_smooth_images_have_bounded_gradients():
    rows = torch.linspace(0, 1, 64)[:, None].expand(64, 64)
    for image in (torch.full((64, 64), 0.5), rows, (6 * rows).sin() / 2 + 0.5):
        image = image.expand(1, 3, 64, 64).clone().requires_grad_()
        found = score(tuple(images_of([1.2], (64, 64))), image)
        found.sum().backward()
        assert found.isfinite().all() and -10 < found.item() < 0
        assert image.grad.abs().max() < 100


@pytest.mark.parametrize("size", [(11, 11), (3, 3), (1, 1), (11,)])
def test_small_images_have_one_octave(size):
    assert score((torch.rand(3, *size),), torch.rand(2, 3, *size)).tolist() == [0, 0]


@pytest.mark.parametrize("size", [(12, 3), (12,)])
def test_twelve_pixels_have_two_octaves(size):
    rng = torch.Generator().manual_seed(0)
    assert (score((torch.rand(3, *size, generator=rng),), torch.rand(2, 3, *size, generator=rng)) < 0).all()


@pytest.mark.parametrize("exponent", [0.4, 2.0])
def test_images_get_the_spectrum_of_the_photographs(exponent):
    photographs = images_of([exponent] * 2)
    target = log_amplitudes(photographs).mean(0)
    options = {"param": param.Image(96), "robustness_views": 0}
    before, after = (
        log_amplitudes(fv.render(toys.plain(), obj.MatchSpectrum(tuple(photographs)), steps=steps, **options).images)[0]
        for steps in (0, 60)
    )
    assert (before - target).abs().max() > 0.3
    torch.testing.assert_close(after, target, atol=0.1, rtol=0)


def test_of_several_inputs_there_is_no_spectrum():
    context = RenderContext(lambda *_: None, 1, (96,), (96,), inputs=("first", "second"))
    message = (
        r"^the objective reads an image, and the inputs first and second are optimised; give values for all but one "
        r"with net.with_given\(...\), or leave it out$"
    )
    with pytest.raises(fv.SettingError, match=message):
        obj.MatchSpectrum((torch.rand(1, 8, 8),)).bind(context)


def test_text_files_and_messages(tmp_path):
    save_image((255 * images_of([1])[0]).byte().movedim(0, 2).numpy(), tmp_path / "a.png")
    objective = obj.MatchSpectrum(tmp_path)
    assert objective.files == (str(tmp_path / "a.png"),)
    assert obj.parse(str(objective)) == objective
    assert str(obj.MatchSpectrum((torch.zeros(3, 4, 4),) * 2)) == "spectrum(2 photographs)"
    with pytest.raises(fv.SettingError, match="there is no photograph to match"):
        obj.MatchSpectrum(())
    with pytest.raises(fv.OutputError, match="^no file .*missing.png; check the path$"):
        bound(str(tmp_path / "missing.png"), (32, 32))
