"""Check that mean, std and channel order are those with which the network was trained."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

import featviz as fv
from featviz.apps.doctor.dead_leaves import dead_leaves
from featviz.apps.doctor.findings import Finding, normalisation_options
from featviz.apps.shared.judging.predictions import predict
from featviz.network import OUTPUT

NORMALISATIONS: dict[str, tuple[float | tuple[float, ...], float | tuple[float, ...]]] = {
    "ImageNet's mean and std": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "MNIST's mean and std": ((0.1307,), (0.3081,)),
    "pixels in [-1, 1]": (0.5, 0.5),
    "pixels in [0, 1]": (0.0, 1.0),
    "pixels in [0, 255]": (0.0, round(1 / 255, 6)),
    "pixels in [0, 255] minus ImageNet's mean": ((0.485, 0.456, 0.406), round(1 / 255, 6)),
}
"""Common normalisations, as mean and std of images in [0, 1]; a number stands for all channels."""

MIN_GAIN = 1.05
"""Minimum gain in prediction information, as a factor, before another normalisation or channel order is preferred.

MobileNetV2 loses a factor of 1.14 with BGR instead of RGB, and of 1.12 with pixels in [-1, 1] instead of ImageNet's
mean and std. A choice that loses less hardly matters.
"""
MIN_DOUBT = 1.01
"""Gain in prediction information with another normalisation from which the given one is not confirmed."""
MIN_PHOTOGRAPHS = 10
"""Smallest number of photographs whose predictions are used."""
MIN_INFORMATION = 0.6
"""Prediction information that some normalisation must reach, as a share of the maximum, for predictions to be used.

With the right normalisation, trained networks reach 0.75 (MobileNetV2 on one photograph of each of 64 classes) to 0.97.
Convolutional networks with random weights reach up to 0.47 with pixels in [0, 255]. With photographs of 3 of 27 classes
no network can exceed 0.33.
"""
SAMPLES, SURE = 200, 0.975
"""Number of bootstrap samples of the photographs, and the share in which another normalisation must be better."""
MAX_MISMATCH = 0.5
"""Largest mismatch at which a normalisation fits the statistics of batch norm.

