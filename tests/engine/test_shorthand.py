"""Names of values, a size, a quality preset and a learning rate as arguments of `render`."""

import pytest
import toys
from PIL import Image

import featviz as fv
from featviz import param
from featviz import transforms as T
from featviz.engine.shorthand import as_param
from featviz.io import auto_bar, default_progress


def recipe(**more):
    return fv.render(toys.plain(), "conv2:1", **{"steps": 2, "robustness_views": 0, **more}).recipe


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ({"size": 40}, {"param": param.Image((40, 40))}),
        ({"size": (24, 40)}, {"param": param.Image((24, 40))}),
        ({"param": "cppn", "size": 20}, {"param": param.Image((20, 20), spatial=param.CPPN())}),
        ({"param": "Fourier(decay=1.5)"}, {"param": param.Image(spatial=param.Fourier(decay=1.5))}),
        ({"param": param.Alpha(), "size": 20}, {"param": param.Alpha(param.Image((20, 20)))}),
        ({"batch": 2}, {"param": param.Image(batch=2)}),
        ({"lr": 0.1}, {"optimizer": fv.optimizers.Adam(0.1)}),
        ({"optimizer": "adam"}, {}),
        ({"optimizer": "Ascent(lr=2.0)"}, {"optimizer": fv.optimizers.Ascent(lr=2.0)}),
        ({"transforms": "lucid"}, {"transforms": T.LUCID}),
        ({"transforms": "(Pad(2), Jitter(4))"}, {"transforms": (T.Pad(2), T.Jitter(4))}),
    ],
)
def test_short_forms_mean_the_same(short, long):
    assert recipe(**short) == recipe(**long)


class WithoutFit:
    def start(self, rng, channels, size):
        raise NotImplementedError

    def canvas(self, leaves, size):
        raise NotImplementedError


class ParamWithoutStart:
    def fit(self, images):
        raise NotImplementedError

    def images(self, leaves, size):
        raise NotImplementedError


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (WithoutFit(), "is not a param: it lacks fit; a spatial part needs start, fit and canvas"),
        (ParamWithoutStart(), "is not a param: it lacks start; a param needs start, fit and images"),
        (
            param.Plain(),
            "Plain() is not a param; use e.g. param.Image(size=224) or a spatial part such as param.Pixel()",
        ),
        ("fourir", "there is no 'fourir' in param; nearest: 'Fourier'"),
    ],
)
def test_what_is_no_param_is_told_what_it_lacks(given, message):
    with pytest.raises(fv.SettingError) as caught:
        as_param(given)
    assert str(caught.value).endswith(message)


def test_a_learning_rate_is_that_of_adam():
    with pytest.raises(fv.SettingError) as caught:
        recipe(optimizer="ascent", lr=2)
    message = "lr needs the optimizer adam, got Ascent(lr=1.0); give the rate there, as in Ascent(lr=2.0)"
    assert str(caught.value) == message


def test_images_as_pillow_images():
    one = fv.render(toys.plain(), "conv2:1", steps=1, size=(24, 40))
    assert isinstance(one.image, Image.Image) and one.image.size == (40, 24) and one.image.mode == "RGB"
    several = fv.render(toys.plain(), ["conv2:1", "conv2:2"], param="alpha", size=20, steps=1)
    assert [(each.size, each.mode) for each in several.images_pil] == [((20, 20), "RGBA")] * 2
    assert several.image.size[0] > 40


class Terminal:
    """Standard error of a terminal."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text

    def flush(self):
        pass

    def isatty(self):
        return True


def test_a_bar_is_drawn_by_default_in_terminals_only(monkeypatch, tmp_path):
    assert default_progress("x") is None
    fv.render(toys.plain(), "conv2:1", steps=2)
    for options, drawn in (({}, True), ({"progress": None}, False), ({"progress": lambda *_: None}, False)):
        terminal = Terminal()
        monkeypatch.setattr("sys.stderr", terminal)
        fv.render(toys.plain(), "conv2:1", steps=2, **options)
        assert ("render: 100%" in terminal.text) is drawn
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    fv.sweep(toys.plain(), tmp_path, "conv2", channels=[0, 1], steps=1, size=16)
    assert "sweep: 100%" in terminal.text and "render" not in terminal.text  # the renders inside draw no bars
    assert auto_bar(1, 2) is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"param": param.Pixel}, "<class 'featviz.param.pixel.Pixel'> is not a param"),
        ({"param": param.Image}, "<class 'featviz.param.image.Image'> is not a param"),
        ({"optimizer": fv.optimizers.Adam}, "<class 'featviz.optimizers.Adam'> is not an optimizer"),
        ({"transforms": (T.Flip,)}, "<class 'featviz.transforms.geometry.Flip'> is not a transform"),
        ({"transforms": T.Flip}, "<class 'featviz.transforms.geometry.Flip'> is not a transform"),
        (
            {"objective": fv.objectives.TotalVariation},
            "an objective must be text, or have layers and be callable, got <",
        ),
    ],
    ids=str,
)
def test_a_class_in_place_of_an_object_is_refused(given, message):
    with pytest.raises(fv.SettingError) as caught:
        fv.render(toys.plain(), **{"objective": "conv2:1", "steps": 1, **given})
    assert str(caught.value).startswith(message)


def test_a_class_is_no_spatial_part():
    with pytest.raises(fv.SettingError) as caught:
        param.Image(spatial=param.Pixel)
    message = "the spatial part of a param needs the methods start, fit and canvas; got <class "
    assert str(caught.value).startswith(message)
