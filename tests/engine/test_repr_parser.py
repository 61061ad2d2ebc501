"""Names of methods, params, transforms and optimizers as people type them."""

import pytest

import featviz as fv
from featviz.engine import parse_value
from featviz.optimizers import Ascent

M = fv.methods


@pytest.mark.parametrize(
    ("text", "package", "expected"),
    [
        ("grad-cam", M, M.GradCAM()),
        ("Guided-Backprop", M, M.GuidedBackprop()),
        ("integrated_gradients", M, M.IntegratedGradients()),
        ("IG", M, M.IntegratedGradients()),
        ("saliency", M, M.Gradient()),
        ("SmoothGrad", M, M.SMOOTHGRAD),
        ("smoothgrad-squared", M, M.SMOOTHGRAD_SQUARED),
        ("input x gradient", M, M.InputXGradient()),
        ("fft", fv.param, fv.param.Fourier()),
        ("Pixels", fv.param, fv.param.Pixel()),
        ("lucid", fv.transforms, fv.transforms.LUCID),
        ("sgd", fv.optimizers, Ascent()),
    ],
)
def test_names_in_any_spelling_and_synonyms(text, package, expected):
    assert parse_value(text, package) == expected


@pytest.mark.parametrize("package", [M, fv.param, fv.transforms, fv.optimizers])
def test_synonyms_name_public_values_and_hide_none(package):
    plain = {name.lower().replace("_", "") for name in package.__all__}
    for synonym, name in package.SYNONYMS.items():
        assert name in package.__all__ and synonym not in plain


def test_misspelt_names_get_suggestions():
    with pytest.raises(fv.SettingError, match="^there is no 'grad-cm' in methods; nearest: 'GradCAM'"):
        parse_value("grad-cm", M)


def test_own_values_come_first():
    assert parse_value("mine", M, {"mine": 3}) == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gradcam(layer='stage2')", M.GradCAM("stage2")),
        ("ig(steps=4)", M.IntegratedGradients(steps=4)),
        ("noisetunnel(saliency(), samples=3)", M.NoiseTunnel(M.Gradient(), samples=3)),
    ],
)
def test_calls_are_found_in_any_spelling(text, expected):
    assert parse_value(text, M) == expected


def test_a_call_of_an_unknown_name_is_refused():
    with pytest.raises(fv.RecipeError, match="^'gradcem' is no name of featviz; nearest: 'GradCAM'"):
        parse_value("gradcem(layer='stage2')", M)
