"""Write the page of a unit: its image, its inputs with their kernels, groups of them, and its family."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import Tensor

import featviz as fv
from featviz.apps.circuits.ablate import Ablation
from featviz.apps.circuits.expand import IMAGE, SKIP
from featviz.apps.circuits.factorise import InputGroups
from featviz.apps.circuits.families import Relative, rotate
from featviz.apps.circuits.heads import HeadCircuits, strongest_pairs
from featviz.apps.circuits.pictures import title_of
from featviz.apps.circuits.walk import Unit, Wiring
from featviz.apps.shared.arguments.classes import network_title
from featviz.apps.shared.pages.page import MAX_SLUG, base64, render_template
from featviz.apps.shared.rendering.album import RenderedImages
from featviz.apps.shared.rendering.stored_images import image_file, thumbnail_file
from featviz.errors import pluralize
from featviz.io import to_bytes, unique_slug

RED, BLUE = (206, 45, 28), (38, 92, 214)
"""Colours of weights above and below 0. Smaller weights are more transparent, so they fit light and dark pages."""
COLOURS = ("red", "green", "blue")
"""Names of the channels of an RGB image."""
LISTED = 3
"""Number of channels that are listed with a group."""


@dataclass(frozen=True, eq=False)
class Illustrated:
    """Content of the page of a unit.

    Args:
        wiring: The unit and its inputs.
        ablation: Its response without some of them; `None` where it has no exemplar.
        groups: Groups of its inputs; `None` for none.
        of_groups: Names of the images of the groups.
        family: Units whose kernels on the image are rotations of its own, with these kernels; the unit is the first.
        heads: Circuits of the attention heads that write into the unit.
    """

    wiring: Wiring
    ablation: Ablation | None
    groups: InputGroups | None = None
    of_groups: Sequence[str] = ()
    family: Sequence[tuple[Relative, Float[Tensor, "c side side"]]] = ()
    heads: Sequence[HeadCircuits] = ()


def page_file(unit: Unit, first: Unit) -> str:
    """Return the file of a unit's page; that of the unit from which the walk starts is the index."""
    layer, channel = unit
    return "index.html" if unit == first else f"unit-{unique_slug(layer or 'logit', MAX_SLUG)}-{channel}.html"


def write_unit(
    network: fv.Network,
    rendered: RenderedImages,
    names: Mapping[Unit, str],
    shown: Illustrated,
    walk: Sequence[Wiring],
) -> str:
    """Write the page of a unit.

    Args:
        network: The network.
        rendered: The images that are in the store.
        names: Names of the images, by unit.
        shown: Content of the page.
        walk: All units that have a page, that from which the walk starts first.

    Returns:
        Its file.

    Raises:
        OutputError: The store cannot be written to.
    """
    wiring, first = shown.wiring, walk[0].unit
    view = _View(network, rendered, names, first, {each.unit for each in walk})
    weights = wiring.weights
    # A skip connection has a weight of 1, beside which all others would look like 0.
    learned = weights.kernels - weights.paths.get(SKIP, 0)
    most = max(1e-12, learned[wiring.inputs].abs().max().item() if wiring.inputs else 0)
    readers = [each.unit for each in walk if wiring.unit in each.units]
    page = {
        "unit": view.picture(wiring.unit),
        "about": f"{pluralize(len(weights.kernels), 'input')} in {weights.source} of {network_title(network)}",
        "source": weights.source,
        "contributes": wiring.contributions is not None,
        "kernel": " x ".join(map(str, weights.kernels.shape[1:])),
        "paths": list(weights.paths),
        "readers": [view.link(unit) for unit in readers],
        "response": None
        if shown.ablation is None
        else _response(shown.ablation, pluralize(len(wiring.files), "photograph")),
        "lists": [
            (title, [view.input(wiring, shown.ablation, channel, most) for channel in channels])
            for title, channels in (("Excitatory inputs", wiring.excitatory), ("Inhibitory inputs", wiring.inhibitory))
        ],
        "groups": [] if shown.groups is None else view.groups(weights.source, shown.groups, shown.of_groups),
        "explained": "" if shown.groups is None else f"{100 * shown.groups.explained:.0f} %",
        "family": view.family(wiring.unit[0], shown.family),
        "heads": [_heads(each, wiring.unit[1]) for each in shown.heads],
    }
    file = page_file(wiring.unit, first)
    title = f"Circuit of {title_of(network, wiring.unit)}"
    rendered.store.write(file, render_template("circuits/page.html", {}, title=title, page=page))
    return file


