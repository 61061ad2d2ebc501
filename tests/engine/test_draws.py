"""The draws of many steps at once: the same as those of one step after another."""

import pytest
import torch
from examples import TRANSFORMS

import featviz as fv
from featviz import transforms as T
from featviz.engine import draws as module
from featviz.engine.draws import StepDraws
from featviz.engine.tensor_trees import list_tensors
from featviz.random import Generators, draw_steps

SEEDS = (3, 4)
IMAGES = torch.rand(2, 3, 21, 34, generator=torch.Generator().manual_seed(0))


def views(stack, draws, steps, images=IMAGES):
    return [T.fusing.apply_draws(images, stack, draws.next())[0] for _ in range(steps)]


def one_by_one(stack, steps, images=IMAGES):
    rng = Generators(SEEDS)
    return [T.apply_transforms(images, stack, rng)[0] for _ in range(steps)], rng


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("block", [3, 64])
def test_views_equal_those_of_single_draws(name, block, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_STEPS", block)
    stack = T.fuse((*T.STANDARD, TRANSFORMS[name]) if name != "CompositeAlpha" else (TRANSFORMS[name], *T.STANDARD))
    images = torch.rand(2, 4, 21, 34) if name == "CompositeAlpha" else IMAGES
    draws = StepDraws(stack, Generators(SEEDS), 20)
    found, (expected, rng) = views(stack, draws, 20, images), one_by_one(stack, 20, images)
    assert all(map(torch.equal, found, expected))
    assert draws.ahead() is None  # no step is left
    assert torch.equal(draws.rng.normal(2), rng.normal(2))


def test_most_steps_are_drawn_ahead():
    draws = StepDraws(T.fuse(T.STANDARD), Generators(SEEDS), 20)
    assert draws.ahead() is None  # the first step shows which images each transform gets
    views(draws.stack, draws, 1)
    block, index = draws.ahead()
    assert (block.steps, index) == (19, 0)
    assert all(len(tensor) == 19 * 2 for tensor in list_tensors(block.draws))
    views(draws.stack, draws, 5)
    assert draws.ahead() == (block, 5)


@pytest.mark.parametrize("steps", [1, 2, 9])
def test_generators_can_return_to_the_state_after_any_step(steps):
    stack = T.fuse((*T.STANDARD, T.Noise(0.1)))
    draws, (_, rng) = StepDraws(stack, Generators(SEEDS), 40), one_by_one(stack, steps)
    views(stack, draws, steps)
    draws.settle()
    assert torch.equal(draws.rng.uniform(3), rng.uniform(3))


@pytest.mark.parametrize("steps", [1, 2, 9])
def test_a_step_can_be_restarted_with_some_of_the_images(steps):
    stack = T.fuse((*T.STANDARD, T.Noise(0.1)))
    draws, (expected, _) = StepDraws(stack, Generators(SEEDS), 40), one_by_one(stack, steps + 3)
    views(stack, draws, steps)
    draws.restart()
    assert draws.left == 41 - steps
    second = StepDraws(stack, draws.rng[1:2], draws.left)
    again = views(stack, second, 4, IMAGES[1:])
    assert all(torch.allclose(one, two[1:], atol=1e-6) for one, two in zip(again, expected[steps - 1 :], strict=True))


class RandomSize:
    """A transform that draws the size of its views, so the draws of several steps cannot be made at once."""

    def draw(self, rng, shape):
        return 8 + int(rng.uniform()[0] * 9), torch.zeros(len(rng))

    def apply(self, images, draw):
        return images[:, :, : draw[0], : draw[0]]


class RandomCrop(RandomSize):
    """The same with a size that does not depend on the draws."""

    def __init__(self):
        self.calls = 0

    def draw(self, rng, shape):
        return rng.uniform(2)

    def apply(self, images, draw):
        self.calls += 1
        return images[:, :, : 20 - self.calls // 5]


class OtherObject(RandomSize):
    """A transform whose draws are objects."""

    def draw(self, rng, shape):
        return [object()]

    def apply(self, images, draw):
        return images


@pytest.mark.parametrize("transform", [RandomSize, RandomCrop, OtherObject])
def test_other_transforms_are_drawn_step_by_step(transform):
    expected, _ = one_by_one((transform(), T.Warp((T.Shift(0.2), T.Rotate(9))), T.ColorShift(0.1)), 30)
    stack = (transform(), T.Warp((T.Shift(0.2), T.Rotate(9))), T.ColorShift(0.1))
    draws = StepDraws(stack, Generators(SEEDS), 30)
    assert all(map(torch.equal, views(stack, draws, 30), expected))
    assert draws.ahead() is None


def test_large_draws_are_made_in_smaller_blocks(monkeypatch):
    monkeypatch.setattr(module, "BLOCK_BYTES", 3 * IMAGES.nbytes)
    stack = T.fuse((T.Noise(0.1),))
    draws = StepDraws(stack, Generators(SEEDS), 40)
    views(stack, draws, 1)
    assert draws.ahead()[0].steps == 2


def test_draws_that_take_other_numbers_in_each_call_are_refused():
    calls = iter(range(99))
    with pytest.raises(ValueError, match="take other numbers in each call"):
        draw_steps(lambda rng: rng.uniform(1 + next(calls)), Generators(SEEDS), 3)


@pytest.mark.parametrize("stack", [T.STANDARD, T.LUCID, (T.Pad(3, 0.2), T.Scale(T.LogUniform(0.15, 1.5)))])
def test_images_are_sampled_the_same_in_all_resolutions_at_once(stack):
    """A GPU samples all images in each resolution; a CPU only those that need it."""
    images = torch.rand(12, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    (warp, *_) = T.fuse(stack)
    drawn = warp.draw(Generators(range(12)), (3, 64, 64))
    as_on_gpu = warp.apply(images, drawn.to(torch.device("cpu")))
    assert torch.allclose(warp.apply(images, drawn), as_on_gpu, atol=1e-6)


def test_a_render_does_not_depend_on_the_block_size(monkeypatch):
    def render():
        return fv.render(fv.load("motifnet"), ["stage1:1", "stage2:3"], steps=20, size=64, progress=None)

    whole = render()
    monkeypatch.setattr(module, "BLOCK_STEPS", 7)
    assert torch.equal(whole.images, render().images)
