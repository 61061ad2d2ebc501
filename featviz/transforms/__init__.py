"""Transforms: random differentiable augmentations of the network's input.

`transforms=` takes a tuple of them. Modules of `torchvision.transforms.v2` and kornia can be among them, and
`docs/own-transform.md` shows how to add one.
"""

from featviz.transforms.alpha import CompositeAlpha
from featviz.transforms.color import ColorShift, Contrast
from featviz.transforms.distributions import LogUniform, OneOf, Uniform
from featviz.transforms.fusing import apply_transforms, fuse
from featviz.transforms.geometry import Crop, CropOrPadTo, Flip, Jitter, Pad, Resize, ResizedView, Rotate, Scale, Shift
from featviz.transforms.mesh import MeshView
from featviz.transforms.module import ModuleTransform
from featviz.transforms.noise import GaussianBlur, Noise, UniformNoise
from featviz.transforms.presets import LUCID, NEAR, NONE, STANDARD
from featviz.transforms.resampling import Warp
from featviz.transforms.roll import Roll

SYNONYMS = {"blur": "GaussianBlur", "colorjitter": "ColorShift", "colourshift": "ColorShift", "rotation": "Rotate"}
"""Other names in the literature, in lower case and without hyphens."""

__all__ = [
    "LUCID", "NEAR", "NONE", "STANDARD", "ColorShift", "CompositeAlpha", "Contrast", "Crop", "CropOrPadTo", "Flip",
    "GaussianBlur", "Jitter", "LogUniform", "MeshView", "ModuleTransform", "Noise", "OneOf", "Pad", "Resize",
    "ResizedView", "Roll", "Rotate", "Scale", "Shift", "Uniform", "UniformNoise", "Warp", "apply_transforms", "fuse",
]  # fmt: skip