@dataclass(frozen=True, eq=False)
class _View:
    """Turns units and kernels into the values of the template."""

    network: fv.Network
    rendered: RenderedImages
    names: Mapping[Unit, str]
    first: Unit
    linked: set[Unit]

    def link(self, unit: Unit) -> dict[str, str]:
        """Return the name of a unit, and its page if it has one."""
        return {
            "title": title_of(self.network, unit),
            "page": page_file(unit, self.first) if unit in self.linked else "",
        }

    def picture(self, unit: Unit) -> dict[str, str]:
        """Return the name, page, image and thumbnail of a unit; no image where it could not be rendered."""
        return self.link(unit) | self._image(self.names[unit])

    def _image(self, name: str) -> dict[str, str]:
        there = name in self.rendered.names
        shown = {"image": image_file(name), "thumbnail": thumbnail_file(name)} if there else {"image": ""}
        return shown | {"missing": "not rendered"}

    def input(self, wiring: Wiring, ablation: Ablation | None, channel: int, most: float) -> dict[str, Any]:
        """Return the template's values of an input."""
        if wiring.source == IMAGE:
            named = len(wiring.weights.kernels) == len(COLOURS)
            title = COLOURS[channel] if named else f"channel {channel}"
            shown: dict[str, Any] = {"title": title, "page": "", "image": "", "missing": "colour"}
        else:
            shown = dict(self.picture((wiring.source, channel)))
        fall = None if ablation is None else ablation.single[channel]
        return shown | {
            "kernel": draw_kernel(wiring.weights.kernels[channel], most),
            "weight": f"{wiring.weights.weights[channel].item():+.2f}",
            "contribution": "" if wiring.contributions is None else f"{wiring.contributions[channel].item():+.2f}",
            "change": "" if ablation is None or fall is None else _change(fall, ablation.response),
            "paths": [
                (_short(name, wiring.weights.paths), f"{part[channel].sum().item():+.2f}")
                for name, part in wiring.weights.paths.items()
                if part[channel].any()
            ],
        }

    def groups(self, source: str, groups: InputGroups, names: Sequence[str]) -> list[dict[str, Any]]:
        """Return the template's values of groups of inputs."""
        most = max(1e-12, groups.kernels.abs().max().item()) if len(groups.kernels) else 1.0
        found = []
        for i, (shares, kernel, name) in enumerate(zip(groups.shares, groups.kernels, names, strict=True)):
            top = shares.topk(min(LISTED, len(shares))).indices.tolist()
            listed = [self.link((source, k)) | {"share": f"{100 * shares[k].square().item():.0f} %"} for k in top]
            drawn = {"kernel": draw_kernel(kernel, most), "units": listed}
            found.append(self._image(name) | {"title": f"Group {i + 1}", "page": ""} | drawn)
        return found

    def family(self, layer: str, family: Sequence[tuple[Relative, Tensor]]) -> list[dict[str, Any]]:
        """Return the template's values of a family: each kernel on the image, and the same turned back."""
        found = []
        for one, kernel in family:
            aligned = rotate(kernel[None], -one.angle)[0]
            found.append(
                self.picture((layer, one.channel))
                | {
                    "angle": f"{one.angle:.0f}°",
                    "similarity": f"{one.similarity:.2f}",
                    "kernel": draw_colours(kernel),
                    "aligned": draw_colours(aligned),
                }
            )
        return found


