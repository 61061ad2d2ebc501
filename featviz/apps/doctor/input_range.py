"""Whether a network is told the input range that it was trained on."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

import featviz as fv
from featviz.apps.doctor.dead_leaves import dead_leaves
from featviz.apps.doctor.findings import Finding, flags
from featviz.apps.shared.predictions import predict

RANGES: dict[str, tuple[float | tuple[float, ...], float | tuple[float, ...]]] = {
    "ImageNet's normalisation": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "MNIST's normalisation": ((0.1307,), (0.3081,)),
    "pixels from -1 to 1": (0.5, 0.5),
    "pixels from 0 to 1": (0.0, 1.0),
    "pixels from 0 to 255": (0.0, round(1 / 255, 6)),
    "pixels from 0 to 255 with ImageNet's mean taken away": ((0.485, 0.456, 0.406), round(1 / 255, 6)),
}
"""Input ranges in use, as mean and std of images in [0, 1]."""
TELLS = 1.05
"""How much more another range, or another order of channels, has to make the answers say, as a factor.

MobileNetV2 with BGR for RGB loses a factor of 1.14, with -1 to 1 for ImageNet's 1.12; what loses less hardly matters.
"""
HARDLY = 1.01
"""How much more another range has to make them say for theirs not to speak for the one that was given."""
FEW, MUCH = 10, 0.6
"""Answers count from so many photographs, and where they say so much in some range, as a share of all they could.

In the right range trained networks say .75 (MobileNetV2, of a photograph of each of 64 classes) to .97. Convolutional
networks with random weights say up to .47 where they are told 0 to 255, and none can say more of three classes in 27
than .33.
"""
FITS, FAR = 0.5, 3.0
"""Up to what mismatch a range fits batch norm's statistics, and by which factor a misfit is worse.

