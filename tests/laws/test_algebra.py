"""Laws of the objective algebra: scores follow arithmetic, text parses to an equal objective."""

import pytest
import torch
import toys

import featviz as fv
from featviz import objectives as obj
from featviz.engine import parse_repr
from featviz.network import find

A, B = obj.Channel("conv2", 1), obj.Logit("bee")


@pytest.fixture(scope="module")
def acts():
    return toys.plain().capture(torch.rand(3, 3, 16, 20, generator=torch.Generator().manual_seed(0)), ["conv2", ""])


@pytest.mark.parametrize(
    ("composed", "by_hand"),
    [
        (A + B, lambda a, b: a + b),
        (A - B, lambda a, b: a - b),
        (A * B, lambda a, b: a * b),
        (A / B, lambda a, b: a / b),
        (-A, lambda a, b: -a),
        (2 * A, lambda a, b: 2 * a),
        (A / 4, lambda a, b: a / 4),
        (1 / A, lambda a, b: 1 / a),
        (3 + A, lambda a, b: 3 + a),
        (3 - A, lambda a, b: 3 - a),
        (A - 3, lambda a, b: a - 3),
        (A - (B - A), lambda a, b: a - (b - a)),
        (A / (B / A), lambda a, b: a / (b / a)),
        (2 * (A + B) * 0.5 - B, lambda a, b: a),
        (sum([A, B, A]), lambda a, b: 2 * a + b),
    ],
)
def test_score_of_an_expression_is_the_expression_of_scores(acts, composed, by_hand):
    assert torch.allclose(composed(acts), by_hand(A(acts), B(acts)), atol=1e-5)
    assert obj.parse(str(composed))(acts).tolist() == composed(acts).tolist()


def test_operators_do_not_change_their_operands(acts):
    before = repr(A), repr(B)
    expression = 2 * A - 3 * (A - B)
    assert torch.allclose(expression(acts), -A(acts) + 3 * B(acts), atol=1e-5)
    assert (repr(A), repr(B)) == before


def test_sum_of_hundreds_of_terms(acts):
    long = sum((k * A for k in range(500)), start=B)
    assert torch.allclose(long(acts), B(acts) + sum(range(500)) * A(acts), rtol=1e-4)
    assert obj.parse(str(long)) == long
    names = {name: getattr(obj, name) for name in obj.__all__}
    assert parse_repr(repr(long), names) == long


def test_sum_of_hundreds_of_terms_added_on_the_left(acts):
    long = A
    for _ in range(500):
        long = B + long
    assert torch.allclose(long(acts), A(acts) + 500 * B(acts), rtol=1e-4)
    assert obj.parse(str(long)) == long


def test_too_many_nested_brackets():
    text = "(" * 5000 + "conv1:1" + ")" * 5000
    with pytest.raises(fv.AddressError) as caught:
        obj.parse(text)
    assert str(caught.value) == f"cannot parse the objective: too many nested brackets in {text[:40]}…"


def test_equality_is_by_value():
    assert obj.Channel("a", 1) + 2 == obj.Channel("a", 1) + 2
    assert obj.Channel("a", 1) != obj.Channel("a", 2)
    assert len({obj.Logit("x"), obj.Logit("x"), obj.Probability("x")}) == 2


@pytest.mark.parametrize("value", [None, "text", [1]])
def test_operands_must_be_numbers_or_objectives(value):
    with pytest.raises(fv.SettingError) as caught:
        A + value
    assert str(caught.value) == f"an objective composes with numbers and objectives, not with {value!r}"


@pytest.mark.parametrize("value", [float("inf"), float("nan"), -float("inf")])
def test_numbers_must_be_finite(value):
    for make in (lambda: value * A, lambda: A + value, lambda: A / value):
        with pytest.raises(fv.SettingError, match=r"^numbers in an objective must be finite, got -?(inf|nan)$"):
            make()
    with pytest.raises(fv.SettingError, match=r"^numbers in an objective must be finite, got int$"):
        10**400 * A


@pytest.mark.parametrize("value", [None, [1]])
def test_only_text_and_objectives_can_be_rendered(value):
    with pytest.raises(fv.SettingError) as caught:
        fv.render(toys.plain(), [value], steps=1)
    assert (
        str(caught.value)
        == f"an objective must be text, or have layers and be callable, got {value!r}; use e.g. 'layer:channel'"
    )


@pytest.mark.parametrize(
    ("text", "column", "reason"),
    [
        ("conv1:1 +", 9, "expected layer:channel, logit:class or a number here"),
        ("conv1:1 conv2", 8, "expected + - * / here; write a class as logit:NAME"),
        ("(conv1:1", 8, "expected ) here"),
        ("conv1:1 + !", 10, "expected layer:channel@y,x or logit:class"),
        ("* 3", 0, "expected layer:channel, logit:class or a number here"),
        ("", 0, "expected layer:channel, logit:class or a number here"),
        ("conv1:1)", 7, "expected + - * / here; write a class as logit:NAME"),
        ("conv1:1 / 0", 11, "cannot divide by 0"),
        ("conv1:1 conv", 8, "expected + - * / here; write a class as logit:NAME"),
        ("2 * diversty(conv1)", 4, "there is no function 'diversty'; nearest: 'diversity', 'style', 'difference'"),
        ("2 * tv(3)", 4, "tv takes no arguments"),
        ("match(conv1:1)", 0, "match takes layer, image; write file names in quotes"),
        ("conv1:1 * ramp(0, 1, 2)", 10, "a ramp needs 0 <= begin < end <= 1, got begin=2 and end=1.0"),
    ],
)
def test_caret_marks_the_error_in_an_expression(text, column, reason):
    with pytest.raises(fv.AddressError) as caught:
        obj.parse(text)
    assert str(caught.value) == f"cannot parse the objective: {reason}\n  {text}\n  {' ' * column}^"


