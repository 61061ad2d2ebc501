"""Run the commands and the code of the README and the documents; compile the notebooks."""

import importlib.util
import inspect
import json
import re
import shlex
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import featviz as fv
from featviz.cli import EXAMPLES, main

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
GUIDES = [f"docs/own-{what}.md" for what in ("objective", "param", "transform")]
PAGES = ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))]
PAGES.remove("docs/catalogue.md")  # below, image by image


def blocks(language, text=README):
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands_of(page):
    lines = [line for block in blocks("sh", (ROOT / page).read_text()) for line in block.splitlines()]
    return [line for line in lines if line.startswith("featviz ")]


HELP = [re.split(r"\s{3,}", line.strip())[0] for line in EXAMPLES.splitlines() if line.startswith("  featviz ")]
(OWN,) = (
    block for block in blocks("python", (ROOT / "docs/guide/own-network.md").read_text()) if "# my_net.py" in block
)
(TEXT_NET,) = (block for block in blocks("python", (ROOT / "docs/text.md").read_text()) if "# nets.py" in block)
(SIGNALS,) = (
    block for block in blocks("python", (ROOT / "docs/guide/signals.md").read_text()) if "# signal_net.py" in block
)
QUICK_COMMANDS = {"README.md", "docs/guide/objectives.md", "docs/guide/own-network.md", "docs/index.md", "docs/text.md"}
SLOW_PYTHON = {f"docs/guide/{name}.md" for name in ("atlas", "galleries", "own-network", "reading")}


def with_marks(pages, slow):
    return [pytest.param(page, marks=[pytest.mark.slow] if page in slow else []) for page in pages]


COMMAND_PAGES = [page for page in PAGES if commands_of(page)]
PYTHON_PAGES = [page for page in PAGES if blocks("python", (ROOT / page).read_text())]
WITH_COMMANDS = with_marks([*COMMAND_PAGES, "help"], {*COMMAND_PAGES, "help"} - QUICK_COMMANDS)
WITH_PYTHON = with_marks(PYTHON_PAGES, SLOW_PYTHON)
WITH_CALLS = ["docs/guide/coming-from.md", "docs/guide/papers.md"]


def test_there_is_something_to_run():
    assert len(commands_of("README.md")) >= 8
    assert len(HELP) >= 5
    assert len(blocks("python")) >= 3
    assert len(COMMAND_PAGES) >= 12
    assert len(PYTHON_PAGES) >= 15


@pytest.fixture
def folder(tmp_path):
    """A folder with the files that commands on pages name."""
    (tmp_path / "my_net.py").write_text(f"{OWN}\n{TEXT_NET}\ntext_network = make\n")
    (tmp_path / "nets.py").write_text(TEXT_NET)
    (tmp_path / "signal_net.py").write_text(SIGNALS)
    (tmp_path / "docs" / "catalogue").mkdir(parents=True)  # few images, since an atlas is made of the folder
    for name in ("chelsea.webp", "motifs.webp", "catalogue/drawing.png", "catalogue/texture.png", "catalogue/mask.png"):
        shutil.copy(ROOT / "docs" / name, tmp_path / "docs" / name)
    cat = Image.open(ROOT / "docs" / "chelsea.webp").resize((96, 64))
    cat.save(tmp_path / "cat.jpg")
    (tmp_path / "photos").mkdir()
    for i, name in enumerate(("cat", "a", "b", "c")):
        cat.rotate(90 * i).save(tmp_path / "photos" / f"{name}.png")
    cat.save(tmp_path / "cat.png")
    stripes = 255 * (np.arange(64) // 4 % 2)[:, None, None] * np.ones((64, 96, 3))
    for name, pattern in (("stripes", stripes), ("others", 0 * stripes)):  # photographs of a concept, and others
        (tmp_path / name).mkdir()
        for i in range(10):
            pixels = 0.5 * pattern + 0.5 * np.asarray(cat.rotate(36 * i))
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / name / f"{i}.png")
    (tmp_path / "dataset").mkdir()
    for i in range(30):
        cat.rotate(12 * i).resize((64, 64)).save(tmp_path / "dataset" / f"{i}.png")
    (tmp_path / "glove.txt").write_text("king 1 1 0\nman 1 0 0\nwoman 0 0 1\nqueen 0 1 1\n")
    fv.save_video([np.zeros((32, 48, 3), np.uint8)] * 3, tmp_path / "walk.mp4")
    return tmp_path


