"""The page of a comparison in a real browser, opened from the disk: what it shows, its menus, and the keyboard."""

import pytest
import text_toys
import torch
import toys
from explore_pages import until
from motifs.draw import draw
from watched_pages import watched_page

import featviz as fv
from featviz import methods
from featviz.network.bundled import MOTIFS

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*miss the guaranteed sum")]
WILD = ("<script>document.title = 'gone'</script>", '"><b>x</b>', "it's", "שלום", "🙂")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pages of an image, of attention heads, of a text, and of wild names."""
    folder = tmp_path_factory.mktemp("explain")
    image = draw(torch.tensor([MOTIFS.index("star")]), (64, 64), torch.Generator().manual_seed(0))[0]
    network, vit = fv.load("motifnet", device="cpu"), fv.load("motifvit", device="cpu")
    names = ["gradcam", "LRP('zplus')", "clear", "cam", "rollout"]
    fv.compare(network, image, ["logit:star", "stage2:5"], names, progress=None).save(folder / "image.html")
    heads = [methods.Attention(layer, head) for layer in (0, 2) for head in (None, 0, 3)]
    fv.compare(vit, image, [0], ["gradient", *heads], progress=None).save(folder / "heads.html")
    text = text_toys.network("transformer")
    shown = fv.compare(text, text_toys.TEXT, [0, 1], ["InputXGradient", "rollout"], progress=None)
    shown.save(folder / "text.html")
    classes = [fv.objectives.Logit(name) for name in WILD]
    wild = fv.compare(toys.plain(classes=WILD), torch.rand(3, 32, 32), classes, "gradient", progress=None)
    wild.save(folder / "wild.html")
    return folder


@pytest.fixture(params=[1440, 390], ids="{} px".format)
def opened(browser, folder, request):
    """Opens a page by its name."""
    with watched_page(browser, width=request.param, height=800) as page:

        def show(name):
            page.goto((folder / f"{name}.html").as_uri())
            page.wait_for_timeout(300)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            return page

        yield show


def settle(page):
    """Wait until all visible maps are unpacked, and drawn."""
    until(lambda: page.evaluate("panels.every(panel => panel.picture.hidden || panel.picture.dataset.shown)"))
    page.wait_for_timeout(200)


def shown(page):
    """Return the target and method of both maps."""
    settle(page)
    return page.evaluate("panels.map(panel => panel.picture.dataset.shown)")


def redness(page):
    """Return the mean difference of red and green in the left map."""
    settle(page)
    return page.evaluate("""() => {
      const canvas = panels[0].picture, copy = canvas.cloneNode(), pen = copy.getContext("2d");
      pen.drawImage(canvas, 0, 0);
      const all = pen.getImageData(0, 0, canvas.width, canvas.height).data;
      let sum = 0;
      for (let i = 0; i < all.length; i += 4) sum += all[i] - all[i + 1];
      return sum / (canvas.width * canvas.height);
    }""")


def test_targets_methods_and_strength_are_chosen(opened):
    page = opened("image")
    assert shown(page) == ["0 0", "0 1"]
    page.get_by_label("Target").select_option("stage2:5")
    assert shown(page) == ["1 0", "1 1"] and "stage2:5" in page.locator("#summary").inner_text()
    page.get_by_label("Target").select_option("logit:star")
    page.get_by_label("Show clear on the right").click()
    assert shown(page) == ["0 0", "0 2"]
    assert page.locator(".panel").nth(1).locator(".keys li").count() == 5
    before = redness(page)
    page.get_by_label("Strength").fill("3")
    assert redness(page) > before + 1
    page.get_by_label("Strength").fill("0")
    assert abs(redness(page)) < 0.5
    page.get_by_label("Strength").focus()
    for _ in range(30):
        page.keyboard.press("ArrowRight")
    assert redness(page) > before + 1


def test_measurements_stand_beside_each_map(opened):
    page = opened("image")
    facts = page.locator(".panel").nth(1).locator(".facts").inner_text()
    for name in ("Insertion", "Deletion", "Time", "Completeness error", "prob:star"):
        assert name in facts
    assert page.locator(".panel svg path.curve").count() == 4
    assert page.locator(".panel svg").first.get_attribute("aria-label").startswith("Score while pixels are inserted")
    rows = page.locator("#methods tr")
    assert rows.count() == 5 and page.locator("td.best").count() >= 2
    refused = rows.nth(4)
    assert "motifnet has no attention over the whole image; use e.g. GradCAM" in refused.inner_text()
    page.get_by_label("Show rollout on the left").click()
    panel = page.locator(".panel").first
    assert panel.locator(".problem").inner_text().startswith("Not computed: motifnet has no attention")
    assert not panel.locator("canvas").is_visible() and not panel.locator("svg").is_visible()
    panel.locator("[data-key=Method]").select_option("gradcam")
    assert panel.locator("canvas").is_visible() and not panel.locator(".problem").is_visible()


def test_layers_and_heads_have_menus(opened):
    page = opened("heads")
    assert shown(page) == ["0 0", "0 1"]
    panel = page.locator(".panel").nth(1)
    options = panel.locator("[data-key=Method]").locator("option").all_text_contents()
    assert options == ["gradient", "Attention"]
    assert panel.locator("[data-key=layer]").locator("option").all_text_contents() == ["0", "2"]
    assert panel.locator("[data-key=head]").locator("option").all_text_contents() == ["default", "0", "3"]
    panel.locator("[data-key=head]").focus()
    panel.locator("[data-key=head]").select_option("3")
    assert shown(page) == ["0 0", "0 3"]
    assert page.evaluate("document.activeElement.dataset.key") == "head"
    panel.locator("[data-key=layer]").select_option("2")
    assert shown(page) == ["0 0", "0 6"]
    assert page.locator("[aria-pressed=true]").count() == 2


def test_a_text_is_coloured(opened):
    page = opened("text")
    assert shown(page) == ["0 0", "0 1"]
    words = page.locator(".panel").first.locator(".token")
    assert words.all_text_contents() == ["[CLS]", *text_toys.TEXT.split()]
    colors = {word.evaluate("node => node.style.backgroundColor") for word in words.all()}
    assert len(colors) > 3 and not page.get_by_label("image in colour").is_visible()
    assert "tokens appear among padding" in page.locator("#about").inner_text()


def test_names_are_shown_as_text(opened):
    page = opened("wild")
    names = page.get_by_label("Target").locator("option").all_text_contents()
    assert names[0].count("<script>") == 1 and names[1].count("<b>x</b>") == 1 and "שלום" in names[3]
    assert page.title() != "gone" and page.locator("main script, main b").count() == 0
    paper = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(paper)
    page.get_by_label("Switch between light and dark").click()
    assert page.evaluate(paper) != before
