"""Judging rendered images with a second network."""

import math
import re
from dataclasses import dataclass, replace

import pytest
import torch
from motifs.draw import draw
from PIL import Image

import featviz as fv
from featviz import param
from featviz.apps.judge.judge import FRAGILE, NO_BETTER_THAN_NOISE, ROBUST, VERDICTS
from featviz.apps.shared.judging.judge_crops import crops
from featviz.apps.shared.judging.predictions import predict
from featviz.cli import main
from featviz.network import find
from featviz.network.bundled import MOTIFS

BOTH, OWN_ONLY, NEITHER = VERDICTS[True, True], VERDICTS[True, False], VERDICTS[False, False]


@pytest.fixture(scope="module")
def motifvit():
    return fv.load("motifvit", device="cpu")


@pytest.fixture(scope="module")
def rendering(motifnet):
    return fv.render(motifnet, ["logit:heart", "logit:eye - 0.1*tv", "stage2:5"], param=param.Image(96), steps=192)


KINDS = len(MOTIFS)


class NotANumber(torch.nn.Module):
    def forward(self, x):
        return x * float("nan")


def drawings(folder, count=54, kinds=KINDS, light=(1.0, 1.0, 1.0)):
    folder.mkdir()
    labels = torch.arange(count) % kinds
    for i, image in enumerate(draw(labels, (64, 64), torch.Generator().manual_seed(0))):
        image *= torch.tensor(light).view(3, 1, 1)
        Image.fromarray((image.permute(1, 2, 0) * 255).byte().numpy()).save(folder / f"{i:02d}.png")
    return folder


def test_classes_are_recognised_in_renderings_and_not_in_noise(motifnet, motifvit, rendering):
    heart, eye, unit = fv.judge(rendering, judge=motifvit, network=motifnet)
    assert (heart.verdict, eye.verdict) == (BOTH, BOTH)
    assert (heart.unit, eye.unit, unit.unit) == ("logit:heart", "logit:eye", "stage2:5")
    assert heart.own_probability > 0.9 and heart.probability > 0.5 and heart.retained > 0.2
    assert (unit.rank, unit.probability, unit.own_probability) == (None, None, None)
    noise = fv.render(motifnet, ["logit:heart", "logit:leaf"], steps=0)
    judgement = fv.judge(noise, judge=motifvit, network=motifnet)
    assert [one.verdict for one in judgement] == [NEITHER, NEITHER]
    assert judgement.top(1) == 0 and judgement.probability < 0.3


def test_each_image_is_judged_with_the_network_of_its_recipe(motifvit, tmp_path):
    """The same weights with other outputs are another network."""
    for outputs in ("classes", "multilabel"):
        net = fv.load("motifnet", outputs=outputs, device="cpu")
        fv.render(net, "logit:heart", steps=2).save(tmp_path / f"{outputs}.png")
    files = [tmp_path / "classes.png", tmp_path / "multilabel.png"]
    alone = [fv.judge(file, judge=motifvit)[0].own_probability for file in files]
    for order in (files, files[::-1]):
        found = {one.image: one.own_probability for one in fv.judge(order, judge=motifvit)}
        assert [found["classes"], found["multilabel"]] == pytest.approx(alone)
    assert alone[0] != pytest.approx(alone[1], abs=0.01)


def test_adversarial_images_are_recognised_by_their_own_network_only(motifnet, motifvit):
    """Drawings whose pixels are optimised without transforms until motifnet predicts another class."""
    labels = torch.tensor([motifnet.classes.index(name) for name in ("leaf", "smiley", "bricks")])
    drawings = draw(labels, (64, 64), torch.Generator().manual_seed(0))
    goals = ["logit:dots", "logit:bricks", "logit:leaf"]
    how = {
        "param": param.Pixel(),
        "transforms": (),
        "optimizer": fv.optimizers.Adam(0.1, anchor_decay=0.0),
        "start": drawings,
    }
    fooled = fv.render(motifnet, goals, steps=64, **how)
    verdicts = [one.verdict for one in fv.judge(fooled, judge=motifvit, network=motifnet)]
    assert verdicts.count(OWN_ONLY) >= 2 and NEITHER not in verdicts