def test_terms_with_brackets_have_any_spelling():
    for text in ("diversity(conv1)", "Diversity(conv1)", "DIVERSITY (conv1)"):
        assert obj.parse(text) == obj.Diversity("conv1")


@pytest.mark.parametrize("name", ['"a\\q"', '"a\tb"', '"\\u12"'])
def test_names_that_are_no_json_strings_are_refused(name):
    with pytest.raises(fv.AddressError, match="^cannot read the name .* in it$"):
        obj.parse(f"{name}:3 - tv")


def test_an_unknown_term_lists_the_known_ones():
    with pytest.raises(fv.AddressError) as caught:
        obj.parse("qqq(conv1, 5)")
    message = str(caught.value).splitlines()[0]
    assert message.startswith("cannot parse the objective: there is no function 'qqq'; there are alignment, blur, ")
    assert message.endswith(
        "and units are written layer:channel, layer:channel@y,x, layer~feature, logit:class and prob:class"
    )


@pytest.mark.parametrize("file", ["cat.jpg", "photos/my cat.JPEG", "../a-b_c.d/0.png", "/tmp/x.tiff", "1.webp"])
def test_file_names_need_no_quotes(file):
    assert obj.parse(f"match(conv1, {file})") == obj.parse(f"match(conv1, '{file}')") == obj.Match("conv1", file)
    assert obj.parse(f"2 * match(conv1 , {file} ) / 3 - tv").layers == {"conv1"}


TYPED = """
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from featviz import objectives as obj

if TYPE_CHECKING:
    from elsewhere import Name

@dataclass(frozen=True)
class Typed(obj.Objective):
    layer: Name
    text_name = "typedterm"

    def __call__(self, acts):
        return acts[self.layer].flatten(1).mean(1)
"""


def test_a_term_whose_field_type_does_not_exist_at_run_time(tmp_path):
    (tmp_path / "typed_terms.py").write_text(TYPED)
    typed = find(f"{tmp_path / 'typed_terms.py'}:Typed")
    with pytest.raises(fv.AddressError) as caught:
        obj.parse("typedterm(conv1)")
    assert str(caught.value) == (
        "cannot read the field types of 'typedterm' (Typed): name 'Name' is not defined; "
        "import the type outside of `if TYPE_CHECKING`"
    )
    typed.text_name = ""  # no other test can name it


def test_products_that_are_nested_too_deeply_are_refused():
    text = "conv2:1 / " * 50 + "conv2:2"
    assert len(str(fv.objectives.parse(text)).split("/")) == 51
    for deep in (text + " / conv2:3", "(" * 60 + "2 * conv2:1" + " + tv) * conv1:0" * 60):
        with pytest.raises(fv.SettingError) as caught:
            fv.objectives.parse(deep)
        assert str(caught.value) == "an objective may nest at most 50 products and quotients; give a shorter one"
    assert len(fv.objectives.parse(" + ".join(["conv2:1"] * 400)).terms) == 400


@pytest.mark.parametrize("name", ["logit", "prob"])
@pytest.mark.parametrize("kind", [lambda name: obj.Channel(name, 3), lambda name: obj.Neuron(name, 3, (1, 2))])
def test_layers_that_are_named_like_classes_are_quoted(name, kind):
    unit = kind(name)
    assert str(unit).startswith(f'"{name}":3')
    assert obj.parse(str(unit)) == unit != obj.parse(str(unit).replace('"', "").partition("@")[0])
    assert obj.parse(f"{name}:3") in (obj.Logit(3), obj.Probability(3))
    assert obj.parse(name) == obj.Layer(name)


def test_constants_add_up_to_a_constant():
    one = obj.TotalVariation() * 0 + 1
    constant = one.terms[1]
    assert repr(constant + constant) == "2"
    with pytest.raises(fv.SettingError, match="must be finite"):
        _ = 1e308 + (1e308 + obj.TotalVariation())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2 * score", "'score' is not an objective; decorate the function with @objectives.objective('layer')"),
        ("score", "'score' is not an objective; decorate the function with @objectives.objective('layer')"),
        ("1e308 * 10 * tv", "a number before this place is too large"),
        ("tv + 1e308 * 10", "a number before this place is too large"),
        ("1e308 + 1e308 + tv", "a number before this place is too large"),
        ("*".join(["999999999999999999"] * 18) + "/3 + tv", "a number before this place is too large"),
    ],
)
def test_values_that_are_no_objective_are_refused_in_one_line(text, message):
    with pytest.raises(fv.AddressError) as caught:
        obj.parse(text, {"score": lambda acts: 0})
    assert message in str(caught.value)
