"""The checks of the wheel and the sdist can fail, and environments hold nothing but what is required."""

import tarfile
from io import BytesIO
from zipfile import ZipFile

import pytest
from distribution import environment
from distribution.check import check_contents, check_metadata, names_of
from distribution.environment import closure, make_environment, requirements_of, run
from packaging.requirements import Requirement

METADATA = """Metadata-Version: 2.4
Name: featviz
Version: 1
License-Expression: MIT
License-File: LICENSE
Description-Content-Type: text/markdown
Requires-Dist: lazy-loader
Requires-Dist: never-there; python_version < '3'
Provides-Extra: text
Requires-Dist: jinja2; extra == 'text'

# Title
"""
FILES = {"featviz/a.py", "featviz/page.html", "tests/a.py", "tools/a.py", "docs/a.md", "notebooks/a", "benchmarks/a.py"}
WHEEL = {"featviz/a.py", "featviz/page.html", "featviz-1.dist-info/METADATA"}


def made(folder, *, metadata=METADATA, info=None):
    """Return a small wheel and sdist."""
    wheel, sdist = folder / "featviz-1-py3-none-any.whl", folder / "featviz-1.tar.gz"
    with ZipFile(wheel, "w") as archive:
        archive.writestr("featviz/__init__.py", "")
        archive.writestr("featviz-1.dist-info/METADATA", metadata)
        archive.writestr("featviz-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("featviz-1.dist-info/RECORD", "")
    with tarfile.open(sdist, "w:gz") as archive:
        text = (info or metadata).encode()
        member = tarfile.TarInfo("featviz-1/PKG-INFO")
        member.size = len(text)
        archive.addfile(member, BytesIO(text))
    return wheel, sdist


def test_right_distributions_pass(tmp_path):
    check_metadata(*made(tmp_path))
    check_contents(WHEEL, FILES | {"PKG-INFO"}, FILES)
    assert names_of(made(tmp_path)[1]) == {"PKG-INFO"}


@pytest.mark.parametrize(
    ("wheel", "sdist", "message"),
    [
        (WHEEL - {"featviz/page.html"}, FILES, "the wheel lacks featviz/page.html"),
        (
            WHEEL | {"tests/a.py"},
            FILES,
            "the wheel has files from outside of the package: tests/a.py",
        ),
        (WHEEL, FILES - {"tests/a.py"}, "the sdist lacks tests/a.py"),
    ],
)
def test_files_in_the_wrong_place_are_found(wheel, sdist, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        check_contents(wheel, sdist, FILES)


def test_folders_are_needed_without_git():
    with pytest.raises(ValueError, match="^the sdist lacks the folders tests$"):
        check_contents(WHEEL, FILES - {"tests/a.py"}, set())


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (METADATA.replace("text/markdown", "text/plain"), "the README is not the description"),
        (METADATA.replace("MIT", "BSD-3-Clause"), r"the license is BSD-3-Clause, in \['LICENSE'\]"),
    ],
)
def test_wrong_metadata_are_found(metadata, message, tmp_path):
    with pytest.raises(ValueError, match=f"^{message}$"):
        check_metadata(*made(tmp_path, metadata=metadata))


def test_metadata_must_be_the_same_and_valid(tmp_path):
    with pytest.raises(ValueError, match="^the wheel and the sdist have different metadata$"):
        check_metadata(*made(tmp_path, info=METADATA + "more"))
    with pytest.raises(ExceptionGroup, match="invalid or unparsed metadata"):
        check_metadata(*made(tmp_path, metadata=METADATA.replace("License-Expression: MIT", "License-Expression: !")))


def test_requirements_depend_on_extras_and_the_python(tmp_path):
    wheel, _ = made(tmp_path)
    assert [each.name for each in requirements_of(wheel)] == ["lazy-loader"]
    assert [each.name for each in requirements_of(wheel, ["text"])] == ["lazy-loader", "jinja2"]


def test_closures_hold_what_is_needed_indirectly():
    assert {"jinja2", "markupsafe"} <= set(closure([Requirement("Jinja2")]))
    assert "pytest" not in closure([Requirement("torch")])
    with pytest.raises(LookupError, match="^nothing-of-this-name is not installed$"):
        closure([Requirement("nothing-of-this-name")])
    with pytest.raises(LookupError, match=r"^jinja2>=99 is needed, and version .* is installed$"):
        closure([Requirement("jinja2>=99")])


def test_environments_are_empty_otherwise(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "found_by_path.py").touch()
    wheel, _ = made(tmp_path)
    python = make_environment(tmp_path / "environment", wheel, ["text"]) / "python"
    code = "import featviz, jinja2, lazy_loader, sys; print(featviz.__file__.startswith(sys.prefix))"
    assert run([python, "-c", code], tmp_path) == "True\n"
    for module in ("torch", "pytest", "numpy", "pip", "toys"):
        with pytest.raises(RuntimeError, match=f"ModuleNotFoundError: No module named '{module}'"):
            run([python, "-c", f"import {module}"], tmp_path)
    away = tmp_path / "away"
    away.mkdir()
    with pytest.raises(RuntimeError, match="No module named 'found_by_path'"):
        run([python, "-c", "import found_by_path"], away)
    environment.check_requirements(python.parent)
    monkeypatch.undo()
    (wheel, _) = made(tmp_path, metadata=METADATA.replace("lazy-loader", "lazy-loader>=99"))
    with pytest.raises(LookupError, match="^lazy-loader>=99 is needed"):
        make_environment(tmp_path / "other", wheel)


def test_commands_must_end_as_expected(tmp_path):
    with pytest.raises(RuntimeError, match="ended with status 3:\nshown$"):
        run(["sh", "-c", "echo shown; exit 3"], tmp_path)
    with pytest.raises(RuntimeError, match="ended with status 0"):
        run(["true"], tmp_path, fails=True)
    assert run(["sh", "-c", "echo wrong >&2; exit 2"], tmp_path, fails=True) == "wrong\n"
