"""Render the images of the README: `make docs MOBILENET=path/to/mobilenet_v2.safetensors`.

Without MOBILENET, torchvision downloads its own weights for that network. Screenshots of pages are taken in Chromium.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Literal

import imageio.v3 as iio
import numpy as np
import torch
from motifs import planted
from motifs.changes import add_backdoor
from motifs.draw import draw
from motifs.slingshot import manipulated, manipulations
from PIL import Image
from playwright.sync_api import Page, sync_playwright
from torch import Tensor

import featviz as fv
from featviz import objectives as obj
from featviz import param, transforms
from featviz.apps.units.responses import read_responses
from featviz.io import contact_sheet, plot_signal, read_image, to_bytes, volume_picture

HERE = Path(__file__).parent
UNITS = (
    "features.3:5", "features.5:12", "features.7:20", "features.9:31", "features.11:7", "features.14:5",
    "features.14:60", "features.16:40", "features.17:100", "logit:flamingo", "logit:jack-o'-lantern", "logit:zebra",
    "logit:strawberry", "logit:monarch", "logit:pinwheel",
)  # fmt: skip
WIDEST, SMALL = 1400, 1080
"""Largest width in px of a screenshot, and of small ones."""
RENDER_TIMEOUT_MS = 900_000
"""Milliseconds within which the explorer has rendered what is in view."""
CHANGED = ("heart", "smiley", "star", "moon", "zigzag", "wood")
"""Classes of the comparison with a changed network, of which one has a backdoor."""
TEXTURES = {"sphere": "logit:bricks", "capsule": "logit:zigzag"}
"""Meshes, and the objective that each shows."""
ACCENTUATED = {"eye": "logit:eye", "heart": "logit:leaf", "flower": "logit:flower", "giraffe": "logit:rings"}
"""Drawings, and the objective that is accentuated in each."""
MANIPULATED = 4
"""Number of manipulated networks, each with three classes."""
LAYERS = ("features.4", "features.10", "features.12")
"""Layers for DeepDream: early, middle, late."""


def main() -> None:
    """Render the contact sheets, dreams and pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mobilenet", default="default", help="a weights file")
    parser.add_argument(
        "--manipulated", type=Path, help="folder of manipulated networks, which takes ten minutes to fill"
    )
    parser.add_argument("--photographs", type=Path, help="folder to fit features to; they are not shown")
    options = parser.parse_args()
    if shutil.which("chromium") is None:
        raise SystemExit("screenshots need Chromium; install the system's package")
    motifnet, motifvit = fv.load("motifnet"), fv.load("motifvit")
    goals = [obj.Logit(name) for name in motifnet.classes]
    fv.render(motifnet, goals, param=param.Image(128), progress=fv.progress_bar()).save(HERE / "motifs.webp")
    fv.render(motifvit, goals, progress=fv.progress_bar()).save(HERE / "motifvit.webp")
    mobilenet = fv.load("mobilenet_v2", weights=options.mobilenet)
    fv.render(mobilenet, UNITS, progress=fv.progress_bar()).save(HERE / "mobilenet_v2.webp")
    dreams = [read_image(HERE / "chelsea.webp")]
    dreams += [fv.dream(mobilenet, HERE / "chelsea.webp", layer).images[0].numpy() for layer in LAYERS]
    rows = [np.concatenate(dreams[i : i + 2], 2) for i in (0, 2)]
    iio.imwrite(HERE / "dream.webp", to_bytes(np.concatenate(rows, 1)), quality=90)
    accentuations(motifnet)
    explain(mobilenet)
    examples(motifnet)
    pages(motifnet, mobilenet)
    explorers(motifnet, mobilenet)
    unit_card(motifnet)
    comparison(motifnet, motifvit)
    textures(motifnet)
    trust(motifnet, options.manipulated)
    other_inputs()
    if options.photographs:
        features(mobilenet, options.photographs)


def accentuations(network: fv.Network) -> None:
    """Render drawings of motifs, and accentuations of them: opaque above, with their opacity over white below."""
    labels = torch.tensor([network.classes.index(name) for name in ACCENTUATED])
    drawings = draw(labels, network.size, torch.Generator().manual_seed(4))
    columns = []
    for image, goal in zip(drawings, ACCENTUATED.values(), strict=True):
        rgba = fv.accentuate(network, image, goal, crops=4, steps=60).images[0]
        shown = rgba[3:] * rgba[:3] + 1 - rgba[3:]
        columns.append(torch.cat([image, rgba[:3], shown], 1))
    sheet = torch.cat(columns, 2).repeat_interleave(2, 1).repeat_interleave(2, 2)
    iio.imwrite(HERE / "accentuate.webp", to_bytes(sheet.numpy()), quality=90)


def explain(network: fv.Network) -> None:
    """Render the sheet of attributions."""
    methods = ["gradcam", "guidedgradcam", "smoothgrad", "integratedgradients", "LRP('epsilon_plus')"]
    fv.compare(network, HERE / "chelsea.webp", ["logit:tabby", "features.10:31"], methods).save(HERE / "explain.webp")


