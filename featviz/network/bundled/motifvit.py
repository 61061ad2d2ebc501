"""The bundled vision transformer: torchvision's, with few and narrow blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

PATCH = 8
"""Side in px of the patch of one token, which three convolutions of stride 2 reduce to one position.

Source: Xiao et al. 2021, https://arxiv.org/abs/2106.14881: such a stem trains faster than one convolution of stride 8.
"""
WIDTH = 128
"""Number of channels of a token."""
DEPTH = 4
"""Number of transformer blocks."""


def motifvit(size: int, classes: int) -> nn.Module:
    """Build a vision transformer with random weights: 4 blocks of 128 channels, a class token and 8 x 8 px patches.

    Args:
        size: Height and width in px of its images, a multiple of `PATCH`.
        classes: Number of classes.

    Returns:
        The module. It accepts this size only.
    """
    from torchvision.models.vision_transformer import ConvStemConfig, VisionTransformer  # slow to import

    return VisionTransformer(
        image_size=size,
        patch_size=PATCH,
        num_layers=DEPTH,
        num_heads=4,
        hidden_dim=WIDTH,
        mlp_dim=2 * WIDTH,
        num_classes=classes,
        conv_stem_configs=[ConvStemConfig(channels, 3, 2) for channels in (32, 64, WIDTH)],
    )
