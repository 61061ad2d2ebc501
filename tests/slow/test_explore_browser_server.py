"""The explorer's page: a lost server, memory after many clicks, and hostile names of layers and classes."""

import gc
import threading
import time

import httpx
import pytest
import toys
from explore_pages import QUICK, Process, desk_of, drawn, serve, settled, until
from torch import nn

pytestmark = pytest.mark.slow
WILD = "<img src=x onerror=document&period;title='gone'>"
WILD_CLASSES = ("<script>document.title = 'gone'</script>", '"><b>x</b>', 'it\'s, a \\ "name"', "שלום", "🙂", "{{7*7}}")
LOST = (
    ".*(ERR_CONNECTION_(REFUSED|RESET|CLOSED)|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_CONTENT_LENGTH_MISMATCH|"
    "ERR_EMPTY_RESPONSE|ERR_SOCKET|status of 409)"
)
"""Messages of a page whose server is stopped, or does not know the page's event stream any more."""


@pytest.fixture
def process(tmp_path):
    process = Process(tmp_path / "store")
    process.start()
    yield process
    process.kill()


def test_the_page_reports_a_lost_server_and_reconnects(browser, process):
    with desk_of(browser, process.url, expected=LOST) as desk:
        page = desk.open("steps=200&size=64&layer=stage3")
        drawn(page, 2)
        page.get_by_label("Channel", exact=True).focus()
        there = page.locator(".tile img[src]").count()
        process.kill()
        until(page.locator("#gone").is_visible)
        assert page.locator("#gone-text").inner_text().startswith("The server cannot be reached.")
        assert page.locator(".tile img[src]").count() >= there  # what is drawn stays
        page.locator(".tile img[src]").first.click()
        until(page.locator("#card").is_visible)
        assert page.locator("#card-gone").inner_text() == page.locator("#gone-text").inner_text()
        page.keyboard.press("Escape")
        process.start()
        until(lambda: not page.locator("#gone").is_visible())
        until(lambda: page.locator(".tile img[src]").count() > there + 2, 60)


def test_what_is_kept_while_the_server_is_away_is_not_lost(browser, process):
    with desk_of(browser, process.url, expected=LOST) as desk:
        page = desk.open(f"{QUICK}&view=objective&objective=logit:star")
        until(lambda: page.locator("#objective-plate .plate").get_attribute("data-state") == "done", 60)
        process.kill()
        until(page.locator("#gone").is_visible)
        page.locator("#objective-actions .star").click()
        assert page.locator("#board-count").inner_text() == "1"
        process.start()
        until(lambda: not page.locator("#gone").is_visible())
        until(lambda: len(httpx.get(f"{process.url}api/board", timeout=60).json()["items"]) == 1)
        page = desk.open("view=board")
        until(lambda: page.locator("#kept li").count() == 1)


def test_a_server_at_another_address_is_told(browser, process, tmp_path):
    with desk_of(browser, process.url, expected=f"{LOST}|.*status of 404") as desk:
        page = desk.open(QUICK)
        drawn(page)
        page.route("**/*", lambda route: route.fulfill(status=404, body="nothing here"))
        process.kill()
        until(lambda: "another address" in page.locator("#gone-text").inner_text())


@pytest.mark.long
def test_200_clicks_leave_memory_and_threads_as_they_were(browser, motifnet, tmp_path):
    with serve(motifnet, tmp_path / "store") as explorer, desk_of(browser, explorer.url) as desk:
        page = desk.open("steps=2&size=16&layer=stage2")
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable")

        def measure():
            settled(page)
            session.send("HeapProfiler.collectGarbage")
            found = {entry["name"]: entry["value"] for entry in session.send("Performance.getMetrics")["metrics"]}
            gc.collect()
            return {
                name: found[name] for name in ("Nodes", "JSHeapUsedSize", "JSEventListeners")
            }, threading.active_count()

        def clicks(count):
            for i in range(count):
                layer = ("stage1", "stage2", "stage3")[i % 3]
                page.locator(f"#tree > [aria-label^={layer}] > .row").click()
                page.locator(".tile").nth(i % 20).click()
                page.keyboard.press("ArrowRight")
                page.keyboard.press("Escape")

        clicks(25)  # fills the caches
        before, threads = measure()
        clicks(50)  # of four actions each
        after, threads_after = measure()
        assert after["Nodes"] <= 1.1 * before["Nodes"] + 200
        assert after["JSEventListeners"] <= 1.1 * before["JSEventListeners"] + 50
        assert after["JSHeapUsedSize"] <= 1.25 * before["JSHeapUsedSize"] + 1e6
        assert threads_after <= threads


