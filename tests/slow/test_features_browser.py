"""Features of a dictionary in the explorer, in a real browser, started by the command."""

import subprocess
import sys

import pytest
import torch
from explore_pages import QUICK, TIMEOUT, desk_of, drawn
from motifs.draw import draw

import featviz as fv
from featviz.apps.dictionaries.factorise import cluster_dictionary

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Start `featviz explore --dictionary FILE` and give its address."""
    folder = tmp_path_factory.mktemp("features")
    drawings = draw(torch.arange(54) % 27, (64, 64), torch.Generator().manual_seed(0))
    acts = fv.load("motifnet", device="cpu").capture(drawings, ["stage3"]).channels_first("stage3")
    found = cluster_dictionary(acts.movedim(1, -1).flatten(0, 2), 12, seed=0)
    found.at("stage3").save(folder / "features.safetensors")
    command = [sys.executable, "-m", "featviz", "explore", "--no-browser", "--device", "cpu", "-o", folder / "store"]
    command += ["--dictionary", folder / "features.safetensors"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


@pytest.fixture
def page(browser, address):
    with desk_of(browser, address) as opened:
        yield opened


def test_features_are_drawn_as_tiles_and_their_card_opens(page):
    desk = page.open(QUICK)
    row = desk.locator("#tree [role=treeitem][aria-label^='stage3~,']").locator(".row").first
    row.click()
    assert desk.locator("main h1:visible").inner_text() == "stage3~"
    assert "12 features" in desk.locator("#layer-about").inner_text()
    drawn(desk)
    desk.locator(".tile[data-channel='2']").click()
    card = desk.locator("#card")
    assert card.get_by_role("heading", level=2).inner_text() == "stage3~2"


def test_the_large_image_of_a_feature_of_k_means_that_starts_off_is_rendered(page):
    """Another centre is nearest at every position of the start."""
    desk = page.open("steps=64&size=64")
    desk.locator("#tree [role=treeitem][aria-label^='stage3~,']").locator(".row").first.click()
    desk.locator(".tile[data-channel='3']").click()
    desk.locator("#card .plate[data-state=done]").wait_for(timeout=2 * TIMEOUT)
