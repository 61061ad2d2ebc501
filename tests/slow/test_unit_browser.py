"""The pages of units in a browser: search by name, by a photograph and by likeness, and the dialog of a card."""

import itertools
import json
import re

import numpy as np
import pytest
import torch
from motifs.draw import draw
from PIL import Image
from watched_pages import watched_page

import featviz as fv
from featviz.apps.units.responses import read_responses
from featviz.apps.units.statistics import percentiles

pytestmark = pytest.mark.slow
UNITS = (3, 8, 21, 40, 41)
"""Units of the sweep in the order of the page, which is not the one in which they are given."""
EARLIER = 60
"""Unit of an earlier sweep into the same folder, whose card comes last and has no ranks."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, motifnet):
    """A sweep and a card, with photographs in folders of their motifs."""
    folder, generator = tmp_path_factory.mktemp("units"), torch.Generator().manual_seed(0)
    labels = torch.arange(48) % 6
    for i, image in enumerate(draw(labels, (64, 64), generator)):
        file = folder / "photos" / motifnet.classes[labels[i]] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image.permute(1, 2, 0) * 255).round().byte().numpy()).save(file)
    given = {"photographs": folder / "photos", "steps": 1, "scan_progress": None, "progress": None}
    fv.sweep(motifnet, folder / "sweep", "stage3", channels=[EARLIER], **given)
    fv.sweep(motifnet, folder / "sweep", "stage3", channels=UNITS[::-1], **given)
    fv.unit(motifnet, "stage3:3", **given).save(folder / "card.html")
    return folder


@pytest.fixture
def page(browser):
    with watched_page(browser, width=390, height=800) as page:
        yield page


def order(page):
    """Return the cards that are shown, in order."""
    shown = "[...document.querySelectorAll('#cards li')].filter(card => !card.hidden)"
    return page.evaluate(f"{shown}.map(card => Number(card.dataset.card))")


def open_sweep(page, folder):
    page.goto((folder / "sweep" / "layer-stage3.html").as_uri())


def test_units_are_found_by_name(page, folder):
    open_sweep(page, folder)
    names = re.findall(r'data-unit="([^"]*)"', page.content())
    page.fill("#search", names[2].upper())
    assert 2 in order(page) and all(names[2] in names[card] for card in order(page))
    page.fill("#search", "no such name")
    assert order(page) == [] and page.locator("#none").is_visible()


def test_units_are_ranked_by_a_photograph(page, folder, motifnet):
    responses = read_responses(motifnet, folder / "photos", "stage3")
    shares = percentiles(responses.values)[:, list(UNITS)]
    open_sweep(page, folder)
    for row in (5, 30):
        page.fill("#photograph", responses.names[row])
        page.locator("#ranked").wait_for()
        page.wait_for_timeout(100)
        *ranked, last = order(page)
        assert last == len(UNITS) and not page.locator("#cards li").last.locator(".rank:visible").count()
        found = [shares[row, card].item() for card in ranked]
        assert all(a >= b - 1 / 255 for a, b in itertools.pairwise(found))
        note = page.locator("#cards li .rank").first.inner_text()
        assert note == f"more than {round(100 * round(255 * found[0]) / 255)} %"
    page.click("#clear")
    assert order(page) == list(range(6)) and not page.locator("#ranked").is_visible()
    assert page.input_value("#photograph") == ""


def test_the_dialog_ranks_by_its_photograph_and_by_likeness(page, folder, motifnet):
    responses = read_responses(motifnet, folder / "photos", "stage3")
    open_sweep(page, folder)
    page.locator("#cards li").nth(1).locator(".photographs button").first.click()
    page.click("#rank")
    page.locator("#ranked").wait_for()
    best = responses.examples.places(UNITS[1])[0].file.relative_to(folder / "photos").as_posix()
    assert page.input_value("#photograph") == best and not page.locator("#dialog").is_visible()
    page.select_option("#sort", "order")
    page.locator("#cards li").nth(1).locator("button.open").first.click()
    page.click("#rank")
    page.locator("#ranked").wait_for()
    page.wait_for_timeout(100)
    correlation = np.corrcoef(percentiles(responses.values)[:, list(UNITS)].numpy().T)[1]
    assert order(page) == [*sorted(range(5), key=lambda card: -correlation[card]), 5]
    second = order(page)[1]
    note = page.locator("#cards li .rank").nth(1).inner_text()
    assert float(note.removeprefix("likeness ")) == pytest.approx(correlation[second], abs=0.01)


def test_units_of_earlier_sweeps_offer_no_ranks(page, folder):
    open_sweep(page, folder)
    page.locator("#cards li").last.locator("button.open").first.click()
    assert page.locator("#dialog").is_visible() and not page.locator("#rank").is_visible()


def test_the_card_opens_by_keyboard(page, folder):
    page.goto((folder / "card.html").as_uri())
    page.locator("button.open").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("#title").inner_text() == "unit" and page.locator("#more").is_visible()
    recipe = page.locator("#recipe").text_content()
    assert json.loads(recipe)["objectives"] == ["Channel(layer='stage3', channel=3)"]
    page.keyboard.press("ArrowLeft")
    assert page.locator("#title").inner_text().endswith(".png") and not page.locator("#more").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#dialog").is_visible()
