"""The explorer in a real browser: browse, type, drop, cancel, keep, and copy; by mouse, by keyboard and on a phone."""

import io
import json
import re
import zipfile

import httpx
import pytest
from explore_pages import CHANGED, QUICK, desk_of, drawn, photograph, serve, settled, until

pytestmark = pytest.mark.slow
SEEN = "document.documentElement.scrollWidth <= innerWidth"
CUT = """() => [...(document.querySelector("dialog[open]") || document.querySelector("main")).querySelectorAll("*")]
  .filter(node => node.checkVisibility({visibilityProperty: true}) && !node.closest(".away, svg, .photograph"))
  .filter(node => { const box = node.getBoundingClientRect();
    return box.width > 1 && (box.right > document.documentElement.clientWidth + 1 || box.left < -1); })
  .map(node => node.outerHTML.slice(0, 120))"""


@pytest.fixture(scope="module")
def explorer(tmp_path_factory, motifnet):
    with serve(motifnet, tmp_path_factory.mktemp("store")) as running:
        yield running


@pytest.fixture
def desk(browser, explorer):
    with desk_of(browser, explorer.url) as page:
        yield page


@pytest.fixture
def shared_desk(browser, explorer):
    """The desk of a page whose board another page may have changed."""
    with desk_of(browser, explorer.url, expected=CHANGED) as page:
        yield page


def heading(page):
    return page.locator("main h1:visible").inner_text()


def focused(page, what="id"):
    return page.evaluate(f"document.activeElement.getAttribute({json.dumps(what)})")


def where(page):
    """Return the address; playwright's `page.url` is only brought up to date by further calls."""
    return page.evaluate("location.href")


def bring(page, text, **options):
    page.get_by_role("button", name=text, **options).click()


def test_browse_layers_and_open_a_unit(desk):
    page = desk.open()
    assert page.title() == "motifnet · featviz" and heading(page) == "stage2"
    drawn(page, 8)
    page.locator("#tree [role=treeitem]", has_text="stage3").locator(".row").first.click()
    assert heading(page) == "stage3" and "128 channels" in page.locator("#layer-about").inner_text()
    page.get_by_role("button", name="Previous layer").click()
    assert heading(page) != "stage3"
    page.go_back()
    until(lambda: heading(page) == "stage3")
    drawn(page, 4)
    page.locator(".tile[data-channel='2']").click()
    card = page.locator("#card")
    assert card.get_by_role("heading", level=2).inner_text() == "stage3:2"
    until(lambda: card.locator("#variants li").count() == 6)
    assert card.locator("#variants li").all_inner_texts() == [
        "Positive",
        "Negative",
        *(f"Variant {i}" for i in range(1, 5)),
    ]
    until(lambda: card.locator(".plate").get_attribute("data-state") == "done")
    until(lambda: card.locator("#variants img[src]").count() == 6)
    large = card.locator(".plate img")
    first = large.get_attribute("src")
    assert re.fullmatch(r"\./images/\w+\.png", first) and large.get_attribute("alt") == "stage3:2"
    card.get_by_role("button", name="Negative").click()
    until(lambda: large.get_attribute("alt") == "stage3:2, negative" and large.get_attribute("src") != first)
    page.keyboard.press("ArrowRight")
    assert card.get_by_role("heading", level=2).inner_text() == "stage3:3"
    page.go_back()
    until(lambda: not card.is_visible())


def test_connected_units_are_links(desk):
    page = desk.open(f"{QUICK}&layer=stage2.1.conv2&channel=3")
    card = page.locator("#card")
    until(lambda: card.locator("#inputs button, #outputs button").count() > 0)
    link = card.locator("#inputs button, #outputs button").first
    name = link.get_attribute("aria-label").split(",")[0]
    until(lambda: link.locator("img[src]").count() == 1)
    link.click()
    assert card.get_by_role("heading", level=2).inner_text() == name


