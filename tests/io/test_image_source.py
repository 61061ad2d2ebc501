"""Images and masks that objectives and params hold: files or numbers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import featviz as fv
from featviz.io import Array, as_image_source, as_mask_source, check_unit_range, load_image_source

NUMBERS = torch.rand(3, 12, 20, generator=torch.Generator().manual_seed(0))


def test_files_stay_paths_and_numbers_become_arrays():
    assert as_image_source("no.png") == as_mask_source(Path("no.png")) == "no.png"  # not read yet
    for numbers in (NUMBERS, NUMBERS.numpy(), NUMBERS.tolist(), Array.of(NUMBERS)):
        source = as_image_source(numbers)
        assert source == Array.of(NUMBERS) and as_image_source(source) == source
    mask = as_mask_source([[0, 1, 0.5]])
    assert mask == Array.of([[[0.0, 1.0, 0.5]]]) and as_mask_source(mask) == mask


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: as_image_source(NUMBERS[0, 0]),
            "an image must be a file, or numbers of shape (channels, h, w), got shape (20,)",
        ),
        (
            lambda: as_image_source(torch.zeros(3, 0, 4)),
            "an image must be a file, or numbers of shape (channels, h, w), got shape (3, 0, 4)",
        ),
        (
            lambda: as_image_source(np.full((3, 2, 2), 255, np.uint8)),
            "the image holds torch.float32 from 255 to 255; give floating-point numbers in [0, 1]",
        ),
        (
            lambda: as_mask_source(NUMBERS),
            "a mask must be a file, or numbers of shape (h, w) or (1, h, w), got shape (3, 12, 20)",
        ),
        (
            lambda: as_mask_source(torch.zeros(0, 4)),
            "a mask must be a file, or numbers of shape (h, w) or (1, h, w), got shape (0, 4)",
        ),
        (
            lambda: as_mask_source([[-1.0, 2.0]]),
            "the mask holds torch.float32 from -1 to 2; give floating-point numbers in [0, 1]",
        ),
        (
            lambda: as_image_source([[[float("inf")]]]),
            "numbers must be finite; an array of shape (1, 1, 1) has infinite or NaN values",
        ),
        (lambda: as_image_source(None), "numbers must be finite; an array of shape () has infinite or NaN values"),
        (lambda: load_image_source(Array.of(NUMBERS), 1), "the image must have 1 channels, got 3"),
    ],
)
def test_images_and_masks_that_are_refused(make, message):
    with pytest.raises(fv.SettingError) as caught:
        make()
    assert str(caught.value) == message


def test_files_and_numbers_load_alike(tmp_path):
    pixels = (NUMBERS.permute(1, 2, 0) * 255).round().byte().numpy()
    Image.fromarray(pixels).save(tmp_path / "a.png")
    numbers = Array.of(torch.from_numpy(pixels).permute(2, 0, 1) / 255)
    for size in (None, (12, 20), (5, 5), (30, 10)):
        assert torch.equal(load_image_source(str(tmp_path / "a.png"), 3, size), load_image_source(numbers, 3, size))
    assert load_image_source(str(tmp_path / "a.png"), 1).shape == (1, 12, 20)  # converted to greyscale
    with pytest.raises(fv.OutputError, match="^no file no.png; check the path$"):
        load_image_source("no.png", 3)


@pytest.mark.parametrize(("height", "width"), [(12, 20), (20, 12), (15, 29), (1, 9), (6, 6)])
@pytest.mark.parametrize("size", [(8, 8), (7, 14), (30, 10), (12, 20)])
def test_loaded_image_is_the_resized_center_crop(height, width, size):
    image = torch.rand(3, height, width, generator=torch.Generator().manual_seed(1))
    found = load_image_source(Array.of(image), 3, size)
    assert found.shape == (3, *size) and found.min() >= 0 and found.max() <= 1
    rows = min(height, max(1, round(width * size[0] / size[1])))
    columns = min(width, max(1, round(height * size[1] / size[0])))
    top, left = (height - rows) // 2, (width - columns) // 2
    part = image[None, :, top : top + rows, left : left + columns]
    expected = torch.nn.functional.interpolate(part, size, mode="bilinear", antialias=True)[0]
    assert torch.equal(found, expected.clamp(0, 1))


def test_loading_leaves_the_array_as_it_is():
    source = Array.of(NUMBERS)
    for size in (None, (12, 20), (6, 8)):
        load_image_source(source, 3, size)
    assert torch.equal(source.tensor, NUMBERS)


@pytest.mark.parametrize("kind", [torch.uint16, torch.complex64])
def test_numbers_of_any_type_are_checked(kind):
    with pytest.raises(fv.SettingError) as caught:
        check_unit_range(torch.zeros(3, 2, 2).to(kind), "start")
    assert str(caught.value).endswith("; give floating-point numbers in [0, 1]")


def test_check_unit_range():
    check_unit_range(torch.tensor([0.0, 1.0]), "images")
    check_unit_range(torch.rand(2, 3, dtype=torch.float64), "images")
    for wrong, message in (
        (torch.tensor([-0.1, 1.0]), "images holds torch.float32 from -0.1 to 1; "),
        (torch.tensor([0.5, float("nan")]), "images holds torch.float32 from nan to nan; "),
        (torch.tensor([0, 1]), "images holds torch.int64 from 0 to 1; "),
    ):
        with pytest.raises(fv.SettingError) as caught:
            check_unit_range(wrong, "images")
        assert str(caught.value) == f"{message}give floating-point numbers in [0, 1]"
    with pytest.raises(fv.SettingError, match=r"^images of shape \(0, 3\) has no pixels$"):
        check_unit_range(torch.rand(0, 3), "images")
