"""The command line: its commands, options, help and error messages."""

import contextlib
import inspect
import io
import re
import signal
import subprocess
import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import toys
import typer
from PIL import Image

import featviz as fv
from featviz.cli import app, main
from featviz.cli.options import JudgeOptions, PageStepsOptions, StepsOptions
from featviz.cli.parsing import find_classes, read_channels, read_image_size, read_numbers, read_range, read_size
from featviz.io import read_image

COMMANDS = {command.callback.__name__: command.callback for command in app.registered_commands}
QUICK = ["--steps", "2", "--quiet"]


def printed(capsys):
    """Return the lines of standard output and of standard error."""
    captured = capsys.readouterr()
    return captured.out.strip().splitlines(), captured.err.strip().splitlines()


def test_render_and_replay(tmp_path, capsys):
    assert main(["render", "stage1:3", "--size", "40x64", "--seed", "5", "-o", "a.png", *QUICK]) == 0
    assert printed(capsys)[0] == ["a.png"]
    assert read_image("a.png").shape == (3, 40, 64)
    assert main(["replay", "a.png", "--quiet"]) == 0
    assert printed(capsys)[0] == ["a-replay.png", "the same as the image, to the byte"]
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "a-replay.png").read_bytes()


def test_several_objectives_make_a_sheet_or_one_file_each(tmp_path, capsys):
    (tmp_path / "each").mkdir()
    units = ["stage1:3", "stage2:1@4,5 - 0.1*stage1", "--class", "spiral", "--batch", "2"]
    assert main(["render", *units, "-o", "each", *QUICK]) == 0
    assert sorted(path.name for path in (tmp_path / "each").iterdir()) == [
        "00-stage1_3.png",
        "01-stage1_3.png",
        "02-stage2_1_4_5_-_0.1___stage1.png",
        "03-stage2_1_4_5_-_0.1___stage1.png",
        "04-logit_spiral.png",
        "05-logit_spiral.png",
    ]
    assert main(["replay", "each/03-stage2_1_4_5_-_0.1___stage1.png", "-o", "again.png", "--quiet"]) == 0
    assert printed(capsys)[0][-1] == "the same as the image, to the byte"
    assert main(["render", *units, *QUICK]) == 0
    assert printed(capsys)[0] == ["stage1_3_and_5_more.png"]


