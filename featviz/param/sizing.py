"""Change the size and the batch of a param."""

from __future__ import annotations

from featviz.checks import is_made
from featviz.errors import SettingError
from featviz.interfaces import Param, Resizable, Size, Spatial
from featviz.param.image import Image


def sized(param: Param | Spatial, size: Size | None, batch: int) -> Param:
    """Return a param with another size and batch.

    Args:
        param: A param, or the spatial part of one.
        size: Height and width in px; `None` to keep the param's own.
        batch: Number of images per objective; 1 to keep the param's own.

    Raises:
        SettingError: The param has a size or batch of its own, which cannot be changed.

    >>> from featviz.param import Fourier
    >>> sized(Fourier(), (64, 96), 2).size
    (64, 96)
    """
    if is_made(param, Resizable):
        return param.sized(size, batch)  # type: ignore[union-attr]
    if isinstance(param, Spatial):
        return Image(size, batch, param)
    if not isinstance(param, Param):  # `render` says what is wrong
        return param
    own = {"size": (param.size, size or param.size), "batch": (param.batch, batch if batch != 1 else param.batch)}
    for name, (there, wanted) in own.items():
        if there is not None and there != wanted:
            raise SettingError(f"{type(param).__name__} has its own {name}, {there}; leave out {name}={wanted}")
    return param
