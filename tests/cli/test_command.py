"""The command line: what its commands make."""

import re
import subprocess
import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from command_line import OWN, QUICK, printed
from PIL import Image

import featviz as fv
from featviz.cli import main
from featviz.io import read_image, save_image


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
    assert printed(capsys)[0] == ["stage1_3_and_2_more.png"]


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
    assert main(["render", "stage1:3", "--param", "alpha", "-o", f"clear.{ending}", *QUICK]) == 0
    assert main(["replay", f"clear.{ending}", "--quiet"]) == 0
    assert int(re.match(r"within (\d+) of 255 levels", printed(capsys)[0][-1])[1]) < 64
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


def test_names_of_files_may_begin_with_a_dash():
    assert main(["render", "logit:moon", "-o", "-a.png", *QUICK]) == 0
    assert Path("-a.png").is_file()
    assert main(["sweep", "--layer", "stem", "--channels", "0", "-omemory://dashes", *QUICK]) == 0
    assert main(["explain", "-a.png", "--method", "gradient", "-o", "c.png", "--quiet"]) == 0


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
            "featviz: the image was rendered with the file photo.png, which is missing or has changed; restore the "
            "file, in the current folder or in one above the image"
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
        "featviz: the image's network is the user's own 'mine.py:whole', and a recipe never runs code; give the "
        "network with --model path/to/file.py:factory, or network= in Python"
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


@pytest.mark.parametrize(
    ("content", "file"),
    [
        ("ant\nbee\n\n", "n.txt"),
        ('["ant", "bee"]', "n.json"),
        ('{"1": "bee", "0": "ant"}', "n.json"),
        ('{"1": "bee"}', "n.json"),
    ],
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
    for name, text in {
        "empty.txt": "\n",
        "first.txt": "\nant\nbee\n",
        "middle.txt": "ant\n \nbee",
        "number.json": '["ant", 3]',
        "words.json": '{"one": "bee"}',
    }.items():
        (tmp_path / name).write_text(text)
    for bad, message in (
        (
            "none.txt",
            "cannot read class names from none.txt: no such file or directory; give a file with one name per line",
        ),
        ("empty.txt", "empty.txt must hold one class name per line, or a JSON list of names"),
        ("first.txt", "line 1 in first.txt must be a class name, got ''"),
        ("middle.txt", "line 2 in middle.txt must be a class name, got ' '"),
        ("number.json", "the name of class 1 in number.json must be a class name, got 3"),
        ("words.json", "class names must be by index, from 0 to 1000000, got the index 'one'"),
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


def test_the_time_of_a_preset_is_estimated(tmp_path, capsys):
    line = [
        "sweep",
        "--layer",
        "stage1",
        "--channels",
        "0-7",
        "--size",
        "32",
        "--quality",
        "draft",
        "-o",
        "s",
        "--quiet",
    ]
    assert main(line) == 0
    assert re.search(r"^featviz: 8 images to render, about \d+ s$", "\n".join(printed(capsys)[1]), re.MULTILINE)


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


def test_a_batch_logs_its_memory_and_is_split_to_fit(capsys):
    units = ["stage2:1", "stage2:2", "stage2:3"]
    assert main(["render", *units, "-o", "a.png", *QUICK]) == 0
    assert re.fullmatch(r"featviz: 3 images take about \d+ MB of memory", *printed(capsys)[1])
    assert main(["render", *units, "-o", "b.png", "--max-memory", "3MB", *QUICK]) == 0
    assert re.fullmatch(
        r"featviz: 3 images would take about \d+ MB; \d at a time take about \d+ MB", *printed(capsys)[1]
    )
    assert re.fullmatch(r"Execution\(precision='float32', chunk_size=[12]\)", fv.Recipe.of(Path("b.png")).execution)


def test_blocks_of_a_folder_are_a_page_each(tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    for name in "ab":
        save_image(np.full((64, 64, 3), 80, np.uint8), tmp_path / "photos" / f"{name}.png")
    given = ["--layer", "stage3", "--cells", "4", "--groups", "2", "--steps", "2", "--size", "32", "--quiet"]
    assert main(["blocks", "photos", *given, "-o", "pages"]) in (0, 1)
    assert sum(line.endswith("index.html") for line in printed(capsys)[0]) == 2


def test_options_of_embeddings_that_do_nothing_are_refused(tmp_path, capsys):
    (tmp_path / "v.txt").write_text("a 1 0\nb 0 1\n")
    for words, message in (
        (["--method", "pca"], "--method is about the map; give -o map.html as well"),
        (["--steps", "3"], "--steps is about the image of --render; give that as well"),
    ):
        assert main(["embeddings", "v.txt", "a", *words]) == 2
        assert printed(capsys)[1] == [f"featviz: {message}"]


@pytest.mark.parametrize(
    ("name", "text", "words", "message"),
    [
        ("own.py", "import sys\nfrom featviz import objectives\n@objectives.objective('stage1')\ndef score(acts):\n"
         "    sys.exit(0)\n",
         ["score", "--own", "own.py:score"], "your code ended with sys.exit(0) while it ran; raise an error instead"),
        ("net.py", "from torch import nn\nnet = nn.Conv2d(3, 8, 3)\n", ["0:1", "--model", "net.py:net"],
         "net.py:net must be a function that returns the network, got Conv2d"),
        ("net.py", "def net(width):\n    pass\n", ["0:1", "--model", "net.py:net"],
         "net.py:net must be a function without arguments: missing a required argument: 'width'; give them default "
         "values"),
        ("deep.json", "[" * 100_000, ["logit:3", "--classes", "deep.json"],
         "cannot read class names from deep.json: it is nested too deeply; give a file with one name per line"),
        ("reversed.json", '{"cat": 0}', ["logit:3", "--classes", "reversed.json"], None),
        ("latin.txt", "caf\xe9".encode("latin-1"), ["logit:3", "--classes", "latin.txt"],
         "cannot read class names from latin.txt: it is not in UTF-8; give a file with one name per line"),
        ("deep.json", "[" * 100_000, ["logit:3", "--param", "Fourier(prior='deep.json')"], None),
    ],
)  # fmt: skip
def test_files_of_the_user_that_cannot_be_used(name, text, words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    assert main(["render", *words, "--size", "32", "--steps", "1", "--quiet", "-o", "a.png"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("featviz: ") and (message is None or message in line)
    assert not (tmp_path / "a.png").exists()


def test_a_factory_that_changes_the_folder_changes_no_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inner").mkdir()
    text = """
import os, featviz as fv
from torch import nn
def net():
    os.chdir("inner")
    return fv.Network(nn.Sequential(nn.Conv2d(3, 8, 3)), size=16, mean=(.5,) * 3, std=(.5,) * 3)
"""
    (tmp_path / "net.py").write_text(text)
    assert main(["render", "0:1", "--model", "net.py:net", "--steps", "1", "--quiet", "-o", "a.png"]) == 0
    assert (tmp_path / "a.png").is_file()


def test_weights_without_values_are_named(tmp_path, capsys):
    state = fv.load("motifnet").module.state_dict()
    key = next(key for key in state if state[key].ndim == 4)
    torch.save(state | {key: state[key].to("meta")}, tmp_path / "meta.pt")
    assert main(["render", "logit:3", "--weights", str(tmp_path / "meta.pt"), "--steps", "1"]) == 2
    assert f"holds weights without values ({key}, on the meta device); save them" in capsys.readouterr().err
