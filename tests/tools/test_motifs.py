"""Visualizations of motifnet against the truth: the classes are drawn, so their appearance is known."""

import math

import pytest
import torch
from motifs.corruptions import SURE, UNSURE, add_noise, blurred_copies, destroy_motifs, reveal_parts
from motifs.draw import draw
from motifs.train import (
    accuracy,
    average,
    corrupted,
    input_times_gradient,
    logits,
    partly_shown,
    sharpen,
    update_class_losses,
)

import featviz as fv
from featviz import objectives as obj
from featviz import param
from featviz import transforms as T
from featviz.apps.explain.faithfulness import blur
from featviz.apps.explain.request import box_averaged
from featviz.network.bundled import IMAGE_NETWORKS, MOTIFS

CLASSES = ("stripes", "checkerboard", "rings", "heart", "leaf", "smiley", "clouds", "bricks", "zigzag", "spiral")


@pytest.fixture(scope="module")
def visualizations(motifnet):
    rendering = fv.render(motifnet, [f"logit:{name}" for name in CLASSES], param=param.Image(96), steps=128)
    return dict(zip(CLASSES, rendering.images, strict=True))


@pytest.mark.parametrize("name", IMAGE_NETWORKS)
def test_bundled_networks_classify_new_drawings(name):
    assert len(MOTIFS) >= 20
    net = fv.load(name, device="cpu")
    assert accuracy(net.module, batches=20, seed=77) >= 0.97
    labels = torch.tensor([MOTIFS.index(motif) for motif in ("rings", "spiral", "waves", "zigzag")] * 40)
    predicted = net.capture(draw(labels, net.size, torch.Generator().manual_seed(7)), [""]).logits().argmax(1)
    for motif in labels.unique():  # the most similar ones
        assert (predicted[labels == motif] == motif).float().mean() >= 0.8


def test_class_losses_are_running_averages():
    class_losses = torch.ones(3)
    for _ in range(200):
        update_class_losses(class_losses, torch.tensor([0, 1, 0, 1]), torch.tensor([4.0, 0.0, 2.0, 0.0]))
    assert torch.allclose(class_losses, torch.tensor([3.0, 0.0, 1.0]), atol=1e-3)


