"""Maps of embeddings in a real browser, opened from the disk, at the widths of a phone and a desk."""

import base64
import io

import numpy as np
import pytest
import torch
from motifs.draw import draw
from PIL import Image
from slow.test_page_layout import FINDINGS
from watched_pages import watched_page

import featviz as fv
from featviz.network.bundled import MOTIFS

pytestmark = pytest.mark.slow
WORDS = 20_000
SELECTED = "view.selected"
MIDDLE = (
    "(() => { const box = canvas.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; })()"
)


@pytest.fixture(scope="module")
def maps(tmp_path_factory, motifnet):
    """Maps of drawings and of many words; one word is markup."""
    folder = tmp_path_factory.mktemp("maps")
    images = draw(torch.arange(81) % len(MOTIFS), (64, 64), torch.Generator().manual_seed(0))
    for i, image in enumerate(images):
        file = folder / "photos" / f"{MOTIFS[i % len(MOTIFS)]}-{i}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray((image.permute(1, 2, 0) * 255).round().byte().numpy()).save(file)
    fv.embeddings(motifnet, photographs=folder / "photos").map(folder / "photos.html", method="pca")
    numbers = np.random.default_rng(0)
    names = ["<script>document.title = 'gone'</script>", "needle", *(f"word{i}" for i in range(2, WORDS))]
    vectors = numbers.normal(size=(30, 20))[numbers.integers(0, 30, WORDS)] + numbers.normal(size=(WORDS, 20)) / 2
    fv.embeddings((names, vectors)).map(folder / "words.html", method="pca")
    return folder


@pytest.fixture(params=[(1440, 900, "light"), (390, 844, "dark")], ids=["desk", "phone"])
def opened(browser, maps, request):
    """Opens a map."""
    width, height, scheme = request.param
    with watched_page(browser, width=width, height=height, color_scheme=scheme, has_touch=True) as page:

        def show(name):
            page.goto((maps / f"{name}.html").as_uri())
            page.wait_for_timeout(300)
            return page

        yield show
        assert page.evaluate(FINDINGS) == []


def colours(page):
    """Return the number of colours in the map."""
    data = page.evaluate("canvas.toDataURL()").partition(",")[2]
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        pixels = np.asarray(image.convert("RGBA")).reshape(-1, 4)
    return len(np.unique(pixels[::7], axis=0))


@pytest.mark.parametrize("name", ["photos", "words"])
def test_a_click_lists_the_nearest_neighbours(opened, name):
    page = opened(name)
    assert colours(page) > 30
    x, y = page.evaluate("(() => { const i = central(); return [across(i), down(i)]; })()")
    page.locator("#map").click(position={"x": x, "y": y})
    selected = page.evaluate(SELECTED)
    assert selected >= 0 and page.locator("#near li").count() == 12
    assert page.locator("#name").text_content() == page.evaluate("data.names[view.selected]")
    assert page.locator("#large").is_visible() == (name == "photos")
    second = page.locator("#near button").nth(1)
    shown = second.locator("span").first.text_content()
    second.click()
    assert page.locator("#name").text_content() == shown and page.evaluate(SELECTED) != selected


def test_search_highlights_and_enter_selects(opened):
    page = opened("words")
    assert page.title() == "Map of given vectors"
    search = page.get_by_label("Find a name")
    search.fill("NEEDLE")
    assert page.evaluate("[...view.matches]") == [1]
    assert page.locator("#status").text_content() == "1 name contains this text; Enter selects the next."
    search.press("Enter")
    assert page.locator("#name").text_content() == "needle"
    search.fill("<script")
    search.press("Enter")
    assert page.locator("#name").text_content().startswith("<script>document") and page.title() != "gone"
    search.fill("nothing of this name")
    assert page.locator("#status").text_content() == "0 names contain this text."
    search.fill("")
    assert "Made with featviz" in page.locator("#status").text_content()


def test_zoom_by_buttons_wheel_and_keys_shows_more_labels(opened):
    page = opened("words")
    page.locator("#map").scroll_into_view_if_needed()
    start = page.evaluate("view.scale")
    first = set(page.evaluate("view.labelled"))
    assert 20 < len(first) <= 400
    page.get_by_label("Zoom in").click(click_count=5)
    page.wait_for_timeout(100)
    assert page.evaluate("view.scale") == pytest.approx(start * 1.6**5)
    zoomed = set(page.evaluate("view.labelled"))
    assert len(zoomed - first) > 20 and max(zoomed) > max(first)  # rarer words have labels where there is room
    page.get_by_text("Show all").click()
    page.mouse.move(*page.evaluate(MIDDLE))
    page.mouse.wheel(0, -400)
    page.wait_for_timeout(100)
    assert page.evaluate("view.scale") > start * 2
    x, y = page.evaluate(MIDDLE)
    before = page.evaluate("view.x")
    page.mouse.down()
    page.mouse.move(x + 40, y + 10)
    page.mouse.up()
    assert page.evaluate("view.x") == pytest.approx(before + 40, abs=2) and page.evaluate(SELECTED) == -1
    page.locator("#map").focus()
    page.keyboard.press("0")
    assert page.evaluate("view.scale") == start
    page.keyboard.press("+")
    assert page.evaluate("view.scale") == pytest.approx(start * 1.5)
    visited = set()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp"):
        page.keyboard.press(key)
        visited.add(page.evaluate(SELECTED))
    assert len(visited) >= 3 and -1 not in visited


def test_touch_moves_and_pinches(opened):
    page = opened("photos")
    send = "(kind, id, x, y) => canvas.dispatchEvent(new PointerEvent(kind, {pointerId: id, pointerType: 'touch', clientX: canvas.getBoundingClientRect().x + x, clientY: canvas.getBoundingClientRect().y + y}))"
    page.evaluate("canvas.setPointerCapture = () => {}")  # the events are made here, and have no pointer
    start = page.evaluate("view.scale")
    touch = f"const send = {send};"
    page.evaluate(
        f"(() => {{ {touch} send('pointerdown', 1, 100, 100); send('pointerdown', 2, 200, 100);"
        "send('pointermove', 2, 300, 100); send('pointerup', 1, 100, 100); send('pointerup', 2, 300, 100); })()"
    )
    assert page.evaluate("view.scale") == pytest.approx(2 * start) and page.evaluate("pointers.size") == 0


def test_drawing_many_words_is_fast_and_themes_redraw(opened):
    page = opened("words")
    took = "(() => { const start = performance.now(); for (let i = 0; i < 5; i++) draw(); return (performance.now() - start) / 5; })()"
    assert page.evaluate(took) < 200  # ms on a busy machine; 14 measured
    before = page.evaluate("canvas.toDataURL()")
    page.get_by_label("Switch between light and dark").click()
    page.wait_for_timeout(150)
    assert page.evaluate("canvas.toDataURL()") != before
