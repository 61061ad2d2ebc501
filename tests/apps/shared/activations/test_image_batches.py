"""Photographs of a folder, read in batches of equal size."""

from __future__ import annotations

import pytest
from PIL import Image

import featviz as fv
from featviz.apps.shared.activations.image_batches import folder_fingerprint, image_batches


@pytest.fixture
def folder(tmp_path):
    """Five grey images, each of its own level, and a broken file as the third of six."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in (0, 1, 3, 4, 5):
        Image.new("RGB", (20, 10), (i, i, i)).save(folder / f"{i}.png")
    (folder / "2.png").write_bytes(b"\x89PNG no")
    return folder


def levels(batch):
    return (batch.images[:, 0, 0, 0] * 255).round().int().tolist()


def test_batches_have_equal_sizes_and_the_last_one_is_shorter(folder):
    skipped = []
    found = list(image_batches(folder, size=(8, 12), channels=1, batch=2, skipped=lambda *one: skipped.append(one)))
    assert [tuple(batch.images.shape) for batch in found] == [(2, 1, 8, 12), (2, 1, 8, 12), (1, 1, 8, 12)]
    assert [levels(batch) for batch in found] == [[0, 1], [3, 4], [5]]
    assert [[file.name for file in batch.files] for batch in found] == [
        ["0.png", "1.png"],
        ["3.png", "4.png"],
        ["5.png"],
    ]
    assert [batch.read for batch in found] == [3, 5, 6]  # the broken file counts with the first batch
    ((file, reason),) = skipped
    assert file == folder / "2.png"
    assert reason == f"cannot read {file} as an image; give a PNG, JPEG or WebP file"


def test_the_last_batch_counts_files_after_it_that_cannot_be_read(folder):
    for name in ("6.png", "7.png"):
        (folder / name).write_bytes(b"\x89PNG no")
    found = image_batches(folder, size=(8, 8), channels=1, batch=5, skipped=lambda *_: None)
    assert [(len(batch.files), batch.read) for batch in found] == [(5, 8)]


def test_without_a_callback_an_unreadable_file_is_an_error(folder):
    with pytest.raises(fv.OutputError, match=r"^cannot read .*2\.png as an image; give a PNG, JPEG or WebP file$"):
        list(image_batches(folder, size=(8, 8), channels=3, batch=2))


def test_batches_continue_after_the_first_files(folder):
    (batch,) = image_batches(folder, size=(8, 8), channels=3, batch=4, first=3)
    assert (levels(batch), batch.read) == ([3, 4, 5], 6)
    assert list(image_batches(folder, size=(8, 8), channels=3, batch=4, first=6)) == []


def test_the_fingerprint_of_a_folder_depends_on_names_and_contents(folder):
    count, before = folder_fingerprint(folder)
    assert (count, before) == folder_fingerprint(folder)
    assert count == 6  # unreadable files count as well
    (folder / "0.png").rename(folder / "00.png")
    _, renamed = folder_fingerprint(folder)
    (folder / "1.png").write_bytes(b"longer or shorter")
    _, changed = folder_fingerprint(folder)
    assert len({before, renamed, changed}) == 3
