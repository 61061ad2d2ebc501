"""Chunks: a batch that does not fit in memory is split, and its images stay the same."""

import logging
import platform
import re
import subprocess
import sys
import warnings
from dataclasses import dataclass

import pytest
import torch
import toys

import featviz as fv
from featviz import param
from featviz import transforms as T
from featviz.engine import memory
from featviz.interfaces import ParamTraits
from featviz.random import Generators

OBJECTIVES = ["conv2:1", "logit:bee", "bn1:2", "conv2:3 - tv", "conv1:0"]
TRANSFORMS = (*T.STANDARD, T.Noise(0.05))
SINGLE = fv.Execution("float32")


def render(objectives=OBJECTIVES, execution=SINGLE, net=None, **options):
    options = {"steps": 6, **options}
    return fv.render(net or toys.plain(), objectives, transforms=TRANSFORMS, execution=execution, **options)


def out_of_memory_network(error, most, after=0):
    """Return a network that raises `error` for more than `most` images after its first `after` runs, and its runs."""
    net, runs = toys.plain(), []
    fv.render(net, OBJECTIVES, steps=0)  # the layer table is measured now, not within the runs that are counted

    def refuse(_module, inputs):
        runs.append(len(inputs[0]))
        if len(inputs[0]) > most and len(runs) > after:
            raise error

    net.module.register_forward_pre_hook(refuse)
    return net, runs


@pytest.mark.parametrize("chunk_size", [1, 2, 3])
def test_chunks_give_the_same_images(chunk_size):
    whole, chunked = render(), render(execution=fv.Execution("float32", chunk_size=chunk_size))
    assert (whole.images - chunked.images).abs().max() < 1e-3
    assert torch.allclose(whole.history, chunked.history, rtol=1e-3, atol=1e-3)
    assert (whole.execution.chunk_size, chunked.execution.chunk_size) == (None, chunk_size)
    assert fv.replay(chunked.recipe, network=toys.plain()).images.equal(chunked.images)


@pytest.mark.parametrize(
    ("objectives", "options", "runs"),
    [
        (["conv2:1 + diversity(conv2)", "conv2:2"], {"param": param.Image(batch=3)}, [3, 2, 1]),
        (["conv2:1 + diversity(conv2)"] * 2, {"param": param.Image(batch=3)}, [3, 3]),
        (["conv2:1"], {"param": param.Image(batch=4, spatial=param.Shared())}, [4]),
    ],
)
def test_images_that_are_compared_or_share_tensors_stay_in_one_chunk(objectives, options, runs):
    net, seen = out_of_memory_network(AssertionError, most=9)
    render(objectives, fv.Execution("float32", chunk_size=2), net, steps=2, **options)
    assert seen[-2 * len(runs) :] == runs * 2


def test_max_memory_splits_the_batch_and_logs_it(caplog):
    caplog.set_level(logging.INFO, "featviz")
    large = {"param": param.Image(128), "steps": 2}
    whole = render(**large)
    assert whole.execution.chunk_size is None
    assert re.fullmatch(r"5 images take about \d+ MB of memory", caplog.messages[-1])
    limited = render(execution=fv.Execution("float32", max_memory="10MB"), **large)
    chunk_size = limited.execution.chunk_size
    assert 1 <= chunk_size < 5
    logged = re.fullmatch(
        r"5 images would take about (\d+) MB; (\d) at a time take about (\d+) MB", caplog.messages[-1]
    )
    assert int(logged[2]) == chunk_size
    assert int(logged[3]) <= 10 < int(logged[1])
    assert (whole.images - limited.images).abs().max() < 1e-3


@pytest.mark.parametrize("after", [0, 4])
@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("full"), RuntimeError("can't allocate memory"), MemoryError()]
)
def test_out_of_memory_halves_the_chunks(error, after, caplog):
    net, _ = out_of_memory_network(error, most=2, after=after)
    rendering = render(net=net)
    assert rendering.execution.chunk_size == 2
    messages = [
        "out of memory with 5 images at a time; retrying with 2",
        "out of memory with 3 images at a time; retrying with 1",
    ]
    assert caplog.messages and caplog.messages == messages[: len(caplog.messages)]
    assert (rendering.images - render().images).abs().max() < 1e-3
    if not after:
        chunked = render(execution=fv.Execution("float32", chunk_size=2))
        assert torch.allclose(rendering.history, chunked.history, atol=1e-4)


def test_out_of_memory_with_a_single_image_raises():
    net, _ = out_of_memory_network(torch.OutOfMemoryError("full"), most=0)
    with pytest.raises(fv.RenderError) as caught:
        render(net=net)
    assert str(caught.value) == "out of memory with 1 image of 32 x 32 px; give a smaller size, or --tile"


