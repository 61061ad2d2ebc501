"""What is optimised. `image` makes the usual thing; a spatial part of your own needs `start`, `fit` and `canvas`."""

from featviz.color import Clamped, Decorrelated, Plain
from featviz.param.around import Alpha, Masked, Stack
from featviz.param.cppn import CPPN
from featviz.param.fourier import Fourier, Phase
from featviz.param.image import Image, image, sized
from featviz.param.pixel import Pixel
from featviz.param.pyramid import Pyramid
from featviz.param.shared import Shared

__all__ = [
    "CPPN", "Alpha", "Clamped", "Decorrelated", "Fourier", "Image", "Masked", "Phase", "Pixel", "Plain", "Pyramid",
    "Shared", "Stack", "image", "sized",
]  # fmt: skip
