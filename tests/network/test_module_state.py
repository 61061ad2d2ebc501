"""Temporary changes to a module: what is set inside of the context, and that everything is restored."""

from contextlib import suppress

import pytest
import torch
import toys
from torch import nn

from featviz.network.module_state import converted_weights, frozen, version

ERRORS = [None, ZeroDivisionError, KeyboardInterrupt]


def stop(error):
    if error:
        raise error


def mixed_module():
    """Return a module with parts in training and eval mode, and with trainable and frozen weights."""
    module = toys.network(toys.Plain()).module.train()
    module.bn1.eval()
    module.conv2.weight.requires_grad_(False)
    return module


def flags(module):
    return (
        {name: part.training for name, part in module.named_modules()},
        {name: weight.requires_grad for name, weight in module.named_parameters()},
    )


# ---------------------------------------------------------------------------------------------- frozen


@pytest.mark.parametrize("error", ERRORS)
def test_flags_are_set_and_restored(error):
    module = mixed_module()
    before = flags(module)
    with suppress(ZeroDivisionError, KeyboardInterrupt), frozen(module):
        assert not any(part.training for part in module.modules())
        assert not any(weight.requires_grad for weight in module.parameters())
        stop(error)
    assert flags(module) == before


def test_flags_that_change_inside_are_restored():
    module = mixed_module()
    before = flags(module)
    with frozen(module):
        module.train()
        module.requires_grad_(True)
    assert flags(module) == before


def test_nested_contexts_stay_frozen_until_the_outer_one_ends():
    module = mixed_module()
    before = flags(module)
    with frozen(module):
        inside = flags(module)
        with frozen(module):
            pass
        assert flags(module) == inside
    assert flags(module) == before


def test_the_users_own_train_and_eval_methods_are_not_called():
    class Merging(toys.Plain):
        def train(self, mode=True):
            raise AssertionError("adapters were merged")

    with frozen(Merging()):
        pass


class Buffered(nn.Module):
    """Its forward pass writes to one buffer, assigns two others, and lets the rest be."""

    def __init__(self):
        super().__init__()
        for name in ("written", "assigned", "kept"):
            self.register_buffer(name, torch.arange(3.0))
        self.register_buffer("empty", None)
        self.inner = nn.BatchNorm2d(3)

    def forward(self, x):
        self.written += 1
        self.assigned = self.assigned + 1
        self.empty = torch.ones(2)
        self.inner.num_batches_tracked.add_(1)
        self.inner.running_mean = torch.ones(3)
        return x


@pytest.mark.parametrize("error", ERRORS)
def test_buffers_are_restored(error):
    module = Buffered()
    before = {name: (buffer, buffer.clone()) for name, buffer in module.named_buffers()}
    versions = {name: version(buffer) for name, (buffer, _) in before.items()}
    with suppress(ZeroDivisionError, KeyboardInterrupt), frozen(module):
        module(torch.rand(1, 3, 4, 4))
        assert module.written.tolist() == module.assigned.tolist() == [1, 2, 3]
        stop(error)
    assert module.empty is None
    assert dict(module.named_buffers()).keys() == before.keys()
    for name, buffer in module.named_buffers():
        original, value = before[name]
        assert buffer is original
        assert torch.equal(buffer, value)
    assert version(module.kept) == versions["kept"]  # buffers that did not change are not written to


def test_buffers_that_two_modules_share_are_restored():
    module = nn.Sequential(Buffered(), Buffered())
    module[1].written = module[0].written
    with frozen(module):
        module(torch.rand(1, 3, 4, 4))
        assert module[0].written.tolist() == [2, 3, 4]
    assert module[0].written is module[1].written
    assert module[0].written.tolist() == [0, 1, 2]


def test_version_counts_writes_in_place():
    tensor = torch.zeros(3)
    first = version(tensor)
    tensor += 1
    assert version(tensor) > first
    with torch.inference_mode():
        assert version(torch.zeros(3)) == -1


@pytest.mark.parametrize("affine", [True, False])
def test_modules_made_in_inference_mode_can_be_frozen(affine):
    with torch.inference_mode():
        module = nn.BatchNorm2d(3, affine=affine)
    before = flags(module)
    with frozen(module):
        assert not module.training
    assert flags(module) == before


# ---------------------------------------------------------------------------------------------- converted weights


class Several(nn.Module):
    """Weights of convolutions, of a linear layer and of modules that autocast handles."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.line = nn.Conv1d(3, 4, 3)
        self.linear = nn.Linear(4, 2)
        self.norm = nn.LayerNorm(4)
        self.precise = nn.Linear(4, 2).double()
        self.place = nn.Parameter(torch.rand(1, 3, 4, 5))


def layouts(module):
    return {
        name: (weight, weight.data_ptr(), weight.dtype, weight.stride()) for name, weight in module.named_parameters()
    }


def assert_same(before, after):
    assert before.keys() == after.keys()
    for name, (weight, *layout) in after.items():
        assert weight is before[name][0]
        assert layout == list(before[name][1:])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("error", ERRORS)
def test_weights_are_converted_and_restored(dtype, memory_format, error):
    module = Several()
    before, values = layouts(module), {name: value.clone() for name, value in module.state_dict().items()}
    with suppress(ZeroDivisionError, KeyboardInterrupt), converted_weights(module, memory_format, dtype):
        for part in (module.conv, module.line, module.linear):
            assert {weight.dtype for weight in part.parameters()} == {dtype}
        assert module.norm.weight.dtype == module.place.dtype == torch.float32
        assert module.precise.weight.dtype == torch.float64
        assert module.conv.weight.is_contiguous(memory_format=memory_format)
        assert module.place.is_contiguous(memory_format=memory_format)
        assert torch.equal(module.conv.weight.float(), values["conv.weight"].to(dtype).float())
        stop(error)
    assert_same(before, layouts(module))
    assert all(torch.equal(value, values[name]) for name, value in module.state_dict().items())


def test_channels_last_weights_keep_their_layout_afterwards():
    module = Several().to(memory_format=torch.channels_last)
    before = layouts(module)
    with converted_weights(module, torch.contiguous_format):
        assert module.conv.weight.is_contiguous()
    assert_same(before, layouts(module))
    assert not module.conv.weight.is_contiguous()


def test_nested_conversions_each_restore_their_own():
    module = Several()
    before = layouts(module)
    with converted_weights(module, torch.channels_last, torch.bfloat16):
        inside = layouts(module)
        with converted_weights(module, torch.contiguous_format):
            assert module.conv.weight.is_contiguous()
            assert module.conv.weight.dtype == torch.bfloat16  # only single precision is converted
        assert_same(inside, layouts(module))
    assert_same(before, layouts(module))


def test_shared_weights_stay_shared():
    module = Several()
    module.linear.weight = module.precise.weight = nn.Parameter(torch.rand(2, 4))
    with converted_weights(module, torch.channels_last, torch.bfloat16):
        assert module.linear.weight is module.precise.weight
        assert module.linear.weight.dtype == torch.bfloat16
    assert module.linear.weight.dtype == torch.float32


def test_weights_are_restored_if_a_conversion_fails(monkeypatch):
    module = Several()
    before = layouts(module)
    original = torch.Tensor.to

    def to(tensor, *args, **more):
        if tensor.shape == module.linear.weight.shape:
            raise torch.OutOfMemoryError("no more")
        return original(tensor, *args, **more)

    monkeypatch.setattr(torch.Tensor, "to", to)
    with pytest.raises(torch.OutOfMemoryError), converted_weights(module, torch.channels_last, torch.bfloat16):
        pass
    monkeypatch.undo()
    assert_same(before, layouts(module))
