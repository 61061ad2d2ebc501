"""A batch that does not fit in memory is split, and its pictures are the same."""

import logging
import platform
import re
import resource

import pytest
import torch
import toys

import featviz as fv
from featviz import param
from featviz import transforms as T
from featviz.engine import memory
from featviz.random import Generators

GOALS = ["conv2:1", "logit:bee", "bn1:2", "conv2:3 - tv", "conv1:0"]
VIEWS = (*T.STANDARD, T.Noise(0.05))


SINGLE = fv.Execution("float32")


def draw(goals=GOALS, execution=SINGLE, net=None, **options):
    return fv.render(net or toys.plain(), goals, transforms=VIEWS, execution=execution, **{"steps": 6, **options})


def crowded(error, most, after=0):
    """Make a network that has no room for more than so many pictures, once it has run a while."""
    net, runs = toys.plain(), []
    fv.render(net, GOALS, steps=0)  # what has to be known of it is

    def refuse(_module, inputs):
        runs.append(len(inputs[0]))
        if len(inputs[0]) > most and len(runs) > after:
            raise error

    net.module.register_forward_pre_hook(refuse)
    return net, runs


@pytest.mark.parametrize("chunk_size", [1, 2, 3])
def test_a_batch_in_parts_makes_the_same_pictures(chunk_size):
    whole, parts = draw(), draw(execution=fv.Execution("float32", chunk_size=chunk_size))
    assert (whole.images - parts.images).abs().max() < 1e-3
    assert torch.allclose(whole.history, parts.history, rtol=1e-3, atol=1e-3)
    assert (whole.execution.chunk_size, parts.execution.chunk_size) == (None, chunk_size)
    assert fv.replay(parts.recipe, network=toys.plain()).images.equal(parts.images)


@pytest.mark.parametrize(
    ("goals", "options", "runs"),
    [
        (["conv2:1 + diversity(conv2)", "conv2:2"], {"param": param.Image(batch=3)}, [3, 2, 1]),
        (["conv2:1 + diversity(conv2)"] * 2, {"param": param.Image(batch=3)}, [3, 3]),
        (["conv2:1"], {"param": param.Image(batch=4, spatial=param.Shared())}, [4]),
    ],
)
def test_what_belongs_together_stays_together(goals, options, runs):
    net, seen = crowded(AssertionError, most=9)
    draw(goals, fv.Execution("float32", chunk_size=2), net, steps=2, **options)
    assert seen[-2 * len(runs) :] == runs * 2


def test_a_limit_splits_the_batch_and_says_so_before_it_starts(caplog):
    caplog.set_level(logging.INFO, "featviz")
    large = {"param": param.Image(128), "steps": 2}
    whole = draw(**large)
    assert whole.execution.chunk_size is None
    assert caplog.messages[-1].startswith("5 pictures take about ")
    limited = draw(execution=fv.Execution("float32", max_memory="10MB"), **large)
    chunk_size = limited.execution.chunk_size
    assert 1 <= chunk_size < 5
    said = re.fullmatch(
        r"5 pictures would take about (\d+) MB; (\d) at a time take about (\d+) MB", caplog.messages[-1]
    )
    assert int(said[2]) == chunk_size
    assert int(said[3]) <= 10 < int(said[1])
    assert (whole.images - limited.images).abs().max() < 1e-3


@pytest.mark.parametrize("after", [0, 4])
@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("full"), RuntimeError("can't allocate memory"), MemoryError()]
)
def test_no_memory_halves_the_batch_and_goes_on(error, after, caplog):
    net, _ = crowded(error, most=2, after=after)
    rendering = draw(net=net)
    assert rendering.execution.chunk_size == 2
    assert (
        caplog.messages
        == [
            "out of memory with 5 pictures at a time; going on with 2",
            "out of memory with 3 pictures at a time; going on with 1",
        ][: len(caplog.messages)]
    )
    assert (rendering.images - draw().images).abs().max() < 1e-3
    if not after:
        assert torch.allclose(
            rendering.history, draw(execution=fv.Execution("float32", chunk_size=2)).history, atol=1e-4
        )


def test_no_memory_for_a_single_picture_is_an_error():
    net, _ = crowded(torch.OutOfMemoryError("full"), most=0)
    with pytest.raises(fv.RenderError) as caught:
        draw(net=net)
    assert str(caught.value) == "out of memory with 1 of 32 x 32 px at a time; give a smaller size, or --tile"


def test_other_errors_surface():
    net, _ = crowded(RuntimeError("mine"), most=0)
    with pytest.raises(RuntimeError, match="mine"):
        draw(net=net)


def test_draws_are_the_same_after_going_back():
    rng = Generators([3, 4])
    rng.uniform(5)
    rng.mark()
    first = [rng.uniform(2), rng.normal(3), rng.uniform(2000), rng.normal(2)]
    rng.rewind()
    again = [rng.uniform(2), rng.normal(3), rng.uniform(2000), rng.normal(2)]
    assert all(one.equal(two) for one, two in zip(first, again, strict=True))


def test_a_pass_keeps_what_its_backward_pass_needs():
    weight, images = torch.rand(8, 8), torch.rand(5, 8, requires_grad=True)
    kept = memory.saved_bytes(lambda: (images @ weight).sigmoid(), aside={weight.untyped_storage().data_ptr()})
    assert kept == 5 * 8 * 4  # the sigmoid's result


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="memory stays with the process by glibc's settings")
def test_freed_memory_stays_for_the_next_step():
    def faults():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(40 * 2**20 // 4)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    with memory.keep_freed_memory(torch.device("cpu")):
        kept = [faults() for _ in range(12)]
    assert min(kept[-3:]) < 1000 < kept[0] < 20_000


@pytest.mark.parametrize("amount", ["", "much", "0", "-1GB", "4 bananas", 0])
def test_an_amount_of_memory_that_cannot_be_read(amount):
    with pytest.raises(fv.SettingError) as caught:
        fv.Execution(max_memory=amount)
    assert str(caught.value) == f"cannot read the amount of memory {amount!r}; give bytes, or text as 800MB or 4GB"


def test_fewer_than_one_at_once():
    with pytest.raises(fv.SettingError) as caught:
        fv.Execution(chunk_size=0)
    assert str(caught.value) == "0 pictures at once are none; give 1 or more, or None for what fits"
