"""Contact sheets: where images and labels are placed."""

import itertools

import numpy as np
import pytest
from PIL import ImageFont

import featviz as fv
from featviz.io import contact_sheet, text_tile, wrap
from featviz.io.contact_sheet import GAP, MIN_LABELLED_WIDTH, SINGLE_ROW, TILE_COLOR


def tiles(count, height=20, width=30):
    return [np.full((height, width, 3), 10 * i, np.uint8) for i in range(count)]


@pytest.mark.parametrize(("count", "columns"), [(1, None), (SINGLE_ROW, None), (7, None), (5, 2), (3, 9)])
def test_images_are_placed_in_rows(count, columns):
    page = contact_sheet(tiles(count), columns=columns)
    across = columns or (count if count <= SINGLE_ROW else 3)
    down = -(-count // across)
    assert page.shape == (GAP + down * (20 + GAP), GAP + across * (30 + GAP), 3)
    for i in range(count):
        top, left = GAP + i // across * (20 + GAP), GAP + i % across * (30 + GAP)
        assert (page[top : top + 20, left : left + 30] == 10 * i).all()
    assert (page[:GAP] == 255).all()


def test_small_images_with_labels_are_enlarged():
    page = contact_sheet(tiles(2), ["short", "a label that is much too long for an image of this width"])
    zoom = -(-MIN_LABELLED_WIDTH // 30)
    assert page.shape[1] == GAP + 2 * (30 * zoom + GAP)
    below = page[GAP + 20 * zoom :, :]
    assert (below < 128).any(-1)[:, : 30 * zoom].any() and (below < 128).any(-1)[:, 30 * zoom + 2 * GAP :].any()
    assert (below[:, -GAP:] == 255).all()  # a long label is cut


def test_transparent_images_get_a_checkerboard():
    page = contact_sheet([np.zeros((16, 16, 4), np.uint8)])
    assert set(np.unique(page)) == {216, 255} and (page[GAP, GAP] == 216).all()


@pytest.mark.parametrize("text", ["", "short", "a reason " * 40, "one_word_that_is_much_too_long" * 5])
def test_text_stays_in_its_tile(text):
    tile = text_tile(text, 60, 120)
    assert tile.shape == (60, 120, 3)
    edges = np.concatenate([tile[:3].reshape(-1, 3), tile[-3:].reshape(-1, 3), tile[:, 0], tile[:, -1]])
    assert (edges == TILE_COLOR).all() and (tile != TILE_COLOR).any() == bool(text)


def test_text_is_wrapped_between_words():
    font = ImageFont.load_default(14)
    lines = wrap("the quick  brown fox jumps over the extraordinarily_long_dog", font, 90)
    assert " ".join(lines).startswith("the quick brown fox jumps over the extrao") and lines[-1].endswith("…")
    assert all(font.getlength(line) <= 90 for line in lines)
    assert all(font.getlength(f"{line} {after.split()[0]}") > 90 for line, after in itertools.pairwise(lines))


def test_no_images():
    with pytest.raises(fv.SettingError, match="^a contact sheet needs at least one image$"):
        contact_sheet([])
