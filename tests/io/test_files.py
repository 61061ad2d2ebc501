"""Files: checks before a computation, atomic writes, and file names."""

from pathlib import Path

import pytest

import featviz as fv
from featviz.io import cache_folder, check_output, slug, write
from featviz.io import files as files_module


def test_output_that_can_be_written(tmp_path):
    for path in (tmp_path, tmp_path / "a.png", tmp_path / "A.JPG", Path("a.webp")):
        check_output(path)
    check_output(tmp_path / "a.json", ".json", ".txt")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "endings", "message"),
    [
        ("a.gif", (), "cannot write a.gif: end it in .png, .jpg, .jpeg, .webp, or name an existing folder"),
        ("folder", (), "cannot write folder: end it in .png, .jpg, .jpeg, .webp, or name an existing folder"),
        ("a.png", (".json", ".txt"), "cannot write a.png: end it in .json, .txt"),
        ("no/a.png", (), "cannot write no/a.png: there is no folder no; make it first"),
    ],
)
def test_output_that_cannot_be_written(path, endings, message):
    with pytest.raises(fv.OutputError) as caught:
        check_output(Path(path), *endings)
    assert str(caught.value) == message


def test_output_in_a_folder_without_permission(monkeypatch):
    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files_module, "NamedTemporaryFile", refuse)
    with pytest.raises(fv.OutputError, match="^cannot write to the folder .: Permission denied$"):
        check_output(Path("a.png"))


def test_write_replaces_a_file(tmp_path):
    target = tmp_path / "a.bin"
    for data in (b"old and long", b"new"):
        write(target, data)
        assert target.read_bytes() == data
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, error):
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")

    def half(path, data):
        with path.open("wb") as file:
            file.write(data[:2])
        raise error

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(fv.OutputError if isinstance(error, OSError) else KeyboardInterrupt) as caught:
        write(target, b"new")
    if isinstance(error, OSError):
        assert str(caught.value) == f"cannot write {target}: No space left on device"
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_write_into_a_missing_folder():
    with pytest.raises(fv.OutputError, match="^cannot write no/a.bin: No such file or directory$"):
        write(Path("no/a.bin"), b"")


def test_temporary_files_lie_beside_the_file_and_do_not_look_like_images(tmp_path):
    with files_module.temporary_beside(tmp_path / "a.png") as temporary:
        assert temporary.parent == tmp_path and temporary.name.startswith(".a.png.") and temporary.suffix == ".part"
    with files_module.temporary_beside(tmp_path / "a.mp4", ".mp4") as temporary:
        assert temporary.suffix == ".mp4" and temporary != tmp_path / "a.mp4"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("stage2:5@3,4", "stage2_5_3_4"),
        ("../../etc/passwd", ".._.._etc_passwd"),
        ("logit:Bär 7", "logit_Bär_7"),
        ("a\n\0\\b", "a___b"),
        ("x" * 200, "x" * 80),
        ("", ""),
    ],
)
def test_slug(name, expected):
    assert slug(name) == expected


def test_slug_has_a_maximum_length():
    assert slug("conv2:1 + tv", 7) == "conv2_1"


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "featviz"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert cache_folder() == Path.home() / ".cache" / "featviz"
