"""Priors: mean, correlation of the colours, and spectrum of images."""

import numpy as np
import pytest
import torch
import toys

import featviz as fv
from featviz import param
from featviz.errors import SettingError
from featviz.param.prior import Prior, prior_path
from featviz.param.spectrum import canvas_std, inverse_fft, power_law
from featviz.random import Generators


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_a_prior_recovers_mean_correlation_and_spectrum(channels, tmp_path):
    """Fit a prior to images of known mean, correlation and spectrum."""
    size, decay = (128, 128), 1.5
    rng = Generators(range(12))
    axes = torch.linalg.qr(torch.randn(channels, channels, generator=torch.Generator().manual_seed(0)))[0]
    axes = axes * torch.linspace(1, 0.3, channels)
    amplitude = power_law(size, decay, torch.device("cpu"))
    amplitude[0, 0] = 0
    amplitude = amplitude / canvas_std(amplitude, size)
    canvas = inverse_fft(rng.normal(channels, 128, 65, 2) * 0.5**0.5 * amplitude[..., None], size)
    mean = torch.linspace(-0.5, 0.5, channels)
    images = (torch.einsum("ij,njhw->nihw", axes, canvas) + mean.view(-1, 1, 1)).sigmoid()
    for i, image in enumerate(images):
        np.save(tmp_path / f"{i}.npy", image.numpy())
    prior = fv.fit_prior(tmp_path, channels=channels, size=128)
    assert prior.mean == pytest.approx(mean.tolist(), abs=0.05)
    found = torch.tensor(prior.correlation)
    assert torch.allclose(found @ found.T, axes @ axes.T, atol=0.12)
    known, amplitudes = torch.tensor(prior.frequencies).log(), torch.tensor(prior.amplitudes).log()
    slope = (amplitudes[:, -6] - amplitudes[:, 8]) / (known[-6] - known[8])
    assert slope.tolist() == pytest.approx([-decay] * channels, abs=0.12)
    path = prior.save(tmp_path / "prior.json")
    assert Prior.load(path) == prior
    phase = param.Image((30, 44), spatial=param.Phase(str(path)))
    initial = phase.images(phase.start(Generators([0]), channels, (30, 44)), (30, 44))
    assert initial.logit().mean((0, 2, 3)).tolist() == pytest.approx(mean.tolist(), abs=0.15)
    net = toys.network(toys.Plain(channels), mean=(0.5,) * channels, std=(0.2,) * channels)
    rendering = fv.render(net, "conv2:1", param=param.Fourier(prior=str(path)), transforms=(), steps=20)
    assert rendering.history[-1] > rendering.history[0]
    (saved,) = rendering.save(tmp_path / "a.png")
    assert fv.replay(saved, network=net).images.equal(rendering.images)
    fv.fit_prior(images[:5], channels=channels, size=64).save(path)
    with pytest.raises(fv.RecipeError, match=r"prior.json, which is missing or has changed; restore the file"):
        fv.replay(saved, network=net)


NO_NUMBERS = (
    '{"kind": "featviz prior 1", "mean": %s, "correlation": [[1]], "frequencies": [0.1, 0.2], "amplitudes": [[1, 2]]}'
)


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", '{"kind": "featviz prior 1"}', '{"kind": "x"}', "\x00", NO_NUMBERS % '["a"]', NO_NUMBERS % "[NaN]",
        NO_NUMBERS % "[Infinity]",
    ],
)  # fmt: skip
def test_other_files_are_not_read_as_priors(text, tmp_path):
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(fv.OutputError, match=r"p.json is not a prior; create one with: featviz fit-prior FOLDER$"):
        Prior.load(tmp_path / "p.json")


def test_a_prior_is_given_by_its_path(tmp_path):
    path = fv.fit_prior(torch.rand(4, 3, 32, 32), size=32).save(tmp_path / "p.json")
    assert prior_path(path) == prior_path(str(path)) == str(path) and prior_path(None) is None
    with pytest.raises(
        SettingError, match=r"^prior must be the path of a file, got a Prior; save it first: prior.save\(path\)$"
    ):
        prior_path(Prior.load(path))
