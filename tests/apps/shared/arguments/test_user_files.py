"""Files as users have them: broken ones in a folder, several photographs for one folder, a home that is read-only."""

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import toys
from PIL import Image

import featviz as fv
from featviz.cli import main
from featviz.io import cache_folder


@pytest.fixture
def folder(tmp_path):
    """Four photographs, and three files that are none."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    for i in range(4):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (40, 48, 3), np.uint8)).save(folder / f"{i}.png")
    (folder / "text.jpg").write_text("no image")
    (folder / "half.png").write_bytes((folder / "0.png").read_bytes()[:900])
    (folder / "empty.webp").write_bytes(b"")
    return folder


def skipped(caught, folder):
    return {str(each.message) for each in caught if issubclass(each.category, fv.FeatvizWarning)}


def expected_warnings(folder):
    return {
        f"skipped {folder / 'text.jpg'}: cannot read {folder / 'text.jpg'} as an image; give a PNG, JPEG or WebP file",
        f"skipped {folder / 'half.png'}: {folder / 'half.png'} is truncated; was it copied completely?",
        f"skipped {folder / 'empty.webp'}: cannot read {folder / 'empty.webp'} as an image; give a PNG, JPEG or WebP "
        "file",
    }


def without_broken(folder, tmp_path):
    good = tmp_path / "good"
    good.mkdir()
    for i in range(4):
        (good / f"{i}.png").write_bytes((folder / f"{i}.png").read_bytes())
    return good


def test_fit_prior_skips_files_that_cannot_be_read_and_says_so(folder, tmp_path):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = fv.fit_prior(folder, size=16)
    assert skipped(caught, folder) == expected_warnings(folder)
    assert found == fv.fit_prior(without_broken(folder, tmp_path), size=16)


def test_the_doctor_skips_files_that_cannot_be_read_and_says_so(folder, tmp_path, net):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = fv.doctor(net, photographs=folder)
    assert skipped(caught, folder) == expected_warnings(folder)
    assert str(found) == str(fv.doctor(net, photographs=without_broken(folder, tmp_path)))


def test_a_folder_without_any_readable_file(tmp_path, net):
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "a.png").write_text("no image")
    with pytest.warns(fv.FeatvizWarning), pytest.raises(fv.OutputError) as caught:
        fv.doctor(net, photographs=folder)
    assert str(caught.value) == (
        f"no photograph of {folder} can be read: cannot read {folder / 'a.png'} as an image; give a PNG, JPEG or WebP "
        "file"
    )


def test_transparent_photographs_of_a_folder_are_seen_over_white(tmp_path):
    folder = tmp_path / "clear"
    folder.mkdir()
    for i in range(2):
        Image.fromarray(np.zeros((32, 32, 4), np.uint8)).save(folder / f"{i}.png")
    seen = []

    class Looking(toys.Plain):
        def forward(self, x):
            seen.append(x.detach())
            return super().forward(x)

    net = toys.network(Looking(), classes=("ant", "bee", "cat", "dog", "emu"))
    net.layers()
    for call in (lambda: fv.examples(net, folder, "conv2"), lambda: fv.evidence(net, folder, "conv2")):
        seen.clear()
        call()
        photographs = [x for x in seen if x.amax() == x.amin() and x.amax().abs() > 0.9]
        assert photographs
        assert all(x.amin() > 0.9 for x in photographs)


# ---------------------------------------------------------------------------------------------- caches


def test_the_cache_is_in_the_users_folder_or_among_temporary_files(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own" / "featviz"
    assert cache_folder().is_dir()
    (tmp_path / "file").write_text("")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("featviz.io.cache.gettempdir", lambda: str(tmp_path / "temporary"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file" / "below"))
    found = cache_folder()
    assert found.parent == tmp_path / "temporary" and found.is_dir()
    assert found.stat().st_mode & 0o077 == 0  # nobody else reads it
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    monkeypatch.setattr(os, "access", lambda *_: False)  # as in a home that is read-only
    assert cache_folder() == found


def test_a_network_is_listed_where_no_cache_can_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("featviz.io.cache.gettempdir", lambda: str(tmp_path / "temporary"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert toys.plain().layers().rows()
    assert list((tmp_path / "temporary").glob("featviz-*/layers/*.json"))


# ---------------------------------------------------------------------------------------------- outputs


def test_dreams_of_several_photographs_do_not_overwrite_each_other(folder, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    few = ["--octaves", "1", "--steps", "1", "--quiet", "--layer", "stage1"]
    for i in range(2):
        assert main(["dream", str(folder / f"{i}.png"), "-o", str(tmp_path / "out"), *few]) == 0
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["0-dream.png", "1-dream.png"]


def test_a_folder_is_explained_image_by_image(folder, tmp_path, net):
    good = without_broken(folder, tmp_path)
    found = fv.explain(net, good, "logit:cat")
    assert len(found) == 4
    single = [fv.explain(net, file, "logit:cat") for file in sorted(good.iterdir())]
    torch.testing.assert_close(found.map, torch.cat([each.map for each in single]))
    assert Path(found.save(tmp_path / "all.png")).exists()
