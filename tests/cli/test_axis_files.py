"""Files of signals, volumes and video on the command line: what is read, what is written, and what is refused."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import featviz as fv
from featviz.cli import main
from featviz.io import read_numbers

NETWORKS = """
import torch
from torch import nn

import featviz as fv


def made(conv, size, channels=1, **more):
    torch.manual_seed(0)
    module = nn.Sequential(conv(channels, 4, 3, padding=1), nn.Flatten(2), Mean())
    return fv.Network(module, size=size, mean=(0.4,) * channels, std=(0.2,) * channels, **more)


class Mean(nn.Module):
    def forward(self, x):
        return x.mean(2)


def signal():
    return made(nn.Conv1d, (60,))


def image():
    return made(nn.Conv2d, (48, 48), 3)


def volume():
    return made(nn.Conv3d, (6, 8, 10))


def clip():
    return made(nn.Conv3d, (5, 16, 24), axes="tyx")
"""
SIZES = {"signal": (60,), "volume": (6, 8, 10)}
ENDINGS = {"signal": ("npy", "wav"), "volume": ("npy", "nii.gz")}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder with the networks, which is the current one, and a file of each kind."""
    (tmp_path / "nets.py").write_text(NETWORKS)
    monkeypatch.chdir(tmp_path)
    for name, endings in ENDINGS.items():
        for ending in endings:
            _save(tmp_path / f"{name}.{ending}", np.random.default_rng(0).uniform(0.1, 0.9, SIZES[name]))
    fv.io.save_image(np.zeros((48, 48, 3), np.uint8), tmp_path / "image.png")
    return tmp_path


def _save(path, values):
    if path.suffix == ".npy":
        np.save(path, values[None].astype(np.float32))
    elif path.suffix == ".wav":
        fv.io.save_wav(values[None], path, 8000)
    else:
        fv.io.save_nifti(values[None, None], path)


def run(capsys, *words):
    """The exit status, the lines printed and the lines of errors of a command."""
    status = main([*words, "--quiet"])
    found = capsys.readouterr()
    return status, found.out.splitlines(), found.err.splitlines()


@pytest.mark.parametrize(("name", "ending"), [(name, ending) for name in ENDINGS for ending in ENDINGS[name]])
def test_a_render_starts_from_a_file(name, ending, capsys):
    file, model = f"{name}.{ending}", ("--model", f"nets.py:{name}")
    pixels = ("--param", "Pixel", "--steps", "0", "-o", "a.npy")
    assert run(capsys, "render", "0:1", "--start", file, *pixels, *model)[0] == 0
    assert np.allclose(np.load("a.npy")[0], np.load(f"{name}.npy"), atol=1e-3)
    assert fv.Recipe.of(Path("a.npy")).start == file
    again = run(capsys, "replay", "a.npy", *model)
    assert again[:2] == (0, ["a-replay.npy", "the same as the file, to the byte"])


@pytest.mark.parametrize(("name", "ending"), [("signal", "npy"), ("volume", "npy"), ("volume", "nii.gz")])
def test_maps_are_written_as_numbers(name, ending, capsys):
    words = ("explain", f"{name}.npy", "0:1", "0:2", "--model", f"nets.py:{name}", "--method", "gradient")
    more = ("--method", "rollout", "-o", f"map.{ending}")  # which does not apply
    assert run(capsys, *words, *more)[:2] == (0, [f"map.{ending}"])
    maps = read_numbers(Path(f"map.{ending}"))
    maps = maps if ending == "npy" else np.moveaxis(maps, (3, 4), (0, 1))
    assert maps.shape == (2, 2, *SIZES[name]) and np.isnan(maps[:, 1]).all()
    net = fv.load(f"nets.py:{name}")
    for i in range(2):
        found = fv.explain(net, f"{name}.npy", f"0:{1 + i}", "gradient")
        assert np.allclose(maps[i, 0], found.map[0], atol=1e-6)
    if ending == "npy":
        rows = json.loads(Path("map.npy.json").read_text())["explained"]
        targets = [f"Channel(layer='0', channel={channel})" for channel in (1, 2)]
        assert [[one and one["target"] for one in row] for row in rows] == [[each, None] for each in targets]
    else:
        found.save(Path("one.nii"))
        assert np.allclose(read_numbers(Path("one.nii")), found.map[0])