def _short(path: str, paths: Iterable[str]) -> str:
    """Return a path without the prefix that the names of the modules on all paths share.

    >>> _short("a.b.conv1 → a.b.conv2", ["a.b.conv1 → a.b.conv2", "a.b.shortcut", "skip connection"])
    'conv1 → conv2'
    """
    modules = [module.split(".") for each in paths if each != SKIP for module in each.split(" → ")]
    common = 0
    while modules and all(
        len(parts) > common + 1 and parts[: common + 1] == modules[0][: common + 1] for parts in modules
    ):
        common += 1
    names = path.split(" → ")
    return path if path == SKIP else " → ".join(".".join(name.split(".")[common:]) for name in names)


def _heads(found: HeadCircuits, channel: int) -> dict[str, Any]:
    """Return the template's values of attention heads: channels that each copies into the unit, and reads."""
    rows = []
    for ov, qk in zip(found.ov[:, channel], found.qk, strict=True):
        copied = ov.abs().topk(min(LISTED, len(ov))).indices.tolist()
        rows.append(
            {
                "size": f"{ov.norm().item():.2f}",
                "ov": [(k, f"{ov[k].item():+.2f}") for k in copied],
                "qk": [(i, j, f"{value:+.2f}") for i, j, value in strongest_pairs(qk, LISTED)],
            }
        )
    return {"name": found.name, "reads": found.reads or "its input", "rows": rows}


def draw_kernel(kernel: Float[Tensor, "rows columns"], most: float) -> str:
    """Draw a kernel as a PNG in base 64, one px per weight: red above 0, blue below, and transparent at 0.

    Args:
        kernel: The weights.
        most: Size of the weight that is opaque, > 0.
    """
    pixels = np.empty((*kernel.shape, 4), np.uint8)
    pixels[..., :3] = np.where((kernel.numpy() > 0)[..., None], RED, BLUE)
    pixels[..., 3] = (kernel.abs() / most).clamp(max=1).mul(255).round().byte().numpy()
    return _png(pixels)


def draw_colours(kernel: Float[Tensor, "c rows columns"]) -> str:
    """Draw a kernel on the image as a PNG in base 64: grey at 0, and lighter in each colour that excites."""
    scaled = 0.5 + 0.5 * kernel / kernel.abs().max().clamp(min=1e-12)
    return _png(to_bytes((scaled if len(scaled) == 3 else scaled.mean(0, keepdim=True).expand(3, -1, -1)).numpy()))


def _png(pixels: np.ndarray) -> str:
    data = BytesIO()
    Image.fromarray(pixels).save(data, "png")
    return base64(data.getvalue())


def _response(ablation: Ablation, photographs: str) -> dict[str, Any]:
    """Return the lines about the response of a unit without some of its inputs."""
    exemplar = "its own image" if photographs.startswith("0 ") else f"the {photographs} with the highest activation"
    rows = [("with all inputs", ablation.response, "")]
    for name, fall in (
        (f"without the {pluralize(ablation.count, 'strongest excitatory input')}", ablation.excitatory),
        (f"without {pluralize(ablation.count, 'random input')}, on average", ablation.random),
        (f"without the {pluralize(ablation.inhibitors, 'strongest inhibitory input')}", ablation.inhibitory),
    ):
        rows.append((name, ablation.response - fall, _change(fall, ablation.response)))
    most = max(1e-12, *(abs(value) for _, value, _ in rows))
    shown = [(name, f"{value:#.3g}", change, round(100 * max(0.0, value) / most)) for name, value, change in rows]
    return {"exemplar": exemplar, "rows": shown}


def _change(fall: float, response: float) -> str:
    """Return by how much a response changes, in percent; empty where there is no response."""
    return f"{round(-100 * fall / abs(response)) + 0:+d} %" if response else ""
