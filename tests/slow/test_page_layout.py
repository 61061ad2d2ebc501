"""Every kind of page at the widths of a phone, a tablet and a desk: nothing overflows, is distorted or is empty."""

import functools
import http.server
import threading

import pytest
import text_toys
import torch
from motifs.draw import draw
from PIL import Image
from watched_pages import watched_page

import featviz as fv
from featviz.apps.explain.attention_record import AttentionRecord
from featviz.network.bundled import MOTIFS

pytestmark = pytest.mark.slow
WIDTHS, HEIGHT = (390, 768, 1440), 800
PAGES = {
    "gallery": "gallery/index.html",
    "judged gallery": "judged/index.html",
    "sweep index": "sweep/index.html",
    "sweep layer": "sweep/layer-stage2.html",
    "sweep logits": "sweep/layer-logit.html",
    "atlas": "atlas/index.html",
    "blocks": "blocks/index.html",
    "blocks of one layer": "blocks1/index.html",
    "circuit": "circuit/index.html",
    "circuit of an input": "circuit/unit-stage2.1-5.html",
    "circuit with heads": "heads/index.html",
    "circuit of colours": "colours/index.html",
    "diff": "diff/index.html",
    "texture": "texture/index.html",
    "attention": "attention.html",
    "attention of a sequence": "sequence.html",
    "compared methods": "compared.html",
    "compared methods of a text": "text.html",
    "unit": "unit.html",
}
MAX_ELONGATION, MAX_DISTORTION = 3, 0.02

FINDINGS = """() => {
  const found = [], shown = node => node.checkVisibility({visibilityProperty: true}) && node.getClientRects().length;
  const name = node => node.tagName + (node.id ? "#" + node.id : "") + "." + node.className;
  const root = document.querySelector("dialog[open]") || document.body;
  for (const node of [document.documentElement, root])
    if (node.scrollWidth > Math.min(innerWidth, node.clientWidth)) found.push(`${name(node)} is too wide`);
  for (const node of root.querySelectorAll("*")) {
    if (!shown(node)) continue;
    const box = node.getBoundingClientRect(), style = getComputedStyle(node);
    if (box.right > innerWidth + 1 || box.left < -1) found.push(`${name(node)} is cut off`);
    if (node.tagName === "IMG") {
      if (!node.naturalWidth) { found.push(`${node.src} did not load`); continue; }
      const ratio = box.width / box.height, natural = node.naturalWidth / node.naturalHeight;
      if (Math.max(ratio, 1 / ratio) > LONG) found.push(`${node.src} is shown at ${ratio.toFixed(2)}:1`);
      const distorted = style.objectFit === "fill" && Math.abs(ratio / natural - 1) > DISTORTED;
      if (distorted) found.push(`${node.src} is distorted`);
    }
    const large = box.width > 8 && box.height > 8 && !node.closest("#mark, svg");
    const framed = large && (style.borderTopWidth !== "0px" || style.backgroundColor !== "rgba(0, 0, 0, 0)");
    const holds = "img, canvas, svg, input, select";
    const text = node.innerText?.trim(), pictures = [...node.querySelectorAll(holds)].some(shown);
    const filled = text || pictures || node.matches(holds) || style.backgroundImage !== "none";
    if (framed && !filled) found.push(`${name(node)} is empty`);
    const section = node.matches("section, aside, figure, dialog, li, dl, dd");
    if (section && !filled) found.push(`${name(node)} has nothing in it`);
  }
  return found;
}""".replace("LONG", str(MAX_ELONGATION)).replace("DISTORTED", str(MAX_DISTORTION))


ENDED = """image => !image.src || image.complete || new Promise(
  end => ["load", "error"].forEach(kind => image.addEventListener(kind, end)))"""


