"""Pictures before a network that had no part in making them."""

import re
from dataclasses import replace

import pytest
import torch
from motifs.draw import draw
from PIL import Image

import featviz as fv
from featviz import param
from featviz.apps.judge.views import views
from featviz.apps.shared.predictions import predict
from featviz.cli import main
from featviz.network import find
from featviz.network.bundled import MOTIFS


@pytest.fixture(scope="module")
def motifvit():
    return fv.load("motifvit", device="cpu")


@pytest.fixture(scope="module")
def rendering(motifnet):
    return fv.render(motifnet, ["logit:heart", "logit:leaf - 0.1*tv", "stage2:5"], param=param.Image(96), steps=192)


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


def test_class_pictures_are_seen_by_both_and_noise_by_neither(motifnet, motifvit, rendering):
    heart, leaf, unit = fv.judge(rendering, by=motifvit, network=motifnet)
    assert (heart.told, leaf.told) == ("seen by both", "seen by both")
    assert (heart.unit, leaf.unit, unit.unit) == ("logit:heart", "logit:leaf", "stage2:5")
    assert heart.own > 0.9 and heart.probability > 0.5 and heart.retained > 0.2 and heart.slope > 0.5
    assert (unit.rank, unit.probability, unit.own) == (None, None, None)
    noise = fv.render(motifnet, ["logit:heart", "logit:leaf"], steps=0)
    judgement = fv.judge(noise, by=motifvit, network=motifnet)
    assert [one.told for one in judgement] == ["noise", "noise"]
    assert judgement.top(1) == 0 and judgement.probability < 0.3


def test_what_only_fools_its_maker_is_told(motifnet, motifvit):
    """Drawings of one class, their pixels changed without any transform until motifnet calls them another."""
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
    told = [one.told for one in fv.judge(fooled, by=motifvit, network=motifnet)]
    assert told.count("only by the network that made it") >= 2 and "noise" not in told


def test_a_picture_that_was_seen_in_one_way_only_is_looked_at_in_others(motifnet, motifvit):
    goals = [f"stage3:{channel}" for channel in range(4)]
    fooled = fv.render(motifnet, goals, transforms=(), param=param.Image(64, spatial=param.Pixel()), steps=64)
    assert fooled.robustness.retained.min() > 0.99
    judgement = fv.judge(fooled, by=motifvit, network=motifnet)
    assert max(one.retained for one in judgement) < 0.8
    assert "only in some views" in {one.told for one in judgement}


def test_what_is_asked_for_is_what_is_judged(motifnet, motifvit):
    goals = ["-stage2:5", "2*tv - stage2:5", "-3 * logit:star + stage2:6 * 2", "stage2 - tv", "logit:star / 2 - tv"]
    least = fv.render(motifnet, goals, steps=64)
    judgement = fv.judge(least, by=motifvit, network=motifnet)
    assert [one.unit for one in judgement] == ["-stage2:5", "2 * tv - stage2:5", "stage2:6", "stage2", "logit:star"]
    assert judgement[0].retained > 0.5
    for text in ("-ramp(0, 1) * logit:star", "ramp(0, -5) * logit:star", "-tv * logit:star", "logit:star / -2"):
        assert fv.objectives.parse(text).shown_at() is None
    ends = fv.objectives.parse("interpolate(-stage2:5, stage2:5)")
    assert [str(ends.shown_at(place)) for place in (0, 1)] == ["-stage2:5", "stage2:5"]
    held = param.Image(64, batch=3)
    between = fv.render(motifnet, "interpolate(logit:heart, logit:leaf)", param=held, steps=64)
    units = [one.unit for one in fv.judge(between, by=motifvit, network=motifnet)]
    assert units == ["logit:heart", "0.5 * logit:heart + 0.5 * logit:leaf", "logit:leaf"]
    apart = fv.render(motifnet, "stage2 + 10*diversity(stage2)", param=held, steps=4)
    assert {one.unit for one in fv.judge(apart, by=motifvit, network=motifnet)} == {"stage2"}
    unlike = fv.render(motifnet, "diversity(stage2) - tv", param=held, steps=1)
    with pytest.raises(fv.SettingError, match="compares pictures of a batch and names no unit to look for"):
        fv.judge(unlike, by=motifvit, network=motifnet)


def test_a_picture_that_is_not_square_is_seen_in_its_own_shape(motifnet, motifvit):
    wide = fv.render(motifnet, ["logit:star", "logit:heart"], param=param.Image((64, 192)), steps=128)
    for one in fv.judge(wide, by=motifvit, network=motifnet):
        assert one.told == "seen by both" and one.own > 0.9
    long = fv.render(motifvit, ["logit:stripes", "logit:star"], param=param.Image((64, 192)), steps=64)
    for one, clean in zip(fv.judge(long, by=motifnet, network=motifvit), long.robustness.clean, strict=True):
        assert one.own > 0.8 and one.score == pytest.approx(clean.item(), abs=0.2)  # seen as it was made


