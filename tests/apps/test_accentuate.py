"""`fv.accentuate` and `featviz accentuate`: the ascent restated, opacity, replay, interruption and messages."""

import re
from dataclasses import replace

import pytest
import torch
import toys
from PIL import Image

import featviz as fv
from featviz.apps.accentuate.accentuate import change, opacity
from featviz.apps.shared.arguments.main_blocks import block_at
from featviz.cli import main

SIDE = 16
FEW = {"steps": 3, "crops": 2, "progress": None}


@pytest.fixture(scope="module")
def net():
    return toys.plain().with_input(size=(SIDE, SIDE))


@pytest.fixture(scope="module")
def photograph():
    return torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(4)) * 0.6 + 0.2


def test_the_ascent_restated(net, photograph):
    """With one crop of the whole image, in which nothing is random but the noise of the first step."""
    weight, steps = 0.7, 4
    found = fv.accentuate(
        net, photograph, "conv2:1", layer="conv1", weight=weight, crops=1, zoom=1, steps=steps, seed=3, progress=None
    )
    image = fv.param.Image((SIDE, SIDE))
    leaves = [leaf.requires_grad_() for leaf in image.fit(photograph)]
    stepper = fv.optimizers.Adam(0.05, 0.2, betas=(0.9, 0.999)).begin(leaves, steps)
    target = net.capture(photograph, ["conv1"])["conv1"].detach()
    noise = 0.01 * torch.randn(3, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
    scores, total = [], torch.zeros(1, 3, SIDE, SIDE)

    def distance(x):
        return (net.capture(x, ["conv1"])["conv1"] - target).square().sum().sqrt()

    for step in range(steps):
        x = image.images(leaves, (SIDE, SIDE))
        score = net.capture(x, ["conv2"])["conv2"][0, 1].mean()
        (up,) = torch.autograd.grad(score, x, retain_graph=True)
        if step == 0:
            near = (photograph + noise).requires_grad_()
            (probe,) = torch.autograd.grad(distance(near), near)
            ratio = up.abs().sum() / probe.abs().sum()
            back = torch.zeros_like(up)
        else:
            (back,) = torch.autograd.grad(distance(x) ** 2 / target.norm(), x, retain_graph=True)
        x.backward(weight * ratio * back - up)
        stepper.step()
        scores.append(float(score.detach()))
        total += up.abs()
    torch.testing.assert_close(found.images[:, :3], image.images(leaves, (SIDE, SIDE)).detach(), atol=1e-4, rtol=0)
    torch.testing.assert_close(found.images[:, 3:], opacity(total.sum(1, keepdim=True)), atol=2e-3, rtol=0)
    assert found.history[:, 0].tolist() == pytest.approx(scores, abs=1e-4)
    assert found.alpha


def test_both_images_are_seen_through_the_same_crops(net, photograph):
    """The distance of a photograph to itself is 0 in every crop, so a weight changes nothing at the first step."""
    one, two = (
        fv.accentuate(net, photograph, "conv2:1", weight=weight, crops=4, zoom=3, steps=1, progress=None)
        for weight in (0.0, 5.0)
    )
    assert torch.equal(one.images, two.images)


def test_a_weight_keeps_the_early_layer(net, photograph):
    free, kept = (
        fv.accentuate(net, photograph, "conv2:1", layer="conv1", weight=weight, crops=4, steps=30, progress=None)
        for weight in (0.0, 4.0)
    )
    before = fv.score(net, "conv2:1", photograph)
    changes = [change(net, "conv1", each.images[:, :3], photograph) for each in (free, kept)]
    assert changes[1] < 0.7 * changes[0]
    for each in (free, kept):
        assert fv.score(net, "conv2:1", each.images[:, :3]) > before


def test_a_larger_weight_changes_less_and_none_holds_the_image(net, photograph):
    """The penalty is squared: its gradient fades near the photograph, and every weight leaves some change."""
    found = [
        fv.accentuate(net, photograph, "conv2:1", layer="conv1", weight=weight, crops=4, steps=30, progress=None)
        for weight in (2.0, 8.0, 32.0)
    ]
    changes = [change(net, "conv1", each.images[:, :3], photograph) for each in found]
    assert changes[0] > changes[1] > changes[2] > 0.005


def test_opacity_is_blurred_and_full_where_the_gradient_is_largest():
    gradient = torch.zeros(1, 1, 40, 40)
    gradient[..., 10:30, 10:30] = 5
    alpha = opacity(gradient)
    assert alpha[..., 15:25, 15:25].min() == 1
    assert alpha[..., :5, :5].max() == 0
    assert 0 < alpha[0, 0, 9, 20] < 1
    assert opacity(torch.zeros(1, 1, 40, 40)).max() == 0


def test_change_restated(net, photograph):
    other = (photograph + 0.1).clamp(0, 1)
    a, p = (net.capture(each, ["conv1"])["conv1"].flatten() for each in (other, photograph))
    restated = sum((x - y) ** 2 for x, y in zip(a.tolist(), p.tolist(), strict=True)) / sum(y**2 for y in p.tolist())
    assert change(net, "conv1", other, photograph) == pytest.approx(restated**0.5, rel=1e-4)


def test_the_default_objective_is_the_class_that_the_network_sees(net, photograph):
    best = int(net.capture(photograph, [""])[""].argmax())
    assert fv.accentuate(net, photograph, **FEW).names == (str(fv.objectives.Logit(net.classes[best])),)


@pytest.mark.parametrize(
    ("model", "layer"),
    [("motifnet", "stage1"), ("motifvit", "conv_proj.conv_bn_relu_2"), ("mobilenet_v2", "features.4")],
)
def test_the_default_layer_is_early(model, layer):
    assert block_at(fv.load(model, weights="none", device="cpu"), 1 / 4, (0.03, 0.5)) == layer


# ---------------------------------------------------------------------------------------------- recipes


@pytest.fixture
def file(photograph, tmp_path):
    Image.fromarray((photograph[0].permute(1, 2, 0) * 255).byte().numpy()).save(tmp_path / "photo.png")
    return str(tmp_path / "photo.png")


@pytest.mark.parametrize("opaque", [False, True])
def test_a_replay_is_equal(net, file, tmp_path, opaque):
    found = fv.accentuate(net, file, "conv2:1", opaque=opaque, zoom=2, **FEW)
    assert found.images.shape == (1, 3 if opaque else 4, SIDE, SIDE)
    found.save(tmp_path / "a.png")
    assert torch.equal(fv.replay(tmp_path / "a.png", network=net).images, found.images)


def test_a_changed_setting_of_the_recipe(net, file):
    recipe = fv.accentuate(net, file, "conv2:1", **FEW).recipe
    for name, value in (("depth", 3), ("crops", 2.5), ("layer", None), ("opaque", 1)):
        with pytest.raises(fv.RecipeError) as caught:
            fv.replay(replace(recipe, accentuation={**recipe.accentuation, name: value}), network=net)
        assert str(caught.value) == (
            f"the recipe cannot be read, as fv.accentuate has no setting {name}={value!r}; was the file changed?"
        )
    assert replace(recipe, accentuation={**recipe.accentuation, "weight": 2.0}).hash != recipe.hash


def test_ctrl_c_returns_the_image_so_far_which_replays(net, file):
    def interrupt(done, steps):
        if done == 2:
            raise KeyboardInterrupt

    found = fv.accentuate(net, file, "conv2:1", steps=5, crops=2, progress=interrupt)
    assert (found.recipe.steps, found.recipe.until, len(found.history)) == (5, 2, 2)
    assert torch.equal(fv.replay(found.recipe, network=net).images, found.images)


def test_progress_counts_steps_and_gets_images(net, photograph):
    class Watch(fv.interfaces.ImageProgress):
        seen = ()

        def __call__(self, done, steps):
            self.seen += ((done, steps),)

        def wants_images(self, done, steps):
            return done == 2

        def show(self, done, steps, images):
            self.shown = done, images

    watch = Watch()
    fv.accentuate(net, photograph, "conv2:1", steps=3, crops=1, progress=watch)
    assert watch.seen == ((1, 3), (2, 3), (3, 3))
    assert watch.shown[0] == 2
    assert watch.shown[1].shape == (1, 3, SIDE, SIDE)


# ---------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"weight": -1}, "weight must be >= 0, got -1 (default 4)"),
        ({"crops": 0}, "crops must be a whole number in [1, 1024], got 0 (default 16)"),
        ({"zoom": 0.5}, "zoom must be in [1, 64], got 0.5 (default 1.3)"),
        ({"zoom": 1e9}, "zoom must be in [1, 64], got 1000000000.0 (default 1.3)"),
        ({"steps": 0}, "steps must be a whole number >= 1, got 0 (default 100)"),
        ({"lr": 0}, "lr must be > 0, got 0 (default 0.05)"),
        (
            {"objective": "diversity(conv2)"},
            "the target must score a single image, got diversity(conv2), which compares several",
        ),
        ({"image": torch.rand(2, 3, SIDE, SIDE)}, "accentuate takes one image, got 2; call it once for each"),
    ],
)
def test_mistakes_are_named(net, photograph, given, message):
    with pytest.raises(fv.SettingError, match=f"^{re.escape(message)}"):
        fv.accentuate(net, **{"image": photograph, "objective": "conv2:1", **FEW, **given})


