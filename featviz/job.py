"""What one call of `render` works on: every argument checked and completed before the first step."""

from __future__ import annotations

import operator
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.nn import Module

from featviz import __version__
from featviz.activations import Activations
from featviz.errors import ModelError, RenderError, SettingError
from featviz.lens import Lens, sides_of
from featviz.memory import is_out_of_memory
from featviz.network import Network
from featviz.objectives import parse
from featviz.output import read_image
from featviz.param import Image
from featviz.picture import check_numbers
from featviz.plan import Plan
from featviz.protocols import (
    Binding,
    Geometric,
    Leaves,
    Optimizer,
    Param,
    Scene,
    Scorer,
    Size,
    Spatial,
    Transform,
    Transforms,
)
from featviz.random import Generators
from featviz.recipe import EXPECTS, Recipe, classes_of, files_of, fingerprint
from featviz.transforms import NEAR, STANDARD, Resize
from featviz.tuning import settle

Goal = str | Scorer
Start = str | Path | Float[Tensor, "... c h w"] | Float[np.ndarray, "... c h w"]


@dataclass(frozen=True)
class Job:
    """One batch of pictures to make.

    Args:
        network: what looks at them.
        objectives: as they were given; picture *i* gets number *i* // `param.batch`.
        scorers: the same, ready for this render.
        param: what is optimised.
        transforms: as they were given.
        lens: the transforms, as the network looks through them.
        size: height and width of the pictures in px.
        seeds: one for each picture.
        rng: draws from them.
        start: what to begin from, as it was given.
        begin: the same as images; `None` means the param's own noise.
        leaves: what will be optimised.
        has_alpha: whether the pictures' last channel is alpha.
        plan: how the network is run.
    """

    network: Network
    objectives: tuple[Scorer, ...]
    scorers: tuple[Scorer, ...]
    param: Param
    transforms: Transforms
    lens: Lens
    size: Size
    seeds: tuple[int, ...]
    rng: Generators
    start: Start | None
    begin: Float[Tensor, "n c h w"] | None
    leaves: Leaves
    has_alpha: bool
    plan: Plan

    @classmethod
    def of(
        cls,
        network: Network,
        objective: Goal | Sequence[Goal],
        param: Param | Spatial | None,
        transforms: Transforms | Transform | Geometric | None,
        seed: int | Sequence[int],
        start: Start | None,
        plan: Plan,
        steps: int,
    ) -> Job:
        """Check and complete what `render` was given; its docstring says what may be raised."""
        if not isinstance(network, Network):
            found = f"{type(network).__name__} is no network"
            raise SettingError(f"{found}; give fv.load(name), or fv.Network(module, size=..., mean=..., std=...)")
        if not isinstance(plan, Plan):
            raise SettingError(f"{plan!r} is no plan; give fv.Plan(...), as fv.Plan('float32')")
        whole = _param(param)
        objectives = _objectives(objective, whole)
        seeds = _seeds(seed, len(objectives) * whole.batch)
        rng = Generators(seeds)
        start = torch.from_numpy(start) if isinstance(start, np.ndarray) else start
        begin = None if start is None else _begin(start, network.channels, len(seeds))
        size = whole.size or (network.size if begin is None else sides_of(begin))
        try:
            leaves = whole.start(rng, network.channels, size) if begin is None else whole.fit(_fitting(begin, size))
            leaves = [leaf.to(network.device).requires_grad_() for leaf in leaves]
            with torch.no_grad():
                canvas = whole.images(leaves, size)
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                raise RenderError(f"out of memory with {size[0]} x {size[1]} px; give a smaller size") from error
            raise
        transforms = _transforms(transforms, whole)
        lens = Lens.of(transforms, network, canvas, plan.tile)
        for goal in objectives:
            lens.check(goal)
        scene = Scene(network.capture, network.channels, size, lens.tile)
        scorers = tuple(goal.bind(scene) if isinstance(goal, Binding) else goal for goal in objectives)
        return cls(
            network,
            objectives,
            scorers,
            whole,
            transforms,
            lens,
            size,
            seeds,
            rng,
            start,
            begin,
            leaves,
            has_alpha=canvas.shape[1] == network.channels + 1,
            plan=settle(network, _layers(objectives), len(seeds), lens.tile, plan, steps * len(lens.tiles)),
        )

    @property
    def layers(self) -> frozenset[str]:
        """The layers to capture."""
        return _layers(self.objectives)

    @property
    def seen(self) -> tuple[bool, ...]:
        """For each picture, whether its objective asks the network anything."""
        return tuple(bool(objective.layers) for objective in self.objectives for _ in range(self.param.batch))

    @property
    def silent(self) -> float:
        """For which share of the steps an objective may ask for nothing."""
        return max(getattr(objective, "silent", 0.0) for objective in self.objectives)

    @property
    def names(self) -> tuple[str, ...]:
        """What each picture shows."""
        return tuple(str(objective) for objective in self.objectives for _ in range(self.param.batch))

    def images(self, leaves: Leaves) -> Float[Tensor, "n c h w"]:
        """Turn leaves into images in [0, 1]."""
        return self.param.images(leaves, self.size)

    def again(self, leaves: Leaves) -> Callable[[Size], Tensor] | None:
        """Return what draws the leaves at any size, where the param can."""
        if not getattr(self.param, "scales", False):
            return None
        return partial(self.param.images, [leaf.detach().cpu() for leaf in leaves])

    @property
    def units(self) -> list[slice]:
        """Pictures that belong together, because something compares them: most often each is a unit of its own."""
        each = self.param.batch
        if getattr(self.param, "couples", False):
            return [slice(0, len(self.seeds))]
        sizes = [
            each if getattr(objective, "couples", False) or getattr(objective, "whole", False) else 1
            for objective in self.objectives
        ]
        return [
            slice(first, first + size)
            for i, size in enumerate(sizes)
            for first in range(i * each, (i + 1) * each, size)
        ]

    @property
    def plain(self) -> Lens | None:
        """The pictures as they are, whole; `None` where the network or an objective cannot see them so.

        An objective that compares places, or is about one, means those of the views, so the whole is brought to that.
        """
        with torch.no_grad():
            canvas = self.images(self.leaves)
        places = any(getattr(goal, "whole", False) or getattr(goal, "placed", False) for goal in self.objectives)
        try:
            lens = Lens.of((Resize(self.lens.view),) if places else (), self.network, canvas, self.plan.tile)
            for goal in self.objectives:
                lens.check(goal)
        except (ModelError, SettingError):
            return None
        return lens

    def scores(self, acts: Activations, some: slice) -> Float[Tensor, " n"]:
        """Score some of the pictures, each by its own objective."""
        each = self.param.batch
        owners = range(some.start // each, (some.stop - 1) // each + 1)
        sizes = [min(some.stop, (i + 1) * each) - max(some.start, i * each) for i in owners]
        scores = []
        for i, size, part in zip(owners, sizes, acts.split(sizes), strict=True):
            score = self.scorers[i](part)
            shape = tuple(score.shape) if isinstance(score, Tensor) else type(score).__name__
            if shape != (size,):
                asked = f"an objective gives one score per image, here ({size},)"
                raise SettingError(f"{self.objectives[i]} gave {shape}; {asked}")
            scores.append(score)
        return torch.cat(scores)

    def recipe(self, optimizer: Optimizer, steps: int) -> Recipe:
        """Write down what will be done."""
        objectives = tuple(repr(objective) for objective in self.objectives)
        return Recipe(
            model=self.network.name,
            weights=self.network.weights,
            fingerprint=self.network.fingerprint,
            expects={key: getattr(self.network, key) for key in EXPECTS},
            objectives=objectives,
            param=repr(self.param),
            transforms=repr(self.transforms),
            optimizer=repr(optimizer),
            plan=repr(self.plan),
            files=files_of(*self.objectives, self.param),
            classes=classes_of(self.network.heads, *self.objectives),
            size=self.size,
            steps=steps,
            until=None,
            seeds=self.seeds,
            start=None if self.start is None else Recipe.TENSOR if isinstance(self.start, Tensor) else str(self.start),
            start_fingerprint=None if self.begin is None else fingerprint(self.begin),
            machine={
                "featviz": __version__,
                "torch": torch.__version__,
                "device": str(self.network.device),
                "processor": platform.machine(),
                "threads": str(torch.get_num_threads()),
            },
        )


def _objectives(objective: Goal | Sequence[Goal], param: Param) -> tuple[Scorer, ...]:
    several = list(objective) if isinstance(objective, Sequence) and not isinstance(objective, str) else [objective]
    if not several:
        raise SettingError("nothing to render; give at least one objective")
    for goal in several:
        if not isinstance(goal, str | Scorer):
            hint = "; decorate the function with @objectives.objective('layer')" if callable(goal) else ""
            raise SettingError(f"{goal!r} is no objective{hint or '; give text as layer:channel, or an objective'}")
    objectives = tuple(parse(goal) if isinstance(goal, str) else goal for goal in several)
    for goal in objectives:
        if getattr(goal, "couples", False) and param.batch == 1:
            raise SettingError(f"{goal} compares pictures of a batch, and there is one; give batch=4, or --batch 4")
    if getattr(param, "couples", False) and len(objectives) > 1:
        raise SettingError(f"{param} ties the pictures of a batch together; render one objective at a time")
    return objectives


def _layers(objectives: Sequence[Scorer]) -> frozenset[str]:
    return frozenset().union(*(objective.layers for objective in objectives))


def _param(param: Param | Spatial | None) -> Param:
    if param is None:
        return Image()
    if isinstance(param, Param):
        return param
    if isinstance(param, Spatial):
        return Image(spatial=param)
    raise SettingError(f"{param!r} is no param; give param.image(...), or a spatial part such as param.Pixel()")


def _seeds(seed: int | Sequence[int], count: int) -> tuple[int, ...]:
    seed = seed.tolist() if isinstance(seed, np.ndarray | Tensor) else seed
    if not isinstance(seed, Sequence):
        seed = range(operator.index(seed), operator.index(seed) + count)
    seeds = tuple(map(operator.index, seed))
    if len(seeds) != count:
        raise SettingError(f"{len(seeds)} seeds for {count} pictures; give one for each, or a single one")
    if min(seeds) < 0 or max(seeds) >= 2**63:
        raise SettingError(f"seeds {min(seeds)} to {max(seeds)} are out of range; give 0 or more, below 2**63")
    return seeds


def _begin(start: str | Path | Tensor, channels: int, count: int) -> Float[Tensor, "n c h w"]:
    image = start if isinstance(start, Tensor) else torch.from_numpy(read_image(start, channels))
    image = image[None] if image.ndim == 3 else image
    if image.ndim != 4 or image.shape[0] not in (1, count) or image.shape[1] != channels:
        shape = tuple(image.shape)
        raise SettingError(f"start has shape {shape}; give ({channels}, h, w) or ({count}, {channels}, h, w) in [0, 1]")
    check_numbers(image, "start")
    return image.detach().float().cpu().expand(count, -1, -1, -1).clone()


def _fitting(images: Float[Tensor, "n c h w"], size: Size) -> Float[Tensor, "n c h2 w2"]:
    """Resize images whose shape is already right, to within a pixel."""
    height, width = sides_of(images)
    if abs(height * size[1] / width - size[0]) > 1:
        raise SettingError(
            f"start is {height} x {width} px, the picture {size[0]} x {size[1]}; cut it to that shape first"
        )
    return images if (height, width) == size else F.interpolate(images, size, mode="bilinear", antialias=True)


def _transforms(transforms: Transforms | Transform | Geometric | None, param: Param) -> Transforms:
    if transforms is None:
        return NEAR if getattr(param, "near", False) else STANDARD
    if isinstance(transforms, str):
        known = ", ".join(f"transforms.{name}" for name in ("STANDARD", "NEAR", "LUCID"))
        raise SettingError(f"{transforms!r} is text; give {known}, or a tuple of transforms")
    whole = tuple(transforms) if isinstance(transforms, Sequence) else (transforms,)
    for transform in whole:
        if not isinstance(transform, Transform | Geometric | Module):
            raise SettingError(f"{transform!r} is no transform; it needs draw and apply, or place")
    return whole