@pytest.mark.parametrize("ending", ENDINGS["volume"])
def test_maps_are_not_replayed(ending, capsys):
    words = ("explain", "volume.npy", "0:1", "--model", "nets.py:volume", "--method", "gradient", "-o", f"map.{ending}")
    assert run(capsys, *words)[0] == 0
    message = f"featviz: map.{ending} is an explanation, which cannot be replayed; run featviz explain again"
    assert run(capsys, "replay", f"map.{ending}") == (2, [], [message])


def test_maps_of_an_image_are_written_as_numbers(capsys):
    words = ("explain", "image.png", "0:1", "--model", "nets.py:image", "--method", "gradient", "-o", "map.npy")
    assert run(capsys, *words) == (0, ["map.npy"], [])
    assert np.load("map.npy").shape == (1, 1, 48, 48)


STARTS = [
    ("signal", "image.png", "cannot read image.png as signals; give a file that ends in .npy, .wav, .flac"),
    ("signal", "volume.npy", "volume.npy must have shape (1, length), got (1, 6, 8, 10)"),
    ("volume", "signal.wav", "cannot read signal.wav as volumes; give a file that ends in .npy, .nii, .nii.gz"),
    ("volume", "none.nii", "no file none.nii; check the path"),
]
MAPS = [
    ("signal", "map.nii", "cannot write map.nii: .nii is for volumes; for maps of signals end it in .npy"),
    ("image", "map.nii.gz", "cannot write map.nii.gz: .nii.gz is for volumes; for maps of images end it in .npy"),
    ("signal", "map.wav", "cannot write map.wav: end it in .html, .npy, .nii, .nii.gz, .png, .jpg, .jpeg, .webp"),
    ("volume", "no/map.npy", "cannot write no/map.npy: there is no folder no; make it first"),
]


@pytest.mark.parametrize(("name", "file", "message"), STARTS)
def test_files_that_a_render_cannot_start_from_are_refused(name, file, message, here, capsys):
    before = _files(here)
    words = ("render", "0:1", "--start", file, "--steps", "1", "--model", f"nets.py:{name}", "-o", "a.npy")
    assert run(capsys, *words) == (2, [], [f"featviz: {message}"]) and _files(here) == before


@pytest.mark.parametrize(("name", "output", "message"), MAPS)
def test_maps_are_refused_before_anything_is_computed(name, output, message, here, capsys, monkeypatch):
    monkeypatch.setattr(fv, "compare", lambda *_, **__: pytest.fail("computed"))
    before, file = _files(here), "image.png" if name == "image" else f"{name}.npy"
    words = ("explain", file, "0:1", "--model", f"nets.py:{name}", "--method", "gradient", "-o", output)
    assert run(capsys, *words) == (2, [], [f"featviz: {message}"]) and _files(here) == before


BEFORE = [
    ("signal", ["-o", "a.flac"], "cannot write a.flac: end it in .png, .jpg, .jpeg, .webp, .npy; for signals in .wav, "
     "for volumes in .nii or .nii.gz, for video in .gif, .mp4, .webm; or name an existing folder"),
    ("signal", ["-o", "no/a.wav"], "cannot write no/a.wav: there is no folder no; make it first"),
    ("signal", ["-o", "a.wav", "--batch", "2"], "a .wav file holds one signal, got 2; render one at a time, save each "
     "as rendering[i].save(...), or end the name in .npy"),
    ("signal", ["-o", "a.wav", "0:2"], "a .wav file holds one signal, got 2; render one at a time, save each "
     "as rendering[i].save(...), or end the name in .npy"),
    ("signal", ["-o", "a.wav", "--rate", "0.5"], "rate of a .wav file must be in [1, 2.14748e+09], got 0.5"),
    ("clip", ["-o", "a.gif", "--rate", "0.001"], "rate of a .gif file must be in [0.01, 1000], got 0.001"),
    ("image", ["--rate", "5"], "--rate is about signals and video, and nets.py:image reads images; leave it out"),
    ("volume", ["--rate", "5"], "--rate is about signals and video, and nets.py:volume reads volumes; leave it out"),
    ("signal", ["--match", "."], "nets.py:signal reads inputs of size (60,), and --match works on images, which have "
     "height and width; use blocks, dream, evidence, examples, explain, gallery, render, replay or sweep"),
]  # fmt: skip
EXTRAS = [("matplotlib", "signal", "a.png"), ("soundfile", "signal", "a.wav"), ("nibabel", "volume", "a.nii.gz")]


