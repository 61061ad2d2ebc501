"""The documentation site: built without warnings, searched and read in a browser without any request."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from watched_pages import watched_page

import featviz as fv

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
WIDTHS = (1440, 390)
SHOWN = (
    "docs/index.html",
    "docs/guide/coming-from.html",
    "docs/reference/featviz/render.html",
    "docs/cli/render.html",
    "docs/performance.html",
    "docs/comparison.html",
    "notebooks/tutorial.html",
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site that `make site` has built, where `FEATVIZ_SITE` names it, or one with notebooks that are not run."""
    if "FEATVIZ_SITE" in os.environ:
        return ROOT / os.environ["FEATVIZ_SITE"]
    work = tmp_path_factory.mktemp("work")
    command = [sys.executable, ROOT / "docs" / "build_site.py", "--work", work, "--no-notebooks"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stdout + done.stderr
    return work / "site"


@pytest.fixture
def page(browser):
    with watched_page(browser) as page:
        yield page


class Page(HTMLParser):
    """Links and anchors of a page."""

    def __init__(self, path):
        super().__init__()
        self.links, self.anchors, self.loaded = [], set(), []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.anchors |= {given["id"]} if "id" in given else set()
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if tag in ("script", "img", "iframe") and given.get("src"):
            self.loaded.append(given["src"])
        if tag == "link" and given.get("rel") in ("stylesheet", "icon"):
            self.loaded.append(given["href"])


@pytest.fixture(scope="module")
def pages(site):
    return {path: Page(path) for path in site.rglob("*.html")}


def test_every_internal_link_resolves(site, pages):
    assert len(pages) > 250
    missing = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or link.startswith("//"):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            known = pages.get(target)
            if not target.is_file() or (parts.fragment and known and unquote(parts.fragment) not in known.anchors):
                missing.append((str(path.relative_to(site)), link))
    assert not missing, missing[:20]


def test_nothing_is_loaded_from_elsewhere(pages):
    for path, page in pages.items():
        for address in page.loaded:
            parts = urlsplit(address)
            assert parts.scheme in ("", "data") and not parts.netloc, (path, address[:200])


def test_no_page_names_a_folder_of_the_machine_that_built_it(site):
    for path in [*site.rglob("*.html"), site / "searchindex.js"]:
        text = path.read_text()
        assert str(ROOT) not in text and "/tmp/" not in text and "site-packages" not in text, path


def test_every_public_name_and_command_has_a_page(site, pages):
    from featviz.cli import app

    anchors = set().union(*(page.anchors for page in pages.values()))
    for name in fv.__all__:
        if name not in ("objectives", "param", "transforms", "optimizers", "methods"):
            assert f"featviz.{name}" in anchors
    for space in ("objectives", "param", "transforms", "optimizers", "methods"):
        for name in getattr(fv, space).__all__:
            if not any(getattr(fv, each) is getattr(getattr(fv, space), name) for each in fv.__all__):
                assert f"featviz.{space}.{name}" in anchors
    for command in app.registered_commands:
        name = command.callback.__name__.replace("_", "-")
        assert (site / "docs" / "cli" / f"{name}.html").is_file()


def test_search_works_from_disk_and_finds_fourier(site, page):
    page.goto((site / "docs" / "index.html").as_uri())
    page.locator("input[name=q]").first.fill("Fourier")
    page.locator("input[name=q]").first.press("Enter")
    page.wait_for_selector("#search-results li a")
    page.wait_for_function("/found \\d+ page/.test(document.querySelector('#search-results').innerText)")
    found = page.locator("#search-results li a").all_inner_texts()
    assert "featviz.param.Fourier" in found
    assert "Catalogue > Fourier" in found


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_send_no_request_and_fit_the_window(site, page, width, scheme):
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    for name in SHOWN:
        page.goto((site / name).as_uri())
        page.wait_for_load_state()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0] < 100")
        assert dark == (scheme == "dark")


def test_the_first_page_leads_to_the_landing_page(site, page):
    page.goto((site / "index.html").as_uri())
    page.wait_for_url("**/docs/index.html")
    assert page.locator("h1").inner_text().startswith("featviz")


def test_a_broken_link_fails_the_build(tmp_path):
    (tmp_path / "index.md").write_text("# Page\n\n[nowhere](nowhere.md)\n")
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", "-c", ROOT / "docs", "-D", "root_doc=index"]
    done = subprocess.run([*command, tmp_path, tmp_path / "site"], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert re.search(r"nowhere\.md", done.stderr)