def test_views_are_cut_along_the_longer_side():
    image = torch.linspace(0, 1, 300).expand(3, 100, 300)
    middles = [view[..., 25, 25].mean().item() for view in views(image, (50, 50))]
    assert middles[:3] == pytest.approx([1 / 6, 0.5, 5 / 6], abs=0.02)


def test_files_are_judged_as_the_rendering_was(motifnet, motifvit, rendering, tmp_path):
    files = rendering.save(tmp_path)
    now, then = fv.judge(files, by=motifvit), fv.judge(rendering, by=motifvit, network=motifnet)
    assert [one.picture for one in now] == ["00-logit_heart", "01-logit_leaf_-_0.1___tv", "02-stage2_5"]
    for one, other in zip(now, then, strict=True):
        assert one.rank == other.rank and one.told == other.told
        assert one.score == pytest.approx(other.score, abs=0.3)  # 8 bits
    (alone,) = fv.judge(rendering[1], by=motifvit)
    assert alone.unit == "logit:leaf"


def test_photographs_say_how_much_the_unit_is_excited(motifnet, motifvit, rendering, tmp_path):
    folder = drawings(tmp_path / "drawings")
    heart, _, unit = fv.judge(rendering, by=motifvit, photographs=folder)
    assert heart.percentile > 0.9 and unit.percentile > 0.9
    noise = fv.render(motifnet, "stage2:5", steps=0)
    assert fv.judge(noise, by=motifvit, photographs=folder)[0].percentile < 0.9


def test_each_picture_has_the_maker_that_its_recipe_describes(motifnet, motifvit, tmp_path):
    dark = motifnet.with_input(mean=(0.0,) * 3, std=(1.0,) * 3)
    for name, maker in (("dark", dark), ("usual", motifnet)):
        fv.render(maker, "logit:star", steps=128).save(tmp_path / f"{name}.png")
    files = [tmp_path / "dark.png", tmp_path / "usual.png"]
    one, other = fv.judge(files, by=motifvit), fv.judge(files[::-1], by=motifvit)
    assert [(v.picture, v.score, v.own) for v in one] == [(v.picture, v.score, v.own) for v in other][::-1]


class Some(torch.nn.Module):
    """Some of a network's answers."""

    def __init__(self, module, classes):
        super().__init__()
        self.module, self.classes = module, classes

    def forward(self, x):
        return self.module(x)[:, self.classes]


def some(network, classes):
    names = [network.classes[index] for index in classes]
    return fv.Network(Some(network.module, classes), size=64, mean=(0.5,) * 3, std=(0.5,) * 3, classes=names)


@pytest.mark.parametrize("names", [("heart",), ("heart", "leaf")])
def test_of_one_class_or_two_noise_is_not_seen(motifnet, motifvit, names):
    """Either comes first in half of all noise, and one always does."""
    maker, judge = (some(network, [motifnet.classes.index(name) for name in names]) for network in (motifnet, motifvit))
    goals = [f"logit:{name}" for name in names]
    assert {one.told for one in fv.judge(fv.render(maker, goals, steps=0), by=judge, network=maker)} == {"noise"}
    seen = fv.judge(fv.render(maker, goals, steps=128), by=judge, network=maker)
    assert {one.told for one in seen} == {"seen by both"}


def test_a_judge_that_always_says_the_same_sees_nothing(motifnet, rendering):
    silent = fv.load("motifvit", device="cpu")
    for weight in silent.module.heads.parameters():
        weight.data.zero_()
    heart, *_ = fv.judge(rendering, by=silent, network=motifnet)
    assert (heart.rank, heart.told) == (KINDS, "only by the network that made it")


def test_a_place_is_looked_for_where_it_was_shown(motifnet, motifvit, tmp_path):
    made = fv.render(motifnet, "stage2:6@20,20", param=param.Image(128), steps=128)
    (one,) = fv.judge(made, by=motifvit, network=motifnet, photographs=drawings(tmp_path / "drawings", 12))
    assert one.score == pytest.approx(made.robustness.clean.item(), abs=1e-3) and one.percentile > 0.5


@pytest.mark.parametrize(
    "settings", [{"param": param.CPPN()}, {"param": param.Image(128), "transforms": fv.transforms.NONE}]
)
def test_it_was_shown_in_views_of_its_own_and_at_its_own_size(motifnet, motifvit, settings):
    made = fv.render(motifnet, "stage2:6@12,3", steps=24, **settings)
    shown = made.at(96) if isinstance(settings["param"], param.CPPN) else made
    (one,) = fv.judge(shown, by=motifvit, network=motifnet)
    assert one.score == pytest.approx(made.robustness.clean.item(), rel=0.1) and one.told == "holds in other views"