def test_tiles_are_drawn_as_they_scroll_into_view(desk):
    page = desk.open("steps=4&size=32&layer=stage3")
    drawn(page, 8)
    assert page.locator(".tile").count() < 128
    last = page.locator(".tile[data-channel='127']")
    assert last.count() == 0
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    until(lambda: last.count() == 1 and page.locator(".tile[data-channel='126'] img[src]").count() == 1)
    assert page.locator(".tile[data-channel='0']").count() == 0
    page.evaluate("scrollTo(0, 0)")
    until(lambda: page.locator(".tile[data-channel='0'] img[src]").count() == 1)
    page.get_by_label("Channel", exact=True).fill("100")
    page.keyboard.press("Enter")
    until(lambda: focused(page, "data-channel") == "100")


def test_a_draft_becomes_sharper(desk):
    page = desk.open("steps=80&size=32&layer=stage1")
    states = set()
    tile = page.locator(".tile[data-channel='0']")
    until(lambda: states.add(tile.get_attribute("data-state")) or "sharp" in states, 120)
    assert "draft" in states
    page.reload()  # now it is in the store
    until(lambda: tile.get_attribute("data-state") == "sharp")


def test_settings_change_all_pictures(desk):
    page = desk.open(f"{QUICK}&layer=stage1")
    drawn(page)
    source = page.locator(".tile img").first.get_attribute("src")
    bring(page, "Next seed")
    assert "seed=1" in where(page)
    until(lambda: page.locator(".tile img").first.get_attribute("src") not in (None, source))
    page.get_by_label("Parameterization").select_option("pixel")
    page.get_by_label("Transforms").select_option("none")
    assert "param=pixel" in where(page) and "transforms=none" in where(page)
    page.get_by_role("slider", name="Steps").focus()
    page.keyboard.press("ArrowRight")
    assert "steps=24" in where(page) and page.locator("#steps-value").inner_text() == "24"
    drawn(page)
    bring(page, "Reset")
    assert not re.search("seed|size|steps|param|transforms", where(page))


def test_filter_layers(desk):
    page = desk.open()
    page.get_by_label("Filter layers").fill("stage2 relu2")
    shown = [item for item in page.locator("#tree [role=treeitem]").all() if item.is_visible()]
    assert [item.get_attribute("aria-label").split(",")[0] for item in shown] == ["stage2", "1", "relu2", "2", "relu2"]
    page.get_by_label("Filter layers").fill("no such layer")
    assert page.locator("#unmatched").is_visible()


def test_type_an_objective_with_completion(desk):
    page = desk.open()
    box = page.get_by_label("Objective", exact=True).first
    box.click()
    box.fill("logit:sta")
    options = page.locator("#objective-list [role=option]")
    until(lambda: "star" in options.locator(".text").all_inner_texts())
    assert box.get_attribute("aria-expanded") == "true"
    place = options.locator(".text").all_inner_texts().index("star")
    for _ in range(place + 1):
        page.keyboard.press("ArrowDown")
    assert page.locator(f"#{box.get_attribute('aria-activedescendant')}").inner_text().startswith("star")
    page.keyboard.press("Enter")
    assert box.input_value() == "logit:star" and box.get_attribute("aria-expanded") == "false"
    page.keyboard.press("Enter")
    until(lambda: heading(page) == "logit:star")
    plate = page.locator("#objective-plate .plate")
    until(lambda: plate.get_attribute("data-state") == "done")
    assert page.locator("#objective-actions dd").count() >= 1
    until(lambda: page.locator("#seeds img[src]").count() == 4)
    page.locator("#seeds button").first.click()
    assert "seed=1" in where(page)


def test_an_image_is_seen_forming(desk):
    page = desk.open("steps=600&size=64&view=objective&objective=logit:moon")
    image = page.locator("#objective-plate img")
    seen = set()

    def watch():
        seen.add(image.get_attribute("src") or "")
        return len([each for each in seen if each.startswith("data:image/jpeg")]) >= 2

    until(watch, 60)
    assert re.fullmatch(r"Step \d+ of 600", page.locator("#objective-plate .plate-note").inner_text())
    page.locator("#objective-plate").get_by_role("button", name="Stop").click()
    assert page.locator("#objective-plate .plate-note").inner_text() == "Stopped"
    page.locator("#objective-plate").get_by_role("button", name="Continue").click()
    until(lambda: page.locator("#objective-plate .plate").get_attribute("data-state") in ("waiting", "running"))