RENDERING = (
    *("render", "gallery", "sweep", "examples", "atlas", "blocks", "dictionary", "unit", "circuit", "diff", "texture"),
    "accentuate",
)
"""Commands with `--steps` and `--quiet`."""


def hurried_words(command):
    """Return the words of a command, with few steps and without downloads."""
    words = shlex.split(command, comments=True)[1:]
    if words[0] in RENDERING:
        # A feature of a dictionary may be off at the start, and takes some steps to become active.
        words += ["--steps", "16" if "--dictionary" in words and words[0] in ("render", "sweep") else "2", "--quiet"]
    if words[0] == "dictionary":  # of four photographs
        words += ["--features", "8"]
    if words[0] == "circuit":  # one page, and steps enough to wake the inputs, which may be off at the start
        words += ["--depth", "0", "--inputs", "2", "--steps", "16"]
    if words[0] == "atlas":  # UMAP compiles for a minute; tests/apps/test_atlas.py runs it
        words += ["--method", "pca"]
    if words[0] == "blocks" and "--cells" not in words:
        words += ["--cells", "4", "--groups", "2"]
    if words[0] == "texture":
        words += ["--view", "32", "--views", "2"]
    if words[0] == "diff":
        words += ["--most", "1"]
    if words[0] == "dream":
        words += ["--steps", "1", "--octaves", "1", "--quiet"] + (["--frames", "2"] if "--zoom" in words else [])
    if words[0] == "embeddings" and "--render" in words:
        words += ["--steps", "2"]
    if words[0] == "explore":
        words += ["--no-browser"]
    downloading = ("render", "dream", "explain", "explore", "embeddings")
    if {"googlenet", "mobilenet_v2"} & set(words) and words[0] in downloading:
        words += ["--weights", "none"]
    return words


@pytest.mark.filterwarnings("ignore::featviz.FeatvizWarning")  # units of random networks may be off
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # imageio-ffmpeg's pipes
@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_every_command_that_is_shown_works(folder, capsys, monkeypatch, page):
    monkeypatch.setattr("featviz.apps.explore.explore.Explorer.wait", lambda _: None)  # it would wait for Ctrl-C
    monkeypatch.setattr("featviz.apps.texture.texture.TURN_FRAMES", 6)
    for command in HELP if page == "help" else commands_of(page):
        if "open_clip/" in command:  # whose weights are downloaded; see test_zero_shot.py
            continue
        words = hurried_words(command)
        # 1: the doctor found something, or two steps were not enough to wake a feature or another unit
        allowed = (0, 1) if words[0] in ("doctor", "diff") or "stage3~" in words else (0,)
        assert main(words) in allowed, (command, capsys.readouterr().err)


@pytest.fixture
def hurried(monkeypatch):
    """Few steps a render, and nothing downloaded."""
    from featviz.network import load

    whole_render, whole_dream, whole_load = fv.render, fv.dream, load

    def render(*given, **named):
        named = {**named, "steps": 2}
        if "snapshots" in named:
            named["snapshots"] = (1,)
        return whole_render(*given, **named)

    monkeypatch.setattr(fv, "render", render)
    whole_accentuate = fv.accentuate
    monkeypatch.setattr(fv, "accentuate", lambda *a, **k: whole_accentuate(*a, **{**k, "steps": 1, "crops": 2}))
    monkeypatch.setattr(fv, "dream", lambda *a, **k: whole_dream(*a, **{**k, "steps": 1, "octaves": 1}))
    downloaded = ("mobilenet_v2", "resnet50", "googlenet", "inception_v1_lucid")
    monkeypatch.setattr(
        fv, "load", lambda name, **k: whole_load(name, **({"weights": "none"} if name in downloaded else {}) | k)
    )


@pytest.mark.filterwarnings("ignore::featviz.FeatvizWarning")  # two steps are not enough to wake a unit
@pytest.mark.parametrize("page", WITH_PYTHON)
def test_the_python_that_is_shown_works(page, hurried, folder):
    if page == "docs/embeddings.md":
        shutil.rmtree(folder / "photos")  # the page makes it
    space: dict[str, object] = {}
    for block in blocks("python", (ROOT / page).read_text()):
        exec(compile(block, page, "exec"), space)


