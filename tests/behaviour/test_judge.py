"""Pictures before a network that had no part in making them."""

import re

import pytest
import torch
from PIL import Image

import featviz as fv
from featviz import param
from featviz.cli import main
from featviz.network import motifs


@pytest.fixture(scope="module")
def motifvit():
    return fv.load("motifvit", device="cpu")


@pytest.fixture(scope="module")
def rendering(motifnet):
    return fv.render(motifnet, ["logit:heart", "logit:leaf - 0.1*tv", "stage2:5"], param=param.image(96), steps=192)


KINDS = len(motifs.MOTIFS)


def drawings(folder, count=54, kinds=KINDS, light=(1.0, 1.0, 1.0)):
    folder.mkdir()
    labels = torch.arange(count) % kinds
    for i, image in enumerate(motifs.draw(labels, (64, 64), torch.Generator().manual_seed(0))):
        image *= torch.tensor(light).view(3, 1, 1)
        Image.fromarray((image.permute(1, 2, 0) * 255).byte().numpy()).save(folder / f"{i:02d}.png")
    return folder


def test_class_pictures_are_seen_by_both_and_noise_by_neither(motifnet, motifvit, rendering):
    heart, leaf, unit = fv.judge(rendering, by=motifvit, network=motifnet)
    assert (heart.told, leaf.told) == ("seen by both", "seen by both")
    assert (heart.unit, leaf.unit, unit.unit) == ("logit:heart", "logit:leaf", "stage2:5")
    assert heart.own > 0.9 and heart.probability > 0.5 and heart.kept > 0.2 and heart.slope > 0.5
    assert (unit.rank, unit.probability, unit.own) == (None, None, None)
    noise = fv.render(motifnet, ["logit:heart", "logit:leaf"], steps=0)
    judgement = fv.judge(noise, by=motifvit, network=motifnet)
    assert [one.told for one in judgement] == ["noise", "noise"]
    assert judgement.top(1) == 0 and judgement.probability < 0.3


def test_what_only_fools_its_maker_is_told(motifnet, motifvit):
    """Drawings of one class, their pixels changed without any transform until motifnet calls them another."""
    labels = torch.tensor([motifnet.classes.index(name) for name in ("leaf", "smiley", "bricks")])
    drawings = motifs.draw(labels, (64, 64), torch.Generator().manual_seed(0))
    goals = ["logit:dots", "logit:bricks", "logit:leaf"]
    how = {"param": param.Pixel(), "transforms": (), "optimizer": fv.Adam(0.1, pull=0.0), "start": drawings}
    fooled = fv.render(motifnet, goals, steps=64, **how)
    told = [one.told for one in fv.judge(fooled, by=motifvit, network=motifnet)]
    assert told.count("only by the network that made it") >= 2 and "noise" not in told


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


def test_the_table_and_the_command(rendering, tmp_path, capsys):
    files = [str(file) for file in rendering.save(tmp_path)]
    assert main(["judge", *files, "--by", "motifvit", "--device", "cpu"]) == 0
    head, *rows, last = capsys.readouterr().out.splitlines()
    assert re.split(r"\s{2,}", head) == ["picture", "shows", "rank", "p motifvit", "p own", "kept", "slope", "verdict"]
    assert len(rows) == 3 and rows[0].endswith("seen by both")
    assert re.fullmatch(r"top-1 1\.00, top-5 1\.00, mean probability (0\.\d\d|1\.00)", last)


def test_what_cannot_be_judged_is_said(motifnet, rendering, net, tmp_path, capsys):
    rendering.save(tmp_path / "sheet.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "bare.png")
    for arguments, message in (
        (["sheet.png"], "sheet.png is a sheet of 3; save a folder, and judge the files in it"),
        (["bare.png"], "bare.png holds no recipe; only PNG files that featviz saved do"),
        (["none.png"], "no file none.png"),
    ):
        assert main(["judge", *arguments, "--by", "motifvit"]) == 2
        assert capsys.readouterr().err == f"featviz: {message}\n"
    other = fv.Network(net.module, size=32, mean=(0.5,) * 3, std=(0.5,) * 3, classes=list("abcde"))
    with pytest.raises(fv.SettingError, match="^Plain knows no class 'heart'; judge by a network of the same classes$"):
        fv.judge(rendering, by=other, network=motifnet)
    own = fv.render(other, "logit:a", steps=1)
    with pytest.raises(fv.RecipeError, match="^the picture's network was made in Python"):
        fv.judge(own, by=motifnet)
