"""Laws of text: addresses and objectives parse to equal values, from their `str` and from their `repr`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featviz import objectives as obj
from featviz.errors import AddressError
from featviz.objectives.address import Address

LAYERS = st.from_regex(r"[A-Za-z_]\w{0,6}(\.\w{1,4}){0,3}", fullmatch=True).filter(
    lambda name: name not in ("logit", "prob") and name.isascii()
)
INDEX = st.integers(0, 9999)
POSITIONS = st.one_of(st.just("cls"), st.just("center"), st.tuples(INDEX, INDEX))
CLASSES = st.one_of(
    INDEX, st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
)

ADDRESSES = st.one_of(
    st.builds(Address, st.one_of(LAYERS, st.text("ab.0 -:@", min_size=1))),
    st.builds(Address, LAYERS, INDEX),
    st.builds(Address, LAYERS, INDEX, POSITIONS),
    st.builds(Address, st.sampled_from(["logit", "prob"]), CLASSES),
)


@given(ADDRESSES)
def test_str_of_an_address_parses_to_an_equal_one(address):
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("inception4a", Address("inception4a")),
        ("inception4a:476", Address("inception4a", 476)),
        ("features.14:5@7,9", Address("features.14", 5, (7, 9))),
        ("blocks.3:0@cls", Address("blocks.3", 0, "cls")),
        ("0.block:3", Address("0.block", 3)),
        ("logit:17", Address("logit", 17)),
        ('logit:"17"', Address("logit", "17")),
        ("prob:great white shark", Address("prob", "great white shark")),
        ("logit:jack-o'-lantern", Address("logit", "jack-o'-lantern")),
    ],
)
def test_address_parses_and_prints(text, address):
    assert Address.parse(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    ("text", "column"), [("a:b", 1), ("a:1@", 3), ("", 0), ("a b", 1), ("a:1@x", 3), ("logit:", 5)]
)
def test_caret_marks_the_error_in_an_address(text, column):
    with pytest.raises(AddressError) as caught:
        Address.parse(text)
    reason = "expected layer:channel@y,x or logit:class"
    assert str(caught.value) == f"cannot parse the address: {reason}\n  {text}\n  {' ' * column}^"


UNITS = st.one_of(
    st.builds(obj.Channel, LAYERS, INDEX),
    st.builds(obj.Neuron, LAYERS, INDEX, POSITIONS),
    st.builds(obj.Layer, LAYERS),
    st.builds(obj.Logit, CLASSES),
    st.builds(obj.Probability, CLASSES),
)
NUMBERS = st.one_of(st.integers(-9, 9), st.floats(-1e3, 1e3, allow_nan=False).map(lambda x: round(x, 3)))
OBJECTIVES = st.recursive(
    UNITS,
    lambda inner: st.one_of(
        st.builds(lambda a, b: a + b, inner, inner),
        st.builds(lambda a, b: a - b, inner, inner),
        st.builds(lambda a, b: a * b, inner, inner),
        st.builds(lambda a, b: a / b, inner, inner),
        st.builds(lambda a: -a, inner),
        st.builds(lambda n, a: n * a, NUMBERS, inner),
        st.builds(lambda n, a: n + a, NUMBERS, inner),
        st.builds(lambda n, a: a / n, NUMBERS.filter(bool), inner),
    ),
    max_leaves=6,
)


@given(OBJECTIVES)
def test_str_of_an_objective_parses_to_an_equal_one(objective):
    assert obj.parse(str(objective)) == objective


@pytest.mark.parametrize("others", [(), ("b",), ("b", "c.0", "d")])
def test_terms_with_any_number_of_layers_parse_to_equal_ones(others):
    for objective in (obj.MatchStatistics("a", others), obj.MatchDistribution("a", "photos", others)):
        if isinstance(objective, obj.MatchStatistics):
            assert obj.parse(str(objective)) == objective
        assert eval(repr(objective), vars(obj) | {}) == objective


@given(OBJECTIVES)
def test_repr_of_an_objective_evaluates_to_an_equal_one(objective):
    assert eval(repr(objective), vars(obj) | {}) == objective
    assert hash(eval(repr(objective), vars(obj) | {})) == hash(objective)
