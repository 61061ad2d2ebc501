"""The structure of the package: layers, public names, docstrings, import time."""

import ast
import importlib
import importlib.util
import inspect
import re
import resource
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import featviz as fv
from featviz import errors

ROOT = Path(__file__).parents[2]


def python(code, *, timeout=60):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=timeout, check=False)


def test_imports_go_down():
    command = [Path(sys.executable).with_name("lint-imports")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "3 kept, 0 broken" in done.stdout


def test_the_layout_is_small():
    names = [path.name for path in (ROOT / "featviz").iterdir() if not path.name.startswith("__")]
    names.remove("py.typed")  # a marker without contents
    assert len(names) <= 13, names
    assert len(fv.__all__) <= 58


def test_tools_stay_out_of_the_package():
    code = [path.read_text() for path in (ROOT / "featviz").rglob("*.py")]
    tools = ("import motifs", "from motifs", "import language", "from language")
    assert not any(name in text for text in code for name in tools)


NAMESPACES = ("objectives", "param", "transforms", "optimizers", "methods")
PUBLIC = {f"fv.{name}": getattr(fv, name) for name in fv.__all__ if name not in NAMESPACES} | {
    f"{space}.{name}": getattr(getattr(fv, space), name)
    for space in NAMESPACES
    for name in getattr(fv, space).__all__
    if name != "Traits"
}
CALLABLE = {name: value for name, value in PUBLIC.items() if inspect.isclass(value) or inspect.isfunction(value)}


@pytest.mark.parametrize("name", sorted(CALLABLE))
def test_every_public_name_has_a_complete_docstring(name):
    value = CALLABLE[name]
    text = inspect.getdoc(value) or ""
    first = text.partition("\n")[0]
    assert first[:1].isupper() and first.endswith("."), first
    if inspect.isclass(value) and issubclass(value, Exception):
        return
    parameters = [
        each.name
        for each in inspect.signature(value).parameters.values()
        if each.name not in ("self", "args", "kwargs") and not each.name.startswith("_")
    ]
    described = text.partition("Args:\n")[2]
    for parameter in parameters:
        assert re.search(rf"^ {{4,8}}{parameter}: ", described, re.MULTILINE), (name, parameter)
    returns = inspect.signature(value).return_annotation if inspect.isfunction(value) else None
    if returns not in (None, "None", inspect.Signature.empty) and "Iterator" not in str(returns):
        assert "Returns:" in text or first.startswith(("Return ", "Make ", "List ", "Load ", "Parse ")), name


def raised_errors(function):
    """Names of featviz's errors that the body of a function raises itself."""
    for child in ast.iter_child_nodes(function):
        if isinstance(child, ast.FunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.Raise) and isinstance(child.exc, ast.Call):
            name = ast.unparse(child.exc.func).rpartition(".")[2]
            if hasattr(errors, name):
                yield name
        yield from raised_errors(child)


def test_public_functions_document_the_errors_that_they_raise():
    undocumented, documented = [], 0
    for file in sorted((ROOT / "featviz").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"):
                continue
            text = ast.get_docstring(node) or ""
            listed = text.partition("Raises:")[2]
            missing = [name for name in raised_errors(node) if name not in listed]
            if missing and text and not re.search(r"[Ss]ee `", text) and file.parent.name != "cli":
                undocumented.append(f"{file.relative_to(ROOT)}: {node.name} raises {', '.join(missing)}")
            documented += bool(listed)
    assert undocumented == [] and documented > 200


@pytest.mark.parametrize("package", [fv.objectives, fv.param, fv.transforms, fv.optimizers])
def test_values_that_check_their_fields_say_so(package):
    checked = 0
    for name in package.__all__:
        value = getattr(package, name)
        if not inspect.isclass(value) or inspect.isabstract(value) or not inspect.signature(value).parameters:
            continue
        source = ast.parse(Path(inspect.getsourcefile(value)).read_text())
        body = next(node.body for node in source.body if isinstance(node, ast.ClassDef) and node.name == name)
        made = [
            node for node in body if isinstance(node, ast.FunctionDef) and node.name in ("__init__", "__post_init__")
        ]
        if any(re.search(r"check_|as_whole|raise ", ast.unparse(each)) for each in made):
            assert "Raises:" in value.__doc__, name
            checked += 1
    assert checked >= 5


def test_every_public_name_has_a_page_in_the_reference(tmp_path):
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs" / "reference.py")
    reference = importlib.util.module_from_spec(spec)
    sys.modules["reference"] = reference  # dataclasses look their module up
    spec.loader.exec_module(reference)
    reference.write_pages(tmp_path)
    shown = {
        f"{path.parent.name}.{name}"
        for path in tmp_path.glob("*/*.rst")
        for name in re.findall(r"^\.\. (?:auto|py:)\w+:: (\w+)$", path.read_text(), re.MULTILINE)
    }
    top = {id(getattr(fv, name)) for name in fv.__all__}
    for package in reference.packages():
        for name in getattr(package.module, "__all__", ()):
            value = getattr(package.module, name)
            if inspect.ismodule(value) or (package.module is not fv and id(value) in top):
                continue  # fv.NAME has the page
            assert f"{package.name}.{name}" in shown
    files = [str(path.relative_to(tmp_path)).lower() for path in tmp_path.rglob("*.rst")]
    assert len(files) == len(set(files)), "names that differ in capitals only share a file on some systems"


FLAGS = {
    *("couples", "whole", "placed", "silent", "near", "scales", "is_unit", "binds", "less", "traits", "fill", "move"),
    *("compares_images", "needs_full_view", "depends_on_position", "zero_until", "couples_batch", "any_size"),
    *(
        "close_views",
        "color_prior",
        "pointwise",
        "consumes_alpha",
        "batch",
        "size",
        "sized",
        "prior",
        "param",
        "image",
        "files",
        "class_name",
    ),
}
"""What one part of featviz needs of another is declared in featviz/interfaces.py."""


def test_no_flag_is_read_by_getattr_or_hasattr():
    for path in (ROOT / "featviz").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            called = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
            if called in ("getattr", "hasattr"):
                named = node.args[1]
                assert not (isinstance(named, ast.Constant) and named.value in FLAGS), f"{path}:{node.lineno}"


READERS = {
    ("Image", "open"): "io/images.py", ("PillowImage", "open"): "io/images.py", ("iio", "get_reader"): "io/video.py",
    ("iio", "imread"): "", ("iio", "imiter"): "", ("iio", "imopen"): "", ("np", "load"): "io/npy.py",
    ("soundfile", "read"): "io/audio.py", ("nibabel", "load"): "io/nifti.py",
    ("torch", "load"): "network/loading/weights.py", ("np", "fromfile"): "",
    ("pickle", "load"): "", ("pickle", "loads"): "",
}  # fmt: skip
"""Functions that read files from elsewhere, and the one module that may call each."""


def test_every_kind_of_file_has_one_reader_which_allows_few_formats():
    found = set()
    for path in (ROOT / "featviz").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                name = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
                if (name, node.func.attr) in READERS:
                    where = str(path.relative_to(ROOT / "featviz"))
                    assert READERS[name, node.func.attr] == where, f"{path}:{node.lineno} {ast.unparse(node.func)}"
                    assert where not in found or name != "PillowImage", f"{where} opens images in two places"
                    found.add(where)
                    if name == "PillowImage":
                        assert [word.arg for word in node.keywords] == ["formats"]
    readers = {
        "io/images.py",
        "io/video.py",
        "io/npy.py",
        "io/audio.py",
        "io/nifti.py",
        "network/loading/weights.py",
    }
    assert found == readers


def test_no_annotation_is_read_as_text():
    for path in (ROOT / "featviz").rglob("*.py"):
        text = path.read_text()
        assert "__annotations__" not in text and '.type, "__name__"' not in text, path


def test_functions_are_short():
    long = []
    for path in [*(ROOT / "featviz").rglob("*.py"), *(ROOT / "tools").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body  # signature and docstring do not count
                lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
                if lines > 60:
                    long.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name} has {lines} lines")
    assert not long, "\n".join(long)


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


FOR_DEVELOPERS = ("dev", "docs", "networks")
"""Extras whose packages the installed package must not need."""


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="^module 'featviz' has no attribute 'rendr'$"):
        fv.rendr
    assert not hasattr(fv, "nothing")


MODULES = ["engine.render", "engine.result", "engine.recipe", "apps.replay", "network.loading"]


@pytest.mark.parametrize("module", MODULES)
def test_names_mean_the_same_whatever_was_imported_first(module):
    done = python(
        f"import featviz.{module}, featviz as fv; print(callable(fv.render), callable(fv.replay), callable(fv.load))"
    )
    assert done.stdout.split() == ["True"] * 3, done.stderr


def test_a_render_does_not_import_the_compiler_of_pytorch():
    """Optimizers of `torch.optim` and dispatch modes import it by default, which takes longer than a small render."""
    text = (
        "import sys, torch, featviz as fv; net = fv.load('motifnet', device='cpu')\n"
        "for optimizer in (None, fv.optimizers.Ascent()): fv.render(net, 'stage1:1', steps=2, optimizer=optimizer)\n"
        "from featviz.engine.step_graphs import _Constants\n"
        "with _Constants(): torch.ones(1) + 1\n"
        "print([name for name in ('torch._dynamo', 'torch._inductor', 'torchvision') if name in sys.modules])"
    )
    assert python(text).stdout == "[]\n"


def test_importing_is_light_and_silent():
    done = python(
        "import sys, featviz; print([m for m in ('torch', 'torchvision', 'kornia', 'numpy') if m in sys.modules])"
    )
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
    done = python(
        "import sys; from featviz import objectives, param, transforms, render; print('kornia' in sys.modules)"
    )
    assert done.stdout.strip() == "False"


def test_help_is_quick_and_without_torch():
    """Compared with the start of typer, in seconds of the processor, which other work on the machine hardly changes."""
    code = (
        "import sys; from featviz.cli import main; main(['{}', '--help']); "
        "assert not {{'torch', 'numpy', 'torchvision'}} & {{*sys.modules}}"
    )

    def seconds(what):
        times = []
        for _ in range(3):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            done = python(what)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
            assert done.returncode == 0, done.stderr
        return min(times)

    start = seconds("import typer")
    for command in ("render", "replay"):
        assert seconds(code.format(command)) < start + 0.5


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
    extras = {name: texts for name, texts in declared["optional-dependencies"].items() if name not in FOR_DEVELOPERS}
    names |= {text.split(">")[0] for texts in extras.values() for text in texts}
    imported = set()
    for path in (ROOT / "featviz").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.split(".")[0])
    imported -= set(sys.stdlib_module_names) | {"featviz"}
    called = {
        "IPython": "ipython",
        "PIL": "pillow",
        "cv2": "opencv-python-headless",
        "huggingface_hub": "huggingface-hub",
        "imageio_ffmpeg": "imageio-ffmpeg",
        "sklearn": "scikit-learn",
        "umap": "umap-learn",
        "lazy_loader": "lazy-loader",
        "open_clip": "open-clip-torch",
    }
    imported = {called.get(name, name) for name in imported}
    assert imported <= names
    core = {text.split(">")[0] for text in declared["dependencies"]}
    assert core <= imported, "declared, but never imported"


def test_nothing_but_ours_is_in_the_package():
    sizes = {path.name: path.stat().st_size for path in (ROOT / "featviz").rglob("*") if path.suffix == ".safetensors"}
    assert sorted(sizes) == [f"{name}.safetensors" for name in ("motifnet", "motifvit", "phraseformer", "phraselstm")]
    assert max(sizes.values()) < 3_000_000
