"""Robustness: the scores of finished images without transforms and in new random views."""

import pytest
import torch
import toys

import featviz as fv
from featviz import objectives as obj
from featviz import param
from featviz import transforms as T
from featviz.engine import Robustness
from featviz.interfaces import traits_of
from featviz.param.spectrum import slope

OBJECTIVES = ["conv2:3", "logit:1"]


class OfDrawnSize:
    """Resizes all images of a step to one of two sizes."""

    def __init__(self, sides):
        self.sides = sides

    def draw(self, rng, shape):
        return self.sides[int(rng.uniform()[0] > 0.5)]

    def apply(self, images, draw):
        return torch.nn.functional.interpolate(images, draw, mode="bilinear")


def test_clean_score_is_that_of_the_image_without_transforms(net):
    rendering = fv.render(net, OBJECTIVES, steps=4, param=param.Image(48))
    acts = net.capture(rendering.images, ["conv2", ""])
    expected = torch.stack([acts["conv2"][0, 3].mean(), acts[""][1, 1]])
    assert torch.allclose(rendering.robustness.clean, expected, atol=1e-5)
    assert rendering.robustness.augmented.shape == (4, 2)
    assert rendering.robustness.augmented.std(0).min() > 0


def test_without_transforms_augmented_scores_equal_clean_ones(net):
    rendering = fv.render(net, OBJECTIVES, steps=4, transforms=(), robustness_views=2)
    robustness = rendering.robustness
    assert torch.allclose(robustness.start, rendering.history[0], atol=1e-6)
    assert torch.allclose(robustness.augmented, robustness.clean.expand(2, -1), atol=1e-6)
    assert torch.allclose(robustness.retained, torch.ones(2), atol=1e-4)


def test_retained_is_a_share_of_the_gain_since_the_start():
    robustness = Robustness(torch.tensor([3.0, 1.0]), torch.tensor([[2.0, 5.0], [1.0, 5.0]]), torch.tensor([1.0, 2.0]))
    assert robustness.retained.tolist() == [0.25, 0.0]  # the second image gained nothing
    assert robustness[0].clean.tolist() == [3.0] and robustness[0].augmented.tolist() == [[2.0], [1.0]]
    assert robustness[0].retained.tolist() == [0.25]


@pytest.mark.parametrize(
    ("clean", "augmented", "start", "retained"),
    [
        (2.0, 1.5, 1.0, 0.5),
        (2.0, 9.0, 1.0, 1.0),  # new views score higher than the clean image
        (2.0, 0.0, 1.0, 0.0),  # new views score lower than the start
        (1.0, 9.0, 1.0, 0.0),  # no gain
        (0.5, 9.0, 1.0, 0.0),  # a loss
        (-1.0, -2.0, -3.0, 0.5),
    ],
)
def test_retained_is_clipped_to_0_and_1(clean, augmented, start, retained):
    robustness = Robustness(torch.tensor([clean]), torch.tensor([[augmented]]), torch.tensor([start]))
    assert robustness.retained.tolist() == [retained]


def test_robustness_does_not_change_images_and_is_per_image(net):
    scored, unscored = (fv.render(net, OBJECTIVES, steps=4, robustness_views=views) for views in (3, 0))
    assert torch.equal(scored.images, unscored.images)
    assert unscored.robustness is None and unscored[0].robustness is None
    assert torch.equal(scored[1].robustness.augmented, scored.robustness.augmented[:, 1:])
    alone = fv.render(net, OBJECTIVES[0], steps=4, robustness_views=3)
    assert torch.allclose(alone.robustness.augmented, scored[0].robustness.augmented, atol=1e-5)
    with pytest.raises(fv.SettingError, match=r"^robustness_views must be >= 0, got -1 \(0 skips them\)$"):
        fv.render(net, OBJECTIVES, robustness_views=-1)


def test_chunks_and_tiles_give_the_same_robustness(net):
    whole = fv.render(net, ["conv2:3"] * 3, steps=2).robustness
    chunked = fv.render(net, ["conv2:3"] * 3, steps=2, execution=fv.Execution(chunk_size=1)).robustness
    assert torch.allclose(whole.clean, chunked.clean, atol=1e-4)
    assert torch.allclose(whole.augmented, chunked.augmented, atol=1e-4)
    large = {"param": param.Image(200), "steps": 2, "transforms": ()}
    tiled = fv.render(net, "conv2:3", **large, execution=fv.Execution(tile=128)).robustness
    assert torch.allclose(tiled.augmented[0], tiled.clean, atol=1e-5)


