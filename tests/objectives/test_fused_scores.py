"""Objectives with the same `fused_key` are scored together: the same results as one by one, in fewer operations."""

import pytest
import torch
import toys
from torch.utils._python_dispatch import TorchDispatchMode

import featviz as fv
from featviz import objectives as obj
from featviz.network.channel_picking import pick_channels

FUSED = {
    "Channel": [obj.Channel("conv2", i) for i in (3, 0, 3)],
    "Logit": [obj.Logit(i) for i in (1, "cat", 4)],
    "Neuron": [obj.Neuron("conv2", i, (2, 3)) for i in (3, 0, 3)],
    "Probability": [obj.Probability(i) for i in (1, "bee", 4)],
    "Sum": [obj.Channel("conv2", i) - 2 * obj.TotalVariation() for i in (3, 0, 3)],
    "Negative": [-obj.Logit(i) for i in (1, 0, 4)],
    "Product": [obj.Ramp(1, 2) * obj.Logit(i) for i in (1, 0, 4)],
    "Quotient": [obj.Logit(i) / (1 + obj.L2()) for i in (1, 0, 4)],
}


@pytest.mark.parametrize("name", FUSED)
def test_scores_and_gradients_are_those_of_each_alone(name):
    members, net = FUSED[name], toys.plain()
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    acts = net.capture(images, members[0].layers).of(images, done=0.4)
    if name == "Product":  # a ramp depends on the step, and has no key
        assert members[0].fused_key is None
        return
    assert len({each.fused_key for each in members}) == 1
    together = members[0].score_fused(members, acts)
    alone = torch.stack([member(acts)[i] for i, member in enumerate(members)])
    assert torch.allclose(together, alone)
    one, two = (torch.autograd.grad(each.sum(), images, retain_graph=True)[0] for each in (together, alone))
    assert torch.allclose(one, two, atol=1e-7)


def test_other_objectives_have_no_key():
    assert obj.Layer("conv2").fused_key is None
    assert (obj.Channel("conv2", 1) + obj.Layer("conv2")).fused_key is None
    assert obj.Channel("conv2", 1).fused_key != obj.Channel("conv1", 1).fused_key
    assert obj.Neuron("conv2", 1, (0, 0)).fused_key != obj.Neuron("conv2", 1, (0, 1)).fused_key
    assert (obj.Channel("conv2", 1) + 1.0).fused_key != (obj.Channel("conv2", 1) + 2.0).fused_key


@pytest.mark.parametrize("batch", [1, 2])
def test_a_render_of_fused_objectives_equals_renders_of_its_members(batch):
    options = {"steps": 4, "transforms": (), "param": fv.param.Image(batch=batch), "execution": fv.Execution("float32")}
    together = fv.render(toys.plain(), FUSED["Channel"], **options)
    for i, member in enumerate(FUSED["Channel"]):
        images = slice(i * batch, (i + 1) * batch)
        alone = fv.render(toys.plain(), member, seed=i * batch, **options)
        assert torch.allclose(together.history[:, images], alone.history, atol=1e-5)
        assert (together.images[images] - alone.images).abs().max() < 1e-3


@pytest.mark.parametrize("chunk_size", [None, 1, 3])
def test_an_objective_that_is_given_twice_scores_its_own_images(chunk_size):
    first, other = obj.Channel("conv2", 3), obj.Channel("conv2", 0)
    options = {"steps": 3, "transforms": (), "execution": fv.Execution("float32", chunk_size=chunk_size)}
    same = fv.render(toys.plain(), [first, other, first, other], **options)
    equal = fv.render(toys.plain(), ["conv2:3", "conv2:0", "conv2:3", "conv2:0"], **options)
    assert torch.allclose(same.history, equal.history, atol=1e-5)
    alone = fv.render(toys.plain(), other, seed=1, **options)
    assert torch.allclose(same.history[:, 1:2], alone.history, atol=1e-5)


@pytest.mark.parametrize("chunk_size", [None, 3])
def test_an_objective_that_is_given_twice_compares_the_images_of_each_apart(chunk_size):
    compared = obj.Diversity("conv2")
    options = {
        "steps": 3,
        "param": fv.param.Image(batch=3),
        "execution": fv.Execution("float32", chunk_size=chunk_size),
    }
    twice = fv.render(toys.plain(), [compared, compared], transforms=(), **options)
    alone = fv.render(toys.plain(), compared, transforms=(), **options)
    assert torch.allclose(twice.history[:, :3], alone.history, atol=1e-5)


def test_a_wrong_channel_of_fused_objectives_is_named():
    with pytest.raises(fv.AddressError, match="no channel 99 in 'conv2'; it has 8, 0 to 7"):
        fv.render(toys.plain(), [obj.Channel("conv2", 1), obj.Channel("conv2", 99)], steps=1)
    with pytest.raises(fv.AddressError, match="no class 'zzz'"):
        fv.render(toys.plain(), [obj.Logit(1), obj.Logit("zzz")], steps=1)


def test_gradients_of_picked_channels_keep_the_memory_format():
    values = torch.rand(2, 5, 4, 3).contiguous(memory_format=torch.channels_last).requires_grad_()
    picked = pick_channels(values, [4, 1])
    assert torch.equal(picked, torch.stack([values[0, 4], values[1, 1]]))
    (gradient,) = torch.autograd.grad(picked.square().sum(), values)
    assert gradient.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(gradient[0, 4], 2 * values[0, 4]) and gradient.count_nonzero() == 2 * 12


def test_fused_objectives_convert_only_the_picked_channels_of_a_layer_in_bfloat16():
    sizes = []

    class Casts(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func.overloadpacket.__name__ == "_to_copy" and args[0].dtype == torch.bfloat16:
                sizes.append(args[0].numel())
            return func(*args, **(kwargs or {}))

    acts = toys.plain().capture(torch.rand(3, 3, 32, 32), ["conv2"])
    half = acts.replaced({"conv2": acts["conv2"].bfloat16()})
    for name in ("Channel", "Neuron"):
        members = FUSED[name]
        sizes.clear()
        with Casts():
            members[0].score_fused(members, half)
        whole = half["conv2"].numel()
        assert sum(sizes) <= (whole / 8 if name == "Channel" else whole)  # not once for each of the members
