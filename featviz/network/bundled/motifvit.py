"""The embedded transformer: torchvision's own, made small."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

PATCH = 8
"""Side in px of what becomes a token; three strided convolutions see to it.

Source: Xiao et al. 2021, https://arxiv.org/abs/2106.14881: such a stem trains faster than one large stride.
"""
WIDTH = 128
DEPTH = 4


def motifvit(size: int, classes: int) -> nn.Module:
    """Build a vision transformer with random weights: 4 blocks, 64 tokens and a class token, of 128 channels each."""
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
