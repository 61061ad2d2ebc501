"""Classes by name and index, and titles of classes and networks."""

from __future__ import annotations

import pytest
import toys

import featviz as fv
from featviz.apps.shared.arguments.classes import as_class, class_index, class_title, find_classes, network_title


def test_classes_are_found_by_name_index_and_digits(net):
    assert find_classes(net, ["bee", 3, "2"]) == [1, 3, 2]
    assert class_index(net, "jack-o'-lantern") == 4
    with pytest.raises(fv.AddressError, match="^no class 'bea'; nearest: 'bee'"):
        class_index(net, "bea")
    with pytest.raises(fv.AddressError, match="^no class 5; the network has 5, 0 to 4$"):
        class_index(net, "5")


def test_digits_that_are_a_class_name_are_no_index():
    digits = toys.plain(classes=("4", "3", "2", "1", "0"))
    assert find_classes(digits, ["4", 4, "0"]) == [0, 4, 4]
    assert [as_class(digits, name) for name in ("4", 4, "7", "x")] == ["4", 4, 7, "x"]


def test_classes_of_one_of_several_heads(net):
    both = fv.combine(a=net, b=toys.plain(classes=("1", "2", "3", "4", "5")))
    assert class_index(both, "bee", "a") == 1
    assert [class_index(both, "1", head) for head in "ab"] == [1, 0]


def test_titles_of_classes_with_the_same_name_have_their_index():
    cranes = toys.plain(classes=("crane", "owl", "crane", "hen", "jay"))
    assert [class_title(cranes, i) for i in range(3)] == ["crane (0)", "owl", "crane (2)"]
    assert class_title(toys.plain(classes=()), 2) == "logit 2"


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("/home/me/nets.py:make", "nets.py:make"),
        ("nets.py:make", "nets.py:make"),
        ("resnet18", "resnet18"),
        ("", "Plain"),
    ],
)
def test_the_title_of_a_network_has_no_folders(name, title):
    assert network_title(toys.network(toys.Plain(), name=name)) == title