def test_an_error_stands_under_the_caret(desk):
    page = desk.open()
    box = page.get_by_label("Objective", exact=True).first
    box.fill("stage2:3 + ) 4")
    error = page.locator("#objective-error")
    until(error.is_visible)
    assert box.get_attribute("aria-invalid") == "true" and len(error.inner_text()) > 5
    mark, field = error.locator(".caret").bounding_box(), box.bounding_box()
    position = int(page.evaluate("document.querySelector('#objective-error .caret').style.getPropertyValue('--at')"))
    assert 9 <= position <= 12
    width = page.evaluate("""() => {
      const pen = document.createElement("canvas").getContext("2d");
      pen.font = getComputedStyle(document.getElementById("objective")).font;
      return pen.measureText("0").width;
    }""")
    middle, wanted = mark["x"] + mark["width"] / 2, field["x"] + 15 + (position + 0.5) * width
    assert abs(middle - wanted) < width
    page.keyboard.press("Enter")
    page.wait_for_timeout(300)
    assert heading(page) == "stage2"  # nothing is drawn
    box.fill("stage2:9999")
    page.keyboard.press("Enter")
    until(lambda: error.is_visible() and "9999" in error.inner_text())
    box.fill("")
    assert not error.is_visible()


def drop(page, file):
    """Drop a file on the page, as the browser does it."""
    data = page.evaluate_handle(
        """bytes => { const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], "x.png", {type: "image/png"})); return data; }""",
        list(file.read_bytes()),
    )
    page.dispatch_event("body", "dragenter", {"dataTransfer": data})
    assert page.locator("#dropping").is_visible()
    page.dispatch_event("body", "drop", {"dataTransfer": data})
    assert not page.locator("#dropping").is_visible()


def test_drop_a_photograph_to_dream_explain_and_take_apart(desk, tmp_path):
    page = desk.open()
    drop(page, photograph(tmp_path))
    until(lambda: page.locator("#predictions li").count() > 1)
    assert heading(page) == "Photograph" and page.locator("#photograph-size").inner_text().startswith("128 ")
    state = page.locator("#photograph-plate .plate")
    page.locator("#octaves").focus()
    page.keyboard.press("Home")
    page.locator("#form-dream").get_by_role("button", name="Dream").click()
    until(lambda: state.get_attribute("data-state") == "done", 120)
    dream = state.locator("img").get_attribute("src")
    page.get_by_role("tab", name="Explain").click()
    assert page.locator("#explain-objective").input_value().startswith("logit:")
    page.locator("#method").select_option("gradient")
    page.locator("#form-explain").get_by_role("button", name="Explain").click()
    until(
        lambda: state.get_attribute("data-state") == "done" and state.locator("img").get_attribute("src") != dream, 60
    )
    assert not page.locator("#photograph-actions .actions").is_visible()
    page.get_by_role("tab", name="Building blocks").click()
    page.locator("#apart").select_option("stage3")
    page.locator("#form-blocks").get_by_role("button", name="Decompose").click()
    link = page.get_by_role("link", name="Open its page")
    until(link.is_visible, 300)
    with page.context.expect_page() as opened:
        link.click()
    opened.value.wait_for_load_state()
    assert opened.value.locator("img").count() > 0
    page.reload()
    until(lambda: page.locator("#predictions li").count() > 1)


def test_a_file_that_is_no_image_is_refused(desk, tmp_path):
    page = desk.open(f"{QUICK}&view=photograph")
    file = tmp_path / "notes.png"
    file.write_text("no image")
    page.locator("#file").set_input_files(file)
    until(lambda: page.locator("#photograph-note.wrong").is_visible())
    assert page.locator("#drop").is_visible() and len(page.locator("#photograph-note").inner_text()) > 5


def test_stop_and_go_on(desk):
    page = desk.open("steps=1500&size=64&layer=stage3")
    until(lambda: page.locator("#status").get_attribute("data-on") == "true")
    page.get_by_role("button", name="Stop", exact=True).click()
    until(lambda: page.locator("#stop").inner_text() == "Continue")
    page.wait_for_timeout(500)
    assert "stopped" in page.locator("#status-text").inner_text()
    assert page.locator(".tile[data-state=stopped]").count() > 0

    def images_in_a_second():
        before = page.locator(".tile img[src]").count()
        page.wait_for_timeout(1000)
        return page.locator(".tile img[src]").count() - before

    until(lambda: images_in_a_second() == 0, 10)  # one may have been finished just before
    count = page.locator(".tile img[src]").count()
    page.locator("#stop").click()
    until(lambda: page.locator(".tile img[src]").count() > count, 60)


