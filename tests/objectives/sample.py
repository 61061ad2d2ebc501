"""Random activations of a feature map, tokens and a vector, in double precision, and helpers that compare scores."""

import pytest
import torch

from featviz.network.activations import Activations
from featviz.network.layout import Layout

N, C, H, W = 3, 4, 3, 5
MAP = torch.randn(N, C, H, W, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
TOKENS = torch.randn(N, 7, C, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
IMAGES = torch.rand(N, 3, 6, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
ACTS = Activations(
    {"map": MAP, "tokens": TOKENS, "vector": MAP[:, :, 0, 0]},
    {"map": Layout("map"), "tokens": Layout("tokens", 2, (8, 8), 1, special=(("cls", 0),)), "vector": Layout("vector")},
    (16, 24),
    source=IMAGES,
)
REFERENCE = torch.rand(3, 6, 9, generator=torch.Generator().manual_seed(7))
REFERENCE_MAP = torch.randn(1, C, H, W, dtype=torch.float64, generator=torch.Generator().manual_seed(8))


def assert_scores(scores, expected):
    """Check the scores of all images."""
    assert scores.shape == (len(expected),)
    assert scores.tolist() == pytest.approx(expected, rel=1e-6, abs=1e-9)
