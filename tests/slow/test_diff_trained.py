"""Comparisons of motifnet with copies whose difference is known, and their page in a real browser."""

import pytest
import torch
from motifs.changes import add_backdoor, permute, redraw_class
from motifs.draw import draw
from PIL import Image
from watched_pages import watched_page

import featviz as fv
from featviz.apps.diff.diff import diff
from featviz.network.bundled import MOTIFS

pytestmark = pytest.mark.slow
QUIET = {"progress": None, "scan_progress": None}


@pytest.fixture(scope="module")
def drawings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawings")
    for i, image in enumerate(draw(torch.arange(54) % 27, (64, 64), torch.Generator().manual_seed(0))):
        Image.fromarray((image.permute(1, 2, 0) * 255).round().byte().numpy()).save(folder / f"{i:02}.png")
    return folder


@pytest.fixture(scope="module")
def motifvit():
    return fv.load("motifvit", device="cpu")


@pytest.mark.parametrize("stage", ["stage1", "stage2", "stage3"])
def test_a_permutation_is_recovered(motifnet, drawings, stage):
    order = torch.randperm(motifnet.table[stage].channels, generator=torch.Generator().manual_seed(0))
    other, image = permute(motifnet, stage, order), torch.rand(1, 3, 64, 64)
    assert torch.allclose(motifnet.capture(image, [""])[""], other.capture(image, [""])[""], atol=1e-4)
    found = diff(motifnet, other, drawings, **QUIET)
    own = [match for match in found.units if match.first.layer == stage]
    right = [match.first.channel == order[match.second.channel] for match in own if match.status in ("shared", "moved")]
    assert sum(right) >= 0.99 * len(order)
    assert {match.status for match in found.units if match.first.layer != stage} == {"shared"}


def test_a_class_that_is_drawn_again_comes_first(motifnet, motifvit, drawings, tmp_path):
    classes = ["zigzag", "star", "moon"]
    other = redraw_class(motifnet, MOTIFS.index("zigzag"))
    found = diff(
        motifnet, other, drawings, tmp_path / "out", classes=classes, judge=motifvit, per_class=1, steps=96, **QUIET
    )
    assert found.classes[0].title == "zigzag" and found.changed == []
    assert found.classes[0].transfer_loss > 1 and all(abs(each.transfer_loss) < 0.1 for each in found.classes[1:])
    assert found.classes[0].change > 0.1 and all(each.change < 0.01 for each in found.classes[1:])
    assert found.classes[0].probabilities[0] > found.classes[0].probabilities[1]


@pytest.mark.long
@pytest.mark.parametrize("name", ["heart", "maze", "hexagons", "plaid"])
def test_the_class_of_a_backdoor_comes_first(name, motifnet, motifvit, drawings, tmp_path):
    """By one image of each class. The judge alone puts maze and hexagons behind several others."""
    other, accuracy, success = add_backdoor(motifnet, MOTIFS.index(name))
    assert accuracy > 0.8 and success > 0.6
    found = diff(motifnet, other, drawings, tmp_path / "out", judge=motifvit, most=1, per_class=1, steps=96, **QUIET)
    assert found.classes[0].title == name
    assert found.classes[0].transfer_loss > 1.3 * found.classes[1].transfer_loss


# ---------------------------------------------------------------------------------------------- the page


@pytest.fixture(scope="module")
def page_file(motifnet, drawings, tmp_path_factory):
    """A page of three networks, with cards of every kind."""
    module = fv.load("motifnet", device="cpu").module
    with torch.no_grad():
        module.stem[0].weight[3] = torch.randn(3, 5, 5, generator=torch.Generator().manual_seed(0))
        module.head.weight[4] *= -1
    last = fv.Network(module, **vars(motifnet.input), classes=MOTIFS)
    middle = permute(motifnet, "stage1", torch.randperm(32, generator=torch.Generator().manual_seed(0)))
    folder = tmp_path_factory.mktemp("diff")
    given = {"steps": 2, "size": 32, "most": 2, "per_class": 1, "threshold": 0.9, "classes": [4], **QUIET}
    diff(motifnet, last, drawings, folder, checkpoints=[middle], **given)
    return folder / "index.html"


@pytest.mark.parametrize("width", [1440, 390])
def test_the_page_by_keyboard(browser, page_file, width):
    with watched_page(browser, width=width, height=800) as page:
        page.goto(page_file.as_uri())
        groups = page.evaluate("[...document.querySelectorAll('#cards li')].map(card => card.dataset.group)")
        assert {"class", "shared", "lost", "new", "checkpoint"} <= set(groups)
        page.locator("#group").select_option("lost")
        assert page.locator("#cards li:visible").count() == groups.count("lost")
        page.locator("#search").fill("no such unit")
        assert page.locator("#cards li:visible").count() == 0 and page.locator("#none").is_visible()
        page.locator("#search").fill("")
        page.locator("#group").select_option("")
        assert page.locator("#cards li:visible").count() == len(groups)
        page.locator("#sort").select_option("change")
        changes = page.evaluate("[...document.querySelectorAll('#cards li')].map(card => +card.dataset.change)")
        assert changes == sorted(changes, reverse=True)
        page.locator("#cards button.open").first.focus()
        page.keyboard.press("Enter")
        first = page.locator("#large").get_attribute("src")
        page.keyboard.press("ArrowRight")
        assert page.locator("#dialog").is_visible() and page.locator("#large").get_attribute("src") != first
        page.keyboard.press("Escape")
        assert not page.locator("#dialog").is_visible()
        before = page.evaluate("getComputedStyle(document.querySelector('.heat td')).backgroundColor")
        page.locator("#theme").click()
        assert page.evaluate("getComputedStyle(document.querySelector('.heat td')).backgroundColor") != before
