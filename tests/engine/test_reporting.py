"""Images are given to a progress callback during a render, and change nothing."""

import pytest
import torch
import toys

import featviz as fv
from featviz import param
from featviz.interfaces import ImageProgress


class Watching(ImageProgress):
    """Takes the images after some steps."""

    def __init__(self, at):
        self.at, self.calls, self.asked, self.seen = at, [], [], {}

    def __call__(self, done, steps):
        self.calls.append((done, steps))

    def wants_images(self, done, steps):
        self.asked.append((done, steps))
        return done in self.at

    def show(self, done, steps, images):
        self.seen[done] = images


class Leaves:
    """A param that returns its leaf tensor as the images."""

    size, batch = (32, 32), 1

    def start(self, rng, channels, size):
        return [torch.full((1, channels, *size), 0.5)]

    def fit(self, images):
        return [images.clone()]

    def images(self, leaves, size):
        return leaves[0]


CASES = {"default": {}, "alpha": {"param": param.Alpha(param.Image())}, "leaves": {"param": Leaves()}}


@pytest.mark.parametrize("name", CASES)
def test_images_are_those_after_the_step(name):
    options = {"steps": 6, "robustness_views": 0, **CASES[name]}
    watching = Watching((1, 4, 6))
    rendering = fv.render(toys.plain(), "conv2:1", snapshots=(1, 4, 6), progress=watching, **options)
    assert watching.calls == watching.asked == [(done, 6) for done in range(1, 7)]
    assert list(watching.seen) == [1, 4, 6]
    assert all(torch.equal(images, rendering.snapshots[done]) for done, images in watching.seen.items())
    assert not torch.equal(watching.seen[1], watching.seen[4])  # a copy of its own
    assert torch.equal(watching.seen[6], rendering.images)
    for images in watching.seen.values():
        assert images.shape == rendering.images.shape and images.device.type == "cpu"
        assert not images.requires_grad


@pytest.mark.parametrize("name", CASES)
def test_watching_changes_nothing(name):
    class Writing(Watching):
        def show(self, done, steps, images):
            images.fill_(0.5)
            torch.rand(3)
            torch.manual_seed(done)

    expected = fv.render(toys.plain(), ["conv2:1"], steps=6, **CASES[name])
    found = fv.render(toys.plain(), ["conv2:1"], steps=6, progress=Writing(range(7)), **CASES[name])
    assert torch.equal(found.images, expected.images) and torch.equal(found.history, expected.history)
    assert found.recipe == expected.recipe


@pytest.mark.parametrize("method", ["__call__", "wants_images", "show"])
def test_its_own_exception_surfaces_with_a_note(method):
    def fail(self, done, *_):
        if done == 3:
            raise ZeroDivisionError("my own")
        return method == "wants_images"

    with pytest.raises(ZeroDivisionError, match="^my own") as caught:
        fv.render(toys.plain(), "conv2:1", steps=9, progress=type("Failing", (Watching,), {method: fail})(range(9)))
    assert caught.value.__notes__ == ["while rendering conv2:1, step 4 of 9"]


@pytest.mark.parametrize("method", ["__call__", "wants_images", "show"])
def test_it_can_stop_the_render(method):
    def stop(self, done, *_):
        if done == 3:
            raise KeyboardInterrupt
        return method == "wants_images"

    rendering = fv.render(
        toys.plain(), "conv2:1", steps=9, progress=type("Stopping", (Watching,), {method: stop})(range(9))
    )
    assert rendering.recipe.until == len(rendering.history) == 3
    assert torch.equal(rendering.images, fv.render(toys.plain(), "conv2:1", steps=9, until=3).images)


def test_a_plain_function_is_not_given_images(monkeypatch):
    monkeypatch.setattr("featviz.engine.reporting.copy_images", lambda *_: pytest.fail("computed"))
    fv.render(toys.plain(), "conv2:1", steps=2, progress=lambda done, steps: None)
    fv.render(toys.plain(), "conv2:1", steps=2, progress=Watching(()))


def test_every_method_must_be_there():
    lacking = type("Lacking", (ImageProgress,), {"__call__": lambda *_: None, "show": lambda *_: None})
    with pytest.raises(TypeError, match="abstract method '?wants_images"):
        lacking()
