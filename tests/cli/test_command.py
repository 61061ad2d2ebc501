"""The command line: what it does, and the one line that it says when it cannot."""

import re
import subprocess
import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import toys

import featviz as fv
from featviz.cli import app, main
from featviz.cli.options import find_classes
from featviz.io import read_image

QUICK = ["--steps", "2", "--quiet"]


def said(capsys):
    out = capsys.readouterr()
    return out.out.strip().splitlines(), out.err.strip().splitlines()


def test_render_and_replay(tmp_path, capsys):
    assert main(["render", "stage1:3", "--size", "40x64", "--seed", "5", "-o", "a.png", *QUICK]) == 0
    assert said(capsys)[0] == ["a.png"]
    assert read_image("a.png").shape == (3, 40, 64)
    assert main(["replay", "a.png", "--quiet"]) == 0
    assert said(capsys)[0] == ["a-replay.png", "the same as the picture, to the byte"]
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "a-replay.png").read_bytes()


def test_several_objectives_are_a_sheet_or_a_file_each(tmp_path, capsys):
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
    assert said(capsys)[0][-1] == "the same as the picture, to the byte"
    assert main(["render", *units, *QUICK]) == 0
    assert said(capsys)[0] == ["sheet.png"]


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
    assert said(capsys)[0][-1] == "the same as the picture, to the byte"
    if "photo.png" in goal:
        iio.imwrite("photo.png", generator.integers(0, 255, (70, 64, 3), dtype=np.uint8))
        assert main(["replay", "a.png", "--quiet"]) == 2
        message = "featviz: the picture was made with the file photo.png, which is missing or holds another now"
        assert said(capsys)[1] == [message]


def test_a_prior_of_ones_own_images(tmp_path, capsys):
    generator = np.random.default_rng(0)
    (tmp_path / "images" / "more").mkdir(parents=True)
    for i in range(4):
        folder = "images/more" if i % 2 else "images"
        iio.imwrite(f"{folder}/{i}.png", generator.integers(0, 255, (50 + i, 40, 3), dtype=np.uint8))
    assert main(["fit-prior", "images", "--size", "32"]) == 0
    assert said(capsys)[0] == ["prior.json"]
    for name in ("Fourier", "Phase"):
        assert main(["render", "stage1:3", "--param", f"{name}(prior='prior.json')", "-o", "a.png", *QUICK]) == 0
        assert main(["replay", "a.png", "--quiet"]) == 0
        assert said(capsys)[0][-1] == "the same as the picture, to the byte"


def test_layers_and_models(capsys):
    assert main(["layers"]) == 0
    lines = said(capsys)[0]
    assert lines[0].split() == ["layer", "kind", "shape", "channels", "field", "px", "stride", "px"]
    assert "stage1" in [line.split()[0] for line in lines]
    assert next(line.split() for line in lines if line.startswith("stage2 ")) == [
        "stage2",
        "map",
        "64x16x16",
        "64",
        "48",
        "4",
    ]
    assert main(["models"]) == 0
    names = said(capsys)[0]
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

def nothing():
    return 3

@obj.objective("0")
def corner(acts):
    return acts["0"][:, 1, 0, 0]
