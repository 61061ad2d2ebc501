"""Normalisations whose denominator counts as constant."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from featviz.apps.shared.operations.normalisations import BATCH_NORMALISATIONS, NORMALISATIONS


@pytest.mark.parametrize("training", [False, True])
def test_normalisations_with_a_constant_denominator_have_the_same_output(training):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 6, 4, 5, generator=generator)
    weight, bias, mean = torch.randn(3, 6, generator=generator)
    rows, var = torch.randn(4, 5, generator=generator), torch.rand(6, generator=generator) + 0.5
    calls = [
        (F.layer_norm, ((4, 5), rows, rows)), (torch.layer_norm, ((4, 5), rows, rows, 1e-3, True)),
        (F.rms_norm, ((4, 5), rows)), (torch.rms_norm, ((5,), rows[0], 1e-2)),
        (F.group_norm, (2, weight, bias, 1e-3)), (torch.group_norm, (3, weight, bias, 1e-3, True)),
        (F.instance_norm, (mean, var, weight, bias, training)),
        (torch.instance_norm, (weight, bias, mean, var, training, 0.1, 1e-3, True)),
        (F.batch_norm, (mean, var, weight, bias, training)),
        (torch.batch_norm, (weight, bias, mean, var, training, 0.1, 1e-3, True)),
    ]  # fmt: skip
    both = {**NORMALISATIONS, **BATCH_NORMALISATIONS}
    assert {function for function, _ in calls} == set(both)
    for function, given in calls:
        copies = [each.clone() if isinstance(each, torch.Tensor) else each for each in given]
        torch.testing.assert_close(both[function](x, *given), function(x, *copies), rtol=1e-4, atol=1e-5)
