"""Image files: 8-bit conversion, formats, and the recipe and report inside a PNG."""

import json
import os
import re

import numpy as np
import pytest
from PIL import Image

import featviz as fv
from featviz.io import (
    encode,
    load_given_image,
    load_given_images,
    open_image,
    over_checks,
    read_image,
    read_photograph,
    read_photographs,
    read_recipe,
    read_report,
    read_video,
    save_image,
    to_bytes,
)
from featviz.io.images import READ_FORMATS, pillow_pixels

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (9, 14, 3), np.uint8)
RGBA = RNG.integers(0, 256, (9, 14, 4), np.uint8)


def test_to_bytes_by_number_of_channels():
    image = RNG.random((4, 5, 6)).astype(np.float32)
    pixels = (image * 255).round().astype(np.uint8)
    assert np.array_equal(to_bytes(image[:3]), pixels[:3].transpose(1, 2, 0))
    assert np.array_equal(to_bytes(image, alpha=True), pixels.transpose(1, 2, 0))
    grey = to_bytes(image[:1])
    assert grey.shape == (5, 6, 3) and np.array_equal(grey[..., 1], pixels[0])
    grey_alpha = to_bytes(image[:2], alpha=True)
    assert np.array_equal(grey_alpha, pixels[[0, 0, 0, 1]].transpose(1, 2, 0))
    panels = to_bytes(image)
    assert panels.shape == (5, 24, 3) and np.array_equal(panels[:, 18:, 2], pixels[3])


def test_to_bytes_clips_and_shows_nan_as_grey():
    image = np.array([-1.0, 0.0, 0.5, 1.0, 2.0, np.nan, np.inf, -np.inf], np.float32).reshape(1, 1, 8)
    assert to_bytes(image)[0, :, 0].tolist() == [0, 0, 128, 255, 255, 128, 255, 0]


