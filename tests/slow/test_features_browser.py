"""Features of a dictionary in the explorer, in a real browser, started by the command."""

import subprocess
import sys

import pytest
import torch
from explore_pages import QUICK, drawn, watched

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
