"""Match the distribution of activations in photographs, so that images of units look like them."""

from featviz.apps.match.copies import Nearest, nearest_photographs, with_copies_marked
from featviz.apps.match.match import (
    BATCH_NORM,
    MATCH_WEIGHT,
    Matched,
    matched,
)

__all__ = [
    "BATCH_NORM",
    "MATCH_WEIGHT",
    "Matched",
    "Nearest",
    "matched",
    "nearest_photographs",
    "with_copies_marked",
]