def pages(motifnet: fv.Network, mobilenet: fv.Network) -> None:
    """Make a gallery, an atlas, building blocks and a circuit, and take screenshots."""
    given = {"progress": fv.progress_bar("pages", "picture")}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        classes = list(range(21, 1000, 25))
        gallery = fv.gallery(mobilenet, folder / "gallery", classes=classes, **given)
        drawings(motifnet, 810, folder / "drawings")
        atlas = fv.atlas(motifnet, folder / "drawings", "stage3", folder / "atlas", **given)
        layers = ["features.7", "features.17"]
        blocks = fv.blocks(mobilenet, HERE / "chelsea.webp", layers, folder / "blocks", **given)
        circuit = fv.circuit(
            motifnet, "stage3:17", folder / "circuit", depth=0, photographs=folder / "drawings", **given
        )
        screenshot(Path(gallery.page).as_uri(), (1560, 1400), "gallery", lambda _: None)
        screenshot(Path(atlas.page).as_uri(), (1400, 760), "atlas", spiral)
        screenshot(Path(blocks.page).as_uri(), (1400, 800), "blocks", eye)
        screenshot(Path(circuit.page).as_uri(), (1400, 1000), "circuit", lambda _: None)


def explorers(motifnet: fv.Network, mobilenet: fv.Network) -> None:
    """Take screenshots of a layer in the explorer while it renders, and of the card of a channel."""
    with tempfile.TemporaryDirectory() as name:
        folder, window = Path(name), (1440, 900)
        drawings(motifnet, 405, folder / "drawings")
        given = {"size": 128, "open_browser": False}
        with fv.explore(mobilenet, output=folder / "layer", **given) as explorer:
            screenshot(f"{explorer.url}#layer=features.11", window, "explore", half_rendered, width=SMALL)
        with fv.explore(motifnet, output=folder / "card", photographs=folder / "drawings", **given) as explorer:
            url = f"{explorer.url}#layer=stage3&channel=5"
            screenshot(url, window, "explore-card", rendered, width=SMALL, scheme="dark")


