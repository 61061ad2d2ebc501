"""Every public objective, param and transform: each must be in `examples.py`, and every example must work."""

import inspect

import pytest
import torch
import toys
from examples import MASK, MODULES, OBJECTIVES, PARAMS, REFERENCE, TRANSFORMS
from kornia import augmentation
from torchvision.transforms import v2

import featviz as fv
from featviz import objectives as obj
from featviz import param
from featviz import transforms as T
from featviz.engine import parse_repr
from featviz.interfaces import Geometric, Param, ParamTraits, Spatial, Transform, traits_of
from featviz.io import Array, read_image
from featviz.random import Generators

TEXTS = {
    "alignment(stage2)": obj.Alignment("stage2"),
    "blur": obj.Blur(),
    "blur(2)": obj.Blur(2),
    "boundary(8)": obj.BoundaryComplexity(8),
    "caricature(stage2, cat.jpg)": obj.Caricature("stage2", "cat.jpg"),
    'caricature(stage2, "my cat.jpg", 2)': obj.Caricature("stage2", "my cat.jpg", 2),
    "cosine(stage2, concept.safetensors)": obj.Cosine("stage2", "concept.safetensors"),
    "cosine(stage2, vectors/my cat.npy, 3)": obj.Cosine("stage2", "vectors/my cat.npy", 3),
    "difference(cat.jpg)": obj.InputDifference("cat.jpg"),
    "distribution(stage2, photographs)": obj.MatchDistribution("stage2", "photographs"),
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
    "spectrum(photographs)": obj.MatchSpectrum("photographs"),
    "statistics(stage2.0.norm1)": obj.MatchStatistics("stage2.0.norm1"),
    "style(stage2, cat.jpg, 0.9)": obj.Style("stage2", "cat.jpg", 0.9),
    'text("a red bicycle")': obj.Text("a red bicycle"),
    "text(bicycle, clip.embedding)": obj.Text("bicycle", "clip.embedding"),
    "tv": obj.TotalVariation(),
    "within(stage2:5 - tv, mask.png)": obj.Within(obj.Channel("stage2", 5) - obj.TotalVariation(), "mask.png"),
    '"tv"': obj.Layer("tv"),
    "tv:3": obj.Channel("tv", 3),
    "logit:star@first": obj.Logit("star", "first"),
    "prob:3@second": obj.Probability(3, "second"),
}
ADDRESSED = ("Channel", "Layer", "Logit", "Neuron", "Probability")
COLORS = ("Clamped", "Decorrelated", "Plain", "Standardized")

DISTRIBUTIONS = ("LogUniform", "OneOf", "Uniform")
UNBOUNDED = ("Contrast", "Noise", "STANDARD", "ColorShift", "UniformNoise", "v2.ColorJitter")
"""Transforms whose output may leave [0, 1]."""
STACKS = ("LUCID", "NEAR", "STANDARD")


def test_every_public_class_has_an_example():
    objectives = {n for n in obj.__all__ if inspect.isclass(getattr(obj, n))}
    elsewhere = {"Text"}  # needs a network that embeds texts: test_zero_shot.py
    assert objectives == {*OBJECTIVES, *elsewhere, "Address", "Objective", "Traits", "Unit"}
    assert {type(value).__name__ for value in TEXTS.values() if value} >= {
        name for name in OBJECTIVES if getattr(obj, name).text_name
    }
    assert {n for n in param.__all__ if inspect.isclass(getattr(param, n))} == {*PARAMS, *COLORS}
    assert all(isinstance(value, Param) for value in PARAMS.values())
    assert {n for n in T.__all__ if inspect.isclass(getattr(T, n))} == {*TRANSFORMS, *DISTRIBUTIONS}
    assert all(isinstance(t, Geometric | Transform) for t in TRANSFORMS.values())


def rebuilt(value):
    names = {name: getattr(package, name) for package in (obj, param, T) for name in package.__all__}
    return parse_repr(repr(value), names | {"Array": Array, "Sigmoid": torch.nn.Sigmoid})


def test_names_are_unique_over_the_three_packages():
    names = [name for package in (obj, param, T) for name in package.__all__]
    assert len(names) == len(set(names))


