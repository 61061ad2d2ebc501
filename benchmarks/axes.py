"""Measure whether a second network classifies the first one's class signals correctly: `make axes-bench`, two minutes.

Two networks of different architectures are trained on signals of eight families, each in seconds. The class signals of
the first one are rendered from four seeds, with several colour parts, and given to the second one.
"""

from __future__ import annotations

import time

import torch
from waveforms import FAMILIES, trained_pair

import featviz as fv
from featviz import param

SEEDS, STEPS, NEAR_LIMIT = 4, 256, 0.9
"""Number of signals of each class, steps of each, and the share of the largest amplitude that counts as saturated."""
COLORS = {
    "sigmoid": param.Plain(),
    "power at most 0.75": param.Standardized(0, 0.75),
    "power of 0.5": param.Standardized(0.5, 0.5),
    "power from 0.25 to 0.75 (default)": param.Standardized(),
}
"""Colour parts by the label of their row."""


def main() -> None:
    """Print a row for each colour part."""
    torch.set_num_threads(1)
    network, second, accuracies = trained_pair()
    print(f"accuracy on other signals: {accuracies[0]:.3f} of the first network, {accuracies[1]:.3f} of the second\n")
    families = torch.arange(len(FAMILIES)).repeat_interleave(SEEDS)
    goals, seeds = [f"logit:{family}" for family in families.tolist()], list(range(SEEDS)) * len(FAMILIES)
    print("| colour part | penalty | named by the second | probability | saturated | std | seconds |")
    print("|---|---|---|---|---|---|---|")
    for penalty in ("", " - 300*l2"):
        for label, color in COLORS.items():
            began, image = time.perf_counter(), param.Image(spatial=param.Fourier(0.9), color=color)
            found = fv.render(
                network, [goal + penalty for goal in goals], param=image, seed=seeds, steps=STEPS, robustness_views=0
            )
            with torch.no_grad():
                chances = second(found.values).softmax(1)
            cells = (
                label,
                penalty.strip(" -") or "none",
                f"{(chances.argmax(1) == families).float().mean():.3f}",
                f"{chances[range(len(families)), families].mean():.2f}",
                f"{(found.values.abs() > NEAR_LIMIT * 4).float().mean():.2f}",
                f"{found.values.std():.2f}",
                f"{time.perf_counter() - began:.0f}",
            )
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
