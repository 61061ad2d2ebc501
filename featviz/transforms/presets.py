"""Default sequences of transforms."""

from __future__ import annotations

from featviz.interfaces import Param, Transforms, param_traits_of
from featviz.transforms.color import ColorShift, Contrast
from featviz.transforms.distributions import LogUniform, OneOf
from featviz.transforms.geometry import Jitter, Pad, Resize, Rotate, Scale, Shift
from featviz.transforms.noise import Noise

LUCID: Transforms = (
    Pad(12),
    Jitter(8),
    Scale(OneOf(tuple(1 + (i - 5) / 50 for i in range(11)))),
    Rotate(OneOf((*range(-10, 11), 0, 0, 0, 0, 0))),
    Jitter(4),
)
"""The default transforms of Lucid.

Source: Lucid, lucid/optvis/transform.py, `standard_transforms`.
"""

STANDARD: Transforms = (
    Shift(0.2),
    Rotate(15),
    Scale(LogUniform(0.6, 2.0)),
    Resize(0.57, min_side=112),
    ColorShift(0.3),
)
"""The default transforms: random shifts, rotations, zooms from 0.6 to 2, and colour shifts.

Views have 0.57 times the sides of the image, at least 112 px: whole objects are in view, at a third of the cost.

Source: measured; docs/quality.md compares the alternatives.
"""

SIGNAL: Transforms = (Shift(0.05), Scale(LogUniform(0.9, 1.1)), Contrast(0.3), Noise(0.02))
"""The default transforms of signals: views a little earlier or later, stretched, louder or softer, with noise.

Source: chosen so that the kernels of matched filters are recovered, as `tests/behaviour/test_spatial_axes.py` measures.
"""

VOLUME: Transforms = (Shift(0.1), Rotate(10), Scale(LogUniform(0.8, 1.25)), Contrast(0.3))
"""The default transforms of volumes, which are rotated in the plane of their last two axes."""

CLIP: Transforms = (Shift(0.1), Rotate(10), Scale(LogUniform(0.8, 1.5), axes=2), ColorShift(0.2))
"""The default transforms of video: as those of images in each frame, and the same in all frames of a clip."""

USUAL = {"x": SIGNAL, "yx": STANDARD, "zyx": VOLUME, "tyx": CLIP}
"""The default transforms by the spatial axes of the network's input."""

NEAR: Transforms = (Shift(0.05),)
"""The default transforms of params that views from far away would drive to one flat colour, such as `param.CPPN`."""

NONE: Transforms = ()
"""No transforms: the network gets the image as it is."""


def default_transforms(param: Param, axes: str, *, aligned: bool = False) -> Transforms:
    """Return the default transforms: `NEAR` for a param with the trait `close_views`, else `USUAL[axes]`.

    Args:
        param: The param.
        axes: Axes of its images, as in `InputSpec`.
        aligned: Whether an objective compares positions with those of a reference; then there are no transforms.
    """
    if aligned:
        return NONE
    return NEAR if param_traits_of(param).close_views else USUAL[axes]
