"""Compare `fv.accentuate` with a render that is held to the photograph by `InputDifference`: `make accentuate-bench`.

Each row is the median over drawings of motifs and channels of the bundled network that respond to them weakly: the
response of the image divided by that of the drawing, and the change of the early layer, ‖a - p‖ / ‖p‖. Both methods
start from the drawing and take 100 steps. The last lines compare at equal responses.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np
import torch
from motifs.draw import draw
from torch import Tensor

import featviz as fv
from featviz.apps.accentuate.accentuate import change

LAYER = "stage1"
"""The early layer whose change is measured, the default of `fv.accentuate` for this network."""
DEEP = "stage3"
"""Layer of the channels."""
WEIGHTS = (1.0, 2.0, 4.0, 6.0, 8.0, 12.0)
"""Weights of `fv.accentuate`."""
DIFFERENCES = (0.0, 10.0, 30.0, 60.0, 100.0, 200.0, 400.0, 800.0)
"""Weights of `InputDifference`."""
STEPS = 100
WANTED = 3.0
"""Response of the image divided by that of the drawing, at which the changes of the layer are compared."""


@dataclass(frozen=True)
class Case:
    """A drawing, and a channel that responds to it weakly."""

    image: Tensor
    objective: str
    response: float


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=8, help="number of drawings (default: %(default)s)")
    parser.add_argument("--zoom", type=float, default=1.3, help="as for fv.accentuate (default: %(default)s)")
    parser.add_argument("--crops", type=int, default=16, help="as for fv.accentuate (default: %(default)s)")
    options = parser.parse_args()
    net = fv.load("motifnet", device="cpu")
    cases = weak_cases(net, options.cases)
    print(f"{len(cases)} drawings\nmethod                        response  change   s/image")
    curves: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {
        "accentuate": accentuated(net, cases, options),
        "InputDifference": held(net, cases),
    }
    print(f"\nchange of {LAYER} at {WANTED:g} times the response")
    for name, (responses, changes) in ((name, stacked(rows)) for name, rows in curves.items()):
        at = [at_response(responses[:, i], changes[:, i]) for i in range(len(cases))]
        reached = [value for value in at if value is not None]
        median = f"{np.median(reached):.3f}" if reached else "-"
        print(f"{name:24} {median}, reached for {len(reached)} of {len(cases)} drawings")


def weak_cases(net: fv.Network, count: int) -> list[Case]:
    """Choose channels at the 60th percentile of the responses of a drawing above 0."""
    images = draw(torch.arange(count) * 27 // count, net.size, torch.Generator().manual_seed(0))
    means = net.capture(images, [DEEP])[DEEP].detach().flatten(2).mean(2)
    found = []
    for image, response in zip(images, means, strict=True):
        order = response.argsort()
        channel = int(order[int(0.6 * len(order))])
        found.append(Case(image[None], f"{DEEP}:{channel}", float(response[channel])))
    return [case for case in found if case.response > 0]


def accentuated(net: fv.Network, cases: list[Case], options: argparse.Namespace) -> list[tuple[np.ndarray, np.ndarray]]:
    """Accentuate with each weight, and return responses and changes."""
    rows = []
    for weight in WEIGHTS:
        start = time.perf_counter()
        images = [
            fv.accentuate(
                net, case.image, case.objective, weight=weight, zoom=options.zoom, crops=options.crops, steps=STEPS,
                opaque=True, progress=None,
            ).images
            for case in cases
        ]  # fmt: skip
        rows.append(measured(net, cases, images, f"accentuate weight {weight:g}", time.perf_counter() - start))
    return rows


def held(net: fv.Network, cases: list[Case]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Render with each weight of `InputDifference`, and return responses and changes."""
    rows = []
    for weight in DIFFERENCES:
        start = time.perf_counter()
        goals = [
            fv.objectives.parse(case.objective) - weight * fv.objectives.InputDifference(case.image[0])
            for case in cases
        ]
        images = fv.render(
            net, goals, start=torch.cat([case.image for case in cases]), steps=STEPS, robustness_views=0, progress=None
        ).images
        seconds = time.perf_counter() - start
        rows.append(measured(net, cases, list(images.split(1)), f"InputDifference weight {weight:g}", seconds))
    return rows


def measured(
    net: fv.Network, cases: list[Case], images: list[Tensor], name: str, seconds: float
) -> tuple[np.ndarray, np.ndarray]:
    """Print and return responses, relative to the drawings', and changes of the layer."""
    responses = np.array(
        [float(fv.score(net, case.objective, image)) / case.response for case, image in zip(cases, images, strict=True)]
    )
    changes = np.array([change(net, LAYER, image, case.image) for case, image in zip(cases, images, strict=True)])
    figures = f"{np.median(responses):7.2f} {np.median(changes):8.3f}  {seconds / len(cases):8.1f}"
    print(f"{name:30}{figures}", flush=True)
    return responses, changes


def stacked(rows: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Join the rows of a method: (weights, drawings) each."""
    return np.stack([row[0] for row in rows]), np.stack([row[1] for row in rows])


def at_response(responses: np.ndarray, changes: np.ndarray) -> float | None:
    """Return the smallest change at which a response is reached, between two weights by interpolation.

    Args:
        responses: Response for each weight.
        changes: Change for each weight.
    """
    order = np.argsort(responses)
    responses, changes = responses[order], changes[order]
    if responses[-1] < WANTED:
        return None
    above = int(np.searchsorted(responses, WANTED))
    if above == 0:
        return float(changes[0])
    share = (WANTED - responses[above - 1]) / max(responses[above] - responses[above - 1], 1e-9)
    return float(changes[above - 1] + share * (changes[above] - changes[above - 1]))


if __name__ == "__main__":
    main()
