"""The names of what was computed from a network and photographs, and the check of their activations."""

import re

import pytest
import torch
import toys
from sample_dictionaries import dictionary

import featviz as fv
from featviz.apps.shared.activations.cache_key import cache_key
from featviz.apps.shared.activations.finite import check_finite


def test_a_key_depends_on_everything_that_decides_the_result():
    net = toys.plain()
    other = toys.plain()
    other.module.conv1.weight.data += 1
    keys = [
        cache_key(net),
        cache_key(net, "conv1"),
        cache_key(net, "conv2"),
        cache_key(net, ["conv1", 3]),
        cache_key(fv.Network(net.module, size=40, **toys.HALF)),
        cache_key(other),
        cache_key(net.with_dictionary("conv2", dictionary())),
        cache_key(net.with_dictionary("conv2", dictionary("topk"))),
    ]
    assert len(set(keys)) == len(keys)
    assert all(re.fullmatch("[0-9a-f]{16}", key) for key in keys)


class Reversed(toys.Plain):
    """Has the weights of `Plain`, and computes something else."""

    def forward(self, x):
        return super().forward(-x)


def test_a_key_depends_on_the_code():
    net, other = toys.plain(), Reversed()
    other.load_state_dict(net.module.state_dict())
    assert fv.Network(other, size=32, **toys.HALF).fingerprint == net.fingerprint
    assert cache_key(fv.Network(other, size=32, **toys.HALF)) != cache_key(fv.Network(net.module, size=32, **toys.HALF))


def test_a_key_is_the_same_for_the_same():
    assert cache_key(toys.plain(), "conv1", 3) == cache_key(toys.plain(), "conv1", 3)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_activations_that_are_not_finite_are_refused(bad):
    values = torch.ones(2, 3)
    assert check_finite(values, toys.plain(), "conv1") is values
    values[1, 2] = bad
    text = (
        " of Plain outputs NaN or infinite numbers for these photographs; check its weights, mean and std, or choose "
        "an earlier layer"
    )
    for layer, shown in (("conv1", "layer 'conv1'"), ("", "layer 'logit'")):
        with pytest.raises(fv.ModelError) as caught:
            check_finite(values, toys.plain(), layer)
        assert str(caught.value) == shown + text