@pytest.mark.filterwarnings("ignore::featviz.FeatvizWarning")  # two steps are not enough to wake a unit
@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_CALLS)
def test_every_call_in_a_table_runs(page, hurried, folder):
    text = (ROOT / page).read_text()
    space: dict[str, object] = {}
    for block in blocks("python", text):
        exec(compile(block, page, "exec"), space)
    rows = [line for line in text.splitlines() if line.startswith("| ") and "`fv." in line]
    assert len(rows) > 20
    for row in rows:
        calls = re.findall(r"`(fv\..*?)`", row)
        for call in calls:
            assert eval(compile(call, row, "eval"), space) is not None, row


@pytest.mark.parametrize("name", GUIDES)
def test_something_of_ones_own_takes_under_ten_lines(name):
    for block in blocks("python", (ROOT / name).read_text()):
        code = [line for line in block.splitlines() if line.strip() and not line.startswith(("import", "from", "rend"))]
        assert len(code) < 10, block


@pytest.fixture(scope="module")
def catalogue():
    spec = importlib.util.spec_from_file_location("catalogue", ROOT / "docs" / "catalogue.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_nothing_public_is_missing_from_the_catalogue(catalogue):
    from featviz import objectives, param, transforms

    made_of = {"Objective", "Unit", "Address", "Traits"}  # what the others are made of
    for namespace in (objectives, param, transforms):
        name = namespace.__name__.rpartition(".")[2]
        public = {item for item in namespace.__all__ if inspect.isclass(getattr(namespace, item)) or item.isupper()}
        assert set(catalogue.SNIPPETS[name]) == public - made_of - {"OUTPUT"}
    assert set(catalogue.SNIPPETS["optimizers"]) == set(fv.optimizers.__all__)
    page = (ROOT / "docs" / "catalogue.md").read_text()
    for namespace, snippets in catalogue.SNIPPETS.items():
        for name, code in snippets.items():
            shown = f"### {name}\n\n{catalogue.line(namespace, name)}\n\n![{name}](catalogue/{name}.webp)\n"
            assert shown in page
            assert f"```python\n{code}\n```" in page
            assert (ROOT / "docs" / "catalogue" / f"{name}.webp").is_file()
    assert f"```python\n{catalogue.START}\n```" in page


@pytest.mark.filterwarnings("ignore::featviz.FeatvizWarning")  # two steps are not enough to wake a unit
@pytest.mark.long
def test_every_snippet_of_the_catalogue_runs(catalogue, monkeypatch, tmp_path):
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    for namespace, snippets in catalogue.SNIPPETS.items():
        for name in snippets:
            assert len(catalogue.draw(namespace, name, steps=2)) >= 1


def test_every_make_target_of_the_readme_exists():
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)", README)) | {
        line.split()[1] for block in blocks("sh") for line in block.splitlines() if line.startswith("make ")
    }
    assert {"demo", "test"} <= named <= targets


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md", "docs/catalogue.md"])
def test_every_file_that_a_page_names_exists(page):
    for path in re.findall(r"\]\(((?!http)[^)#]+)[^)]*\)", (ROOT / page).read_text()):
        assert ((ROOT / page).parent / path).exists(), path


def test_the_install_page_and_the_dockerfile_name_extras_and_files_that_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = set(project["optional-dependencies"])
    page, docker = (ROOT / "docs/install.md").read_text(), (ROOT / "Dockerfile").read_text()
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == extras - {"networks"}
    for named in re.findall(r"'\.\[([\w,]+)\]'", page + docker + README):
        assert set(named.split(",")) <= extras
    for files in re.findall(r"^COPY (.*) \S+$", docker, re.MULTILINE):
        assert all((ROOT / file).exists() for file in files.split())


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.name)
def test_notebooks_have_no_outputs_and_can_be_compiled(path):
    """`make site` runs them, and fails where a cell does."""
    notebook = json.loads(path.read_text())
    assert not any(cell.get("outputs") for cell in notebook["cells"]), "commit notebooks without outputs"
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            lines = "".join(cell["source"]).splitlines()
            compile("\n".join(line for line in lines if not line.startswith(("%", "!"))), path.name, "exec")
