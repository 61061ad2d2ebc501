"""motifnet's pictures against the truth: we drew the classes, so we know what they look like."""

import math

import pytest
import torch
from motifs.draw import draw
from motifs.spoil import grained, spoil
from motifs.train import accuracy, follow, worsened

import featviz as fv
from featviz import objectives as obj
from featviz import param
from featviz import transforms as T
from featviz.network.bundled import BUNDLED, MOTIFS

CLASSES = ("stripes", "checkerboard", "rings", "heart", "leaf", "smiley", "clouds", "bricks", "zigzag", "spiral")


@pytest.fixture(scope="module")
def pictures(motifnet):
    rendering = fv.render(motifnet, [f"logit:{name}" for name in CLASSES], param=param.Image(96), steps=256)
    return dict(zip(CLASSES, rendering.images, strict=True))


@pytest.mark.parametrize("name", BUNDLED)
def test_an_embedded_network_names_fresh_drawings(name):
    assert len(MOTIFS) >= 20
    net = fv.load(name, device="cpu")
    assert accuracy(net.module, batches=20, seed=77) >= 0.97
    labels = torch.tensor([MOTIFS.index(motif) for motif in ("rings", "spiral", "waves", "zigzag")] * 40)
    seen = net.capture(draw(labels, net.size, torch.Generator().manual_seed(7)), [""]).logits().argmax(1)
    for motif in labels.unique():  # those that are easiest to mistake for each other
        assert (seen[labels == motif] == motif).float().mean() >= 0.8


def test_what_a_network_has_trouble_with_is_known():
    trouble = torch.ones(3)
    for _ in range(200):
        follow(trouble, torch.tensor([0, 1, 0, 1]), torch.tensor([4.0, 0.0, 2.0, 0.0]))
    assert torch.allclose(trouble, torch.tensor([3.0, 0.0, 1.0]), atol=1e-3)