def test_every_repr_rebuilds_its_value():
    for value in [
        *OBJECTIVES.values(),
        obj.Text("a red ball"),
        *PARAMS.values(),
        *(t for name, t in TRANSFORMS.items() if name != "ModuleTransform"),
    ]:
        assert rebuilt(value) == value
        assert hash(rebuilt(value)) == hash(value)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_increases(name):
    batch = 3 if traits_of(OBJECTIVES[name]).compares_images else 1
    image = param.Image((18, 25), batch=batch)
    used = param.Alpha(image) if name == "Opacity" else image
    rendering = fv.render(toys.plain(), OBJECTIVES[name], param=used, transforms=(), steps=25)
    assert (rendering.history[-1] > rendering.history[0]).all()
    assert rendering.images.shape == (batch, 4 if name == "Opacity" else 3, 18, 25)
    assert not rendering.problems


@pytest.mark.parametrize("text", TEXTS)
def test_every_term_parses_and_prints(text):
    if TEXTS[text] is None:
        with pytest.raises(fv.AddressError):
            obj.parse(text)
    else:
        assert obj.parse(text) == TEXTS[text]
        assert obj.parse(str(TEXTS[text])) == TEXTS[text]


@pytest.mark.parametrize("name", ADDRESSED)
def test_every_address_parses_and_prints(name):
    assert obj.parse(str(OBJECTIVES[name])) == OBJECTIVES[name]


def optimized(name):
    """Index of the images that a param optimises: the first image of `Stack` is given."""
    return slice(1, None) if name == "Stack" else slice(None)


@pytest.mark.parametrize("name", sorted(PARAMS.keys() - {"CPPN", "Generator"}))  # these only come near
def test_every_param_fits_a_photograph(name, photo):
    size = tuple(photo.shape[-2:])
    used = PARAMS[name]
    target = photo.repeat(used.batch, 1, 1, 1)
    fitted = used.images(used.fit(target), size)[optimized(name), :3]
    assert (fitted - photo).abs().max() < 0.5 / 255 + 1e-3


@pytest.mark.parametrize("name", [name for name in PARAMS if name not in ("Generator", "Masked", "Phase")])
def test_every_param_learns_a_photograph(name, photo):
    """From its random start. `Masked` has none, the amplitudes of `Phase` and the size of `Generator` are constant."""
    size = tuple(photo.shape[-2:])
    used = PARAMS[name]
    leaves = [leaf.requires_grad_() for leaf in used.start(Generators(range(used.batch)), 3, size)]
    stepper = fv.optimizers.Adam(lr=0.1).begin(leaves, 300)
    for _ in range(300):
        loss = (used.images(leaves, size)[optimized(name), :3] - photo).square().mean()
        loss.backward()
        stepper.step()
    assert loss.item() < 0.01


FITTED = [
    pytest.param(name, marks=pytest.mark.long) if name == "CPPN" else name
    for name in sorted(PARAMS.keys() - {"Generator"})
]
"""Params that start from an image; that of a CPPN is fitted in thousands of steps."""


@pytest.mark.parametrize("name", FITTED)
def test_render_starts_from_a_given_image(name, photo):
    rendering = fv.render(toys.plain(), "conv2:1", param=PARAMS[name], start=photo, steps=0, robustness_views=0)
    error = (rendering.images[optimized(name), :3] - photo).square().mean().sqrt()
    assert error < (0.1 if name == "CPPN" else 0.01)


@pytest.mark.parametrize("name", ["Image", "Pixel"])
def test_render_starts_from_a_file(name, photo, tmp_path):
    fv.render(toys.plain(), "conv2:1", start=photo, steps=0).save(tmp_path / "photo.png")
    rendering = fv.render(toys.plain(), "conv2:1", param=PARAMS[name], start=tmp_path / "photo.png", steps=0)
    assert (rendering.images[optimized(name), :3] - photo).square().mean().sqrt() < 0.02


@pytest.mark.parametrize("name", [*TRANSFORMS, *STACKS, *MODULES])
def test_every_transform_has_gradients_for_a_wide_image(name):
    stack = TRANSFORMS.get(name) or MODULES.get(name) or getattr(T, name)
    stack = T.fuse(stack if isinstance(stack, tuple) else (stack,))
    images = torch.rand(2, 4 if name == "CompositeAlpha" else 3, 21, 34, requires_grad=True)
    views, move_masks = T.apply_transforms(images, stack, Generators([0, 1]))
    assert views.shape[:2] == (2, 3)
    assert name in UNBOUNDED or (views.min() >= 0 and views.max() <= 1 + 1e-5)
    views.square().sum().backward()
    assert images.grad is not None and images.grad.isfinite().all()
    assert (images.grad != 0).float().mean() > 0.2
    assert (views.shape[-1] > views.shape[-2]) == (name not in ("MeshView", "Resize", "v2.RandomResizedCrop"))
    if name not in ("ModuleTransform", *MODULES):
        assert move_masks(torch.ones(2, 1, 21, 34)).shape == (2, 1, *views.shape[2:])