@pytest.mark.long
def test_images_rendered_without_transforms_are_scored_in_other_views(motifnet, motifvit):
    goals = [f"stage3:{channel}" for channel in range(4)]
    fooled = fv.render(motifnet, goals, transforms=(), param=param.Image(64, spatial=param.Pixel()), steps=64)
    assert fooled.robustness.retained.min() > 0.99
    judgement = fv.judge(fooled, judge=motifvit, network=motifnet)
    assert max(one.retained for one in judgement) < 0.8
    assert FRAGILE in {one.verdict for one in judgement}


@pytest.mark.long
def test_the_first_unit_that_an_objective_maximises_is_judged(motifnet, motifvit):
    goals = ["-stage2:5", "2*tv - stage2:5", "-3 * logit:star + stage2:6 * 2", "stage2 - tv", "logit:star / 2 - tv"]
    least = fv.render(motifnet, goals, steps=64)
    judgement = fv.judge(least, judge=motifvit, network=motifnet)
    assert [one.unit for one in judgement] == ["-stage2:5", "2 * tv - stage2:5", "stage2:6", "stage2", "logit:star"]
    assert judgement[0].retained > 0.5
    for text in ("-ramp(0, 1) * logit:star", "ramp(0, -5) * logit:star", "-tv * logit:star", "logit:star / -2"):
        assert fv.objectives.parse(text).shown_unit() is None
    ends = fv.objectives.parse("interpolate(-stage2:5, stage2:5)")
    assert [str(ends.shown_unit(position)) for position in (0, 1)] == ["-stage2:5", "stage2:5"]
    held = param.Image(64, batch=3)
    between = fv.render(motifnet, "interpolate(logit:heart, logit:leaf)", param=held, steps=64)
    units = [one.unit for one in fv.judge(between, judge=motifvit, network=motifnet)]
    assert units == ["logit:heart", "0.5 * logit:heart + 0.5 * logit:leaf", "logit:leaf"]
    apart = fv.render(motifnet, "stage2 + 10*diversity(stage2)", param=held, steps=4)
    assert {one.unit for one in fv.judge(apart, judge=motifvit, network=motifnet)} == {"stage2"}
    diverse = fv.render(motifnet, "diversity(stage2) - tv", param=held, steps=1)
    with pytest.raises(
        fv.SettingError, match="compares the images of a batch and names no unit to recognise; judge other images$"
    ):
        fv.judge(diverse, judge=motifvit, network=motifnet)


@pytest.mark.long
def test_the_aspect_ratio_of_an_image_is_kept(motifnet, motifvit):
    wide = fv.render(motifnet, ["logit:star", "logit:heart"], param=param.Image((64, 192)), steps=128)
    for one in fv.judge(wide, judge=motifvit, network=motifnet):
        assert one.verdict == BOTH and one.own_probability > 0.9
    long = fv.render(motifvit, ["logit:stripes", "logit:star"], param=param.Image((64, 192)), steps=64)
    for one, clean in zip(fv.judge(long, judge=motifnet, network=motifvit), long.robustness.clean, strict=True):
        assert one.own_probability > 0.8 and one.score == pytest.approx(clean.item(), abs=0.2)  # as in the render


def test_crops_are_taken_along_the_longer_side():
    image = torch.linspace(0, 1, 300).expand(3, 100, 300)
    centres = [crop[..., 25, 25].mean().item() for crop in crops(image, (50, 50))]
    assert centres[:3] == pytest.approx([1 / 6, 0.5, 5 / 6], abs=0.02)


def test_files_get_the_verdicts_of_their_rendering(motifnet, motifvit, rendering, tmp_path):
    files = rendering.save(tmp_path)
    saved, rendered = fv.judge(files, judge=motifvit), fv.judge(rendering, judge=motifvit, network=motifnet)
    assert [one.image for one in saved] == ["00-logit_heart", "01-logit_eye_-_0.1___tv", "02-stage2_5"]
    for one, other in zip(saved, rendered, strict=True):
        assert one.rank == other.rank and one.verdict == other.verdict
        assert one.score == pytest.approx(other.score, abs=0.3)  # 8 bits
    (alone,) = fv.judge(rendering[1], judge=motifvit)
    assert alone.unit == "logit:eye"


