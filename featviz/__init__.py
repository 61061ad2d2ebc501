"""See what a neural network has learned: feature visualization and DeepDream for PyTorch.

Load a network with `fv.load("motifnet")` or wrap one with `fv.Network(module, ...)`, render a unit with
`fv.render(net, "logit:spiral")`, and save the result with its method `save("spiral.png")`.
"""

from __future__ import annotations

from typing import Any

import lazy_loader

# `__init__.pyi` lists the public names, which are imported when they are first used, so that `import featviz` is fast.
_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("featviz")
    if name not in __all__:
        raise AttributeError(f"module 'featviz' has no attribute {name!r}")
    return _load(name)
