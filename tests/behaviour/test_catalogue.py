"""Everything in the three drawers, enumerated from the public lists so that nothing is forgotten."""

import inspect

import pytest
import torch
import toys
from examples import FOREIGN, MASK, OBJECTIVES, OTHER, PARAMS, TRANSFORMS
from kornia import augmentation
from torchvision.transforms import v2

import featviz as fv
from featviz import objectives as obj
from featviz import param
from featviz import transforms as T
from featviz.engine import parse_repr
from featviz.interfaces import Geometric, Param, Spatial, Transform
from featviz.io import Array, read_image
from featviz.random import Generators

TEXTS = {
    "alignment(stage2)": obj.Alignment("stage2"),
    "blur": obj.Blur(),
    "blur(2)": obj.Blur(2),
    "boundary(8)": obj.BoundaryComplexity(8),
    "caricature(stage2, cat.jpg)": obj.Caricature("stage2", "cat.jpg"),
    'caricature(stage2, "my cat.jpg", 2)': obj.Caricature("stage2", "my cat.jpg", 2),
    "difference(cat.jpg)": obj.InputDifference("cat.jpg"),
    "diversity(stage2)": obj.Diversity("stage2"),
    "guide(stage2, cat.jpg)": obj.Guide("stage2", "cat.jpg"),
    "interpolate(logit:star, stage2:3 + 2 * tv)": obj.Interpolate(
        obj.Logit("star"), obj.Channel("stage2", 3) + 2 * obj.TotalVariation()
    ),
    "l1": obj.L1(),
    "l2(0.1)": obj.L2(0.1),
    'match(0.conv, "pictures/cat.jpg")': None,
    'match("0.conv", "pictures/cat.jpg")': obj.Match("0.conv", "pictures/cat.jpg"),
    "opacity": obj.Opacity(),
    "opacity(1)": obj.Opacity(True),
    "ramp(0, -2.5, 0.5)": obj.Ramp(0, -2.5, 0.5),
    "style(stage2, cat.jpg, 0.9)": obj.Style("stage2", "cat.jpg", 0.9),
    "tv": obj.TotalVariation(),
    "within(stage2:5 - tv, mask.png)": obj.Within(obj.Channel("stage2", 5) - obj.TotalVariation(), "mask.png"),
    '"tv"': obj.Layer("tv"),
    "tv:3": obj.Channel("tv", 3),
    "logit:star@first": obj.Logit("star", "first"),
    "prob:3@second": obj.Probability(3, "second"),
}
ADDRESSED = ("Channel", "Layer", "Logit", "Neuron", "Probability")
COLORS = ("Clamped", "Decorrelated", "Plain")

SPREADS = ("LogUniform", "OneOf", "Uniform")
BEYOND = ("Contrast", "Noise", "STANDARD", "ColorShift", "UniformNoise", "v2.ColorJitter")
"""What may leave [0, 1]: the network's normalisation does not mind."""
STACKS = ("LUCID", "NEAR", "STANDARD")


def test_the_lists_are_complete():
    assert {n for n in obj.__all__ if inspect.isclass(getattr(obj, n))} == {*OBJECTIVES, "Objective"}
    assert {type(value).__name__ for value in TEXTS.values() if value} >= {
        name for name in OBJECTIVES if getattr(obj, name).term
    }
    assert {n for n in param.__all__ if inspect.isclass(getattr(param, n))} == {*PARAMS, *COLORS}
    assert all(isinstance(value, Param) for value in PARAMS.values())
    assert {n for n in T.__all__ if inspect.isclass(getattr(T, n))} == {*TRANSFORMS, *SPREADS}
    assert all(isinstance(t, Geometric | Transform) for t in TRANSFORMS.values())


def rebuilt(value):
    names = {name: getattr(drawer, name) for drawer in (obj, param, T) for name in drawer.__all__}
    return parse_repr(repr(value), names | {"Array": Array})


def test_no_name_is_in_two_drawers():
    names = [name for drawer in (obj, param, T) for name in drawer.__all__]
    assert len(names) == len(set(names))