def test_the_score_is_compared_with_photographs(motifnet, motifvit, rendering, tmp_path):
    folder = drawings(tmp_path / "drawings")
    heart, _, unit = fv.judge(rendering, judge=motifvit, photographs=folder)
    assert heart.percentile > 0.9 and unit.percentile > 0.9
    noise = fv.render(motifnet, "stage2:5", steps=0)
    assert fv.judge(noise, judge=motifvit, photographs=folder)[0].percentile < 0.9


@pytest.mark.long
def test_each_image_is_scored_by_the_network_of_its_recipe(motifnet, motifvit, tmp_path):
    dark = motifnet.with_input(mean=(0.0,) * 3, std=(1.0,) * 3)
    for name, network in (("dark", dark), ("usual", motifnet)):
        fv.render(network, "logit:star", steps=128).save(tmp_path / f"{name}.png")
    files = [tmp_path / "dark.png", tmp_path / "usual.png"]
    first, second = ({one.image: one for one in fv.judge(order, judge=motifvit)} for order in (files, files[::-1]))
    assert first == second and first["dark"].score != first["usual"].score


class Some(torch.nn.Module):
    """Some of the outputs of a network."""

    def __init__(self, module, classes):
        super().__init__()
        self.module, self.classes = module, classes

    def forward(self, x):
        return self.module(x)[:, self.classes]


def some(network, classes):
    names = [network.classes[index] for index in classes]
    return fv.Network(Some(network.module, classes), size=64, mean=(0.5,) * 3, std=(0.5,) * 3, classes=names)


@pytest.mark.parametrize("names", [("heart",), ("heart", "leaf")])
@pytest.mark.long
def test_of_one_class_or_two_none_is_recognised_in_noise(motifnet, motifvit, names):
    """Of two classes, either ranks first in half of all noise images; a single class always does."""
    indices = [motifnet.classes.index(name) for name in names]
    network, judge = some(motifnet, indices), some(motifvit, indices)
    goals = [f"logit:{name}" for name in names]
    noise = fv.judge(fv.render(network, goals, steps=0), judge=judge, network=network)
    assert {one.verdict for one in noise} == {NEITHER}
    rendered = fv.judge(fv.render(network, goals, steps=128), judge=judge, network=network)
    assert {one.verdict for one in rendered} == {BOTH}


def test_a_judge_with_constant_output_recognises_nothing(motifnet, rendering):
    constant = fv.load("motifvit", device="cpu")
    for weight in constant.module.heads.parameters():
        weight.data.zero_()
    heart, *_ = fv.judge(rendering, judge=constant, network=motifnet)
    assert (heart.rank, heart.verdict) == (KINDS, OWN_ONLY)


@pytest.mark.long
def test_a_neuron_is_scored_at_its_position(motifnet, motifvit, tmp_path):
    made = fv.render(motifnet, "stage2:6@20,20", param=param.Image(128), steps=512)
    (one,) = fv.judge(made, judge=motifvit, network=motifnet, photographs=drawings(tmp_path / "drawings", 12))
    assert one.score == pytest.approx(made.robustness.clean.item(), abs=1e-3) and one.percentile > 0.5


@pytest.mark.parametrize(
    "settings", [{"param": param.CPPN()}, {"param": param.Image(128), "transforms": fv.transforms.NONE}]
)
def test_a_neuron_is_scored_through_the_transforms_and_at_the_size_of_its_render(motifnet, motifvit, settings):
    made = fv.render(motifnet, "stage2:6@12,3", steps=24, **settings)
    shown = made.at(96) if isinstance(settings["param"], param.CPPN) else made
    (one,) = fv.judge(shown, judge=motifvit, network=motifnet)
    assert one.score == pytest.approx(made.robustness.clean.item(), rel=0.1) and one.verdict == ROBUST


@pytest.mark.long
def test_folders_are_judged_and_noise_is_told_from_renderings(motifnet, motifvit, tmp_path):
    for name in ("noise", "made", "empty"):
        (tmp_path / name).mkdir()
    fv.render(motifnet, [f"stage2:{k}" for k in range(6)], steps=0).save(tmp_path / "noise")
    assert {one.verdict for one in fv.judge(tmp_path / "noise", judge=motifvit)} == {NO_BETTER_THAN_NOISE}
    fv.render(motifnet, ["stage2:5", "stage2:6"], steps=64).save(tmp_path / "made")
    assert [one.verdict for one in fv.judge([tmp_path / "made"], judge=motifvit)] == [ROBUST] * 2
    with pytest.raises(fv.OutputError, match="^no PNG in .*empty; give files that featviz saved, or a folder of them$"):
        fv.judge(tmp_path / "empty", judge=motifvit)


