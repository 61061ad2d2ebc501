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
from featviz.io import contact_sheet, plot_signal, read_image, to_bytes, volume_picture

HERE = Path(__file__).parent
UNITS = (
    "features.3:5", "features.5:12", "features.7:20", "features.9:31", "features.11:7", "features.14:5",
    "features.14:60", "features.16:40", "features.17:100", "logit:flamingo", "logit:jack-o'-lantern", "logit:zebra",
    "logit:strawberry", "logit:monarch", "logit:pinwheel",
)  # fmt: skip
WIDEST = 1400
"""Width in px of a screenshot."""
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
        screenshot(gallery.page, (1560, 1400), "gallery", lambda _: None)
        screenshot(atlas.page, (1400, 760), "atlas", spiral)
        screenshot(blocks.page, (1400, 800), "blocks", eye)
        screenshot(circuit.page, (1400, 1000), "circuit", lambda _: None)


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
        screenshot(made.pages.page, (1400, 1240), "diff", lambda _: None)


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
        screenshot(str(page), (1400, 1000), "features", lambda _: None)


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


def screenshot(file: str, size: tuple[int, int], name: str, point: Callable[[Page], None]) -> None:
    """Open a page in a window of a width and height in px, point at something, and save a screenshot."""
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=options)
        page = browser.new_page(viewport={"width": size[0], "height": size[1]}, color_scheme="light")
        page.goto(Path(file).as_uri())
        page.wait_for_load_state("networkidle")
        point(page)
        page.wait_for_timeout(300)
        image = Image.open(BytesIO(page.screenshot())).convert("RGB")
        image.thumbnail((WIDEST, WIDEST))
        image.save(HERE / f"{name}.webp", quality=88)
        browser.close()


def drawings(network: fv.Network, count: int, folder: Path) -> None:
    """Draw motifs into a folder."""
    folder.mkdir()
    labels = torch.arange(count) % len(network.classes)
    for i, image in enumerate(draw(labels, network.size, torch.Generator().manual_seed(0))):
        iio.imwrite(folder / f"{i:03d}.png", to_bytes(image.numpy()))


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
