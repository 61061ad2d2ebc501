import cmath
import math

import pytest
import torch

from featviz import param
from featviz.errors import SettingError
from featviz.random import Generators


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (3, 4), (6, 5)])
def test_fourier_restated(size):
    h, w = size
    fourier = param.Fourier(decay=1.5, sd=1.0)
    leaves = fourier.start(Generators([0]), 1, size)
    spectrum = torch.view_as_complex(leaves[0][0, 0])
    assert spectrum.shape == (h, w // 2 + 1)
    canvas = fourier.canvas(leaves, size)[0, 0]

    def frequency(k, n):
        return (k if k <= (n - 1) // 2 else k - n) / n

    full = {}
    for p in range(h):
        for q in range(w // 2 + 1):
            f = max(math.hypot(frequency(p, h), q / w), 1 / max(h, w))
            full[p, q] = spectrum[p, q].item() * 0.25 / f**1.5
    for p in range(h):  # a real canvas: the other half mirrors this one
        for q in range(w // 2 + 1, w):
            full[p, q] = full[-p % h, w - q].conjugate()
    # what irfft cannot use of the columns that mirror themselves is dropped
    for q in {0, w // 2} if w % 2 == 0 else {0}:
        column = {p: (full[p, q] + full[-p % h, q].conjugate()) / 2 for p in range(h)}
        full |= {(p, q): value for p, value in column.items()}
    for y in range(h):
        for x in range(w):
            value = sum(
                full[p, q] * cmath.exp(2j * math.pi * (p * y / h + q * x / w)) for p in range(h) for q in range(w)
            ) / math.sqrt(h * w)
            assert canvas[y, x].item() == pytest.approx(value.real, abs=1e-4)


def test_fourier_starts_as_loud_as_lucid():
    size = (224, 224)
    fourier = param.Fourier()
    rgb = torch.logit(param.image(224).images(fourier.start(Generators([0]), 3, size), size))
    assert 0.006 < rgb.std().item() < 0.024  # Lucid: 0.012


def test_pixel_holds_the_canvas_itself():
    leaves = param.Pixel().start(Generators([3]), 2, (4, 5))
    assert torch.equal(param.Pixel().canvas(leaves, (4, 5)), leaves[0])


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 24])
@pytest.mark.parametrize("size", [(1, 1), (7, 4), (8, 31)])
def test_any_size_and_number_of_channels(channels, size):
    for spatial in (param.Fourier(), param.Pixel()):
        whole = param.image(size, spatial=spatial)
        images = whole.images(whole.start(Generators([0, 1]), channels, size), size)
        assert images.shape == (2, channels, *size)
        assert images.min() >= 0 and images.max() <= 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: param.image(0), "size 0 x 0 has no pixels; give a height and width from 1"),
        (lambda: param.image(batch=0), "batch 0 has no pictures; give 1 or more"),
    ],
)
def test_impossible_images(make, message):
    with pytest.raises(SettingError) as caught:
        make()
    assert str(caught.value) == message