@pytest.mark.parametrize("ending", ["jpg", "jpeg", "webp"])
def test_other_formats_carry_the_recipe(ending, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    assert main(["render", "stage1:3", "--size", "40x64", "-o", f"a.{ending}", *QUICK]) == 0
    assert main(["render", "stage1:3", "--size", "40x64", "-o", "b.png", *QUICK]) == 0
    assert fv.Recipe.of(f"a.{ending}") == fv.Recipe.of("b.png")
    assert main(["replay", f"a.{ending}", "-o", "again.png", "--quiet"]) == 0
    assert re.fullmatch(
        rf"within \d+ of 255 levels of the image \(.{ending} files are compressed with loss\)", printed(capsys)[0][-1]
    )
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(f"a.{ending}") as opened:
        assert fv.Recipe.of(opened) == fv.Recipe.of("b.png")
        opened.save(f"plain.{ending}")
    assert main(["replay", f"plain.{ending}", "--quiet"]) == 2


DEFAULTS = {
    "render stage1:3": ["stage1_3"],
    "render stage1:3 stage1:4": ["stage1_3_and_1_more"],
    "render -stage1:3": ["minus_stage1_3"],
    "render stage1:3 -o out": ["out/00-stage1_3"],
    "dream photos/cat.png --octaves 1": ["photos/cat-dream"],
    "dream photos --octaves 1 -o out": ["out/cat-dream", "out/one_cat-dream", "out/two_cat-dream"],
    "explain photos/cat.png --method gradcam": ["cat-explained"],
    "attention photos/cat.png --model motifvit": ["cat-attention"],
    "explain photos --method gradcam -o out": ["out/cat-explained", "out/one_cat-explained", "out/two_cat-explained"],
    "examples photos --layer stage1 --channels 0": ["stage1-examples"],
    "fit-prior photos": ["photos-prior"],
}


@pytest.mark.parametrize("line", DEFAULTS)
def test_default_names_say_what_is_shown_and_overwrite_nothing(line, tmp_path, capsys):
    for folder in ("photos", "photos/one", "photos/two", "out"):
        (tmp_path / folder).mkdir()
    for i, name in enumerate(("cat.png", "one/cat.png", "two/cat.png")):
        iio.imwrite(tmp_path / "photos" / name, np.full((64, 64, 3), 60 + 40 * i, np.uint8))
    steps = {"attention": [], "explain": ["--quiet"], "fit-prior": ["--size", "16"]}.get(line.split()[0], QUICK)
    found = []
    for _ in range(3 if "photos " not in line else 1):
        assert main([*line.split(), *steps]) == 0
        found += [line for line in printed(capsys)[0] if line.endswith((".png", ".json", ".html"))]
    ending = {"attention": ".html", "fit-prior": ".json"}.get(line.split()[0], ".png")
    times = 3 if "photos " not in line else 1
    assert found == [f"{name}{number}{ending}" for number in ("", "-2", "-3")[:times] for name in DEFAULTS[line]]
    assert all((tmp_path / name).is_file() for name in found)


@pytest.mark.parametrize("goal", ["-stage1:3", "-2*stage1:3", "-(stage1:3 + tv)", "-output:0", "-stage1:3-stage1:2"])
def test_a_negated_objective_is_no_option(goal, capsys):
    status = main(["render", goal, "-oa.png", *QUICK])
    if goal == "-output:0":
        assert (status, printed(capsys)[1][0][:28]) == (2, "featviz: no layer 'output' i")
    else:
        assert status == 0
        assert fv.Recipe.of("a.png").objectives == (repr(fv.objectives.parse(goal)),)


def test_an_unknown_option_is_refused_and_words_after_dashes_are_kept(tmp_path, capsys):
    assert main(["render", "stage1:3", "-x"]) == 2
    assert printed(capsys)[1] == ["featviz: No such option: -x (featviz render --help)"]
    (tmp_path / "-a.png").write_bytes(b"no image")
    assert main(["replay", "--", "-a.png"]) == 2
    assert printed(capsys)[1] == ["featviz: cannot read -a.png as an image; give a PNG, JPEG or WebP file"]


@pytest.mark.parametrize("name", ["Spiral", "SPIRAL", "spiral"])
def test_class_names_have_any_spelling(name):
    assert main(["render", "--class", name, f"logit:{name}", "-o", "a.png", *QUICK]) == 0
    assert fv.Recipe.of("a.png").classes == {name: 17}


@pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
def test_formats(ending):
    assert main(["render", "stage1:3", "-o", f"a.{ending}", *QUICK]) == 0
    assert read_image(f"a.{ending}").shape == (3, 64, 64)


@pytest.mark.parametrize(
    "options",
    [
        ["--param", "pixel", "--transforms", "lucid", "--lr", "0.1"],
        ["--param", "Fourier(decay=1.5, std=0.1)", "--transforms", "none"],
        ["--transforms", "(Pad(4), Jitter(8), Rotate(OneOf((-5, 0, 5))))"],
        ["--transforms", "Jitter(8)"],
        ["--param", "pyramid", "--transforms", "(Jitter(4), GaussianBlur(1.0), Noise(0.1), Contrast(0.2))"],
        ["--param", "phase", "--size", "40x56"],
        ["--param", "alpha", "--batch", "2"],
        ["--param", "CPPN(width=8, periodic=True)", "--at", "90x70"],
        ["--param", "Masked('mask.png')", "--start", "photo.png"],
        ["--param", "Stack(('photo.png',))"],
        ["--param", "Shared()", "--batch", "3", "--smooth-pools"],
    ],
)
def test_options(options):
    generator = np.random.default_rng(0)
    iio.imwrite("photo.png", generator.integers(0, 255, (70, 64, 3), dtype=np.uint8))
    iio.imwrite("mask.png", np.eye(64, dtype=np.uint8) * 255)
    assert main(["render", "stage1:3", "-o", "a.png", *options, *QUICK]) == 0
    assert main(["replay", "a.png", "--quiet"]) == 0


@pytest.mark.parametrize(
    "goal",
    [
        "logit:star - 2*tv - l2 + l1(0.2) - blur(2) - boundary(8)",
        "caricature(stage2, photo.png, 2) - difference(photo.png)",
        "match(stage1, photo.png) + style(stage1, photo.png, 0.5)",
        "within(stage2:5, mask.png) - ramp(0, 5, 0.5) * tv",
        "interpolate(logit:star, logit:heart) + alignment(stage1) + 10*diversity(stage2)",
    ],
)
def test_terms(goal, capsys):
    generator = np.random.default_rng(0)
    iio.imwrite("photo.png", generator.integers(0, 255, (70, 64, 3), dtype=np.uint8))
    iio.imwrite("mask.png", np.full((32, 32), 255, np.uint8))
    assert main(["render", goal, "--batch", "2", "-o", "a.png", *QUICK]) == 0
    assert main(["replay", "a.png", "--quiet"]) == 0
    assert printed(capsys)[0][-1] == "the same as the image, to the byte"
    if "photo.png" in goal:
        iio.imwrite("photo.png", generator.integers(0, 255, (70, 64, 3), dtype=np.uint8))
        assert main(["replay", "a.png", "--quiet"]) == 2
        message = (
            "featviz: the image was rendered with the file photo.png, which is missing or has changed; restore the file"
        )
        assert printed(capsys)[1] == [message]


def test_a_prior_learned_from_images(tmp_path, capsys):
    generator = np.random.default_rng(0)
    (tmp_path / "images" / "more").mkdir(parents=True)
    for i in range(4):
        folder = "images/more" if i % 2 else "images"
        iio.imwrite(f"{folder}/{i}.png", generator.integers(0, 255, (50 + i, 40, 3), dtype=np.uint8))
    assert main(["fit-prior", "images", "--size", "32"]) == 0
    assert printed(capsys)[0] == ["images-prior.json"]
    for name in ("Fourier", "Phase"):
        assert main(["render", "stage1:3", "--param", f"{name}(prior='images-prior.json')", "-o", "a.png", *QUICK]) == 0
        assert main(["replay", "a.png", "--quiet"]) == 0
        assert printed(capsys)[0][-1] == "the same as the image, to the byte"


def test_layers_and_models(capsys):
    assert main(["layers", "--all"]) == 0
    lines = printed(capsys)[0]
    assert lines[0].split() == ["layer", "kind", "shape", "channels", "field", "px", "stride", "px"]
    assert "stage1" in [line.split()[0] for line in lines if line]
    assert next(line.split() for line in lines if line.startswith("stage2 "))[:6] == [
        "stage2",
        "map",
        "64x16x16",
        "64",
        "48",
        "4",
    ]
    assert len(lines) == len(fv.load(device="cpu").layers().rows()) + 3
    assert main(["layers"]) == 0
    shown = [line.split() for line in printed(capsys)[0]]
    starred = [words[0] for words in shown[1:-2] if "*" in words]
    assert starred == ["stem", "stage1", "stage2", "stage3", "logit"]
    assert len(shown) < 25 and shown[6][-2:] == ["+7", "inside"]
    assert main(["models"]) == 0
    names = printed(capsys)[0]
    assert names[0] == "motifnet" and {"googlenet", "resnet50", "vit_b_16"} <= set(names)


OWN = """
import featviz as fv
import torch
from torch import nn
from featviz import objectives as obj

def bare():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())

def whole():
    return fv.Network(bare(), size=20, mean=(.5,) * 3, std=(.5,) * 3)

def classifier():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2))

def nothing():
    return 3

@obj.objective("0")
def corner(acts):
    return acts["0"][:, 1, 0, 0]
"""


def test_a_network_and_an_objective_of_the_user(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(OWN)
    assert (
        main(["render", "corner + 0:2", "--model", "mine.py:whole", "--own", "mine.py:corner", "-o", "a.png", *QUICK])
        == 0
    )
    bare = ["--model", "mine.py:bare", "--input-size", "20", "--mean", ".5,.5,.5", "--std", ".5,.5,.5"]
    assert main(["render", "0:2", *bare, "-o", "b.png", *QUICK]) == 0
    assert main(["layers", *bare]) == 0
    printed(capsys)
    assert main(["replay", "a.png"]) == 2
    assert printed(capsys)[1] == [
        "featviz: the image's network is the user's own 'mine.py:whole', and a recipe never runs code; give the network "
        "with --model path/to/file.py:factory, or network= in Python"
    ]
    assert main(["replay", "a.png", "--model", "mine.py:whole", "--quiet"]) == 2
    (line,) = printed(capsys)[1]
    assert re.fullmatch(
        r"featviz: 'corner' is no name of featviz; nearest: .*; if it is your own, add --own path/to/file\.py:corner "
        r"\(the text in an image file never runs code\)",
        line,
    )
    assert main(["replay", "a.png", "--model", "mine.py:whole", "--own", "mine.py:corner", "--quiet"]) == 0
    assert printed(capsys)[0][-1] == "the same as the image, to the byte"
    assert main(["replay", "b.png", "--model", "mine.py:bare", "--quiet"]) == 0


BAD = [
    (["render", "stage1:3", "--model", "resnet5"], "no model 'resnet5'; nearest: 'resnet50', 'resnet152', 'resnet34' (list all: featviz models)"),
    (["render", "stag1:3"], "no layer 'stag1' in motifnet; nearest: 'stage1', 'stage3.1', 'stage2.1' (list all: featviz layers --model motifnet)"),
    (["render", "stage1:32"], "no channel 32 in 'stage1'; it has 32, 0 to 31"),
    (["render", "stage1:3@32,0"], "no position @32,0 in 'stage1'; at this size its map has rows 0 to 31 and columns 0 to 31"),
    (["render", "--class", "spirl"], "no class 'spirl'; nearest: 'spiral', 'smiley', 'star'"),
    (["render", "stage1:3", "--weights", "no.pt"], "no weights file no.pt; give a safetensors or state_dict file"),
    (["render", "logit:3", "--size", "4"], "motifnet does not accept images of 4x4 px; the smallest square that it accepts is 8x8"),
    (["render", "stage1:3", "--size", "0"], "size must be at least 1 px on each side, got 0 x 0"),
    (["render", "stage1:3", "--size", "1000000"], "size must be at most 65536 px on each side, got 1000000"),
    (["render", "stage1:3", "--size", "65536", "--batch", "9999"], "out of memory with 9999 images of 65536 x 65536 px; give a smaller size"),
    (["render", "stage1:3", "--size", "big"], "a size must be px as 224, height and width as 160x320, or three lengths as 16x64x64, got 'big'"),
    (["render", "stage1:3", "--mean", "a"], "numbers must be separated by commas, as 0.5,0.5,0.5, got 'a'"),
    (["render", "stage1:3", "-o", "no/a.png"], "cannot write no/a.png: there is no folder no; make it first"),
    (["render", "stage1:3", "-o", "a.gif"], "cannot write a.gif: .gif is for video; for images end it in .png, .jpg, .jpeg, .webp or .npy"),
    (["render", "stage1:3", "--steps", "-1"], "steps must be >= 0, got -1 (default 512; 0 returns the start)"),
    (["render", "stage1:3", "--batch", "0"], "batch must be a whole number in [1, 65536], got 0"),
    (["render", "stage1:3", "--quality", "fine"], "quality must be one of draft, usual, best, got 'fine'"),
    (["judge", "a.png", "--judge", "motifnt"], "no model 'motifnt'; nearest: 'motifnet', 'motifvit', 'mobilenet_v2' (list all: featviz models)"),
    (["render", "stage1:3", "--lr", "0"], "lr must be > 0, got 0.0 (default 0.08)"),
    (["render", "stage1:3", "--optimizer", "ascent", "--lr", "2"], "lr needs the optimizer adam, got Ascent(lr=1.0); give the rate there, as in Ascent(lr=2.0)"),
    (["render", "stage1:3", "--seed", "-1"], "seeds must be in [0, 2**63), got -1 to -1"),
    (["render", "stage1:3", "--device", "tpu"], "no device 'tpu' found; give auto, cpu, cuda or mps"),
    (["render", "stage1:3", "--param", "fourir"], "there is no 'fourir' in param; nearest: 'Fourier'"),
    (["render", "stage1:3", "--transforms", "standrd"], "there is no 'standrd' in transforms; nearest: 'STANDARD', 'GaussianBlur', 'Pad'"),
    (["render", "stage1:3", "--param", "plain"], "Plain() is not a param; use e.g. param.Image(size=224) or a spatial part such as param.Pixel()"),
    (["render", "stage1:3", "--param", "Fourier(prior='no.json')"], "no file no.json; create it with: featviz fit-prior FOLDER -o no.json"),
    (["render", "stage1:3", "--param", "Fourier(prior='plain.png')"], "plain.png is not a prior; create one with: featviz fit-prior FOLDER"),
    (["render", "stage1:3", "--param", "Masked('plain.png')"], "Masked keeps an image outside of its mask and needs one to start from; use start=, or --start"),
    (["render", "stage1:3", "--start", "no.png"], "no file no.png; check the path"),
    (["render", "stage1:3", "--start", "plain.png", "--size", "32x64"], "start must have the aspect ratio of the image, 32 x 64 px, got 4 x 4 px; crop it first"),
    (["render", "stage1:3", "--at", "100"], "--at needs --param cppn, got fourier; its images have a fixed size"),
    (["render", "match(stage1, no.png)"], "no file no.png; check the path"),
    (["render", "diversity(stage1)"], "diversity(stage1) compares images of a batch, and there is one; use batch=4, or --batch 4"),
    (["render", "opacity"], "the image has no alpha channel; use param=param.Alpha(), or --param alpha"),
    (["fit-prior", "nowhere"], "no folder nowhere; give a folder of images"),
    (["fit-prior", ".", "-o", "prior.png"], "cannot write prior.png: end it in .json"),
    (["render", "stage1:3", "--transforms", "jitter"], "'jitter' needs arguments; write it as a call, Jitter(...)"),
    (["render", "stage1:3", "--transforms", "(Jitter(99),)"], "Jitter(px=99) leaves nothing of 64 x 64 px; use fewer px or a larger image"),
    (["render", "stage1:3", "--precision", "float16"], "--precision must be auto, float32 or bfloat16, got 'float16'"),
    (["render", "spiral"], "no layer 'spiral' in motifnet; a class is addressed as logit:spiral"),
    (["render", "Spirl - tv"], "no layer 'Spirl' in motifnet; a class is addressed as logit:spiral"),
    (["render", "stage9:1"], "no layer 'stage9' in motifnet; nearest: 'stage3', 'stage2', 'stage1' (list all: featviz layers --model motifnet)"),
    (["render", "stage1:3", "--optimizer", "adm"], "there is no 'adm' in optimizers; nearest: 'Adam'"),
    (["render"], "nothing to render; give an objective such as stage2:5, or --class NAME"),
    (["render", "stage1:3", "--model", "no.py:net"], "no file no.py; give path/to/file.py:factory"),
    (["render", "stage1:3", "--model", "no.such:net"], "no module 'no.such'; give path/to/file.py:net or package.module:net"),
    (["render", "stage1:3", "--model", "broken.py"], "broken.py is a file; name the function in it that returns the network: broken.py:factory"),
    (["replay", "no.png"], "no file no.png; check the path"),
    (["replay", "plain.png"], "plain.png holds no recipe; give a file of a render or dream as it was saved"),
    (["replay", "broken.png"], "cannot read broken.png as an image; give a PNG, JPEG or WebP file"),
    (["gallery", "--quality", "fine"], "quality must be one of draft, usual, best, got 'fine'"),
    (["atlas", ".", "--layer", "stage2", "--quality", "fine"], "quality must be one of draft, usual, best, got 'fine'"),
    (["sweep", "--layer", "stage2", "--backend", "spark"], "backend must be local or ray, got 'spark'"),
    (["gallery", "--pair", "heart"], "cannot read the pair 'heart'; give two classes as ONE:OTHER"),
    (["layers", "--input-size", "4"], "motifnet does not accept images of 4x4 px; the smallest square that it accepts is 8x8"),
    (["explain", "plain.png", "--input-size", "4"], "motifnet does not accept images of 4x4 px; the smallest square that it accepts is 8x8"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[" ".join(arguments) for arguments, _ in BAD])
def test_bad_input_gives_one_line_and_status_2_and_writes_nothing(arguments, message, tmp_path, capsys):
    iio.imwrite(tmp_path / "plain.png", np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG no")
    before = sorted(tmp_path.iterdir())
    assert main([*arguments, "--quiet"] if {"replay", "stage1:3", "logit:3"} & {*arguments} else arguments) == 2
    out, err = printed(capsys)
    assert out == []
    assert err == [f"featviz: {message}"]
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "message", "help_command"),
    [
        (["rendr"], "No such command 'rendr'", "featviz --help"),
        (["render", "--stps", "3"], "No such option: --stps", "featviz render --help"),
        (["render", "stage1:3", "--steps", "many"], "Invalid value for '--steps'", "featviz render --help"),
        (["dream", "plain.png", "--size", "32"], "No such option: --size", "featviz dream --help"),
        (["fit-prior"], "Missing argument", "featviz fit-prior --help"),
        (["judge", "a.png"], "Missing option '--judge'", "featviz judge --help"),
    ],
)
def test_usage_errors_name_the_help(arguments, message, help_command, capsys):
    assert main(arguments) == 2
    (line,) = printed(capsys)[1]
    assert line.startswith(f"featviz: {message}") and line.endswith(f" ({help_command})")


SELF_TERMINATING = """
import os, signal
import featviz as fv
calls = []

@fv.objectives.objective("stage1")
def stopped(acts):
    calls.append(1)
    if len(calls) == 5:
        os.kill(os.getpid(), signal.SIGTERM)
    return acts["stage1"].flatten(1).mean(1)
"""


def test_sigterm_keeps_what_there_is_so_far(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(SELF_TERMINATING)
    before = signal.getsignal(signal.SIGTERM)
    words = ["render", "stopped", "--own", "mine.py:stopped", "--steps", "100", "-o", "a.png", "--quiet"]
    assert main(words) == 130
    out, err = printed(capsys)
    assert out == ["a.png"] and re.fullmatch(r"stopped at step \d of 100", err[-1])
    assert read_image("a.png").shape == (3, 64, 64) and signal.getsignal(signal.SIGTERM) is before


def test_an_unknown_model_of_timm_is_reported(capsys):
    pytest.importorskip("timm")
    assert main(["render", "stage1:3", "--model", "timm/nothing_here"]) == 2
    (line,) = printed(capsys)[1]
    assert line.startswith("featviz: no model 'nothing_here' in timm; nearest: ")


def test_a_syntax_error_in_an_objective_is_marked_by_a_caret(capsys):
    assert main(["render", "stage1:3 + * 2"]) == 2
    assert printed(capsys)[1] == [
        "featviz: cannot parse the objective: expected layer:channel, logit:class or a number here",
        "  stage1:3 + * 2",
        "             ^",
    ]


def test_errors_of_user_code_give_one_line_or_a_traceback(tmp_path, capsys):
    (tmp_path / "broken.py").write_text("def net():\n    raise KeyError('mine')\n")
    (tmp_path / "mine.py").write_text(OWN)
    assert main(["render", "x", "--model", "broken.py:net"]) == 1
    assert printed(capsys)[1] == ["featviz: KeyError: 'mine' (add --debug for a traceback)"]
    with pytest.raises(KeyError):
        main(["render", "x", "--model", "broken.py:net", "--debug"])
    assert main(["render", "x", "--model", "mine.py:nothing"]) == 2
    assert printed(capsys)[1] == ["featviz: mine.py:nothing returned int; return an nn.Module or a featviz.Network"]
    assert main(["render", "0:1", "--model", "mine.py:bare"]) == 2
    assert printed(capsys)[1] == [
        "featviz: mine.py:bare returned a bare module, which needs input_size, mean and std (--input-size 32 "
        "--mean 0.5,0.5,0.5 --std 0.5,0.5,0.5; for a judge --judge-input-size …); or return a featviz.Network"
    ]


def test_render_has_the_defaults_of_the_functions():
    given = {name: each.default for name, each in inspect.signature(COMMANDS["render"]).parameters.items()}
    wanted = {name: each.default for name, each in inspect.signature(fv.render).parameters.items()}
    assert {name: given[name] for name in ("quality", "steps", "lr", "batch", "seed", "size")} == {
        name: wanted[name] for name in ("quality", "steps", "lr", "batch", "seed", "size")
    }
    for name in ("param", "transforms", "optimizer"):
        assert given[name] is wanted[name] is None


FUNCTIONS = {
    name: getattr(fv, name)
    for name in ("gallery", "sweep", "unit", "atlas", "blocks", "dream", "examples", "evidence", "circuit", "diff")
}
FUNCTIONS["explain"] = fv.compare  # several methods side by side
FUNCTIONS["dictionary"] = fv.fit_dictionary
FUNCTIONS["concept"] = fv.Concept.from_photographs
FUNCTIONS["accentuate"] = fv.accentuate


@pytest.mark.parametrize("command", FUNCTIONS)
def test_options_have_the_names_and_defaults_of_the_arguments(command):
    given = {name: each.default for name, each in inspect.signature(COMMANDS[command]).parameters.items()}
    wanted = {name: each.default for name, each in inspect.signature(FUNCTIONS[command]).parameters.items()}
    read_from_text = {"classes", "channels", "param", "output", "backend", "steps", "progress"}
    read_from_text |= {"image"} if command == "explain" else set()  # which may be --text instead
    shared = (given.keys() & wanted.keys()) - read_from_text
    assert "seed" in shared or command in ("explain", "examples", "evidence")
    assert {name: given[name] for name in shared} == {name: wanted[name] for name in shared}
    if command in ("gallery", "sweep", "unit", "circuit"):
        assert given["quality"] == wanted["quality"] and given["steps"] is wanted["steps"] is None
    if command in ("atlas", "blocks", "diff"):
        assert given["quality"] is given["steps"] is None
        assert f"best (1536). Default: {wanted['steps']}." in help_of(command)


NETWORK = (
    "model",
    "weights",
    "device",
    "input_size",
    "mean",
    "std",
    "channel_order",
    "layout",
    "head",
    "outputs",
    "class_names",
)
LOADING = (
    "render",
    "dream",
    "accentuate",
    "gallery",
    "sweep",
    "explain",
    "examples",
    "evidence",
    "atlas",
    "blocks",
    "circuit",
    "dictionary",
    "concept",
    "unit",
    "diff",
    "embeddings",
    "layers",
    "doctor",
)
RENDERING = ("render", "gallery", "sweep", "examples", "atlas", "blocks", "circuit", "unit", "diff")


def test_commands_share_the_options_of_networks_judges_and_backends():
    given = {name: inspect.signature(command).parameters for name, command in COMMANDS.items()}
    for name in LOADING:
        assert given[name].keys() & set(NETWORK) == set(NETWORK) - (
            {"weights"} if name in ("diff", "layers") else set()
        )
    load = inspect.signature(fv.load).parameters
    for command in (given["render"], given["explain"]):
        arguments = [name.replace("class_names", "classes") for name in NETWORK]
        assert [command[name].default for name in NETWORK] == [load[name].default for name in arguments]
    for name in ("diff", "gallery", "judge", "unit"):
        assert {f"judge_{option}" for option in NETWORK[1:] if option != "device"} | {"judge"} <= given[name].keys()
    for name in ("gallery", "sweep", "atlas", "blocks", "circuit", "diff"):
        assert {"backend", "address", "workers"} <= given[name].keys()
    for name in RENDERING:
        assert {"size", "quality", "steps"} <= given[name].keys()
    assert [name for name in LOADING if "size" in given[name]] == list(RENDERING)


def help_of(*words):
    """Return the help of a command, as one line."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main([*words, "--help"]) == 0
    return " ".join(out.getvalue().split())


def test_the_help_states_the_steps_of_the_presets():
    counts = [preset.steps for preset in fv.PRESETS.values()]
    whole = "Quality preset: draft (smaller images, {} steps), usual ({}), best ({}).".format(*counts)
    steps_only = "Steps of a quality preset: draft ({}), usual ({}), best ({}).".format(*counts)
    assert list(fv.PRESETS) == ["draft", "usual", "best"]
    for name in RENDERING:
        assert (steps_only if name in ("atlas", "blocks", "diff") else whole) in help_of(name)


def test_explain_lists_all_methods():
    named = [
        name.lower() for name in fv.methods.__all__ if inspect.isclass(getattr(fv.methods, name)) or name.isupper()
    ]
    assert f"There are {', '.join(sorted(named)[:-1])} and {sorted(named)[-1]}." in help_of("explain")


def test_summaries_are_not_cut_in_narrow_terminals(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "50")
    text = help_of()
    for command in COMMANDS.values():
        assert " ".join(command.__doc__.partition("\n\n")[0].split()) in text


@pytest.mark.parametrize(
    ("content", "file"),
    [("ant\nbee\n\n", "n.txt"), ('["ant", "bee"]', "n.json"), ('{"1": "bee", "0": "ant"}', "n.json")],
)
def test_class_names_of_the_users_own_model(content, file, tmp_path, capsys):
    (tmp_path / "mine.py").write_text(OWN)
    (tmp_path / file).write_text(content)
    model = ["--model", "mine.py:classifier", "--input-size", "8", "--mean", "0,0,0", "--std", "1,1,1"]
    assert main(["render", "logit:bee", *model, "--classes", file, "-o", "a.png", *QUICK]) == 0
    assert fv.Recipe.of("a.png").classes == {"bee": 1}
    assert main(["render", "prob:1", *model, "--outputs", "multilabel", "-o", "a.png", *QUICK]) == 0
    assert fv.Recipe.of("a.png").outputs == "multilabel"
    assert main(["render", "logit:1", *model, "--head", "1", "-o", "a.png", *QUICK]) == 0
    assert fv.Recipe.of("a.png").head == "1"
    (tmp_path / "empty.txt").write_text("\n")
    for bad, message in (
        ("none.txt", "cannot read class names from none.txt; give a file with one name per line"),
        ("empty.txt", "empty.txt must hold one class name per line, or a JSON list of names"),
    ):
        printed(capsys)
        assert main(["render", "logit:bee", *model, "--classes", bad, "-o", "b.png", *QUICK]) == 2
        assert printed(capsys)[1] == [f"featviz: {message}"]


def test_a_gallery_takes_classes_one_by_one_or_as_a_list(tmp_path, capsys):
    for chosen in (["--class", "moon", "--class", "star"], ["--classes", "moon, star"]):
        assert main(["gallery", *chosen, "--size", "32", "-o", "g", *QUICK]) == 0
        assert (tmp_path / "g" / "index.html").read_text().count("<li") == 2


def test_a_sweep_tells_how_much_it_will_render_and_how_to_continue(tmp_path, capsys):
    line = ["sweep", "--layer", "stage1", "--channels", "0-8", "--size", "32", "-o", "s", *QUICK]
    assert main(line) == 0
    assert re.search(r"^featviz: 9 images to render, about \d+ s$", "\n".join(printed(capsys)[1]), re.MULTILINE)
    assert main(line) == 0
    assert "featviz: 0 images to render, 9 are there already" in printed(capsys)[1]


@pytest.mark.parametrize("command", ["sweep", "gallery"])
def test_ctrl_c_says_how_to_continue(command, monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(fv, command, interrupt)
    assert main([command, *(["--layer", "stage1"] if command == "sweep" else [])]) == 130
    assert printed(capsys)[1] == ["featviz: interrupted; run the same command again to continue"]


def test_the_help_fits_80_columns(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["--help"]) == 0
    summaries = capsys.readouterr().out.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
    assert [line.split()[0] for line in summaries] == [name.replace("_", "-") for name in COMMANDS]
    assert all(line.endswith(".") and not line.endswith("...") and len(line) <= 80 for line in summaries)


def test_version_and_help(capsys):
    assert main(["--version"]) == 0
    assert printed(capsys)[0] == [f"featviz {fv.__version__}"]
    assert main([]) == 0
    text = "\n".join(printed(capsys)[0])
    assert "Examples:" in text and "featviz render --class spiral" in text
    for command in COMMANDS:
        assert main([command.replace("_", "-"), "--help"]) == 0


def test_ctrl_c_saves_the_image_so_far(tmp_path):
    code = (
        "import featviz as fv, sys\n"
        "def interrupt(*_):\n"
        "    import featviz as fv\n"
        "    def progress(done, steps):\n"
        "        if done == 3: raise KeyboardInterrupt\n"
        "    return progress\n"
        "from featviz.cli import main\n"
        "fv.progress_bar = interrupt\n"
        "sys.exit(main(['render', 'stage1:3', '--steps', '9', '-o', 'a.png']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert done.stdout.split() == ["a.png"]
    assert done.stderr == "stopped at step 3 of 9\n"
    assert fv.Recipe.of(tmp_path / "a.png").until == 3


def test_an_unwritable_folder_is_reported_before_the_render(monkeypatch, capsys):
    import featviz.io.files as files

    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files, "NamedTemporaryFile", refuse)
    monkeypatch.setattr(fv, "render", None)
    assert main(["render", "stage1:3", "-o", "a.png"]) == 2
    assert printed(capsys)[1] == ["featviz: cannot write to the folder .: Permission denied"]


def test_replaying_a_stopped_image_over_itself(tmp_path, capsys):
    fv.render(fv.load(device="cpu"), "stage1:3", steps=9, until=3).save("a.png")
    assert main(["replay", "a.png", "-o", "a.png", "--quiet"]) == 0
    assert printed(capsys)[0] == ["a.png", "the same as the image, to the byte"]


def test_replay_reports_a_changed_image(tmp_path, capsys):
    import imageio.v3 as iio
    from PIL.PngImagePlugin import PngInfo

    from featviz.io import read_recipe

    assert main(["render", "stage1:3", "-o", "a.png", *QUICK]) == 0
    info = PngInfo()
    info.add_itxt("featviz", read_recipe(tmp_path / "a.png"))
    pixels = iio.imread("a.png").copy()
    pixels[3, 3] = 255 - pixels[3, 3]
    iio.imwrite("b.png", pixels, pnginfo=info)
    assert main(["replay", "b.png", "-o", "b.png", "--quiet"]) == 0
    assert printed(capsys)[0][-1].endswith(" of 255 levels of the image")


def test_the_installed_command_imports_from_the_current_folder(tmp_path):
    (tmp_path / "blocks.py").write_text("from torch import nn\nlayer = nn.Conv2d(3, 4, 3)\n")
    (tmp_path / "mine.py").write_text(OWN + "from blocks import layer\n")
    command = Path(sys.executable).with_name("featviz")
    for model in ("mine.py:whole", "mine:whole"):
        done = subprocess.run(
            [command, "layers", "--model", model], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[1].split()[:3] == ["0", "map", "4x18x18"]


FLAT = """

def flat():
    \"\"\"Declares another size than the module accepts.\"\"\"
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 4))
    return fv.Network(module, size=20, mean=(0.5,) * 3, std=(0.5,) * 3)
"""


def test_size_is_of_the_image_and_input_size_of_the_network(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(OWN)
    whole = ["render", "0:2", "--model", "mine.py:whole", "-o", "a.png", *QUICK]
    assert main([*whole, "--size", "40"]) == 0
    assert fv.Recipe.of("a.png").input.size == (20, 20)
    assert read_image("a.png").shape == (3, 40, 40)
    assert main([*whole, "--input-size", "24"]) == 0
    assert fv.Recipe.of("a.png").input.size == (24, 24)
    assert read_image("a.png").shape == (3, 24, 24)
    (tmp_path / "flat.py").write_text(OWN + FLAT)
    assert main(["render", "1:2", "--model", "flat.py:flat", "--input-size", "8", "-o", "b.png", *QUICK]) == 0
    assert fv.Recipe.of("b.png").input.size == (8, 8)
    printed(capsys)
    assert main(["render", "stage1:3", "--input-size", "4", "-o", "c.png", *QUICK]) == 2
    message = "featviz: motifnet does not accept images of 4x4 px; the smallest square that it accepts is 8x8"
    assert printed(capsys)[1] == [message]


def test_values_that_are_no_objective_are_reported(tmp_path, capsys):
    (tmp_path / "mine.py").write_text("def plain(acts):\n    return 3\n")
    assert main(["render", "plain", "--own", "mine.py:plain", *QUICK]) == 2
    assert printed(capsys)[1] == [
        "featviz: 'plain' is not an objective; decorate the function with @objectives.objective('layer')"
    ]
    assert main(["render", "3", *QUICK]) == 2
    assert printed(capsys)[1] == ["featviz: '3' is only a number; name a unit, e.g. layer:channel or logit:class"]


def test_a_batch_logs_its_memory_and_is_split_to_fit(capsys):
    units = ["stage2:1", "stage2:2", "stage2:3"]
    assert main(["render", *units, "-o", "a.png", *QUICK]) == 0
    assert re.fullmatch(r"featviz: 3 images take about \d+ MB", *printed(capsys)[1])
    assert main(["render", *units, "-o", "b.png", "--max-memory", "3MB", *QUICK]) == 0
    assert re.fullmatch(
        r"featviz: 3 images would take about \d+ MB; \d at a time take about \d+ MB", *printed(capsys)[1]
    )
    assert re.fullmatch(r"Execution\(precision='float32', chunk_size=[12]\)", fv.Recipe.of(Path("b.png")).execution)


def test_an_unreadable_amount_of_memory_is_reported(capsys):
    assert main(["render", "stage2:1", "--max-memory", "lots", *QUICK]) == 2
    wanted = "featviz: max_memory must be a number of bytes > 0, or text such as 800MB or 4GB, got 'lots'"
    assert printed(capsys)[1] == [wanted]


def test_a_number_is_a_class_index_unless_it_is_a_class_name():
    numbered = toys.plain(classes=("3", "4", "c", "d", "e"))
    assert find_classes(numbered, ["3", "0", "c"]) == [fv.objectives.Logit(name) for name in ("3", 0, "c")]
    assert find_classes(numbered, None) == []


def test_text_of_options():
    assert read_size(None) is None and read_size("224") == 224 and read_size("160X320") == (160, 320)
    assert read_size("16x64x32") == (16, 64, 32) and read_image_size("224") == 224
    with pytest.raises(fv.SettingError, match="^the size of an image must be px as 224, or height and width"):
        read_image_size("16x64x32")
    assert read_range("-1,1") == (-1.0, 1.0) and read_range(None) is None
    with pytest.raises(fv.SettingError, match="^a range must be the lowest and the highest value, as -1,1, got '1'$"):
        read_range("1")
    assert read_numbers(None) is None and read_numbers("0.5, 1,2e-1") == (0.5, 1.0, 0.2)
    assert read_channels("0-2, 40,7-7") == [0, 1, 2, 40, 7]
    for text in ("1x2x3x4", "", "x", "-4", "4.0"):
        wanted = "a size must be px as 224, height and width as 160x320, or three lengths as 16x64x64"
        message = f"{wanted}, got {text!r}"
        with pytest.raises(fv.SettingError, match=f"^{re.escape(message)}$"):
            read_size(text)
    with pytest.raises(fv.SettingError, match="^cannot read the channels '1-'; give numbers as 0-15,40, or all$"):
        read_channels("1-")
    message = "cannot read the channels '5-2'; give the smaller number first, as 2-5"
    with pytest.raises(fv.SettingError, match=f"^{message}$"):
        read_channels("5-2")


def test_pages_take_the_steps_of_a_quality_preset_unless_they_are_given():
    assert PageStepsOptions().settings == {}
    assert PageStepsOptions(steps=3).settings == PageStepsOptions(quality="best", steps=3).settings == {"steps": 3}
    assert PageStepsOptions(quality="draft").settings == {"steps": fv.PRESETS["draft"].steps}


def test_other_commands_take_the_whole_preset():
    assert StepsOptions().settings == {"quality": "usual", "steps": None}
    assert StepsOptions(quality="draft", steps=3).settings == {"quality": "draft", "steps": 3}
    with pytest.raises(fv.SettingError, match="^quality must be one of draft, usual, best, got 'fine'$"):
        _ = StepsOptions(quality="fine", steps=3).settings


def test_options_that_commands_share_are_spelled_once():
    helps = [
        option.help
        for command in typer.main.get_command(app).commands.values()
        for option in command.params
        if getattr(option, "help", None)
    ]
    shared = {text for text in helps if helps.count(text) >= 3 and text != "Show this message and exit."}
    folder = Path(fv.__file__).parent / "cli"
    joined = re.sub(r'"\s*\n\s*f?"', "", "".join(file.read_text() for file in folder.glob("*.py")))
    assert len(shared) > 20 and {text for text in shared if joined.count(f'"{text}"') > 1} == set()


def test_a_judge_is_loaded_from_its_own_options():
    options = JudgeOptions(judge_input_size="72", judge_channel_order="bgr", judge_weights="none")
    judge = options.load("motifnet", "cpu")
    assert (judge.size, judge.input.channel_order, judge.weights) == ((72, 72), "BGR", "none")