def test_large_views_that_cannot_fit_are_refused_before_they_run(monkeypatch):
    """Most operating systems kill a process that takes more memory than there is."""
    net, sizes = toys.plain(), []
    fv.render(net, "conv2:1", steps=0)
    # Without gradients, a pass takes little memory.
    net.module.register_forward_pre_hook(
        lambda _, inputs: sizes.append(inputs[0].shape[-1]) if torch.is_grad_enabled() else None
    )
    monkeypatch.setattr("featviz.engine.chunk_size.free_bytes", lambda _: 2**20)
    with pytest.raises(fv.RenderError) as caught:
        fv.render(net, "conv2:1", size=640, transforms=(), steps=1, execution=SINGLE)
    assert set(sizes) == {32}
    found = re.fullmatch(
        r"out of memory: 1 image seen at 640 x 640 px take over (\d+) MB, and 1 MB are free; give a smaller "
        "size, or --tile",
        str(caught.value),
    )
    images = torch.rand(1, 3, 640, 640, requires_grad=True)
    with net.session(["conv2"]) as forward:
        whole = memory.saved_bytes(lambda: forward(images), aside=net.storages)
    assert int(found[1]) == pytest.approx(whole / 2**20, rel=0.1)
    monkeypatch.setattr("featviz.engine.chunk_size.free_bytes", lambda _: 2 * whole)
    fv.render(net, "conv2:1", size=640, transforms=(), steps=1, execution=SINGLE)
    assert max(sizes) == 640


def test_other_errors_surface_with_a_note():
    net, _ = out_of_memory_network(RuntimeError("mine"), most=0)
    with pytest.raises(RuntimeError, match="^mine\nwhile rendering .*, step 1 of 6$"):
        render(net=net)


def test_rewound_generators_draw_the_same_numbers():
    rng = Generators([3, 4])
    rng.uniform(5)
    rng.mark()
    first = [rng.uniform(2), rng.normal(3), rng.uniform(2000), rng.normal(2)]
    rng.rewind()
    again = [rng.uniform(2), rng.normal(3), rng.uniform(2000), rng.normal(2)]
    assert all(one.equal(two) for one, two in zip(first, again, strict=True))


def test_saved_bytes_counts_tensors_saved_for_the_backward_pass():
    weight, images = torch.rand(8, 8), torch.rand(5, 8, requires_grad=True)
    saved = memory.saved_bytes(lambda: (images @ weight).sigmoid(), aside={weight.untyped_storage().data_ptr()})
    assert saved == 5 * 8 * 4  # the result of the sigmoid


FAULTS = """\
import resource
import torch
from featviz.engine import malloc

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(40 * 2**20 // 4)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

with malloc.keep_freed_memory(torch.device("cpu")):
    print(*(faults() for _ in range(12)))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc's mallopt")
def test_freed_memory_is_kept_for_the_next_step():
    """In a process of its own: one that has run for long may keep freed memory anyway."""
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    counts = [int(count) for count in done.stdout.split()]
    if not counts[0]:
        pytest.skip("the system does not count page faults")
    assert min(counts[-3:]) <= counts[0] / 5


@pytest.mark.parametrize("amount", ["", "much", "0", "-1GB", "4 bananas", 0])
def test_max_memory_that_cannot_be_parsed(amount):
    with pytest.raises(fv.SettingError) as caught:
        fv.Execution(max_memory=amount)
    assert str(caught.value) == (
        f"max_memory must be a number of bytes > 0, or text such as 800MB or 4GB, got {amount!r}"
    )


def test_chunk_size_below_one():
    with pytest.raises(fv.SettingError) as caught:
        fv.Execution(chunk_size=0)
    assert str(caught.value) == "chunk_size must be a whole number >= 1, got 0 (or None for what fits in memory)"


@dataclass(frozen=True)
class Codebook:
    """Images that are mixtures of more patterns than there are images; the patterns are optimised."""

    size: tuple[int, int] | None = (16, 16)
    batch: int = 2
    traits = ParamTraits(couples_batch=True)

    def start(self, rng, channels, size):
        generator = torch.Generator().manual_seed(len(rng))
        return [torch.rand(5, channels, *size, generator=generator) for _ in range(1)]

    def fit(self, images):
        raise NotImplementedError

    def images(self, leaves, size):
        shares = torch.linspace(0, 1, 5 * self.batch).view(self.batch, 5).softmax(1)
        return torch.einsum("np,pchw->nchw", shares, leaves[0]).sigmoid()


def test_images_may_share_tensors_of_any_number_of_rows():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = fv.render(toys.plain(), "conv2:1", param=Codebook(), steps=8, transforms=(), progress=None)
    assert found.images.shape == (2, 3, 16, 16) and (found.history[-1] > found.history[0]).all()
    assert found.robustness is not None


class Dropped(torch.nn.Module):
    """A network with dropout that is always active."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3)

    def forward(self, x):
        return torch.nn.functional.dropout(self.conv(x), 0.5).mean((2, 3))


def test_measuring_the_memory_changes_no_random_numbers_of_the_network():
    net = toys.network(Dropped(), size=16)
    first, second = (fv.render(net, "logit:1", steps=3, param=param.Image(batch=4)).images for _ in range(2))
    assert torch.equal(first, second)
