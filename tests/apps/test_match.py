"""`--match`: which photographs are chosen, the weight, copies, and messages."""

import re

import pytest
import torch
import toys
from motifs.draw import draw
from PIL import Image

import featviz as fv
from featviz import objectives as obj
from featviz.apps.match import (
    Nearest,
    copies,
    match_units,
    nearest_photographs,
    with_copies_marked,
)
from featviz.apps.match.match import class_folder, compared_layers, default_count
from featviz.cli import main
from featviz.io import save_image, to_bytes

SIDE = 64


@pytest.fixture(scope="module")
def net():
    return fv.load("motifnet", device="cpu")


@pytest.fixture
def folder(tmp_path):
    """Two photographs of a star, in a folder named after the class, and four others."""
    generator = torch.Generator().manual_seed(0)
    for name in ("Star/a", "Star/b", "3/a", "more/a", "more/b", "c"):
        file = tmp_path / "photographs" / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        coarse = torch.rand(1, 3, 6, 6, generator=generator)
        save_image(to_bytes(torch.nn.functional.interpolate(coarse, (SIDE, SIDE), mode="bilinear")[0].numpy()), file)
    return tmp_path / "photographs"


def test_folders_of_classes_by_name_and_index(net, folder):
    star = net.classes.index("star")
    assert class_folder(net, obj.Logit("star"), folder) == folder / "Star"
    assert class_folder(net, obj.Probability(star), folder) == folder / "Star"
    assert class_folder(net, obj.Logit(net.classes[3]), folder) == folder / "3"
    assert class_folder(net, obj.Logit("heart"), folder) is None
    assert class_folder(net, obj.Channel("stage2", 3), folder) is None


def test_photographs_with_the_highest_score_are_chosen(net, folder):
    channel = obj.Channel("stage2", 5)
    star, unit = match_units(net, [obj.Logit("star"), channel], folder, count=3)
    assert set(star.photographs) == {folder / "Star" / "a.png", folder / "Star" / "b.png"}
    assert star.chosen == f"all 2 photographs in {folder / 'Star'}"
    files = sorted(folder.rglob("*.png"))
    images = torch.stack([fv.io.read_photograph(file, size=net.size) for file in files])
    scores = dict(zip(files, fv.score(net, channel, images)[:, 0].tolist(), strict=True))
    ranked = tuple(sorted(files, key=scores.__getitem__, reverse=True))
    assert unit.photographs == ranked  # copies are looked for among all of them
    assert unit.chosen == f"the 3 of 6 photographs with the highest score in {folder}"
    assert [repr(str(file)) in repr(unit.objective) for file in ranked] == [True] * 3 + [False] * 3
    (one,) = match_units(net, [channel], folder)
    assert one.chosen == f"the one of 6 photographs with the highest score in {folder}"
    assert [repr(str(file)) in repr(one.objective) for file in ranked] == [True] + [False] * 5
    assert unit.objective.layers == {"stage2", *compared_layers(net)}


def test_one_photograph_is_too_few_to_detect_copies(net, folder):
    with pytest.warns(fv.FeatvizWarning, match=r"^images of logit:\S+ are not checked for copies, which takes two"):
        (one,) = match_units(net, [obj.Logit(net.classes[3])], folder)
    assert one.chosen == f"the only photograph in {folder / '3'}" and one.photographs == (folder / "3" / "a.png",)
    with pytest.warns(fv.FeatvizWarning, match=r"^images of stage2:5 \(and 1 more\) are not"):
        match_units(net, [obj.Channel("stage2", 5), obj.Channel("stage2", 6)], folder / "3")


def test_a_class_is_matched_to_one_photograph_and_a_channel_to_ten_at_most():
    assert [default_count(obj.Logit("star"), n) for n in (1, 500)] == [1, 1]
    assert [default_count(obj.Probability(3), n) for n in (1, 500)] == [1, 1]
    assert [default_count(obj.Channel("stage2", 5), n) for n in (1, 9, 20, 99, 100, 500)] == [1, 1, 2, 9, 10, 10]