def test_over_checks_composites_over_a_checkerboard():
    clear = np.zeros((16, 24, 4), np.uint8)
    found = over_checks(clear)
    for row in range(16):
        for column in range(24):
            assert set(found[row, column]) == {255 if (row // 8 + column // 8) % 2 else 216}
    opaque = np.full((3, 3, 4), (10, 20, 30, 255), np.uint8)
    assert np.array_equal(over_checks(opaque), opaque[..., :3])


@pytest.mark.parametrize("ending", [".png", ".jpg", ".jpeg", ".webp"])
@pytest.mark.parametrize("pixels", [RGB, RGBA])
def test_every_format_can_be_written_and_read(ending, pixels, tmp_path):
    large = np.kron(pixels, np.ones((8, 8, 1), np.uint8))
    path = save_image(large, tmp_path / f"a{ending}", "recipe", '{"score": 1}')
    assert list(tmp_path.iterdir()) == [path]
    seen = large if pixels is RGB else over_checks(large)
    if ending == ".png" or (ending == ".webp" and pixels is RGBA):
        seen = large
    found = read_image(path, seen.shape[2]).transpose(1, 2, 0) * 255
    visible = seen[..., 3:] > 0 if seen.shape[2] == 4 else np.ones((1, 1, 1), bool)
    assert np.abs((found - seen) * visible).mean() < (0.01 if ending == ".png" else 12)


@pytest.mark.parametrize("ending", [".png", ".jpg", ".jpeg", ".webp"])
def test_every_format_stores_recipe_and_report(ending):
    data = encode(RGB, ending, "the recipe", '{"score": 1}')
    assert (read_recipe(data), read_report(data)) == ("the recipe", {"score": 1})
    assert read_report(encode(RGB, ending, "the recipe")) == {}
    bare = encode(RGB, ending)
    assert read_report(bare) == {}
    message = "^the image data holds no recipe; give a file of a render, or of a dream on an image, as it was saved$"
    with pytest.raises(fv.RecipeError, match=message):
        read_recipe(bare)


def test_a_recipe_too_long_for_a_jpeg_is_left_out_with_a_warning():
    long = "x" * 70_000
    message = "^the recipe is too long for a JPEG, so the image cannot be replayed; save it as .png or .webp$"
    with pytest.warns(fv.FeatvizWarning, match=message):
        data = encode(RGB, ".jpg", long)
    with pytest.raises(fv.RecipeError, match="holds no recipe"):
        read_recipe(data)
    assert read_recipe(encode(RGB, ".webp", long)) == long


@pytest.mark.parametrize(
    "comment", [b"", b"ASCII\0\0\0a holiday", b'ASCII\0\0\0{"featviz": 1}', b"[1, 2]", b"\xff" * 9]
)
def test_comments_of_other_programs_are_no_recipe(comment, tmp_path):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = comment
    Image.fromarray(RGB).save(tmp_path / "a.jpg", exif=exif)
    with pytest.raises(fv.RecipeError, match="holds no recipe"):
        read_recipe(tmp_path / "a.jpg")


def test_explanations_have_no_recipe(tmp_path):
    path = save_image(RGB, tmp_path / "a.png", report=json.dumps({"explained": []}))
    with pytest.raises(fv.RecipeError) as caught:
        read_recipe(path)
    assert str(caught.value) == f"{path} is an explanation, which cannot be replayed; run featviz explain again"


@pytest.mark.parametrize("length", [100, 2_000_000])
def test_recipes_of_any_length_can_be_read(length):
    assert read_recipe(encode(RGB, ".png", "ö" * length)) == "ö" * length


def test_formats_that_cannot_be_written(tmp_path):
    with pytest.raises(fv.OutputError, match=r"^the format must be one of .png, .jpg, .jpeg, .webp, got '.bmp'$"):
        encode(RGB, ".bmp")
    with pytest.raises(fv.OutputError, match=r"^cannot write .*a.bmp: end it in .png, .jpg, .jpeg, .webp, or name "):
        save_image(RGB, tmp_path / "a.bmp")
    with pytest.raises(fv.OutputError, match=r"^cannot write 17000 x 8 px as .webp; end the name in .png$"):
        save_image(np.zeros((8, 17000, 3), np.uint8), tmp_path / "a.webp")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("mode", "values", "white"),
    [("I;16", np.uint16, 65535), ("F", np.float32, 1), ("L", np.uint8, 255), ("1", bool, True)],
)
def test_white_is_one_in_every_bit_depth(mode, values, white, tmp_path):
    pixels = np.zeros((4, 6), values)
    pixels[:, 3:] = white
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    with Image.open(tmp_path / "a.tif") as picture:
        assert picture.mode == mode
    found = read_image(tmp_path / "a.tif", 1)
    assert found.shape == (1, 4, 6) and found.dtype == np.float32
    assert found[0, 0].tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(("values", "low", "high"), [(np.float32, 0, 255), (np.float32, -1, 1), (np.int32, 0, 255)])
def test_numbers_whose_white_is_unknown_are_refused(values, low, high, tmp_path):
    path = tmp_path / "a.tif"
    picture = Image.fromarray(np.linspace(low, high, 24).reshape(4, 6).astype(values))
    picture.save(path)
    message = (
        f"{path} has 32-bit integers, whose white level is unknown; save it with 8 or 16 bits"
        if values is np.int32
        else f"cannot read {path}: the image has values from {low} to {high}, where black is 0 and white 1; "
        "scale them, or save it with 8 bits"
    )
    with pytest.raises(fv.OutputError, match=f"^{re.escape(message)}$"):
        read_image(path)
    if values is np.float32:
        with pytest.raises(fv.OutputError, match="^the image has values from"):
            pillow_pixels(picture)


def test_images_that_cannot_be_read(tmp_path):
    (tmp_path / "text.png").write_text("no image")
    whole = encode(RNG.integers(0, 256, (90, 140, 3), np.uint8), ".png")
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    Image.fromarray(RGB).save(
        tmp_path / "moves.gif", save_all=True, append_images=[Image.fromarray(RGB[::-1])], duration=40
    )
    for name, channels, message in (
        ("none.png", 3, "no file {}; check the path"),
        ("text.png", 3, "cannot read {} as an image; give a PNG, JPEG or WebP file"),
        ("half.png", 3, "{} is truncated; was it copied completely?"),
        ("moves.gif", 3, "{} is animated (2 frames); give a still image, or use featviz dream with -o FILE.gif"),
        ("none.png", 5, "an image file can be read as 1, 3 or 4 channels, not 5; give a tensor instead"),
    ):
        with pytest.raises(fv.OutputError) as caught:
            read_image(tmp_path / name, channels)
        assert str(caught.value) == message.format(tmp_path / name)


def saved(kind, path, frames=()):
    Image.fromarray(RGB).save(path, kind, **({"append_images": frames, "save_all": True} if frames else {}))
    return path


@pytest.mark.parametrize("kind", [*READ_FORMATS, "MPO"])
def test_formats_are_told_by_the_content_of_a_file(kind, tmp_path):
    frames = [Image.fromarray(RGB)] if kind == "MPO" else []
    assert read_image(saved(kind, tmp_path / "a.png", frames)).shape == (3, 9, 14)


@pytest.mark.parametrize("kind", ["EPS", "PDF", "PCX", "TGA", "PPM", "ICO", "JPEG2000", "SGI", "DDS"])
def test_formats_that_are_rare_or_run_programs_are_not_read(kind, tmp_path, monkeypatch):
    """A program in place of Ghostscript would leave a mark."""
    gs = tmp_path / "gs"
    gs.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    gs.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    (tmp_path / "folder").mkdir()
    path = saved(kind, tmp_path / "folder" / "a.png")
    copy = path.with_suffix(".gif")
    copy.write_bytes(path.read_bytes())
    readers = [
        read_image, open_image, read_photograph, read_recipe, read_report, fv.Recipe.of,
        lambda path: list(read_photographs(path.parent)), lambda path: read_image(str(path)),
        lambda path: read_recipe(path.read_bytes()), lambda path: read_video(copy),
        lambda path: load_given_images(path.parent, 3), lambda path: load_given_image(path, 3),
    ]  # fmt: skip
    for read in readers:
        with pytest.raises(fv.OutputError, match="cannot read .* as an image; give a PNG, JPEG or WebP file"):
            read(path)
    assert not (tmp_path / "ran").exists()


def test_what_is_no_regular_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    for path, kind in ((tmp_path / "a.png", "no regular file"), (tmp_path, "a folder")):
        with pytest.raises(fv.OutputError) as caught:
            read_image(path)
        assert str(caught.value) == f"{path} is {kind}; give an image file"
