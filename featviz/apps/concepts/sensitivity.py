"""The TCAV score: how often a score rises along the direction of a concept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.apps.shared.activations.image_batches import SkippedFiles, image_batches
from featviz.apps.shared.arguments.targets import Target, as_target
from featviz.engine import open_scorer
from featviz.io import images_in
from featviz.network import CODES

BATCH = 16
"""Number of photographs whose gradients are computed at once."""


def concept_sensitivity(
    dictionary: fv.Dictionary,
    network: fv.Network,
    photographs: Path,
    target: Target,
    progress: Callable[[int, int], None] | None,
) -> float:
    """Return the share of photographs in which a score rises along a direction. See `fv.Concept.sensitivity`."""
    objective, skipped, count = as_target(target), SkippedFiles(photographs), sum(1 for _ in images_in(photographs))
    attached = network.with_dictionary(dictionary.layer, dictionary)
    codes = dictionary.layer + CODES
    rising = total = 0
    reached = False
    with open_scorer(attached, objective, network.size, layers=[codes]) as scorer, torch.enable_grad():
        batches = image_batches(photographs, size=network.size, channels=network.channels, batch=BATCH, skipped=skipped)
        for batch in batches:
            acts = scorer.activations(batch.images.to(network.device).requires_grad_())
            derivative = _derivative(scorer.scores(acts)[:, 0], acts[codes])
            reached |= bool(derivative.any())
            rising, total = rising + int((derivative > 0).sum()), total + len(derivative)
            if progress:
                progress(batch.read, count)
    if not total:
        raise skipped.error()
    skipped.warn()
    if not reached:
        raise fv.SettingError(
            f"{objective} does not depend on layer {dictionary.layer!r} in these photographs; give a later target"
        )
    return rising / total


def _derivative(scores: Float[Tensor, " n"], codes: Tensor) -> Float[Tensor, " n"]:
    """Return the derivative of each score along the direction, at all positions together.

    With the code of a feature of unit length, the decoder adds the direction itself to the activations. The score of an
    image depends on this image only, so the gradient of the sum holds the gradient of each.
    """
    (gradient,) = torch.autograd.grad(scores.sum(), codes, allow_unused=True)
    return torch.zeros_like(scores) if gradient is None else gradient.flatten(1).sum(1)
