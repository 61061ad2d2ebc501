"""A picture depends on its seed and objective, and on nothing else."""

import pytest
import torch
import toys
from hypothesis import given, settings
from hypothesis import strategies as st

import featviz as fv
from featviz import param
from featviz.random import Generators


def test_a_batch_of_one_equals_its_image_in_a_batch_of_eight():
    net = toys.plain()
    goals = [f"conv2:{i}" for i in range(6)] + ["logit:bee", "conv1:2@3,4 - conv1"]
    combine = fv.render(net, goals, steps=12, seed=10)
    for i, goal in enumerate(goals):
        alone = fv.render(net, goal, steps=12, seed=10 + i)
        assert torch.allclose(alone.images[0], combine.images[i], atol=1e-3)  # Adam makes much of what is tiny
        assert torch.allclose(alone.history[:, 0], combine.history[:, i], atol=1e-4)


def test_several_pictures_of_one_objective_differ_and_have_their_own_seeds():
    rendering = fv.render(toys.plain(), ["conv2:1", "conv2:2"], param=param.Image(batch=2), steps=3, seed=(4, 9, 4, 1))
    assert rendering.names == ("conv2:1", "conv2:1", "conv2:2", "conv2:2")
    assert not torch.allclose(rendering.images[0], rendering.images[1])
    again = fv.render(toys.plain(), "conv2:1", steps=3, seed=9)
    assert torch.allclose(again.images[0], rendering.images[1], atol=1e-5)


def test_same_seed_same_picture_whatever_the_callers_random_state():
    net = toys.plain()
    torch.manual_seed(1)
    one = fv.render(net, "conv2:1", steps=5)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    two = fv.render(net, "conv2:1", steps=5)
    assert torch.equal(one.images, two.images)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(one.images, fv.render(net, "conv2:1", steps=5, seed=1).images)


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=5), st.integers(1, 3000))
@settings(max_examples=30)
def test_every_generator_draws_as_if_it_were_alone(seeds, count):
    combine = Generators(seeds)
    drawn = [combine.uniform(3), combine.uniform(count), combine.normal(2, 2)]
    for i, seed in enumerate(seeds):
        alone = Generators([seed])
        for row in drawn:
            kind = alone.normal if row.shape[1:] == (2, 2) else alone.uniform
            assert torch.equal(kind(*row.shape[1:])[0], row[i])
    assert (combine.uniform(count) < 1).all()


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 4), st.floats(0, 2))
@settings(max_examples=40, deadline=None)
def test_spectrum_round_trip(h, w, channels, decay):
    canvas = torch.randn(2, channels, h, w, generator=torch.Generator().manual_seed(h * 41 + w))
    fourier = param.Fourier(decay=decay)
    assert torch.allclose(fourier.canvas(fourier.fit(canvas), (h, w)), canvas, atol=1e-3)


@pytest.mark.parametrize("count", [0, 3])
def test_seeds_and_pictures_have_to_match(count):
    with pytest.raises(fv.SettingError, match=f"^{count} seeds for 1 pictures; give one for each, or a single one$"):
        fv.render(toys.plain(), "conv2:1", steps=1, seed=list(range(count)))