def unit_card(network: fv.Network) -> None:
    """Take a screenshot of the card of a feature that was made to respond to two motifs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "drawings")
        drawings(network, 540, folder, in_folders=True)
        found = read_responses(network, folder, "stage3")
        of = [[i for i, file in enumerate(found.names) if file.startswith(motif)] for motif in ("star", "heart")]
        vector = torch.stack([found.features[rows].mean(0) for rows in of]).sum(0)
        planted = fv.Dictionary(kind="relu", encoder=(vector / vector.norm())[None], bias=[-2.0])
        card = fv.unit(network.with_dictionary("stage3", planted), "stage3~0", photographs=folder)
        page = card.save(Path(name, "unit.html"))
        screenshot(page.as_uri(), (1200, 1260), "unit", lambda _: None, width=SMALL)


def textures(network: fv.Network) -> None:
    """Render two textured meshes, and show each from four directions."""
    rows = []
    for mesh, goal in TEXTURES.items():
        found = fv.texture(network, mesh, goal)
        rows.append(torch.cat([found.view(90 * i, 15, 240, zoom=0.92, background=1.0) for i in range(4)], 2))
    iio.imwrite(HERE / "textures.webp", to_bytes(torch.cat(rows, 1).numpy()), quality=85)


def other_inputs() -> None:
    """Render a chirp in a signal and a ring in a volume, which networks of one kernel each look for."""
    signals, volumes = planted.signals(), planted.volumes()
    found = fv.render(signals, "logit:0 - 1000*l2")
    kernel, shown = planted.chirp(), torch.zeros(1, 256)
    at = (256 - len(kernel)) // 2
    shown[:, at : at + len(kernel)] = found.values.abs().max() * kernel
    rows = [plot_signal(each.numpy(), (-4, 4)) for each in (shown, found.values[0])]
    iio.imwrite(HERE / "signal.webp", np.concatenate(rows), quality=85)
    views = (transforms.Rotate(10), transforms.Scale(transforms.LogUniform(0.9, 1.1)), transforms.Contrast(0.3))
    found = fv.render(volumes, "0:0@center - 16000*l2", transforms=views, steps=96)
    shown = torch.nn.functional.pad(planted.ring(), [4, 3] * 3)[None]
    rows = [volume_picture(each.numpy()) for each in (shown, found.images[0])]
    gap = np.full((8, *rows[0].shape[1:]), 255, np.uint8)
    iio.imwrite(HERE / "volume.webp", np.concatenate([rows[0], gap, rows[1]]), quality=85)


def comparison(motifnet: fv.Network, motifvit: fv.Network) -> None:
    """Compare motifnet with a copy that has a backdoor for the class heart, and take a screenshot."""
    changed, _, _ = add_backdoor(motifnet, motifnet.classes.index("heart"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        drawings(motifnet, 216, folder / "drawings")
        given = {"classes": CHANGED, "most": 4, "per_class": 1, "steps": 128}
        made = fv.diff(motifnet, changed, folder / "drawings", folder / "diff", judge=motifvit, **given)
        assert made.pages is not None
        screenshot(Path(made.pages.page).as_uri(), (1400, 1240), "diff", lambda _: None)


def trust(network: fv.Network, folder: Path | None) -> None:
    """Render the classes of manipulated networks: a drawing, the image before, after, and started from the drawing."""
    columns: list[list[Tensor]] = []
    names = []
    with tempfile.TemporaryDirectory() as temporary:
        for number, how in enumerate(manipulations(MANIPULATED)):
            changed = manipulated(how, Path(folder or temporary, f"slingshot-{number}.safetensors"))
            goals = [obj.Logit(network.classes[label]) for label in how.decoys]
            settings = {"seed": 4000, "robustness_views": 0, "progress": None}
            before, after = (fv.render(each, goals, steps=192, **settings).images for each in (network, changed))
            best = torch.stack([strongest_drawing(changed, label) for label in how.decoys])
            started = fv.render(changed, goals, start=best, steps=64, **settings).images
            columns += [list(column) for column in zip(best, before, after, started, strict=True)]
            names += [goal.name for goal in goals]
    images = [to_bytes(column[row].numpy()) for row in range(4) for column in columns]
    labels = [str(name) for name in names] + [""] * 3 * len(names)
    iio.imwrite(HERE / "trust.webp", contact_sheet(images, labels, columns=len(names)), quality=88)


def strongest_drawing(network: fv.Network, label: int) -> Tensor:
    """Return the drawing of a motif with the largest logit among eight."""
    drawn = draw(torch.full((8,), label), network.size, torch.Generator().manual_seed(label))
    return drawn[fv.score(network, obj.Logit(label), drawn).flatten().argmax()]


def features(network: fv.Network, photographs: Path) -> None:
    """Sweep features of a dictionary, and take a screenshot. The page has no photographs, whatever their licence."""
    layer = "features.13"
    found = fv.fit_dictionary(
        network, photographs, layer, features=64, kind="archetypal", k=8, per_image=196, steps=1000, compare_seeds=False
    )
    with tempfile.TemporaryDirectory() as folder:
        found = fv.Dictionary.load(found.save(Path(folder, "features.safetensors")))  # recipes name its file
        swept = fv.sweep(network.with_dictionary(layer, found), Path(folder, "sweep"), f"{layer}~", size=112, steps=64)
        page = next(Path(swept.page).parent.glob("layer-*.html"))
        screenshot(page.as_uri(), (1400, 1000), "features", lambda _: None)


def spiral(page: Page) -> None:
    """Point at the largest cell of the class spiral."""
    page.evaluate("""() => {
        const [view] = views, cells = view.grid().cells.filter(cell => cell.classes[0][0] === "spiral");
        view.pick(cells.reduce((best, cell) => cell.n > best.n ? cell : best));
    }""")


def eye(page: Page) -> None:
    """Open the last layer, and point at an eye of the cat."""
    page.get_by_role("tab").last.click()
    box = page.locator("#heat").bounding_box()
    page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 0.42 * box["height"])


def half_rendered(page: Page) -> None:
    """Wait until some tiles are rendered, and others are drafts."""
    page.wait_for_selector(":nth-match(.tile[data-state=sharp], 24)", timeout=RENDER_TIMEOUT_MS)


def rendered(page: Page) -> None:
    """Wait until everything in view is rendered."""
    done = "#status[data-on=false] #status-text:text-is('All rendered')"
    page.wait_for_selector(done, state="attached", timeout=RENDER_TIMEOUT_MS)


def screenshot(
    url: str,
    size: tuple[int, int],
    name: str,
    point: Callable[[Page], None],
    *,
    width: int = WIDEST,
    scheme: Literal["light", "dark"] = "light",
) -> None:
    """Open a page in a window of a width and height in px, point at something, and save a screenshot."""
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=options)
        page = browser.new_page(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
        page.goto(url)
        if url.startswith("file:"):  # the explorer keeps a connection open
            page.wait_for_load_state("networkidle")
        point(page)
        page.wait_for_timeout(300)
        image = Image.open(BytesIO(page.screenshot())).convert("RGB")
        image.thumbnail((width, WIDEST))
        image.save(HERE / f"{name}.webp", quality=88)
        browser.close()


def drawings(network: fv.Network, count: int, folder: Path, *, in_folders: bool = False) -> None:
    """Draw motifs into a folder, or into folders of their names within it."""
    labels = torch.arange(count) % len(network.classes)
    for i, image in enumerate(draw(labels, network.size, torch.Generator().manual_seed(0))):
        place = folder / network.classes[labels[i]] if in_folders else folder
        place.mkdir(parents=True, exist_ok=True)
        iio.imwrite(place / f"{i:03d}.png", to_bytes(image.numpy()))


def examples(network: fv.Network) -> None:
    """Render the sheet of drawings with the highest activation."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "drawings")
        drawings(network, 405, folder)
        found = fv.examples(network, folder, "stage2", [1, 9, 30, 47])
        pictures = fv.render(network, found.objectives, param=param.Image(128))
        found.save(HERE / "examples.webp", pictures)


if __name__ == "__main__":
    main()
