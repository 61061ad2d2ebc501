"""A stand-in for CLIP that works offline: motifnet embeds images, and captions that name a motif get its class."""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn

import featviz as fv
from featviz.network.bundled import MOTIFS


class CaptionedMotifs(nn.Module):
    """Embeds an image by its class probabilities in motifnet, and a text by the motifs that it names."""

    def __init__(self) -> None:
        super().__init__()
        self.visual = fv.load("motifnet", device="cpu").module

    def encode_image(self, image: Tensor) -> Tensor:
        """Return the class probabilities of images."""
        return self.visual(image).softmax(1)

    def encode_text(self, text: Tensor) -> Tensor:
        """Return 1 for each motif of a text, and 0 for the others."""
        return torch.stack([(text == motif).any(1) for motif in range(len(MOTIFS))], 1).float()


def tokenize(texts: list[str]) -> Tensor:
    """Return the classes of the motifs that each text names, and -1 where there are no more."""
    found = [[MOTIFS.index(word) for word in re.findall(r"\w+", text) if word in MOTIFS] for text in texts]
    longest = max(map(len, found))
    return torch.tensor([each + [-1] * (longest - len(each)) for each in found])


def captioned_motifs() -> fv.Network:
    """Return the network. Its classes are a caption for each motif."""
    expected = fv.load("motifnet", device="cpu").input
    captions = [f"a drawing of {motif}" for motif in MOTIFS]
    return fv.zero_shot(
        CaptionedMotifs().eval(), captions, tokenize, size=expected.size, mean=expected.mean, std=expected.std
    )
