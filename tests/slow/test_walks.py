"""Atlases and building blocks in a real browser, opened from the disk."""

import pytest
import torch
from motifs.draw import draw
from PIL import Image
from watched_pages import watched_page

import featviz as fv
from featviz.network.bundled import MOTIFS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pages(tmp_path_factory, motifnet):
    """An atlas of two layers, and the blocks of two motifs side by side; one class name is markup."""
    folder = tmp_path_factory.mktemp("walks")
    (folder / "photos").mkdir()
    images = draw(torch.arange(54) % len(MOTIFS), (64, 64), torch.Generator().manual_seed(0))
    for i, image in enumerate(images):
        Image.fromarray((image.permute(1, 2, 0) * 255).round().byte().numpy()).save(folder / "photos" / f"{i:02d}.png")
    wild = ["<script>document.title = 'gone'</script>", *MOTIFS[1:]]
    network = fv.Network(
        motifnet.module, size=64, mean=motifnet.input.mean, std=motifnet.input.std, classes=wild, name="wild"
    )
    given = {"steps": 2, "size": 32}
    fv.atlas(
        network,
        folder / "photos",
        ["stage3", "stage2"],
        folder / "atlas",
        per_image=8,
        grids=(4, 8),
        method="pca",
        **given,
    )
    both = torch.cat([images[MOTIFS.index("fish")], images[MOTIFS.index("smiley")]], 2)
    Image.fromarray((both.permute(1, 2, 0) * 255).round().byte().numpy()).save(folder / "both.png")
    fv.blocks(network, folder / "both.png", ["stage2", "stage3"], folder / "blocks", cells=4, groups=2, **given)
    own = torch.nn.Sequential(*(torch.nn.Conv2d(3, 3, 3, 4, 1) for _ in range(2)), torch.nn.Flatten())
    last_strongest = torch.linspace(0, 1, 16).repeat(3, 16, 1)
    network = fv.Network(own, size=16, mean=(0.0,) * 3, std=(1.0,) * 3)
    fv.blocks(network, last_strongest, ["0", "1"], folder / "grids", cells=4, groups=2, **given)
    return folder


@pytest.fixture(params=[(1300, 850), (390, 780)], ids=["desk", "phone"])
def opened(browser, pages, request):
    """Opens one of the pages."""
    width, height = request.param
    with watched_page(browser, width=width, height=height) as page:

        def show(name):
            page.goto((pages / name / "index.html").as_uri())
            page.wait_for_load_state("load")
            page.wait_for_timeout(200)
            return page

        yield show
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth + 1")


def test_atlas_describes_the_cell_under_the_mouse(opened):
    page = opened("atlas")
    assert page.title() == "Activation atlas of stage3 and stage2, wild"
    canvas = page.locator(".plane canvas").first
    x, y = page.evaluate(
        "(() => { const v = views[0], g = v.grid(), c = g.cells[0], s = v.side / g.side; return [v.x + (c.x + .5) * s, v.y + (c.y + .5) * s]; })()"
    )
    canvas.hover(position={"x": x, "y": y})
    assert "stage3" in page.locator("#count").text_content()
    assert page.locator("#classes li").count() >= 1 and page.locator("#photos img").count() >= 1
    assert page.evaluate("views[1].others !== null")  # the other layer marks the cells of the same photographs


def test_atlas_zooms_to_finer_cells_and_back(opened):
    page = opened("atlas")
    side = "views[0].grid().side"
    coarse = page.evaluate("views[0].scale = .5, " + side)
    page.get_by_label("Zoom in").click(click_count=6)
    assert page.evaluate(side) >= coarse and page.evaluate(side) == 8
    page.get_by_text("Show all").click()
    assert page.evaluate("views[0].scale") == pytest.approx(0.94)
    page.mouse.move(
        *page.evaluate("(() => { const b = views[0].canvas.getBoundingClientRect(); return [b.x + 50, b.y + 50]; })()")
    )
    page.mouse.wheel(0, -400)
    page.wait_for_timeout(100)
    assert page.evaluate("views[0].scale") > 1
    before = page.evaluate("views[0].x")
    page.mouse.down()
    page.mouse.move(
        *page.evaluate("(() => { const b = views[0].canvas.getBoundingClientRect(); return [b.x + 90, b.y + 60]; })()")
    )
    page.mouse.up()
    assert page.evaluate("views[0].x") == pytest.approx(before + 40, abs=2)


