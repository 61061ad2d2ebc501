"""The optimisation loop."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from featviz.engine.argument_checks import check_start, unchecked
from featviz.engine.chunks import Chunks
from featviz.engine.entry_point import entry_point
from featviz.engine.interrupts import delay_interrupt
from featviz.engine.job import Job
from featviz.engine.malloc import keep_freed_memory
from featviz.engine.monitor import Monitor
from featviz.engine.presets import Preset, find_preset
from featviz.engine.reporting import Reporter, copy_images
from featviz.engine.result import Rendering, Robustness
from featviz.engine.several_inputs import (
    InputParamSource,
    InputTransformSource,
    check_one,
    params_of_inputs,
    transforms_of_inputs,
)
from featviz.engine.shorthand import as_optimizer, as_param, as_transforms
from featviz.engine.start import Start
from featviz.engine.step_graphs import StepGraphs
from featviz.errors import SettingError, first_line, warn
from featviz.interfaces import (
    Leaves,
    ObjectiveLike,
    Optimizer,
    Param,
    ProgressSource,
    Size,
    Stepper,
    needs_pixels,
    param_traits_of,
    show_size,
    traits_of,
)
from featviz.io import auto_bar
from featviz.network import Execution, Network, raise_checkpoint_error
from featviz.objectives import ObjectiveSource, as_objectives
from featviz.param.inputs import InputParams

MOVED, SAMPLE_STRIDE = 0.01, 7
"""An image has moved if one of the compared pixels differs from the start by more than the first, in [0, 1]; the second
is the distance in px between compared pixels."""
MIN_VIEWS, MAX_VIEWS, STEPS_PER_VIEW = 4, 16, 32
"""Bounds of the number of random views in which a finished image is scored, and the steps of the render per view."""


@entry_point(any_axes=True, per_image=True, shows_images=True, checks={"seed": unchecked, "start": check_start})
@torch.enable_grad()
def render(
    network: Network,
    objective: ObjectiveSource | Sequence[ObjectiveSource],
    *,
    param: InputParamSource = None,
    size: int | Size | None = None,
    batch: int = 1,
    transforms: InputTransformSource = None,
    optimizer: Optimizer | str | None = None,
    lr: float | None = None,
    quality: str = "usual",
    steps: int | None = None,
    seed: int | Sequence[int] = 0,
    start: Start | None = None,
    snapshots: Collection[int] = (),
    until: int | None = None,
    robustness_views: int | None = None,
    execution: Execution = Execution(),
    progress: ProgressSource | None = auto_bar,
) -> Rendering:
    """Optimise images to maximise an objective.

    Several objectives are rendered as one batch: image *i* maximises its own, and draws from its own random generator.
    The other images of the batch affect it by rounding only: sums run in another order for another batch size.
    Optimisation can amplify that to visible differences in detail, at equal scores (docs/performance.md, "Alone and in
    a batch"). So a recipe holds the whole batch, and `fv.replay` renders the whole batch again.

    Args:
        network: From `fv.load`, or `fv.Network(module, ...)` around your own module.
        objective: Text such as `"stage2:5 - 0.5*logit:spiral"`, an objective, or a sequence of either.
        param: Image parameterization, such as `param.Image(size=224, batch=4)`; the spatial part of one, such as
            `param.Pixel()`; or its text, such as `"cppn"`. `None` for `param.Image()`, with another decay of the
            spectrum for signals, volumes and video. With several optimised inputs, a dict of these by name of the
            input; inputs that are not in the dict get the default.
        size: Height and width of the images in px, or one side; for signals and volumes the length of each axis, as
            (4096,). `None` for the size of the param if it sets one, else that of the start image, else the input size
            of the network (4/7 of it for drafts).
        batch: Number of images of each objective; 1 for the `batch` of the param.
        transforms: One transform or a sequence of them; `()` for none; or text, such as `"lucid"`. `None` for
            the default: none if an objective has the trait `aligned`, else `transforms.NEAR` if the param has the trait
            `close_views`, else `transforms.STANDARD` for images, and the entry of `featviz.transforms.presets.USUAL`
            for signals, volumes and video. With several optimised inputs, a dict of these by name of the input; inputs
            that are not in the dict get the default.
        optimizer: Update rule of the leaf tensors; or its text, such as `"Ascent(lr=2.0)"`. `None` for `Adam()`.
        lr: Initial learning rate of Adam, > 0; `None` for that of `optimizer`.
        quality: `"usual"` (512 steps), `"best"` (1536), or `"draft"`: 216 steps, of images with 4/7 of the sides of the
            network's input, at least 128 px, unless a size is given.
        steps: Number of steps, >= 0. 0 returns the start. `None` for those of `quality`.
        seed: Image *i* draws from `seed + i`, or from the *i*-th of several seeds.
        start: An image file, or images in [0, 1] of shape (c, h, w) or (n, c, h, w), to start from; signals and
            volumes as a .npy, .wav or .nii.gz file, or as `network.input.images(values)` returns them. `None` for the
            param's own initial noise.
        snapshots: Steps after which to keep a copy of the images, >= 1; those after the last step are ignored.
        until: Stop after this many of the steps, as Ctrl-C would. `None` for all steps.
        robustness_views: Number of new random views in which the finished images are scored; 0 skips this. `None` for
            one per 32 steps, from 4 to 16: scores vary between views.
        execution: How the network is run. A precision of `None` is measured once per machine, network and layer.
        progress: Called after every step with the steps done and the number of steps; an `interfaces.ImageProgress` is
            also given the images. `"live"` shows the images as they form in a notebook, the default there, and is a bar
            elsewhere; `"bar"` is a bar, the default in terminals. `None` for none.

    Returns:
        The images, the score of every step and the recipe. After Ctrl-C, the images so far.

    Raises:
        AddressError: The network has no such layer, channel, position or class, or the text cannot be parsed.
        ModelError: The network does not accept images of this size.
        SettingError: An argument is out of its range.
        RenderError: No image receives a gradient, every score became NaN, or memory ran out.
    """
    preset = find_preset(quality)
    objectives = as_objectives(objective)
    own_param, own_transforms = _completed(network, objectives, param, transforms, size, batch, preset, start)
    optimizer = as_optimizer(optimizer, lr)
    steps = preset.steps if steps is None else steps
    _check_counts(steps, until, robustness_views)
    job = Job.prepare(network, objectives, own_param, own_transforms, seed, start, execution, steps)
    last = steps if until is None else min(until, steps)
    first_leaves = [leaf.detach().clone() for leaf in job.leaves]
    run = _optimise(job, optimizer, steps, last, first_leaves, snapshots, robustness_views, progress)
    if run.done and isinstance(own_param, InputParams):
        _warn_of_unchanged(own_param.unchanged(first_leaves, job.leaves), job.names)
    problems = run.monitor.problems(_have_moved(job, first_leaves))
    _warn_of_problems(problems, job.names)
    used = replace(job.execution, chunk_size=run.chunk_size, max_memory=None)
    stopped_at = run.done if run.stopped or run.done < steps else None
    with torch.no_grad():
        images = job.images(job.leaves).cpu()
    return Rendering(
        images,
        run.monitor.history(run.done),
        job.names,
        replace(job.recipe(optimizer, steps), execution=repr(used), until=stopped_at),
        run.snapshots,
        problems,
        alpha=job.has_alpha,
        execution=used,
        redraw=job.redraw(job.leaves),
        robustness=run.robustness,
        plan=run.plan,
        shapes=own_param.shapes if isinstance(own_param, InputParams) else {},
    )


@dataclass(frozen=True)
class _Run:
    """What an optimisation leaves, besides the leaf tensors of its job.

    Args:
        monitor: The scores of every step, and which images got gradients.
        done: Number of steps.
        stopped: Whether Ctrl-C ended it.
        snapshots: Copies of the images, by step.
        robustness: Scores of the finished images in new views; `None` where they were not computed.
        chunk_size: Number of images that ran together; `None` for the whole batch.
        plan: How the steps ran.
    """

    monitor: Monitor
    done: int
    stopped: bool
    snapshots: dict[int, Tensor]
    robustness: Robustness | None
    chunk_size: int | None
    plan: str


def _optimise(
    job: Job,
    optimizer: Optimizer,
    steps: int,
    last: int,
    first_leaves: Leaves,
    snapshots: Collection[int],
    robustness_views: int | None,
    progress: ProgressSource | None,
) -> _Run:
    """Run the steps of a job, up to `last` of `steps` or Ctrl-C, and score the finished images."""
    monitor = Monitor(job.names, steps, job.uses_network, round(job.zero_until * steps), job.minimises)
    stepper = _begin(optimizer, job, steps)
    current_images = partial(job.images, job.leaves)
    report = Reporter(progress, steps, current_images)
    kept: dict[int, Tensor] = {}
    done, stopped, device = 0, False, job.network.device
    with keep_freed_memory(device), job.network.session(job.layers, job.execution) as forward:
        chunks = Chunks(job, forward, last)
        graphs = StepGraphs(job, chunks, stepper, steps, last)
        try:
            while done < last:
                _step(chunks, graphs, stepper, monitor, steps)
                done = monitor.steps
                if done in snapshots:
                    kept[done] = copy_images(current_images)
                report(done)
        except KeyboardInterrupt:
            stopped = True  # return the images so far
        except Exception as error:
            raise_checkpoint_error(error)
            error.add_note(f"while rendering {', '.join(job.names)}, step {done + 1} of {steps}")
            if "backward through the graph a second time" in str(error):
                error.add_note("a module that keeps a tensor for the next pass must detach it: self.last = y.detach()")
            raise
        done = monitor.steps
        graphs.close()
        try:
            robustness = _robustness(job, chunks, first_leaves, done, steps, robustness_views)
        except KeyboardInterrupt:
            robustness, stopped = None, True
    return _Run(monitor, done, stopped, kept, robustness, chunks.chunk_size, graphs.plan(done))


def _step(chunks: Chunks, graphs: StepGraphs, stepper: Stepper, monitor: Monitor, steps: int) -> None:
    """Make a step, by replaying a recorded one where that is possible, and record its scores.

    Ctrl-C comes before or after the update of the leaf tensors and its record, so that a recipe has the right number of
    steps.
    """
    done, wanted = monitor.steps, monitor.wants_gradients
    if not wanted:
        with delay_interrupt():
            scores = graphs.step(done, monitor.redirect)
            if scores is not None:
                monitor.record(scores)
                return
    # Passes are recorded by themselves only where whole steps are not.
    scores, gradients = chunks.backward(
        done / steps, redirect=monitor.redirect, want_gradients=wanted, graph=bool(graphs.obstacle)
    )
    with delay_interrupt():
        stepper.step()
        monitor.record(scores, gradients)


def _completed(
    network: Network,
    objectives: Sequence[ObjectiveLike],
    param: Any,
    transforms: Any,
    size: int | Size | None,
    batch: int,
    preset: Preset,
    start: object,
) -> tuple[Param, Any]:
    """Return the param and the transforms of a render, as values. See `render`, `as_param` and `as_transforms`."""
    if network.inputs:
        params = params_of_inputs(network, param, size, batch, starts=start is not None)
        aligned = any(traits_of(each).aligned for each in objectives)
        return params, transforms_of_inputs(network, params, transforms, aligned=aligned)
    default_size = None if start is not None else preset.size(network)
    given = check_one(network, "param", param)
    own = as_param(given, size, batch, spec=network.input, default_size=default_size, starts=start is not None)
    return own, as_transforms(check_one(network, "transforms", transforms))


def _have_moved(job: Job, first_leaves: Leaves) -> Bool[Tensor, " n"]:
    """Return which images differ clearly from the start."""
    return (_sample(job, job.leaves) - _sample(job, first_leaves)).abs().flatten(1).amax(1) > MOVED


def _sample(job: Job, leaves: Leaves) -> Float[Tensor, "n c *size2"]:
    """Return some pixels of images, at equal distances along each axis."""
    with torch.no_grad():
        images = job.images(leaves)
        some: tuple[Any, ...] = (..., *[slice(None, None, SAMPLE_STRIDE)] * (images.ndim - 2))
        return images[some].clone().cpu()


def _warn_of_problems(problems: Mapping[int, str], names: Sequence[str]) -> None:
    for i, problem in problems.items():
        warn(f"{names[i]}: {problem}")


def _warn_of_unchanged(inputs: tuple[str, ...], names: tuple[str, ...]) -> None:
    """Warn of optimised inputs that the objectives do not depend on."""
    for each in inputs:
        warn(
            f"the input {each!r} did not change, as {', '.join(dict.fromkeys(names))} has no gradient there; choose a "
            f"layer that depends on it, or give it a value with net.with_given({{{each!r}: ...}})"
        )


def _check_counts(steps: int, until: int | None, robustness_views: int | None) -> None:
    if steps < 0:
        raise SettingError(f"steps must be >= 0, got {steps} (default 512; 0 returns the start)")
    if until is not None and until < 0:
        raise SettingError(f"until must be >= 0 or None, got {until}")
    if robustness_views is not None and robustness_views < 0:
        raise SettingError(f"robustness_views must be >= 0, got {robustness_views} (0 skips them)")


def _begin(optimizer: Optimizer, job: Job, steps: int) -> Stepper:
    """Start an optimisation of the leaf tensors of a job."""
    are_images = all(leaf.ndim == 4 for leaf in job.leaves if leaf.requires_grad)
    if needs_pixels(optimizer) and not (are_images and param_traits_of(job.param).pixels):
        raise SettingError(
            f"{optimizer} needs images whose param optimises pixels, got {job.param} for {show_size(job.size)} px; use "
            "param.Image(spatial=param.Pixel()), or declare ParamTraits(pixels=True) for a param of your own"
        )
    return optimizer.begin(job.leaves, steps)


def _robustness(
    job: Job, chunks: Chunks, first_leaves: Leaves, done: int, steps: int, views: int | None
) -> Robustness | None:
    """Score the finished images without transforms and in new random views; `None` where that is not possible.

    All scores, also that of the start, have the weights that the objectives have after the last step.
    """
    views = min(MAX_VIEWS, max(MIN_VIEWS, done // STEPS_PER_VIEW)) if views is None else views
    plain = job.plain_view() if views else None
    if plain is None:
        return None
    share = done / steps if done else 1.0
    try:
        augmented = torch.stack([chunks.score(job.view, job.leaves, share) for _ in range(views)]).cpu()
        start = chunks.score(job.view, first_leaves, share).cpu() if done else augmented.mean(0)
        return Robustness(chunks.score(plain, job.leaves, share).cpu(), augmented, start)
    except Exception as error:  # finished images are worth more than their robustness
        warn(f"the finished images could not be scored: {first_line(error)}")
        return None
