"""Priors of signals, volumes and video: known spectra are found in files of every format, and misfits are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import featviz as fv
from featviz.errors import FeatvizError, FeatvizWarning, OutputError, SettingError
from featviz.io import save_nifti, save_video, save_wav, to_bytes
from featviz.param.prior import Prior
from featviz.param.spectrum import inverse_fft, power_law
from featviz.random import Generators

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # pipes of imageio-ffmpeg


def network(size, channels=1, axes="", **more):
    """A network of one convolution, which reads inputs of a size."""
    conv = nn.Conv1d if len(size) == 1 else nn.Conv3d
    given = {"mean": (0.0,) * channels, "std": (1.0,) * channels} | more
    return fv.Network(nn.Sequential(conv(channels, 2, 3, padding=1)), size=size, axes=axes, **given)


def noise(count, channels, size, decay):
    """Noise with standard deviation 1 whose spectrum falls as 1 / frequency^decay."""
    amplitude = power_law(size, decay, torch.device("cpu"))
    amplitude[(0,) * len(size)] = 0
    drawn = Generators(range(count)).normal(channels, *size[:-1], size[-1] // 2 + 1, 2)
    found = inverse_fft(drawn * amplitude[..., None], size)
    return found / found.std()


def slopes(frequencies, amplitudes, first, last):
    """Slopes of the spectra of all colour axes between two frequencies, on a double logarithmic scale."""
    known, logs = torch.tensor(frequencies).log(), torch.tensor(amplitudes).log()
    return ((logs[:, last] - logs[:, first]) / (known[last] - known[first])).tolist()


def check_render(made, prior, folder):
    """Check that a prior can be read back, and that a render with it rises and is replayed."""
    path = prior.save(folder / "prior.json")
    assert Prior.load(path) == prior
    for name in ("Fourier", "Phase"):
        found = fv.render(made, "0:1", param=f"{name}(prior={str(path)!r})", transforms=(), steps=6, progress=None)
        assert found.history[-1] > found.history[0]
    (saved,) = found.save(folder / "a.npy")
    assert torch.equal(fv.replay(saved, network=made, progress=None).images, found.images)


@pytest.mark.parametrize("kind", ["wav", "npy", "tensors"])
def test_the_spectrum_of_recordings_is_found(kind, tmp_path):
    made = network((256,), value_range=(-1, 1))
    recordings = noise(6, 1, (4096,), 1.1)
    recordings = 0.5 * recordings / recordings.abs().max()
    (tmp_path / "data").mkdir()
    for i, each in enumerate(recordings):
        if kind == "wav":
            save_wav(each.numpy(), tmp_path / "data" / f"{i}.wav", 8000)
        else:
            np.save(tmp_path / "data" / f"{i}.npy", each.numpy())
    prior = fv.fit_prior(list(recordings) if kind == "tensors" else tmp_path / "data", network=made)
    assert prior.axes == "x" and slopes(prior.frequencies, prior.amplitudes, 6, -4) == pytest.approx([-1.1], abs=0.1)
    check_render(made, prior, tmp_path)


def test_correlated_channels_share_a_color_axis(tmp_path):
    made = network((128,), channels=2)
    common = noise(8, 1, (2048,), 1.0)
    prior = fv.fit_prior(list(torch.cat([common, -0.5 * common], 1)), network=made)
    (first, second) = torch.tensor(prior.correlation).T
    assert torch.allclose(first / first[0], torch.tensor([1.0, -0.5]), atol=0.03) and second.norm() < 0.05
    check_render(made, prior, tmp_path)


def test_the_spectrum_of_volumes_is_found(tmp_path):
    made = network((24, 28, 32))
    (tmp_path / "data").mkdir()
    for i, each in enumerate(noise(5, 1, (24, 28, 32), 2.0)):
        save_nifti(each[None].numpy(), tmp_path / "data" / f"{i}.nii.gz")
    prior = fv.fit_prior(tmp_path / "data", network=made)
    assert prior.axes == "zyx" and slopes(prior.frequencies, prior.amplitudes, 4, -4) == pytest.approx([-2], abs=0.15)
    check_render(network((8, 8, 12)), fv.fit_prior(tmp_path / "data", network=made, size=(12, 14, 16)), tmp_path)


@pytest.mark.parametrize("kind", [pytest.param("mp4", marks=pytest.mark.slow), "npy"])
def test_the_spectrum_of_video_is_a_product_of_space_and_time(kind, tmp_path):
    made = network((16, 48, 64), 3, "tyx", mean=(0.5,) * 3, std=(0.2,) * 3)
    clips = (0.7 * noise(4, 3, (32, 48, 64), (0.7, 1.5, 1.5))).sigmoid()
    (tmp_path / "data").mkdir()
    for i, clip in enumerate(clips):
        if kind == "mp4":
            save_video([to_bytes(frame.numpy()) for frame in clip.transpose(0, 1)], tmp_path / "data" / f"{i}.mp4")
        else:
            np.save(tmp_path / "data" / f"{i}.npy", clip.numpy())
    prior = fv.fit_prior(tmp_path / "data", network=made)
    error = 0.25 if kind == "mp4" else 0.1  # compression removes fine detail
    assert slopes(prior.frequencies, prior.amplitudes, 6, -6) == pytest.approx([-1.5] * 3, abs=error)
    assert slopes(prior.time_frequencies, prior.time_amplitudes, 2, -1) == pytest.approx([-0.7] * 3, abs=error)
    small = network((6, 16, 16), 3, "tyx", mean=(0.5,) * 3, std=(0.2,) * 3)
    check_render(small, prior, tmp_path)


def test_amplitudes_of_video_are_those_of_both_functions():
    """A prior of known numbers, at frequencies between and outside of the known ones."""
    prior = Prior((0.0,), ((1.0,),), (0.1, 0.4), ((4.0, 1.0),), "tyx", (0.0, 0.5), ((2.0, 0.5),))
    found = prior.amplitude((4, 10, 10), torch.device("cpu"))
    assert found.shape == (1, 4, 10, 6) and found[0, 0, 0, 0] == 0
    for t in range(4):
        for y in range(10):
            for x in range(6):
                space = max(np.hypot(min(y, 10 - y) / 10, x / 10), 0.1)
                place = np.exp(np.log(4) + np.log(1 / 4) * np.log(space / 0.1) / np.log(4))
                time = np.exp(np.log(2) + np.log(0.25) * min(t, 4 - t) / 4 / 0.5)
                if (t, y, x) != (0, 0, 0):
                    assert found[0, t, y, x].item() == pytest.approx(place * time, rel=1e-4)


def test_a_prior_of_images_for_a_network_is_that_without(tmp_path):
    images = list(torch.rand(4, 3, 40, 40, generator=torch.Generator().manual_seed(0)))
    module = nn.Sequential(nn.Conv2d(3, 2, 3))
    made = fv.Network(module, size=32, mean=(0.5,) * 3, std=(0.2,) * 3)
    assert fv.fit_prior(images, network=made) == fv.fit_prior(images, size=32)
    assert "axes" not in fv.fit_prior(images, size=32).save(tmp_path / "p.json").read_text()


def test_files_that_cannot_be_used_are_skipped_with_the_reason(tmp_path):
    made = network((64,))
    for name, numbers in (("a", np.zeros((1, 200))), ("b", np.random.default_rng(0).normal(size=640)),
                          ("c", np.zeros((1, 40))), ("d", np.zeros((3, 80))), ("e", np.full((1, 80), np.nan)),
                          ("f", np.array(["text"] * 80))):  # fmt: skip
        np.save(tmp_path / f"{name}.npy", numbers)
    (tmp_path / "g.wav").write_bytes(b"no sound")
    with pytest.warns(FeatvizWarning) as caught:
        fv.fit_prior(tmp_path, network=made)
    reasons = [str(each.message).partition(": ")[2] for each in caught]
    assert reasons == [
        f"{tmp_path / 'c.npy'} has 40 samples, fewer than the 64 of an input; give longer ones",
        f"{tmp_path / 'd.npy'} must have shape (1, length), got (1, 3, 80)",
        f"{tmp_path / 'e.npy'} has values that are NaN or infinite; replace them first",
        f"{tmp_path / 'f.npy'} must hold numbers, got <U4",
        f"cannot read {tmp_path / 'g.wav'} as a sound; give a WAV file",
    ]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fv.fit_prior("nowhere", network=network((64,))), "no folder nowhere; give a folder of data files"),
        (
            lambda: fv.fit_prior(".", network=network((64,))),
            "no data files in .; it needs files that end in .npy, .wav, .flac",
        ),
        (
            lambda: fv.fit_prior([torch.full((1, 64), 5.0)] * 2, network=network((64,))),
            "100% of the values of a tensor are outside of the network's range, -4 to 4; scale them as for the "
            "network, and save them as .npy",
        ),
        (lambda: fv.fit_prior(".", network=network((4, 4, 4))), "a spectrum needs at least 4 px along each axis and 8"),
        (lambda: fv.fit_prior(".", network=network((64,)), size=(8, 8)), "size must have 1 number, as the"),
        (lambda: fv.fit_prior(".", network=network((64,)), size="big"), "size must be one side or (height, width)"),
        (lambda: fv.fit_prior(".", network="signal"), "network must be a network, got 'signal'; use fv.load(name)"),
        (lambda: fv.fit_prior(".", network=fv.load("phraselstm")), "phraselstm reads text, which has no spectrum"),
        (lambda: fv.fit_prior(".", network=network((64,)), channels=3), "channels must be those of the network, 1"),
        (lambda: fv.fit_prior([torch.rand(2, 64)], network=network((64,))), "fit_prior expects images of shape (n, 1"),
        (lambda: fv.fit_prior([torch.rand(1, 64)], network=network((64,))), "a prior needs at least 2 images, got 1"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused_in_one_line(make, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((OutputError, SettingError)) as caught:
        make()
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


def test_a_prior_of_other_axes_is_refused(tmp_path):
    made = network((64,))
    path = fv.fit_prior(list(noise(3, 1, (64,), 1.0)), network=made).save(tmp_path / "p.json")
    with pytest.raises(FeatvizError) as caught:
        fv.render(network((8, 8, 8)), "0:1", param=f"Fourier(prior={str(path)!r})", steps=1, progress=None)
    wanted = "the prior was fitted to inputs with 1 axes, and the images have 3; fit one with fv.fit_prior(folder, "
    assert str(caught.value).startswith(wanted)