class Ending(torch.nn.Module):
    """A classifier that ends in a given function or module."""

    def __init__(self, classes, end):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.linear, self.end = torch.nn.Conv2d(3, 8, 3), torch.nn.Linear(8, classes), end

    def forward(self, x):
        return self.end(self.linear(self.conv(x).mean((2, 3))))


@pytest.mark.parametrize(
    ("classes", "end", "unchanged"),
    [
        (1, torch.sigmoid, True),
        (5, torch.sigmoid, True),
        (5, torch.nn.Sigmoid(), True),
        (5, lambda y: y[:, None].softmax(2).squeeze(1), True),
        (1, lambda y: y, False),
        (5, lambda y: y * torch.sigmoid(y), False),
    ],
)
def test_predictions_are_probabilities_whatever_a_network_ends_in(classes, end, unchanged):
    network = fv.Network(Ending(classes, end), size=16, mean=(0.5,) * 3, std=(0.5,) * 3)
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    output = network.capture(images, [""])[""]
    assert torch.allclose(predict(network, images), output) == unchanged


@pytest.mark.long
def test_combined_networks_and_a_judge_that_ends_in_a_softmax(motifnet, motifvit):
    both = fv.combine(a=motifnet, b=fv.load("motifnet", device="cpu"))
    soft = fv.Network(
        torch.nn.Sequential(motifvit.module, torch.nn.Softmax(1)),
        size=64, mean=(0.5,) * 3, std=(0.5,) * 3, classes=motifvit.classes,
    )  # fmt: skip
    made = fv.render(both, "logit:heart@a", steps=128)
    (plain,) = fv.judge(made, judge=motifvit, network=both)
    (softmax,) = fv.judge(made, judge=soft, network=both)
    assert plain.verdict == BOTH
    assert softmax.probability == pytest.approx(plain.probability, abs=1e-4)


