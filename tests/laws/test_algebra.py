import pytest
import torch
import toys

import featviz as fv
from featviz import objectives as obj
from featviz.engine import parse_repr

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
def test_an_expression_scores_as_its_parts_do(acts, composed, by_hand):
    assert torch.allclose(composed(acts), by_hand(A(acts), B(acts)), atol=1e-5)
    assert obj.parse(str(composed))(acts).tolist() == composed(acts).tolist()


def test_operands_are_left_alone_and_multipliers_do_not_compound(acts):
    before = repr(A), repr(B)
    expression = 2 * A - 3 * (A - B)
    assert torch.allclose(expression(acts), -A(acts) + 3 * B(acts), atol=1e-5)
    assert (repr(A), repr(B)) == before


def test_hundreds_of_terms(acts):
    long = sum((k * A for k in range(500)), start=B)
    assert torch.allclose(long(acts), B(acts) + sum(range(500)) * A(acts), rtol=1e-4)
    assert obj.parse(str(long)) == long
    names = {name: getattr(obj, name) for name in obj.__all__}
    assert parse_repr(repr(long), names) == long


def test_hundreds_of_terms_from_the_right(acts):
    long = A
    for _ in range(500):
        long = B + long
    assert torch.allclose(long(acts), A(acts) + 500 * B(acts), rtol=1e-4)
    assert obj.parse(str(long)) == long
    with pytest.raises(fv.AddressError, match="its brackets go too deep"):
        obj.parse("(" * 5000 + "conv1:1" + ")" * 5000)


def test_equality_is_by_value():
    assert obj.Channel("a", 1) + 2 == obj.Channel("a", 1) + 2
    assert obj.Channel("a", 1) != obj.Channel("a", 2)
    assert len({obj.Logit("x"), obj.Logit("x"), obj.Probability("x")}) == 2


@pytest.mark.parametrize("nonsense", [None, "text", [1]])
def test_nonsense_is_refused(nonsense):
    with pytest.raises(fv.SettingError, match="an objective composes with numbers and objectives, not with"):
        A + nonsense
    if nonsense != "text":
        with pytest.raises((fv.SettingError, fv.AddressError)):
            fv.render(toys.plain(), [nonsense], steps=1)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("conv1:1 +", 9),
        ("conv1:1 conv2", 8),
        ("(conv1:1", 8),
        ("conv1:1 + !", 10),
        ("* 3", 0),
        ("", 0),
        ("conv1:1)", 7),
        ("conv1:1 / 0", 11),
        ("conv1:1 conv", 8),
    ],
)
def test_a_caret_shows_where_an_expression_goes_wrong(text, place):
    with pytest.raises(fv.AddressError) as caught:
        obj.parse(text)
    _, shown, mark = str(caught.value).split("\n")
    assert shown == f"  {text}"
    assert mark.index("^") == 2 + place