"""


def test_a_network_and_an_objective_of_ones_own(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(OWN)
    assert (
        main(["render", "corner + 0:2", "--model", "mine.py:whole", "--own", "mine.py:corner", "-o", "a.png", *QUICK])
        == 0
    )
    bare = ["--model", "mine.py:bare", "--size", "20", "--mean", ".5,.5,.5", "--std", ".5,.5,.5"]
    assert main(["render", "0:2", *bare, "-o", "b.png", *QUICK]) == 0
    assert main(["layers", *bare]) == 0
    said(capsys)
    assert main(["replay", "a.png"]) == 2
    assert said(capsys)[1] == [
        "featviz: the picture's network is 'mine.py:whole', someone's own; a picture never runs code, "
        "so give it by hand: --model path/to/file.py:factory, or network= in Python"
    ]
    assert main(["replay", "a.png", "--model", "mine.py:whole", "--quiet"]) == 2
    assert "--own path/to/file.py:corner" in said(capsys)[1][0]
    assert main(["replay", "a.png", "--model", "mine.py:whole", "--own", "mine.py:corner", "--quiet"]) == 0
    assert said(capsys)[0][-1] == "the same as the picture, to the byte"
    assert main(["replay", "b.png", "--model", "mine.py:bare", "--quiet"]) == 0


BAD = [
    (["render", "stage1:3", "--model", "resnet5"], "no model 'resnet5'; nearest: 'resnet50', 'resnet152', 'resnet34' (featviz models lists all)"),
    (["render", "stag1:3"], "no layer 'stag1' in motifnet; nearest: 'stage1', 'stage3.1', 'stage2.1' (featviz layers --model motifnet lists all)"),
    (["render", "stage1:32"], "no channel 32 in 'stage1'; it has 32, 0 to 31"),
    (["render", "stage1:3@32,0"], "no place @32,0 in 'stage1'; at this size its map is 32 x 32, rows 0 to 31, columns 0 to 31"),
    (["render", "--class", "spirl"], "no class 'spirl'; nearest: 'spiral', 'smiley', 'star'"),
    (["render", "stage1:3", "--weights", "no.pt"], "no weights file no.pt; give a safetensors or state_dict file"),
    (["render", "stage1:3", "--size", "4"], "motifnet does not take 4x4 px; the smallest square it takes is 8x8"),
    (["render", "stage1:3", "--size", "0"], "size 0 x 0 has no pixels; give a height and width from 1"),
    (["render", "stage1:3", "--size", "1000000"], "out of memory with 1000000 x 1000000 px; give a smaller size"),
    (["render", "stage1:3", "--size", "big"], "cannot read the size 'big'; give px as 224, or height and width as 160x320"),
    (["render", "stage1:3", "--mean", "a"], "cannot read 'a'; give numbers as 0.5,0.5,0.5"),
    (["render", "stage1:3", "-o", "no/a.png"], "cannot write no/a.png: there is no folder no; make it first"),
    (["render", "stage1:3", "-o", "a.gif"], "cannot write a.gif: end it in .png, .jpg, .jpeg, .webp, or name an existing folder"),
    (["render", "stage1:3", "--steps", "-1"], "steps -1 is below 0; give 0 for the start alone, 512 is usual"),
    (["render", "stage1:3", "--batch", "0"], "batch 0 has no pictures; give 1 or more"),
    (["render", "stage1:3", "--quality", "fine"], "no quality 'fine'; give draft, usual, best"),
    (["judge", "a.png", "--by", "motifnt"], "no model 'motifnt'; nearest: 'motifnet', 'motifvit', 'mobilenet_v2' (featviz models lists all)"),
    (["render", "stage1:3", "--lr", "0"], "learning rate 0.0 does not move; give one above 0, 0.05 is usual"),
    (["render", "stage1:3", "--optimizer", "ascent", "--lr", "2"], '--lr is of adam; write it into the optimizer, as "Ascent(lr=2.0)"'),
    (["dream", "plain.png", "--size", "32"], "--size is what a module of one's own expects; a dream has its photograph's: leave it out"),
    (["render", "stage1:3", "--seed", "-1"], "seeds -1 to -1 are out of range; give 0 or more, below 2**63"),
    (["render", "stage1:3", "--device", "tpu"], "no device 'tpu' here; give auto, cpu, cuda or mps"),
    (["render", "stage1:3", "--param", "fourir"], "there is no 'fourir' in param; nearest: 'Fourier'"),
    (["render", "stage1:3", "--transforms", "standrd"], "there is no 'standrd' in transforms; nearest: 'STANDARD'"),
    (["render", "stage1:3", "--param", "plain"], "Plain() is no param; give param.Image(...), or a spatial part such as param.Pixel()"),
    (["render", "stage1:3", "--param", "Fourier(prior='no.json')"], "no file no.json; featviz fit-prior FOLDER makes one"),
    (["render", "stage1:3", "--param", "Fourier(prior='plain.png')"], "plain.png is no prior; featviz fit-prior FOLDER makes one"),
    (["render", "stage1:3", "--param", "Masked('plain.png')"], "Masked keeps a picture outside of its mask; give one to begin from: start=, or --start"),
    (["render", "stage1:3", "--start", "no.png"], "no file no.png"),
    (["render", "stage1:3", "--start", "plain.png", "--size", "32x64"], "start is 4 x 4 px, the picture 32 x 64; cut it to that shape first"),
    (["render", "stage1:3", "--at", "100"], "--at draws again what has no size of its own, and fourier has one; give --param cppn"),
    (["render", "match(stage1, no.png)"], "no file no.png"),
    (["render", "diversity(stage1)"], "diversity(stage1) compares pictures of a batch, and there is one; give batch=4, or --batch 4"),
    (["render", "opacity"], "the picture has no alpha channel, so no opacity; give param=param.Alpha(), or --param alpha"),
    (["fit-prior", "nowhere"], "no folder nowhere"),
    (["fit-prior", "."], "cannot read broken.png as a picture; give a PNG, JPEG or WebP file"),
    (["fit-prior", ".", "-o", "prior.png"], "cannot write prior.png: end it in .json"),
    (["render", "stage1:3", "--transforms", "jitter"], "'jitter' needs arguments; write it as a call, Jitter(...)"),
    (["render", "stage1:3", "--transforms", "(Jitter(99),)"], "Jitter(px=99) leaves nothing of 64 x 64 px; give fewer px or a larger size"),
    (["render"], "nothing to render; give an objective such as stage2:5, or --class NAME"),
    (["render", "stage1:3", "--model", "timm/nothing_here"], "no model 'nothing_here' in timm"),
    (["render", "stage1:3", "--model", "no.py:net"], "no file no.py; give path/to/file.py:factory"),
    (["render", "stage1:3", "--model", "no.such:net"], "no module 'no.such'; give path/to/file.py:net or package.module:net"),
    (["render", "stage1:3", "--model", "broken.py"], "broken.py is a file; name the function in it that makes the network, as broken.py:factory"),
    (["replay", "no.png"], "no file no.png"),
    (["replay", "plain.png"], "plain.png holds no recipe; PNG files of renders and dreams do"),
    (["replay", "broken.png"], "cannot read broken.png as a picture; give a PNG, JPEG or WebP file"),
    (["rendr"], "No such command 'rendr'."),
    (["render", "--stps", "3"], "No such option: --stps"),
    (["render", "stage1:3", "--steps", "many"], "Invalid value for '--steps'"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[" ".join(arguments) for arguments, _ in BAD])
def test_bad_input_gets_one_line_and_status_2_and_leaves_nothing(arguments, message, tmp_path, capsys):
    if "timm" in " ".join(arguments):
        pytest.importorskip("timm")
    iio.imwrite(tmp_path / "plain.png", np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG no")
    before = sorted(tmp_path.iterdir())
    assert main([*arguments, "--quiet"] if "replay" in arguments or "stage1:3" in arguments else arguments) == 2
    out, err = said(capsys)
    assert out == []
    assert len(err) == 1
    assert err[0].startswith(f"featviz: {message}")
    assert sorted(tmp_path.iterdir()) == before


def test_an_objective_that_cannot_be_read_has_a_caret_under_the_place(capsys):
    assert main(["render", "stage1:3 + * 2"]) == 2
    assert said(capsys)[1] == [
        "featviz: cannot read the objective, expected layer:channel, logit:class or a number here",
        "  stage1:3 + * 2",
        "             ^",
    ]


def test_own_mistakes_surface_in_one_line_or_with_a_traceback(tmp_path, capsys):
    (tmp_path / "broken.py").write_text("def net():\n    raise KeyError('mine')\n")
    (tmp_path / "mine.py").write_text(OWN)
    assert main(["render", "x", "--model", "broken.py:net"]) == 1
    assert said(capsys)[1] == ["featviz: KeyError: 'mine' (--debug shows where)"]
    with pytest.raises(KeyError):
        main(["render", "x", "--model", "broken.py:net", "--debug"])
    assert main(["render", "x", "--model", "mine.py:nothing"]) == 2
    assert said(capsys)[1] == ["featviz: mine.py:nothing returned int; return an nn.Module or a featviz.Network"]
    assert main(["render", "0:1", "--model", "mine.py:bare"]) == 2
    assert said(capsys)[1][0].startswith(
        "featviz: mine.py:bare is a bare module: say what it expects with size, mean and std"
    )


def test_defaults_are_those_of_the_functions():
    import inspect

    from featviz.optimizers import Adam

    command = next(c for c in app.registered_commands if c.callback.__name__ == "render")
    given = {name: p.default for name, p in inspect.signature(command.callback).parameters.items()}
    wanted = {name: p.default for name, p in inspect.signature(fv.render).parameters.items()}
    assert given["steps"] is given["lr"] is None
    assert fv.PRESETS[given["quality"]].items() <= wanted.items()
    assert given["seed"] == wanted["seed"]
    assert wanted["optimizer"] == Adam()
    assert given["batch"] == fv.param.Image().batch
    assert given["param"] == type(fv.param.Image().spatial).__name__.lower()
    assert given["transforms"] is wanted["transforms"] is None
    load = {name: p.default for name, p in inspect.signature(fv.load).parameters.items()}
    assert (given["model"], given["weights"], given["device"]) == (load["model"], load["weights"], load["device"])


def test_version_and_help(capsys):
    assert main(["--version"]) == 0
    assert said(capsys)[0] == [f"featviz {fv.__version__}"]
    assert main([]) == 0
    text = "\n".join(said(capsys)[0])
    assert "Examples:" in text and "featviz render --class spiral" in text
    for command in ("render", "layers", "models", "replay"):
        assert main([command, "--help"]) == 0


def test_ctrl_c_keeps_what_there_is(tmp_path):
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
    assert "stopped at step 3 of 9" in done.stderr
    assert fv.Recipe.of(tmp_path / "a.png").until == 3


def test_a_folder_that_cannot_be_written_is_found_out_before_the_render(monkeypatch, capsys):
    import featviz.io.images as files

    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files, "NamedTemporaryFile", refuse)
    monkeypatch.setattr(fv, "render", None)
    assert main(["render", "stage1:3", "-o", "a.png"]) == 2
    assert said(capsys)[1] == ["featviz: cannot write to the folder .: Permission denied"]


def test_replaying_a_stopped_picture_over_itself(tmp_path, capsys):
    fv.render(fv.load(device="cpu"), "stage1:3", steps=9, until=3).save("a.png")
    assert main(["replay", "a.png", "-o", "a.png", "--quiet"]) == 0
    assert said(capsys)[0] == ["a.png", "the same as the picture, to the byte"]


def test_a_changed_picture_is_found_out(tmp_path, capsys):
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
    assert said(capsys)[0][-1].endswith("of 255 grey levels of the picture")


def test_the_installed_command_finds_what_is_in_the_current_folder(tmp_path):
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
    \"\"\"Of the wrong size.\"\"\"
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 4))
    return fv.Network(module, size=20, mean=(0.5,) * 3, std=(0.5,) * 3)
"""


