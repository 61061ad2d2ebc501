"""Gradient ascent from a photograph through random crops, with a penalty on the change of an early layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.apps.accentuate.settings import AccentuationSettings
from featviz.engine import Scorer, open_scorer
from featviz.interfaces import ImageProgress, ObjectiveLike, ProgressSource
from featviz.network import Forward
from featviz.random import Generators
from featviz.transforms import apply_transforms, fuse

PROBE_STD = 0.01
"""Standard deviation of the noise that is added to measure the gradient of the distance, 0 at the photograph."""
NO_GRADIENT = (
    "no gradient of {objective} reaches the image: its units are inactive for this photograph; choose another "
    "objective or photograph"
)
NOT_FINITE = "the score of {objective} is not finite at step {step}; check the network's weights, mean and std"


@dataclass(frozen=True)
class AccentuatedImage:
    """The result of an ascent.

    Args:
        images: The image in [0, 1], on the CPU.
        gradient: Sum over steps and channels of the absolute gradient of the objective.
        history: Mean objective over the crops of each step.
    """

    images: Float[Tensor, "1 c h w"]
    gradient: Float[Tensor, "1 1 h w"]
    history: Float[Tensor, " steps"]


@dataclass(frozen=True)
class _Views:
    """Scores crops of an image, and compares them with the same crops of the photograph.

    Args:
        scorer: Scores crops, and captures the early layer.
        early: Runs the network up to the early layer.
        photograph: The photograph, on the network's device.
        settings: The settings.
        size: Height and width of the network's input in px.
        rng: Random numbers, one generator per crop.
    """

    scorer: Scorer
    early: Forward
    photograph: Float[Tensor, "1 c h w"]
    settings: AccentuationSettings
    size: fv.interfaces.Size
    rng: Generators

    def gradients(self, images: Float[Tensor, "1 c h w"], far: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return the mean score of new crops, and the gradients of it and of the mean penalty on the early layer.

        The penalty is the squared distance divided by the length of the photograph's activations.

        Args:
            images: The image, as a leaf tensor with a gradient.
            far: Another image, for the gradient of the distance there, which is not squared, instead of the penalty.

        Raises:
            SettingError: The early layer does not depend on the image.
        """
        layer, channels = self.settings.layer, self.photograph.shape[1]
        # Stacked as channels of one image, all are seen through the same crops.
        stacked = torch.cat([images, self.photograph] if far is None else [images, self.photograph, far], 1)
        stacked = stacked.expand(self.settings.crops, -1, -1, -1)
        views, _ = apply_transforms(stacked, fuse((self.settings.transform(self.size),)), self.rng)
        crops, reference, *others = (each.clone() for each in views.split(channels, 1))
        acts = self.scorer.activations(crops)
        if self.settings.weight and not acts[layer].requires_grad:
            raise fv.SettingError(f"layer must depend on the image, got {layer!r}; give an early layer that does")
        score = self.scorer.scores(acts)[:, 0].mean()
        (gradient,) = torch.autograd.grad(score, images, retain_graph=True)
        if not self.settings.weight:
            return score.detach(), gradient, torch.zeros_like(gradient)
        with torch.no_grad():
            target = self.early(reference)[layer]
        values = self.early(others[0])[layer] if others else acts[layer]
        distance = torch.linalg.vector_norm((values - target).flatten(1), dim=1)
        if far is None:
            # Not from the norm, whose gradient is not defined for equal activations.
            length = torch.linalg.vector_norm(target.flatten(1), dim=1).clamp(min=1e-12)
            distance = (values - target).flatten(1).abs().square().sum(1) / length  # of complex numbers, too
        return score.detach(), gradient, torch.autograd.grad(distance.mean(), images if far is None else far)[0]


def ascend(
    network: fv.Network,
    photograph: Float[Tensor, "1 c h w"],
    objective: ObjectiveLike,
    settings: AccentuationSettings,
    seed: int,
    until: int | None,
    progress: ProgressSource | None,
) -> AccentuatedImage:
    """Maximise an objective, starting from a photograph.

    Args:
        network: The network.
        photograph: In [0, 1].
        objective: The objective to maximise.
        settings: The settings, with a layer.
        seed: Seed of the crops.
        until: Stop after this many of the steps; `None` for all.
        progress: Called after every step.

    Returns:
        The image, its accumulated gradient and the scores. After Ctrl-C, those so far.

    Raises:
        RenderError: No gradient reaches the image, or the score is not finite.
    """
    photograph = photograph.to(network.device)
    size = (photograph.shape[2], photograph.shape[3])
    param = fv.param.Image(size)
    leaves = [leaf.requires_grad_() for leaf in param.fit(photograph)]
    stepper = settings.optimizer().begin(leaves, settings.steps)
    total, history, ratio = torch.zeros_like(photograph), [], 0.0
    opened = open_scorer(network, objective, network.size, layers=[settings.layer])
    with opened as scorer, network.session([settings.layer]) as early, torch.enable_grad():
        rng = Generators(range(seed, seed + settings.crops))
        views = _Views(scorer, early, photograph, settings, network.size, rng)
        try:
            for step in range(settings.steps if until is None else min(until, settings.steps)):
                images = param.images(leaves, size)
                far = _noisy(photograph, seed) if step == 0 else None
                score, gradient, back = views.gradients(images, far)
                _check(objective, step, score, gradient)
                if step == 0:  # the distance has no gradient at 0, hence the ratio is measured at a noisy photograph
                    ratio = float(gradient.abs().sum() / back.abs().sum().clamp(min=1e-12))
                    back = torch.zeros_like(back)
                images.backward(settings.weight * ratio * back - gradient)
                stepper.step()
                total += gradient.abs()
                history.append(score)
                if progress is not None:
                    _report(progress, step + 1, settings.steps, param, leaves)
        except KeyboardInterrupt:
            pass  # return the image so far
        with torch.no_grad():
            images = param.images(leaves, size)
    scores = torch.stack(history).cpu() if history else torch.empty(0)
    return AccentuatedImage(images.detach().cpu(), total.sum(1, keepdim=True).cpu(), scores)


def _noisy(photograph: Float[Tensor, "1 c h w"], seed: int) -> Float[Tensor, "1 c h w"]:
    """Return the photograph with a little noise, as a leaf tensor with a gradient."""
    noise = PROBE_STD * Generators([seed]).normal(*photograph.shape[1:]).to(photograph.device)
    return (photograph + noise).requires_grad_()


def _check(objective: ObjectiveLike, step: int, score: Tensor, gradient: Tensor) -> None:
    """Check a step.

    Raises:
        RenderError: The score is not finite, or the first gradient is 0.
    """
    if not bool(score.isfinite()):
        raise fv.RenderError(NOT_FINITE.format(objective=objective, step=step + 1))
    if step == 0 and not bool(gradient.any()):
        raise fv.RenderError(NO_GRADIENT.format(objective=objective))


def _report(progress: ProgressSource, done: int, steps: int, param: fv.param.Image, leaves: list[Tensor]) -> None:
    """Report a step, with the image where it is wanted."""
    assert callable(progress)  # `entry_point` replaces names
    progress(done, steps)
    if isinstance(progress, ImageProgress) and progress.wants_images(done, steps):
        with torch.no_grad():
            progress.show(done, steps, param.images(leaves, param.size or (0, 0)).cpu())