def test_a_layer_with_2048_channels_has_a_bounded_document(browser, tmp_path):
    network = toys.network(
        nn.Sequential(nn.Conv2d(3, 2048, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, 3))
    )
    with serve(network, tmp_path / "store") as explorer, desk_of(browser, explorer.url) as desk:
        page = desk.open("steps=1&size=16&layer=0")
        most = 0
        for share in (0, 0.3, 0.6, 1, 0):
            page.evaluate(f"scrollTo(0, {share} * document.body.scrollHeight)")
            until(lambda: page.locator(".tile img[src]").count() > 4)
            most = max(most, page.locator(".tile").count())
        assert most < 250
        page.get_by_label("Channel", exact=True).fill("2047")
        page.keyboard.press("Enter")
        until(lambda: page.evaluate("document.activeElement.dataset.channel") == "2047")
        assert page.locator(".tile[data-channel='2047']").get_attribute("tabindex") == "0"


def test_names_are_shown_as_text(browser, tmp_path):
    module = nn.Sequential()
    for name, layer in (
        (WILD, nn.Conv2d(3, 4, 3)),
        ("flat", nn.Flatten()),
        ('a "quoted" name', nn.Linear(4 * 30 * 30, len(WILD_CLASSES))),
    ):
        module.add_module(name, layer)
    network = toys.network(module, classes=WILD_CLASSES)
    with serve(network, tmp_path / "store") as explorer, desk_of(browser, explorer.url) as desk:
        page = desk.open(QUICK)
        assert page.locator("#layer-title").inner_text() == WILD
        assert page.locator("#tree .part").all_inner_texts()[0] == WILD
        drawn(page, 4)
        page.locator(".tile").first.click()
        assert page.locator("#card-title").inner_text().startswith('"<img src=x')
        until(lambda: page.locator("#card .plate").get_attribute("data-state") == "done", 60)
        page.keyboard.press("Escape")
        page.locator("#tree [role=treeitem]", has_text="logit").locator(".row").click()
        until(lambda: page.locator(".tile .label").all_inner_texts() == list(WILD_CLASSES))
        drawn(page, 6)
        page.locator(".tile").first.click()
        assert page.locator("#card-title").inner_text() == WILD_CLASSES[0]
        page.keyboard.press("Escape")
        page.get_by_label("Objective", exact=True).first.fill("<b>x")
        page.keyboard.press("Enter")
        until(page.locator("#objective-error").is_visible)
        page.get_by_label("Objective", exact=True).first.fill("logit:")
        until(lambda: page.locator("#objective-list li").count() >= 3)
        assert any("<script>" in text for text in page.locator("#objective-list .text").all_inner_texts())
        assert (
            page.title() != "gone" and page.locator("main b b, #tree b, #tree img, .label b, main script").count() == 0
        )


def test_work_ends_with_the_page(browser, motifnet, tmp_path):
    with serve(motifnet, tmp_path / "store") as explorer:
        with desk_of(browser, explorer.url) as desk:
            page = desk.open("steps=2000&size=128&layer=stage3")
            until(lambda: page.locator("#status").get_attribute("data-on") == "true")
            page.wait_for_timeout(1000)
        until(lambda: explorer._services.worker.count == 0)  # a step in progress ends
        before = time.process_time()
        time.sleep(3)
        assert time.process_time() - before < 1.0  # seconds of work; a running optimization takes all of them
