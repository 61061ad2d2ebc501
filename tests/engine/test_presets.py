"""Quality presets: steps, size and optimizer of renders, and how arguments replace them."""

import inspect
from dataclasses import FrozenInstanceError

import pytest
import torch
import toys

import featviz as fv
from featviz import param
from featviz.engine.presets import PRESETS, Preset, find_preset
from featviz.optimizers import Adam, Ascent


def test_presets_cannot_be_changed():
    with pytest.raises(TypeError):
        PRESETS["best"] = Preset(1)
    with pytest.raises(FrozenInstanceError):
        PRESETS["best"].steps = 1
    assert fv.PRESETS is PRESETS


def test_better_presets_take_more_steps():
    assert list(PRESETS) == ["draft", "usual", "best"]
    steps = [preset.steps for preset in PRESETS.values()]
    assert steps == sorted(steps)


def test_usual_is_the_default():
    known = inspect.signature(fv.render).parameters
    assert (known["quality"].default, known["steps"].default, known["optimizer"].default) == ("usual", None, None)


@pytest.mark.parametrize("quality", ["good", "", None])
def test_unknown_preset(quality):
    with pytest.raises(fv.SettingError) as caught:
        find_preset(quality)
    assert str(caught.value) == f"quality must be one of draft, usual, best, got {quality!r}"


@pytest.mark.parametrize("function", [fv.gallery, fv.sweep, fv.unit, fv.circuit, fv.texture, fv.render])
def test_quality_is_checked_before_anything_else(function):
    """Folders are not read, and nothing is written."""
    required = [each for each in inspect.signature(function).parameters.values() if each.default is each.empty]
    with pytest.raises(fv.SettingError) as caught:
        function(toys.plain(), *["none"] * (len(required) - 1), quality="fine")
    assert str(caught.value) == "quality must be one of draft, usual, best, got 'fine'"


def network(*size, fixed=False):
    """A network of this input size; a fixed one has a weight for each position."""
    inputs = 2 * (size[0] - 2) * (size[1] - 2)
    head = [] if fixed else [torch.nn.AdaptiveAvgPool2d(1)]
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 2, 3), *head, torch.nn.Flatten(), torch.nn.Linear(inputs if fixed else 2, 3)
    )
    return fv.Network(module, size=size, mean=(0.5,) * 3, std=(0.5,) * 3)


@pytest.mark.parametrize(
    ("size", "wanted"),
    [((224, 224), (128, 128)), ((384, 384), (219, 219)), ((150, 150), (128, 128)), ((160, 320), (128, 256))],
)
def test_drafts_are_smaller(size, wanted):
    assert PRESETS["draft"].size(network(*size)) == wanted


@pytest.mark.parametrize("other", [network(128, 128), network(64, 64), network(160, 160, fixed=True)])
def test_drafts_have_the_size_of_small_inputs_and_of_networks_that_accept_no_other(other):
    assert PRESETS["draft"].size(other) is None


@pytest.mark.parametrize("quality", ["usual", "best"])
def test_other_images_have_the_input_size(quality):
    assert PRESETS[quality].size(network(224, 224)) is None


def test_signals_have_the_input_size():
    module = torch.nn.Sequential(torch.nn.Conv1d(1, 2, 3), torch.nn.AdaptiveAvgPool1d(1), torch.nn.Flatten())
    signals = fv.Network(module, axes="x", size=(4096,), mean=(0.0,), std=(1.0,))
    assert PRESETS["draft"].size(signals) is None


def recipe(**settings):
    return fv.render(network(160, 160), "0:1", **{"until": 0, "robustness_views": 0, **settings}).recipe


@pytest.mark.parametrize(
    ("quality", "steps", "size"),
    [("draft", 216, (128, 128)), ("usual", 512, None), ("best", 1536, None)],
)
def test_quality_sets_steps_and_size(quality, steps, size):
    made = recipe(quality=quality)
    assert (made.steps, made.optimizer, made.param) == (steps, repr(Adam()), repr(param.Image(size)))


@pytest.mark.parametrize(
    ("settings", "name", "wanted"),
    [
        ({"steps": 3}, "steps", 3),
        ({"lr": 0.01}, "optimizer", repr(Adam(0.01))),
        ({"optimizer": "adam"}, "optimizer", repr(Adam())),
        ({"optimizer": Ascent()}, "optimizer", repr(Ascent())),
        ({"size": 96}, "param", repr(param.Image((96, 96)))),
        ({"param": param.Image(96)}, "param", repr(param.Image(96))),
        ({"param": "pixel"}, "param", repr(param.Image((128, 128), spatial=param.Pixel()))),
        ({"param": param.Alpha()}, "param", repr(param.Alpha(param.Image((128, 128))))),
        ({"batch": 2}, "param", repr(param.Image((128, 128), 2))),
    ],
)
def test_arguments_replace_single_settings_of_a_draft(settings, name, wanted):
    assert getattr(recipe(quality="draft", **settings), name) == wanted


def test_a_draft_has_the_size_of_its_start():
    start = torch.full((3, 140, 140), 0.5)
    made = fv.render(network(160, 160), "0:1", quality="draft", start=start, until=0, robustness_views=0)
    assert made.images.shape[2:] == (140, 140)


def test_a_param_of_ones_own_keeps_its_size():
    class Squares:
        size, batch = None, 1

        def start(self, rng, channels, size):
            return [torch.zeros(1, channels, *size, requires_grad=True)]

        def fit(self, images):
            return [images.clone().requires_grad_()]

        def images(self, leaves, size):
            return leaves[0].sigmoid()

    made = fv.render(network(160, 160), "0:1", quality="draft", param=Squares(), until=0, robustness_views=0)
    assert made.images.shape[2:] == (160, 160)


def test_a_draft_is_replayed_from_its_recipe():
    large = network(160, 160)
    drawn = fv.render(large, "0:1", quality="draft", steps=3, robustness_views=0)
    again = fv.replay(drawn.recipe, network=large)
    assert drawn.images.shape[2:] == (128, 128)
    assert torch.equal(drawn.images, again.images)
