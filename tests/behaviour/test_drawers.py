"""Everything in the three drawers, enumerated from the public lists so that nothing is forgotten."""

import inspect

import pytest
import torch
import toys

import featviz as fv
from featviz import objectives as obj
from featviz import param
from featviz import transforms as T
from featviz.protocols import Geometric, Spatial, Transform
from featviz.random import Generators

EXAMPLES = {
    "Neuron": obj.Neuron("conv2", 1, (3, 5)),
    "Channel": obj.Channel("conv2", 1),
    "Layer": obj.Layer("conv2"),
    "Logit": obj.Logit("cat"),
    "Probability": obj.Probability(1),
}
OBJECTIVES = [name for name in obj.__all__ if inspect.isclass(getattr(obj, name)) and name != "Objective"]
SPATIAL = [
    name
    for name in param.__all__
    if inspect.isclass(getattr(param, name)) and isinstance(getattr(param, name)(), Spatial)
]

TRANSFORMS = {
    "Crop": T.Crop(2),
    "Flip": T.Flip(),
    "Jitter": T.Jitter(3),
    "Pad": T.Pad(3),
    "Resize": T.Resize((30, 20)),
    "Rotate": T.Rotate(15),
    "Scale": T.Scale(T.LogUniform(0.8, 1.3)),
    "Shift": T.Shift(0.2),
    "Tint": T.Tint(0.2),
    "Warp": T.Warp((T.Shift(0.1), T.Rotate(3))),
}
SPREADS = ("LogUniform", "OneOf", "Uniform")
TINTED = ("Tint", "STANDARD")
"""What may leave [0, 1]: the network's normalisation does not mind."""
STACKS = ("LUCID", "STANDARD")


def test_the_lists_are_complete():
    assert set(OBJECTIVES) == set(EXAMPLES)
    assert set(SPATIAL) == {"Fourier", "Pixel"}
    assert {n for n in T.__all__ if inspect.isclass(getattr(T, n))} == {*TRANSFORMS, *SPREADS}
    assert all(isinstance(t, Geometric | Transform) for t in TRANSFORMS.values())


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_rises_and_has_a_string_form(name):
    objective = EXAMPLES[name]
    assert obj.parse(str(objective)) == objective
    assert eval(repr(objective), vars(obj) | {}) == objective
    rendering = fv.render(toys.plain(), objective, param=param.image((18, 25)), transforms=(), steps=25)
    assert rendering.history[-1] > rendering.history[0]
    assert rendering.images.shape == (1, 3, 18, 25)
    assert not rendering.problems


@pytest.mark.parametrize("name", SPATIAL)
def test_every_param_can_fit_a_photo_and_start_from_one(name, photo):
    spatial = getattr(param, name)()
    size = tuple(photo.shape[-2:])
    whole = param.image(size, spatial=spatial)
    fitted = whole.images(whole.fit(photo), size)
    assert (fitted - photo).abs().max() < 0.5 / 255 + 1e-3
    leaves = [leaf.requires_grad_() for leaf in whole.start(Generators([0]), 3, size)]
    stepper = fv.Adam(lr=0.1).begin(leaves, 200)
    for _ in range(200):
        loss = (whole.images(leaves, size) - photo).square().mean()
        loss.backward()
        stepper.step()
    assert loss.item() < 0.01


@pytest.mark.parametrize("name", SPATIAL)
def test_a_render_starts_from_a_given_image(name, photo, tmp_path):
    spatial = getattr(param, name)()
    kept = fv.render(toys.plain(), "conv2:1", param=spatial, start=photo, steps=0)
    assert (kept.images - photo).abs().max() < 0.01
    kept.save(tmp_path / "photo.png")
    from_file = fv.render(toys.plain(), "conv2:1", param=spatial, start=tmp_path / "photo.png", steps=0)
    assert (from_file.images - photo).abs().max() < 0.02


@pytest.mark.parametrize("name", [*TRANSFORMS, *STACKS])
def test_every_transform_keeps_gradients_on_a_wide_image(name):
    stack = TRANSFORMS.get(name) or getattr(T, name)
    stack = T.fuse(stack if isinstance(stack, tuple) else (stack,))
    images = torch.rand(2, 3, 21, 34, requires_grad=True)
    seen = T.look(images, stack, Generators([0, 1]))
    assert name in TINTED or (seen.min() >= 0 and seen.max() <= 1 + 1e-5)
    seen.square().sum().backward()
    assert images.grad is not None and images.grad.isfinite().all()
    assert (images.grad != 0).float().mean() > 0.2
    assert (seen.shape[-1] > seen.shape[-2]) == (name != "Resize")


@pytest.mark.parametrize("channels", [1, 4, 24])
def test_any_number_of_channels(channels, tmp_path):
    net = toys.network(toys.Plain(channels), mean=(0.5,) * channels, std=(0.2,) * channels)
    rendering = fv.render(net, "conv2:3", param=param.image((20, 31)), steps=3)
    assert rendering.images.shape == (1, channels, 20, 31)
    (path,) = rendering.save(tmp_path / "grey.png")
    assert fv.read_image(path).shape == (3, 20, 31 * channels)


def test_own_objective_param_and_transform():
    @obj.objective("conv1")
    def corner(acts):
        return acts["conv1"][:, 2, 0, 0]

    class Blocks:
        def start(self, rng, channels, size):
            return [0.01 * rng.normal(channels, size[0] // 4, size[1] // 4)]

        def fit(self, canvas):
            return [torch.nn.functional.avg_pool2d(canvas, 4)]

        def canvas(self, leaves, size):
            return torch.nn.functional.interpolate(leaves[0], size)

    class Dim:
        def draw(self, rng, size):
            return 0.5 + 0.5 * rng.uniform(1, 1, 1)

        def apply(self, images, draw):
            return images * draw

    rendering = fv.render(toys.plain(), 2 * corner, param=Blocks(), transforms=(T.Jitter(2), Dim()), steps=12)
    assert rendering.history[-1] > rendering.history[0]
    blocks = rendering.images.unfold(2, 4, 4).unfold(3, 4, 4).flatten(4)
    assert torch.equal(blocks.amin(-1), blocks.amax(-1))
