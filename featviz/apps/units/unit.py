"""The card of a unit: its images, the photographs that it responds to, a name, and how interpretable it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import featviz as fv
from featviz.apps.shared.arguments.classes import class_title, network_title
from featviz.apps.shared.arguments.unit_lookup import objective_of, unit_of
from featviz.apps.units.images import UnitImage, unit_images
from featviz.apps.units.labels import Labels, read_rows
from featviz.apps.units.responses import Responses, read_responses
from featviz.apps.units.summary import Summary, labels_of, summaries
from featviz.engine import entry_point
from featviz.io import auto_bar, check_output, free_path, slug, write
from featviz.network import OUTPUT
from featviz.objectives import Channel, ObjectiveSource

PHOTOGRAPHS = 9
"""Number of photographs with the highest, near the median, and with the lowest response."""


@dataclass(frozen=True, eq=False)
class UnitCard:
    """Images, photographs, name and scores of a unit.

    `print(card)` shows the name and scores; `card.save` writes them with all images as a page.

    Args:
        network: The network.
        layer: Name of the layer; empty for the class logits.
        channel: Index of the channel or class.
        summary: Its name, interpretability, clarity and polysemanticity.
        images: The unit, its negative, images that differ, and its facets if it has two meanings.
        responses: Responses of the layer to the photographs.
        labels: Labels of the photographs.
        judge: Name of the network that judges how alike photographs are.
    """

    network: fv.Network
    layer: str
    channel: int
    summary: Summary
    images: tuple[UnitImage, ...]
    responses: Responses
    labels: Labels
    judge: str

    @property
    def title(self) -> str:
        """The address of the unit, or the name of the class."""
        if self.layer == OUTPUT:
            return class_title(self.network, self.channel)
        return str(Channel(self.layer, self.channel))

    def __repr__(self) -> str:
        """Name the unit and the network."""
        return f"<card of {self.title} of {network_title(self.network)}>"

    def __str__(self) -> str:
        """Return the facts, one per line."""
        return "\n".join(f"{name}: {value}" for name, value in self.facts.items())

    @property
    def facts(self) -> dict[str, str]:
        """Name and scores as text, without scores for which the folder has too few photographs."""
        known, found = self.summary, {"unit": f"{self.title} of {network_title(self.network)}"}
        if known.names:
            best = known.names[0]
            found["name"] = f"{best.text} (AUROC {best.auroc:.2f}, {best.count} of {len(self.responses)} photographs)"
        if known.interpretability is not None:
            found["interpretability"] = f"{known.interpretability:.2f}"
        if known.clarity is not None:
            found["clarity"] = f"{known.clarity:.2f}"
        if known.polysemanticity is not None:
            found["polysemanticity"] = f"{known.polysemanticity:.2f}"
        if known.facets:
            names = [facet.label or f"facet {i + 1}" for i, facet in enumerate(known.facets)]
            found["two meanings"] = " and ".join(names) if len(set(names)) > 1 else f"both {names[0]}"
        return found

    def save(self, path: str | Path) -> Path:
        """Write the card as one self-contained page.

        Args:
            path: A .html file; or an existing folder, into which the page and each image with its recipe are written.

        Returns:
            The page.

        Raises:
            OutputError: The folder is missing or not writable, or the file has another ending.
        """
        from featviz.apps.units.page import unit_page

        path = Path(path)
        if not path.is_dir():
            check_output(path, ".html")
            write(path, unit_page(self).encode(errors="replace"))
            return path
        page, html = free_path(path / f"{slug(self.title)}.html"), unit_page(self)
        for image in self.images:
            if image.rendering is not None:
                image.rendering.save(free_path(path / f"{page.stem}-{slug(image.note)}.png"))
        write(page, html.encode(errors="replace"))
        return page


@entry_point
def unit(
    network: fv.Network,
    unit: ObjectiveSource,
    photographs: str | Path,
    *,
    judge: fv.Network | None = None,
    labels: str | Path | None = None,
    size: int | tuple[int, int] | None = None,
    quality: str = "usual",
    steps: int | None = None,
    seed: int = 0,
    scan_progress: Callable[[int, int], None] | None = auto_bar,
    progress: Callable[[int, int], None] | None = auto_bar,
) -> UnitCard:
    """Make the card of a unit: images, photographs, a name, and how interpretable it is.

    The name is the label of the photographs, or the combination of two by AND, OR or NOT, that the response of the unit
    predicts best. The labels are the folders in which photographs lie and those of a file, or else the predicted
    classes. The interpretability is how often a photograph that excites the unit is told from one that does not, by its
    likeness to references of both. A unit whose strongest photographs fall into two unlike groups is polysemantic; each
    group then has an image of its own.

    Args:
        network: The network.
        unit: A channel or class, as `"stage3:5"`, `"logit:heart"` or, of a dictionary, `"stage3~7"`.
        photographs: Folder of photographs, with all folders below it. Files that cannot be read are skipped. Twenty or
            more are needed for the interpretability, 32 for clarity and polysemanticity.
        judge: Network whose last layer measures how alike two photographs are; `None` for the network itself.
        labels: A .csv file of photographs and their labels; `None` for none.
        size: Height and width of the images in px, or one side; `None` for the network's input size, and less for
            drafts.
        quality: `"draft"`, `"usual"` or `"best"`, as for `fv.render`.
        steps: Steps of each image, >= 0; `None` for those of `quality`.
        seed: Seed of the first image, >= 0.
        scan_progress: Called with the number of photographs read and their total.
        progress: Called after each render, of one or more images, with the number of images done and the number to
            render.

    Returns:
        The card.

    Raises:
        AddressError: There is no such layer, channel or class.
        SettingError: An argument is out of its range, or the labels cannot be read.
        OutputError: The folder is missing, or has no image that can be read.

    Source: Zimmermann et al. 2024, https://arxiv.org/abs/2405.08366 (interpretability); Bykov et al. 2023,
    https://arxiv.org/abs/2311.13594 (names); Dreyer et al. 2025, https://doi.org/10.1038/s42256-025-01084-w (clarity
    and polysemanticity); Goh et al. 2021, https://doi.org/10.23915/distill.00030 (facets).
    """
    layer, channel = unit_of(network, unit, heads=False)
    if labels is not None:
        read_rows(labels)  # errors come before anything is computed
    found = read_responses(
        network, photographs, layer, judge=judge, top=PHOTOGRAPHS, rest=PHOTOGRAPHS, progress=scan_progress
    )
    known = labels_of(network, found, labels)
    summary = summaries(found, known, [channel])[channel]
    objective = objective_of(layer, channel)
    images = unit_images(
        network, objective, layer, channel, summary, found, progress,
        size=size, quality=quality, steps=steps, seed=seed,
    )  # fmt: skip
    judged = network_title(network if judge is None else judge)
    return UnitCard(network, layer, channel, summary, tuple(images), found, known, judged)
