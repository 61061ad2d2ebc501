"""Corruptions of drawings for training: some destroy the motif, noise makes it harder to recognise, blur hides a part.

Without drawings whose motif is destroyed, the transformer recognises rings by a few bent strips, and its
visualization of rings shows strips.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from featviz.apps.explain.faithfulness import RANKING_DIVISOR, blur
from featviz.network.bundled import MOTIFS
from motifs.patterns import CENTRED

ZOOM = 2.2, 3.5
"""Smallest and largest magnification. At these, a drawing shows an arc or an edge, which may belong to other motifs."""
WARP = 0.2, 0.4
"""Smallest and largest standard deviation of the displacements of a warp, in halves of the image side."""
WARP_GRID = 4
"""Number of control points of a warp along each side."""
BLOCK = 16
"""Side in px of the blocks that are shuffled."""
MAX_NOISE_EXPONENT = 1.5
"""Largest p of noise whose amplitudes fall as 1 / frequency^p."""
SHUFFLED_FRACTION = 1 / 3
"""Fraction of drawings whose blocks are shuffled. Half of the others are enlarged, and half are warped."""
LEAST_FRACTION = 0.35
"""Fraction of partly shown drawings of which the least relevant pixels are shown."""
SURE = 0.15
"""Fraction of the most relevant pixels that should be enough to be certain of a motif."""
UNSURE = 0.35
"""Fraction of the least relevant pixels up to which a network should not know the motif."""

SURVIVES_WARP = ("wood", "clouds", "giraffe", "maze")
"""Motifs that are still recognisable when they are warped."""
SURVIVES_SHUFFLE = (
    *SURVIVES_WARP, "dots", "crosses", "checkerboard", "weave", "triangles", "bricks", "plaid",
)  # fmt: skip
"""Motifs that are still recognisable when their blocks are shuffled."""


def destroy_motifs(
    images: Float[Tensor, "n 3 h w"], labels: Int[Tensor, " n"], generator: torch.Generator
) -> Float[Tensor, "n 3 h w"]:
    """Enlarge, warp or shuffle each drawing, whichever leaves nothing of its motif.

    Args:
        images: In [0, 1]. Both sides are multiples of `BLOCK`.
        labels: Indices into `MOTIFS`.
        generator: Source of all random numbers, on the images' device.

    Returns:
        Images in [0, 1].

    Source: Qin et al. 2021, https://arxiv.org/abs/2110.07858, for shuffled patches as negative examples.
    """
    with images.device:
        known = (
            torch.tensor([name in names for name in MOTIFS])[labels]
            for names in (SURVIVES_WARP, SURVIVES_SHUFFLE, CENTRED)
        )
        draw, half = torch.rand((2, len(images)), generator=generator)
    survives_warp, survives_shuffle, centred = known
    enlarge = (half < 0.5) | survives_warp
    enlarged = _enlarged_grid(images, centred, generator)
    grid = torch.where(enlarge.view(-1, 1, 1, 1), enlarged, _warped_grid(images, generator))
    resampled = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    shuffle = (draw < SHUFFLED_FRACTION) & ~survives_shuffle
    return torch.where(shuffle.view(-1, 1, 1, 1), _shuffled(images, generator), resampled)


def add_noise(images: Float[Tensor, "n 3 h w"], max_std: float, generator: torch.Generator) -> Float[Tensor, "n 3 h w"]:
    """Add noise to each image, of random strength, colour, smoothness and mean.

    It is between grey and coloured, and between white noise and noise that falls as 1 / frequency^1.5. If noise is as
    strong as evidence for a motif, a network must look for more evidence, in all of the image.

    Args:
        images: In [0, 1].
        max_std: Largest standard deviation of the noise, >= 0.
        generator: Source of all random numbers, on the images' device.

    Returns:
        Images in [0, 1].
    """
    height, width = images.shape[2:]
    with images.device:
        frequencies = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width))
        colored, strength, zero_mean, exponent = torch.rand((4, len(images), 1, 1, 1), generator=generator)
        noise = colored * torch.randn(images.shape, generator=generator)
        noise = noise + (1 - colored) * torch.randn(images[:, :1].shape, generator=generator)
    spectrum = frequencies.clamp(min=1 / max(height, width)) ** (-MAX_NOISE_EXPONENT * exponent)
    noise = torch.fft.irfft2(torch.fft.rfft2(noise) * spectrum, s=(height, width))
    noise = noise - zero_mean * noise.mean((2, 3), keepdim=True)
    return (images + max_std * strength * noise / noise.std((1, 2, 3), keepdim=True)).clamp(0, 1)


def blurred_copies(images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """Return copies that show the colours of images and none of their shapes.

    Args:
        images: In [0, 1].
    """
    return torch.stack([blur(image) for image in images])


def reveal_parts(
    images: Float[Tensor, "n 3 h w"], relevance: Float[Tensor, "n h w"], generator: torch.Generator
) -> tuple[Float[Tensor, "n 3 h w"], Float[Tensor, "n 1"]]:
    """Show a random fraction of each image, the most or the least relevant pixels, and blur the rest.

    Views of measured insertion and deletion look like this.

    Args:
        images: In [0, 1].
        relevance: Contribution of each pixel to the image's motif.
        generator: Source of all random numbers, on the images' device.

    Returns:
        Images in [0, 1], and how certain a network should be of each motif, in [0, 1]. It grows with the fraction that
        is shown, and is smaller for the least relevant pixels.
    """
    side = min(images.shape[2:]) // RANKING_DIVISOR | 1
    smooth = F.avg_pool2d(relevance[:, None], side, 1, side // 2, count_include_pad=False)
    with images.device:
        fraction, kind = torch.rand((2, len(images), 1), generator=generator)
    least = kind < LEAST_FRACTION
    fraction = torch.where(least, fraction, fraction**2)
    order = smooth.flatten(1).argsort(1, descending=True).argsort(1) / smooth[0].numel()
    shown = torch.where(least, order >= 1 - fraction, order < fraction).view(smooth.shape)
    surest = torch.where(least, (fraction - UNSURE) / (1 - UNSURE), fraction / SURE)
    return torch.where(shown, images, blurred_copies(images)), surest.clamp(0, 1)


def _enlarged_grid(images: Tensor, corner: Bool[Tensor, " n"], generator: torch.Generator) -> Float[Tensor, "n h w xy"]:
    """Return the sampling grid of an enlarged part: anywhere, or in a corner, where the centre is seldom visible."""
    with images.device:
        zoom = ZOOM[0] + (ZOOM[1] - ZOOM[0]) * torch.rand((len(images), 1, 1, 1), generator=generator)
        middle = 2 * torch.rand((len(images), 1, 1, 2), generator=generator) - 1
    middle = torch.where(corner.view(-1, 1, 1, 1), middle.sign() * (1 - 1 / zoom), 0.6 * middle)
    return _identity_grid(images) / zoom + middle


def _warped_grid(images: Tensor, generator: torch.Generator) -> Float[Tensor, "n h w xy"]:
    """Return the sampling grid of a smooth random warp."""
    with images.device:
        field = torch.randn((len(images), 2, WARP_GRID, WARP_GRID), generator=generator)
        std = WARP[0] + (WARP[1] - WARP[0]) * torch.rand((len(images), 1, 1, 1), generator=generator)
    smooth = F.interpolate(field, images.shape[2:], mode="bicubic", align_corners=False)
    return _identity_grid(images) + std * smooth.permute(0, 2, 3, 1)


def _identity_grid(images: Tensor) -> Float[Tensor, "1 h w xy"]:
    """Return the sampling grid that leaves images as they are."""
    identity = torch.eye(2, 3, device=images.device)[None]
    return F.affine_grid(identity, [1, 1, *images.shape[2:]], align_corners=False)


def _shuffled(images: Tensor, generator: torch.Generator) -> Tensor:
    """Cut each image into blocks at a random offset, and put them into random order."""
    down, along = torch.randint(BLOCK, (2,), generator=generator, device=images.device).tolist()
    blocks = F.unfold(images.roll((down, along), (2, 3)), BLOCK, stride=BLOCK)
    order = torch.rand((len(images), blocks.shape[2]), generator=generator, device=images.device).argsort(1)
    return F.fold(blocks.gather(2, order[:, None].expand_as(blocks)), images.shape[2:], BLOCK, stride=BLOCK)