def save(image, file):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((image.permute(1, 2, 0) * 255).round().byte().numpy()).save(file)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, motifnet):
    """One page of each kind, with square, wide and tall photographs, and a judge that has the name of a file."""
    folder = tmp_path_factory.mktemp("pages")
    labels, generator = torch.arange(81) % len(MOTIFS), torch.Generator().manual_seed(0)
    images = draw(labels, (64, 64), generator)
    for i, image in enumerate(images):
        of_shape = (image, torch.cat([image, image], 2), torch.cat([image, image], 1))[i // len(MOTIFS)]
        save(of_shape, folder / "photos" / MOTIFS[labels[i]] / f"{i}.png")
    path = folder / "a_folder_with_a_long_name" / "and_another_one" / "networks.py"
    path.parent.mkdir(parents=True)
    path.write_text("import featviz as fv\n\ndef make_the_network():\n    return fv.load('motifvit').module\n")
    how = {"mean": motifnet.input.mean, "std": motifnet.input.std, "classes": MOTIFS, "device": "cpu"}
    judge = fv.load(f"{path}:make_the_network", input_size=64, **how)
    given = {"steps": 2, "size": 32}
    photos = folder / "photos"
    fv.gallery(motifnet, folder / "gallery", classes=["moon", "star"], **given)
    many = {"per_class": 3, "probability": True, "pairs": [("moon", "star")]}
    classes = ["moon", "star", "fish"]
    fv.gallery(motifnet, folder / "judged", classes=classes, photographs=photos, judge=judge, steps=2, **many)
    fv.sweep(
        motifnet, folder / "sweep", ["stage2", "logit"], channels=[0, 1], photographs=photos, negative=True, **given
    )
    fv.unit(motifnet, "stage2:5", photos, **given).save(folder / "unit.html")
    fv.atlas(motifnet, photos, ["stage3", "stage2"], folder / "atlas", per_image=4, grids=(4,), method="pca", **given)
    save(torch.cat([images[MOTIFS.index("fish")], images[MOTIFS.index("smiley")]], 2), folder / "both.png")
    for name, layers in (("blocks", ["stage2", "stage3"]), ("blocks1", "stage3")):
        fv.blocks(motifnet, folder / "both.png", layers, folder / name, cells=4, groups=2, **given)
    wired = {"inputs": 3, "groups": 2, **given}
    fv.circuit(motifnet, "stage2:5", folder / "circuit", family=True, photographs=photos, **wired)
    fv.circuit(motifnet, "stem:3", folder / "colours", **wired)
    vit = fv.load("motifvit", device="cpu")
    fv.circuit(vit, "encoder.layers.encoder_layer_2:7", folder / "heads", depth=0, **{**wired, "size": 64})
    fv.attention(vit, images[0]).save(folder / "attention.html")
    fv.texture(motifnet, "box", "stage2:5", view=64, views=4, size=64, steps=2).save(folder / "texture")
    other = fv.load("motifnet", weights="none", device="cpu")
    layers = {"layers": ["stem", "stage1", "stage2", "stage3", "pool", "head"], "classes": [0, 1], "most": 1}
    fv.diff(motifnet, other, photos, folder / "diff", checkpoints=[other], **layers, **given)
    named = ["gradcam", "LRP('epsilon_gamma_box')", "clear", "rollout"]
    fv.compare(motifnet, folder / "both.png", [0, "stage2:5"], named).save(folder / "compared.html")
    fv.compare(text_toys.network("transformer"), text_toys.TEXT, [0, 1]).save(folder / "text.html")
    weights = [torch.rand(2, 60, 60, generator=generator).softmax(-1) for _ in range(3)]
    names = tuple(f"a_token_with_a_long_name_{i}" for i in range(60))
    AttentionRecord("a_network_with_a_long_name" * 2, names, tuple("abc"), weights).save(folder / "sequence.html")
    return folder


@pytest.fixture
def opened(browser, folder):
    """Opens a page by its kind."""
    with watched_page(browser, width=WIDTHS[0], height=HEIGHT) as page:

        def show(kind):
            page.goto((folder / PAGES[kind]).as_uri())
            settle(page)
            return page

        yield show


def settle(page):
    """Wait for the images that are visible."""
    page.evaluate("document.querySelectorAll('img[loading]').forEach(image => image.loading = 'eager')")
    page.evaluate(f"Promise.all([...document.images].map({ENDED}))")  # `wait_for_function` is refused by the policy
    page.wait_for_timeout(50)


def at_each_width(page):
    """Resize the page to each width and yield the width, which is faster than loading the page again.

    `WIDTHS[0]` comes last, so that the page is as before.
    """
    for width in (*WIDTHS[1:], WIDTHS[0]):
        page.set_viewport_size({"width": width, "height": HEIGHT})
        settle(page)
        yield width


def findings(page):
    """Return what is wrong at each width."""
    return [f"{width} px: {one}" for width in at_each_width(page) for one in page.evaluate(FINDINGS)]


@pytest.mark.parametrize("kind", PAGES)
def test_nothing_overflows_is_distorted_or_is_empty(opened, kind):
    page = opened(kind)
    assert findings(page) == []
    for button in page.locator("#cards li").first.locator("button.open").all():
        button.click()
        assert findings(page) == []
        page.keyboard.press("Escape")
    for tab in page.get_by_role("tab").all():
        tab.click()
        assert findings(page) == []
    if kind == "atlas":
        page.locator(".plane canvas").first.focus()  # describes a cell
        settle(page)
        assert page.locator("#photos img").count() and findings(page) == []


def test_crops_are_shown_large_with_their_place_in_the_whole_photograph(opened, folder):
    """The mark is compared with the place as `fv.examples` has it; the network sees the centered square."""
    page = opened("sweep layer")
    crops = page.locator("#cards li").first.locator(".photographs button")
    assert crops.count() == 6  # five and their mean
    found = fv.examples(fv.load("motifnet", device="cpu"), folder / "photos", "stage2", [0])
    for crop, place in zip(crops.all(), found.places(0), strict=False):
        crop.click()
        for _ in at_each_width(page):
            assert place.file.name in page.locator("#facts").inner_text()
            assert page.locator("#large").bounding_box()["width"] > 300 and not page.locator("#rendering").is_visible()
            whole, mark = page.locator("#whole").bounding_box(), page.locator("#mark").bounding_box()
            side = min(whole["width"], whole["height"])
            top, bottom, left, right = (edge / 64 * side for edge in place.box)
            assert mark["x"] == pytest.approx(whole["x"] + (whole["width"] - side) / 2 + left, abs=1)
            assert mark["y"] == pytest.approx(whole["y"] + (whole["height"] - side) / 2 + top, abs=1)
            assert (mark["width"], mark["height"]) == pytest.approx((right - left, bottom - top), abs=1)
        page.keyboard.press("Escape")
    crops.last.click()
    assert page.locator("#shows").text_content() == "mean of 5 photographs"
    assert not page.locator("#place").is_visible()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowRight")
    assert page.locator("#shows").text_content() == "mean of 5 photographs"


def test_photographs_of_classes_are_whole(opened):
    page = opened("judged gallery")
    sizes = page.evaluate(
        "[...document.querySelectorAll('.photographs img')].map(one => [one.naturalWidth, one.naturalHeight])"
    )
    assert {tuple(size) for size in sizes} == {(64, 64), (128, 64), (64, 128)}


def test_a_judge_from_a_file_is_named_without_its_folders(opened):
    page = opened("judged gallery")
    assert "networks.py:make_the_network recognises" in page.locator("header p").inner_text()
    page.locator("button.open").first.click()
    facts = page.locator("#facts")
    assert "a_folder_with_a_long_name" not in page.content()
    for _ in at_each_width(page):
        widths = [value.bounding_box()["width"] for value in facts.locator("dd").all()]
        assert min(widths) > 0.35 * facts.bounding_box()["width"]


def test_each_fault_is_found(browser, folder):
    """The check itself: what it must find is put into a page."""
    page = browser.new_page()
    page.goto((folder / PAGES["gallery"]).as_uri())
    settle(page)
    assert page.evaluate(FINDINGS) == []
    faults = {
        "is cut off": ("h1", "margin-left: 2000px"),
        "is shown at": ("li img", "width: 20px; height: 100px"),
        "is distorted": ("li img", "object-fit: fill; width: 90px; height: 60px; aspect-ratio: auto"),
        "is empty": (".name", "border: 1px solid"),
        "has nothing in it": ("li", ""),
    }
    for words, (selector, style) in faults.items():
        page.reload()
        settle(page)
        if "nothing" in words or "empty" in words:
            page.locator(selector).first.evaluate("node => node.replaceChildren()")
        page.locator(selector).first.evaluate("(node, style) => node.style.cssText = style", style)
        assert any(words in one for one in page.evaluate(FINDINGS)), words
    page.close()


@pytest.fixture(scope="module")
def address(folder):
    """Address of a server of the pages."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    handler.func.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=functools.partial(server.serve_forever, 0.05), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_pages_work_over_http(browser, address):
    """The policy of a page allows its own images also where it does not come from the disk."""
    with watched_page(browser, address, expected=r".*favicon") as page:
        for kind, path in PAGES.items():
            page.goto(f"{address}/{path}")
            settle(page)
            assert page.evaluate("[...document.images].every(image => !image.src || image.naturalWidth)"), kind
