"""Folders of images: which files are found, and how they are cropped, resized and refused."""

import numpy as np
import pytest
import torch
from PIL import Image

import featviz as fv
from featviz.io import check_outside, images_in, middle, read_photograph, read_photographs, read_whole_photograph


def save(path, color="red", size=(30, 20)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)
    return path


def test_images_of_a_folder_and_its_subfolders_are_found_in_order(tmp_path):
    for name in ("b.png", "a.JPG", "z/b.webp", "y/a.bmp", "y/x/a.tif"):
        save(tmp_path / name)
    (tmp_path / "readme.txt").write_text("")
    (tmp_path / ".c.png.1.part").write_bytes(b"")  # what another process is writing
    np.save(tmp_path / "z" / "a.npy", np.zeros((3, 4, 4), np.float32))
    found = [str(path.relative_to(tmp_path)) for path in images_in(tmp_path)]
    assert found == ["a.JPG", "b.png", "y/a.bmp", "y/x/a.tif", "z/a.npy", "z/b.webp"]


def test_folders_without_images(tmp_path):
    with pytest.raises(fv.OutputError, match="^no folder nowhere; give a folder of images$"):
        next(images_in("nowhere"))
    with pytest.raises(fv.OutputError) as caught:
        list(images_in(tmp_path))
    endings = ".png, .jpg, .jpeg, .webp, .bmp, .tif, .tiff, .npy"
    assert str(caught.value) == f"no images in {tmp_path}; it needs files that end in {endings}"


def test_photographs_are_cropped_to_their_center(tmp_path):
    wide = Image.new("RGB", (60, 20), "red")
    wide.paste(Image.new("RGB", (20, 20), "blue"), (20, 0))
    wide.save(save(tmp_path / "in" / "b.png"))
    save(tmp_path / "in" / "deep" / "a.png", "green", (9, 30))
    (file, blue), (other, green) = read_photographs(tmp_path / "in", size=16)
    assert (file.name, other.name) == ("b.png", "a.png")
    assert blue.shape == green.shape == (3, 16, 16)
    assert blue[2].min() > 0.99 and blue[0].max() < 0.01
    (_, flat), _ = read_photographs(tmp_path / "in", size=(10, 30))
    assert flat.shape == (3, 10, 30) and flat[0, :, 0].min() > 0.9 and flat[2, :, 15].min() > 0.9
    assert read_photograph(file, size=16).equal(blue)


def test_arrays_may_have_any_number_of_channels(tmp_path):
    numbers = np.random.default_rng(0).random((5, 8, 8))
    np.save(tmp_path / "a.npy", numbers)
    image = read_photograph(tmp_path / "a.npy", size=8, channels=5)
    assert image.dtype == torch.float32 and torch.allclose(image, torch.from_numpy(numbers).float())
    np.save(tmp_path / "a.npy", np.array([{"a": 1}]))  # a pickle, which is not loaded
    with pytest.raises(fv.OutputError, match=r"^cannot read .*a.npy as an array; was it copied completely\?$"):
        read_photograph(tmp_path / "a.npy", channels=5)


def test_unreadable_files_raise_or_are_skipped(tmp_path):
    save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    np.save(tmp_path / "c.npy", np.full((3, 8, 8), 7.0))
    message = f"cannot read {tmp_path / 'b.png'} as an image; give a PNG, JPEG or WebP file"
    with pytest.raises(fv.OutputError) as caught:
        list(read_photographs(tmp_path))
    assert str(caught.value) == message
    skipped = []
    found = list(read_photographs(tmp_path, size=8, skipped=lambda file, why: skipped.append((file.name, why))))
    assert [file.name for file, _ in found] == ["a.png"]
    assert skipped == [
        ("b.png", message),
        ("c.npy", "an image holds torch.float64 from 7 to 7; give floating-point numbers in [0, 1]"),
    ]


@pytest.mark.parametrize(("height", "width"), [(40, 64), (64, 40), (21, 21), (1, 50), (7, 5), (15, 29)])
@pytest.mark.parametrize("size", [(16, 16), (10, 30), (64, 40), (1, 1), (7, 14)])
def test_middle_is_the_resized_center_crop(height, width, size):
    image = torch.rand(3, height, width, generator=torch.Generator().manual_seed(0))
    found = middle(image, 3, size)
    assert found.shape == (3, *size) and found.min() >= 0 and found.max() <= 1
    scale = min(height / size[0], width / size[1])
    rows, columns = (max(1, round(side * scale)) for side in size)
    top, left = (height - rows) // 2, (width - columns) // 2
    part = image[None, :, top : top + rows, left : left + columns]
    expected = torch.nn.functional.interpolate(part, size, mode="bilinear", antialias=True)[0]
    assert torch.equal(found, expected.clamp(0, 1))


def test_middle_of_an_image_of_the_same_size_is_the_image():
    image = torch.rand(3, 12, 17, generator=torch.Generator().manual_seed(0))
    assert torch.equal(middle(image, 3, (12, 17)), image)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.rand(1, 8, 8), "images must have shape (3, h, w), got (1, 8, 8); give channels= to read others"),
        (torch.rand(3, 8), "images must have shape (3, h, w), got (3, 8); give channels= to read others"),
        (torch.rand(3, 0, 8), "an image of shape (3, 0, 8) has no pixels"),
        (
            torch.zeros(3, 8, 8, dtype=torch.uint8),
            "an image holds torch.uint8 from 0 to 0; give floating-point numbers in [0, 1]",
        ),
        (
            torch.full((3, 8, 8), float("nan")),
            "an image holds torch.float32 from nan to nan; give floating-point numbers in [0, 1]",
        ),
    ],
)
def test_images_that_cannot_be_cropped(image, message):
    with pytest.raises(fv.SettingError) as caught:
        middle(image, 3, (4, 4))
    assert str(caught.value) == message


def test_output_among_the_photographs(tmp_path):
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for output in (tmp_path, tmp_path / "photographs2", photographs / ".." / "out.png", "memory://photographs"):
        check_outside(output, photographs)
    for output in (photographs, photographs / "out.png", photographs / "a" / ".." / "b"):
        with pytest.raises(fv.OutputError) as caught:
            check_outside(output, photographs)
        assert str(caught.value) == (
            f"{output} lies in {photographs}, and would be taken for photographs; give an output elsewhere"
        )


@pytest.mark.parametrize(
    ("size", "expected"), [((300, 400), (48, 64)), ((400, 300), (64, 48)), ((9, 20), (9, 20)), ((900, 2), (64, 2))]
)
def test_whole_photographs_are_reduced_and_not_cropped(tmp_path, size, expected):
    Image.linear_gradient("L").resize(size[::-1]).convert("RGB").save(tmp_path / "a.png")  # black above, white below
    image = read_whole_photograph(tmp_path / "a.png", longer_side=64)
    assert image.shape == (3, *expected)
    assert image[:, 0].max() < 0.15 and image[:, -1].min() > 0.85
    np.save(tmp_path / "b.npy", np.zeros((4, *size), np.float32))
    assert read_whole_photograph(tmp_path / "b.npy", longer_side=64, channels=4).shape == (4, *expected)


def test_arrays_of_another_shape_are_no_whole_photographs(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(4, np.float32))
    with pytest.raises(fv.SettingError, match=r"^images must have shape \(3, h, w\), got \(4,\)"):
        read_whole_photograph(tmp_path / "a.npy", longer_side=64)
