"""The networks that ship with featviz, so that the first image or text needs no download."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import nn

from featviz.network.bundled.classes import MOTIFS
from featviz.network.bundled.motifnet import MEAN, SIZE, STD, MotifNet
from featviz.network.bundled.motifvit import motifvit
from featviz.network.bundled.phraseformer import Phraseformer
from featviz.network.bundled.phraselstm import PhraseLSTM
from featviz.network.bundled.vocabulary import BEGIN, MAX_TOKENS, PAD, SENTIMENTS, VOCABULARY, WordTokenizer
from featviz.network.inputs.token_spec import TokenSpec
from featviz.network.loading.weights import DEFAULT_WEIGHTS
from featviz.network.network import Network

__all__ = [
    "BUNDLED",
    "IMAGE_NETWORKS",
    "MOTIFS",
    "SENTIMENTS",
    "TEXT_NETWORKS",
    "TOKENIZERS",
    "VOCABULARY",
    "MotifNet",
    "PhraseLSTM",
    "Phraseformer",
    "WordTokenizer",
    "network",
    "weights",
]

IMAGE_NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "motifnet": lambda: MotifNet(len(MOTIFS)),
    "motifvit": lambda: motifvit(SIZE, len(MOTIFS)),
}
"""Builds each bundled network that reads images with random weights, by name."""
TEXT_NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "phraselstm": lambda: PhraseLSTM(len(VOCABULARY), len(SENTIMENTS)),
    "phraseformer": lambda: Phraseformer(len(VOCABULARY), len(SENTIMENTS), MAX_TOKENS),
}
"""Builds each bundled network that reads text with random weights, by name."""
TOKENIZERS = {"phraselstm": WordTokenizer(), "phraseformer": WordTokenizer(begin=True)}
"""The tokenizer of each bundled network that reads text."""
BUNDLED = IMAGE_NETWORKS | TEXT_NETWORKS
"""Builds each bundled network with random weights, by name."""


def network(name: str = "motifnet", *, trained: bool = True) -> Network:
    """Build a bundled network on the CPU.

    Args:
        name: `motifnet` or `motifvit`, which read images; `phraselstm` or `phraseformer`, which read text.
        trained: Load the trained weights; otherwise they stay random.

    Returns:
        The network in eval mode, with its class names.
    """
    from safetensors.torch import load_file

    module = BUNDLED[name]().eval()
    if trained:
        module.load_state_dict({key: value.float() for key, value in load_file(weights(name)).items()})
    if name in IMAGE_NETWORKS:
        return Network(module, size=SIZE, mean=MEAN, std=STD, classes=MOTIFS, name=name, weights=DEFAULT_WEIGHTS)
    tokenizer = TOKENIZERS[name]
    special = (PAD, BEGIN) if tokenizer.begin else (PAD,)
    tokens = TokenSpec(VOCABULARY, MAX_TOKENS, PAD, special, tokenizer, "embedding")
    return Network(module, tokens=tokens, classes=SENTIMENTS, name=name, weights=DEFAULT_WEIGHTS)


def weights(name: str) -> Path:
    """Return the path of the trained weights of a bundled network.

    Args:
        name: A name in `BUNDLED`.
    """
    return Path(__file__).with_name(f"{name}.safetensors")
