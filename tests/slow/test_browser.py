"""Galleries and sweeps in a real browser, opened from the disk."""

import pytest
import toys
from watched_pages import watched_page

import featviz as fv
from featviz.apps.gallery.page import Card, Page, card_image
from featviz.io import Store

pytestmark = pytest.mark.slow
WILD = "<script>document.title = 'gone'</script>", "bee", "cat 10", "cat 9", "jack-o'-lantern"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gallery")
    made = fv.gallery(toys.plain(classes=WILD), folder, steps=20, per_class=2)
    fv.sweep(toys.plain(classes=WILD), folder / "sweep", ["conv1", "conv2"], channels=[0, 1], steps=2)
    assert not made.problems
    return folder


@pytest.fixture(params=[(1200, 800), (360, 640)], ids=["desk", "phone"])
def page(browser, folder, request):
    """The gallery."""
    width, height = request.param
    with watched_page(browser, width=width, height=height) as page:
        page.goto((folder / "index.html").as_uri())
        yield page


def names(page):
    return [name.text_content() for name in page.locator("li:not([hidden]) b").all()]


def test_markup_in_names_is_shown_as_text(page):
    assert page.title() == "Classes"
    assert names(page) == list(WILD)


def test_search(page):
    page.get_by_label("Search by name or verdict").fill("CAT")
    assert names(page) == ["cat 10", "cat 9"]
    page.get_by_label("Search by name or verdict").fill("no such thing")
    assert names(page) == [] and page.get_by_role("status").is_visible()
    page.get_by_label("Search by name or verdict").fill("")
    assert len(names(page)) == 5


def test_sort(page):
    page.get_by_label("Sort").select_option("name")
    assert names(page)[1:] == ["bee", "cat 9", "cat 10", "jack-o'-lantern"]
    for key in ("score", "robustness"):
        page.get_by_label("Sort").select_option(key)
        values = [float(card.get_attribute(f"data-{key}")) for card in page.locator("li").all()]
        assert values == sorted(values, reverse=True)
    page.get_by_label("Sort").select_option("order")
    assert names(page) == list(WILD)


def test_dialog_by_mouse(page):
    box = page.locator("dialog")
    assert not box.is_visible()
    page.get_by_role("button", name="Open bee", exact=True).click()
    assert box.is_visible() and box.get_by_role("heading").inner_text() == "bee"
    assert 'fv.replay("images/' in box.inner_text()
    assert page.evaluate("document.getElementById('large').decode().then(() => large.naturalWidth)") == 32
    assert page.locator("#plot path").get_attribute("d").count("L") == 19
    box.get_by_text("Recipe").click()
    assert '"objectives"' in box.locator("pre").inner_text()
    box.get_by_role("button", name="Close").click()
    assert not box.is_visible()
    page.get_by_role("button", name="Open bee", exact=True).click()
    page.mouse.click(2, 2)
    assert not box.is_visible()


def test_dialog_by_keyboard(page):
    for _ in range(4):  # past search, sort and theme
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    heading = page.locator("dialog h2")
    assert heading.inner_text() == WILD[0]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert heading.inner_text() == "bee"
    page.keyboard.press("ArrowLeft")
    assert heading.inner_text() == WILD[0]
    page.keyboard.press("Escape")
    assert not page.locator("dialog").is_visible()
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == f"Open {WILD[0]}"


def test_light_and_dark(page):
    paper = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(paper)
    page.get_by_label("Switch between light and dark").click()
    assert page.evaluate(paper) != light
    page.get_by_label("Switch between light and dark").click()
    assert page.evaluate(paper) == light


def test_no_horizontal_scrolling(page):
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_images_and_buttons_have_accessible_names(page):
    for image in page.locator("img").all():
        assert image.get_attribute("alt") is not None
    for button in page.locator("button").all():
        assert button.get_attribute("aria-label") or button.text_content().strip()


def test_sweep_links_to_its_layers_and_back(page, folder):
    page.goto((folder / "sweep" / "index.html").as_uri())
    page.locator("li a").nth(1).click()
    assert page.get_by_role("heading", level=1).inner_text() == "conv2"
    page.get_by_text("all layers").click()
    assert page.get_by_role("heading", level=1).inner_text() == "Layers"


def test_a_thousand_classes_open_in_seconds(page, folder, tmp_path):
    """Half a second on an idle machine. The cards share one image, since only the page itself is timed."""
    image = card_image(Store(folder), next(iter(sorted(file.stem for file in (folder / "images").iterdir()))))
    cards = [Card(f"class {i}", [image]) for i in range(1000)]
    (folder / "many.html").write_text(Page("Many", "1000 classes", cards).html())
    page.goto((folder / "many.html").as_uri())
    page.wait_for_timeout(100)  # the load event ends after the page has loaded
    milliseconds = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    assert 0 < milliseconds < 10_000


def test_scripts_and_handlers_that_are_put_into_a_page_do_not_run(browser, folder):
    """The policy of a page allows only the scripts that it was made with, also if the escaping of a name failed."""
    put = "<script>ran = 1</script><img src=no.png onerror='ran = 2' alt=''><a id=b href='javascript:ran=3'>b</a>"
    html = (folder / "index.html").read_text()
    (folder / "injected.html").write_text(html.replace("<main>", f"<main>{put}"))
    (folder / "unprotected.html").write_text((folder / "injected.html").read_text().replace("http-equiv", "data-no"))
    page, refused = browser.new_page(), []
    page.on("console", lambda message: refused.append(message.text))
    page.goto((folder / "injected.html").as_uri())
    page.locator("#b").click()
    assert page.evaluate("window.ran") is None and names(page) == list(WILD)  # the page's own script does run
    assert len([text for text in refused if "Content Security Policy" in text]) == 3
    page.goto((folder / "unprotected.html").as_uri())
    assert page.evaluate("window.ran") is not None  # without the policy they would
    page.close()
