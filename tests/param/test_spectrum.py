"""Spectra and the inverse Fourier transform."""

import math

import pytest
import torch

from featviz.param.spectrum import frequencies, inverse_fft, natural_amplitudes
from featviz.random import Generators


def test_natural_amplitudes_follow_the_published_power_law_with_unit_standard_deviation():
    size = (96, 128)
    amplitude = natural_amplitudes(size, torch.device("cpu"))
    frequency = frequencies(size, torch.device("cpu"))
    assert amplitude[0, 0] == 0
    assert (amplitude[3, 5] / amplitude[30, 50]).item() == pytest.approx(
        (frequency[30, 50] / frequency[3, 5]).item() ** 1.2, rel=1e-4
    )
    noise = Generators([0]).normal(8, 96, 65, 2) * 0.5**0.5
    assert inverse_fft(noise * amplitude[..., None], size).std().item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("size", [(6, 8), (5, 7), (4, 5), (1, 6), (6, 1), (3, 2)])
def test_the_inverse_fft_is_a_sum_of_waves_and_so_is_its_gradient(size):
    height, width = size
    half = width // 2 + 1
    spectrum = torch.randn(1, 1, height, half, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    spectrum.requires_grad_()
    rows, columns = torch.arange(height).double()[:, None], torch.arange(width).double()
    expected = torch.zeros(size, dtype=torch.float64)
    for v in range(height):
        for u in range(half):
            angle = 2 * math.pi * (v * rows / height + u * columns / width)
            real, imaginary = spectrum[0, 0, v, u]
            wave = real * angle.cos() - imaginary * angle.sin()
            expected = expected + wave * (1 if u in (0, width / 2) else 2) / (height * width) ** 0.5
    canvas = inverse_fft(spectrum, size)
    torch.testing.assert_close(canvas[0, 0], expected)
    weight = torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found, slow = (torch.autograd.grad((each * weight).sum(), spectrum)[0] for each in (canvas, expected))
    torch.testing.assert_close(found, slow)