def test_of_a_spoilt_drawing_nothing_is_seen():
    labels = torch.arange(len(MOTIFS)).repeat(6)
    drawings = draw(labels, (64, 64), torch.Generator().manual_seed(3))
    one, two = (spoil(drawings, labels, torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(one, two)
    assert one.shape == drawings.shape and one.amin() >= 0 and one.amax() <= 1
    for name, most in (("motifnet", 0.7), ("motifvit", 0.4)):
        net = fv.load(name, device="cpu")
        sure, spoilt = (net.capture(images, [""]).logits().softmax(1) for images in (drawings, one))
        assert sure.amax(1).mean() > 0.9
        assert spoilt.gather(1, labels[:, None]).mean() < most


def test_grain_is_as_loud_as_asked_for():
    grey = torch.full((200, 3, 32, 32), 0.5)
    noise = grained(grey, 0.1, torch.Generator().manual_seed(0)) - 0.5
    loud = noise.std((1, 2, 3))
    assert loud.max() < 0.1 and loud.mean().item() == pytest.approx(0.05, abs=0.01)
    rough = (noise[..., 1:] - noise[..., :-1]).square().mean((1, 2, 3)).sqrt() / loud
    assert rough.min() < 0.5 < 1.3 < rough.max()  # from smooth to white


def test_what_is_worsened_has_its_truth():
    labels = torch.tensor([1, 2, 3])
    drawings = draw(labels, (64, 64), torch.Generator().manual_seed(0))
    images, truth = worsened(drawings, labels, 1, 0.0, torch.Generator().manual_seed(0))
    assert torch.equal(images[1:], drawings[1:]) and not torch.equal(images[0], drawings[0])
    assert truth.argmax(1).tolist()[1:] == [2, 3] and truth[0].unique().tolist() == pytest.approx([1 / 27])


def test_drawings_come_from_their_generator_alone():
    labels = torch.arange(len(MOTIFS))
    one, two, other = (draw(labels, (20, 30), torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert one.shape == (len(labels), 3, 20, 30)
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert one.amin() >= 0
    assert one.amax() <= 1


def test_the_network_sees_its_classes_in_its_pictures(motifnet, pictures):
    logits = motifnet.capture(torch.stack(list(pictures.values())), [""])[""]
    wanted = [motifnet.classes.index(name) for name in CLASSES]
    assert (logits.argmax(1) == torch.tensor(wanted)).float().mean() >= 0.9


def orientation(picture):
    """Energy of the gradient by direction, 18 bins over half a turn, and the share of the strongest."""
    grey = picture.mean(0)
    dy, dx = torch.gradient(grey)
    angle = (torch.atan2(dy, dx) % math.pi) / math.pi * 18
    energy = torch.zeros(18).scatter_add_(0, angle.long().clamp(max=17).flatten(), (dx**2 + dy**2).flatten())
    smooth = energy + energy.roll(1) + energy.roll(-1)
    return smooth / energy.sum()


def test_stripes_have_one_orientation(pictures):
    share = orientation(pictures["stripes"])
    assert share.max() > 0.35  # three bins of eighteen; even spread gives 1/6
    assert share[(int(share.argmax()) + 9) % 18] < 0.4 * share.max()


def crossing(picture):
    """The share of the strongest direction and of the one across it."""
    share = orientation(picture)
    along = int(share.argmax())
    return share[along].item(), share[(along + 9) % 18].item()


def test_a_checkerboard_has_two_orientations(pictures):
    along, across = crossing(pictures["checkerboard"])
    assert along + across > 0.42  # even spread gives 1/3
    assert across > 0.6 * along


def roundness(picture, reach=24):
    """How far the gradient points to or from one centre, at the best centre: 1 for circles, 1/2 for anything even."""
    grey = picture.mean(0)
    dy, dx = torch.gradient(grey)
    energy = dx**2 + dy**2
    ys, xs = torch.meshgrid(*(torch.arange(float(side)) for side in grey.shape), indexing="ij")
    best = 0.0
    for y in range(reach // 2, grey.shape[0] - reach // 2, 2):
        for x in range(reach // 2, grey.shape[1] - reach // 2, 2):
            down, along = ys - y, xs - x
            r2 = down**2 + along**2
            near = (r2 < reach**2) & (r2 > 4)
            radial = (dy * down + dx * along) ** 2 / r2.clamp(min=1)
            best = max(best, (radial[near].sum() / energy[near].sum()).item())
    return best


def test_rings_are_round_about_a_centre(pictures):
    round_enough = roundness(pictures["rings"])
    assert round_enough > 0.7
    assert all(roundness(pictures[name]) < round_enough for name in ("checkerboard", "zigzag", "bricks", "clouds"))


@pytest.mark.parametrize(
    ("name", "more", "less"), [("heart", 0, 2), ("leaf", 1, 0), ("smiley", 0, 2), ("clouds", 2, 0), ("bricks", 0, 2)]
)
def test_colours_where_a_class_has_them(pictures, name, more, less):
    assert vivid(pictures[name])[more] > vivid(pictures[name])[less] + 0.1


def vivid(picture):
    """The mean colour of the most saturated tenth of the pixels."""
    pixels = picture.flatten(1)
    saturation = pixels.amax(0) - pixels.amin(0)
    return pixels[:, saturation >= saturation.quantile(0.9)].mean(1)


def test_measures_can_fail():
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
    grey = vivid(torch.full((3, 8, 8), 0.5))
    assert grey.max() == grey.min()


def test_an_interpolation_between_two_classes_passes_through_both(motifnet):
    goal = "interpolate(logit:rings, logit:stripes)"
    rendering = fv.render(motifnet, goal, param=param.Image(batch=5), steps=200)
    share = motifnet.capture(rendering.images, [""])[""].softmax(1)
    rings, stripes = (share[:, motifnet.classes.index(name)] for name in ("rings", "stripes"))
    assert rings[0] > 0.9 and stripes[-1] > 0.9
    assert rings[0] > 10 * rings[-1] and stripes[-1] > 10 * stripes[0]
    assert rings[1] + stripes[1] > 0.5 and rings[3] + stripes[3] > 0.5
    orientations = [orientation(picture).max().item() for picture in rendering.images]
    assert orientations[-1] > orientations[0] + 0.1  # stripes lie along one direction, rings along all


def apart(motifnet, images):
    """The mean distance of Gram matrices in a layer, over all pairs of pictures."""
    units = motifnet.capture(images, ["stage1"]).channels_first("stage1").flatten(2)
    grams = torch.nn.functional.normalize((units @ units.mT).flatten(1), dim=1)
    distances = torch.cdist(grams[None], grams[None])[0]
    return (distances.sum() / (len(images) * (len(images) - 1))).item()


def test_diversity_gives_spirals_that_differ_and_are_spirals(motifnet):
    """Measured in another layer than the one whose diversity is asked for."""
    plain, diverse = (
        fv.render(motifnet, f"logit:spiral{more}", param=param.Image(96, batch=4), steps=256)
        for more in ("", " + 10*diversity(stage2)")
    )
    assert apart(motifnet, diverse.images) > 1.5 * apart(motifnet, plain.images)
    named = motifnet.capture(diverse.images, [""])[""].argmax(1)
    assert [motifnet.classes[i] for i in named] == ["spiral"] * 4


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
    assert (after > 1.05 * before).all()  # exaggerated, that is


def test_a_mask_says_where_in_the_picture(motifnet):
    mask = torch.zeros(96, 96)
    mask[:, 48:] = 1
    goal = obj.Within(obj.Channel("stage2", 6), mask) - obj.L2()
    rendering = fv.render(motifnet, goal, param=param.Image(96), steps=200)
    response = motifnet.capture(rendering.images, ["stage2"]).channel("stage2", 6)[0]
    half = response.shape[1] // 2
    assert response[:, half + 2 :].mean() > 2 * response[:, : half - 2].mean()
    blur = rendering.images[0].std(0)
    assert blur[:, 56:].mean() > 1.5 * blur[:, :40].mean()


def test_a_given_style_is_found_again(motifnet):
    """A picture in the style of a drawing is called what the drawing is, though nothing is where it was."""
    labels = torch.tensor([motifnet.classes.index(name) for name in ("bricks", "giraffe")])
    drawings = draw(labels, (96, 96), torch.Generator().manual_seed(3))
    goals = [obj.Style("stage1", drawing) + obj.Style("stage2", drawing) for drawing in drawings]
    rendering = fv.render(motifnet, goals, param=param.Image(96), transforms=T.Jitter(8), steps=256)
    named = motifnet.capture(rendering.images, [""])[""].argmax(1)
    assert named.tolist() == labels.tolist()
