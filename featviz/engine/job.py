"""The prepared render: every argument of `render` checked and completed before the first step."""

from __future__ import annotations

import operator
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from itertools import islice
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from featviz.engine.autotune import autotune
from featviz.engine.binding import bind, checked_scores
from featviz.engine.memory import check_fits
from featviz.engine.recipe import Recipe, classes_of, files_of, fingerprint
from featviz.engine.shorthand import transform_tuple
from featviz.engine.start import Start, first_images, image_size, load_start
from featviz.engine.view import View
from featviz.errors import ModelError, SettingError, pluralize, shown
from featviz.interfaces import (
    Geometric,
    Leaves,
    ObjectiveLike,
    Optimizer,
    Param,
    Size,
    Transform,
    Transforms,
    param_traits_of,
    traits_of,
)
from featviz.io.array import as_tensor
from featviz.network import CODES, Execution, Network
from featviz.network.activations import Activations
from featviz.objectives import Objective
from featviz.param.inputs import InputParams
from featviz.random import Generators
from featviz.transforms import Resize
from featviz.transforms.inputs import InputTransforms
from featviz.transforms.presets import default_transforms


@dataclass(frozen=True)
class Job:
    """One batch of images to optimise.

    Args:
        network: The network.
        objectives: The objectives as given. Image *i* has number *i* // `param.batch`.
        bound_objectives: The objectives bound to this render.
        param: The image parameterization.
        transforms: The transforms as given.
        view: The fused transforms and the tiles.
        size: Length of each axis of the images in px, as height and width.
        seeds: One per image.
        rng: Random generators with these seeds.
        start: What to start from, as given.
        start_images: `start` as images in [0, 1]; `None` for the param's own initial noise.
        leaves: The leaf tensors to optimise.
        has_alpha: Whether the last channel of the images is alpha.
        execution: How the network is run.
    """

    network: Network
    objectives: tuple[ObjectiveLike, ...]
    bound_objectives: tuple[ObjectiveLike, ...]
    param: Param
    transforms: Transforms
    view: View
    size: Size
    seeds: tuple[int, ...]
    rng: Generators
    start: Start | None
    start_images: Float[Tensor, "n c *size"] | None
    leaves: Leaves
    has_alpha: bool
    execution: Execution
    _known_runs: dict[tuple[int, int], list[list[int]]] = field(default_factory=dict, init=False)

    @classmethod
    def prepare(
        cls,
        network: Network,
        objectives: tuple[ObjectiveLike, ...],
        param: Param,
        transforms: Transforms | Transform | Geometric | None,
        seed: int | Sequence[int],
        start: Start | None,
        execution: Execution,
        steps: int,
    ) -> Job:
        """Check and complete the arguments of `render`, whose docstring describes them and the errors."""
        _check_batch(objectives, param)
        start = as_tensor("start", start) if isinstance(start, np.ndarray) else start
        count = len(objectives) * param.batch
        _check_given(network, count)
        start_images = None if start is None else load_start(start, network, count)
        size = image_size(param, network, start_images)
        check_fits(count, network.channels, size)
        seeds = _seeds(seed, count)
        rng = Generators(seeds)
        leaves, images = first_images(param, rng, network, size, start_images)
        aligned = any(traits_of(each).aligned for each in objectives)
        transforms = _complete_transforms(transforms, param, network, aligned=aligned)
        view = View.prepare(transforms, network, images, execution.tile, _layers(objectives))
        for each in objectives:
            view.check(each)
        passes = steps * len(view.tiles)
        return cls(
            network=network,
            objectives=objectives,
            bound_objectives=bind(objectives, network, size, view.tile),
            param=param,
            transforms=transforms,
            view=view,
            size=size,
            seeds=seeds,
            rng=rng,
            start=start,
            start_images=start_images,
            leaves=leaves,
            has_alpha=images.shape[1] == network.channels + 1,
            execution=autotune(network, _layers(objectives), len(seeds), view.tile, execution, passes),
        )

    # ------------------------------------------------------------------------------------------ facts

    @property
    def layers(self) -> frozenset[str]:
        """Names of the layers to capture."""
        return _layers(self.objectives)

    @property
    def uses_network(self) -> tuple[bool, ...]:
        """For each image, whether its objective has layers; others are about the image alone."""
        return tuple(bool(objective.layers) for objective in self.objectives for _ in range(self.param.batch))

    @property
    def zero_until(self) -> float:
        """Fraction of the steps during which an objective may be zero."""
        return max(traits_of(objective).zero_until for objective in self.objectives)

    @property
    def names(self) -> tuple[str, ...]:
        """Name of the objective of each image."""
        return tuple(str(objective) for objective in self.objectives for _ in range(self.param.batch))

    @property
    def minimises(self) -> list[bool]:
        """Whether the objective of each image has a negative sign."""
        signs = [isinstance(each, Objective) and each.is_negative for each in self.objectives]
        return [sign for sign in signs for _ in range(self.param.batch)]

    @property
    def packing(self) -> dict[str, Any]:
        """Shapes needed to unpack several inputs; empty for one input."""
        return {"shapes": self.param.shapes} if isinstance(self.param, InputParams) else {}

    @property
    def groups(self) -> list[slice]:
        """Images that must run together because an objective or the param relates them; often one image each."""
        batch = self.param.batch
        if param_traits_of(self.param).couples_batch:
            return [slice(0, len(self.seeds))]
        traits = [traits_of(objective) for objective in self.objectives]
        sizes = [batch if each.compares_images or each.needs_full_view else 1 for each in traits]
        return [
            slice(first, first + size)
            for i, size in enumerate(sizes)
            for first in range(i * batch, (i + 1) * batch, size)
        ]

    def plain_view(self) -> View | None:
        """Return a view of the finished images without transforms.

        Objectives that depend on position are scored at view size, so the images are resized to it. It is `None` where
        the network or an objective cannot be applied to the images.
        """
        with torch.no_grad():
            images = self.images(self.leaves)
        traits = [traits_of(objective) for objective in self.objectives]
        positional = any(each.needs_full_view or each.depends_on_position for each in traits)
        transforms: Transforms = (Resize(self.view.size),) if positional else ()
        if self.network.inputs:  # packed images have no size to which they could be resized
            transforms = tuple(each.without_transforms for each in self.transforms if isinstance(each, InputTransforms))
        try:
            view = View.prepare(transforms, self.network, images, self.execution.tile, self.layers)
            for each in self.objectives:
                view.check(each)
        except (ModelError, SettingError):
            return None
        return view

    # ------------------------------------------------------------------------------------------ what a step needs

    def images(self, leaves: Leaves) -> Float[Tensor, "n c *size"]:
        """Compute the images in [0, 1] from leaf tensors."""
        return self.param.images(leaves, self.size)

    def rows_of(self, leaves: Leaves, rows: slice) -> Leaves:
        """Return the rows of leaf tensors of all images; the whole tensors where images share them."""
        return leaves if param_traits_of(self.param).couples_batch else [leaf[rows] for leaf in leaves]

    def scores(self, acts: Activations, rows: slice) -> Float[Tensor, " n"]:
        """Score images, each by its own objective.

        Raises:
            SettingError: An objective does not return one score per image.
        """
        runs = self._fused_runs(rows)
        # The gradient of a split copies the whole layer.
        parts = acts.split([len(numbers) for numbers in runs]) if len(runs) > 1 else [acts]
        scores = []
        for numbers, part in zip(runs, parts, strict=True):
            members: list[Any] = [self.bound_objectives[number] for number in numbers]
            # One objective may compare its images; several with one key score each image by its own.
            score = members[0](part) if numbers[0] == numbers[-1] else members[0].score_fused(members, part)
            scores.append(checked_scores(score, len(members), self.objectives[numbers[0]]))
        return torch.cat(scores)

    def _fused_runs(self, rows: slice) -> list[list[int]]:
        """Return the number of the objective of each image, in one list for those that are scored together."""
        known = self._known_runs.get((rows.start, rows.stop))
        if known is not None:
            return known
        runs: list[list[int]] = []
        for i in range(rows.start, rows.stop):
            number = i // self.param.batch
            last = runs[-1][-1] if runs else None
            own = self.bound_objectives
            if last is not None and (last == number or _are_fused(own[last], own[number])):
                runs[-1].append(number)
            else:
                runs.append([number])
        self._known_runs[rows.start, rows.stop] = runs
        return runs

    def redraw(self, leaves: Leaves) -> Callable[[Size], Tensor] | None:
        """Return a function that draws the images at any size; `None` where the param has one size only."""
        if not param_traits_of(self.param).any_size:
            return None
        return partial(self.param.images, [leaf.detach().cpu() for leaf in leaves])

    def recipe(self, optimizer: Optimizer, steps: int) -> Recipe:
        """Return the recipe of this render."""
        start = Recipe.TENSOR if isinstance(self.start, Tensor) else self.start
        return Recipe(
            model=self.network.name,
            weights=self.network.weights,
            fingerprint=self.network.fingerprint,
            input=self.network.input,
            inputs=tuple(self.network.inputs.items()),
            smooth_pools=self.network.smooth_pools,
            head=self.network.head,
            given={name: (each.rows, each.shown, each.fingerprint) for name, each in self.network.given.items()},
            outputs=self.network.outputs if isinstance(self.network.outputs, str) else None,
            texts=self.network.texts,
            objectives=tuple(repr(objective) for objective in self.objectives),
            param=repr(self.param),
            transforms=repr(self.transforms),
            optimizer=repr(optimizer),
            execution=repr(self.execution),
            files=files_of(*self.objectives, self.param, self.transforms),
            classes=classes_of(self.network.heads, *self.objectives),
            dictionaries={
                layer: (each.file, each.fingerprint)
                for layer, each in self.network.dictionaries.items()
                if f"{layer}{CODES}" in self.layers
            },
            size=self.size,
            steps=steps,
            until=None,
            seeds=self.seeds,
            start=None if start is None else str(start),
            start_fingerprint=None if self.start_images is None else fingerprint(self.start_images),
            machine={
                "featviz": version("featviz"),
                "torch": torch.__version__,
                "device": str(self.network.device),
                "processor": platform.machine(),
                "threads": str(torch.get_num_threads()),
            },
        )