def test_reload_and_back_restore_the_view(desk):
    page = desk.open(f"{QUICK}&layer=stage1&seed=3")
    page.locator(".tile[data-channel='5']").click()
    assert "channel=5" in where(page)
    page.reload()
    until(page.locator("#card").is_visible)
    assert page.locator("#card-title").inner_text() == "stage1:5" and page.locator("#seed-value").inner_text() == "3"
    page.keyboard.press("Escape")
    until(lambda: "channel" not in where(page))
    page.locator("#to-board").click()
    page.reload()
    until(lambda: heading(page) == "Board")
    page.go_back()
    until(lambda: heading(page) == "stage1")
    page = desk.open("layer=no.such&channel=-1&seed=1e9&steps=x&param=<b>&view=nowhere")
    assert heading(page) == "stage2" and not page.locator("#card").is_visible()


def two_tabs(desk, *channels):
    """Open a tab for each of two channels, and wait for their images."""
    first = desk.open(f"{QUICK}&layer=stage1&channel={channels[0]}")
    second = first.context.new_page()
    second.goto(f"{desk.url}#{QUICK}&layer=stage1&channel={channels[1]}")
    for page in (first, second):
        page.bring_to_front()
        until(lambda page=page: page.locator("#card .plate").get_attribute("data-state") == "done", 60)
    return first, second


def test_two_tabs(shared_desk):
    tabs = two_tabs(shared_desk, 1, 2)
    before = len(httpx.get(f"{shared_desk.url}api/board", timeout=60).json()["items"])

    def counts():
        return {int(page.locator("#board-count").inner_text() or 0) for page in tabs}

    def set_stars(text):
        for page in tabs:
            page.bring_to_front()
            star = page.locator("#card .star")
            star.click()
            until(lambda star=star: star.inner_text() == text)

    until(lambda: counts() == {before})
    set_stars("Kept")
    until(lambda: counts() == {before + 2})
    set_stars("Keep")
    until(lambda: counts() == {before})
    tabs[1].close()


def test_tabs_that_change_the_board_at_once_lose_nothing(shared_desk):
    first, second = two_tabs(shared_desk, 3, 4)
    held = []

    def hold_the_first_change(route):
        if route.request.method == "POST" and not held:
            held.append(route)
        else:
            route.continue_()

    first.route("**/api/board", hold_the_first_change)
    first.locator("#card .star").click()
    until(lambda: held or first.wait_for_timeout(50))
    second.locator("#card .star").click()
    until(lambda: second.locator("#card .star").inner_text() == "Kept")
    held[0].continue_()
    names = ("stage1:3", "stage1:4")
    first.goto(f"{shared_desk.url}#{QUICK}&view=board")
    for name in names:
        until(lambda name=name: first.locator("#kept li", has_text=name).count() == 1)
    for name in names:
        first.locator("#kept li", has_text=name).get_by_label("Remove from the board").click()
    second.close()


def test_board_notes_and_export(desk):
    page = desk.open(f"{QUICK}&view=objective&objective=logit:leaf")
    until(lambda: page.locator("#objective-plate .plate").get_attribute("data-state") == "done", 60)
    page.locator("#objective-actions .star").click()
    assert page.locator("#objective-actions .star").get_attribute("aria-pressed") == "true"
    page.locator("#to-board").click()
    item = page.locator("#kept li", has_text="logit:leaf")
    until(lambda: item.count() == 1)
    item.get_by_label("Note").fill("a leaf <b>bold</b>")
    with page.expect_response(lambda answer: answer.url.endswith("/api/board") and answer.request.method == "POST"):
        item.get_by_label("Note").blur()
    page.reload()
    until(lambda: item.count() == 1 and item.get_by_label("Note").input_value() == "a leaf <b>bold</b>")
    with page.expect_download() as download:
        bring(page, "Export as a gallery")
    archive = zipfile.ZipFile(io.BytesIO(download.value.path().read_bytes()))
    names = archive.namelist()
    pages = [name for name in names if name.endswith(".html")]
    assert pages and any(name.endswith(".png") for name in names)
    assert "a leaf" in "".join(archive.read(name).decode() for name in pages)
    item.get_by_role("button", name="Remove from the board").click()
    until(lambda: item.count() == 0)


