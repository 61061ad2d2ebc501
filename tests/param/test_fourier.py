"""Fourier coefficients and phases."""

import cmath
import math

import pytest
import torch

from featviz import param
from featviz.param.fourier import PHASE_STEP_SCALE
from featviz.random import Generators


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (3, 4), (6, 5)])
def test_fourier_restated(size):
    h, w = size
    fourier = param.Fourier(decay=1.5, std=1.0)
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
            full[p, q] = spectrum[p, q].item() * 0.1 / f**1.5
    for p in range(h):  # a real canvas: the other half is conjugate to this one
        for q in range(w // 2 + 1, w):
            full[p, q] = full[-p % h, w - q].conjugate()
    # irfft uses only the Hermitian part of the columns that are conjugate to themselves
    for q in {0, w // 2} if w % 2 == 0 else {0}:
        column = {p: (full[p, q] + full[-p % h, q].conjugate()) / 2 for p in range(h)}
        full |= {(p, q): value for p, value in column.items()}
    for y in range(h):
        for x in range(w):
            value = sum(
                full[p, q] * cmath.exp(2j * math.pi * (p * y / h + q * x / w)) for p in range(h) for q in range(w)
            ) / math.sqrt(h * w)
            assert canvas[y, x].item() == pytest.approx(value.real, abs=1e-4)


def test_fourier_starts_with_the_standard_deviation_of_lucid():
    size = (224, 224)
    fourier = param.Fourier(decay=1.0)
    rgb = torch.logit(param.Image(224, spatial=fourier).images(fourier.start(Generators([0]), 3, size), size))
    assert 0.006 < rgb.std().item() < 0.024  # Lucid: 0.012


def test_phase_keeps_the_amplitudes():
    size = (16, 20)
    phase = param.Phase()
    leaves = phase.start(Generators([0, 1]), 3, size)
    for step in range(2):  # for any phases
        canvas = phase.canvas([leaves[0] + 0.3 * step * torch.randn(leaves[0].shape), leaves[1]], size)
        amplitude = torch.fft.rfft2(canvas, norm="ortho").abs()
        assert torch.allclose(amplitude, leaves[1], rtol=1e-3, atol=1e-5)
        assert torch.allclose(canvas.mean((2, 3)), torch.zeros(2, 3), atol=1e-5)


def test_phase_starts_with_uniform_phases_and_without_a_spike_or_a_color_cast():
    """The published versions of MACO have a spike of 50 to 100 standard deviations at pixel (0, 0)."""
    size = (128, 128)
    image_param = param.Image(size, spatial=param.Phase())
    leaves = image_param.start(Generators(range(4)), 3, size)
    angles = leaves[0] * PHASE_STEP_SCALE
    assert -math.pi <= angles.min() < -3.1 and 3.1 < angles.max() <= math.pi
    assert angles.var().item() == pytest.approx(math.pi**2 / 3, rel=0.01)
    canvas = param.Phase().canvas(leaves, size)
    assert ((canvas - canvas.mean()) / canvas.std()).abs()[..., 0, 0].max() < 4
    images = image_param.images(leaves, size)
    assert (images.mean((2, 3)) - 0.5).abs().max() < 0.02
    assert 0.17 < images.std().item() < 0.25  # photographs: .21


def test_no_gradient_reaches_the_amplitudes_of_phase():
    leaves = [leaf.requires_grad_() for leaf in param.Phase().start(Generators([0]), 3, (8, 8))]
    param.Phase().canvas(leaves, (8, 8)).square().sum().backward()
    assert leaves[0].grad is not None and leaves[1].grad is None
