"""How the picture is looked at while it is optimised: a tuple of these, or of your own.

Modules of `torchvision.transforms.v2` and kornia can stand in the tuple as they are.
"""

from featviz.transforms.alpha import Collapse
from featviz.transforms.foreign import Foreign
from featviz.transforms.geometry import Crop, CropOrPadTo, Flip, Jitter, Pad, Resize, ResizedView, Rotate, Scale, Shift
from featviz.transforms.grain import GaussianBlur, Noise, UniformNoise
from featviz.transforms.roll import Roll
from featviz.transforms.spread import LogUniform, OneOf, Uniform
from featviz.transforms.stacks import LUCID, NEAR, NONE, STANDARD, fuse, look
from featviz.transforms.tone import Contrast, Tint
from featviz.transforms.warp import Warp

__all__ = [
    "LUCID", "NEAR", "NONE", "STANDARD", "Collapse", "Contrast", "Crop", "CropOrPadTo", "Flip", "Foreign",
    "GaussianBlur", "Jitter", "LogUniform", "Noise", "OneOf", "Pad", "Resize", "ResizedView", "Roll", "Rotate",
    "Scale", "Shift", "Tint", "Uniform", "UniformNoise", "Warp", "fuse", "look",
]  # fmt: skip
