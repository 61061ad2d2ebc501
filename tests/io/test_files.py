"""Files: checks before a computation, atomic writes, and file names."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import featviz as fv
from featviz.io import Store, cache_folder, check_output, free_path, locked, slug, unique_slug, write, write_cached
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
        (".", (".json",), "cannot write .: it is a folder; name a file that ends in .json"),
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


def test_a_symbolic_link_stays_and_the_file_that_it_names_is_replaced(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    file, link = tmp_path / "elsewhere" / "image.png", tmp_path / "link.png"
    link.symlink_to(file)  # it names no file yet
    for content in (b"first", b"second"):
        check_output(link)
        write(link, content)
        assert link.is_symlink()
        assert file.read_bytes() == content
        assert [path.name for path in file.parent.iterdir()] == ["image.png"]
    link.unlink()
    link.symlink_to(link)  # names nothing
    write(link, b"third")
    assert link.read_bytes() == b"third"
    link.unlink()
    link.symlink_to(tmp_path / "missing" / "image.png")
    with pytest.raises(fv.OutputError, match=r"there is no folder .*missing; make it first"):
        check_output(link)


def test_write_into_a_missing_folder():
    with pytest.raises(fv.OutputError, match="^cannot write no/a.bin: No such file or directory$"):
        write(Path("no/a.bin"), b"")


def test_temporary_files_lie_beside_the_file_and_do_not_look_like_images(tmp_path):
    with files_module.temporary_beside(tmp_path / "a.png") as temporary:
        assert temporary.parent == tmp_path and temporary.name.startswith(".") and temporary.suffix == ".part"
    with files_module.temporary_beside(tmp_path / "a.mp4", ".mp4") as temporary:
        assert temporary.suffix == ".mp4" and temporary != tmp_path / "a.mp4"


def test_temporary_names_are_unique_and_short(tmp_path):
    """A name of 255 bytes is allowed, so a temporary one must not be longer."""
    name = "a" * 251 + ".png"
    write(tmp_path / name, b"data")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: write(tmp_path / "same.png", bytes([i]) * 100_000), range(64)))
    data = (tmp_path / "same.png").read_bytes()
    assert len(data) == 100_000 and len(set(data)) == 1


def test_names_that_are_too_long_are_refused_before_anything_is_computed(tmp_path):
    with pytest.raises(fv.OutputError) as caught:
        check_output(tmp_path / ("a" * 300 + ".png"))
    assert str(caught.value).endswith(".png: File name too long")


def hold(folder):
    with locked(folder):
        pass


@pytest.mark.parametrize(
    "use",
    [
        lambda folder: check_output(folder / "a.png"),
        Store,
        lambda folder: Store(folder.parent),
        hold,
        lambda folder: write_cached(folder / "a.json", b"{}"),
    ],
    ids=["output file", "store", "subfolder of a store", "locked folder", "cache"],
)
def test_what_a_killed_process_left_is_removed(use, tmp_path):
    """Files of a process that runs, and fresh ones of other machines, are kept."""
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    folder, mine = tmp_path / "images", files_module._machine()
    folder.mkdir()
    stale = [folder / f".{mine}-{int(ended.stdout)}-00000000.part", folder / ".00000000-1-00000000.part.mp4"]
    kept = [folder / f".{mine}-{os.getpid()}-00000000.part", folder / ".00000000-2-00000000.part"]
    users = [folder / name for name in ("a.part", ".part", ".my.partners.json", ".00000000-x-00000000.part", ".x.part")]
    kept += users
    for path in [*stale, *kept]:
        path.write_bytes(b"half")
    for path in (stale[1], *users):
        os.utime(path, (0, 0))
    use(folder)
    assert sorted(path for path in folder.iterdir() if path.name not in ("a.json", ".lock")) == sorted(kept)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("stage2:5@3,4", "stage2_5_3_4"),
        ("../../etc/passwd", ".._.._etc_passwd"),
        ("logit:Bär 7", "logit_Bär_7"),
        ("a\n\0\\b", "a___b"),
        ("x" * 200, "x" * 80),
        ("é" * 200, "é" * 40),
        ("", ""),
    ],
)
def test_slug(name, expected):
    assert slug(name) == expected


def test_unique_slugs_differ_wherever_names_do():
    names = ["a b", "a_b", "a:b", "a" * 200, "a" * 201, "é" * 99, "", "a/b", "a.b"]
    slugs = [unique_slug(name, 50) for name in names]
    assert len(set(slugs)) == len(names) and all(len(each.encode()) <= 50 and slug(each) == each for each in slugs)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a-replay.nii.gz", ["a-replay-2.nii.gz", "a-replay-3.nii.gz"]),
        ("b.NII.GZ", ["b-2.NII.GZ", "b-3.NII.GZ"]),
        ("cat.png", ["cat-2.png", "cat-3.png"]),
        ("a.b.png", ["a.b-2.png", "a.b-3.png"]),
        ("folder", ["folder-2", "folder-3"]),
    ],
)
def test_a_free_path_has_a_number_before_the_whole_ending(name, expected, tmp_path):
    assert free_path(tmp_path / name) == tmp_path / name
    (tmp_path / name).touch()
    for each in expected:
        assert free_path(tmp_path / name) == tmp_path / each
        (tmp_path / each).touch()


def test_slug_has_a_maximum_length():
    assert slug("conv2:1 + tv", 7) == "conv2_1"


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "featviz"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert cache_folder() == Path.home() / ".cache" / "featviz"
