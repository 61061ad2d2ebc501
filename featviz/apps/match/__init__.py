"""Match the distribution of activations and the amplitude spectrum of photographs, so that images look like them."""

from featviz.apps.match.copies import Nearest, nearest_photographs, with_copies_marked
from featviz.apps.match.match import (
    BATCH_NORM,
    MATCH_WEIGHT,
    Matched,
    match_units,
)

__all__ = [
    "BATCH_NORM",
    "MATCH_WEIGHT",
    "Matched",
    "Nearest",
    "match_units",
    "nearest_photographs",
    "with_copies_marked",
]
