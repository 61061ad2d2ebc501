"""The bundled recurrent network: one LSTM layer without biases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from featviz.network.bundled.vocabulary import PAD

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor


class PhraseLSTM(nn.Module):
    """An LSTM that classifies sentences.

    It has no biases, so that relevance goes to words only (Arras et al. 2017, https://arxiv.org/abs/1706.07206).

    Args:
        words: Size of the vocabulary.
        classes: Number of classes.
        width: Number of channels of the embedding.
        hidden: Number of hidden units.
    """

    def __init__(self, words: int, classes: int, width: int = 64, hidden: int = 64) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width, padding_idx=PAD)
        self.lstm = nn.LSTM(width, hidden, bias=False, batch_first=True)
        self.head = nn.Linear(hidden, classes, bias=False)

    def forward(self, ids: Int[Tensor, "n length"]) -> Float[Tensor, "n classes"]:
        """Return class logits of sentences of equal length."""
        hidden, _ = self.lstm(self.embedding(ids))
        return self.head(hidden[:, -1])