def test_a_channel_is_matched_to_a_tenth_of_a_small_folder(net, tmp_path):
    generator = torch.Generator().manual_seed(1)
    for i in range(20):
        save_image(to_bytes(torch.rand(3, 16, 16, generator=generator).numpy()), tmp_path / f"{i:02}.png")
    channel = obj.Channel("stage2", 5)
    star, unit, one = (
        *match_units(net, [obj.Logit("star"), channel], tmp_path),
        *match_units(net, [channel], tmp_path, count=1),
    )
    assert star.chosen == f"the one of 20 photographs with the highest score in {tmp_path}"
    assert unit.chosen == f"the 2 of 20 photographs with the highest score in {tmp_path}"
    assert [repr(str(file)) in repr(unit.objective) for file in unit.photographs] == [True] * 2 + [False] * 18
    assert one.chosen == star.chosen


def test_the_weight_is_relative_to_the_gain_from_noise(net, folder):
    unit = obj.Channel("stage2", 5)
    one, ten, scaled = (
        match_units(net, [each], folder, weight=weight)[0].objective
        for each, weight in ((unit, 1), (unit, 10), (7 * unit, 1))
    )
    weights = [float(re.search(r"\+ ([\d.e-]+) \* \(MatchDistribution", repr(each))[1]) for each in (one, ten, scaled)]
    assert weights[1] / weights[0] == pytest.approx(10, rel=0.02)
    assert weights[2] / weights[0] == pytest.approx(7, rel=0.02)


@pytest.mark.parametrize("count", [1, 3])
def test_distributions_and_spectra_of_the_same_photographs_are_matched(net, folder, count):
    unit = obj.Channel("stage2", 5)
    (found,) = match_units(net, [unit], folder, count=count)
    files, (first, *others) = [str(file) for file in found.photographs[:count]], compared_layers(net)
    weight = float(re.search(r"\+ ([\d.e-]+) \*", repr(found.objective))[1])
    match = obj.MatchDistribution(first, files, tuple(others)) + obj.MatchSpectrum(files)
    assert repr(found.objective) == repr(unit + weight * match)


def test_matched_images_are_closer_in_distribution_and_spectrum(net, folder):
    unit = obj.Logit("star")
    (found,) = match_units(net, [unit], folder)
    files, (first, *others) = [str(found.photographs[0])], compared_layers(net)
    parts = [obj.MatchDistribution(first, files, tuple(others)), obj.MatchSpectrum(files)]
    options = {"steps": 48, "transforms": (), "robustness_views": 0}
    matched, plain = (fv.render(net, each, **options).images for each in (found.objective, unit))
    assert (fv.score(net, parts, matched) > fv.score(net, parts, plain)).all()


def test_without_photographs_batch_norm_statistics(net):
    (found,) = match_units(net, [obj.Logit("star")], None)
    assert found.photographs == ()
    assert found.chosen == "the statistics of 11 batch-norm layers"
    assert len(found.objective.layers) == 12  # with the output
    message = "has no batch-norm statistics to match; give a folder of photographs"
    with pytest.raises(fv.SettingError, match=message):
        match_units(toys.network(toys.Vit()), [obj.Logit(1)], None)