def test_atlas_highlights_the_cells_of_a_class(opened):
    page = opened("atlas")
    page.get_by_label("Highlight a class").fill("Spiral")
    assert page.evaluate("query") == "spiral"
    assert page.locator("#status").text_content().endswith(" to this class.")
    page.get_by_label("Highlight a class").fill("")
    assert "Made with featviz" in page.locator("#status").text_content()


def test_atlas_by_keyboard(opened):
    page = opened("atlas")
    page.locator(".plane canvas").first.focus()
    visited = set()
    for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp", "ArrowUp"):
        page.keyboard.press(key)
        visited.add(tuple(page.evaluate("[views[0].cell.x, views[0].cell.y]")))
    assert len(visited) > 1 or page.evaluate("views[0].grid().cells.length") == 1
    page.keyboard.press("+")
    assert page.evaluate("views[0].scale") > 1
    page.keyboard.press("0")
    assert page.evaluate("views[0].scale") == pytest.approx(0.94)


def test_blocks_describe_cells_classes_and_groups(opened):
    page = opened("blocks")
    assert page.title() == "What wild detects in both.png"
    page.locator("#grid").scroll_into_view_if_needed()
    box = page.locator("#grid").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.1, box["y"] + box["height"] * 0.2)
    assert page.locator("#title").text_content() == "Row 1, column 1"
    assert page.locator("#channels figure").count() == 4 and page.locator("#support li").count() >= 5
    button = page.locator("#classes button").first
    button.hover()
    assert "red where stage2 raises its logit, blue where it lowers it" in page.locator("#details").text_content()
    inked = "document.getElementById('heat').getContext('2d').getImageData(0, 0, 64, 64).data.some(n => n > 0)"
    assert page.evaluate(inked)
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    page.get_by_label("group 1").hover()
    assert page.locator("#subject").text_content() == "Contribution to class logits"  # the class is kept
    button.click()
    page.get_by_label("group 1").hover()
    assert page.locator("#subject").text_content() == "Group contribution to class logits"
    page.get_by_role("button", name="Show all").click()
    assert button.get_attribute("aria-pressed") == "false"
    assert "colours of its groups" in page.locator("#details").text_content()
    assert page.evaluate("shown[0] === layer.cell_colors")
    assert len(set(page.evaluate("layer.group_colors.map(String)"))) == 2
    page.get_by_label("group 2").click()
    assert page.locator("#subject").text_content() == "Group contribution to class logits"
    page.locator("#grid").hover(position={"x": 10, "y": 10})
    assert page.locator("#subject").text_content() == "Contribution to class logits"
    assert (
        page.locator("#details").text_content().startswith("Group 2:")
        and button.get_attribute("aria-pressed") == "false"
    )


def test_blocks_change_their_layer_by_keyboard(opened):
    page = opened("blocks")
    tabs = page.get_by_role("tab")
    assert [tab.text_content() for tab in tabs.all()] == ["stage2", "stage3"]
    tabs.first.focus()
    page.keyboard.press("ArrowRight")
    assert tabs.nth(1).get_attribute("aria-selected") == "true"
    strongest = page.evaluate("layer.activation.indexOf(Math.max(...layer.activation))")
    rows, columns = page.evaluate("[layer.rows, layer.columns]")
    assert page.evaluate("cell") == strongest and page.locator("#support li").count() >= 5
    page.locator("#grid").focus()
    for _ in range(columns):
        page.keyboard.press("ArrowLeft")
    for _ in range(rows):
        page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowRight")
    assert page.locator("#title").text_content() == "Row 1, column 2"
    assert page.locator("#details").text_content().startswith("Contributions of stage2 to the activation of the cell:")


def test_blocks_of_a_layer_with_fewer_cells_open_while_a_button_has_the_focus(opened):
    """Where a click does not move the focus, as in Safari, the focused button is removed with its layer."""
    page = opened("grids")
    for tab, cells in ((1, 1), (0, 16)):
        page.locator("#grid").focus()
        page.locator("#grid").press("ArrowRight")
        page.locator("#classes button").first.focus()
        page.get_by_role("tab").nth(tab).evaluate("tab => tab.click()")
        assert page.evaluate("layer.activation.length") == cells and page.evaluate("cell") < cells
        assert page.locator("#title").text_content().startswith("Row ") and page.locator("#channels figure").count()


def test_light_and_dark(opened):
    for name in ("atlas", "blocks"):
        page = opened(name)
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.get_by_label("Switch between light and dark").click()
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != paper
