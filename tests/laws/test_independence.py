"""An image depends on its seed and its objective, not on its batch or on global random state."""

import pytest
import torch
import toys
from hypothesis import given, settings
from hypothesis import strategies as st

import featviz as fv
from featviz import param
from featviz.random import Generators


def test_image_is_the_same_alone_and_in_a_batch():
    net = toys.plain()
    objectives = [f"conv2:{i}" for i in range(6)] + ["logit:bee", "conv1:2@3,4 - conv1"]
    batch = fv.render(net, objectives, steps=12, seed=10)
    for i, objective in enumerate(objectives):
        alone = fv.render(net, objective, steps=12, seed=10 + i)
        assert torch.allclose(alone.images[0], batch.images[i], atol=1e-3)  # Adam amplifies rounding of tiny gradients
        assert torch.allclose(alone.history[:, 0], batch.history[:, i], atol=1e-4)


def test_images_of_one_objective_have_their_own_seeds():
    rendering = fv.render(toys.plain(), ["conv2:1", "conv2:2"], param=param.Image(batch=2), steps=3, seed=(4, 9, 4, 1))
    assert rendering.names == ("conv2:1", "conv2:1", "conv2:2", "conv2:2")
    assert not torch.allclose(rendering.images[0], rendering.images[1])
    again = fv.render(toys.plain(), "conv2:1", steps=3, seed=9)
    assert torch.allclose(again.images[0], rendering.images[1], atol=1e-5)


def test_same_seed_gives_the_same_image_and_leaves_global_random_state_alone():
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
def test_each_generator_draws_the_same_alone_and_in_a_batch(seeds, count):
    batch = Generators(seeds)
    drawn = [batch.uniform(3), batch.uniform(count), batch.normal(2, 2)]
    for i, seed in enumerate(seeds):
        alone = Generators([seed])
        for row in drawn:
            kind = alone.normal if row.shape[1:] == (2, 2) else alone.uniform
            assert torch.equal(kind(*row.shape[1:])[0], row[i])
    assert (batch.uniform(count) < 1).all()


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 4), st.floats(0, 2))
@settings(max_examples=40, deadline=None)
def test_spectrum_round_trip(h, w, channels, decay):
    canvas = torch.randn(2, channels, h, w, generator=torch.Generator().manual_seed(h * 41 + w))
    fourier = param.Fourier(decay=decay)
    assert torch.allclose(fourier.canvas(fourier.fit(canvas), (h, w)), canvas, atol=1e-3)


@pytest.mark.parametrize("count", [0, 3])
def test_number_of_seeds_must_be_that_of_images(count):
    message = f"^seed must be one number or one per image, got {count} seeds for 1 images$"
    with pytest.raises(fv.SettingError, match=message):
        fv.render(toys.plain(), "conv2:1", steps=1, seed=list(range(count)))
