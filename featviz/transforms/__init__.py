"""How the picture is looked at while it is optimised: a tuple of these, or of your own.

Modules of `torchvision.transforms.v2` and kornia can stand in the tuple as they are.
"""

from featviz.transforms.alpha import CompositeAlpha
from featviz.transforms.color import ColorShift, Contrast
from featviz.transforms.distributions import LogUniform, OneOf, Uniform
from featviz.transforms.geometry import Crop, CropOrPadTo, Flip, Jitter, Pad, Resize, ResizedView, Rotate, Scale, Shift
from featviz.transforms.module import ModuleTransform
from featviz.transforms.noise import GaussianBlur, Noise, UniformNoise
from featviz.transforms.presets import LUCID, NEAR, NONE, STANDARD, fuse, look
from featviz.transforms.resampling import Warp
from featviz.transforms.roll import Roll

__all__ = [
    "LUCID", "NEAR", "NONE", "STANDARD", "CompositeAlpha", "Contrast", "Crop", "CropOrPadTo", "Flip", "ModuleTransform",
    "GaussianBlur", "Jitter", "LogUniform", "Noise", "OneOf", "Pad", "Resize", "ResizedView", "Roll", "Rotate",
    "Scale", "Shift", "ColorShift", "Uniform", "UniformNoise", "Warp", "fuse", "look",
]  # fmt: skip
