"""How the picture is looked at while it is optimised: a tuple of these, or of your own."""

from featviz.transforms.geometry import Crop, Flip, Jitter, Pad, Resize, Rotate, Scale, Shift, Warp
from featviz.transforms.spread import LogUniform, OneOf, Uniform
from featviz.transforms.stacks import LUCID, NONE, STANDARD, fuse, look
from featviz.transforms.tone import Tint

__all__ = [
    "LUCID", "NONE", "STANDARD", "Crop", "Flip", "Jitter", "LogUniform", "OneOf", "Pad", "Resize", "Rotate", "Scale",
    "Shift", "Tint", "Uniform", "Warp", "fuse", "look",
]  # fmt: skip
