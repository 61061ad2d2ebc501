"""Commands on networks that read signals, volumes or video."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile

import featviz as fv
from featviz.cli import main

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # pipes of imageio-ffmpeg

NETWORKS = """
import torch
from torch import nn

import featviz as fv


def made(conv, size, channels, **more):
    torch.manual_seed(0)
    module = nn.Sequential(conv(channels, 3, 3, padding=1))
    return fv.Network(module, size=size, mean=(0.4,) * channels, std=(0.2,) * channels, **more)


def signal():
    return made(nn.Conv1d, (60,), 1)


def volume():
    return made(nn.Conv3d, (6, 8, 10), 1)


def clip():
    return made(nn.Conv3d, (5, 16, 24), 3, axes="tyx")


def bare():
    return signal().module
"""
FILES = {"signal": ("a.png", "a.npy", "a.wav"), "volume": ("a.png", "a.nii.gz"), "clip": ("a.png", "a.gif", "a.mp4")}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder with the networks, which is the current one."""
    (tmp_path / "nets.py").write_text(NETWORKS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys, *words):
    """The exit status, the lines printed and the lines of errors of a command."""
    status = main([*words, "--quiet"] if words[0] in ("render", "replay") else list(words))
    found = capsys.readouterr()
    return status, found.out.splitlines(), found.err.splitlines()


@pytest.mark.parametrize("name", ["signal", "volume", pytest.param("clip", marks=pytest.mark.slow)])
def test_results_are_rendered_and_replayed(name, capsys):
    model = ["--model", f"nets.py:{name}"]
    for file in FILES[name]:
        assert run(capsys, "render", "0:1", "--steps", "2", "-o", file, *model) == (0, [file], [])
        status, lines, errors = run(capsys, "replay", file, *model)
        assert (status, lines[0], errors) == (0, file.replace("a.", "a-replay."), [])
        same = ("the same as the image, to the byte", "the same as the file, to the byte")
        assert lines[1] in same, file
    assert run(capsys, "render", "0:1", "--steps", "1", *model)[1] == ["0_1.npy"]
    status, lines, _ = run(capsys, "layers", *model)
    assert status == 0 and lines[0].startswith("layer") and lines[1].startswith("0 ")


def test_changed_numbers_are_compared(capsys):
    model = ["--model", "nets.py:signal"]
    run(capsys, "render", "0:1", "--steps", "1", "-o", "a.npy", *model)
    numbers = np.load("a.npy")
    np.save("a.npy", numbers + 0.25 * (np.arange(60) == 3))
    assert run(capsys, "replay", "a.npy", "-o", "b.npy", *model)[1] == [
        "b.npy",
        "within 0.25 of the numbers in the file",
    ]
    np.save("a.npy", numbers[..., :50])
    assert (
        run(capsys, "replay", "a.npy", "-o", "b.wav", *model)[1][1] == "of another size than the file; it was changed"
    )


def test_sizes_axes_and_rates_are_options(capsys):
    run(capsys, "render", "0:1", "--steps", "1", "--size", "90", "--model", "nets.py:signal", "-o", "a.npy")
    run(capsys, "render", "0:1", "--steps", "1", "--size", "4x6x8", "--model", "nets.py:volume", "-o", "b.npy")
    run(capsys, "render", "0:1", "--steps", "1", "--size", "7", "--model", "nets.py:volume", "-o", "c.npy")
    long = ("--size", "70000", "--transforms", "none")  # longer than a side of an image may be
    assert run(capsys, "render", "0:1", "--steps", "0", *long, "--model", "nets.py:signal", "-o", "e.npy")[0] == 0
    assert [np.load(f"{name}.npy").shape[2:] for name in "abc"] == [(90,), (4, 6, 8), (7, 7, 7)]
    bare = ("--model", "nets.py:bare", "--axes", "x", "--input-size", "70", "--mean", "0", "--std", "0.5")
    more = ("--value-range", "-1,1", "--rate", "8000")
    assert run(capsys, "render", "0:1", "--steps", "1", *bare, *more, "-o", "d.wav")[0] == 0
    samples, rate = soundfile.read("d.wav")
    assert (samples.shape, rate) == ((70,), 8000)
    spec = fv.Recipe.of("d.wav").input
    assert (spec.axes, spec.size, spec.value_range) == ("x", (70,), (-1.0, 1.0))


