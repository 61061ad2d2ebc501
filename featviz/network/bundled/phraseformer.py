"""The bundled text transformer: a few narrow blocks and a class token."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

from featviz.network.bundled.vocabulary import PAD

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor


class Block(nn.Module):
    """A transformer block that normalises its input: attention, then a perceptron, each with a shortcut.

    Args:
        width: Number of channels of a token.
        heads: Number of attention heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Float[Tensor, "n length width"]) -> Float[Tensor, "n length width"]:
        """Return the tokens after attention and perceptron."""
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class Phraseformer(nn.Module):
    """A transformer that classifies sentences by their first token.

    Args:
        words: Size of the vocabulary.
        classes: Number of classes.
        length: Number of tokens of the longest sentence.
        width: Number of channels of a token.
        depth: Number of blocks.
        heads: Number of attention heads.
    """

    def __init__(self, words: int, classes: int, length: int, width: int = 64, depth: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width, padding_idx=PAD)
        self.positions = nn.Parameter(_waves(length, width))
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes, bias=False)

    def forward(self, ids: Int[Tensor, "n length"]) -> Float[Tensor, "n classes"]:
        """Return class logits of sentences of equal length, which begin with the class token."""
        x = self.embedding(ids) + self.positions[: ids.shape[1]]
        return self.head(self.norm(self.blocks(x)[:, 0]))


def _waves(length: int, width: int) -> Float[Tensor, "length width"]:
    """Return sine waves of falling frequency, from which the position embedding is trained.

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.5; as small as the embedding of words.
    """
    frequencies = torch.exp(-math.log(1000) * torch.arange(0, width, 2) / width)
    phases = torch.arange(length)[:, None] * frequencies
    return 0.15 * torch.cat([phases.sin(), phases.cos()], 1)
