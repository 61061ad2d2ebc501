"""Stores: folders on this machine and elsewhere behave alike."""

from pathlib import Path

import pytest

import featviz as fv
from featviz.io import Store, new_store


@pytest.fixture(params=["local", "memory"])
def store(request, tmp_path):
    from fsspec.implementations.memory import MemoryFileSystem

    MemoryFileSystem.store.clear()
    return Store(tmp_path / "results" if request.param == "local" else "memory://results")


def test_files_are_written_listed_and_read(store):
    assert store.names("pictures") == set()
    store.write("pictures/a.png", b"first")
    store.write("pictures/a.png", b"second")
    store.write("pictures/b.txt", "grün")
    assert store.names("pictures") == {"a.png", "b.txt"}
    assert store.read("pictures/a.png") == b"second"
    assert store.read("pictures/b.txt").decode() == "grün"
    with pytest.raises(fv.OutputError) as caught:
        store.read("pictures/none.png")
    assert str(caught.value) == f"no file pictures/none.png in {store.url}"


def test_files_that_are_being_written_are_not_listed(store):
    store.write("pictures/.a.png.12.part", b"half")
    assert store.names("pictures") == set()


def test_path_is_the_folder_on_this_machine(tmp_path):
    assert Store(tmp_path / "a" / "b").path == tmp_path / "a" / "b"
    assert (tmp_path / "a" / "b").is_dir()
    assert Store("memory://results").path is None
    assert repr(Store("memory://results")) == "Store('memory://results')"


def fail_in(url, *files):
    """Write files to a store, and fail."""
    with new_store(url) as store:
        assert store.path is None or store.path.is_dir()
        for file in files:
            store.write(file, "done")
        raise ZeroDivisionError


def test_an_error_removes_the_folders_that_were_made_unless_they_hold_something(tmp_path):
    (tmp_path / "old").mkdir()
    for where in ("a/b", "old", "old/new"):
        with pytest.raises(ZeroDivisionError):
            fail_in(tmp_path / where)
        assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")} == {"old"}
    with pytest.raises(ZeroDivisionError):
        fail_in(tmp_path / "a" / "b", "page.html")
    assert (tmp_path / "a" / "b" / "page.html").is_file()
    with new_store(tmp_path / "fine"):
        pass
    assert (tmp_path / "fine").is_dir()
    with pytest.raises(ZeroDivisionError):
        fail_in("memory://results")


def test_folders_that_cannot_be_made():
    Path("file").write_text("")
    with pytest.raises(fv.OutputError, match="^cannot make the folder file/results: "):
        Store("file/results")
    with pytest.raises(
        fv.OutputError,
        match=r"^cannot write to nowhere://x: .*; give a folder, or install the package for this kind of URL$",
    ):
        Store("nowhere://x")


def test_file_that_cannot_be_written(tmp_path):
    store = Store(tmp_path)
    (tmp_path / "pictures").write_text("")
    with pytest.raises(fv.OutputError, match=f"^cannot write pictures/a.png to {tmp_path}: "):
        store.write("pictures/a.png", b"")


def test_images_of_a_store_elsewhere_are_intact_if_they_are_there():
    store = Store("memory://intact")
    store.write("photographs/a.webp", b"any")
    assert store.intact_images(["photographs/a.webp", "photographs/b.webp", "other/a.webp"]) == {"photographs/a.webp"}
    assert store.intact_images([]) == set()
