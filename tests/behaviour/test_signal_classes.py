"""Class signals of a network are named by another one that was trained separately."""

from __future__ import annotations

import pytest
import torch
from waveforms import FAMILIES, LENGTH, signals, trained_pair

import featviz as fv

STEPS, SEEDS = 256, 3


def test_signals_are_standardised_and_their_families_differ():
    labels = torch.arange(len(FAMILIES)).repeat_interleave(4)
    found = signals(labels, torch.Generator().manual_seed(0))
    assert found.shape == (len(labels), 1, LENGTH)
    assert torch.allclose(found.mean(2), torch.zeros(len(labels), 1), atol=1e-4)
    assert torch.allclose(found.std(2), torch.ones(len(labels), 1), atol=1e-4)
    assert not torch.equal(found, signals(labels, torch.Generator().manual_seed(1)))


@pytest.mark.long
def test_class_signals_are_named_by_a_separately_trained_network():
    """Without limits of the power, a fifth of the samples is near the largest amplitude; see `make axes-bench`."""
    network, second, accuracies = trained_pair()
    assert min(accuracies) > 0.85
    families = [family for family in range(len(FAMILIES)) for _ in range(SEEDS)]
    goals, seeds = [f"logit:{family}" for family in families], list(range(SEEDS)) * len(FAMILIES)
    found = fv.render(network, goals, seed=seeds, steps=STEPS, robustness_views=0, progress=None)
    with torch.no_grad():
        named = second(found.values).argmax(1)
    assert (named == torch.tensor(families)).float().mean() >= 0.95
    assert (found.values.abs() > 3.6).float().mean() < 0.01
