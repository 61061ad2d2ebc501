"""Search on the pages of a sweep: names, photographs and likeness."""

import base64
import json
import re
import zlib

import numpy as np
import pytest
import torch

import featviz as fv
from featviz.apps.gallery import search
from featviz.apps.units.responses import read_responses
from featviz.apps.units.statistics import percentiles


def searched(page):
    """Return the search of a page, and its percentiles by photograph and unit."""
    found = json.loads(re.search(r'<script id="percentiles" type="application/json">(.*?)</script>', page)[1])
    numbers = np.frombuffer(zlib.decompress(base64.b64decode(found["percentiles"])), np.uint8)
    return found, numbers.reshape(len(found["photographs"]), found["units"])


@pytest.fixture(scope="module")
def swept(motifnet, drawings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    given = {"photographs": drawings, "steps": 1, "progress": None, "scan_progress": None}
    fv.sweep(motifnet, folder, ["stage2", "logit"], channels=[3, 7, 16], **given)
    return folder


def test_cards_have_the_names_and_scores_of_their_units(motifnet, drawings, swept):
    page = (swept / "layer-logit.html").read_text()
    names = re.findall(r'data-name="([^"]*)".*?data-unit="([^"]*)" data-interpretability="([^"]*)"', page)
    assert [name for name, _, _ in names] == [motifnet.classes[i] for i in (3, 7, 16)]
    known = ("star", "heart", "bricks", "spiral", "leaf", "waves")  # classes of the drawings
    assert all(unit in ("", name) or name not in known for name, unit, _ in names)
    assert page.count("polysemanticity 0.") + page.count("polysemanticity 1.") == 3
    assert '<option value="polysemanticity">' in page


def test_the_page_holds_the_percentiles_of_all_photographs(motifnet, drawings, swept):
    found, numbers = searched((swept / "layer-stage2.html").read_text())
    responses = read_responses(motifnet, drawings, "stage2")
    assert tuple(found["photographs"]) == responses.names and found["units"] == 3
    wanted = 255 * percentiles(responses.values)[:, [3, 7, 16]]
    assert np.abs(numbers - wanted.numpy()).max() <= 0.5 + 1e-3


def test_photographs_on_cards_know_their_rows(swept):
    page = (swept / "layer-stage2.html").read_text()
    found, numbers = searched(page)
    cards = json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)[1])
    for unit, card in enumerate(cards):
        crops = [one for one in card if "row" in one and one["whole"]]
        assert len(crops) == 5 and numbers[crops[0]["row"], unit] == 255
        for one in crops:
            assert found["photographs"][one["row"]].endswith(one["facts"]["photograph"])


def test_of_many_photographs_those_on_the_page_stay(motifnet, drawings, monkeypatch):
    responses = read_responses(motifnet, drawings, "stage2")
    monkeypatch.setattr(search, "MAX_PHOTOGRAPHS", 20)
    shown = set(responses.names[30:40])
    made, rows = search.make_search(responses, [1, 2], shown)
    assert len(made.photographs) == 20 == len(rows) and shown <= rows.keys()
    assert [made.photographs[row] for row in rows.values()] == list(rows)
    monkeypatch.setattr(search, "MAX_NUMBERS", 30)
    assert len(search.make_search(responses, [1, 2], set())[0].photographs) == 15


def test_one_photograph_ranks_nothing(motifnet, drawings, tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a.png").write_bytes((drawings / "leaf" / "00.png").read_bytes())
    fv.sweep(motifnet, tmp_path / "s", "stage2", channels=[0], photographs=tmp_path / "one", steps=1)
    page = (tmp_path / "s" / "layer-stage2.html").read_text()
    assert 'id="percentiles"' not in page and 'id="photograph"' not in page


def test_a_sweep_reads_each_photograph_once_for_a_layer(motifnet, drawings, tmp_path):
    calls = []
    progress = lambda done, total: calls.append((done, total))  # noqa: E731
    fv.sweep(motifnet, tmp_path, "stage1.0", channels=[0, 1], photographs=drawings, steps=0, scan_progress=progress)
    assert calls == [(32, 72), (64, 72), (72, 72)]


def test_labels_of_a_file_name_the_units_of_a_sweep(motifnet, drawings, tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text("".join(f"{kind}/{i:02}.png,pointed\n" for kind in ("star", "leaf") for i in range(12)))
    given = {"photographs": drawings, "channels": [motifnet.classes.index("star")], "steps": 0}
    fv.sweep(motifnet, tmp_path / "s", "logit", labels=file, **given)
    assert 'data-unit="star"' in (tmp_path / "s" / "layer-logit.html").read_text()
    with pytest.raises(fv.SettingError, match=r"^labels are of photographs; give the folder as photographs, too$"):
        fv.sweep(motifnet, tmp_path / "s", "logit", labels=file, channels=[0], steps=0)


def test_percentiles_do_not_depend_on_the_other_units(motifnet, drawings):
    responses = read_responses(motifnet, drawings, "stage2")
    alone = percentiles(responses.values[:, 5:6])[:, 0]
    assert torch.equal(alone, percentiles(responses.values)[:, 5])


def columns_of(page):
    found = re.findall(r'data-column="(\d*)" data-name="([^"]*)"', page)
    return {name: int(column) if column else None for column, name in found}


def test_cards_know_their_column_in_any_order_and_beside_those_of_earlier_runs(motifnet, drawings, tmp_path):
    given = {"photographs": drawings, "steps": 1, "progress": None, "scan_progress": None}
    fv.sweep(motifnet, tmp_path / "a", "stage2", channels=[16, 3], **given)
    page = (tmp_path / "a" / "layer-stage2.html").read_text()
    assert columns_of(page) == {"stage2:3": 1, "stage2:16": 0}
    fv.sweep(motifnet, tmp_path / "a", "stage2", channels=[7], **given)
    page = (tmp_path / "a" / "layer-stage2.html").read_text()
    assert columns_of(page) == {"stage2:3": None, "stage2:7": 0, "stage2:16": None}
    _, numbers = searched(page)
    wanted = 255 * percentiles(read_responses(motifnet, drawings, "stage2").values)[:, [7]]
    assert np.abs(numbers - wanted.numpy()).max() <= 0.5 + 1e-3
