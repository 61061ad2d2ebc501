"""Circuits in a real browser, opened from the disk: the walk, the keyboard, and light and dark."""

import pytest
import toys
from watched_pages import watched_page

import featviz as fv

pytestmark = pytest.mark.slow
WILD = "<script>document.title = 'gone'</script>", "b", "c", "d", "e"

ENDED = """image => image.complete || new Promise(
  end => ["load", "error"].forEach(kind => image.addEventListener(kind, end)))"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("circuit")
    fv.circuit(toys.plain(classes=WILD), 0, folder, depth=2, inputs=2, groups=2, steps=2, size=16, progress=None)
    return folder


@pytest.fixture
def page(browser, folder):
    """The first page."""
    with watched_page(browser, width=900, height=800) as page:
        page.goto((folder / "index.html").as_uri())
        yield page


def test_markup_in_names_is_shown_as_text(page):
    assert page.title() == f"Circuit of {WILD[0]}" and page.locator("h1").inner_text() == page.title()


def test_a_walk_by_keyboard(page):
    """Enter on the name of an input opens its page, which links back."""
    link = page.locator("section a.name").first
    name, file = link.inner_text(), link.get_attribute("href")
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == name:
            break
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/{file}")
    assert page.locator("h1").inner_text() == f"Circuit of {name}"
    page.locator("dd a", has_text=WILD[0]).click()
    assert page.locator("h1").inner_text() == f"Circuit of {WILD[0]}"


def test_every_image_has_a_text_and_loads(page):
    page.evaluate("document.querySelectorAll('img').forEach(image => image.loading = 'eager')")
    page.evaluate(f"Promise.all([...document.images].map({ENDED}))")
    found = page.evaluate("[...document.images].map(image => [image.alt, image.naturalWidth])")
    assert len(found) > 6 and all(text and width for text, width in found)


def test_light_and_dark(page):
    def colour():
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    before = colour()
    page.get_by_role("button", name="Switch between light and dark").click()
    assert colour() != before
