"""Conversion of the weights of a working copy: which weights, and that those of the module stay."""

import pytest
import torch
import toys
from torch import nn

import featviz as fv
from featviz.network.fast.memory_formats import convert_weights, in_memory_format
from featviz.network.working_copy import working_copy


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


def converted(module, *options):
    copy = working_copy(module)
    convert_weights(copy, *options)
    return copy


def layouts(module):
    return {
        name: (id(weight), weight.data_ptr(), weight.dtype, weight.stride())
        for name, weight in module.named_parameters()
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("original_format", [torch.contiguous_format, torch.channels_last])
def test_weights_of_the_copy_are_converted_and_others_stay(original_format, memory_format, dtype):
    module = Several()
    module.conv.to(memory_format=original_format)
    before, values = layouts(module), {name: value.clone() for name, value in module.state_dict().items()}
    copy = converted(module, memory_format, dtype)
    for part in (copy.conv, copy.line, copy.linear):
        assert {weight.dtype for weight in part.parameters()} == {dtype}
    assert copy.norm.weight.dtype == copy.place.dtype == torch.float32
    assert copy.precise.weight.dtype == torch.float64
    assert copy.conv.weight.is_contiguous(memory_format=memory_format)
    assert copy.place.is_contiguous()
    assert torch.equal(copy.conv.weight.float(), values["conv.weight"].to(dtype).float())
    assert layouts(module) == before
    assert all(torch.equal(value, values[name]) for name, value in module.state_dict().items())


def test_weights_that_need_no_conversion_share_their_memory():
    module = Several()
    copy = converted(module, torch.contiguous_format)
    assert [weight.data_ptr() for weight in copy.parameters()] == [weight.data_ptr() for weight in module.parameters()]


def test_only_single_precision_is_lowered():
    copy = converted(Several().half(), torch.channels_last, torch.bfloat16)
    assert {weight.dtype for weight in copy.parameters()} == {torch.float16}


def test_tied_weights_stay_tied():
    module = Several()
    module.linear.weight = module.precise.weight = nn.Parameter(torch.rand(2, 4))
    copy = converted(module, torch.channels_last, torch.bfloat16)
    assert copy.linear.weight is copy.precise.weight
    assert copy.linear.weight.dtype == torch.bfloat16
    assert module.linear.weight.dtype == torch.float32


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_images_get_the_format_and_their_gradient_is_contiguous(memory_format):
    images = torch.rand(2, 3, 4, 5, requires_grad=True)
    seen = []
    scaled = images * 2
    converted = in_memory_format(scaled, memory_format)
    scaled.register_hook(seen.append)
    assert converted.is_contiguous(memory_format=memory_format)
    assert torch.equal(converted, scaled)
    weight = torch.rand(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    (converted * weight).sum().backward()
    assert seen[0].is_contiguous()
    assert torch.equal(images.grad, 2 * weight)


@pytest.mark.parametrize("shape", [(2, 3, 8), (2, 1, 4, 5)])
def test_a_module_may_change_its_input_in_place(shape):
    images = torch.rand(shape, requires_grad=True)
    memory_format = torch.channels_last if len(shape) == 4 else torch.contiguous_format
    in_memory_format(images * 2, memory_format).sub_(1).sum().backward()
    assert torch.equal(images.grad, torch.full(shape, 2.0))


class InMemoryOrder(nn.Module):
    """Reads memory in its order, as custom kernels do."""

    def forward(self, x):
        n, c, h, w = x.shape
        blocks = x.as_strided((n, c, 2, 2, h // 2, w // 2), (c * h * w, h * w, w, 1, 2 * w, 2))
        return blocks.reshape(n, c * 4, h // 2, w // 2)


def test_channels_last_is_not_used_where_outputs_differ():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), InMemoryOrder(), nn.Conv2d(32, 8, 1)).eval()
    net = fv.Network(module, size=32, mean=(0.0,) * 3, std=(1.0,) * 3)
    assert net.probed.memory_format is torch.contiguous_format
    images = torch.rand(2, 3, 32, 32)
    assert torch.allclose(net.capture(images, "2")["2"], module(images), atol=1e-5)


@pytest.mark.parametrize("precision", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_channels_last_is_used_in_every_precision(precision):
    module = toys.Plain().eval().to(precision)
    assert toys.network(module).probed.memory_format is torch.channels_last


class NeedsChannelsLast(nn.Module):
    """Runs with channels last in memory only."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 32 * 32, 3)

    def forward(self, x):
        return self.head(self.conv(x).permute(0, 2, 3, 1).view(len(x), -1))


class Random(nn.Module):
    def forward(self, x):
        return torch.nn.functional.dropout(x, 0.5, True)


class Undefined(nn.Module):
    def forward(self, x):
        return x * float("nan")


class Whole(nn.Module):
    def forward(self, x):
        return (x > 0.5).long()


@pytest.mark.parametrize("kind", [NeedsChannelsLast, Random, Undefined, Whole])
def test_channels_last_is_used_where_outputs_cannot_be_compared(kind):
    assert toys.network(kind(), 32).probed.memory_format is torch.channels_last