def test_a_unit_without_a_gradient_is_named(net, photograph):
    message = (
        "no gradient of 0 * conv2:1 reaches the image: its units are inactive for this photograph; choose another "
        "objective or photograph"
    )
    with pytest.raises(fv.RenderError, match=f"^{re.escape(message)}$"):
        fv.accentuate(net, photograph, "0 * conv2:1", **FEW)


def test_the_command(file, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["accentuate", file, "stage2:3", "--steps", "2", "--crops", "2", "--quiet", "--device", "cpu"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert re.match(r"stage2:3: -?[\d.e-]+ in crops of the photograph, -?[\d.e-]+ in those of the image\n", said)
    assert said.endswith("photo-accentuated.png\n")
    with Image.open(tmp_path / "photo-accentuated.png") as written:
        assert written.mode == "RGBA"
    assert main([*words, "--weight", "-1"]) == 2
    assert capsys.readouterr().err.startswith("featviz: weight must be >= 0, got -1")


def test_a_class_whose_name_another_has_is_accentuated_itself(photograph):
    likely = int(fv.load("motifnet", device="cpu").capture(photograph, [""]).logits().argmax())
    names = ["same" if i in (0, likely) else str(i) for i in range(27)]
    assert likely > 0
    net = fv.load("motifnet", device="cpu", classes=names)
    assert fv.accentuate(net, photograph, steps=1, crops=1).names == (f"logit:{likely}",)
