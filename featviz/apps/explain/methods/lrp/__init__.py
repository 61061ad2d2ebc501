"""Layer-wise relevance propagation (LRP): the score is distributed backwards, operation by operation."""

from featviz.apps.explain.methods.lrp.method import LRP
from featviz.apps.explain.methods.lrp.weighted import RULES

__all__ = ["LRP", "RULES"]
