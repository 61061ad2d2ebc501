"""What is optimised. `image` makes the usual thing; a spatial part of your own needs `start`, `fit` and `canvas`."""

from featviz.color import Decorrelated, Plain
from featviz.param.fourier import Fourier
from featviz.param.image import Image, image
from featviz.param.pixel import Pixel

__all__ = ["Decorrelated", "Fourier", "Image", "Pixel", "Plain", "image"]
