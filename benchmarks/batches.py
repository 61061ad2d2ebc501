"""Compare images that are rendered alone and in a batch: `make batchbench`, 2 minutes on two cores.

Images of a batch influence each other only by rounding: the kernels of another batch size sum in another order. The
table shows how far optimisation amplifies that, next to the difference between two seeds.
"""

from __future__ import annotations

import torch

import featviz as fv

STEPS = (1, 16, 64, 256, 512)
BATCH = 8
ALONE = (0, 3, 7)
"""Images of the batch that are also rendered alone."""


def main() -> None:
    """Print a table of differences in px values (0 to 255) and of scores."""
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    network, objectives = fv.load("motifnet"), [f"stage2:{i}" for i in range(BATCH)]
    print("precision  steps  largest difference  mean difference  of another seed  score, ratio")
    for precision in ("float32", "bfloat16"):
        for steps in STEPS:
            settings = {
                "steps": steps, "robustness_views": 0, "param": fv.param.Image(96), "execution": fv.Execution(precision)
            }  # fmt: skip
            batch = fv.render(network, objectives, **settings)
            alone = [fv.render(network, objectives[i], seed=i, **settings) for i in ALONE]
            other = [fv.render(network, objectives[i], seed=100 + i, **settings) for i in ALONE]
            images = torch.stack([batch.images[i] for i in ALONE])
            difference, seeds = (
                255 * (torch.cat([one.images for one in each]) - images).abs() for each in (alone, other)
            )
            ratios = [one.history[-1, 0] / batch.history[-1, i] for one, i in zip(alone, ALONE, strict=True)]
            print(
                f"{precision:9} {steps:6} {difference.max():19.1f} {difference.mean():16.2f} {seeds.mean():16.2f}  "
                f"{min(ratios):.3f} to {max(ratios):.3f}"
            )


if __name__ == "__main__":
    main()
