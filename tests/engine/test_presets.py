"""Quality presets: read-only settings of `render`, and how single settings replace them."""

import inspect

import pytest

import featviz as fv
from featviz.engine.presets import PRESETS, preset


def test_presets_cannot_be_changed():
    with pytest.raises(TypeError):
        PRESETS["best"] = {"steps": 1}
    with pytest.raises(TypeError):
        PRESETS["best"]["steps"] = 1
    assert fv.PRESETS is PRESETS


def test_presets_hold_arguments_of_render():
    known = inspect.signature(fv.render).parameters
    assert all(name in known for settings in PRESETS.values() for name in settings)
    assert list(PRESETS) == ["draft", "usual", "best"]
    steps = [settings["steps"] for settings in PRESETS.values()]
    assert steps == sorted(steps)
    assert (known["quality"].default, known["steps"].default) == ("usual", None)


@pytest.mark.parametrize("quality", list(PRESETS))
def test_preset_returns_its_settings(quality):
    assert preset(quality) == dict(PRESETS[quality])


def test_overrides_replace_settings_unless_they_are_none():
    assert preset("draft", steps=7) == {"steps": 7}
    assert preset("draft", steps=0, seed=3) == {"steps": 0, "seed": 3}
    assert preset("draft", steps=None, seed=None) == {"steps": 320}


def test_returned_settings_can_be_changed():
    settings = preset("draft")
    settings["steps"] = 1
    assert preset("draft") == {"steps": 320}


@pytest.mark.parametrize("quality", ["good", "", None])
def test_unknown_preset(quality):
    with pytest.raises(fv.SettingError) as caught:
        preset(quality)
    assert str(caught.value) == f"quality must be one of draft, usual, best, got {quality!r}"
