"""Batches of images that are rendered in one call of `fv.render`, and the names of their files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import featviz as fv
from featviz.apps.shared.rendering.stored_precisions import store_precision, stored_precisions
from featviz.interfaces import Param, param_traits_of
from featviz.io import Store

BATCH_SIZE, GPU_BATCH_SIZE = 8, 64
"""Images that are rendered in one call, and those on a GPU. Larger batches save no time per image, and an interrupt
would lose more. Source: `make bench-gpu` and `make scaling`."""


@dataclass(frozen=True)
class Template:
    """Recipe and settings that images of the same layers share; file names are computed from them without rendering.

    Args:
        recipe: Recipe of the first of them.
        settings: Further arguments of `fv.render`, with the execution.
    """

    recipe: fv.Recipe
    settings: Mapping[str, Any] = field(hash=False)

    @classmethod
    def of(
        cls,
        network: fv.Network,
        objective: Any,
        seeds: Sequence[int],
        store: Store,
        *,
        is_joint: bool = False,
        **settings: Any,
    ) -> Template:
        """Prepare a render, in the precision of the store's other images of the same layers.

        Args:
            network: The network that the images are rendered for.
            objective: Objective of the first image, or of all images of a joint batch.
            seeds: Seeds of the images that run together first. The precision is the faster one for this many.
            store: Where the images will be.
            is_joint: Whether the objective spans all images.
            settings: Further arguments of `fv.render`. The precision of `execution` holds where the store has none.

        Returns:
            The template.

        Raises:
            FeatvizError: The image cannot be rendered.
        """
        # Only this recipe comes from a render (of no steps); others differ from it in objective and seed alone.
        key = " ".join([network.fingerprint, *sorted(objective.layers)])
        known = stored_precisions(store).get(key)
        given = settings.get("execution", fv.Execution()).precision
        start_only = {**settings, "until": 0, "robustness_views": 0, "execution": fv.Execution(known or given)}
        # The first objective stands in for all, so that another one that cannot be rendered does not prevent the rest.
        if not is_joint and _shares_tensors(settings.get("param")):
            seeds = seeds[:1]
        repeated = [objective] * (1 if is_joint else len(seeds))
        start = fv.render(network, repeated, seed=tuple(seeds), **start_only)
        execution = fv.Execution(start.execution.precision)
        if execution.precision != known:
            store_precision(store, key, execution.precision)
        recipe = replace(start.recipe, until=None)
        if len(repeated) > 1:
            recipe = recipe.about(objective, seeds[0], network.heads)
        return cls(recipe, {**settings, "execution": execution})

    def name(self, network: fv.Network, objective: Any, seed: int) -> str:
        """Return the name of the image of another objective of the same layers, and another seed.

        Args:
            network: The network.
            objective: The objective.
            seed: The seed, >= 0.
        """
        return self.recipe.about(objective, seed, network.heads).hash


def _shares_tensors(param: Any) -> bool:
    """Whether the images of a batch share tensors of a param, so that each objective has a render of its own."""
    return isinstance(param, Param) and param_traits_of(param).couples_batch


@dataclass(frozen=True)
class Batch:
    """Images that are rendered in one call of `fv.render`.

    Args:
        objectives: One objective per image; or a single one for all images, which may compare them.
        seeds: Seed of each image.
        names: Hash of each image's recipe, which names its file.
        settings: Further arguments of `fv.render`.
    """

    objectives: tuple[Any, ...]
    seeds: tuple[int, ...]
    names: tuple[str, ...]
    settings: Mapping[str, Any] = field(hash=False)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.names)

    @property
    def is_joint(self) -> bool:
        """Whether one objective spans all images, so that the batch cannot be split."""
        return len(self.objectives) < len(self.names)

    @classmethod
    def of(
        cls, network: fv.Network, objectives: Sequence[Any], seeds: Sequence[int], store: Store, **settings: Any
    ) -> Batch:
        """Compute the recipe hash of each image, in the precision of the store's other images of the same layers.

        Args:
            network: The network that the images are rendered for.
            objectives: One per seed, or a single one for all seeds.
            seeds: Seed of each image, >= 0.
            store: Where the images will be.
            settings: Further arguments of `fv.render`.

        Returns:
            The batch.

        Raises:
            FeatvizError: The first image cannot be rendered.
        """
        is_joint = len(objectives) < len(seeds)
        together = len(seeds) if is_joint else GPU_BATCH_SIZE if network.device.type == "cuda" else BATCH_SIZE
        first = Template.of(network, objectives[0], seeds[:together], store, is_joint=is_joint, **settings)
        if is_joint:
            names = [first.recipe.only(i).hash for i in range(len(seeds))]
        else:
            names = [first.name(network, *pair) for pair in zip(objectives, seeds, strict=True)]
        return cls(tuple(objectives), tuple(seeds), tuple(names), first.settings)

    def without(self, existing: set[str], size: int = BATCH_SIZE) -> list[Batch]:
        """Return batches of the images that are not rendered yet.

        Args:
            existing: Names of the images that are rendered.
            size: Largest number of images of a batch, unless it is joint.
        """
        left = [i for i, name in enumerate(self.names) if name not in existing]
        if self.is_joint:
            return [self] if left else []
        return [self._only(left[first : first + size]) for first in range(0, len(left), size)]

    def singles(self) -> list[Batch]:
        """Return one batch per image."""
        return [self._only([i]) for i in range(len(self))]

    def _only(self, indices: Sequence[int]) -> Batch:
        return replace(
            self,
            objectives=tuple(self.objectives[i] for i in indices),
            seeds=tuple(self.seeds[i] for i in indices),
            names=tuple(self.names[i] for i in indices),
        )


@dataclass(frozen=True)
class Outcome:
    """Result of rendering one image.

    Args:
        name: Hash of its recipe.
        problem: Why it could not be rendered; empty if it is in the store.
    """

    name: str
    problem: str = ""