A right range has .07 on photographs and up to .4 on dead leaves; the nearest wrong one 3 to 13 times as much.
"""
NORMS = 3
"""How many of the first batch norms are asked: those behind depend on everything before."""
LEAVES = 8
"""How many drawings stand in for photographs."""
ANSWERS, BATCH_NORMS = "the answers to the photographs", "the first batch norms"

Ranges = dict[str, tuple[str, fv.Network]]
"""For each range, by its flags: its words, and the network told so; first the one that was given."""


def input_range(network: fv.Network, images: Tensor | None) -> Iterator[Finding]:
    """Compare what it is told to expect with everything else in use."""
    found = None
    if images is not None and len(images) >= FEW and _classifies(network):
        found = _by_answers(network, images)
    yield found or _by_norms(network, images)


def _classifies(network: fv.Network) -> bool:
    last = network.table.get("")
    return last is not None and last.layout.kind == "vector" and last.channels > 1


def _by_answers(network: fv.Network, images: Tensor) -> Finding | None:
    ranges = _in_use(network, orders=("RGB", "BGR"))
    given = next(iter(ranges))
    said = {told: _said(other, images) for told, (_, other) in ranges.items()}
    if not max(said.values()) >= MUCH * math.log(min(len(images), network.table[""].channels)):
        return None
    misfits = {told: _mismatch(other, images) for told, (_, other) in ranges.items()}
    most = _misfit_at_most(misfits)
    likely = [told for told, misfit in misfits.items() if misfit is None or misfit <= most]
    best = max(said[told] for told in likely)
    close = [told for told in likely if TELLS * said[told] >= best]
    chosen = max(
        close,
        key=lambda told: (
            told == given,
            ranges[told][1].input.channel_order == network.input.channel_order,
            said[told],
        ),
    )
    first = max(likely, key=lambda told: said[told])
    if chosen == given and said[first] > HARDLY * said[given]:
        told = f"{ANSWERS} hardly tell whether it is right; they say a little more with {first}"
        return Finding("input range", told, sure=False)
    return _expects(ANSWERS if given in likely else f"{BATCH_NORMS} and {ANSWERS}", chosen, ranges)


def _by_norms(network: fv.Network, images: Tensor | None) -> Finding:
    leaves = dead_leaves(LEAVES, network.channels, network.size) if images is None else images
    ranges = _in_use(network, orders=(network.input.channel_order,))
    given = next(iter(ranges))
    misfits = {told: _mismatch(other, leaves) for told, (_, other) in ranges.items()}
    known = {told: misfit for told, misfit in misfits.items() if misfit is not None}  # all, or none
    more = "" if images is not None else "; --photographs FOLDER might"
    if not known or min(known.values()) > FITS:
        told = f"nothing tells whether it is right{more}"
        if known and images is not None:
            cure = "give --mean and --std as in training, or photographs of its kind"
            told = f"no range in use fits {BATCH_NORMS}; {cure}"
        return Finding("input range", told, sure=False)
    most = _misfit_at_most(misfits)
    likely = [told for told in known if known[told] <= most]
    if given in likely:
        return _expects(BATCH_NORMS, given, ranges)
    if len(likely) == 1:
        return _expects(BATCH_NORMS, likely[0], ranges)
    said = f"{BATCH_NORMS} say that it is wrong" + (", and photographs would tell which is right" if more else "")
    return Finding("input range", said, " or ".join(sorted(likely, key=lambda told: known[told])))


def _expects(who: str, told: str, ranges: Ranges) -> Finding:
    if told == next(iter(ranges)):
        return Finding("input range", f"{who} say that it is right")
    return Finding("input range", f"{who} say that it expects {ranges[told][0]}", told)


def _misfit_at_most(misfits: dict[str, float | None]) -> float:
    """Return up to what misfit a range is likely: a network can be sure of nonsense, which its batch norms give away.

    Where they fit no range, or there are none, every range is as likely.
    """
    least = min((misfit for misfit in misfits.values() if misfit is not None), default=math.inf)
    return max(FITS / 2, FAR * least) if least <= FITS else math.inf


def _in_use(network: fv.Network, orders: tuple[str, ...]) -> Ranges:
    ranges = [("what it is told", network.input.mean, network.input.std)]
    for words, (mean, std) in RANGES.items():
        means = (mean,) * network.channels if isinstance(mean, float) else mean
        stds = (std,) * network.channels if isinstance(std, float) else std
        if len(means) == len(stds) == network.channels:
            ranges.append((words, means, stds))
    in_color = network.channels == 3
    known = network.probed
    found = {}
    for words, mean, std in ranges:
        for order in (
            sorted(orders, key=lambda order: order != network.input.channel_order)
            if in_color
            else [network.input.channel_order]
        ):
            name = flags(mean, std, order, instead_of=network.input.channel_order)
            other = network.with_input(mean=mean, std=std, channel_order=order, probed=known)
            found[name] = words + (f", {order}" if in_color else ""), other
    return found


def _said(network: fv.Network, images: Tensor) -> float:
    """Return how much the answers say, in nats: each should be sure, and they should differ.

    Source: Salimans et al. 2016, https://arxiv.org/abs/1606.03498, the logarithm of the inception score.
    """
    try:
        shares = predict(network, images)
    except fv.ModelError:  # what is no number says nothing
        return 0.0
    surprise = [-(p * p.clamp(min=1e-9).log()).sum(-1) for p in (shares.mean(0), shares)]
    return (surprise[0] - surprise[1].mean()).item()


def _mismatch(network: fv.Network, images: Tensor) -> float | None:
    """Return how far what reaches the first batch norms is from the means and deviations that these have kept.

    What is no number fits nothing; `None` means that there are no such batch norms.
    """
    norms = {name: part for name, part in network.module.named_modules() if type(part) is nn.BatchNorm2d}  # and no more
    known = [name for name, norm in norms.items() if norm.affine and norm.track_running_stats]
    asked = [name for name in network.table if name in known][:NORMS]
    if not asked:
        return None
    with torch.no_grad():
        acts = network.capture(images, asked)
    found = []
    for name in asked:
        norm, units = norms[name], acts.channels_first(name)
        used = norm.weight.abs() > 1e-3
        if not used.any():
            continue
        units = ((units - norm.bias[:, None, None]) / norm.weight[:, None, None])[:, used].movedim(1, 0).flatten(1)
        found.append((units.mean(1).square() + units.std(1).clamp(min=1e-3).log().square()).mean().item())
    if not found:
        return None
    misfit = sum(found) / len(found)
    return misfit if math.isfinite(misfit) else math.inf
