"""The one loop."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.errors import FeatvizWarning, SettingError
from featviz.health import Health
from featviz.job import Goal, Job, Start
from featviz.memory import keeping
from featviz.network import Network
from featviz.optimizers import Adam
from featviz.parts import Parts
from featviz.plan import Plan
from featviz.protocols import Geometric, Optimizer, Param, Progress, Spatial, Transform, Transforms
from featviz.rendering import Rendering, Trust


@torch.inference_mode(False)
@torch.enable_grad()
def render(
    network: Network,
    objective: Goal | Sequence[Goal],
    *,
    param: Param | Spatial | None = None,
    transforms: Transforms | Transform | Geometric | None = None,
    optimizer: Optimizer = Adam(),
    steps: int = 512,
    seed: int | Sequence[int] = 0,
    start: Start | None = None,
    snapshots: Collection[int] = (),
    until: int | None = None,
    trials: int = 4,
    plan: Plan = Plan(),
    progress: Progress | None = None,
) -> Rendering:
    """Optimise pictures until the network sees in them what the objective asks for.

    Several objectives are one batch: picture *i* gets its own, and does not depend on its neighbours.

    Args:
        network: from `fv.load`, or a `Network` around your own module.
        objective: an expression such as `"stage2:5 - 0.5*logit:spiral"`, an objective, or several of either.
        param: what is optimised; `None` means `param.image()`; a bare spatial part such as `Pixel()` will do.
        transforms: how the pictures are looked at: one, or several in a row; `()` for not at all. `None` means
            `STANDARD`, or `NEAR` for a param that wants to be seen from close by.
        optimizer: how they follow the gradient.
        steps: how many.
        seed: picture *i* draws from `seed + i`, or from the *i*-th of several seeds.
        start: an image file, or an image in [0, 1], to begin from; `None` means the param's own noise.
        snapshots: steps after which to keep the pictures as they are.
        until: stop after this many of the steps, as Ctrl-C would.
        trials: in how many fresh views to score the finished pictures, beside as they are; 0 leaves trust out.
        plan: how the network is run; what it leaves open is measured once for each machine, network and layer.
        progress: called after every step with the steps done and the steps in all.

    Returns:
        The pictures, the score of every step, and the recipe. After Ctrl-C, what there is so far.

    Raises:
        AddressError: the network has no such unit, or the expression cannot be read.
        ModelError: the network does not take pictures of this size.
        SettingError: an argument is out of its range.
        RenderError: no picture has any gradient, or every score stopped being a number.
    """
    if steps < 0:
        raise SettingError(f"steps {steps} is below 0; give 0 for the start alone, 512 is usual")
    if until is not None and until < 0:
        raise SettingError(f"until {until} is below 0; give a step to stop after")
    if trials < 0:
        raise SettingError(f"trials {trials} is below 0; give 0 for none, 4 is usual")
    if not isinstance(optimizer, Optimizer):
        raise SettingError(f"{optimizer!r} is no optimizer; give fv.Adam(...), or what has its `begin`")
    job = Job.of(network, objective, param, transforms, seed, start, plan, steps)
    leaves, health = job.leaves, Health(job.names, steps, job.seen, round(job.silent * steps))
    stepper, last = optimizer.begin(leaves, steps), steps if until is None else min(until, steps)
    kept: dict[int, Tensor] = {}
    done = 0
    with keeping(network.device), network.watch(job.layers, job.plan) as see:
        parts = Parts(job, see)
        try:
            while done < last:
                health.note(parts.climb(health, done / steps))
                stepper.step()
                done += 1
                if done in snapshots:
                    kept[done] = job.images(leaves).detach().cpu()
                if progress:
                    progress(done, steps)
        except KeyboardInterrupt:
            pass  # what there is so far is worth having
        except Exception as error:
            error.add_note(f"while rendering {', '.join(job.names)}, step {done + 1} of {steps}")
            raise
        trust = _trust(job, parts, health.history(done), trials)
    plan = replace(job.plan, at_once=parts.at_once, max_memory=None)
    with torch.no_grad():
        pictures = job.images(leaves).cpu()
    return Rendering(
        pictures,
        health.history(done),
        job.names,
        replace(job.recipe(optimizer, steps), plan=repr(plan), until=None if done == steps else done),
        kept,
        health.verdict(),
        alpha=job.has_alpha,
        again=job.again(leaves),
        plan=plan,
        trust=trust,
    )


def _trust(job: Job, parts: Parts, history: Float[Tensor, "steps n"], trials: int) -> Trust | None:
    """Score the finished pictures as they are and in fresh views, where that can be done and was asked for."""
    plain = job.plain if trials else None
    if plain is None:
        return None
    try:
        fresh = torch.stack([parts.score(job.lens) for _ in range(trials)]).cpu()
        return Trust(parts.score(plain).cpu(), fresh, history[0] if len(history) else fresh.mean(0))
    except KeyboardInterrupt:
        return None  # the pictures are worth more
    except Exception as error:
        warnings.warn(f"the finished pictures have no score: {error}", FeatvizWarning, stacklevel=3)
        return None
