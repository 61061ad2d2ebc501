"""What finished pictures score, and what given ones do."""

import pickle

import pytest
import torch
import toys

import featviz as fv
from featviz import objectives as obj
from featviz import param
from featviz import transforms as T
from featviz.engine import Robustness
from featviz.io import read_photographs
from featviz.param.spectrum import slope

GOALS = ["conv2:3", "logit:1"]


def test_the_clean_score_is_that_of_the_picture_as_it_is(net):
    rendering = fv.render(net, GOALS, steps=4, param=param.Image(48))
    acts = net.capture(rendering.images, ["conv2", ""])
    wanted = torch.stack([acts["conv2"][0, 3].mean(), acts[""][1, 1]])
    assert torch.allclose(rendering.robustness.clean, wanted, atol=1e-5)
    assert torch.equal(rendering.robustness.start, rendering.history[0])
    assert rendering.robustness.augmented.shape == (4, 2)
    assert rendering.robustness.augmented.std(0).min() > 0


def test_without_transforms_fresh_views_are_the_picture(net):
    robustness = fv.render(net, GOALS, steps=4, transforms=(), robustness_views=2).robustness
    assert torch.allclose(robustness.augmented, robustness.clean.expand(2, -1), atol=1e-6)
    assert torch.allclose(robustness.retained, torch.ones(2), atol=1e-4)


def test_what_is_kept_counts_from_the_start():
    robustness = Robustness(torch.tensor([3.0, 1.0]), torch.tensor([[2.0, 5.0], [1.0, 5.0]]), torch.tensor([1.0, 2.0]))
    assert robustness.retained.tolist() == [0.25, 0.0]  # the second has gained nothing
    assert robustness[0].clean.tolist() == [3.0] and robustness[0].augmented.tolist() == [[2.0], [1.0]]


def test_pictures_do_not_depend_on_being_tried_and_each_has_its_own_trust(net):
    tried, untried = (fv.render(net, GOALS, steps=4, robustness_views=robustness_views) for robustness_views in (3, 0))
    assert torch.equal(tried.images, untried.images)
    assert untried.robustness is None and untried[0].robustness is None
    assert torch.equal(tried[1].robustness.augmented, tried.robustness.augmented[:, 1:])
    alone = fv.render(net, GOALS[0], steps=4, robustness_views=3)
    assert torch.allclose(alone.robustness.augmented, tried[0].robustness.augmented, atol=1e-5)
    with pytest.raises(fv.SettingError, match="^robustness_views -1 is below 0; give 0 for none, 4 is usual$"):
        fv.render(net, GOALS, robustness_views=-1)


def test_trust_in_parts_and_in_tiles_is_that_of_the_whole(net):
    whole = fv.render(net, ["conv2:3"] * 3, steps=2).robustness
    parts = fv.render(net, ["conv2:3"] * 3, steps=2, execution=fv.Execution(chunk_size=1)).robustness
    assert torch.allclose(whole.clean, parts.clean, atol=1e-4) and torch.allclose(
        whole.augmented, parts.augmented, atol=1e-4
    )
    tiled = fv.render(
        net, "conv2:3", param=param.Image(200), steps=2, transforms=(), execution=fv.Execution(tile=128)
    ).robustness
    assert torch.allclose(tiled.augmented[0], tiled.clean, atol=1e-5)


def test_a_picture_of_another_size_is_seen_at_the_networks(net):
    small = fv.render(toys.network(toys.Vit()), "block:1", param=param.Image(20), steps=1).robustness
    assert small.clean.isfinite().all()


def test_views_that_are_too_small_are_seen_as_large_as_the_picture():
    deep = toys.network(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 24), torch.nn.ReLU()))
    rendering = fv.render(deep, "0:1", param=param.Image(32), steps=1, transforms=T.Resize(0.5))
    assert torch.allclose(
        rendering.robustness.augmented[0], rendering.robustness.clean, atol=1e-5
    )  # both are the picture itself
    with pytest.raises(
        fv.ModelError, match="^Sequential does not take 16x16 px; the smallest square it takes is 24x24$"
    ):
        fv.render(deep, "0:1", param=param.Image(16), steps=1, transforms=T.Resize(0.5))


def test_what_compares_places_is_asked_at_the_size_of_the_views(net):
    goal = obj.Match("conv2", torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0)))
    robustness = fv.render(net, goal, param=param.Image(32), steps=1, transforms=T.Jitter(4)).robustness
    assert robustness.clean.isfinite().all() and robustness.augmented.shape == (4, 1)