def test_best_cosine_restated():
    one, two = (torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    cosines = []
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            pairs = [
                (one[0, c, y, x].item(), two[0, c, y - dy, x - dx].item())
                for c in range(2)
                for y in range(4)
                for x in range(4)
                if 0 <= y - dy < 4 and 0 <= x - dx < 4
            ]
            lengths = sum(a * a for a, _ in pairs) ** 0.5 * sum(b * b for _, b in pairs) ** 0.5
            cosines.append(sum(a * b for a, b in pairs) / lengths)
    assert copies.best_cosine(one, two).item() == pytest.approx(max(cosines), rel=1e-5)


def test_an_altered_copy_is_found_and_marked(net, folder):
    files = sorted(folder.rglob("*.png"))
    image = fv.io.read_photograph(files[2], size=net.size)
    altered = (image.flip(-1) * 0.95)[None]
    other = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(4))
    copied, fresh = nearest_photographs(net, torch.cat([fv.io.resize(altered, (SIDE, SIDE)), other]), files)
    assert copied.file == files[2]
    assert copied.is_copy
    assert not fresh.is_copy
    rendering = fv.render(net, ["stage2:5", "stage2:6"], size=SIDE, steps=0, robustness_views=0)
    marked = with_copies_marked(rendering, {0: copied, 1: fresh})
    assert marked.names == (f"copy of {files[2].name}", "stage2:6")
    assert marked.problems[0].endswith("a copy, not a visualization")
    assert marked[0].report["problem"] == marked.problems[0]
    assert "problem" not in marked[1].report
    assert with_copies_marked(rendering, {0: fresh}) is rendering


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"weight": -1}, fv.SettingError, "weight of match must be >= 0, got -1"),
        ({"count": 0}, fv.SettingError, "count of match must be a whole number in .1, 1000., got 0"),
        ({"match": "nowhere"}, fv.OutputError, "there is no folder nowhere; give a folder of photographs"),
    ],
)
def test_messages(net, folder, given, error, message):
    with pytest.raises(error, match=message):
        match_units(net, [obj.Logit("star")], **{"match": folder, **given})
    with pytest.raises(fv.SettingError, match="copies are told from two or more photographs, got 1"):
        nearest_photographs(net, torch.rand(1, 3, SIDE, SIDE), [folder / "c.png"])


def test_render_prints_what_is_matched_and_the_nearest(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["render", "--class", "star", "--match", str(folder), "--steps", "2", "--size", "64", "--quiet"]
    assert main([*words, "-o", "star.png"]) in (0, 1)
    said = capsys.readouterr()
    chosen = f"the one of 2 photographs with the highest score in {folder / 'Star'}"
    assert said.err.startswith(f"logit:star matched to {chosen}\n")
    assert "logit:star: nearest photograph: " in said.err
    monkeypatch.setattr(Nearest, "is_copy", property(lambda self: True))
    assert main([*words, "-o", "copy.png"]) == 1
    assert capsys.readouterr().err.strip().endswith("a copy, not a visualization")
    with Image.open(tmp_path / "copy.png") as saved:
        assert any("a copy, not a visualization" in str(text) for text in saved.text.values())


def test_a_copy_is_closer_than_different_photographs_are(folder):
    text = "nearest photograph: c.png (similarity {}; different photographs have up to 0.50)"
    assert str(Nearest(folder / "c.png", 0.25, 0.5)) == text.format("0.25")
    assert str(Nearest(folder / "c.png", 0.75, 0.5)) == f"{text.format('0.75')}: a copy, not a visualization"


@pytest.mark.parametrize("mirrored", [False, True])
def test_different_photographs_may_be_alike_when_mirrored(net, tmp_path, mirrored):
    """As images are compared with photographs, so are photographs with each other."""
    labels = torch.tensor([net.classes.index(name) for name in ("fish", "leaf", "bricks", "waves", "eye")])
    drawn = draw(labels, (64, 64), torch.Generator().manual_seed(0))
    mixed = 0.8 * drawn[0] + 0.2 * drawn[1]
    drawn[1] = mixed.flip(-1) if mirrored else mixed
    files = [tmp_path / f"{i}.png" for i in range(len(drawn))]
    for image, file in zip(drawn, files, strict=True):
        save_image(to_bytes(image.numpy()), file)
    (found,) = nearest_photographs(net, drawn[2:3], files)
    assert found.limit > 0.9


def test_a_network_of_one_layer(folder):
    (found,) = match_units(toys.plain(), [obj.Channel("conv2", 1)], folder)
    assert found.objective.layers > {"conv2"} and found.photographs


def test_a_number_that_is_the_name_of_a_class_is_not_an_index(tmp_path):
    net = toys.plain(classes=("1", "2", "0", "bee", "fly"))
    for name in ("0", "1", "2", "3"):
        (tmp_path / name).mkdir()
    for unit, expected in (("1", "1"), ("2", "2"), ("0", "0"), (0, "1"), (2, "0"), ("bee", "3")):
        assert class_folder(net, obj.Logit(unit), tmp_path) == tmp_path / expected
    (tmp_path / "0").rmdir()
    assert class_folder(net, obj.Logit("0"), tmp_path) is None