@pytest.mark.parametrize(("name", "words", "message"), BEFORE, ids=[" ".join(words) for _, words, _ in BEFORE])
def test_outputs_are_checked_before_the_render(name, words, message, here, capsys, monkeypatch):
    monkeypatch.setattr(fv, "render", lambda *_, **__: pytest.fail("rendered"))
    before = _files(here)
    assert run(capsys, "render", "0:1", "--model", f"nets.py:{name}", *words) == (2, [], [f"featviz: {message}"])
    assert _files(here) == before


@pytest.mark.parametrize(("missing", "name", "output"), EXTRAS)
@pytest.mark.parametrize("command", ["render", "dream"])
def test_missing_extras_are_named_before_the_render(command, missing, name, output, here, capsys, monkeypatch):
    monkeypatch.setattr(fv, command, lambda *_, **__: pytest.fail("rendered"))
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == missing else find(name, *more))
    what = "0:1" if command == "render" else f"{name}.npy"
    status, _, errors = run(capsys, command, what, "--model", f"nets.py:{name}", "-o", output)
    assert status == 2 and errors[0].startswith(f"featviz: cannot write {output}: ") and f"need {missing}" in errors[0]


def test_a_folder_of_signals_is_dreamt_and_explained(here, capsys):
    (here / "data").mkdir()
    for name in ("signal.npy", "signal.wav", "volume.npy"):
        shutil.copy(name, here / "data")
    shutil.copy("signal.npy", here / "data" / "b.c.npy")
    skipped = "featviz: skipped data/volume.npy: data/volume.npy must have shape (1, length), got (1, 6, 8, 10)"
    dream = ("dream", "data", "--layer", "0", "--steps", "1", "--octaves", "1", "--model", "nets.py:signal")
    status, lines, errors = run(capsys, *dream)
    assert (status, errors) == (0, [skipped])
    assert sorted(lines) == ["data/b.c-dream.npy", "data/signal-dream-2.npy", "data/signal-dream.npy"]
    explain = ("explain", "data", "0:1", "--method", "gradient", "-o", ".", "--model", "nets.py:signal")
    status, lines, errors = run(capsys, *explain)
    assert (status, errors) == (0, [skipped]) and len(lines) == 6  # the dreams, too


@pytest.mark.parametrize("output", [[], ["-o", "map.png"], ["-o", "map.html"]], ids=" ".join)
def test_a_missing_extra_is_named_before_anything_is_explained(output, capsys, monkeypatch):
    monkeypatch.setattr(fv, "compare", lambda *_, **__: pytest.fail("computed"))
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "matplotlib" else find(name))
    words = ("explain", "signal.npy", "0:1", "--method", "gradient", "--model", "nets.py:signal")
    status, _, errors = run(capsys, *words, *output)
    assert status == 2 and "plots need matplotlib" in errors[0]


def test_names_of_results_leave_out_both_parts_of_an_ending(capsys):
    model = ("--model", "nets.py:volume")
    assert run(capsys, "dream", "volume.nii.gz", "--layer", "0", "--steps", "1", *model)[1] == ["volume-dream.npy"]
    assert run(capsys, "explain", "volume.nii.gz", "0:1", "--method", "gradient", *model)[1] == ["volume-explained.png"]


def test_a_dream_on_a_clip_has_the_frame_rate_that_is_given(here, capsys):
    np.save("clip.npy", np.random.default_rng(0).random((1, 5, 16, 24), np.float32))
    words = ("dream", "clip.npy", "--layer", "0", "--steps", "1", "--octaves", "1", "--model", "nets.py:clip")
    assert run(capsys, *words, "--fps", "5", "-o", "a.gif") == (0, ["a.gif"], [])
    with Image.open(here / "a.gif") as opened:
        assert (opened.n_frames, opened.info["duration"]) == (5, 200)


def _files(folder):
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)
    return sorted(folder.iterdir())
