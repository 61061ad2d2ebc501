"""The input specification: which values are refused, and what the module gets for an image in [0, 1]."""

import numpy as np
import pytest
import torch

import featviz as fv
from featviz.network.inputs.input_spec import InputSpec

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NAN, INF = float("nan"), float("inf")


def spec(**more):
    return InputSpec(**{"size": 8, "mean": MEAN, "std": STD, **more})


def test_values_are_converted():
    assert spec().size == (8, 8)
    assert spec(size=[8, 12]).size == (8, 12)
    assert spec(size=np.int64(8)).size == (8, 8)
    assert spec(mean=[0, 1, 0.5]).mean == (0.0, 1.0, 0.5)
    assert spec(std=np.array([1, 2, 4])).std == (1.0, 2.0, 4.0)
    assert spec(std=torch.tensor([1, 2, 4])).std == (1.0, 2.0, 4.0)
    assert all(type(value) is float for value in spec(mean=[0, 1, 1]).mean)
    assert spec(mean=list(MEAN)) == spec()
    assert spec().channels == 3
    assert spec(mean=(0.5,), std=(0.5,)).channels == 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"size": 0}, "size must be at least 1 px on each side, got 0 x 0"),
        ({"size": (8, -1)}, "size must be at least 1 px on each side, got 8 x -1"),
        (
            {"mean": (0.5,)},
            "mean and std need one value per channel each, got (0.5,) and (0.229, 0.224, 0.225)",
        ),
        ({"mean": (), "std": ()}, "mean and std need one value per channel each, got () and ()"),
        ({"std": (0.2, 0, 0.2)}, "std must be > 0, got (0.2, 0.0, 0.2)"),
        ({"std": (0.2, -1, 0.2)}, "std must be > 0, got (0.2, -1.0, 0.2)"),
        (
            {"mean": (-0.1, 0.5, 0.5)},
            "mean must be in [0, 1], as the images are, got (-0.1, 0.5, 0.5); for images in 0..255 divide mean and std "
            "by 255",
        ),
        (
            {"mean": (124, 116, 104)},
            "mean must be in [0, 1], as the images are, got (124.0, 116.0, 104.0); for images in 0..255 divide mean "
            "and std by 255",
        ),
        ({"mean": 0.5}, "mean must be a sequence with one number per channel, e.g. mean=(0.1307,), got 0.5"),
        ({"std": None}, "std must be a sequence with one number per channel, e.g. std=(0.3081,), got None"),
        ({"std": "0.5"}, "std must be a sequence with one number per channel, e.g. std=(0.3081,), got '0.5'"),
        (
            {"mean": ("a", "b", "c")},
            "mean must be a sequence with one number per channel, e.g. mean=(0.1307,), got ('a', 'b', 'c')",
        ),
        ({"value_range": 3}, "value_range must be a sequence with the lowest and the highest value, got 3"),
        ({"axes": ["yx"]}, "axes must be yx for the size (8, 8), got ['yx']"),
        ({"channel_order": "rgb"}, "channel_order must be RGB or BGR, got 'rgb'"),
        ({"channel_order": None}, "channel_order must be RGB or BGR, got None"),
        ({"layout": "CHW"}, "layout must be NCHW or NHWC, got 'CHW'"),
    ],
)
def test_invalid_values(more, message):
    with pytest.raises(fv.SettingError) as caught:
        spec(**more)
    assert str(caught.value) == message


@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize(("name", "value"), [("mean", NAN), ("mean", INF), ("std", NAN), ("std", INF)])
def test_values_that_are_not_finite(name, value, position):
    values = [0.5, 0.5, 0.5]
    values[position] = value
    with pytest.raises(fv.SettingError, match=f"^{name} must be "):
        spec(**{name: values})


# ---------------------------------------------------------------------------------------------- normalisation


def slowly_normalised(given, images):
    """Return what the module expects, one number at a time."""
    n, c, h, w = images.shape
    nchw = given.layout == "NCHW"
    result = torch.zeros((n, c, h, w) if nchw else (n, h, w, c), dtype=torch.float64)
    for i in range(n):
        for channel in range(c):
            new = channel if given.channel_order == "RGB" else c - 1 - channel
            for y in range(h):
                for x in range(w):
                    value = (images[i, channel, y, x].item() - given.mean[channel]) / given.std[channel]
                    result[(i, new, y, x) if nchw else (i, y, x, new)] = value
    return result


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("channel_order", ["RGB", "BGR"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_normaliser(channel_order, layout, dtype):
    """`mean` and `std` are those of red, green and blue in this order, whatever order the module expects."""
    given = spec(channel_order=channel_order, layout=layout)
    images = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    found = given.normaliser(torch.empty(1, dtype=dtype))(images)
    assert found.dtype == dtype
    expected = slowly_normalised(given, images)
    assert found.shape == expected.shape
    tolerance = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}[dtype]
    assert (found.double() - expected).abs().max() < tolerance


def test_normaliser_of_grey_images_is_differentiable():
    given = spec(mean=(0.25,), std=(0.5,))
    images = torch.full((1, 1, 2, 2), 0.75, requires_grad=True)
    found = given.normaliser(torch.empty(1))(images)
    assert torch.equal(found, torch.ones(1, 1, 2, 2))
    found.sum().backward()
    assert torch.equal(images.grad, torch.full((1, 1, 2, 2), 2.0))


# ---------------------------------------------------------------------------------------------- images


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(3, 8, 8), "net expects images of shape (n, 3, h, w) in [0, 1], got (3, 8, 8)"),
        (torch.rand(1, 1, 8, 8), "net expects images of shape (n, 3, h, w) in [0, 1], got (1, 1, 8, 8)"),
        (torch.rand(1, 8, 8, 3), "net expects images of shape (n, 3, h, w) in [0, 1], got (1, 8, 8, 3)"),
        (
            torch.zeros(1, 3, 8, 8, dtype=torch.uint8),
            "net expects floating-point images in [0, 1], got torch.uint8",
        ),
    ],
)
def test_images_that_are_no_batch_of_the_right_kind(images, message):
    with pytest.raises(fv.SettingError) as caught:
        spec().check(images, "net")
    assert str(caught.value) == message


def test_batches_of_any_size_pass_the_check():
    spec().check(torch.rand(2, 3, 5, 9), "net")
    spec(layout="NHWC").check(torch.rand(2, 3, 5, 9).double(), "net")  # the layout is the module's, not the images'


def test_the_mean_of_signals_is_finite():
    with pytest.raises(fv.SettingError, match=r"^mean must be finite, got \(inf,\)$"):
        fv.InputSpec((16,), (float("inf"),), (1.0,))