# ---------------------------------------------------------------------------------------------- arguments


def _are_fused(one: ObjectiveLike, two: ObjectiveLike) -> bool:
    """Whether two objectives are scored together."""
    if not isinstance(one, Objective) or not isinstance(two, Objective):
        return False
    return one.fused_key is not None and one.fused_key == two.fused_key


def _check_batch(objectives: Sequence[ObjectiveLike], param: Param) -> None:
    """Check that objectives that compare images get several, and that images that share tensors get one objective.

    Raises:
        SettingError: An objective gets one image to compare, or a param shares tensors between objectives.
    """
    for each in objectives:
        if traits_of(each).compares_images and param.batch == 1:
            raise SettingError(f"{each} compares images of a batch, and there is one; use batch=4, or --batch 4")
    if param_traits_of(param).couples_batch and len(objectives) > 1:
        name = type(param).__name__
        raise SettingError(f"{name} shares tensors between the images of a batch; render one objective at a time")


def _check_given(network: Network, count: int) -> None:
    """Check that inputs that are given per image are for the images of the render.

    Raises:
        SettingError: Inputs are given per image, for another number of images than those of the render.
    """
    if network.given_count not in (None, count):
        raise SettingError(
            f"{network.label} has inputs per image, for {pluralize(network.given_count, 'image')}, and {count} are "
            f"rendered; give batch={network.given_count}, as many objectives, or other inputs with net.with_given(...)"
        )