def test_scores_of_given_images_are_what_the_objectives_say(net):
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found = fv.score(net, ["conv2:3", obj.Logit(1), "-tv"], images)
    acts = net.capture(images, ["conv2", ""])
    assert torch.allclose(found[:, 0], acts["conv2"][:, 3].mean((1, 2)), atol=1e-5)
    assert torch.allclose(found[:, 1], acts[""][:, 1], atol=1e-5)
    assert torch.allclose(found[:, 2], -obj.TotalVariation()(acts.of(images)), atol=1e-5)
    assert fv.score(net, "conv2:3", images).shape == (3, 1)
    with pytest.raises(
        fv.SettingError, match=r"^images of shape \(3, 32, 32\); Plain takes \(n, 3, h, w\) in \[0, 1\]$"
    ):
        fv.score(net, "conv2:3", images[0])


def test_the_slope_of_a_spectrum_is_found_again():
    generator = torch.Generator().manual_seed(0)
    at = torch.hypot(torch.fft.fftfreq(128)[:, None], torch.fft.rfftfreq(128)).clamp(min=1 / 128)
    for power in (0.0, 1.0, 2.0):
        phases = torch.fft.rfft2(torch.randn(8, 3, 128, 128, generator=generator))
        images = torch.fft.irfft2(phases * at**-power)
        assert slope(images).mean().item() == pytest.approx(power, abs=0.1)


def test_folders_give_the_middle_of_every_image(tmp_path):
    from PIL import Image

    (tmp_path / "in" / "deep").mkdir(parents=True)
    wide = Image.new("RGB", (60, 20), "red")
    wide.paste(Image.new("RGB", (20, 20), "blue"), (20, 0))
    wide.save(tmp_path / "in" / "b.png")
    Image.new("RGB", (9, 30), "green").save(tmp_path / "in" / "deep" / "a.png")
    (file, blue), (other, green) = read_photographs(tmp_path / "in", size=16)
    assert (file.name, other.name) == ("b.png", "a.png")
    assert blue.shape == green.shape == (3, 16, 16)
    assert blue[2].min() > 0.99 and blue[0].max() < 0.01
    (_, flat), _ = read_photographs(tmp_path / "in", size=(10, 30))
    assert flat.shape == (3, 10, 30) and flat[0, :, 0].min() > 0.9 and flat[2, :, 15].min() > 0.9
    with pytest.raises(fv.OutputError, match="^no folder nowhere$"):
        next(read_photographs("nowhere"))


def test_the_clean_score_of_a_place_is_of_the_same_place_as_in_the_views(net):
    views = (T.Resize((24, 24)),)
    center, named = (
        fv.render(net, goal, steps=4, param=param.Image(48), transforms=views).robustness
        for goal in ("conv1:3@center", "conv1:3@12,12")
    )
    assert torch.allclose(center.clean, named.clean)
    assert torch.allclose(center.clean, center.augmented.mean(0), atol=1e-5)
    assert (obj.Neuron("conv1", 3) + obj.Layer("conv1")).placed and not obj.Channel("conv1", 3).placed


def test_what_remembers_scores_the_finished_picture_alone(net):
    style = obj.Style("conv2", torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0)), memory=0.9)
    rendering = fv.render(net, style, steps=6, transforms=())
    wanted = fv.score(net, obj.Style("conv2", style.picture), rendering.images)[:, 0]
    assert torch.allclose(rendering.robustness.clean, wanted, atol=1e-5)


def test_pictures_outlive_an_objective_that_cannot_score_them(net):
    @obj.objective("conv1")
    def fussy(acts):
        if not torch.is_grad_enabled():
            raise ValueError("not without gradients")
        return acts["conv1"].flatten(1).mean(1)

    with pytest.warns(fv.FeatvizWarning, match="^the finished pictures have no score: not without gradients$"):
        rendering = fv.render(net, fussy, steps=2)
    assert rendering.robustness is None and len(rendering.history) == 2


def test_one_picture_of_a_cppn_can_be_sent_elsewhere_and_drawn_there(net):
    rendering = fv.render(net, GOALS, steps=1, param=param.CPPN(), robustness_views=0)
    sent = pickle.loads(pickle.dumps(rendering[1]))
    assert torch.equal(sent.at(20).images, rendering.at(20).images[1:])