def test_a_network_of_ones_own_keeps_its_size(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(OWN)
    assert main(["render", "0:2", "--model", "mine.py:whole", "--size", "40", "-o", "a.png", *QUICK]) == 0
    assert fv.Recipe.of("a.png").expects["size"] == (20, 20)
    assert read_image("a.png").shape == (3, 40, 40)
    assert main(["dream", "a.png", "2:1", "--model", "mine.py:whole", "--size", "40", "--quiet"]) == 2
    assert said(capsys)[1][-1].startswith("featviz: --size is what a module of one's own expects; a dream has its")
    (tmp_path / "flat.py").write_text(OWN + FLAT)
    assert main(["render", "1:2", "--model", "flat.py:flat", "--size", "8", "-o", "b.png", *QUICK]) == 0
    assert fv.Recipe.of("b.png").expects["size"] == (8, 8)


def test_what_is_no_objective_is_said(tmp_path, capsys):
    (tmp_path / "mine.py").write_text("def plain(acts):\n    return 3\n")
    assert main(["render", "plain", "--own", "mine.py:plain", *QUICK]) == 2
    assert said(capsys)[1] == ["featviz: 'plain' is no objective; decorate the function with objectives.objective"]
    assert main(["render", "3", *QUICK]) == 2
    assert said(capsys)[1] == ["featviz: '3' is only a number; name a unit, as layer:channel or logit:class"]


def test_a_batch_says_what_it_takes_and_is_split_to_fit(capsys):
    units = ["stage2:1", "stage2:2", "stage2:3"]
    assert main(["render", *units, "-o", "a.png", *QUICK]) == 0
    assert re.fullmatch(r"featviz: 3 pictures take about \d+ MB", *said(capsys)[1])
    assert main(["render", *units, "-o", "b.png", "--max-memory", "3MB", *QUICK]) == 0
    assert re.fullmatch(
        r"featviz: 3 pictures would take about \d+ MB; \d at a time take about \d+ MB", *said(capsys)[1]
    )
    assert re.fullmatch(r"Execution\(precision='float32', chunk_size=[12]\)", fv.Recipe.of(Path("b.png")).execution)


def test_an_amount_of_memory_that_cannot_be_read(capsys):
    assert main(["render", "stage2:1", "--max-memory", "lots", *QUICK]) == 2
    wanted = "featviz: cannot read the amount of memory 'lots'; give bytes, or text as 800MB or 4GB"
    assert said(capsys)[1] == [wanted]


def test_a_number_is_an_index_where_no_class_is_called_so():
    numbered = toys.plain(classes=("3", "4", "c", "d", "e"))
    assert find_classes(numbered, ["3", "0", "c"]) == [fv.objectives.Logit(name) for name in ("3", 0, "c")]
    assert find_classes(numbered, None) == []
