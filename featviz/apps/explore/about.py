"""First reply to a page: the network, its layers and the possible requests."""

from __future__ import annotations

from collections import Counter
from typing import Any

import featviz as fv
from featviz.apps.explore.images import DRAFT_STEPS
from featviz.apps.explore.requests import MAX_GPU_SIDE, MAX_SIDE, MAX_WANTED, MIN_SIDE, PARAMS, TRANSFORMS, Bounds
from featviz.apps.shared.arguments.classes import network_title
from featviz.apps.shared.rendering.stored_images import image_file
from featviz.engine.shorthand import as_param, as_transforms
from featviz.errors import FeatvizError
from featviz.interfaces import Size
from featviz.io import Store
from featviz.network import OUTPUT
from featviz.objectives.address import Address

SMALL_INPUT, DRAFT_SIDE = 96, 128
"""Drafts of networks with a smaller input have its size; others have this side."""
METHODS = {
    "gradcam": "Grad-CAM", "gradient": "Gradient", "smoothgrad": "SmoothGrad",
    "integratedgradients": "Integrated gradients", "inputxgradient": "Input times gradient",
    "guidedbackprop": "Guided backpropagation", "layercam": "LayerCAM", "lrp": "LRP", "occlusion": "Occlusion",
    "rollout": "Attention rollout", "gradientrollout": "Attention rollout with gradients",
}  # fmt: skip
"""Attribution methods that a page may ask for, and their titles."""


def about(network: fv.Network, store: Store, size: Size | None, *, has_photographs: bool) -> dict[str, Any]:
    """Return the network's description, which a page loads first.

    Args:
        network: The network.
        store: Where the images are.
        size: Height and width of images in px, given by the user; `None` for those of the store's sweep, or the
            network's.
        has_photographs: Whether a folder of photographs was given.
    """
    bounds, smallest = bounds_of(network), min(MIN_SIDE, *network.size)
    return {
        "model": network_title(network),
        "version": fv.__version__,
        "input_size": list(network.size),
        "classes": list(network.classes),
        "has_photographs": has_photographs,
        "has_logits": network.logits_layer is not None,
        "device": str(network.device),
        "params": list(PARAMS),
        "transforms": list(TRANSFORMS),
        "methods": [{"name": name, "title": title} for name, title in METHODS.items()],
        "limits": {
            "size": [smallest, max(bounds.side, *network.size)],
            "steps": [0, bounds.steps],
            "seed": [0, 2**31 - 1],
            "batch": MAX_WANTED,
        },
        "defaults": defaults(network, store, size),
        "layers": layers(network),
    }


def bounds_of(network: fv.Network) -> Bounds:
    """Return the largest images that a page may ask for."""
    return Bounds(MAX_GPU_SIDE if network.device.type == "cuda" else MAX_SIDE)


def layers(network: fv.Network) -> list[dict[str, Any]]:
    """Return the layers in the order of the forward pass, without the output."""
    found: list[dict[str, Any]] = []
    modules = dict(network.module.named_modules())
    for name, layer in network.table.items():
        if name == OUTPUT:
            continue
        sides = layer.map_size if layer.has_positions else ()
        height, width = (sides[0], sides[1]) if len(sides) == 2 else (sides[0] if sides else 1, 1)
        # The address of a channel quotes what needs quotes, so that the page can append the number of any channel.
        address = str(Address(name, 0)).removesuffix("0").removesuffix(":")
        found.append(
            {
                "name": name, "address": address, "kind": layer.layout.kind, "channels": layer.channels,
                "height": height, "width": width, "group": name.rpartition(".")[0],
                "type": type(modules[name]).__name__ if name in modules else "",
            }
        )  # fmt: skip
    return found


def defaults(network: fv.Network, store: Store, size: Size | None) -> dict[str, Any]:
    """Return the settings with which a page starts: those of the sweep in the folder, if there is one."""
    small = max(network.size) <= SMALL_INPUT or network.fixed_size
    found = {"size": _plain(size or network.size), "steps": 512, "seed": 0, "param": "fourier", "transforms": None}
    if size is None:
        found |= _settings_of_sweep(store)
    draft = _plain(network.size) if small else DRAFT_SIDE
    return {**found, "draft_steps": DRAFT_STEPS, "draft_size": draft}


def _settings_of_sweep(store: Store) -> dict[str, Any]:
    """Return the settings of the images of a sweep; empty where there is none."""
    notes = [store.read_json(f"layers/{name}") for name in sorted(store.names("layers"))]
    names = [note["image"] for note in notes if isinstance(note, dict) and isinstance(note.get("image"), str)]
    settings: Counter[tuple[Size, int, int, str | None]] = Counter()
    for name in names:
        try:
            recipe = fv.Recipe.of(store.read(image_file(name))).alone
        except FeatvizError:
            continue
        settings[recipe.size, recipe.steps, recipe.seeds[0], transforms_name(recipe)] += 1
    if not settings:
        return {}
    (size, steps, seed, transforms), _ = settings.most_common(1)[0]
    return {"size": _plain(size), "steps": steps, "seed": seed, "transforms": transforms}


def param_name(recipe: fv.Recipe) -> str | None:
    """Return the name of a recipe's param; `None` where it is none of those that a page may ask for."""
    sizes = (None, recipe.size)
    return next((name for name in PARAMS for size in sizes if repr(as_param(name, size)) == recipe.param), None)


def transforms_name(recipe: fv.Recipe) -> str | None:
    """Return the name of a recipe's transforms; `None` where they are none of those that a page may ask for."""
    return next((name for name in TRANSFORMS if repr(as_transforms(name)) == recipe.transforms), None)


def _plain(size: Size) -> int | list[int]:
    """Return one side of a square, or both sides."""
    return size[0] if size[0] == size[1] else list(size)
