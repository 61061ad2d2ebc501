"""Files of overcomplete: the keys of its modules, and their formulas restated."""

from __future__ import annotations

import math

import pytest
import torch
from sample_dictionaries import numbers

import featviz as fv

CHANNELS, FEATURES = 8, 12
X = numbers(40, CHANNELS, seed=9)
FIRST, NORM = "encoder.final_block.0.", "encoder.final_block.1."


def linear(**more):
    """Return the state_dict of the default encoder and dictionary."""
    return {
        f"{FIRST}weight": numbers(FEATURES, CHANNELS),
        f"{FIRST}bias": numbers(FEATURES, seed=1),
        "dictionary._weights": numbers(FEATURES, CHANNELS, seed=6),
        "dictionary.multiplier": torch.tensor(0.0),
        **more,
    }


def products(given):
    """Return the products of the rows of the encoder with each vector, one number after another."""
    return torch.tensor(
        [
            [
                sum(float(w) * float(v) for w, v in zip(row, x, strict=True)) + float(b)
                for row, b in zip(given[f"{FIRST}weight"], given[f"{FIRST}bias"], strict=True)
            ]
            for x in X
        ]
    )


def loaded(tmp_path, given, **options):
    torch.save(given, tmp_path / "sae.pt")
    return fv.Dictionary.load(tmp_path / "sae.pt", **options)


def test_thresholds_of_jump_autoencoders_are_stored_as_logarithms(tmp_path):
    given = linear(thresholds=numbers(FEATURES, seed=4) - 0.5)
    pre = products(given)
    logarithms = given["thresholds"].tolist()
    expected = [[p if p >= math.exp(t) else 0.0 for p, t in zip(row, logarithms, strict=True)] for row in pre.tolist()]
    found = loaded(tmp_path, given)
    assert found.kind == "jumprelu"
    assert torch.allclose(found.encode(X), torch.tensor(expected), atol=1e-5)
    assert 0 < (torch.tensor(expected) > 0).sum() < (pre > 0).sum()


def test_batch_topk_needs_its_running_threshold_and_keeps_codes_that_are_equal_to_it(tmp_path):
    given = linear()
    whole = loaded(tmp_path, given).encode(X)
    threshold = whole.flatten().topk(50).values[-1]
    found = loaded(tmp_path, {**given, "running_threshold": threshold})
    assert found.kind == "batchtopk"
    codes = found.encode(X)
    assert (codes > 0).sum() == 50
    assert torch.allclose(codes, whole.where(whole >= threshold, torch.zeros(())), atol=1e-5)


def test_the_multiplier_scales_the_atoms(tmp_path):
    given = linear(**{"dictionary.multiplier": torch.tensor(0.5)})
    atoms = given["dictionary._weights"] * math.exp(0.5)
    assert torch.allclose(loaded(tmp_path, given).decode(torch.eye(FEATURES)), atoms, atol=1e-5)


def test_tied_and_untied_encoders(tmp_path):
    atoms, weight, bias = (
        numbers(FEATURES, CHANNELS, seed=6), numbers(FEATURES, CHANNELS, seed=7), numbers(FEATURES, seed=1),
    )  # fmt: skip
    both = {"dictionary._weights": atoms, "dictionary.multiplier": torch.tensor(0.3)}
    untied = loaded(tmp_path, {"encoder.weight": weight, "encoder.bias": bias, **both})
    assert torch.allclose(untied.encode(X), torch.relu(X @ weight.T + bias), atol=1e-5)
    tied = {"encoder.tied_to._weights": atoms, "encoder.tied_to.multiplier": torch.tensor(0.3), **both}
    assert torch.allclose(loaded(tmp_path, tied).encode(X), torch.relu(X @ atoms.T * math.exp(0.3)), atol=1e-5)
    assert loaded(tmp_path, tied, k=2).kind == "topk"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"encoder.mlp_blocks.0.0.weight": torch.ones(CHANNELS, CHANNELS)},
            "the encoder has several layers (encoder.mlp_blocks.0.0.weight); only the encoders linear and mlp_bn_1 "
            "are read",
        ),
        (
            {f"{NORM}weight": torch.ones(FEATURES), f"{NORM}bias": torch.ones(FEATURES)},
            "the encoder has a layer normalisation; only the encoders linear and mlp_bn_1 are read",
        ),
        (
            {"Q": torch.ones(4)},
            "codes of QSAE are quantised, which is not read; read are SAE, TopKSAE, BatchTopKSAE, JumpSAE",
        ),
    ],
)
def test_other_encoders_are_refused(more, message, tmp_path):
    with pytest.raises(fv.WeightsError) as caught:
        loaded(tmp_path, linear(**more))
    assert str(caught.value) == f"cannot read a dictionary from {tmp_path}/sae.pt: {message}"