def test_every_repr_rebuilds_its_value():
    for value in [
        *OBJECTIVES.values(),
        *PARAMS.values(),
        *(t for name, t in TRANSFORMS.items() if name != "ModuleTransform"),
    ]:
        assert rebuilt(value) == value
        assert hash(rebuilt(value)) == hash(value)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_rises(name):
    batch = 3 if OBJECTIVES[name].couples else 1
    image = param.Image((18, 25), batch=batch)
    whole = param.Alpha(image) if name == "Opacity" else image
    rendering = fv.render(toys.plain(), OBJECTIVES[name], param=whole, transforms=(), steps=25)
    assert (rendering.history[-1] > rendering.history[0]).all()
    assert rendering.images.shape == (batch, 4 if name == "Opacity" else 3, 18, 25)
    assert not rendering.problems


@pytest.mark.parametrize("text", TEXTS)
def test_every_term_is_read_and_written(text):
    if TEXTS[text] is None:
        with pytest.raises(fv.AddressError):
            obj.parse(text)
    else:
        assert obj.parse(text) == TEXTS[text]
        assert obj.parse(str(TEXTS[text])) == TEXTS[text]


@pytest.mark.parametrize("name", ADDRESSED)
def test_every_address_is_read_and_written(name):
    assert obj.parse(str(OBJECTIVES[name])) == OBJECTIVES[name]


@pytest.mark.parametrize("name", PARAMS)
def test_every_param_can_fit_a_photo_and_start_from_one(name, photo):
    size = tuple(photo.shape[-2:])
    whole, free = PARAMS[name], slice(1, None) if name == "Stack" else slice(None)
    target = photo.repeat(whole.batch, 1, 1, 1)
    fitted = whole.images(whole.fit(target), size)[free, :3]
    assert (fitted - photo).square().mean() < 0.01
    if name != "CPPN":
        assert (fitted - photo).abs().max() < 0.5 / 255 + 1e-3


@pytest.mark.parametrize("name", [name for name in PARAMS if name not in ("Masked", "Phase")])
def test_every_param_learns_a_photo(name, photo):
    """Masked has no start of its own; Phase keeps how strong each frequency is."""
    size = tuple(photo.shape[-2:])
    whole, free = PARAMS[name], slice(1, None) if name == "Stack" else slice(None)
    leaves = [leaf.requires_grad_() for leaf in whole.start(Generators(range(whole.batch)), 3, size)]
    stepper = fv.optimizers.Adam(lr=0.1).begin(leaves, 300)
    for _ in range(300):
        loss = (whole.images(leaves, size)[free, :3] - photo).square().mean()
        loss.backward()
        stepper.step()
    assert loss.item() < 0.01


@pytest.mark.parametrize("name", PARAMS)
def test_a_render_starts_from_a_given_image(name, photo, tmp_path):
    free = slice(1, None) if name == "Stack" else slice(None)
    goal = "conv2:1"
    kept = fv.render(toys.plain(), goal, param=PARAMS[name], start=photo, steps=0)
    assert (kept.images[free, :3] - photo).square().mean().sqrt() < (0.1 if name == "CPPN" else 0.01)
    fv.render(toys.plain(), goal, start=photo, steps=0).save(tmp_path / "photo.png")
    from_file = fv.render(toys.plain(), goal, param=PARAMS[name], start=tmp_path / "photo.png", steps=0)
    assert (from_file.images[free, :3] - photo).square().mean().sqrt() < (0.1 if name == "CPPN" else 0.02)


@pytest.mark.parametrize("name", [*TRANSFORMS, *STACKS, *FOREIGN])
def test_every_transform_keeps_gradients_on_a_wide_image(name):
    stack = TRANSFORMS.get(name) or FOREIGN.get(name) or getattr(T, name)
    stack = T.fuse(stack if isinstance(stack, tuple) else (stack,))
    images = torch.rand(2, 4 if name == "CompositeAlpha" else 3, 21, 34, requires_grad=True)
    seen, moved = T.look(images, stack, Generators([0, 1]))
    assert seen.shape[:2] == (2, 3)
    assert name in BEYOND or (seen.min() >= 0 and seen.max() <= 1 + 1e-5)
    seen.square().sum().backward()
    assert images.grad is not None and images.grad.isfinite().all()
    assert (images.grad != 0).float().mean() > 0.2
    assert (seen.shape[-1] > seen.shape[-2]) == (name not in ("Resize", "v2.RandomResizedCrop"))
    if name not in ("ModuleTransform", *FOREIGN):
        assert moved(torch.ones(2, 1, 21, 34)).shape == (2, 1, *seen.shape[2:])