def test_destroyed_motifs_are_not_recognised():
    labels = torch.arange(len(MOTIFS)).repeat(6)
    drawings = draw(labels, (64, 64), torch.Generator().manual_seed(3))
    one, two = (destroy_motifs(drawings, labels, torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(one, two)
    assert one.shape == drawings.shape and one.amin() >= 0 and one.amax() <= 1
    for name, max_probability in (("motifnet", 0.7), ("motifvit", 0.4)):
        net = fv.load(name, device="cpu")
        intact, destroyed = (net.capture(images, [""]).logits().softmax(1) for images in (drawings, one))
        assert intact.amax(1).mean() > 0.9
        assert destroyed.gather(1, labels[:, None]).mean() < max_probability


def test_noise_has_the_given_strength_and_random_smoothness():
    grey = torch.full((200, 3, 32, 32), 0.5)
    noise = add_noise(grey, 0.1, torch.Generator().manual_seed(0)) - 0.5
    std = noise.std((1, 2, 3))
    assert std.max() < 0.1 and std.mean().item() == pytest.approx(0.05, abs=0.01)
    roughness = (noise[..., 1:] - noise[..., :-1]).square().mean((1, 2, 3)).sqrt() / std
    assert roughness.min() < 0.5 < 1.3 < roughness.max()  # from smooth to white


def test_destroyed_motifs_have_equal_probabilities():
    labels = torch.tensor([1, 2, 3])
    drawings = draw(labels, (64, 64), torch.Generator().manual_seed(0))
    images, truth = corrupted(drawings, labels, 1, 0.0, torch.Generator().manual_seed(0))
    assert torch.equal(images[1:], drawings[1:]) and not torch.equal(images[0], drawings[0])
    assert truth.argmax(1).tolist()[1:] == [2, 3] and truth[0].unique().tolist() == pytest.approx([1 / 27])


def test_partly_shown_drawings_are_those_of_a_loop():
    generator = torch.Generator().manual_seed(0)
    images, relevance = torch.rand(60, 3, 26, 39, generator=generator), torch.randn(60, 26, 39, generator=generator)
    given, certainty = reveal_parts(images, relevance, torch.Generator().manual_seed(1))
    kinds = set()
    for image, each, view, sure in zip(images, relevance, given, certainty[:, 0].tolist(), strict=True):
        visible = (view != blur(image)).any(0)
        assert torch.equal(view, torch.where(visible, image, blur(image)))
        smooth = box_averaged(each[None, None], 3)[0, 0]
        fraction = visible.float().mean().item()
        least = bool(smooth[visible].mean() < smooth[~visible].mean())
        kinds.add(least)
        below, above = (smooth[visible], smooth[~visible]) if least else (smooth[~visible], smooth[visible])
        assert below.max() <= above.min()
        truth = (fraction - UNSURE) / (1 - UNSURE) if least else fraction / SURE
        assert sure == pytest.approx(min(max(truth, 0), 1), abs=0.02)
    assert kinds == {True, False}
    again, _ = reveal_parts(images, relevance, torch.Generator().manual_seed(1))
    assert torch.equal(given, again)


def test_contributions_add_up_to_the_logit_of_a_linear_network():
    """Their sum is the difference of the logits of the image and of its blurred copy, whatever point is drawn."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 64 * 64, len(MOTIFS)))
    images, labels = torch.rand(4, 3, 64, 64), torch.tensor([3, 0, 8, 3])
    found = input_times_gradient(net, images, labels, torch.Generator().manual_seed(0))
    assert found.shape == (4, 64, 64) and net.training
    with torch.no_grad():
        whole, empty = (logits(net, x).gather(1, labels[:, None])[:, 0] for x in (images, blurred_copies(images)))
    assert torch.allclose(found.sum((1, 2)), whole - empty, atol=0.05)  # in bfloat16 where supported


def test_the_truth_of_partly_shown_drawings_is_between_their_motif_and_equal_probabilities():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 64 * 64, len(MOTIFS)))
    images, labels = torch.rand(40, 3, 64, 64), torch.arange(40) % len(MOTIFS)
    shown, truth = partly_shown(net, images, labels, torch.Generator().manual_seed(0))
    assert shown.shape == images.shape and torch.allclose(truth.sum(1), torch.ones(40))
    own = truth.gather(1, labels[:, None])[:, 0]
    others = truth.scatter(1, labels[:, None], torch.nan)
    for p, rest in zip(own.tolist(), others, strict=True):
        rest = rest[~rest.isnan()]
        assert rest.tolist() == pytest.approx([(1 - p) / (len(MOTIFS) - 1)] * (len(MOTIFS) - 1), abs=1e-6)
    assert own.min().item() == pytest.approx(1 / len(MOTIFS)) and own.max() == 1


@pytest.mark.parametrize("name", IMAGE_NETWORKS)
def test_weights_are_averaged_and_logits_multiplied(name):
    before, after, net = (IMAGE_NETWORKS[name]().eval() for _ in range(3))
    net.load_state_dict(after.state_dict())
    average(net, before.state_dict(), 0.25)
    for key, value in net.state_dict().items():
        if value.is_floating_point():
            assert torch.allclose(value, 0.25 * before.state_dict()[key] + 0.75 * after.state_dict()[key], atol=1e-6)
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        once = net(images)
        sharpen(net, 1.25)
        assert torch.allclose(net(images), 1.25 * once, atol=1e-4)


def test_drawings_depend_on_their_generator_only():
    labels = torch.arange(len(MOTIFS))
    one, two, other = (draw(labels, (20, 30), torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert one.shape == (len(labels), 3, 20, 30)
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert one.amin() >= 0
    assert one.amax() <= 1


@pytest.mark.long
def test_the_network_recognises_its_visualizations(motifnet, visualizations):
    logits = motifnet.capture(torch.stack(list(visualizations.values())), [""])[""]
    wanted = [motifnet.classes.index(name) for name in CLASSES]
    assert (logits.argmax(1) == torch.tensor(wanted)).float().mean() >= 0.9


def orientation(image):
    """Return the fraction of gradient energy by direction, in 18 bins over 180 degrees, each with its neighbours."""
    grey = image.mean(0)
    dy, dx = torch.gradient(grey)
    angle = (torch.atan2(dy, dx) % math.pi) / math.pi * 18
    energy = torch.zeros(18).scatter_add_(0, angle.long().clamp(max=17).flatten(), (dx**2 + dy**2).flatten())
    smooth = energy + energy.roll(1) + energy.roll(-1)
    return smooth / energy.sum()


def test_stripes_have_one_orientation(visualizations):
    share = orientation(visualizations["stripes"])
    assert share.max() > 0.35  # three bins of eighteen; 1/6 if evenly spread
    assert share[(int(share.argmax()) + 9) % 18] < 0.4 * share.max()


def crossing(image):
    """Return the fraction of the strongest direction and of the one perpendicular to it."""
    share = orientation(image)
    along = int(share.argmax())
    return share[along].item(), share[(along + 9) % 18].item()


def test_a_checkerboard_has_two_orientations(visualizations):
    along, across = crossing(visualizations["checkerboard"])
    assert along + across > 0.42  # 1/3 if evenly spread
    assert across > 0.6 * along


def roundness(image, radius=24):
    """Return the radial fraction of gradient energy around the best centre: 1 for circles, 1/2 for isotropic images."""
    grey = image.mean(0)
    dy, dx = torch.gradient(grey)
    energy = dx**2 + dy**2
    ys, xs = torch.meshgrid(*(torch.arange(float(side)) for side in grey.shape), indexing="ij")
    best = 0.0
    for y in range(radius // 2, grey.shape[0] - radius // 2, 2):
        for x in range(radius // 2, grey.shape[1] - radius // 2, 2):
            down, along = ys - y, xs - x
            r2 = down**2 + along**2
            near = (r2 < radius**2) & (r2 > 4)
            radial = (dy * down + dx * along) ** 2 / r2.clamp(min=1)
            best = max(best, (radial[near].sum() / energy[near].sum()).item())
    return best


def test_rings_are_concentric(visualizations):
    of_rings = roundness(visualizations["rings"])
    assert of_rings > 0.7
    assert all(roundness(visualizations[name]) < of_rings for name in ("checkerboard", "zigzag", "bricks", "clouds"))


@pytest.mark.parametrize(
    ("name", "more", "less"), [("heart", 0, 2), ("leaf", 1, 0), ("smiley", 0, 2), ("clouds", 2, 0), ("bricks", 0, 2)]
)
def test_classes_with_a_colour_have_it(visualizations, name, more, less):
    assert saturated_color(visualizations[name])[more] > saturated_color(visualizations[name])[less] + 0.1


def saturated_color(image):
    """Return the mean colour of the most saturated tenth of the pixels."""
    pixels = image.flatten(1)
    saturation = pixels.amax(0) - pixels.amin(0)
    return pixels[:, saturation >= saturation.quantile(0.9)].mean(1)


def test_the_measures_can_fail():
    x = torch.linspace(0, 40, 64).sin().expand(3, 64, 64)
    plain = orientation(x)
    assert plain.max() > 0.9
    noise = orientation(torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert noise.max() < 0.3
    random = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert sum(crossing(random)) < 0.4
    assert roundness(random) < 0.65
    ys, xs = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    assert roundness(torch.hypot(ys - 30, xs - 34).mul(0.8).sin().expand(3, 64, 64)) > 0.9
    assert roundness(x) < 0.65
    grey = saturated_color(torch.full((3, 8, 8), 0.5))
    assert grey.max() == grey.min()


@pytest.mark.slow
@pytest.mark.long
def test_an_interpolation_between_two_classes_passes_through_both(motifnet):
    goal = "interpolate(logit:rings, logit:stripes)"
    rendering = fv.render(motifnet, goal, param=param.Image(batch=5), steps=200)
    share = motifnet.capture(rendering.images, [""])[""].softmax(1)
    rings, stripes = (share[:, motifnet.classes.index(name)] for name in ("rings", "stripes"))
    assert rings[0] > 0.9 and stripes[-1] > 0.9
    assert rings[0] > 10 * rings[-1] and stripes[-1] > 10 * stripes[0]
    assert rings[1] + stripes[1] > 0.5 and rings[3] + stripes[3] > 0.5
    orientations = [orientation(image).max().item() for image in rendering.images]
    assert orientations[-1] > orientations[0] + 0.1  # stripes have one direction, rings all


def mean_distance(motifnet, images):
    """Return the mean distance of Gram matrices in a layer, over all pairs of images."""
    units = motifnet.capture(images, ["stage1"]).channels_first("stage1").flatten(2)
    grams = torch.nn.functional.normalize((units @ units.mT).flatten(1), dim=1)
    distances = torch.cdist(grams[None], grams[None])[0]
    return (distances.sum() / (len(images) * (len(images) - 1))).item()


@pytest.mark.slow
@pytest.mark.long
def test_diverse_spirals_differ_and_are_spirals(motifnet):
    """Measured in another layer than the one whose diversity is maximised."""
    plain, diverse = (
        fv.render(motifnet, f"logit:spiral{more}", param=param.Image(96, batch=4), steps=256)
        for more in ("", " + 10*diversity(stage2)")
    )
    assert mean_distance(motifnet, diverse.images) > 1.5 * mean_distance(motifnet, plain.images)
    named = motifnet.capture(diverse.images, [""])[""].argmax(1)
    assert [motifnet.classes[i] for i in named] == ["spiral"] * 4


@pytest.mark.slow
@pytest.mark.long
def test_a_caricature_of_a_drawing_keeps_its_class(motifnet):
    names = ("eye", "fish", "flower", "bricks", "rings", "heart")
    labels = torch.tensor([motifnet.classes.index(name) for name in names])
    drawings = draw(labels, (64, 64), torch.Generator().manual_seed(5))
    goals = [obj.Caricature("stage3", drawing) for drawing in drawings]
    near = (T.Jitter(4), T.Rotate(5))
    rendering = fv.render(motifnet, goals, param=param.Image(64), transforms=near, steps=256)
    logits = motifnet.capture(rendering.images, [""])[""]
    assert [motifnet.classes[i] for i in logits.argmax(1)] == list(names)
    before = motifnet.capture(drawings, ["stage3"])["stage3"].flatten(1).norm(dim=1)
    after = motifnet.capture(rendering.images, ["stage3"])["stage3"].flatten(1).norm(dim=1)
    assert (after > 1.05 * before).all()  # a caricature is exaggerated


@pytest.mark.long
def test_a_mask_restricts_where_a_channel_appears(motifnet):
    mask = torch.zeros(96, 96)
    mask[:, 48:] = 1
    goal = obj.Within(obj.Channel("stage2", 6), mask) - obj.L2()
    rendering = fv.render(motifnet, goal, param=param.Image(96), steps=200)
    response = motifnet.capture(rendering.images, ["stage2"]).channel("stage2", 6)[0]
    half = response.shape[1] // 2
    assert response[:, half + 2 :].mean() > 2 * response[:, : half - 2].mean()
    saturation = rendering.images[0].std(0)
    assert saturation[:, 56:].mean() > 1.5 * saturation[:, :40].mean()


@pytest.mark.slow
@pytest.mark.long
def test_an_image_in_the_style_of_a_drawing_keeps_its_class(motifnet):
    """The texture alone decides, since positions are not preserved."""
    labels = torch.tensor([motifnet.classes.index(name) for name in ("bricks", "giraffe")])
    drawings = draw(labels, (96, 96), torch.Generator().manual_seed(3))
    goals = [obj.Style("stage1", drawing) + obj.Style("stage2", drawing) for drawing in drawings]
    rendering = fv.render(motifnet, goals, param=param.Image(96), transforms=T.Jitter(8), steps=256)
    named = motifnet.capture(rendering.images, [""])[""].argmax(1)
    assert named.tolist() == labels.tolist()


def test_an_autoencoder_learns_drawings_and_its_decoder_draws_from_latents():
    from motifs.vae import LATENT, MotifDecoder, train

    state = torch.get_rng_state()
    trained = train(12)
    assert torch.equal(torch.get_rng_state(), state)
    images = trained(torch.randn(2, *LATENT))
    assert images.shape == (2, 3, 64, 64)
    assert images.min() >= 0 and images.max() <= 1
    torch.manual_seed(0)
    untrained = MotifDecoder()
    assert not torch.equal(trained.layers[0].weight, untrained.layers[0].weight)
