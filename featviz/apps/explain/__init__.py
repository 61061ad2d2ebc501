"""Where in an image a score comes from: attribution, dataset examples and evidence for classes."""

from featviz.apps.explain import methods

__all__ = ["methods"]
