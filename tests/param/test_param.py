"""All params: any size and number of channels, and refused arguments."""

import pytest
import torch
import toys

import featviz as fv
from featviz import param
from featviz.errors import SettingError
from featviz.param.prior import Prior
from featviz.random import Generators


def test_the_leaves_of_pixel_are_the_canvas():
    leaves = param.Pixel().start(Generators([3]), 2, (4, 5))
    assert torch.equal(param.Pixel().canvas(leaves, (4, 5)), leaves[0])


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 24])
@pytest.mark.parametrize("size", [(1, 1), (7, 4), (8, 31)])
def test_params_work_at_any_size_and_number_of_channels(channels, size):
    for spatial in (param.Fourier(), param.Pixel()):
        image_param = param.Image(size, spatial=spatial)
        images = image_param.images(image_param.start(Generators([0, 1]), channels, size), size)
        assert images.shape == (2, channels, *size)
        assert images.min() >= 0 and images.max() <= 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: param.Image(0), "size must be at least 1 px on each side, got 0 x 0"),
        (lambda: param.Image(batch=0), "batch must be a whole number in [1, 65536], got 0"),
    ],
)
def test_wrong_size_and_batch_are_refused(make, message):
    with pytest.raises(SettingError) as caught:
        make()
    assert str(caught.value) == message


def test_the_recipe_stores_the_size_of_an_image_that_is_drawn_again(tmp_path):
    net = toys.plain()
    spatial = param.CPPN(4, 2)
    rendering = fv.render(net, ["conv2:1", "conv2:2"], param=spatial, transforms=(), steps=4).at((50, 70))
    assert rendering.images.shape == (2, 3, 50, 70)
    (path,) = rendering[1].save(tmp_path / "a.png")
    again = fv.replay(path, network=net)
    assert again.images.equal(rendering.images[1:])
    with pytest.raises(SettingError, match=r"^these images have a fixed size; render with param.CPPN\(\)"):
        fv.render(net, "conv2:1", steps=1).at(20)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fv.fit_prior("nowhere"), "no folder nowhere; give a folder of images"),
        (lambda: fv.fit_prior("."), "no images in .; it needs files that end in .png, .jpg, .jpeg"),
        (
            lambda: fv.fit_prior([torch.rand(3, 8, 8)]),
            "a prior needs at least 2 images, got 1; 100 or more are recommended",
        ),
        (
            lambda: fv.fit_prior([torch.rand(1, 8, 8)]),
            "images must have shape (3, h, w), got (1, 8, 8); give channels= to read others",
        ),
        (lambda: fv.fit_prior([], size=7), "size must be a whole number in [8, 4096], got 7 (default 224)"),
        (lambda: Prior.load("none.json"), "no file none.json; create it with: featviz fit-prior FOLDER -o none.json"),
        (lambda: param.CPPN(0), "width of CPPN must be a whole number in [1, 4096], got 0 (default 24)"),
        (lambda: param.Fourier(std=-1), "std of Fourier must be >= 0, got -1 (default 0.025)"),
        (lambda: param.Pixel(-1), "std of Pixel must be >= 0, got -1 (default 0.01)"),
        (lambda: param.Pyramid(std=-1), "std of Pyramid must be >= 0, got -1 (default 0.01)"),
        (
            lambda: param.Shared(std=float("nan")),
            "std of Shared must be a finite number >= 0, got nan (default 0.01)",
        ),
        (lambda: param.Pyramid(0), "levels of Pyramid must be a whole number in [1, 32], got 0 (default 4)"),
        (lambda: param.Shared(factors=()), "factors must be one or more integers >= 1, got () (default (2, 4, 8))"),
        (
            lambda: param.Stack(()),
            "fixed must hold at least one image, got (); without any, use param.Image(batch=...)",
        ),
        (
            lambda: fv.render(toys.plain(), "conv2:1", param=param.Masked(torch.ones(4, 4))),
            "Masked keeps an image outside of its mask and needs one to start from; use start=, or --start",
        ),
        (
            lambda: fv.render(toys.plain(), "diversity(conv2)"),
            "diversity(conv2) compares images of a batch, and there is one; use batch=4, or --batch 4",
        ),
    ],
)
def test_wrong_arguments_are_refused(make, message):
    with pytest.raises(fv.FeatvizError) as caught:
        make()
    assert str(caught.value).startswith(message)
