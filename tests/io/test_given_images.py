"""Images as users have them: every form gives the same pixels, and what is no image says so."""

import numpy as np
import pytest
import torch
from PIL import Image

import featviz as fv
from featviz.io import load_given_image, load_given_images

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (9, 14, 3), np.uint8)
EXPECTED = torch.from_numpy(RGB).permute(2, 0, 1) / 255
GREY = RNG.integers(0, 256, (9, 14), np.uint8)


def file_of(pixels, folder, name="a.png"):
    path = folder / name
    Image.fromarray(pixels).save(path)
    return path


FORMS = {
    "path": lambda folder: file_of(RGB, folder),
    "text": lambda folder: str(file_of(RGB, folder)),
    "Pillow": lambda folder: Image.fromarray(RGB),
    "Pillow of a palette": lambda folder: Image.fromarray(RGB).convert("RGBA"),
    "array": lambda folder: RGB,
    "array, channels first": lambda folder: RGB.transpose(2, 0, 1),
    "array of floats": lambda folder: RGB.astype(np.float64) / 255,
    "array of int64": lambda folder: RGB.astype(np.int64),
    "array that is mirrored": lambda folder: RGB[::-1, ::-1].copy()[::-1, ::-1],
    "array that cannot be written": lambda folder: read_only(RGB),
    "tensor": lambda folder: torch.from_numpy(RGB),
    "tensor, channels first": lambda folder: torch.from_numpy(RGB).permute(2, 0, 1),
    "tensor of floats": lambda folder: EXPECTED.clone(),
    "tensor of doubles": lambda folder: torch.from_numpy(RGB).double() / 255,
    "tensor with a gradient": lambda folder: EXPECTED.clone().requires_grad_(),
    "batch of one": lambda folder: EXPECTED[None],
    "opaque RGBA": lambda folder: np.concatenate([RGB, np.full_like(RGB[..., :1], 255)], 2),
}


def same(found, expected):
    return all((one - two).abs().max() < 1e-6 for one, two in zip(found, expected, strict=True))


def read_only(pixels):
    pixels = pixels.copy()
    pixels.flags.writeable = False
    return pixels


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_pixels(form, tmp_path):
    given = FORMS[form](tmp_path)
    found = load_given_images(given, 3)
    assert len(found) == 1
    assert found[0].dtype == torch.float32 and not found[0].requires_grad
    torch.testing.assert_close(found[0], EXPECTED)
    if form != "batch of one":
        torch.testing.assert_close(load_given_image(given, 3), EXPECTED)
    for listed in ([given, given], (given, given)):
        several = load_given_images(listed, 3)
        assert len(several) == 2 and all(torch.equal(each, found[0]) for each in several)
    assert np.array_equal(RGB, np.random.default_rng(0).integers(0, 256, (9, 14, 3), np.uint8))  # not changed


def test_forms_can_be_mixed_in_a_list(tmp_path):
    listed = [FORMS[form](tmp_path) for form in FORMS if form != "batch of one"]
    for each in load_given_images(listed, 3):
        torch.testing.assert_close(each, EXPECTED)


@pytest.mark.parametrize("batch", [np.stack([RGB, RGB[::-1]]), torch.from_numpy(np.stack([RGB, RGB[::-1]]))])
def test_batches(batch):
    expected = [EXPECTED, EXPECTED.flip(1)]
    for given in (batch, batch.transpose(0, 3, 1, 2) if isinstance(batch, np.ndarray) else batch.permute(0, 3, 1, 2)):
        found = load_given_images(given, 3)
        assert len(found) == 2 and same(found, expected)


def test_a_folder_is_each_of_its_images_in_order(tmp_path):
    (tmp_path / "inner").mkdir()
    file_of(RGB, tmp_path, "b.png")
    file_of(RGB[::-1].copy(), tmp_path / "inner", "c.png")
    file_of(RGB[:, ::-1].copy(), tmp_path, "a.png")
    for given in (tmp_path, str(tmp_path)):
        found = load_given_images(given, 3)
        expected = [EXPECTED.flip(2), EXPECTED, EXPECTED.flip(1)]
        assert len(found) == 3 and same(found, expected)
    (tmp_path / "empty").mkdir()
    with pytest.raises(fv.OutputError, match="empty"):
        load_given_images(tmp_path / "empty", 3)


@pytest.mark.parametrize(
    "make",
    [lambda folder: file_of(GREY, folder), lambda _: Image.fromarray(GREY), lambda _: GREY, lambda _: GREY[..., None],
     lambda _: GREY[None], lambda _: torch.from_numpy(GREY)],
)  # fmt: skip
def test_grey_images(make, tmp_path):
    expected = torch.from_numpy(GREY)[None] / 255
    torch.testing.assert_close(load_given_image(make(tmp_path), 1), expected)
    torch.testing.assert_close(load_given_image(make(tmp_path), 3), expected.expand(3, -1, -1))