@pytest.mark.parametrize("name", [*TRANSFORMS, *MODULES])
def test_every_image_of_a_batch_has_its_own_random_draw(name):
    """The draw depends on the image's seed only, not on its batch or the global random state."""
    stack = T.fuse((TRANSFORMS.get(name) or MODULES[name],))
    one = torch.rand(1, 4 if name == "CompositeAlpha" else 3, 21, 34, generator=torch.Generator().manual_seed(1))
    images = one.repeat(6, 1, 1, 1)
    state = torch.get_rng_state()
    views, _ = T.apply_transforms(images, stack, Generators(range(6)))
    assert torch.equal(torch.get_rng_state(), state)
    alone, _ = T.apply_transforms(one, stack, Generators([5]))
    assert torch.allclose(views[5:], alone, atol=1e-5)
    deterministic = ("Crop", "CropOrPadTo", "Pad", "Resize", "kornia.GaussianBlur2d")
    assert torch.allclose(views[:1].expand_as(views), views, atol=1e-4) == (name in deterministic)


def test_modules_of_other_libraries_work_as_transforms():
    net = toys.plain()
    stack = (T.Jitter(2), v2.RandomPerspective(p=1.0), augmentation.RandomHorizontalFlip(p=0.5), T.ColorShift(0.1))
    one = fv.render(net, "conv2:1", transforms=stack, steps=6)
    torch.manual_seed(99)
    two = fv.render(net, "conv2:1", transforms=stack, steps=6)
    assert torch.equal(one.images, two.images)
    assert one.history[-1] > one.history[0]


@pytest.mark.parametrize("channels", [1, 2, 4, 24])
@pytest.mark.parametrize("name", [name for name in PARAMS if name not in ("Generator", "Masked", "Stack", "Image")])
def test_every_param_takes_any_number_of_channels_and_any_size(name, channels):
    used = PARAMS[name]
    for size in ((1, 1), (7, 4), (8, 31)):
        images = used.images(used.start(Generators([0, 1]), channels, size), size)
        assert images.shape == (2, channels + (name == "Alpha"), *size)
        assert images.min() >= 0 and images.max() <= 1


@pytest.mark.parametrize("channels", [1, 4, 24])
def test_images_with_other_than_three_channels_are_saved_as_panels(channels, tmp_path):
    net = toys.network(toys.Plain(channels), mean=(0.5,) * channels, std=(0.2,) * channels)
    rendering = fv.render(net, "conv2:3", param=param.Image((20, 31)), steps=3)
    assert rendering.images.shape == (1, channels, 20, 31)
    (path,) = rendering.save(tmp_path / "grey.png")
    assert read_image(path).shape == (3, 20, 31 * channels)


def test_user_defined_objective_param_and_transform():
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


def test_traits_of_a_param_choose_the_default_transforms():
    def default(**options):
        return fv.render(toys.plain(), "conv2:1", steps=0, robustness_views=0, **options).recipe.transforms

    assert default() == default(param=param.Pixel()) == repr(T.STANDARD)
    image = param.Image(spatial=param.CPPN())
    params = (param.CPPN(), image, param.Alpha(image), param.Shared(param.CPPN()), param.Stack((REFERENCE,), image))
    assert {default(param=each) for each in params} == {repr(T.NEAR)}
    assert default(param=param.Masked(MASK, image), start=REFERENCE) == repr(T.NEAR)
    assert default(param=param.CPPN(), transforms=T.STANDARD) == repr(T.STANDARD)

    class OneColor:
        traits = ParamTraits(any_size=True, close_views=True)

        def start(self, rng, channels, size):
            return [rng.normal(channels, 1, 1)]

        def fit(self, canvas):
            return [canvas.mean((2, 3), keepdim=True)]

        def canvas(self, leaves, size):
            return leaves[0].expand(-1, -1, *size)

    assert default(param=OneColor()) == repr(T.NEAR)
    assert fv.render(toys.plain(), "conv2:1", param=OneColor(), steps=0).at(40).images.shape == (1, 3, 40, 40)


def test_spatial_part_can_be_given_as_a_param():
    assert isinstance(param.Phase(), Spatial)
    assert fv.render(toys.plain(), "conv2:1", param=param.Pyramid(2), steps=1).images.shape == (1, 3, 32, 32)
