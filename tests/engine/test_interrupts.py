"""Ctrl-C during an update of the leaf tensors comes after it."""

import signal
from threading import Thread

import pytest
import torch

import featviz as fv
from featviz.engine.interrupts import delay_interrupt


class _Interrupting:
    """An optimizer during whose update of the leaf tensors Ctrl-C is pressed."""

    def __init__(self, at):
        self.at = at

    def begin(self, leaves, steps):
        return _InterruptingStepper(fv.optimizers.Ascent(0.1).begin(leaves, steps), self.at)


class _InterruptingStepper:
    def __init__(self, stepper, at):
        self.stepper, self.left = stepper, at

    def step(self):
        self.left -= 1
        if not self.left:
            signal.raise_signal(signal.SIGINT)
        self.stepper.step()
        if not self.left:
            signal.raise_signal(signal.SIGTERM)  # does nothing here, and shows that the update was not left out


def test_ctrl_c_during_an_update_comes_after_it(net, monkeypatch):
    updates = []
    before = signal.signal(signal.SIGTERM, lambda *_: updates.append(1))
    try:
        stopped = fv.render(net, "conv2:3", steps=10, optimizer=_Interrupting(4), progress=None)
    finally:
        signal.signal(signal.SIGTERM, before)
    plain = fv.render(net, "conv2:3", steps=10, until=4, optimizer=fv.optimizers.Ascent(0.1), progress=None)
    assert updates == [1] and stopped.recipe.until == 4 == len(stopped.history)
    assert torch.equal(stopped.images, plain.images)


def test_a_second_ctrl_c_interrupts_at_once():
    passed = []

    def press_twice():
        with delay_interrupt():
            for _ in range(2):
                signal.raise_signal(signal.SIGINT)
                passed.append(1)

    with pytest.raises(KeyboardInterrupt):
        press_twice()
    assert passed == [1]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_is_left_alone_in_other_threads():
    handlers = []

    def run():
        with delay_interrupt():
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = Thread(target=run)
    thread.start()
    thread.join()
    assert handlers == [signal.default_int_handler]