def test_noise_holds_in_no_view_and_folders_are_judged(motifnet, motifvit, tmp_path):
    for name in ("noise", "made", "empty"):
        (tmp_path / name).mkdir()
    fv.render(motifnet, [f"stage2:{k}" for k in range(6)], steps=0).save(tmp_path / "noise")
    assert {one.told for one in fv.judge(tmp_path / "noise", by=motifvit)} == {"noise"}
    fv.render(motifnet, ["stage2:5", "stage2:6"], steps=64).save(tmp_path / "made")
    assert [one.told for one in fv.judge([tmp_path / "made"], by=motifvit)] == ["holds in other views"] * 2
    with pytest.raises(fv.OutputError, match="^no PNG in .*empty; give files that featviz saved, or their folder$"):
        fv.judge(tmp_path / "empty", by=motifvit)


class Likely(torch.nn.Module):
    """Ends in sigmoids, or a softmax, as a function."""

    def __init__(self, classes, end):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.linear, self.end = torch.nn.Conv2d(3, 8, 3), torch.nn.Linear(8, classes), end

    def forward(self, x):
        return self.end(self.linear(self.conv(x).mean((2, 3))))


@pytest.mark.parametrize(
    ("classes", "end", "alike"),
    [
        (1, torch.sigmoid, True),
        (5, torch.sigmoid, True),
        (5, torch.nn.Sigmoid(), True),
        (5, lambda y: y[:, None].softmax(2).squeeze(1), True),
        (1, lambda y: y, False),
        (5, lambda y: y * torch.sigmoid(y), False),
    ],
)
def test_answers_are_probabilities_whatever_a_network_ends_in(classes, end, alike):
    network = fv.Network(Likely(classes, end), size=16, mean=(0.5,) * 3, std=(0.5,) * 3)
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    put = network.capture(images, [""])[""]
    assert torch.allclose(predict(network, images), put) == alike


def test_networks_run_together_and_judges_that_end_in_a_softmax(motifnet, motifvit):
    both = fv.combine(a=motifnet, b=fv.load("motifnet", device="cpu"))
    soft = fv.Network(
        torch.nn.Sequential(motifvit.module, torch.nn.Softmax(1)),
        size=64, mean=(0.5,) * 3, std=(0.5,) * 3, classes=motifvit.classes,
    )  # fmt: skip
    made = fv.render(both, "logit:heart@a", steps=128)
    (plain,) = fv.judge(made, by=motifvit, network=both)
    (shares,) = fv.judge(made, by=soft, network=both)
    assert plain.told == "seen by both"
    assert shares.probability == pytest.approx(plain.probability, abs=1e-4)


