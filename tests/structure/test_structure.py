"""The house itself: floors, public lists, lightness."""

import importlib
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

import featviz as fv

ROOT = Path(__file__).parents[2]


def python(code, *, timeout=60):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=timeout, check=False)


def test_imports_go_down():
    command = [Path(sys.executable).with_name("lint-imports")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "1 kept, 0 broken" in done.stdout


def test_a_plain_install_has_everything_and_nothing_else(tmp_path):
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (entry,) = (archive.read(name).decode() for name in names if name.endswith("entry_points.txt"))
    assert "featviz/network/bundled/motifnet.safetensors" in names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"featviz"}
    assert entry.strip() == "[console_scripts]\nfeatviz = featviz.cli:main"


@pytest.mark.parametrize(
    "name",
    ["featviz", "featviz.objectives", "featviz.param", "featviz.transforms", "featviz.network", "featviz.io"],
)
def test_public_lists_are_what_can_be_imported(name):
    module = importlib.import_module(name)
    assert sorted(module.__all__) == sorted(set(module.__all__))
    assert all(hasattr(module, item) for item in module.__all__)
    public = {item for item in dir(module) if not item.startswith("_")}
    assert set(module.__all__) <= public


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="^module 'featviz' has no attribute 'rendr'$"):
        fv.rendr
    assert not hasattr(fv, "nothing")


@pytest.mark.parametrize("module", ["engine.render", "engine.result", "engine.recipe", "apps.replay", "network.loading"])
def test_names_mean_the_same_whatever_was_imported_first(module):
    done = python(
        f"import featviz.{module}, featviz as fv; print(callable(fv.render), callable(fv.replay), callable(fv.load))"
    )
    assert done.stdout.split() == ["True"] * 3, done.stderr


def test_importing_is_light_and_silent():
    done = python(
        "import sys, featviz; print([m for m in ('torch', 'torchvision', 'kornia', 'numpy') if m in sys.modules])"
    )
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
    done = python(
        "import sys; from featviz import objectives, param, transforms, render; print('kornia' in sys.modules)"
    )
    assert done.stdout.strip() == "False"


def test_help_answers_in_half_a_second_and_without_torch():
    code = "import sys; from featviz.cli import main; main(['{}', '--help']); assert 'torch' not in sys.modules"

    def seconds(what):
        times = []
        for _ in range(5):
            start = time.perf_counter()
            done = python(what)
            times.append(time.perf_counter() - start)
            assert done.returncode == 0, done.stderr
        return min(times)

    start = seconds("pass")
    for command in ("render", "replay"):
        assert seconds(code.format(command)) - start < 0.5


def test_versions_are_compared_as_numbers_or_not_at_all():
    code = [path.read_text() for path in (ROOT / "featviz").rglob("*.py")]
    assert not any("__version__ <" in text or "__version__ >" in text for text in code)


def test_no_device_is_taken_for_granted_and_no_warning_silenced():
    for path in (ROOT / "featviz").rglob("*.py"):
        text = path.read_text()
        assert "cuda:0" not in text and ".cuda()" not in text, path
        assert "filterwarnings" not in text and "simplefilter" not in text, path


def test_every_dependency_is_declared():
    import ast
    import tomllib

    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {text.split(">")[0].split("[")[0] for text in declared["dependencies"]}
    names |= {text.split(">")[0] for extra in declared["optional-dependencies"].values() for text in extra}
    imported = set()
    for path in (ROOT / "featviz").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.split(".")[0])
    imported -= set(sys.stdlib_module_names) | {"featviz"}
    called = {
        "PIL": "pillow",
        "cv2": "opencv-python-headless",
        "imageio_ffmpeg": "imageio-ffmpeg",
        "sklearn": "scikit-learn",
        "umap": "umap-learn",
        "lazy_loader": "lazy-loader",
    }
    imported = {called.get(name, name) for name in imported}
    assert imported <= names
    core = {text.split(">")[0] for text in declared["dependencies"]}
    assert core <= imported, "declared, but never imported"


def test_nothing_but_ours_is_in_the_package():
    sizes = {path.name: path.stat().st_size for path in (ROOT / "featviz").rglob("*") if path.suffix == ".safetensors"}
    assert sorted(sizes) == ["motifnet.safetensors", "motifvit.safetensors"]
    assert max(sizes.values()) < 3_000_000
