"""Small networks that read text, for tests."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import featviz as fv

WORDS = ("[PAD]", "[CLS]", "the", "film", "was", "not", "good", "bad", "very", "a", "plot", "[END]")


def tokenize(text: str) -> list[int]:
    """Put a start token before the words of a text."""
    return [1, *(WORDS.index(word) for word in text.lower().split())]


SPEC = fv.TokenSpec(WORDS, 24, pad=0, special=(0, 1), tokenizer=tokenize)
TEXT = "the film was not very good"


class Recurrent(nn.Module):
    """An LSTM in both directions, whose last output is classified."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(WORDS), 6)
        self.lstm = nn.LSTM(6, 5, batch_first=True, bidirectional=True)
        self.head = nn.Linear(10, 2)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.lstm(self.embedding(ids))[0][:, -1])


class Transformer(nn.Module):
    """A transformer that hides padding, as its default or with the batch as the second dimension."""

    def __init__(self, *, batch_first: bool = True) -> None:
        super().__init__()
        self.batch_first = batch_first
        self.embedding = nn.Embedding(len(WORDS), 8, padding_idx=0)
        self.place = nn.Embedding(24, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=batch_first)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, 2)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embedding(ids) * 8**0.5 + self.place(torch.arange(ids.shape[1], device=ids.device))
        x = x if self.batch_first else x.transpose(0, 1)
        x = self.encoder(x, src_key_padding_mask=ids == 0)
        return self.head(x[:, 0] if self.batch_first else x[0])


class Convolutions(nn.Module):
    """Convolutions over (n, channels, length), and over (n, 1, length, channels)."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(WORDS), 6)
        self.same = nn.Conv1d(6, 4, 3, padding=1)
        self.valid = nn.Conv1d(4, 5, 3)
        self.rows = nn.Conv2d(1, 3, (2, 6))
        self.head = nn.Linear(8, 2)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embedding(ids)
        one = self.valid(self.same(x.transpose(1, 2)).relu()).relu().mean(2)
        return self.head(torch.cat([one, self.rows(x[:, None]).relu().amax((2, 3))], 1))


class EndOfText(nn.Module):
    """Reads its output where the id is largest, as the text encoder of CLIP does; the attention is causal."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(WORDS), 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, ids: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(ids.shape[1], device=ids.device)
        x = self.block(self.embedding(ids), src_mask=mask, is_causal=True)
        return self.head(x[torch.arange(len(ids)), ids.argmax(1)])


MODULES = {
    "lstm": Recurrent,
    "transformer": Transformer,
    "tokens first": lambda: Transformer(batch_first=False),
    "convolutions": Convolutions,
    "end of text": EndOfText,
}


def module(kind: str = "lstm") -> nn.Module:
    """Return a module with random weights, the same ones every time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MODULES[kind]().eval()


def network(kind: str = "lstm", **more: object) -> fv.Network:
    """Return a network that reads text."""
    inner = module(kind)
    classes = [] if kind == "end of text" else ["negative", "positive"]
    return fv.Network(inner, **{"tokens": SPEC, "classes": classes, **more})


def state(inner: nn.Module) -> dict[str, object]:
    """Return what no call may change on a module, but the values of its weights."""
    return {
        name: [
            type(part), part.training, sorted(vars(part)), len(part._forward_hooks), len(part._forward_pre_hooks),
            [(key, one.data_ptr(), one.requires_grad, one.grad is None) for key, one in part.named_parameters()],
        ]
        for name, part in inner.named_modules()
    }  # fmt: skip
