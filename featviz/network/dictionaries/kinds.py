"""The kinds of dictionaries."""

from __future__ import annotations

from collections.abc import Set
from typing import Literal

Kind = Literal["relu", "topk", "batchtopk", "jumprelu", "gated", "nmf", "pca", "ica", "kmeans", "probe"]
"""Sparse autoencoders by their activation function, matrix factorisations, k-means, and linear directions."""
LINEAR: Set[str] = frozenset(("pca", "ica", "probe"))
"""Kinds whose codes have either sign."""
WITH_K: Set[str] = frozenset(("topk",))
"""Kinds that keep a fixed number of codes at each position."""
WITH_THRESHOLD: Set[str] = frozenset(("relu", "topk", "batchtopk", "jumprelu", "gated"))
"""Kinds whose codes are 0 up to a threshold."""