def _layers(objectives: Sequence[ObjectiveLike]) -> frozenset[str]:
    return frozenset().union(*(objective.layers for objective in objectives))


def _seeds(seed: int | Sequence[int], count: int) -> tuple[int, ...]:
    try:
        seed = seed.tolist() if isinstance(seed, np.ndarray | Tensor) else seed
        if not isinstance(seed, Sequence):
            seed = range(operator.index(seed), operator.index(seed) + count)
        given = len(seed)
        seeds = tuple(map(operator.index, islice(seed, count + 1)))  # a range may be huge
    except (TypeError, OverflowError, RuntimeError) as error:
        raise SettingError(
            f"seed must be a whole number, or a sequence with one per image, got {shown(seed)}"
        ) from error
    if given != count:
        raise SettingError(f"seed must be one number or one per image, got {given} seeds for {count} images")
    if min(seeds) < 0 or max(seeds) >= 2**63:
        raise SettingError(f"seeds must be in [0, 2**63), got {min(seeds)} to {max(seeds)}")
    return seeds


def _complete_transforms(
    transforms: Transforms | Transform | Geometric | None, param: Param, network: Network, *, aligned: bool
) -> Transforms:
    if transforms is None:
        return default_transforms(param, network.input.axes, aligned=aligned)
    return transform_tuple(transforms)
