"""Names of units: the best label, or a combination of two."""

import itertools
import math

import pytest
import torch

from featviz.apps.shared.activations.ranks import ranks
from featviz.apps.units import names as names_module
from featviz.apps.units.labels import Labels
from featviz.apps.units.names import MIN_GAIN, MIN_NOT_GAIN, unit_names


def labels_of(**members):
    table = torch.tensor([[letter == "x" for letter in text] for text in members.values()])
    return Labels(tuple(members), table, "folders")


LABELS = labels_of(cat=3 * "xxxx........", dog=3 * "....xxxx....", young=3 * "x.x.x.x.x.x.")


def respond(*chosen):
    """Return the responses of a unit that is strong in some photographs of each dozen."""
    values = 0.01 * torch.arange(12.0).flip(0).remainder(5)
    values[list(chosen)] += 10
    return values.repeat(3)[:, None]


@pytest.mark.parametrize(
    ("chosen", "name"),
    [
        (range(4), "cat"),
        ([4, 5, 6, 7], "dog"),
        (range(8), "cat OR dog"),
        ([0, 2], "cat AND young"),
        ([1, 3], "cat AND NOT young"),
        (range(4, 12), "NOT cat"),
    ],
)
def test_a_unit_gets_the_name_of_what_it_responds_to(chosen, name):
    ((best, *others),) = unit_names(ranks(respond(*chosen)), LABELS)
    assert (best.text, best.auroc, best.count) == (name, 1, 3 * len(chosen))
    assert best.members(LABELS)[:12].nonzero().flatten().tolist() == list(chosen)
    assert others and all(other.text in LABELS.names and other.how == "" for other in others)


def area(values, having):
    pairs = [
        (a, b) for a, x in zip(values, having, strict=True) if x for b, y in zip(values, having, strict=True) if not y
    ]
    return sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs) / len(pairs)


@pytest.mark.parametrize("seed", range(6))
def test_no_combination_is_better_by_more_than_the_gain(seed, monkeypatch):
    """All labels and combinations are tried by loops."""
    monkeypatch.setattr(names_module, "MAX_CHANCE", math.inf)
    values = torch.randn(36, 1, generator=torch.Generator().manual_seed(seed))
    best = unit_names(ranks(values), LABELS)[0][0]
    tables = LABELS.members.tolist()
    every = [*tables, *([not one for one in table] for table in tables)]
    for one, other in itertools.permutations(tables, 2):
        every.append([a and b for a, b in zip(one, other, strict=True)])
        every.append([a or b for a, b in zip(one, other, strict=True)])
        every.append([a and not b for a, b in zip(one, other, strict=True)])
    areas = [area(values.flatten().tolist(), having) for having in every if 2 <= sum(having) <= 34]
    assert best.auroc >= max(areas) - MIN_GAIN - MIN_NOT_GAIN
    assert best.auroc == pytest.approx(area(values.flatten().tolist(), best.members(LABELS).tolist()), abs=1e-6)


def test_without_labels_there_are_no_names():
    none = Labels((), torch.zeros(0, 36, dtype=torch.bool), "")
    assert unit_names(ranks(respond(1)), none) == [[]]


def test_units_that_respond_at_random_have_no_names():
    values = torch.randn(36, 400, generator=torch.Generator().manual_seed(0))
    named = sum(bool(names) for names in unit_names(ranks(values), LABELS))
    assert named <= 30  # 5 % would be 20


def test_a_few_photographs_of_a_label_name_nothing():
    few = labels_of(fish="xx..........", bird="..xx........")
    values = torch.arange(12.0)[:, None]
    assert unit_names(ranks(values), few) == [[]]
