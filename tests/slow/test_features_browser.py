"""Features of a dictionary in the explorer, in a real browser, started by the command."""

import subprocess
import sys

import pytest
import torch
from explore_pages import QUICK, drawn, until, watched

from featviz.network.dictionaries import from_centres

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Start `featviz explore --dictionary FILE` and give its address."""
    folder = tmp_path_factory.mktemp("features")
    centres = torch.rand(12, 128, generator=torch.Generator().manual_seed(0))
    from_centres(centres).at("stage3").save(folder / "features.safetensors")
    command = [sys.executable, "-m", "featviz", "explore", "--no-browser", "--device", "cpu", "-o", folder / "store"]
    command += ["--dictionary", folder / "features.safetensors"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


@pytest.fixture
def page(browser, address):
    with watched(browser, address) as opened:
        yield opened


def test_the_card_of_a_feature_opens_and_its_image_is_rendered(page):
    desk = page.open(QUICK)
    row = desk.locator("#tree [role=treeitem][aria-label^='stage3~,']").locator(".row").first
    row.click()
    assert desk.locator("main h1:visible").inner_text() == "stage3~"
    assert "12 features" in desk.locator("#layer-about").inner_text()
    drawn(desk)
    desk.locator(".tile[data-channel='2']").click()
    card = desk.locator("#card")
    assert card.get_by_role("heading", level=2).inner_text() == "stage3~2"
    until(lambda: card.locator(".plate").get_attribute("data-state") == "done", 240)
    assert card.locator(".plate img").get_attribute("alt") == "stage3~2"
    until(lambda: card.locator("#variants img[src]").count() == 6)
    desk.keyboard.press("ArrowRight")
    assert card.get_by_role("heading", level=2).inner_text() == "stage3~3"


def test_features_can_be_typed_and_opened_by_address(page):
    desk = page.open(f"{QUICK}&layer=stage3~&channel=5")
    card = desk.locator("#card")
    until(lambda: card.is_visible() and card.get_by_role("heading", level=2).inner_text() == "stage3~5")
    until(lambda: card.locator(".plate").get_attribute("data-state") == "done", 240)
    copied = card.inner_text()
    assert "stage3~:5" not in copied  # a feature has no colon


def test_a_feature_fits_a_phone(browser, address):
    with watched(browser, address, width=390, height=844) as opened:
        desk = opened.open(f"{QUICK}&layer=stage3~&channel=1")
        until(lambda: desk.locator("#card .plate").get_attribute("data-state") == "done", 240)
        assert desk.evaluate("document.documentElement.scrollWidth <= innerWidth")
