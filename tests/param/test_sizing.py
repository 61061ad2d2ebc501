"""Params with another size and batch."""

from dataclasses import dataclass

import pytest
import torch
import toys

import featviz as fv


class Own:
    """A param of a user that sets its own size."""

    size, batch = (24, 24), 2

    def start(self, rng, channels, size):
        return [torch.zeros(len(rng), channels, *size, requires_grad=True)]

    def fit(self, images):
        return [images.clone().requires_grad_()]

    def images(self, leaves, size):
        return leaves[0].sigmoid()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": 32}, "Own has its own size, (24, 24); leave out size=(32, 32)"),
        ({"batch": 3}, "Own has its own batch, 2; leave out batch=3"),
    ],
)
def test_a_size_that_a_param_ignores_is_refused(given, message):
    net = toys.plain()
    assert fv.render(net, "conv2:1", param=Own(), steps=1).images.shape == (2, 3, 24, 24)
    with pytest.raises(fv.SettingError) as caught:
        fv.render(net, "conv2:1", param=Own(), steps=1, **given)
    assert str(caught.value) == message


@dataclass(frozen=True)
class Resized(Own):
    """A param of a user whose size and batch can be changed."""

    size: tuple[int, int] | None = None
    batch: int = 1

    def sized(self, size, batch):
        return Resized(size or self.size, batch if batch != 1 else self.batch)


def test_a_param_of_ones_own_may_take_size_and_batch():
    net = toys.plain()
    assert fv.render(net, "conv2:1", param=Resized(), steps=1).images.shape == (1, 3, 32, 32)
    assert fv.render(net, "conv2:1", param=Resized(), steps=1, size=24, batch=3).images.shape == (3, 3, 24, 24)