def test_a_changed_file_of_an_objective_is_an_error(motifnet, motifvit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    guide = fv.render(motifnet, "logit:star", steps=4).save("guide.png")
    made = fv.render(motifnet, "match(stage2, guide.png) - tv", steps=4)
    assert fv.judge(made, judge=motifvit, network=motifnet)[0].unit.startswith("match(stage2, guide.png)")
    Image.new("RGB", (64, 64)).save(guide[0])
    with pytest.raises(
        fv.RecipeError,
        match=r"^the image was rendered with the file guide\.png, which is missing or has changed; restore",
    ):
        fv.judge(made, judge=motifvit, network=motifnet)


@dataclass(frozen=True)
class Clear(param.Alpha):
    """A transparent param of a user, which the text of a recipe does not tell."""


def test_transparent_files_of_own_params_are_seen_over_grey(motifnet, motifvit, tmp_path):
    made = fv.render(motifnet, "logit:heart", param=Clear(), steps=4)
    clear = replace(made, images=torch.cat([made.images[:, :3], 0 * made.images[:, 3:]], 1))
    own = {"Clear": Clear}
    (one,) = fv.judge(clear, judge=motifvit, network=motifnet, own=own)
    (saved,) = fv.judge(clear.save(tmp_path / "a.png"), judge=motifvit, network=motifnet, own=own)
    assert saved.probability == pytest.approx(one.probability, abs=1e-3)
    assert saved.score == pytest.approx(one.score, abs=0.05)


@pytest.mark.long
def test_transparent_parts_are_seen_over_grey(motifnet, motifvit, tmp_path):
    made = fv.render(motifnet, "logit:heart", param=param.Alpha(), steps=192)
    clear = replace(made, images=torch.cat([made.images[:, :3], 0 * made.images[:, 3:]], 1))
    (one,) = fv.judge(clear, judge=motifvit, network=motifnet)
    assert one.probability < 0.5
    (file,) = made.save(tmp_path / "heart.png")
    rendered, saved = (fv.judge(one, judge=motifvit)[0] for one in (made, file))
    assert saved.verdict == rendered.verdict == BOTH
    assert saved.probability == pytest.approx(rendered.probability, abs=0.02)


def test_small_images_have_no_slope(motifnet, motifvit):
    (one,) = (judgement := fv.judge(fv.render(motifnet, "stage1:2", param=param.Image(24), steps=4), judge=motifvit))
    assert one.slope is None and "nan" not in str(judgement)
    (large,) = fv.judge(fv.render(motifnet, "stage1:2", param=param.Image(128), steps=4), judge=motifvit)
    assert 0.3 < large.slope < 3


def test_the_command_needs_the_network_of_the_user(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(
        "import featviz as fv\n"
        "from featviz.objectives import objective\n"
        "def make():\n    return fv.load('motifnet', device='cpu').module\n"
        "@objective('stage2')\ndef corner(acts):\n    return acts['stage2'][:, 3, 0, 0]\n"
    )
    network = fv.load("own.py:make", device="cpu", input_size=64, mean=(0.5,) * 3, std=(0.5,) * 3)
    fv.render(network, find("own.py:corner"), steps=4).save(tmp_path / "corner.png")
    command = ["judge", "corner.png", "--judge", "motifvit", "--device", "cpu"]
    assert main(command) == 2
    assert "--own path/to/file.py:corner" in capsys.readouterr().err
    assert main([*command, "--own", "own.py:corner"]) == 2
    assert "give the network with --model path/to/file.py:factory" in capsys.readouterr().err
    assert main([*command, "--model", "own.py:make", "--own", "own.py:corner"]) == 0
    assert "corner" in capsys.readouterr().out


def test_the_table_and_the_command(rendering, tmp_path, capsys):
    files = [str(file) for file in rendering.save(tmp_path)]
    judge = ["--judge", "motifvit", "--judge-channel-order", "rgb", "--judge-layout", "nchw"]
    assert main(["judge", *files, *judge, "--device", "cpu"]) == 0
    head, *rows, last = capsys.readouterr().out.splitlines()
    assert " ".join(head.split()) == "image shows rank p(motifvit) p(own) robustness verdict"
    assert len(rows) == 3 and rows[0].endswith(BOTH)
    assert re.fullmatch(r"top-1 1\.00, top-5 1\.00, mean probability (0\.\d\d|1\.00)", last)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (
            "sheet.png",
            "each file must show one image, {} is a contact sheet of 3; save to a folder and judge the files in it",
        ),
        ("bare.png", "{} holds no recipe; give a file of a render, or of a dream on an image, as it was saved"),
        ("none.png", "no file {}; check the path"),
    ],
)
def test_files_that_cannot_be_judged(rendering, tmp_path, capsys, file, message):
    rendering.save(tmp_path / "sheet.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "bare.png")
    assert main(["judge", file, "--judge", "motifvit"]) == 2
    assert capsys.readouterr().err == f"featviz: {message.format(file)}\n"


def test_a_judge_that_rendered_the_images_is_refused(motifnet, rendering, net):
    same = "^the judge must not have rendered the images itself, got motifnet for both; give a network that was trained"
    with pytest.raises(fv.SettingError, match=same):
        fv.judge(rendering, judge=motifnet, network=motifnet)
    both = fv.combine(a=motifnet, b=fv.load("motifvit", device="cpu"))
    with pytest.raises(fv.SettingError, match=same):
        fv.judge(fv.render(both, "logit:heart@a", steps=1), judge=motifnet, network=both)
    both = fv.combine(a=net, b=motifnet)
    with pytest.raises(
        fv.SettingError, match="^the judge must be a single network, got a, b combined; give one of them as --judge$"
    ):
        fv.judge(rendering, judge=both, network=motifnet)


@pytest.mark.filterwarnings("ignore:.*class names, so names may:featviz.FeatvizWarning")
def test_networks_without_usable_output_or_names_are_refused(motifnet, motifvit, rendering):
    module = torch.nn.Sequential(fv.load("motifvit", device="cpu").module, NotANumber())
    nan = fv.Network(module, size=64, mean=(0.5,) * 3, std=(0.5,) * 3)
    with pytest.raises(
        fv.ModelError, match="^the output of Sequential is not finite; check its weights, mean and std$"
    ):
        fv.judge(fv.render(motifnet, "logit:0", steps=1), judge=nan, network=motifnet)
    nameless = fv.Network(motifnet.module, size=64, mean=(0.5,) * 3, std=(0.5,) * 3)
    with pytest.raises(fv.SettingError, match="^MotifNet has no class 'heart'; give the network with its class names$"):
        fv.judge(rendering, judge=motifvit, network=nameless)
    short = fv.Network(motifnet.module, size=64, mean=(0.5,) * 3, std=(0.5,) * 3, classes=["a", "b"])
    with pytest.raises(
        fv.SettingError,
        match="^MotifNet must have one class name per output, got 2 names for 27 outputs; give classes= in "
        "output order$",
    ):
        fv.judge(fv.render(short, "logit:5", steps=1), judge=motifvit, network=short)


def test_the_judge_must_have_the_same_classes_and_channels(motifnet, rendering, net):
    few = fv.Network(net.module, size=32, mean=(0.5,) * 3, std=(0.5,) * 3)
    with pytest.raises(
        fv.SettingError,
        match=r"^the judge must have the same classes, Plain has \d+ and motifnet 27; give another network as --judge, "
        "or class names for both$",
    ):
        fv.judge(rendering, judge=few, network=motifnet)
    grey = fv.Network(torch.nn.Conv2d(1, 4, 3), size=32, mean=(0.5,), std=(0.5,))
    with pytest.raises(
        fv.SettingError,
        match="^the judge must take images of 3 channels, Conv2d takes 1; give another network as --judge$",
    ):
        fv.judge(rendering, judge=grey, network=motifnet)
    other = fv.Network(net.module, size=32, mean=(0.5,) * 3, std=(0.5,) * 3, classes=list("abcde"))
    with pytest.raises(
        fv.SettingError,
        match="^the judge must have the same classes, Plain has no class 'heart'; give another network as --judge$",
    ):
        fv.judge(rendering, judge=other, network=motifnet)


def test_the_network_must_be_that_of_the_recipe(motifnet, rendering, net):
    untrained = fv.load("motifnet", weights="none", device="cpu")
    with pytest.raises(
        fv.RecipeError,
        match=r"^the image was rendered with weights \w+, motifnet has \w+; give the original network with "
        "--weights or --model$",
    ):
        fv.judge(rendering, judge=motifnet, network=untrained)
    named = fv.Network(net.module, size=32, mean=(0.5,) * 3, std=(0.5,) * 3, classes=list("abcde"))
    made = fv.render(named, "logit:a", steps=1)
    with pytest.raises(
        fv.RecipeError,
        match="^the image's network was made in Python, and a recipe never runs code; give the network with",
    ):
        fv.judge(made, judge=motifnet)


def test_white_images_are_judged_at_any_size(motifnet, motifvit):
    for side in (80, 90, 100):
        verdict = fv.judge(torch.ones(3, side, side), "logit:star", judge=motifvit, network=motifnet)[0]
        assert math.isfinite(verdict.score)


def test_a_head_that_does_not_exist_is_named(motifnet, motifvit):
    with pytest.raises(fv.AddressError, match="^no layer 'x' in motifnet"):
        fv.judge(torch.rand(3, 64, 64), fv.objectives.Logit("star", "x"), judge=motifvit, network=motifnet)


def test_trust_needs_images_that_were_rendered_from_noise(motifnet, motifvit, tmp_path):
    start = torch.full((3, 64, 64), 0.4)
    fv.render(motifnet, "logit:star", steps=1, start=start, progress=None).save(tmp_path / "a.png")
    with pytest.raises(fv.SettingError, match="was started from an image; trust compares images that were rendered"):
        fv.judge(tmp_path / "a.png", judge=motifvit, network=motifnet, photographs=tmp_path, trust=True)


def test_weights_are_those_of_a_network_by_name(motifnet, motifvit):
    images = torch.rand(1, 3, 64, 64)
    with pytest.raises(fv.SettingError) as caught:
        fv.judge(images, target="logit:moon", judge=motifvit, network=motifnet, weights="other.safetensors")
    message = "weights needs a network given by name; load the weights into your network instead"
    assert str(caught.value) == message