BAD = [
    (["-o", "a.nii"], ".nii is for volumes; for signals end it in .png, .jpg, .jpeg, .webp, .npy or .wav"),
    (["-o", "a.mp4"], ".mp4 is for video; for signals end it in .png, .jpg, .jpeg, .webp, .npy or .wav"),
    (["--size", "8x8"], "size must have 1 number, as the input (60,) of nets.py:signal, got (8, 8)"),
    (["--value-range", "1"], "a range must be the lowest and the highest value, as -1,1, got '1'"),
    (["--axes", "yx"], "axes must be x for the size (60,), got 'yx'"),
    (["--rate", "0", "-o", "a.png"], "rate must be > 0, got 0.0"),
    (["--input-size", "9999999999"], "size must be at most 16777216 px on each side, got 9999999999"),
    (["--param", "cppn", "--at", "8x8"], "size must have 1 number, as the images, got (8, 8)"),
    (["--model", "motifnet", "--input-size", "99999"], "input_size must be at most 65536 px on each side, got 99999"),
    (
        ["--model", "motifnet", "--input-size", "8x8x8"],
        "input_size must have 2 numbers, as the input (64, 64) of motifnet, got (8, 8, 8)",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("words", "message"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_bad_input_gives_one_line_and_writes_nothing(words, message, here, capsys):
    before = sorted(here.iterdir())
    status, lines, errors = run(capsys, "render", "0:1", "--steps", "1", "--model", "nets.py:signal", *words)
    assert (status, lines) == (2, []) and len(errors) == 1 and errors[0].endswith(message), errors
    assert [file for file in sorted(here.iterdir()) if file.name != "__pycache__"] == before


def test_a_prior_is_fitted_for_a_network(here, capsys):
    (here / "data").mkdir()
    for i in range(3):
        np.save(here / "data" / f"{i}.npy", np.random.default_rng(i).normal(0.4, 0.2, (1, 200)))
    assert run(capsys, "fit-prior", "data", "--model", "nets.py:signal", "-o", "p.json") == (0, ["p.json"], [])
    assert json.loads((here / "p.json").read_text())["axes"] == "x"
    words = ("render", "0:1", "--steps", "1", "--param", "Fourier(prior='p.json')", "--model")
    assert run(capsys, *words, "nets.py:signal", "-o", "a.npy")[0] == 0
    status, _, errors = run(capsys, *words, "nets.py:volume", "-o", "a.npy")
    assert status == 2 and "the prior was fitted to inputs with 1 axes, and the images have 3" in errors[0]


def test_a_prior_is_fitted_for_a_bare_module(here, capsys):
    (here / "data").mkdir()
    for i in range(3):
        np.save(here / "data" / f"{i}.npy", np.random.default_rng(i).normal(0, 0.2, (1, 200)))
    bare = ("--model", "nets.py:bare", "--axes", "x", "--input-size", "60", "--mean", "0", "--std", "0.2")
    fit = ("fit-prior", "data", *bare, "-o", "p.json", "--value-range")
    assert run(capsys, *fit, "-1,1", "--size", "50") == (0, ["p.json"], [])
    known = json.loads((here / "p.json").read_text())
    assert run(capsys, *fit, "-2,2", "--size", "50") == (0, ["p.json"], [])
    assert json.loads((here / "p.json").read_text()) != known and known["axes"] == "x"  # the range is used
    status, _, errors = run(capsys, "fit-prior", "data", "--value-range", "-1,1", "-o", "q.json")
    message = "featviz: --value-range describes the input of a network; give --model FILE.py:FACTORY"
    assert (status, errors) == (2, [message])


WRITTEN = {"signal": ("a.wav", "60"), "volume": ("a.nii.gz", "6x8x10"), "clip": ("a.gif", "5x16x24")}


@pytest.mark.parametrize("name", WRITTEN)
def test_a_saved_result_is_read_by_dream_examples_and_explain(name, here, capsys):
    (file, size), model = WRITTEN[name], ["--model", f"nets.py:{name}"]
    (here / "data").mkdir()
    assert run(capsys, "render", "0:1", *model, "--steps", "2", "-o", f"data/{file}")[0] == 0
    dreamt = f"b{file.removeprefix('a')}"
    words = ("dream", f"data/{file}", *model, "--layer", "0", "--steps", "1", "--octaves", "1", "--quiet", "-o", dreamt)
    assert run(capsys, *words)[0] == 0
    assert (here / dreamt).is_file()
    assert run(capsys, "explain", f"data/{file}", "0:1", *model, "--method", "gradient", "-o", "map.png")[0] == 0
    assert run(capsys, "explain", f"data/{file}", "0:1", *model, "--method", "gradient", "-o", "map.html")[0] == 0
    assert (
        f'"axes": "{"zyx" if name == "volume" else "tyx" if name == "clip" else "x"}"'
        in (here / "map.html").read_text()
    )
    words = ("sweep", *model, "--layer", "0", "--size", size, "--steps", "2", "--quiet", "-o", "pages")
    assert run(capsys, *words)[0] == 0


def test_options_of_videos_need_a_network_of_images(here, capsys):
    np.save(here / "a.npy", np.full((1, 60), 0.4, np.float32))
    words = ("dream", "a.npy", "--model", "nets.py:signal", "--zoom", "1.1", "--layer", "0", "-o", "a.gif")
    status, _, errors = run(capsys, *words)
    message = "featviz: --zoom and --carry need a network of images, which nets.py:signal is not"
    assert (status, errors) == (2, [message])


def test_a_replayed_sound_keeps_its_rate(here, capsys):
    words = ("render", "0:1", "--model", "nets.py:signal", "--steps", "2", "--rate", "8000", "-o", "a.wav")
    assert run(capsys, *words)[0] == 0
    assert run(capsys, "replay", "a.wav", "--model", "nets.py:signal", "-o", "b.wav")[0] == 0
    assert soundfile.info(here / "b.wav").samplerate == 8000


@pytest.mark.parametrize(("name", "ending"), [("signal", ".wav"), ("volume", ".npy")])
def test_dream_and_explain_take_folders(name, ending, here, capsys):
    (here / "data" / "inner").mkdir(parents=True)
    (here / "out").mkdir()
    size, model = {"signal": (70,), "volume": (6, 8, 12)}[name], ["--model", f"nets.py:{name}"]
    for i, folder in enumerate(("data", "data/inner")):
        values = 0.4 + 0.1 * np.random.default_rng(i).standard_normal(size).astype("float32")
        if ending == ".wav":
            soundfile.write(here / folder / "a.wav", values, 8000, subtype="FLOAT")
        else:
            np.save(here / folder / "a.npy", values)
    (here / "data" / f"broken{ending}").write_bytes(b"no numbers")
    dream = ("dream", "data", *model, "--layer", "0", "--steps", "1", "--octaves", "1", "--quiet")
    status, lines, errors = run(capsys, *dream, "-o", "out")
    assert not status, errors
    assert (status, sorted(lines)) == (0, ["out/a-dream.npy", "out/inner_a-dream.npy"])
    assert len(errors) == 1 and errors[0].startswith(f"featviz: skipped data/broken{ending}: ")
    assert np.load("out/a-dream.npy").shape == (1, 1, *size)
    status, lines, errors = run(
        capsys, "explain", "data", "0:1", *model, "--method", "gradient", "-o", "out", "--quiet"
    )
    assert status == 0 and {"out/a-explained.png", "out/inner_a-explained.png"} <= set(lines) and len(errors) == 1
    alone = (*dream[:1], f"data/a{ending}", *dream[2:])
    assert run(capsys, *alone) == (0, ["data/a-dream.npy"], [])
    again = run(capsys, *dream)[1]  # the dream in the folder is no input
    assert sorted(again) == ["data/a-dream-2.npy", "data/inner/a-dream.npy"]
    assert sorted(run(capsys, *dream)[1]) == ["data/a-dream-3.npy", "data/inner/a-dream-2.npy"]
    (here / "empty").mkdir()
    status, _, errors = run(capsys, "dream", "empty", *model)
    assert status == 2 and len(errors) == 1 and errors[0].startswith("featviz: no input files in empty")
