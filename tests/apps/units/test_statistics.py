"""Statistics of units, each restated by loops."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from featviz.apps.shared.activations.ranks import ranks
from featviz.apps.units import statistics

LEVELS = st.lists(st.integers(0, 4), min_size=4, max_size=9)
"""Responses with ties."""


def random_vectors(n, d=5, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def column(values):
    return torch.tensor(values, dtype=torch.float32)[:, None]


@given(LEVELS)
def test_ranks_are_mean_positions_among_sorted_responses(values):
    ordered = sorted(values)
    wanted = [sum(i + 1 for i, one in enumerate(ordered) if one == value) / ordered.count(value) for value in values]
    assert ranks(column(values)).flatten().tolist() == wanted


@given(LEVELS)
def test_percentiles_count_the_other_photographs_with_a_smaller_response(values):
    found = statistics.percentiles(column(values)).flatten().tolist()
    for i, (value, share) in enumerate(zip(values, found, strict=True)):
        others = values[:i] + values[i + 1 :]
        wanted = sum(1.0 if other < value else 0.5 if other == value else 0.0 for other in others) / len(others)
        assert share == pytest.approx(wanted, abs=1e-6)


@given(LEVELS, st.data())
def test_auroc_is_the_share_of_pairs_in_the_right_order(values, data):
    having = data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values)))
    having[:2] = [True, False]
    pairs = [
        (a, b) for a, x in zip(values, having, strict=True) if x for b, y in zip(values, having, strict=True) if not y
    ]
    wanted = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs) / len(pairs)
    found = statistics.auroc(ranks(column(values)), torch.tensor([having]))
    assert found.item() == pytest.approx(wanted, abs=1e-6)


def test_auroc_of_each_label_and_unit():
    values, members = random_vectors(30, 3), torch.rand(4, 30, generator=torch.Generator().manual_seed(1)) < 0.4
    found = statistics.auroc(ranks(values), members)
    assert found.shape == (4, 3)
    for label, unit in itertools.product(range(4), range(3)):
        alone = statistics.auroc(ranks(values[:, unit : unit + 1]), members[label : label + 1])
        assert found[label, unit] == alone.item()


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)


@pytest.mark.parametrize("k", [2, 4, 10])
@pytest.mark.parametrize("apart", [0.0, 0.7])
def test_interpretability_is_the_share_of_right_choices(k, apart):
    strong, weak = random_vectors(k, seed=1), random_vectors(k, seed=2)
    strong[:, 0] += apart
    strongs, weaks = strong.double().tolist(), weak.double().tolist()
    right = 0.0
    for i, j in itertools.product(range(k), range(k)):
        positive = [one for n, one in enumerate(strongs) if n != i]
        negative = [one for n, one in enumerate(weaks) if n != j]

        def lead(query, positive=positive, negative=negative):
            near = sum(cosine(query, one) for one in positive) / len(positive)
            return near - sum(cosine(query, one) for one in negative) / len(negative)

        one, other = lead(strongs[i]), lead(weaks[j])
        right += 1.0 if one > other else 0.5 if one == other else 0.0
    assert statistics.interpretability(strong, weak) == pytest.approx(right / k**2, abs=1e-9)


def test_interpretability_of_clear_opposite_and_equal_photographs():
    left, right = torch.eye(2)[:1].repeat(10, 1), torch.eye(2)[1:].repeat(10, 1)
    assert statistics.interpretability(left, right) == 1
    assert statistics.interpretability(left, left) == 0.5


@pytest.mark.parametrize("n", [2, 3, 20])
def test_clarity_is_the_mean_cosine_of_all_pairs(n):
    vectors = random_vectors(n)
    pairs = list(itertools.combinations(vectors.double().tolist(), 2))
    assert statistics.clarity(vectors) == pytest.approx(sum(cosine(a, b) for a, b in pairs) / len(pairs), abs=1e-9)
    assert statistics.clarity(vectors[:1].repeat(n, 1)) == pytest.approx(1)


def squared_distances(points, split):
    total = 0.0
    for side in (True, False):
        group = [point for point, first in zip(points, split, strict=True) if first is side]
        if group:
            center = [sum(part) / len(group) for part in zip(*group, strict=True)]
            total += sum(math.dist(point, center) ** 2 for point in group)
    return total


@pytest.mark.parametrize("seed", range(5))
def test_the_split_is_the_best_of_all(seed):
    """Of vectors in two loose groups, all splits are tried."""
    vectors = random_vectors(8, 3, seed)
    vectors[:3] += 1.5
    points = torch.nn.functional.normalize(vectors.double(), dim=1).tolist()
    splits = [[True, *rest] for rest in itertools.product((True, False), repeat=7)]
    found = statistics.two_clusters(vectors).tolist()
    assert found[0] is True
    assert squared_distances(points, found) == pytest.approx(min(squared_distances(points, one) for one in splits))


def test_polysemanticity_is_one_less_the_cosine_of_the_centers():
    vectors = random_vectors(6, seed=3)
    first = torch.tensor([True, True, False, False, False, True])
    units = torch.nn.functional.normalize(vectors.double(), dim=1)
    one, other = units[first].mean(0).tolist(), units[~first].mean(0).tolist()
    assert statistics.polysemanticity(vectors, first) == pytest.approx(1 - cosine(one, other), abs=1e-9)


def test_an_outlier_is_no_second_meaning():
    vectors = torch.cat([torch.eye(3)[:1] + 0.01 * random_vectors(9, 3), torch.eye(3)[1:2]])
    first = statistics.two_clusters(vectors)
    assert first.sum() == 9
    units = torch.nn.functional.normalize(vectors.double(), dim=1)
    center = units.mean(0).tolist()
    wanted = 1 - sum(cosine(center, one) for one in units[:10].tolist()) / 10
    assert statistics.polysemanticity(vectors, first) == pytest.approx(wanted, abs=1e-9)
    assert wanted < 0.2


def test_combinations_of_labels():
    members = torch.tensor([[True, True, False, False], [True, False, True, False]])
    for how, wanted in {
        "AND": [True, False, False, False],
        "OR": [True, True, True, False],
        "AND NOT": [False, True, False, False],
    }.items():
        assert statistics.combined(members, 0, 1, how).tolist() == wanted


@pytest.mark.parametrize(("order", "count"), [([3, 1, 2, 0], 1), ([3, 1, 2, 0, 4], 9), ([0], 2)])
def test_the_first_and_the_last_of_a_ranking_do_not_overlap(order, count):
    first, last = statistics.split_order(order, count)
    assert first == order[: len(first)] and last == order[len(order) - len(last) :]
    assert len(first) == len(last) == min(count, len(order) // 2)


def test_the_order_keeps_ties_in_the_order_of_the_folder():
    assert statistics.order_of(torch.tensor([1.0, 2.0, 1.0, 2.0])).tolist() == [1, 3, 0, 2]
