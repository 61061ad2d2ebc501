"""Objectives that compare the images of a batch, each restated by loops, in double precision."""

import pytest
import torch
import toys
from sample import ACTS, MAP, N, assert_scores

import featviz as fv
from featviz import objectives as obj
from featviz.network.activations import Activations

SAME = Activations({"map": MAP[:1].repeat(4, 1, 1, 1)}, ACTS.layouts, ACTS.size)
"""Four equal images."""


def test_interpolate_changes_linearly_along_the_batch():
    first, last = obj.Channel("map", 0), obj.Channel("map", 1)
    a, b = first(ACTS).tolist(), last(ACTS).tolist()
    assert_scores(obj.Interpolate(first, last)(ACTS), [a[0], (a[1] + b[1]) / 2, b[2]])


def test_a_score_for_all_images_is_interpolated():
    images, net = torch.rand(3, 3, 32, 32), toys.plain()
    found = fv.score(net, obj.Interpolate(obj.Ramp(0, 1), obj.Channel("conv2", 1)), images)
    assert found[-1] == pytest.approx(fv.score(net, "conv2:1", images)[-1].item())
    with pytest.raises(fv.SettingError, match="needs an objective with a score per image, not two ramps$"):
        obj.Interpolate(obj.Ramp(0, 1), obj.Ramp(1, 0))(ACTS)


def test_alignment_adds_up_to_that_of_lucid():
    total = 0.0
    for distance in (1, 2):
        for i in range(N - distance):
            total -= (MAP[i] - MAP[i + distance]).square().mean().item() / 3**distance
    assert obj.Alignment("map", 3)(ACTS).sum().item() == pytest.approx(total)
    assert (obj.Alignment("map")(ACTS) < 0).all()


def test_alignment_of_equal_images_is_0():
    assert obj.Alignment("map")(SAME).tolist() == [0, 0, 0, 0]


def test_diversity_is_minus_the_mean_cosine_of_gram_matrices():
    grams = [(MAP[i].flatten(1) @ MAP[i].flatten(1).T).flatten() for i in range(N)]
    expected = []
    for i in range(N):
        others = [j for j in range(N) if j != i]
        cosines = [(grams[i] @ grams[j] / grams[i].norm() / grams[j].norm()).item() for j in others]
        expected.append(-sum(cosines) / len(others))
    assert_scores(obj.Diversity("map")(ACTS), expected)


def test_diversity_of_equal_images_is_minus_1():
    assert obj.Diversity("map")(SAME).tolist() == pytest.approx([-1] * 4)
