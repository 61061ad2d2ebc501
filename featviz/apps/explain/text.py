"""Attribution of a score to the tokens of a text: the values, and how they show in notebooks, files and terminals."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL.Image import Image
from torch import Tensor

import featviz as fv
from featviz.apps.explain.attribution import Attribution, shared_strength
from featviz.apps.explain.request import Method
from featviz.apps.explain.strips import Strip, ansi, draw, html, page, table
from featviz.errors import shown
from featviz.interfaces import ObjectiveLike
from featviz.io import EXPLAINED_KEY, auto_bar, check_output, is_file, is_folder, save_image, write
from featviz.io.files import IMAGE_ENDINGS

ACCEPTED = "give a str, or the token ids of one"


@dataclass(frozen=True, eq=False, repr=False)
class TextAttribution(Attribution):
    """How much each token of a text contributes to a score. Returned by `fv.explain` for a network that reads text.

    In notebooks it shows as a coloured strip: red raises the score and blue lowers it. `print` shows a table.

    Args:
        images: The embedding sequence of the text.
        map: Contribution of each token: > 0 raises the score, < 0 lowers it. Some methods give magnitudes only.
        score: Score of the text.
        target: Text of the objective.
        method: Name of the method, with the settings that are not the default.
        recipe: What determines the map: versions, network, target, method and the token ids.
        per_channel: Contribution of each dimension of the embedding of each token; `None` where the method does not
            tell.
        delta: Relative error of the sum that the method guarantees; `None` for methods without such a guarantee.
        tokens: The text of each token.
    """

    images: Float[Tensor, "1 d 1 length"]
    map: Float[Tensor, "1 1 length"]
    tokens: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Name the method and the target; say how far the contributions miss a guaranteed sum."""
        error = "" if self.delta is None else f", contributions miss the guaranteed sum by {self.delta.abs().max():.2%}"
        return f"<{self.method} of {self.target}: {len(self.tokens)} tokens{error}>"

    def __str__(self) -> str:
        """Return a table with one line for each token."""
        return table(self.strip())

    def __len__(self) -> int:
        """Return the number of tokens."""
        return len(self.tokens)

    @property
    def relevance(self) -> Float[Tensor, " length"]:
        """The contribution of each token."""
        return self.map[0, 0]

    def full_strength(self) -> Float[Tensor, " 1"]:
        """Return the absolute contribution that is drawn in full colour: that of the strongest token."""
        return self.relevance.abs().amax()[None]

    def strip(self, full: float | None = None) -> Strip:
        """Return what is drawn: the tokens, how strong the colour of each is, and a title.

        Args:
            full: Absolute contribution that is drawn in full colour, to compare texts; `None` for `full_strength`.
        """
        scale = max(self.full_strength().item() if full is None else full, 1e-12)
        strengths = (self.relevance / scale).clamp(-1, 1).tolist()
        title = f"{self.target} = {self.score.item():.3g}, by {self.method}"
        return Strip(title, self.tokens, tuple(strengths), tuple(self.relevance.tolist()))

    def ansi(self) -> str:
        """Return the strip for terminals that show 24-bit colours, as ANSI escape sequences."""
        return ansi(self.strip())

    def overlay(self, full: Float[Tensor, " n"] | None = None) -> Float[Tensor, "n 3 h w"]:
        """Raise an error: attributions of texts are drawn as strips, not over an image.

        Raises:
            SettingError: Always.
        """
        raise fv.SettingError("a text has no overlay; use sheet(), or save a .png or .html file")

    def to_bytes(self, full: Float[Tensor, " n"] | None = None) -> list[np.ndarray]:
        """Return the strip as 8-bit RGB, (h, w, 3), without its legend.

        Args:
            full: As for `strip`.
        """
        return [draw([self.strip(None if full is None else full.item())], legend=False)]

    def sheet(self) -> np.ndarray:
        """Return the strip with its legend, as 8-bit RGB, (h, w, 3)."""
        return draw([self.strip()])

    def save(self, path: str | Path) -> Path:
        """Write the strip to a file. An image also holds the recipe, as `explained` in its report.

        Args:
            path: A .html, .png, .jpg or .webp file.

        Returns:
            The path.

        Raises:
            OutputError: The folder is missing or not writable, or the format is unknown.
        """
        return save_strips([self.strip()], Path(path), [[dict(self.recipe)]])

    def _repr_html_(self) -> str:
        """Show the strip in Jupyter."""
        return html([self.strip()])