@pytest.mark.parametrize("name", [*TRANSFORMS, *FOREIGN])
def test_every_image_of_a_batch_gets_a_draw_of_its_own(name):
    """And the same one as if it were alone, whatever the caller's random state."""
    stack = T.fuse((TRANSFORMS.get(name) or FOREIGN[name],))
    one = torch.rand(1, 4 if name == "CompositeAlpha" else 3, 21, 34, generator=torch.Generator().manual_seed(1))
    images = one.repeat(6, 1, 1, 1)
    state = torch.get_rng_state()
    seen, _ = T.look(images, stack, Generators(range(6)))
    assert torch.equal(torch.get_rng_state(), state)
    alone, _ = T.look(one, stack, Generators([5]))
    assert torch.allclose(seen[5:], alone, atol=1e-5)
    still = ("Crop", "CropOrPadTo", "Pad", "Resize", "kornia.GaussianBlur2d")
    assert torch.allclose(seen[:1].expand_as(seen), seen, atol=1e-4) == (name in still)


def test_foreign_modules_stand_in_a_stack_as_they_are():
    net = toys.plain()
    stack = (T.Jitter(2), v2.RandomPerspective(p=1.0), augmentation.RandomHorizontalFlip(p=0.5), T.ColorShift(0.1))
    one = fv.render(net, "conv2:1", transforms=stack, steps=6)
    torch.manual_seed(99)
    two = fv.render(net, "conv2:1", transforms=stack, steps=6)
    assert torch.equal(one.images, two.images)
    assert one.history[-1] > one.history[0]


@pytest.mark.parametrize("channels", [1, 2, 4, 24])
@pytest.mark.parametrize("name", [name for name in PARAMS if name not in ("Masked", "Stack", "Image")])
def test_any_number_of_channels_and_any_shape(name, channels):
    whole = PARAMS[name]
    for size in ((1, 1), (7, 4), (8, 31)):
        images = whole.images(whole.start(Generators([0, 1]), channels, size), size)
        assert images.shape == (2, channels + (name == "Alpha"), *size)
        assert images.min() >= 0 and images.max() <= 1


@pytest.mark.parametrize("channels", [1, 4, 24])
def test_pictures_of_any_number_of_channels_are_saved_as_panels(channels, tmp_path):
    net = toys.network(toys.Plain(channels), mean=(0.5,) * channels, std=(0.2,) * channels)
    rendering = fv.render(net, "conv2:3", param=param.Image((20, 31)), steps=3)
    assert rendering.images.shape == (1, channels, 20, 31)
    (path,) = rendering.save(tmp_path / "grey.png")
    assert read_image(path).shape == (3, 20, 31 * channels)


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


def test_a_param_is_seen_as_it_wants_to_be():
    def views(**options):
        return fv.render(toys.plain(), "conv2:1", steps=0, robustness_views=0, **options).recipe.transforms

    assert views() == views(param=param.Pixel()) == repr(T.STANDARD)
    image = param.Image(spatial=param.CPPN())
    near = (param.CPPN(), image, param.Alpha(image), param.Shared(param.CPPN()), param.Stack((OTHER,), image))
    assert {views(param=one) for one in near} == {repr(T.NEAR)}
    assert views(param=param.Masked(MASK, image), start=OTHER) == repr(T.NEAR)
    assert views(param=param.CPPN(), transforms=T.STANDARD) == repr(T.STANDARD)

    class Flat:
        near = scales = True

        def start(self, rng, channels, size):
            return [rng.normal(channels, 1, 1)]

        def fit(self, canvas):
            return [canvas.mean((2, 3), keepdim=True)]

        def canvas(self, leaves, size):
            return leaves[0].expand(-1, -1, *size)

    assert views(param=Flat()) == repr(T.NEAR)
    assert fv.render(toys.plain(), "conv2:1", param=Flat(), steps=0).at(40).images.shape == (1, 3, 40, 40)


def test_spatial_parts_alone_are_params_too():
    assert isinstance(param.Phase(), Spatial)
    assert fv.render(toys.plain(), "conv2:1", param=param.Pyramid(2), steps=1).images.shape == (1, 3, 32, 32)