def test_a_file_that_an_objective_names_has_to_be_as_it_was(motifnet, motifvit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    guide = fv.render(motifnet, "logit:star", steps=4).save("guide.png")
    made = fv.render(motifnet, "match(stage2, guide.png) - tv", steps=4)
    assert fv.judge(made, by=motifvit, network=motifnet)[0].unit.startswith("match(stage2, guide.png)")
    Image.new("RGB", (64, 64)).save(guide[0])
    with pytest.raises(fv.RecipeError, match=r"^the picture was made with the file guide\.png"):
        fv.judge(made, by=motifvit, network=motifnet)


def test_what_is_transparent_is_seen_over_grey(motifnet, motifvit, tmp_path):
    made = fv.render(motifnet, "logit:heart", param=param.Alpha(), steps=192)
    clear = replace(made, images=torch.cat([made.images[:, :3], 0 * made.images[:, 3:]], 1))
    (one,) = fv.judge(clear, by=motifvit, network=motifnet)
    assert one.probability < 0.5
    (file,) = made.save(tmp_path / "heart.png")
    then, now = (fv.judge(what, by=motifvit)[0] for what in (made, file))
    assert now.told == then.told == "seen by both"
    assert now.probability == pytest.approx(then.probability, abs=0.02)


def test_small_pictures_have_no_slope(motifnet, motifvit):
    (one,) = (judgement := fv.judge(fv.render(motifnet, "stage1:2", param=param.Image(24), steps=4), by=motifvit))
    assert one.slope is None and "nan" not in str(judgement)


def test_a_maker_of_ones_own_is_given_to_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(
        "import featviz as fv\n"
        "from featviz.objectives import objective\n"
        "def make():\n    return fv.load('motifnet', device='cpu').module\n"
        "@objective('stage2')\ndef corner(acts):\n    return acts['stage2'][:, 3, 0, 0]\n"
    )
    network = fv.load("own.py:make", device="cpu", input_size=64, mean=(0.5,) * 3, std=(0.5,) * 3)
    fv.render(network, find("own.py:corner"), steps=4).save(tmp_path / "corner.png")
    command = ["judge", "corner.png", "--by", "motifvit", "--device", "cpu"]
    assert main(command) == 2
    assert "--own path/to/file.py:corner" in capsys.readouterr().err
    assert main([*command, "--own", "own.py:corner"]) == 2
    assert "give it by hand: --model path/to/file.py:factory" in capsys.readouterr().err
    assert main([*command, "--model", "own.py:make", "--own", "own.py:corner"]) == 0
    assert "corner" in capsys.readouterr().out


def test_the_table_and_the_command(rendering, tmp_path, capsys):
    files = [str(file) for file in rendering.save(tmp_path)]
    assert (
        main(["judge", *files, "--by", "motifvit", "--device", "cpu", "--by-order", "rgb", "--by-layout", "nchw"]) == 0
    )
    head, *rows, last = capsys.readouterr().out.splitlines()
    assert re.split(r"\s{2,}", head) == ["picture", "shows", "rank", "p motifvit", "p own", "kept", "slope", "verdict"]
    assert len(rows) == 3 and rows[0].endswith("seen by both")
    assert re.fullmatch(r"top-1 1\.00, top-5 1\.00, mean probability (0\.\d\d|1\.00)", last)


def test_what_cannot_be_judged_is_said(motifnet, rendering, net, tmp_path, capsys):
    rendering.save(tmp_path / "sheet.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "bare.png")
    for arguments, message in (
        (["sheet.png"], "sheet.png is a sheet of 3; save a folder, and judge the files in it"),
        (["bare.png"], "bare.png holds no recipe; PNG files of renders and dreams do"),
        (["none.png"], "no file none.png"),
    ):
        assert main(["judge", *arguments, "--by", "motifvit"]) == 2
        assert capsys.readouterr().err == f"featviz: {message}\n"
    with pytest.raises(fv.SettingError, match="^motifnet would judge its own pictures; judge by a network"):
        fv.judge(rendering, by=motifnet, network=motifnet)
    both = fv.combine(a=motifnet, b=fv.load("motifvit", device="cpu"))
    with pytest.raises(fv.SettingError, match="^motifnet would judge its own pictures"):
        fv.judge(fv.render(both, "logit:heart@a", steps=1), by=motifnet, network=both)
    module = torch.nn.Sequential(fv.load("motifvit", device="cpu").module, NotANumber())
    nan = fv.Network(module, size=64, mean=(0.5,) * 3, std=(0.5,) * 3)
    with pytest.raises(fv.ModelError, match="^Sequential answers with what is no number; check its weights"):
        fv.judge(fv.render(motifnet, "logit:0", steps=1), by=nan, network=motifnet)
    nameless = fv.Network(motifnet.module, size=64, mean=(0.5,) * 3, std=(0.5,) * 3)
    with pytest.raises(
        fv.SettingError, match="^MotifNet has no class named 'heart'; give the maker with its class names$"
    ):
        fv.judge(rendering, by=fv.load("motifvit", device="cpu"), network=nameless)
    untrained = fv.load("motifnet", weights="none", device="cpu")
    with pytest.raises(fv.RecipeError, match="^the picture was made with weights"):
        fv.judge(rendering, by=motifnet, network=untrained)
    few = fv.Network(net.module, size=32, mean=(0.5,) * 3, std=(0.5,) * 3)
    with pytest.raises(fv.SettingError, match=r"^Plain has \d+ classes, motifnet has 27; judge by a network of"):
        fv.judge(rendering, by=few, network=motifnet)
    with pytest.raises(fv.SettingError, match="^the judge is several networks run combine; judge by one of them$"):
        fv.judge(rendering, by=fv.combine(a=few, b=motifnet), network=motifnet)
    short = fv.Network(motifnet.module, size=64, mean=(0.5,) * 3, std=(0.5,) * 3, classes=["a", "b"])
    with pytest.raises(fv.SettingError, match="^MotifNet has 2 class names for 27 outputs; give the maker"):
        fv.judge(fv.render(short, "logit:5", steps=1), by=few, network=short)
    grey = fv.Network(torch.nn.Conv2d(1, 4, 3), size=32, mean=(0.5,), std=(0.5,))
    with pytest.raises(fv.SettingError, match="looks at images of 1 channels, the pictures have 3"):
        fv.judge(rendering, by=grey, network=motifnet)
    other = fv.Network(net.module, size=32, mean=(0.5,) * 3, std=(0.5,) * 3, classes=list("abcde"))
    with pytest.raises(fv.SettingError, match="^Plain knows no class 'heart'; judge by a network of the same classes$"):
        fv.judge(rendering, by=other, network=motifnet)
    own = fv.render(other, "logit:a", steps=1)
    with pytest.raises(fv.RecipeError, match="^the picture's network was made in Python"):
        fv.judge(own, by=motifnet)
