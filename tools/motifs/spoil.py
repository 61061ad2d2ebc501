"""Drawings made worse: some until no motif is left, so that a network that has met them asks for the whole of one.

Without them the transformer takes a few bent strips for rings, and that is what its picture of rings then shows.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from featviz.network.bundled import MOTIFS
from motifs.patterns import CENTRED

CLOSE = 2.2, 3.5
"""How much a drawing is enlarged: so close by, one sees an arc or an edge, which could be of another motif."""
BENT = 0.2, 0.4
"""How far its parts are moved, as deviations in halves of the picture's side."""
BENDS = 4
"""So many parts along a side move on their own."""
BLOCK = 16
"""Side in px of the blocks that change places."""
STEEPEST = 1.5
"""The power of 1/frequency by which the amplitudes of noise fall at most."""
SHUFFLED = 1 / 3
"""The share of drawings whose blocks change places; the others are enlarged or bent, as many of each."""

LOOSE = ("wood", "clouds", "giraffe", "maze")
"""Motifs that are still there when they are bent."""
SMALL = (*LOOSE, "dots", "crosses", "checkerboard", "weave", "triangles", "bricks", "plaid")
"""Motifs that are still there when their blocks change places."""


def spoil(
    images: Float[Tensor, "n 3 h w"], labels: Int[Tensor, " n"], generator: torch.Generator
) -> Float[Tensor, "n 3 h w"]:
    """Come too close to each drawing, bend it, or shuffle its blocks, in a way that leaves nothing of its motif.

    Args:
        images: in [0, 1]; the sides are multiples of `BLOCK`.
        labels: indices into `MOTIFS`.
        generator: every random choice comes from it; it is on the images' device.

    Source: Qin et al. 2021, https://arxiv.org/abs/2110.07858, for shuffled patches as examples of nothing.
    """
    with images.device:
        known = (torch.tensor([name in names for name in MOTIFS])[labels] for names in (LOOSE, SMALL, CENTRED))
        chance, half = torch.rand((2, len(images)), generator=generator)
    loose, small, centred = known
    near = (half < 0.5) | loose
    close = _close(images, centred, generator)
    moved = torch.where(near.view(-1, 1, 1, 1), close, _bent(images, generator))
    spoilt = F.grid_sample(images, moved, padding_mode="reflection", align_corners=False)
    return torch.where(((chance < SHUFFLED) & ~small).view(-1, 1, 1, 1), _shuffled(images, generator), spoilt)


def grained(images: Float[Tensor, "n 3 h w"], most: float, generator: torch.Generator) -> Float[Tensor, "n 3 h w"]:
    """Lay noise over each image, grey or coloured, white or as smooth as brown noise, and brighter or darker in all.

    Under noise that is as loud as evidence, a network has to look for more of it, everywhere in the picture.

    Args:
        images: in [0, 1].
        most: its deviation at most.
        generator: every random choice comes from it; it is on the images' device.
    """
    height, width = images.shape[2:]
    with images.device:
        frequencies = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width))
        colored, much, bright, decay = torch.rand((4, len(images), 1, 1, 1), generator=generator)
        noise = colored * torch.randn(images.shape, generator=generator)
        noise = noise + (1 - colored) * torch.randn(images[:, :1].shape, generator=generator)
    fall = frequencies.clamp(min=1 / max(height, width)) ** (-STEEPEST * decay)
    noise = torch.fft.irfft2(torch.fft.rfft2(noise) * fall, s=(height, width))
    noise = noise - bright * noise.mean((2, 3), keepdim=True)
    return (images + most * much * noise / noise.std((1, 2, 3), keepdim=True)).clamp(0, 1)


def _close(images: Tensor, corner: Bool[Tensor, " n"], generator: torch.Generator) -> Float[Tensor, "n h w xy"]:
    """Say where to look to see a part enlarged: anywhere, or a corner, where the middle is seldom seen."""
    with images.device:
        times = CLOSE[0] + (CLOSE[1] - CLOSE[0]) * torch.rand((len(images), 1, 1, 1), generator=generator)
        middle = 2 * torch.rand((len(images), 1, 1, 2), generator=generator) - 1
    middle = torch.where(corner.view(-1, 1, 1, 1), middle.sign() * (1 - 1 / times), 0.6 * middle)
    return _places(images) / times + middle


def _bent(images: Tensor, generator: torch.Generator) -> Float[Tensor, "n h w xy"]:
    """Say where to look to see it bent."""
    with images.device:
        field = torch.randn((len(images), 2, BENDS, BENDS), generator=generator)
        much = BENT[0] + (BENT[1] - BENT[0]) * torch.rand((len(images), 1, 1, 1), generator=generator)
    smooth = F.interpolate(field, images.shape[2:], mode="bicubic", align_corners=False)
    return _places(images) + much * smooth.permute(0, 2, 3, 1)


def _places(images: Tensor) -> Float[Tensor, "1 h w xy"]:
    """Say where to look to see it as it is."""
    straight = torch.eye(2, 3, device=images.device)[None]
    return F.affine_grid(straight, [1, 1, *images.shape[2:]], align_corners=False)


def _shuffled(images: Tensor, generator: torch.Generator) -> Tensor:
    """Cut each image into blocks, anywhere, and lay them down in any order."""
    down, along = torch.randint(BLOCK, (2,), generator=generator, device=images.device).tolist()
    blocks = F.unfold(images.roll((down, along), (2, 3)), BLOCK, stride=BLOCK)
    order = torch.rand((len(images), blocks.shape[2]), generator=generator, device=images.device).argsort(1)
    return F.fold(blocks.gather(2, order[:, None].expand_as(blocks)), images.shape[2:], BLOCK, stride=BLOCK)
