"""Parts of recordings, volumes and video: nothing is resampled in time; frames and volumes are cropped as images."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from featviz.errors import SettingError
from featviz.io import parts_of, read_samples, save_nifti, save_video, save_wav
from featviz.io.samples import MAX_PARTS

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # pipes of imageio-ffmpeg


def test_recordings_are_cut_into_consecutive_parts():
    line = torch.arange(100.0)[None]
    parts = parts_of(line, (32,), "x", "it")
    assert parts.shape == (3, 1, 32)
    assert parts[:, 0, 0].tolist() == [0, 34, 68] and (parts[:, 0].diff() == 1).all()
    assert len(parts_of(torch.zeros(2, 10_000), (32,), "x", "it")) == MAX_PARTS
    with pytest.raises(SettingError, match=r"^it has 31 samples, fewer than the 32 of an input; give longer ones$"):
        parts_of(torch.zeros(1, 31), (32,), "x", "it")


def test_frames_are_cropped_and_keep_their_order():
    clip = torch.zeros(3, 9, 8, 16) + torch.arange(9.0).view(9, 1, 1)
    clip[..., :4] = clip[..., -4:] = -100  # outside of the middle square
    parts = parts_of(clip, (4, 8, 8), "tyx", "it")
    assert parts.shape == (2, 3, 4, 8, 8)
    assert parts[:, 0, :, 3, 3].tolist() == [[0, 1, 2, 3], [5, 6, 7, 8]] and parts.min() >= 0
    assert torch.allclose(parts_of(clip, (4, 4, 4), "tyx", "it")[0, 0, :, 1, 1], torch.arange(4.0))


def test_volumes_are_cropped_to_the_aspect_ratio_and_shrunk_by_means_of_blocks():
    volume = torch.rand(1, 8, 12, 8, generator=torch.Generator().manual_seed(0))
    (part,) = parts_of(volume, (4, 4, 4), "zyx", "it")
    middle = volume[:, :, 2:10]
    for place in np.ndindex(4, 4, 4):
        block = middle[(0, *(slice(2 * at, 2 * at + 2) for at in place))]
        assert part[(0, *place)].item() == pytest.approx(block.mean().item(), abs=1e-6)
    assert torch.equal(parts_of(volume, (8, 12, 8), "zyx", "it")[0], volume)
    assert parts_of(volume, (16, 24, 16), "zyx", "it").shape == (1, 1, 16, 24, 16)


def test_a_volume_as_deep_as_the_input_is_no_clip():
    volume = torch.rand(1, 8, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(parts_of(volume, (8, 8, 8), "zyx", "it")[0], volume[:, :, 4:12, 4:12])


def test_files_of_every_kind_are_read(tmp_path):
    stereo = np.stack([np.ones(64), -np.ones(64) / 2]).astype(np.float32)
    save_wav(stereo, tmp_path / "a.wav", 8000)
    ((_, parts),) = read_samples(tmp_path, channels=1, size=(64,), axes="x")
    assert torch.equal(parts, torch.full((1, 1, 64), 0.25))
    ((_, parts),) = read_samples(tmp_path, channels=2, size=(64,), axes="x")
    assert torch.equal(parts[0], torch.from_numpy(stereo))
    values = np.random.default_rng(0).normal(size=(2, 3, 4, 4, 4)).astype(np.float32)
    save_nifti(values, tmp_path / "a.nii.gz")
    ((_, parts),) = read_samples(tmp_path, channels=3, size=(4, 4, 4), axes="zyx")
    assert torch.equal(parts, torch.from_numpy(values))
    save_nifti(values[:1], tmp_path / "a.nii.gz")
    ((_, parts),) = read_samples(tmp_path, channels=3, size=(4, 4, 4), axes="zyx")
    assert torch.equal(parts, torch.from_numpy(values[:1]))
    grey = [np.full((16, 16, 3), 10 * i, np.uint8) for i in range(6)]
    save_video(grey, tmp_path / "a.mp4")
    for channels in (1, 3):
        ((_, parts),) = read_samples(tmp_path, channels=channels, size=(3, 16, 16), axes="tyx")
        assert parts.shape == (2, channels, 3, 16, 16)
        assert torch.allclose(parts.mean((1, 3, 4)).flatten() * 255, torch.arange(6.0) * 10, atol=3)
    with pytest.raises(SettingError, match=r"^a video has 1 or 3 channels, and the input has 2; save it as .npy$"):
        list(read_samples(tmp_path, channels=2, size=(3, 16, 16), axes="tyx"))
