"""Files of signals, volumes and video: what is written is read back, with the recipe, and the rest is refused."""

from __future__ import annotations

import gzip
import importlib.util
import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest
import soundfile
from PIL import Image

from featviz.errors import OutputError, RecipeError
from featviz.io import (
    FORMATS,
    check_result,
    ending_of,
    pack_texts,
    read_nifti,
    read_numbers,
    read_wav,
    recipe_in,
    save_clip,
    save_nifti,
    save_npy,
    save_wav,
)
from featviz.io.audio import with_comment
from featviz.io.images import unpack_texts

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # pipes of imageio-ffmpeg
LONG = '{"long": "' + "x" * 5001 + '"}'
"""A recipe of more bytes than libsndfile keeps of a comment, and of an odd number."""


def test_a_sound_is_read_back_by_other_programs_and_keeps_a_long_recipe(tmp_path):
    wave = np.random.default_rng(0).uniform(-1, 1, (2, 301)).astype(np.float32)
    path = save_wav(wave, tmp_path / "a.wav", 8000, pack_texts(LONG, None))
    samples, rate = soundfile.read(path, dtype="float32")
    assert rate == 8000 and np.array_equal(samples.T, wave)
    time = path.read_bytes().index(b"PEAK") + 12
    assert path.read_bytes()[time : time + 4] == bytes(4)  # equal signals give equal files
    found, rate = read_wav(path)
    assert rate == 8000 and np.array_equal(found, wave) and np.array_equal(read_numbers(path), wave)
    assert recipe_in(path) == LONG
    data = path.read_bytes()
    assert struct.unpack("<I", data[4:8])[0] == len(data) - 8 and len(data) % 2 == 0


def test_a_comment_is_found_behind_other_chunks_and_a_broken_one_holds_nothing(tmp_path):
    path = save_wav(np.zeros((1, 4), np.float32), tmp_path / "a.wav", 8000)
    with pytest.raises(RecipeError) as caught:
        recipe_in(path)
    assert (
        str(caught.value)
        == f"{path} holds no recipe; give a file of a render, or of a dream on an image, as it was saved"
    )
    plain = path.read_bytes()
    path.write_bytes(with_comment(with_comment(plain, b"made by another program"), pack_texts("{}", None)))
    assert recipe_in(path) == "{}"
    path.write_bytes(with_comment(plain, pack_texts("{}", None))[:-8])  # the copy was cut off
    with pytest.raises(RecipeError):
        recipe_in(path)
    path.write_bytes(b"no sound")
    for read in (recipe_in, read_wav):
        with pytest.raises(OutputError) as wrong:
            read(path)
        assert str(wrong.value) == f"cannot read {path} as a sound; give a WAV file"


def test_a_sound_that_was_cut_off_is_refused(tmp_path):
    path = save_wav(np.linspace(-1, 1, 400, dtype=np.float32)[None], tmp_path / "a.wav", 8000)
    whole = path.read_bytes()
    assert read_wav(path)[0].shape == (1, 400)
    path.write_bytes(whole[:800])
    with pytest.raises(OutputError) as caught:
        read_wav(path)
    assert str(caught.value) == f"{path} is truncated; was it copied completely?"
    for length in (0, 2**32 - 1):  # of a stream, which ends where it ends
        path.write_bytes(whole[:4] + length.to_bytes(4, "little") + whole[8:])
        assert read_wav(path)[0].shape == (1, 400)


@pytest.mark.parametrize(("count", "channels"), [(1, 1), (1, 2), (3, 1), (3, 2)])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_volume_has_the_axes_of_the_values_in_its_file(count, channels, ending, tmp_path):
    values = np.random.default_rng(0).normal(size=(count, channels, 4, 5, 6)).astype(np.float32)
    path = save_nifti(values, tmp_path / f"a{ending}", pack_texts(LONG, None))
    voxels = nibabel.load(path).get_fdata(dtype=np.float32)
    assert voxels.shape[:3] == (4, 5, 6)
    for place in np.ndindex(count, channels, 4, 5, 6):
        n, c, *at = place
        tail = (n, c) if channels > 1 else (n,) if count > 1 else ()
        assert voxels[(*at, *tail)] == values[place]
    assert np.array_equal(read_nifti(path), voxels) and recipe_in(path) == LONG
    data = path.read_bytes()
    assert data == save_nifti(values, tmp_path / f"b{ending}", pack_texts(LONG, None)).read_bytes()
    assert (gzip.decompress(data) if ending == ".nii.gz" else data)[344:348] == b"n+1\0"


def test_other_files_are_no_volumes(tmp_path):
    path = tmp_path / "a.nii"
    for content in (b"", b"no volume", save_nifti(np.zeros((1, 1, 4, 4, 4)), tmp_path / "b.nii").read_bytes()[:500]):
        path.write_bytes(content)
        with pytest.raises(OutputError, match=r"^cannot read .*a.nii as a volume; (give a NIfTI|was it copied)"):
            read_nifti(path)
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4), np.float32), np.eye(4)), path)
    with pytest.raises(RecipeError, match=r"a.nii holds no recipe"):
        recipe_in(path)
    with pytest.raises(OutputError, match=r"^no file nowhere.nii; check the path$"):
        recipe_in(Path("nowhere.nii"))


