"""Embeddings of words, tokens or photographs, and the queries on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.apps.embeddings.arguments import as_numbers, check_count
from featviz.apps.embeddings.direction import direction_objective
from featviz.apps.embeddings.expression import Term, parse_expression
from featviz.apps.embeddings.map import MAX_POINTS, write_map
from featviz.apps.embeddings.neighbours import Neighbours, lengths_of, most_similar, similarities, unit
from featviz.apps.embeddings.photographs import embed_file
from featviz.checks import check_number
from featviz.engine import entry_point
from featviz.errors import nearest, shown
from featviz.io import auto_bar, is_file

MAX_SUGGESTED_FROM = 50_000
"""Number of names among which similar spellings are searched; files list frequent words first."""

Query = str | Sequence[float] | np.ndarray | Tensor
"""A name, an expression such as `"king - man + woman"`, or a vector."""


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Vectors with names. Made by `fv.embeddings`.

    Args:
        names: The names, all different.
        vectors: One row per name, in single precision; the mean is subtracted.
        source: Where they come from, for titles.
        mean: What is subtracted from every vector: the mean activation over the folder, or zeros.
        files: Paths of the photographs; empty for words.
        network: The network of the activations; `None` for words.
        layer: Name of the layer of the activations; empty for words.
        skipped: The first files that could not be read, relative to the folder, and the reason.
    """

    names: tuple[str, ...]
    vectors: Float[Tensor, "n d"]
    source: str
    mean: Float[Tensor, " d"]
    files: tuple[Path, ...] = ()
    network: fv.Network | None = None
    layer: str = ""
    skipped: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Count the names and numbers, and name the source."""
        return f"<embeddings of {len(self)} names, {self.vectors.shape[1]} numbers each, from {self.source}>"

    def __len__(self) -> int:
        """Return the number of names."""
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        """Whether there is a vector of this name."""
        return name in self._rows

    @cached_property
    def _rows(self) -> dict[str, int]:
        """Row of each name."""
        return {name: row for row, name in enumerate(self.names)}

    @cached_property
    def _lengths(self) -> Float[Tensor, " n"]:
        return lengths_of(self.vectors)

    @cached_property
    def _rows_of_files(self) -> dict[Path, int]:
        return {file.resolve(): row for row, file in enumerate(self.files)}

    def vector(self, query: Query) -> Float[Tensor, " d"]:
        """Return the vector of a name or an expression.

        The vectors in a sum have length 1 each, as in the source of `analogy`. A photograph that is not in the folder
        is given by its path: the network runs on it.

        Args:
            query: A name; names with ` + ` and ` - ` between them, with spaces around each sign; or a vector, which is
                returned as it is. Names that hold such signs are put in quotes.

        Returns:
            The vector, with the mean subtracted.

        Raises:
            AddressError: There is no such name, or the expression cannot be parsed.
            OutputError: A photograph cannot be read.
            SettingError: The query is not of these kinds, or a vector of other length.
        """
        return self._resolve(query)[0]

    def nearest(self, query: Query, count: int = 10) -> Neighbours:
        """Find the names whose vectors have the highest cosine similarity to a query, without those in the query.

        Args:
            query: A name, an expression or a vector, as for `vector`.
            count: Number of names, >= 1.

        Returns:
            The names and their similarities, which print as a table.

        Raises:
            AddressError: There is no such name, or the expression cannot be parsed.
            OutputError: A photograph cannot be read.
            SettingError: The query is not of these kinds, its vector is 0, or `count` is < 1.
        """
        count = check_count("count", count)
        label = query if isinstance(query, str) else "vector"
        return self._neighbours(label, *self._resolve(query), count)

    def analogy(self, a: str, b: str, c: str, count: int = 5) -> Neighbours:
        """Complete "a is to b as c is to …": find the names nearest to b - a + c, without these three.

        Args:
            a: A name, such as `"man"`.
            b: What it is paired with, such as `"king"`.
            c: The name to complete, such as `"woman"`.
            count: Number of names, >= 1.

        Returns:
            The names and their similarities, which print as a table.

        Raises:
            AddressError: There is no such name.
            SettingError: `count` is < 1.

        Source: Mikolov et al. 2013, https://aclanthology.org/N13-1090, section 4, with vectors of unit norm (3CosAdd in
        Levy and Goldberg 2014, https://aclanthology.org/W14-1618).
        """
        count = check_count("count", count)
        terms = [Term(sign, self._check_name(name)) for sign, name in ((1, b), (-1, a), (1, c))]
        return self._neighbours(f"{a} : {b} = {c} : …", *self._sum(terms), count)

    def _neighbours(self, label: str, vector: Tensor, used: Any, count: int) -> Neighbours:
        """Return the names nearest to a vector, without those that it was made of.

        Raises:
            SettingError: The vector is 0, and has no direction.
        """
        if not vector.any():
            raise fv.SettingError(f"the vector of {label!r} is 0, so its cosine is undefined; give another query")
        similarity = similarities(self.vectors, self._lengths, vector)
        rows = most_similar(similarity, count, used).tolist()
        return Neighbours(label, tuple(self.names[row] for row in rows), tuple(similarity[rows].tolist()))

    def objective(self, query: Query, *, power: float = 2.0) -> Any:
        """Return an objective that renders the vector of a query as an image: a direction of the layer's channels.

        The direction is the activation relative to its mean over the folder.

        Args:
            query: A name, an expression or a vector, as for `vector`.
            power: Exponent of the cosine in the objective, >= 0. Higher values suppress other features.

        Returns:
            The objective, for `fv.render` with the network of these embeddings.

        Raises:
            AddressError: There is no such name, or the expression cannot be parsed.
            SettingError: These are no photographs, the vector is 0, or `power` is negative.
        """
        if self.network is None:
            raise fv.SettingError(f"only photographs can be rendered; these are vectors from {self.source}")
        check_number("power", power, at_least=0, note="(default 2)")
        vector = self.vector(query)
        if not vector.any():
            raise fv.SettingError("the vector is 0, which is no direction; give another query or more photographs")
        return direction_objective(self.network, self.layer, vector, power)

    @entry_point
    def map(
        self,
        path: str | Path,
        *,
        method: str | None = None,
        limit: int = MAX_POINTS,
        seed: int = 0,
        progress: Callable[[int, int], None] | None = auto_bar,
    ) -> Path:
        """Write a map of the vectors in the plane, similar ones near each other, as one web page without other files.

        Args:
            path: The page, a .html file, which is replaced if it is there.
            method: Layout method: `"umap"`, `"tsne"` or `"pca"`; `None` for `"umap"` where it is installed, else
                `"pca"`.
            limit: Most names to show, in [1, 20000]: the first of a vocabulary, and photographs spread evenly over the
                folder.
            seed: Seed of the layout, in [0, 2**32).
            progress: Called with the number of photographs that are read for the page and their total.

        Returns:
            The path of the page.

        Raises:
            SettingError: An argument is out of its range, or the method is not installed.
            OutputError: The page cannot be written.
        """
        return write_map(self, Path(path), method=method, limit=limit, seed=seed, progress=progress)

    # ------------------------------------------------------------------------------------------ queries

    def _resolve(self, query: Query) -> tuple[Tensor, set[int]]:
        """Return the vector of a query, and the rows of the names in it."""
        if not isinstance(query, str):
            return _as_vector(query, self.vectors.shape[1]), set()
        return self._sum(parse_expression(query, self._rows.__contains__))

    def _sum(self, terms: Sequence[Term]) -> tuple[Tensor, set[int]]:
        """Return the sum of terms, and the rows of their names. A single name keeps its length."""
        rows = [self._row(term.name) for term in terms]
        vectors = [
            self._embed(term.name) if row is None else self.vectors[row] for term, row in zip(terms, rows, strict=True)
        ]
        used = {row for row in rows if row is not None}
        if len(terms) == 1:
            return terms[0].sign * vectors[0], used
        signed = [term.sign * unit(vector) for term, vector in zip(terms, vectors, strict=True)]
        return torch.stack(signed).sum(0), used

    def _row(self, name: str) -> int | None:
        """Return the row of a name, or of the photograph at a path; `None` for a photograph outside of the folder.

        Raises:
            AddressError: There is neither.
        """
        if name in self._rows:
            return self._rows[name]
        if self.network is not None and is_file(name):
            return self._rows_of_files.get(Path(name).resolve())
        kind = "photograph" if self.files else "name"
        suggestions = nearest(name, self.names[:MAX_SUGGESTED_FROM])
        raise fv.AddressError(f"no {kind} {shown(name)} in {self.source}{suggestions}")

    def _embed(self, name: str) -> Tensor:
        """Return the vector of a photograph that is not in the folder."""
        if self.network is None:
            raise fv.AddressError(f"no name {shown(name)} in {self.source}")
        return embed_file(self.network, Path(name), self.layer) - self.mean

    def _check_name(self, name: Any) -> str:
        if not isinstance(name, str):
            raise fv.SettingError(f"an analogy takes three names, got {shown(name)}")
        return name


def _as_vector(query: Any, length: int) -> Tensor:
    """Return a query as a vector.

    Raises:
        SettingError: `query` is not a vector of finite numbers, or of another length.
    """
    values = as_numbers(query, "a query must be a name, an expression or a vector")
    if values.shape != (length,) or not values.isfinite().all():
        raise fv.SettingError(f"a query vector must have {length} finite numbers, got shape {tuple(values.shape)}")
    return values
