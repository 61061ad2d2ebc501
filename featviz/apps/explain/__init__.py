"""Attribution of scores to parts of an image, and evidence for classes."""

from featviz.apps.explain import methods

__all__ = ["methods"]