def test_a_gif_has_the_recipe_in_its_comment_and_all_frames(tmp_path):
    frames = [np.full((6, 8, 3), 40 * i, np.uint8) for i in range(5)]
    path = save_clip(frames, tmp_path / "a.gif", 10, LONG, pack_texts(LONG, None))
    assert recipe_in(path) == LONG
    with Image.open(path) as opened:
        assert opened.n_frames == 5 and opened.info["duration"] == 100 and opened.info["loop"] == 0
        for i, frame in enumerate(frames):
            opened.seek(i)
            assert np.array_equal(np.asarray(opened.convert("RGB")), frame)


def test_the_recipe_of_numbers_and_videos_is_beside_them(tmp_path):
    save_npy(np.zeros((1, 1, 4)), tmp_path / "a.npy", LONG)
    save_clip([np.zeros((16, 16, 3), np.uint8)] * 3, tmp_path / "a.mp4", 10, LONG, b"")
    for name in ("a.npy", "a.mp4"):
        assert recipe_in(tmp_path / name) == LONG == (tmp_path / f"{name}.json").read_text()


def test_a_recipe_that_is_no_text_is_told_apart_from_a_missing_one(tmp_path):
    save_npy(np.zeros((1, 1, 4)), tmp_path / "a.npy", LONG)
    (tmp_path / "a.npy.json").write_bytes(b"\xff\xfe\x00")
    for what in ("cannot read a.npy.json", "there is no file a.npy.json"):
        with pytest.raises(OutputError) as caught:
            recipe_in(tmp_path / "a.npy")
        assert str(caught.value) == f"no recipe for {tmp_path / 'a.npy'}: {what} beside it"
        (tmp_path / "a.npy.json").unlink(missing_ok=True)


def test_comments_of_other_programs_hold_no_texts():
    assert unpack_texts(pack_texts("{}", "{}")) == {"featviz": "{}", "featviz-report": "{}"}
    for comment in (b"", b"Created with GIMP", b"[1]", b'{"featviz": 3}', b"\xff\xfe", b"[" * 100_000):
        assert unpack_texts(comment) == {}


SIGNALS = "for signals end it in .png, .jpg, .jpeg, .webp, .npy or .wav"
VOLUMES = "for volumes end it in .png, .jpg, .jpeg, .webp, .npy, .nii or .nii.gz"
VIDEO = "for video end it in .png, .jpg, .jpeg, .webp, .npy, .gif, .mp4 or .webm"
IMAGES = "for images end it in .png, .jpg, .jpeg, .webp or .npy"
ANY = (
    "end it in .png, .jpg, .jpeg, .webp, .npy; for signals in .wav, for volumes in .nii or .nii.gz, for video in .gif, "
    ".mp4, .webm; or name an existing folder"
)
MISFITS = [
    ("x", "a.nii", f".nii is for volumes; {SIGNALS}"),
    ("x", "a.txt", f"it has another ending; {SIGNALS}"),
    ("zyx", "a.wav", f".wav is for signals; {VOLUMES}"),
    ("zyx", "a.gz", f"it has another ending; {VOLUMES}"),
    ("tyx", "a.nii.gz", f".nii.gz is for volumes; {VIDEO}"),
    ("yx", "a.wav", f".wav is for signals; {IMAGES}"),
    ("yx", "a.bmp", ANY),
    (None, "a.flac", ANY),
    ("x", "no/a.wav", "there is no folder no; make it first"),
]


@pytest.mark.parametrize(("axes", "name", "message"), MISFITS)
def test_a_format_that_does_not_fit_the_axes_is_refused_in_one_line(axes, name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError) as caught:
        check_result(Path(name), axes)
    assert str(caught.value) == f"cannot write {name}: {message}"


@pytest.mark.parametrize("axes", FORMATS)
def test_every_format_of_the_axes_passes(axes, tmp_path):
    for ending in FORMATS[axes]:
        assert ending_of(tmp_path / f"a.b{ending.upper()}") == ending
        check_result(tmp_path / f"a{ending}", axes)
        check_result(tmp_path / f"a{ending}")
    check_result(tmp_path, axes)


@pytest.mark.parametrize(
    ("missing", "name", "axes", "what"),
    [
        ("matplotlib", "a.png", "x", "plots need matplotlib; run: pip install 'featviz[signals]', or save as .npy"),
        ("soundfile", "a.wav", "x", "sounds need soundfile; run: pip install 'featviz[signals]'"),
        ("nibabel", "a.nii", "zyx", "NIfTI files need nibabel; run: pip install 'featviz[volumes]'"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(missing, name, axes, what, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == missing else find(name, *more))
    with pytest.raises(OutputError) as caught:
        check_result(tmp_path / name, axes)
    assert str(caught.value) == f"cannot write {tmp_path / name}: {what}"