def test_copy_buttons(browser, explorer):
    with desk_of(browser, explorer.url, permissions=["clipboard-read", "clipboard-write"]) as desk:
        page = desk.open(f"{QUICK}&view=objective&objective=stage2:7")
        actions = page.locator("#objective-actions")
        until(lambda: page.locator("#objective-plate .plate").get_attribute("data-state") == "done", 60)
        copied = {}
        for name in ("Python", "command", "recipe"):
            button = actions.locator(f"[data-copy={name.lower()}]")
            button.click()
            until(lambda button=button: button.inner_text() == "Copied")
            copied[name] = page.evaluate("navigator.clipboard.readText()")
        assert "fv.render(" in copied["Python"] and "stage2:7" in copied["Python"]
        assert copied["command"].startswith("featviz render ") and "stage2:7" in copied["command"]
        assert "objectives" in json.loads(copied["recipe"])
        compile(copied["Python"], "copied", "exec")


def test_keyboard_alone_is_enough(desk):
    page = desk.open(f"{QUICK}&layer=stage1")
    drawn(page, 3)
    for _ in range(60):
        page.keyboard.press("Tab")
        if focused(page, "data-channel") is not None:
            break
    assert focused(page, "data-channel") == "0"
    outline = page.evaluate("getComputedStyle(document.activeElement.querySelector('.frame')).boxShadow")
    assert outline != "none"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    columns = int(page.locator("#tiles").get_attribute("aria-colcount"))
    assert focused(page, "data-channel") == str(columns + 2)
    page.keyboard.press("Home")
    assert focused(page, "data-channel") == str(columns)
    page.keyboard.press("Control+End")
    assert focused(page, "data-channel") == "31"
    page.keyboard.press("Enter")
    until(page.locator("#card").is_visible)
    assert focused(page) == "card-title"
    page.keyboard.press("ArrowLeft")
    assert page.locator("#card-title").inner_text() == "stage1:30"
    page.keyboard.press("Escape")
    until(lambda: focused(page, "data-channel") == "30")
    page.keyboard.press("/")
    assert focused(page) == "objective"
    page.keyboard.type("logit:eye")
    page.keyboard.press("Enter")
    until(lambda: heading(page) == "logit:eye")
    page.keyboard.press("b")
    until(lambda: heading(page) == "Board")
    page.keyboard.press("b")
    until(lambda: heading(page) == "stage1")
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#help").is_visible()


def test_images_that_arrive_when_their_layer_was_left(desk):
    held = []
    desk.page.route("**/images/*.png", lambda route: held.append(route))
    page = desk.open(f"{QUICK}&layer=stage2")
    until(lambda: page.title() and held)
    page.keyboard.press("b")
    until(lambda: heading(page) == "Board")
    for route in held:
        route.continue_()
    page.unroute("**/images/*.png")
    page.wait_for_timeout(300)


def test_the_tree_is_moved_through_by_keyboard(desk):
    page = desk.open(f"{QUICK}&layer=stem")

    def label():
        return (focused(page, "aria-label") or "").split(",")[0]

    page.locator("#tree [tabindex='0']").focus()
    assert label() == "stem"
    page.keyboard.press("ArrowDown")
    assert label() == "stage1"
    page.keyboard.press("ArrowLeft")  # close
    page.keyboard.press("ArrowRight")  # open
    page.keyboard.press("ArrowRight")  # into it
    assert label() != "stage1" and focused(page, "aria-level") == "2"
    page.keyboard.press("ArrowLeft")
    assert label() == "stage1"
    page.keyboard.press("Enter")
    assert heading(page) == "stage1"
    page.keyboard.press("End")
    assert label() == "logit"
    page.keyboard.press(" ")
    assert heading(page) == "Classes"
    until(lambda: page.locator(".tile .label").first.inner_text() == "stripes")


