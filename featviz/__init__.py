"""See what a neural network has learned: feature visualization and DeepDream for PyTorch.

The public names are listed once, in `__init__.pyi`. They load when they are first used, so `import featviz` is fast and
the command line answers at once.
"""

from __future__ import annotations

from typing import Any

import lazy_loader

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("featviz")
    if name not in __all__:
        raise AttributeError(f"module 'featviz' has no attribute {name!r}")
    return _load(name)