def test_image_of_another_size_is_scored_at_the_fixed_size_of_the_network():
    robustness = fv.render(toys.network(toys.Vit()), "block:1", param=param.Image(20), steps=1).robustness
    assert robustness.clean.isfinite().all()


def test_views_too_small_for_the_network_are_enlarged_to_the_size_of_the_image():
    deep = toys.network(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 24), torch.nn.ReLU()))
    robustness = fv.render(deep, "0:1", param=param.Image(32), steps=1, transforms=T.Resize(0.5)).robustness
    assert torch.allclose(robustness.augmented[0], robustness.clean, atol=1e-5)  # both are the image itself
    with pytest.raises(fv.ModelError, match="^Sequential does not accept images of 16x16 px; .* is 24x24$"):
        fv.render(deep, "0:1", param=param.Image(16), steps=1, transforms=T.Resize(0.5))


def test_objectives_that_need_the_full_view_are_scored_at_its_size(net):
    objective = obj.Match("conv2", torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0)))
    robustness = fv.render(net, objective, param=param.Image(32), steps=1, transforms=T.Jitter(4)).robustness
    assert robustness.clean.isfinite().all() and robustness.augmented.shape == (4, 1)


def test_neurons_are_scored_at_the_position_that_they_had_in_the_views(net):
    transforms = (T.Resize((24, 24)),)
    center, named = (
        fv.render(net, address, steps=4, param=param.Image(48), transforms=transforms).robustness
        for address in ("conv1:3@center", "conv1:3@12,12")
    )
    assert torch.allclose(center.clean, named.clean)
    assert torch.allclose(center.clean, center.augmented.mean(0), atol=1e-5)
    assert traits_of(obj.Neuron("conv1", 3) + obj.Layer("conv1")).depends_on_position
    assert not traits_of(obj.Channel("conv1", 3)).depends_on_position


def test_style_with_memory_scores_the_finished_image_alone(net):
    image = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))
    rendering = fv.render(net, obj.Style("conv2", image, memory=0.9), steps=6, transforms=())
    expected = fv.score(net, obj.Style("conv2", image), rendering.images)[:, 0]
    assert torch.allclose(rendering.robustness.clean, expected, atol=1e-5)


def test_images_are_kept_if_the_objective_cannot_score_them(net):
    @obj.objective("conv1")
    def needs_gradients(acts):
        if not torch.is_grad_enabled():
            raise ValueError("not without gradients")
        return acts["conv1"].flatten(1).mean(1)

    with pytest.warns(fv.FeatvizWarning, match="^the finished images could not be scored: not without gradients$"):
        rendering = fv.render(net, needs_gradients, steps=2)
    assert rendering.robustness is None and len(rendering.history) == 2


def test_slope_of_a_power_law_spectrum():
    generator = torch.Generator().manual_seed(0)
    frequency = torch.hypot(torch.fft.fftfreq(128)[:, None], torch.fft.rfftfreq(128)).clamp(min=1 / 128)
    for power in (0.0, 1.0, 2.0):
        coefficients = torch.fft.rfft2(torch.randn(8, 3, 128, 128, generator=generator))
        images = torch.fft.irfft2(coefficients * frequency**-power)
        assert slope(images).mean().item() == pytest.approx(power, abs=0.1)


def test_views_of_drawn_sizes_are_scored_whole(net):
    sizes = []

    @obj.objective("conv2")
    def noting(acts):
        sizes.append(acts["conv2"].shape[-1])
        return acts["conv2"].flatten(1).mean(1)

    resize = OfDrawnSize((16, 64))
    fv.render(net, noting, steps=8, transforms=(resize,), robustness_views=0)
    trained = set(sizes)
    sizes.clear()
    fv.render(net, noting, steps=8, transforms=(resize,), robustness_views=12)
    assert len(trained) == 2 and trained <= set(sizes[8:])


def test_a_ramp_does_not_count_as_a_gain(net):
    def retained(objective):
        return fv.render(net, objective, steps=24, robustness_views=4).robustness

    plain, ramp = retained("conv2:3 + 10"), retained("(conv2:3 + 10) * ramp(0, 1)")
    assert torch.allclose(plain.start, ramp.start, atol=0.05)
    assert ramp.start > 9


def test_a_stopped_render_is_scored_with_the_weights_it_had(net):
    robustness = fv.render(net, "(conv2:3 + 10) * ramp(0, 1)", steps=100, until=25, robustness_views=4).robustness
    assert robustness.clean / 10 == pytest.approx(0.25, abs=0.05)