def test_progress_is_announced(desk):
    page = desk.open(f"{QUICK}&view=objective&objective=logit:heart&seed=5")
    announcer = page.locator("#announcer")
    assert announcer.get_attribute("aria-live") == "polite"
    until(lambda: "rendered" in announcer.inner_text(), 60)


def test_phone(browser, explorer, tmp_path):
    with desk_of(browser, explorer.url, width=390, height=844, has_touch=True) as phone:
        page = phone.open()
        drawn(page, 3)
        assert page.evaluate(SEEN)
        assert page.locator("#tiles").get_attribute("aria-colcount") == "3"
        assert not page.locator("#tree").is_visible()
        bring(page, "Layers and settings")
        until(page.locator("#tree").is_visible)
        page.locator("#tree [role=treeitem]", has_text="stage1").locator(".row").first.click()
        until(lambda: not page.locator("#tree").is_visible())
        assert heading(page) == "stage1"
        bring(page, "Layers and settings")
        page.keyboard.press("Escape")
        until(lambda: not page.locator("#tree").is_visible())
        assert focused(page) == "menu"
        page.locator(".tile[data-channel='1']").click()
        until(page.locator("#card").is_visible)
        assert page.evaluate("document.getElementById('card').scrollWidth <= innerWidth")
        page.get_by_role("button", name="Close", exact=True).click()
        for view in ("photograph", "board"):
            page.locator(f"#to-{view}").click()
            assert page.evaluate(SEEN)
        page.locator("#to-photograph").click()
        page.locator("#file").set_input_files(photograph(tmp_path))
        until(lambda: page.locator("#predictions li").count() > 1)
        assert page.evaluate(SEEN)
        page = phone.open(f"{QUICK}&view=objective&objective=logit:eye - 0.5*logit:moon + 0.25*logit:star")
        assert page.evaluate(SEEN)


@pytest.mark.parametrize("width", [390, 768, 1440])
def test_nothing_is_cut_off(browser, explorer, tmp_path, width):
    with desk_of(browser, explorer.url, width=width, height=800) as desk:
        for view in (
            "layer=stage1",
            "layer=stage2.1.conv2&channel=3",
            "view=objective&objective=logit:eye",
            "view=board",
        ):
            page = desk.open(f"{QUICK}&{view}")
            page.wait_for_timeout(500)
            assert page.evaluate(CUT) == []
        page.locator("#to-photograph").click()
        page.locator("#file").set_input_files(photograph(tmp_path))
        until(lambda: page.locator("#predictions li").count() > 1)
        for tab in page.get_by_role("tab").all():
            tab.click()
            assert page.evaluate(CUT) == []
        page.evaluate("document.querySelector('#photograph').style.marginLeft = '2000px'")
        assert page.evaluate(CUT)  # it is able to find something


def test_light_and_dark(browser, explorer):
    paper = "getComputedStyle(document.body).backgroundColor"
    with desk_of(browser, explorer.url, color_scheme="dark", reduced_motion="reduce") as dark:
        page = dark.open()
        assert page.evaluate(paper) == "rgb(21, 21, 23)"
        assert page.evaluate("getComputedStyle(document.querySelector('.pulse')).animationName") == "none"
        bring(page, "Switch between light and dark")
        assert page.evaluate(paper) == "rgb(251, 250, 248)"
        page.reload()
        page.wait_for_selector("body[data-ready]")
        assert page.evaluate(paper) == "rgb(251, 250, 248)"


def test_nothing_moves_while_tiles_are_drawn(desk):
    page = desk.page
    page.add_init_script(
        """window.moved = 0; new PerformanceObserver(list => { for (const entry of list.getEntries())
        if (!entry.hadRecentInput) moved += entry.value; }).observe({type: "layout-shift", buffered: true});"""
    )
    desk.open(f"{QUICK}&layer=stage1")
    drawn(page, 16)
    settled(page)
    assert page.evaluate("moved") < 0.02


def test_the_first_tile_is_there_soon(desk):
    page = desk.open("layer=stage2&seed=77")
    drawn(page)
    milliseconds = page.evaluate("performance.now()")
    assert milliseconds < 60_000  # about 2000 on an idle machine