def test_colors_become_grey_as_those_of_a_file(tmp_path):
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    expected = (EXPECTED * weights).sum(0, keepdim=True)
    for form in ("path", "Pillow", "array", "tensor of floats"):
        found = load_given_image(FORMS[form](tmp_path), 1)
        assert found.shape == (1, 9, 14)
        assert (found - expected).abs().max() < 0.006, form  # files are rounded to whole numbers


@pytest.mark.parametrize("hidden", [(0, 0, 0), (200, 10, 10)])
def test_transparent_images_are_laid_over_white(hidden, tmp_path):
    """What is fully transparent has any color underneath, often black, that nobody has ever seen."""
    pixels = np.zeros((5, 6, 4), np.uint8)
    pixels[..., :3] = hidden
    pixels[:, 3:] = (10, 20, 30, 255)
    pixels[0, 0, 3] = 51  # a fifth
    expected = torch.ones(3, 5, 6)
    expected[:, :, 3:] = torch.tensor([10, 20, 30])[:, None, None] / 255
    expected[:, 0, 0] = 0.2 * torch.tensor(hidden) / 255 + 0.8
    for given in (file_of(pixels, tmp_path), Image.fromarray(pixels), pixels, torch.from_numpy(pixels)):
        assert (load_given_image(given, 3) - expected).abs().max() < 0.003
        alpha = load_given_image(given, 4)[3]
        torch.testing.assert_close(alpha, torch.from_numpy(pixels[..., 3]) / 255)


@pytest.mark.parametrize("channels", [2, 5])
def test_images_of_other_numbers_of_channels_are_numbers(channels, tmp_path):
    image = torch.rand(channels, 9, 14)
    torch.testing.assert_close(load_given_image(image, channels), image)
    torch.testing.assert_close(load_given_image(image.permute(1, 2, 0).numpy(), channels), image)
    with pytest.raises(fv.OutputError) as caught:
        load_given_image(file_of(RGB, tmp_path), channels)
    assert str(caught.value) == (
        f"an image file can be read as 1, 3 or 4 channels, not {channels}; give a tensor instead"
    )


def test_where_both_ends_could_be_channels_they_are_first():
    image = torch.rand(3, 5, 3)
    assert torch.equal(load_given_image(image, 3), image)
    narrow = torch.rand(4, 9, 3)  # four rows of an RGB image, not four channels
    torch.testing.assert_close(load_given_image(narrow, 3), narrow.permute(2, 0, 1))


ACCEPTED = "a file, a Pillow image, or numbers of shape (h, w, c) or (c, h, w), or a list of them"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], f"there is no image in the list; give {ACCEPTED}"),
        ((), f"there is no image in the list; give {ACCEPTED}"),
        (torch.zeros(0, 3, 4, 4), f"there is no image in the list; give {ACCEPTED}"),
        (None, f"an image must be {ACCEPTED}, got NoneType"),
        (3, f"an image must be {ACCEPTED}, got int"),
        ({"image": RGB}, f"an image must be {ACCEPTED}, got dict"),
        ([[1, 2], [3, 4]], f"an image must be {ACCEPTED}, got list"),
        ([RGB, None], f"an image must be {ACCEPTED}, got NoneType"),
        (torch.rand(7), "the image must have shape (3, h, w), (h, w, 3) or (h, w), got (7,)"),
        (torch.rand(5, 6, 7), "the image must have shape (3, h, w), (h, w, 3) or (h, w), got (5, 6, 7)"),
        (torch.full((3, 4, 4), 300), "whole numbers of an image must be in 0…255, got 300…300"),
        (np.full((3, 4, 4), 300, np.uint16), "whole numbers of an image must be in 0…255, got 300…300"),
        (np.zeros((3, 4, 4), np.complex64), "an image must hold real numbers, got complex64"),
        (torch.full((3, 4, 4), -1), "whole numbers of an image must be in 0…255, got -1…-1"),
    ],
)  # fmt: skip
def test_what_is_no_image(given, message):
    with pytest.raises(fv.SettingError) as caught:
        load_given_images(given, 3)
    assert str(caught.value) == message


@pytest.mark.parametrize("value", [1.5, -0.5, float("nan"), float("inf")])
def test_floats_outside_of_0_to_1(value):
    with pytest.raises(fv.SettingError) as caught:
        load_given_image(torch.full((3, 4, 4), value), 3)
    assert str(caught.value) == (
        f"the image holds torch.float32 from {value} to {value}; give floating-point numbers in [0, 1]"
    )


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(fv.OutputError, match="^no file missing.png; check the path$"):
        load_given_image("missing.png", 3)
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(fv.OutputError) as caught:
        load_given_image("text.png", 3)
    assert str(caught.value) == "cannot read text.png as an image; give a PNG, JPEG or WebP file"


def test_very_large_pictures_say_so(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    path = file_of(RGB, tmp_path, "large.png")
    with pytest.raises(fv.OutputError) as caught:
        load_given_image(path, 3)
    assert "large.png is too large: " in str(caught.value)
    assert str(caught.value).endswith("; make it smaller first")


def test_masks_of_truth_values_are_black_and_white():
    image = np.array([[True, False], [False, True]])
    assert load_given_image(image, 1).tolist() == [[[1, 0], [0, 1]]]
