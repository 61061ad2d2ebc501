"""Determine whether a network outputs logits, or has turned them into probabilities already."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from featviz.network.outputs import OutputScale

RESHAPES = (
    *("Alias", "Clone", "Flatten", "Permute", "Reshape", "Select", "Slice", "Squeeze", "ToCopy", "Transpose"),
    *("Unsafe", "Unsqueeze", "View"),
)
"""Prefixes of the autograd nodes that move or copy numbers without changing them."""
SUM_TOLERANCE = 1e-3
"""Largest deviation from 1 of a sum of probabilities."""


def output_scale(output: Float[Tensor, "n classes"]) -> tuple[OutputScale, bool]:
    """Return the kind of an output, and whether its values are results of a sigmoid.

    The last step of the autograd graph tells, so a softmax or sigmoid is found as a module and as a function. Where
    the last step is another, non-negative numbers that sum to 1 are taken for probabilities.

    Args:
        output: The output for images that need a gradient.

    Returns:
        The scale, and whether the last step is a sigmoid.
    """
    node = output.grad_fn
    while node is not None and node.name().lstrip("_").startswith(RESHAPES):
        node = node.next_functions[0][0]
    last = "" if node is None else node.name()
    sigmoid = last == "SigmoidBackward0"
    if sigmoid or last == "SoftmaxBackward0" or (output.min() >= 0 and _sums_to_one(output)):
        return "probabilities", sigmoid
    if last == "LogSoftmaxBackward0" or _sums_to_one(output.exp()):
        return "log-probabilities", False
    return "logits", False


def _sums_to_one(output: Float[Tensor, "n classes"]) -> bool:
    """Return whether the numbers of each image sum to 1; false for one output, which cannot show it."""
    return output.shape[1] > 1 and bool((output.sum(1) - 1).abs().max() < SUM_TOLERANCE)
