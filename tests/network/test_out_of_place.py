"""Activations in place, of which PyTorch copies the input, run out of place where that changes nothing."""

import pytest
import torch
from torch import nn

import featviz as fv
from featviz.network.fast.out_of_place import COPYING_MODULES, can_run_out_of_place, run_out_of_place


class Block(nn.Module):
    """A convolution and an activation in place, whose result is returned or ignored."""

    def __init__(self, activation, *, ignores):
        super().__init__()
        self.conv, self.activation, self.ignores = nn.Conv2d(3, 4, 3), activation(inplace=True), ignores

    def forward(self, x):
        x = self.conv(x)
        y = self.activation(x)
        return (x if self.ignores else y).mean((2, 3))


IMAGES = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("activation", [*COPYING_MODULES, nn.ReLU6])
@pytest.mark.parametrize("ignores", [False, True])
def test_only_where_the_result_is_used(activation, ignores):
    torch.manual_seed(0)
    module = Block(activation, ignores=ignores)
    assert can_run_out_of_place(module, IMAGES) is not ignores
    assert module.activation.inplace


def test_there_is_nothing_to_change_without_such_activations():
    assert not can_run_out_of_place(Block(nn.ReLU, ignores=False), IMAGES)
    parts = nn.Sequential(nn.ReLU6(), nn.SiLU(inplace=True), nn.ReLU(inplace=True))
    run_out_of_place(parts)
    assert [part.inplace for part in parts] == [False, False, True]


def test_an_activation_that_changes_nothing_in_the_trial_proves_nothing():
    module = Block(lambda inplace: nn.Hardtanh(-100, 100, inplace=inplace), ignores=True)
    assert not can_run_out_of_place(module, IMAGES)


@pytest.mark.parametrize("ignores", [False, True])
def test_a_session_gives_the_same_activations_and_gradients(ignores):
    torch.manual_seed(0)
    module = Block(nn.Hardswish, ignores=ignores).eval()
    net = fv.Network(module, size=16, mean=(0.0,) * 3, std=(1.0,) * 3)
    images = IMAGES.sigmoid().requires_grad_()
    with net.session([""], fv.Execution("float32")) as forward:
        assert forward.module.activation.inplace == ignores
        found = forward(images)[""]
    assert torch.allclose(found, module(images), atol=1e-6)
    one, two = (torch.autograd.grad(each.sum(), images)[0] for each in (found, module(images)))
    assert torch.allclose(one, two, atol=1e-6)


class Gate(nn.SiLU):
    """An activation with another signature than its class."""

    def forward(self, x, gate):
        return x.mul_(gate)


class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.gate, self.last = nn.Conv2d(3, 4, 3), Gate(inplace=True), nn.SiLU(inplace=True)

    def forward(self, x):
        return self.last(input=self.gate(self.conv(x), 0.5)).mean((2, 3))


def test_activations_that_compute_something_else_stay_as_they_are():
    module = Gated().eval()
    assert can_run_out_of_place(module, IMAGES)
    run_out_of_place(module)
    assert module.gate.inplace and not module.last.inplace