The right normalisation has 0.07 on photographs and up to 0.4 on synthetic images.
"""
MISMATCH_FACTOR = 3.0
"""Factor of the smallest mismatch up to which normalisations are likely; the nearest wrong one has 3 to 13 times."""
FIRST_NORMS = 3
"""Number of batch-norm layers that are compared; later ones depend on all layers before them."""
SYNTHETIC_IMAGES = 8
"""Number of synthetic images, where there are no photographs."""
MIN_WEIGHT = 1e-3
"""Batch-norm channels with a smaller weight are ignored, because their input cannot be recovered from the output."""

PREDICTIONS, BATCH_NORMS = "the predictions on the photographs", "the first batch-norm layers"


@dataclass(frozen=True, eq=False)
class Candidate:
    """A normalisation that the network may have been trained with.

    Args:
        description: In words.
        network: The network with this normalisation.
    """

    description: str
    network: fv.Network


Candidates = dict[str, Candidate]
"""Normalisations by the options that set them. The first is the one that was given."""


def check_normalisation(network: fv.Network, images: Float[Tensor, "n c h w"] | None) -> Iterator[Finding]:
    """Compare the given normalisation with the common ones, by predictions or by batch-norm statistics."""
    finding = None
    if images is not None and len(images) >= MIN_PHOTOGRAPHS and _is_classifier(network):
        finding = _by_predictions(network, images)
    yield finding or _by_batch_norms(network, images)


def _is_classifier(network: fv.Network) -> bool:
    output = network.table.get(OUTPUT)
    return output is not None and output.layout.kind == "vector" and output.channels > 1


def _by_predictions(network: fv.Network, images: Float[Tensor, "n c h w"]) -> Finding | None:
    """Prefer the normalisation with the most prediction information; `None` where predictions carry too little.

    Networks can be confident about nonsense. So only candidates that the batch-norm statistics allow are compared.
    """
    candidates = _candidates(network, channel_orders=("RGB", "BGR"))
    given = next(iter(candidates))
    predictions = {key: _predictions(candidate.network, images) for key, candidate in candidates.items()}
    information = {key: _information(found) for key, found in predictions.items()}
    maximum = math.log(min(len(images), network.table[OUTPUT].channels))
    if not max(information.values()) >= MIN_INFORMATION * maximum:
        return None
    mismatches = {key: _mismatch(candidate.network, images) for key, candidate in candidates.items()}
    limit = _mismatch_limit(mismatches)
    likely = [key for key, mismatch in mismatches.items() if mismatch is None or mismatch <= limit]
    best = max(likely, key=lambda key: information[key])
    close = [key for key in likely if MIN_GAIN * information[key] >= information[best]]

    def preference(key: str) -> tuple[bool, bool, float]:
        """Prefer the given normalisation, then its channel order, then the highest score."""
        order = candidates[key].network.input.channel_order
        return key == given, order == network.input.channel_order, information[key]

    chosen = max(close, key=preference)
    if given in likely and chosen != given and not _is_surely_more(predictions[chosen], predictions[given]):
        chosen = given
    if chosen == given and information[best] > MIN_DOUBT * information[given]:
        text = f"{PREDICTIONS} do not tell clearly whether the normalisation is right; "
        return Finding("input range", f"{text}they are slightly more informative with {best}", note=True)
    evidence = PREDICTIONS if given in likely else f"{BATCH_NORMS} and {PREDICTIONS}"
    return _conclusion(evidence, chosen, candidates)


def _by_batch_norms(network: fv.Network, images: Float[Tensor, "n c h w"] | None) -> Finding:
    """Prefer the normalisation whose activations match the running statistics of the first batch-norm layers."""
    candidates = _candidates(network, channel_orders=(network.input.channel_order,))
    given = next(iter(candidates))
    shown = dead_leaves(SYNTHETIC_IMAGES, network.channels, network.size) if images is None else images
    measured = {key: _mismatch(candidate.network, shown) for key, candidate in candidates.items()}
    mismatches = {key: mismatch for key, mismatch in measured.items() if mismatch is not None}  # all of them, or none
    if not mismatches or min(mismatches.values()) > MAX_MISMATCH:
        text = "the normalisation could not be checked" + ("; --photographs FOLDER may help" if images is None else "")
        if mismatches and images is not None:
            advice = "give --mean and --std as in training, or photographs like those it was trained on"
            text = f"no common normalisation fits {BATCH_NORMS}; {advice}"
        return Finding("input range", text, note=True)
    limit = _mismatch_limit(measured)
    likely = [key for key, mismatch in mismatches.items() if mismatch <= limit]
    if given in likely:
        return _conclusion(BATCH_NORMS, given, candidates)
    if len(likely) == 1:
        return _conclusion(BATCH_NORMS, likely[0], candidates)
    text = f"{BATCH_NORMS} do not fit the given normalisation"
    text += "; give --photographs FOLDER to find out which of the following does" if images is None else ""
    return Finding("input range", text, " or ".join(sorted(likely, key=lambda key: mismatches[key])))


def _conclusion(evidence: str, chosen: str, candidates: Candidates) -> Finding:
    """Report which normalisation the evidence supports."""
    if chosen == next(iter(candidates)):
        return Finding("input range", f"{evidence} fit the given normalisation")
    return Finding("input range", f"{evidence} indicate {candidates[chosen].description}", chosen)


def _mismatch_limit(mismatches: dict[str, float | None]) -> float:
    """Return the largest mismatch at which a normalisation is likely.

    Infinite where no normalisation fits or there are no batch-norm layers: then all are equally likely.
    """
    least = min((mismatch for mismatch in mismatches.values() if mismatch is not None), default=math.inf)
    return max(MAX_MISMATCH / 2, MISMATCH_FACTOR * least) if least <= MAX_MISMATCH else math.inf


def _candidates(network: fv.Network, channel_orders: tuple[str, ...]) -> Candidates:
    """Return the given normalisation and the common ones for this number of channels, in each channel order."""
    normalisations = [("the given normalisation", network.input.mean, network.input.std)]
    for description, (mean, std) in NORMALISATIONS.items():
        means = (mean,) * network.channels if isinstance(mean, float) else mean
        stds = (std,) * network.channels if isinstance(std, float) else std
        if len(means) == len(stds) == network.channels:
            normalisations.append((description, means, stds))
    given_order = network.input.channel_order
    in_color = network.channels == 3
    orders = sorted(channel_orders, key=lambda order: order != given_order) if in_color else [given_order]
    layers = network.probed  # the same for all candidates: probe once
    found: Candidates = {}
    for description, means, stds in normalisations:
        for order in orders:
            key = normalisation_options(means, stds, order, given_order=given_order)
            other = network.with_input(mean=means, std=stds, channel_order=order, probed=layers)
            found.setdefault(key, Candidate(description + (f", {order}" if in_color else ""), other))
    return found


def _predictions(network: fv.Network, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"] | None:
    """Return the class probabilities of images; `None` if they are not finite."""
    try:
        return predict(network, images)
    except fv.ModelError:
        return None


def _information(probabilities: Float[Tensor, "n classes"] | None) -> float:
    """Return the mutual information of image and predicted class, in nats: predictions are sure, and they differ.

    Source: Salimans et al. 2016, https://arxiv.org/abs/1606.03498, the logarithm of the inception score.
    """
    if probabilities is None:
        return 0.0
    both = probabilities.mean(0), probabilities
    of_mean, of_each = (-(p * p.clamp(min=1e-9).log()).sum(-1) for p in both)
    return (of_mean - of_each.mean()).item()


def _is_surely_more(one: Float[Tensor, "n classes"] | None, other: Float[Tensor, "n classes"] | None) -> bool:
    """Whether one set of predictions carries more information than another in nearly all samples of the photographs.

    Photographs of other things than the classes make predictions that are sure of either by chance. Samples are drawn
    with replacement (bootstrap), the same for both.
    """
    if one is None or other is None:
        return other is None
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(len(one), (SAMPLES, len(one)), generator=generator)
    more = [_information(one[rows]) > _information(other[rows]) for rows in drawn]
    return sum(more) >= SURE * SAMPLES


def _mismatch(network: fv.Network, images: Float[Tensor, "n c h w"]) -> float | None:
    """Return how far the input of the first batch-norm layers is from their running statistics.

    In eval mode the output of a batch-norm layer, without its weight and bias, has mean 0 and std 1 where the input has
    the statistics of training. The mismatch is the mean over channels of mean² + log(std)².

    Returns:
        The mismatch, >= 0, infinite where activations are not finite; `None` if there are no such layers.
    """
    # Not the subclasses: these may normalise differently.
    norms = {name: part for name, part in network.module.named_modules() if type(part) is nn.BatchNorm2d}
    usable = [name for name, norm in norms.items() if norm.affine and norm.track_running_stats]
    first = [name for name in network.table if name in usable][:FIRST_NORMS]
    if not first:
        return None
    with torch.no_grad():
        acts = network.capture(images, first)
    found = []
    for name in first:
        norm, outputs = norms[name], acts.channels_first(name)
        used = norm.weight.abs() > MIN_WEIGHT
        if not used.any():
            continue
        normalised = (outputs - norm.bias[:, None, None]) / norm.weight[:, None, None]
        values = normalised[:, used].movedim(1, 0).flatten(1)
        found.append((values.mean(1).square() + values.std(1).clamp(min=1e-3).log().square()).mean().item())
    if not found:
        return None
    mismatch = sum(found) / len(found)
    return mismatch if math.isfinite(mismatch) else math.inf
