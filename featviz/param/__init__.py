"""Image parameterizations: what is optimised, and how it becomes an image. `docs/own-param.md` shows how to add one."""

from featviz.param.color import Clamped, Decorrelated, Plain, Standardized
from featviz.param.cppn import CPPN
from featviz.param.fourier import Fourier, Phase
from featviz.param.generator import Generator
from featviz.param.image import Image
from featviz.param.pixel import Pixel
from featviz.param.pyramid import Pyramid
from featviz.param.shared import Shared
from featviz.param.sizing import sized
from featviz.param.wrappers import Alpha, Masked, Stack

SYNONYMS = {"fft": "Fourier", "gan": "Generator", "laplacianpyramid": "Pyramid", "maco": "Phase", "pixels": "Pixel"}
"""Other names in the literature, in lower case and without hyphens."""

__all__ = [
    "CPPN", "Alpha", "Clamped", "Decorrelated", "Fourier", "Generator", "Image", "Masked", "Phase", "Pixel", "Plain",
    "Pyramid", "Shared", "Stack", "Standardized", "sized",
]  # fmt: skip
