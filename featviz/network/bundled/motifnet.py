"""The bundled CNN: a small residual network with batch normalisation and named stages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

SIZE = 64
"""Height and width in px of the drawings on which both bundled networks are trained. The CNN accepts other sizes."""
MEAN = STD = (0.5, 0.5, 0.5)
"""Mean and standard deviation of each channel that the bundled networks expect, in [0, 1]."""


class Residual(nn.Module):
    """A residual block: two 3x3 convolutions and a shortcut.

    Args:
        before: Number of input channels.
        after: Number of output channels. If it differs, the shortcut is a 1x1 convolution.

    Source: He et al. 2015, https://arxiv.org/abs/1512.03385, fig. 2.
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(after)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        self.shortcut = nn.Identity() if before == after else nn.Conv2d(before, after, 1, bias=False)
        self.relu2 = nn.ReLU()

    def forward(self, x: Float[Tensor, "n before h w"]) -> Float[Tensor, "n after h w"]:
        """Return the rectified sum of both branches."""
        y = self.norm2(self.conv2(self.relu1(self.norm1(self.conv1(x)))))
        return self.relu2(y + self.shortcut(x))


class MotifNet(nn.Module):
    """A CNN that classifies motifs.

    It halves feature maps by average pooling. Strided convolutions and max pooling would leave a grid pattern in the
    gradient and so in images (Odena et al. 2016, https://doi.org/10.23915/distill.00003).

    Args:
        classes: Number of classes.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 5, padding=2, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.stage1 = nn.Sequential(nn.AvgPool2d(2), Residual(16, 32))
        self.stage2 = nn.Sequential(nn.AvgPool2d(2), Residual(32, 64), Residual(64, 64))
        self.stage3 = nn.Sequential(nn.AvgPool2d(2), Residual(64, 128), Residual(128, 128))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(128, classes)

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n classes"]:
        """Return class logits of normalised images."""
        x = self.stage3(self.stage2(self.stage1(self.stem(x))))
        return self.head(self.pool(x).flatten(1))
