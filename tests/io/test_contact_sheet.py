"""Contact sheets: where images and labels are placed."""

import numpy as np
import pytest

import featviz as fv
from featviz.io import contact_sheet
from featviz.io.contact_sheet import GAP, MIN_LABELLED_WIDTH, SINGLE_ROW


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


def test_no_images():
    with pytest.raises(fv.SettingError, match="^a contact sheet needs at least one image$"):
        contact_sheet([])
