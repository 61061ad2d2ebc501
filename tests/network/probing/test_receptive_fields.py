"""Receptive fields equal those of the recursion over kernels, strides and dilations, and take few passes."""

import math

import pytest
import toys
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import featviz as fv
from featviz.network.probing import field_probing
from featviz.network.probing.receptive_fields import ReceptiveField, receptive_fields

SIDE = 64


class Branches(nn.Module):
    """The sum of two paths with the same stride."""

    def __init__(self, one: nn.Module, two: nn.Module) -> None:
        super().__init__()
        self.one, self.two = one, two

    def forward(self, x: Tensor) -> Tensor:
        return self.one(x) + self.two(x)


def conv(kernel, stride=1, dilation=1, channels=3):
    padding = dilation * (kernel - 1) // 2
    return nn.Conv2d(channels, channels, kernel, stride, padding, dilation)


STEPS = st.one_of(
    st.tuples(st.just("conv"), st.sampled_from([1, 3, 5]), st.sampled_from([1, 2]), st.sampled_from([1, 2])),
    st.tuples(st.sampled_from(["max", "mean"]), st.sampled_from([2, 3]), st.sampled_from([1, 2]), st.just(1)),
    st.tuples(st.just("branches"), st.sampled_from([1, 3]), st.sampled_from([1, 2]), st.sampled_from([1, 2])),
    st.tuples(st.just("pointwise"), st.just(1), st.just(1), st.just(1)),
)


def built(steps):
    """Return the modules, and the field and the stride of each by the recursion field += (reach - 1) * stride."""
    modules, expected, field, stride = [], [], 1, 1
    for kind, kernel, step, dilation in steps:
        reach = dilation * (kernel - 1) + 1
        if kind == "conv":
            module = conv(kernel, step, dilation)
        elif kind == "max":
            module = nn.MaxPool2d(kernel, step)
        elif kind == "mean":
            module = nn.AvgPool2d(kernel, step)
        elif kind == "branches":  # the wider one decides
            module, reach = Branches(conv(kernel, step, dilation), conv(5, step)), max(reach, 5)
        else:
            module = nn.Sequential(nn.BatchNorm2d(3), nn.GELU())
        field, stride = field + (reach - 1) * stride, stride * step
        modules.append(module.eval())
        expected.append((field, stride))
    return modules, expected


@given(st.lists(STEPS, min_size=1, max_size=5))
@settings(max_examples=25, deadline=None)
def test_fields_of_random_stacks_equal_the_recursion(steps):
    modules, expected = built(steps)
    if expected[-1][1] > 16:
        return
    net = toys.network(nn.Sequential(*modules), size=SIDE)
    found = net.receptive_fields()
    for i, (field, stride) in enumerate(expected):
        assert found[str(i)] == ReceptiveField(field, stride), (i, steps)


@given(st.lists(STEPS, min_size=1, max_size=4), st.sampled_from([8, 24]))
@settings(max_examples=15, deadline=None)
def test_strips_tell_the_same_as_full_images(steps, height):
    modules, expected = built(steps)
    names = [str(i) for i in range(len(modules))]
    strides = {name: stride for name, (_, stride) in zip(names, expected, strict=True)}

    def run(images, note):
        for name, module in zip(names, modules, strict=True):
            images = module(images)
            note(name, images.detach())

    if height < 4 * expected[-1][1] or not all(math.log2(stride).is_integer() for _, stride in expected):
        return
    whole = receptive_fields(run, strides, (128, 128), 3)
    assert receptive_fields(run, strides, (height, 128), 3) == whole
    assert whole == {name: ReceptiveField(field, stride) for name, (field, stride) in zip(names, expected, strict=True)}


def test_fields_that_reach_the_border_are_all_of_the_image():
    net = toys.network(nn.Sequential(conv(5, 2), nn.AdaptiveAvgPool2d(4), conv(3)), size=SIDE)
    found = net.receptive_fields()
    assert found["0"] == ReceptiveField(5, 2)

    class Global(nn.Module):
        def forward(self, x):
            return x * x.mean((2, 3), keepdim=True)

    squeezed = toys.network(nn.Sequential(conv(3), Global(), conv(3)), size=SIDE)
    found = squeezed.receptive_fields()
    assert (found["0"].px, found["1"].px, found["2"].px) == (3, None, None)
    assert [row[4] for row in squeezed.layers().rows()] == ["3", "all", "all", "all"]


def test_columns_tell_of_maps_with_channels_last_too():
    net = toys.network(toys.ChannelsLast())
    assert {name: (each.px, each.stride) for name, each in net.receptive_fields().items()} == {
        "conv": (4, 4), "norm": (4, 4), "act": (4, 4)
    }  # fmt: skip


def test_networks_without_maps_have_no_fields():
    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(3, 2)

        def forward(self, x):
            return self.head(x.mean((2, 3)))

    assert toys.network(Flat()).receptive_fields() == {}
    assert receptive_fields(lambda *_: pytest.fail("ran"), {}, (8, 8), 3) == {}


def counted(module):
    """Count forward passes of working copies: their hooks are of this class attribute."""
    passes = []
    original = type(module).forward

    def forward(self, x):
        passes.append((len(x), *x.shape[2:]))
        return original(self, x)

    return passes, forward


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_listing_layers_takes_few_passes(name, monkeypatch):
    torchvision = pytest.importorskip("torchvision")
    module = getattr(torchvision.models, name)(weights=None).eval()
    passes, forward = counted(module)
    monkeypatch.setattr(type(module), "forward", forward)
    net = fv.Network(module, size=64, **toys.HALF)
    table = net.layers()
    assert len(passes) <= 8, passes
    count = len(passes)
    assert str(net.layers()) == str(table)
    assert len(passes) == count  # nothing runs again
    fields = net.receptive_fields()
    assert all(each.stride for each in fields.values())
    if name == "resnet18":
        # 7 x 7 and a 3 x 3 pool, each with stride 2, and four 3 x 3 convolutions, the first of which may have stride 2
        assert [fields[part].px for part in ("conv1", "maxpool", "layer1", "layer2")] == [7, 11, 43, 99]


def test_all_layers_of_a_network_of_fixed_size_are_measured_at_that_size():
    sizes = []
    net = toys.network(toys.Flattening())
    original = field_probing.receptive_fields

    def noted(run, strides, size, channels, axis):
        sizes.append(size)
        return original(run, strides, size, channels, axis)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(field_probing, "receptive_fields", noted)
        found = net.receptive_fields()
    assert sizes == [(32, 32)]
    assert found == {"conv": ReceptiveField(5, 2), "pool": ReceptiveField(9, 4)}