@dataclass(frozen=True, eq=False, repr=False)
class TextComparison:
    """Attributions of one text for several targets and methods. Returned by `fv.compare` for a network that reads text.

    Args:
        tokens: The text of each token.
        rows: One row per target with one attribution per method; `None` where the method does not apply.
        targets: Text of each target.
        methods: Name of each method.
        scores: Score of the text for each target.
        problems: Why a method does not apply, by `"method of target"`.
        layers: Layers that each target reads.
        attributors: The methods themselves.
        objectives: The targets themselves.
        milliseconds: How long each attribution took; `None` where the method does not apply.
        network: The network, bound to the text.
    """

    tokens: tuple[str, ...]
    rows: Sequence[Sequence[TextAttribution | None]]
    targets: tuple[str, ...]
    methods: tuple[str, ...]
    scores: Sequence[float]
    problems: Mapping[str, str]
    layers: Sequence[tuple[str, ...]]
    attributors: Sequence[Method]
    objectives: Sequence[ObjectiveLike]
    milliseconds: Sequence[Sequence[float | None]]
    network: fv.Network

    def __repr__(self) -> str:
        """Name the targets and the methods."""
        return f"<{', '.join(self.methods)} of {', '.join(self.targets)}: {len(self.tokens)} tokens>"

    def strips(self) -> list[Strip]:
        """Return a strip for each target and method.

        Strips of one method have the same colour scale where their targets read the same layers, such as two logits.
        """
        found = []
        for i, row in enumerate(self.rows):
            for k, one in enumerate(row):
                if one is not None:
                    found.append(one.strip(shared_strength(self.rows, self.layers, i, k).item()))
        return found

    def __str__(self) -> str:
        """Return a table for each target and method."""
        return "\n\n".join(map(table, self.strips()))

    def ansi(self) -> str:
        """Return the strips for terminals that show 24-bit colours, as ANSI escape sequences."""
        return "\n\n".join(map(ansi, self.strips()))

    def sheet(self) -> np.ndarray:
        """Return all strips with a legend, as 8-bit RGB, (h, w, 3)."""
        return draw(self.strips())

    def save(self, path: str | Path, *, progress: Callable[[int, int], None] | None = auto_bar) -> Path:
        """Write the strips to an image file, or everything to a page on which methods are chosen and compared.

        An image file also holds the recipes, as `explained` in its report. A page shows beside each attribution how
        faithful it is, which takes 34 forward passes for each.

        Args:
            path: A .html, .png, .jpg or .webp file.
            progress: For a page, called after each attribution with the number of those measured and of all.

        Returns:
            The path.

        Raises:
            OutputError: The folder is missing or not writable, or the format is unknown.
        """
        path = Path(path)
        if path.suffix.lower() != ".html":
            return save_strips(self.strips(), path, self.recipes)
        from featviz.apps.explain.explain_page import explain_page

        check_output(path, ".html")  # before anything is computed
        write(path, explain_page(self, progress).encode())
        return path

    @property
    def recipes(self) -> list[list[dict[str, Any] | None]]:
        """The recipe of each attribution."""
        return [[None if one is None else dict(one.recipe) for one in row] for row in self.rows]

    def _repr_html_(self) -> str:
        """Show the strips in Jupyter."""
        return html(self.strips())


def save_strips(strips: Sequence[Strip], path: Path, recipes: Sequence[Sequence[Any]]) -> Path:
    """Write strips to a page or an image.

    Args:
        strips: What to show.
        path: A .html, .png, .jpg or .webp file.
        recipes: What determines each, for the report in an image.

    Raises:
        OutputError: The folder is missing or not writable, or the format is unknown.
    """
    if path.suffix.lower() != ".html":
        return save_image(draw(strips), path, report=json.dumps({EXPLAINED_KEY: recipes}))
    check_output(path, ".html", *IMAGE_ENDINGS)
    write(path, page(strips).encode())
    return path


# ------------------------------------------------------------------------------------------------------------ reading


def separate_texts(network: fv.Network, given: Any) -> list[Any] | None:
    """Return the texts of a list; `None` for a single text, as a str or as token ids.

    Raises:
        SettingError: There is no text.
    """
    if isinstance(given, list | tuple) and not given:
        raise fv.SettingError(f"there is no text in the list; {ACCEPTED}, or a list of texts")
    several = isinstance(given, list | tuple) and isinstance(given[0], str | list | tuple)
    is_batch = isinstance(given, Tensor | np.ndarray) and given.ndim == 2 and len(given) > 1
    if is_batch and network.tokens is not None and not _is_integral(given):
        raise _no_text(network, given)
    return list(given) if several or is_batch else None


def read_text(network: fv.Network, given: Any) -> tuple[fv.Network, Float[Tensor, "1 d 1 length"]]:
    """Return the network bound to a text, and the embedding sequence of the text.

    Args:
        network: A network that reads text.
        given: A str, or token ids.

    Raises:
        SettingError: `given` is no text, or the network does not take it.
    """
    tokens = network.tokens
    assert tokens is not None
    if isinstance(given, Path | Image) or (isinstance(given, np.ndarray | Tensor) and not _is_integral(given)):
        raise _no_text(network, given)
    if isinstance(given, str) and Path(given).suffix.lower() in IMAGE_ENDINGS and is_file(Path(given)):
        raise fv.SettingError(f"{network.label} reads text, and {given!r} is an image file; {ACCEPTED}")
    ids = tokens.read(given)
    with torch.no_grad():
        return network.bind(ids), network.embed(ids)


def check_no_text(network: fv.Network, given: Any) -> None:
    """Check that what is given for a network that reads images is no text.

    Raises:
        SettingError: `given` is a str that names no file and does not look like a path.
    """
    for each in given if isinstance(given, list | tuple) else [given]:
        if (
            isinstance(each, str)
            and " " in each.strip()
            and not Path(each).suffix
            and not (is_file(each) or is_folder(each))
        ):
            raise fv.SettingError(
                f"{network.label} reads images, and {shown(each)} is no file; a network that reads text is "
                "fv.Network(module, tokens=fv.TokenSpec(...))"
            )


def _is_integral(given: Tensor | np.ndarray) -> bool:
    """Whether numbers may be token ids: whole ones, of one sequence or several."""
    whole = np.issubdtype(given.dtype, np.integer) if isinstance(given, np.ndarray) else not given.is_floating_point()
    return bool(whole) and given.ndim <= 2


def _no_text(network: fv.Network, given: Any) -> fv.SettingError:
    what = f"an array of shape {tuple(given.shape)}" if isinstance(given, np.ndarray | Tensor) else shown(given)
    return fv.SettingError(f"{network.label} reads text, got {what}; {ACCEPTED}")
