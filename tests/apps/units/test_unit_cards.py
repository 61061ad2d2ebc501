"""Cards of units: names, scores, facets, images, and their pages."""

import dataclasses
import json
import re

import pytest
import torch
import toys
from PIL import Image

import featviz as fv
from featviz.apps.judge.judge import class_rank
from featviz.apps.units.images import facet_objectives
from featviz.apps.units.responses import read_responses
from featviz.apps.units.summary import labels_of, summaries
from featviz.cli import main


def known(network, folder, layer, units, **more):
    found = read_responses(network, folder, layer, **more)
    return found, summaries(found, labels_of(network, found, None), units)


def test_classes_are_named_after_their_folders_and_have_one_meaning(motifnet, drawings):
    chosen = {motifnet.classes.index(name): name for name in ("star", "heart", "spiral", "leaf")}
    _, found = known(motifnet, drawings, "", list(chosen))
    for index, name in chosen.items():
        one = found[index]
        assert one.name == name and one.names[0].auroc > 0.99 and one.names[0].count == 12
        assert one.interpretability == 1 and one.clarity > 0.6
        assert not one.is_polysemantic and one.polysemanticity < 0.4


@pytest.mark.parametrize("judge", [None, "motifvit"])
def test_a_planted_unit_has_two_meanings(planted, drawings, judge):
    network = judge and fv.load(judge, device="cpu")
    found, units = known(planted, drawings, "stage3~", [0], judge=network)
    one = units[0]
    assert one.name in ("star OR heart", "heart OR star") and one.names[0].auroc > 0.99
    assert one.is_polysemantic and one.polysemanticity > 0.6
    assert {facet.label for facet in one.facets} == {"star", "heart"}
    for facet in one.facets:
        folders = {found.names[i].partition("/")[0] for i in facet.photographs}
        assert folders == {facet.label}
        responses = found.values[list(facet.photographs), 0].tolist()
        assert responses == sorted(responses, reverse=True)
    assert sum(len(facet.photographs) for facet in one.facets) == 9  # an eighth of 72


def test_scores_do_not_depend_on_the_order_of_photographs_that_a_unit_does_not_respond_to(motifnet, drawings):
    """Of few photographs that excite the unit, no score is read from those that tie at its lowest response."""
    found, _ = known(motifnet, drawings, "", [0])
    count = len(found.names)
    values = torch.zeros(count, 1)
    values[:6, 0] = torch.arange(6.0, 0, -1)
    generator = torch.Generator().manual_seed(0)
    judged = torch.randn(count, 5, generator=generator)
    orders = [torch.arange(count), torch.cat([torch.arange(6), 6 + torch.randperm(count - 6, generator=generator)])]
    scores = []
    for order in orders:
        made = dataclasses.replace(found, values=values[order], judged=judged[order])
        one = summaries(made, labels_of(motifnet, made, None), [0])[0]
        scores.append((one.interpretability, one.clarity, one.polysemanticity))
    assert scores[0] == scores[1] and scores[0][0] is None and scores[0][1] is not None


@pytest.mark.parametrize(("others", "has_two"), [(2, False), (3, True), (4, True)])
def test_few_photographs_of_another_kind_are_outliers_and_no_facet(motifnet, drawings, others, has_two):
    """Of the nine strongest, two to four show something that has nothing in common with the rest."""
    found, _ = known(motifnet, drawings, "", [0])
    count = len(found.names)
    judged = torch.eye(2)[[0] * (9 - others) + [1] * others + [0] * (count - 9)]
    values = torch.arange(count, 0, -1.0)[:, None]
    made = dataclasses.replace(found, values=values, judged=judged)
    one = summaries(made, labels_of(motifnet, made, None), [0])[0]
    assert one.polysemanticity == pytest.approx(1)
    assert one.is_polysemantic == has_two
    assert [len(facet.photographs) for facet in one.facets] == ([9 - others, others] if has_two else [])


def test_facet_objectives_lead_to_their_own_photographs(planted, drawings):
    found, units = known(planted, drawings, "stage3~", [0])
    facets, unit = units[0].facets, fv.objectives.Channel("stage3~", 0)
    goals = facet_objectives(planted, unit, 0, facets, found)
    for k, goal in enumerate(goals):
        means = [
            fv.score(planted, goal, read(drawings, [found.names[i] for i in facet.photographs])).mean()
            for facet in facets
        ]
        assert means[k] > means[1 - k]


def read(folder, names):
    from featviz.io import read_photograph

    return torch.stack([read_photograph(folder / name, size=(64, 64), channels=3) for name in names])


