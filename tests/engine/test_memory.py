"""Memory: how much is free, how much a pass saves, which errors mean that it ran out, and glibc's thresholds."""

import ctypes
from types import SimpleNamespace

import pytest
import torch

from featviz.engine import malloc, memory
from featviz.engine.malloc import keep_freed_memory
from featviz.engine.memory import free_bytes, saved_bytes
from featviz.network.out_of_memory import is_out_of_memory

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
GIB = 2**30

# ---------------------------------------------------------------------------------------------- free memory


@pytest.fixture
def cgroup(tmp_path, monkeypatch):
    """An empty folder instead of the machine's, and 10 GiB that the machine has available."""
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: SimpleNamespace(available=10 * GIB))
    return tmp_path


def publish(cgroup, limit, used, cached):
    (cgroup / "memory.max").write_text(f"{limit}\n")
    (cgroup / "memory.current").write_text(f"{used}\n")
    (cgroup / "memory.stat").write_text(f"anon 5\nfile 7\ninactive_anon 3\ninactive_file {cached}\nactive_file 1\n")


def test_without_a_container_memory_is_that_of_the_machine(cgroup):
    assert free_bytes(CPU) == int(0.8 * 10 * GIB)


@pytest.mark.parametrize(
    ("limit", "used", "cached", "free"),
    [
        (4 * GIB, 3 * GIB, 0, GIB),
        (4 * GIB, 3 * GIB, 2 * GIB, 3 * GIB),  # cached files give way
        (64 * GIB, 3 * GIB, 0, 10 * GIB),  # the machine has less than the container may use
        (4 * GIB, 5 * GIB, 0, 0),  # a limit that was lowered
        ("max", 3 * GIB, 0, 10 * GIB),  # no limit
    ],
)
def test_limit_of_a_container(cgroup, limit, used, cached, free):
    publish(cgroup, limit, used, cached)
    assert free_bytes(CPU) == int(0.8 * free)


def test_memory_of_a_gpu_includes_what_pytorch_has_cached(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (2 * GIB, 16 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 5 * GIB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 4 * GIB)
    assert free_bytes(CUDA) == int(0.8 * 3 * GIB)


# ---------------------------------------------------------------------------------------------- memory of a pass


def saved(run, aside=()):
    return saved_bytes(run, aside=set(aside))


def test_saved_tensors_are_counted():
    x = torch.rand(10, 10, requires_grad=True)
    assert saved(lambda: x.exp()) == 400  # its result
    assert saved(lambda: x.exp().exp()) == 800
    assert saved(lambda: x + 1) == 0  # the gradient of a sum needs no values
    assert saved(lambda: [x.exp() for _ in range(3)]) == 1200  # all at the same time
    with torch.no_grad():
        assert saved(lambda: x.exp()) == 0


def test_memory_that_is_saved_twice_counts_once():
    x = torch.rand(10, 10, requires_grad=True)
    assert saved(lambda: x.square() + x.square()) == 400
    assert saved(lambda: x.view(100).square().sum() + x[2:4].square().sum()) == 400  # views of one storage


def test_memory_aside_does_not_count():
    x = torch.rand(10, 10, requires_grad=True)
    weight = torch.rand(10, 10)
    address = weight.untyped_storage().data_ptr()
    assert saved(lambda: (weight * x).exp()) == 800
    assert saved(lambda: (weight * x).exp(), aside=[address]) == 400


# ---------------------------------------------------------------------------------------------- running out of memory


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."), True),
        (torch.OutOfMemoryError("no more"), True),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory"),
            True,
        ),
        (RuntimeError("MPS backend out of memory (MPS allocated: 17.50 GB)"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied (1x9 and 8x5)"), False),
        (ValueError("wrong size"), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_errors_that_mean_that_memory_ran_out(error, expected):
    assert is_out_of_memory(error) is expected


def test_allocating_too_much_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


# ---------------------------------------------------------------------------------------------- freed memory


class Libc:
    """glibc's thresholds as they are set. Old versions refuse thresholds above 32 MB."""

    def __init__(self, *, old=False):
        self.old, self.thresholds, self.trims = old, {}, 0

    def mallopt(self, parameter, value):
        if self.old and parameter == malloc.M_MMAP_THRESHOLD and value > 2**25:
            return 0
        self.thresholds[parameter] = value
        return 1

    def malloc_trim(self, _):
        self.trims += 1


@pytest.fixture
def libc(monkeypatch):
    fake = Libc()
    monkeypatch.setattr(ctypes, "CDLL", lambda _: fake)
    return fake


RAISED = {malloc.M_MMAP_THRESHOLD: 2**30, malloc.M_TRIM_THRESHOLD: 2**30}
DEFAULT = {malloc.M_MMAP_THRESHOLD: 2**25, malloc.M_TRIM_THRESHOLD: 2**26}


def test_freed_memory_is_kept_and_returned_at_the_end(libc):
    with keep_freed_memory(CPU):
        assert libc.thresholds == RAISED
        assert libc.trims == 0
    assert libc.thresholds == DEFAULT
    assert libc.trims == 1


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_freed_memory_is_returned_after_an_error(libc, error):
    with pytest.raises(error), keep_freed_memory(CPU):
        raise error
    assert libc.thresholds == DEFAULT
    assert libc.trims == 1


def test_nested_contexts_keep_freed_memory_until_the_outer_one_ends(libc):
    with keep_freed_memory(CPU):
        with keep_freed_memory(CPU):
            assert libc.thresholds == RAISED
        assert libc.thresholds == RAISED
        with pytest.raises(ZeroDivisionError), keep_freed_memory(CPU):
            raise ZeroDivisionError
        assert libc.thresholds == RAISED
    assert libc.thresholds == DEFAULT
    with keep_freed_memory(CPU):
        assert libc.thresholds == RAISED
    assert libc.thresholds == DEFAULT


def test_old_glibc_gets_its_largest_threshold(libc):
    libc.old = True
    with keep_freed_memory(CPU):
        assert libc.thresholds == {malloc.M_MMAP_THRESHOLD: 2**25, malloc.M_TRIM_THRESHOLD: 2**30}
    assert libc.thresholds == DEFAULT


def test_nothing_is_set_for_a_gpu(libc):
    with keep_freed_memory(CUDA):
        assert libc.thresholds == {}
    assert libc.thresholds == {}
    assert libc.trims == 0


@pytest.mark.parametrize("error", [TypeError, OSError, None])
def test_other_c_libraries_are_left_alone(monkeypatch, error):
    """Windows cannot open the process as a library (TypeError), and other C libraries lack `mallopt`."""

    def open_library(_):
        if error:
            raise error
        return SimpleNamespace()

    monkeypatch.setattr(ctypes, "CDLL", open_library)
    done = []
    with keep_freed_memory(CPU):
        done.append(True)
    assert done


def test_memory_can_be_used_in_and_after_the_context():
    with keep_freed_memory(CPU):
        assert torch.ones(10**6).sum() == 10**6
    assert torch.ones(10**6).sum() == 10**6
