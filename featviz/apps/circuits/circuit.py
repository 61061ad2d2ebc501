"""Circuits: the strongest inputs of a unit, with the weights between them, as pages that link from unit to unit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.apps.circuits.ablate import Ablation, ablate
from featviz.apps.circuits.expand import IMAGE, address, check_order, expand
from featviz.apps.circuits.factorise import group_inputs
from featviz.apps.circuits.families import Relative, family_of, kernels_alike
from featviz.apps.circuits.heads import Heads
from featviz.apps.circuits.page import Illustrated, write_unit
from featviz.apps.circuits.pictures import plan_groups, plan_images
from featviz.apps.circuits.walk import Unit, Walk, Wiring, photographs_of
from featviz.apps.shared.arguments.input_images import as_images
from featviz.apps.shared.arguments.output import check_sweep
from featviz.apps.shared.arguments.targets import Target
from featviz.apps.shared.arguments.unit_lookup import unit_of
from featviz.apps.shared.rendering.album import Pages, RenderedImages, render_pages
from featviz.apps.shared.rendering.backends import Backend
from featviz.apps.shared.rendering.icons import check_icon_param
from featviz.apps.shared.rendering.stored_images import image_file
from featviz.apps.shared.rendering.stored_precisions import copy_precisions
from featviz.engine import check_layer, entry_point
from featviz.io import Store, auto_bar, check_outside, open_image
from featviz.network import LayerLike

MAX_INPUTS, MAX_DEPTH, MAX_GROUPS = 50, 4, 20
"""Largest number of inputs of each sign on a page, of steps from the unit, and of groups of inputs."""


@entry_point(checks={"source": check_layer})
def circuit(
    network: fv.Network,
    unit: Target,
    output: str | Path,
    *,
    source: LayerLike | None = None,
    inputs: int = 8,
    depth: int = 1,
    groups: int = 4,
    family: bool = False,
    photographs: str | Path | None = None,
    sweep: str | Path | None = None,
    param: Any = None,
    size: int | tuple[int, int] | None = None,
    quality: str = "usual",
    steps: int | None = None,
    seed: int = 0,
    backend: Backend | None = None,
    scan_progress: Callable[[int, int], None] | None = auto_bar,
    progress: Callable[[int, int], None] | None = auto_bar,
) -> Pages:
    """Show which units of an earlier layer excite and inhibit a unit, and the weights between them, as linked pages.

    The weights are those of the linearised network between the two layers: activation functions are identities, max
    pools average pools, and batch normalisation is folded. Each input is shown with its image and its kernel, red
    where it excites and blue where it inhibits, and links to a page of its own inputs. The pages tell by how much the
    response of the unit to its exemplars falls without its ten strongest excitatory inputs, and without ten random
    ones; the ablated channels are 0.

    Args:
        network: A network that reads images.
        unit: `"layer:channel"`, `"logit:class"`, or the index of a class.
        output: A folder, or a URL that fsspec supports.
        source: Layer of the inputs, before the unit's; `"image"` for the colours of the image; `None` for the nearest
            earlier layer that all paths to the unit pass.
        inputs: Largest number of excitatory inputs on a page, and of inhibitory ones, in [1, 50].
        depth: Depth of the linked pages, in [0, 4]: 1 for the unit's inputs, 2 for theirs, too.
        groups: Largest number of groups into which all inputs of the unit are collapsed, in [0, 20].
        family: Also find the units of the same layer whose kernels on the image are rotations of the unit's.
        photographs: Folder of images. Those with the highest activation are the exemplars of a unit, and its inputs are
            sorted by their contribution to the response to them. `None` for its own image, and inputs sorted by weight.
        sweep: Folder of a sweep. Images that it has of a unit are copied, whatever their size and steps; `None` to
            render all.
        param: Image parameterization; `None` for `param.Image()`.
        size: Height and width of the images in px, or one side; `None` for the param's size, or else the network's,
            smaller for drafts.
        quality: `"draft"`, `"usual"` or `"best"`, as for `fv.render`.
        steps: Steps of each image, >= 0; `None` for those of `quality`.
        seed: Seed of every image, >= 0.
        backend: Where to render: `fv.RayBackend` for a Ray cluster; `None` for this process.
        scan_progress: Called with the number of photographs scanned and their total, for each layer from the start.
        progress: Called after each image with the number of images done and the number to render.

    Returns:
        The pages, why images are missing, if any are, and the response of each unit without some of its inputs.

    Raises:
        AddressError: There is no such unit, the source does not come before it, or no weights lie between them.
        SettingError: An argument is out of its range, or the network reads text.
        OutputError: A folder is missing or cannot be written to.

    Source: Cammarata et al. 2020, https://doi.org/10.23915/distill.00024, and Voss et al. 2021,
    https://doi.org/10.23915/distill.00024.006.
    Differs: any network instead of InceptionV1; batch normalisation is folded, and attention weights are constants.
    """
    _check(inputs=inputs, depth=depth, groups=groups)
    check_icon_param(param)
    start = unit_of(network, unit)
    first = network.name_of(source)
    if first is not None:
        check_order(network, start[0], first)
    if photographs is not None:
        check_outside(output, photographs)
    check_sweep(sweep)
    walk = Walk(network, inputs, photographs, scan_progress).from_unit(start, first, depth)
    wiring = walk[0]
    found = group_inputs(wiring.weights.kernels, groups) if groups and wiring.source != IMAGE else None
    relatives = _family(network, start) if family else []
    store, others = Store(output), None if sweep is None else Store(sweep)
    if others is not None:
        copy_precisions(others, store)
    sized = fv.param.sized(
        fv.param.Image() if param is None else param, (size, size) if isinstance(size, int) else size, 1
    )
    units = [each for one in walk for each in (one.unit, *one.units)] + [
        (start[0], one.channel) for one, _ in relatives
    ]
    settings: Any = {"param": sized, "quality": quality, "steps": steps, "seed": seed}
    album, names = plan_images(network, store, units, others, **settings)
    of_groups = () if found is None else plan_groups(album, wiring.source, found, **settings)
    facts: dict[str, dict[str, float]] = {}
    heads = Heads(network)

    def write_pages(rendered: RenderedImages) -> list[str]:
        pages = []
        for one in walk:
            ablation = _ablate(network, one, rendered, names)
            facts[address(*one.unit)] = {} if ablation is None else _numbers(ablation)
            extra = (found, of_groups, relatives) if one is wiring else (None, (), [])
            shown = Illustrated(one, ablation, *extra, heads=heads.of(one.weights))
            pages.append(write_unit(network, rendered, names, shown, walk))
        return pages

    made = render_pages(network, [album], store, write_pages, backend, progress)
    return Pages(made.store, made.pages, len(names) + len(of_groups) - len(made.problems), made.problems, facts)


def _check(**given: int) -> None:
    """Check numbers of a circuit.

    Raises:
        SettingError: One is out of its range.
    """
    ranges = {"inputs": (1, MAX_INPUTS, 8), "depth": (0, MAX_DEPTH, 1), "groups": (0, MAX_GROUPS, 4)}
    for name, value in given.items():
        low, high, default = ranges[name]
        if not low <= value <= high:
            raise fv.SettingError(f"{name} must be in [{low}, {high}], got {value} (default {default})")


def _family(network: fv.Network, unit: Unit) -> list[tuple[Relative, Float[Tensor, "c side side"]]]:
    """Return the units of the same layer whose kernels on the image are rotations of a unit's, with these kernels."""
    layer, channel = unit
    found = expand(network, layer, range(network.layer(layer).channels), IMAGE, by_path=False, cut=False)
    kernels = kernels_alike(torch.stack([each.kernels for each in found]))
    return [(one, kernels[one.channel]) for one in family_of(kernels, channel)]


def _ablate(network: fv.Network, wiring: Wiring, rendered: RenderedImages, names: dict[Unit, str]) -> Ablation | None:
    """Ablate the inputs of a unit for its exemplars: its photographs, or else its image; `None` where there is none."""
    if wiring.files:
        images = photographs_of(network, wiring.files)
    elif names[wiring.unit] in rendered.names:
        with open_image(rendered.store.read(image_file(names[wiring.unit]))) as image:
            images = as_images(network, image)
    else:
        return None
    return ablate(network, *wiring.unit, wiring.source, images, wiring.ablated, single=wiring.inputs)


def _numbers(ablation: Ablation) -> dict[str, float]:
    return {
        "response": ablation.response,
        "without excitatory": ablation.response - ablation.excitatory,
        "without inhibitory": ablation.response - ablation.inhibitory,
        "without random": ablation.response - ablation.random,
    }