@pytest.mark.long
def test_the_facets_of_a_planted_unit_are_recognised(planted, drawings):
    """Each image shows one of the two motifs, and motifvit recognises it."""
    card = fv.unit(planted, "stage3~0", drawings, steps=192, progress=None, scan_progress=None)
    judge = fv.load("motifvit", device="cpu")
    facets = [image for image in card.images if image.note.startswith("facet")]
    assert {image.note for image in facets} == {
        f"facet {i + 1}, {facet.label}" for i, facet in enumerate(card.summary.facets)
    }
    for image in facets:
        rank, _ = class_rank(image.rendering.images[0], judge.classes.index(image.note.rpartition(" ")[2]), judge)
        assert rank == 1


def test_few_photographs_have_no_scores(motifnet, tmp_path):
    (tmp_path / "p").mkdir()
    for i in range(3):
        Image.effect_noise((64, 64), 40 + 20 * i).convert("RGB").save(tmp_path / "p" / f"{i}.png")
    card = fv.unit(motifnet, "stage2:5", tmp_path / "p", steps=1)
    one = card.summary
    assert (one.interpretability, one.clarity, one.polysemanticity, one.facets) == (None, None, None, ())
    page = card.save(tmp_path / "card.html").read_text()
    assert "Needs 20 photographs" in page and "Needs 32 photographs" in page


@pytest.mark.filterwarnings("ignore::featviz.FeatvizWarning")  # the card says that the unit has no gradient
def test_a_unit_that_is_always_off_has_a_card(drawings, tmp_path):
    net = toys.network(toys.Dead())
    with torch.no_grad():
        net.module.conv.bias.fill_(-100)
        net.module.conv.weight.zero_()
    card = fv.unit(net, "relu:1", drawings, steps=2)
    assert card.summary.names == () and card.summary.interpretability is None
    assert card.images[0].rendering is None and card.images[0].problem
    assert "responds to all of them alike" in card.save(tmp_path / "card.html").read_text()


def test_the_page_is_one_file_and_a_folder_holds_the_images(planted, drawings, tmp_path):
    card = fv.unit(planted, "stage3~0", drawings, steps=8, size=64)
    assert [image.note for image in card.images][:2] == ["unit", "negative"] and len(card.images) == 8
    page = card.save(tmp_path / "card.html").read_text()
    assert "Content-Security-Policy" in page and "two: " in page
    assert str(drawings) not in page  # where the folder lies is private
    assert not re.search(r'(src|href)="(?!data:)', page)
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)
    shown = json.loads(found[1])
    assert len(shown) == page.count('class="open"') and not any("src" in one for one in shown)
    card.save(tmp_path)
    names = sorted(file.name for file in tmp_path.glob("stage3_0*"))
    assert names[-1] == "stage3_0.html" and len(names) == 9
    image = next(tmp_path.glob("stage3_0-facet*"))
    assert re.match(r"Channel\(layer='stage3~', channel=0\) \+ [\d.]+ \* Direction", fv.Recipe.of(image).objectives[0])


def test_names_on_the_page_are_escaped(motifnet, tmp_path):
    bad = "<img src=x onerror=alert(1)>"
    for name in (bad, "other"):
        (tmp_path / "p" / name).mkdir(parents=True)
        for i in range(3):
            Image.effect_noise((64, 64), 40 + 20 * i).convert("RGB").save(tmp_path / "p" / name / f"{i}.png")
    page = fv.unit(motifnet, "stage2:5", tmp_path / "p", steps=1).save(tmp_path / "card.html").read_text()
    assert bad not in page and "&lt;img src=x onerror=alert(1)&gt;" in page


def test_the_command_prints_what_is_known(drawings, tmp_path, capsys):
    words = ["unit", "logit:leaf", "--photographs", str(drawings), "--steps", "1", "--quiet", "-o", "leaf.html"]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "unit: leaf of motifnet" and lines[-1] == "leaf.html"
    assert lines[1] == "name: leaf (AUROC 1.00, 12 of 72 photographs)"
    assert (tmp_path / "leaf.html").is_file()


@pytest.mark.parametrize(
    ("unit", "message"),
    [
        ("stage2", "unit must be a channel or a class, as 'stage3:5' or 'logit:0', got 'stage2'"),
        ("stage2:5@1,1", "unit must be a channel or a class, as 'stage3:5' or 'logit:0', got 'stage2:5@1,1'"),
        ("stage2:64", "no channel 64 in 'stage2'; it has 64, 0 to 63"),
    ],
)
def test_what_is_no_unit(motifnet, drawings, unit, message):
    with pytest.raises(fv.FeatvizError) as error:
        fv.unit(motifnet, unit, drawings)
    assert str(error.value) == message


def test_nothing_is_written_into_the_photographs(drawings, capsys):
    inside = str(drawings / "card.html")
    assert main(["unit", "stage2:5", "--photographs", str(drawings), "-o", inside]) == 2
    assert "would be taken for photographs" in capsys.readouterr().err
    assert not (drawings / "card.html").exists()
