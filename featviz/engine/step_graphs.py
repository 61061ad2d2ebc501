"""Record a whole step as a CUDA graph and replay it, so that a step takes one launch instead of hundreds."""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from featviz.engine.chunks import Chunks
from featviz.engine.draws import Block
from featviz.engine.job import Job
from featviz.engine.tensor_trees import list_tensors, map_tensors, to_device
from featviz.errors import first_line
from featviz.interfaces import Stepper, traits_of
from featviz.network.fast.cuda_graphs import one_recording
from featviz.optimizers import state_of
from featviz.transforms.fusing import DrawFunction

MIN_STEPS = 12
"""Renders with fewer steps run without a graph, because recording takes as long as several steps."""
MAX_RECORDINGS = 4
"""Largest number of graphs of one render. Each structure of the random draws needs its own."""
BLOCKS_AHEAD = 2
"""Number of blocks of steps that the CPU may launch before the GPU has finished the first of them."""
SCORE_TOLERANCE, GRADIENT_TOLERANCE = 1e-3, 2e-2
"""Largest difference between a replayed and an ordinary step: of a score, and of the gradients relative to their norm.

Backward passes that add up numbers in an order that varies from run to run differ by less.
"""
WAITING = ("_local_scalar_dense", "nonzero", "equal", "masked_select", "_unique2", "unique_dim", "is_nonzero")
"""Operations that make the CPU wait for the GPU, which a graph cannot contain."""


INDEXING = ("index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index", "_unsafe_index_put")
"""Operations that wait for the GPU if an index is a mask, whose true elements are counted, or lies on the CPU."""

DIFFERS = "a replayed step gives other results: values outside of the graph change between steps"
"""Why a step is not recorded if the recorded one gives other results."""


class NotRecordableError(Exception):
    """A step cannot be recorded, for the reason in the message."""


class StepGraphs:
    """Replays the steps of a render, where they can be recorded.

    A graph contains everything from the parameters of the images to their update. It reads the random draws of its step
    from those of a block of steps, which are made on the CPU and copied at once. The first step always runs without
    one, because it initialises the optimizer.

    Args:
        job: The prepared render.
        chunks: Its images.
        stepper: The running optimizer.
        steps: Number of steps, for schedules.
        last: Number of steps that will run.
    """

    def __init__(self, job: Job, chunks: Chunks, stepper: Stepper, steps: int, last: int) -> None:
        self._job, self._chunks, self._stepper, self._steps = job, chunks, stepper, steps
        self._recordings: dict[str, _Recording] = {}
        self._stream: torch.cuda.Stream | None = None
        self._block: Block | None = None
        self._redirect: Tensor | None = None
        self._recording: _Recording | None = None
        self._blocks_done: deque[torch.cuda.Event] = deque()
        self._expected_step = 0
        self.replayed = 0
        """Number of replayed steps."""
        self.obstacle = _obstacle(job, last)
        """Why steps are not recorded; empty if they are."""
        if not self.obstacle:
            # The default stream of recordings belongs to the GPU of the first one in the process.
            self._stream = torch.cuda.Stream(job.network.device)
            self._scores = torch.empty(last, len(job.seeds), device=job.network.device)

    def step(self, done: int, redirect: Bool[Tensor, " n"] | None) -> Float[Tensor, " n"] | None:
        """Replay the next step.

        Args:
            done: Number of steps done.
            redirect: Images whose gradients are redirected through inactive units; `None` for none of them.

        Returns:
            The scores; `None` where the step has to run without a graph. Nothing has changed then.
        """
        if self.obstacle or not done:
            return None
        try:
            block, index = self._position()
            recording = self._recording
            # `Monitor.redirect` is the same tensor until it changes, so comparing identities needs no synchronisation.
            if recording is None or block is not self._block or redirect is not self._redirect:
                recording = self._begin(block, redirect)
            if self._expected_step != done:
                recording.seek(done, index)
            recording.replay()
        except NotRecordableError as error:
            self._end(str(error))
            return None
        self._chunks.draws.next()
        self._expected_step = done + 1
        self.replayed += 1
        return self._scores[done]

    def _position(self) -> tuple[Block, int]:
        """Return the block of draws of the next step, and the step's index in it.

        Raises:
            NotRecordableError: The images do not run in one pass, or draws cannot be made ahead.
        """
        if self._chunks.obstacle:
            raise NotRecordableError(self._chunks.obstacle)
        position = self._chunks.draws.ahead()
        if position is None:
            raise NotRecordableError("the transforms draw step by step")
        return position

    def close(self) -> None:
        """Free the graphs and their memory."""
        self._recordings.clear()
        self._recording = None

    def _end(self, obstacle: str) -> None:
        """Run the coming steps without a graph."""
        self.obstacle = obstacle
        self.close()

    def plan(self, done: int) -> str:
        """Return how the steps ran.

        Args:
            done: Number of steps done.
        """
        if self.replayed:
            return f"{self.replayed} of {done} steps were replayed as a CUDA graph"
        return f"no step was replayed as a CUDA graph: {self.obstacle or 'some images had no gradient'}"

    def _begin(self, block: Block, redirect: Tensor | None) -> _Recording:
        """Copy the draws of a block to the GPU, and record a step if their structure is new.

        Raises:
            NotRecordableError: The step cannot be recorded.
        """
        self._wait_for_earlier_blocks()
        pinned = map_tensors(lambda tensor: tensor if tensor.is_cuda else tensor.pin_memory(), block.draws)
        moved = Block(to_device(pinned, self._job.network.device), block.steps)
        kinds = map_tensors(lambda tensor: (tensor.shape[1:], tensor.dtype), moved.draws)
        structure = str((kinds, None if redirect is None else redirect.tolist()))
        known = self._recordings.get(structure)
        if known is None:
            if len(self._recordings) == MAX_RECORDINGS:
                raise NotRecordableError("the draws of the transforms have another structure in each block of steps")
            pool = next((each.graph.pool() for each in self._recordings.values()), None)
            known = _Recording(self._chunks, self._job, self._stepper, self._steps, self._scores, moved, redirect)
            known.record(pool, self._stream)
            self._recordings[structure] = known
        self._recording, self._block, self._redirect = known, block, redirect
        known.load(moved)
        self._expected_step = -1  # the step's index in its block starts again
        return known

    def _wait_for_earlier_blocks(self) -> None:
        """Keep the CPU from launching all steps at once, so that progress and Ctrl-C stay close to the GPU's work."""
        event = torch.cuda.Event()
        event.record()
        self._blocks_done.append(event)
        if len(self._blocks_done) > BLOCKS_AHEAD:
            self._blocks_done.popleft().synchronize()


def _obstacle(job: Job, last: int) -> str:
    if job.network.device.type != "cuda":
        return "the network is not on a CUDA GPU"
    if not job.execution.graph:
        return "the execution has graph=False"
    remembering = [str(each) for each in job.objectives if traits_of(each).remembers]
    if remembering:
        return f"{remembering[0]} remembers earlier steps"
    if job.network.probed.draws:
        return "the network draws random numbers as it runs"
    return f"it has fewer than {MIN_STEPS} steps" if last < MIN_STEPS else ""


class _Recording:
    """One step as a graph, and the tensors that it reads.

    Args:
        chunks: The images.
        job: The prepared render.
        stepper: The running optimizer.
        steps: Number of steps, for schedules.
        scores: Where the scores of each step go.
        inputs: The draws of a block of steps on the GPU. Those of later blocks are copied into them.
        redirect: Images whose gradients are redirected through inactive units; `None` for none of them.
    """

    def __init__(
        self,
        chunks: Chunks,
        job: Job,
        stepper: Stepper,
        steps: int,
        scores: Float[Tensor, "steps n"],
        inputs: Block,
        redirect: Bool[Tensor, " n"] | None,
    ) -> None:
        self.graph = torch.cuda.CUDAGraph()
        self._chunks, self._stepper, self._steps, self._scores, self._inputs = chunks, stepper, steps, scores, inputs
        self._leaves = [leaf for leaf in job.leaves if leaf.requires_grad]
        self._done, self._index = (torch.zeros(1, dtype=torch.int64, device=scores.device) for _ in range(2))
        self._state, self._redirect = state_of(stepper), redirect
        self._gradients: tuple[Tensor | None, ...] = ()

    def seek(self, done: int, index: int) -> None:
        """Go to a step.

        Args:
            done: Number of steps done.
            index: Index of the next step in its block.
        """
        self._done.fill_(done)
        self._index.fill_(index)

    def load(self, block: Block) -> None:
        """Copy the draws of a block into the tensors that the graph reads."""
        for mine, given in zip(list_tensors(self._inputs.draws), list_tensors(block.draws), strict=True):
            if mine is not given:
                mine[: len(given)].copy_(given)

    def replay(self) -> None:
        """Run the step at which the recording is, and go to the next one."""
        self.graph.replay()
        if self._state is None:
            self._update()

    def record(self, pool: Any, stream: torch.cuda.Stream | None) -> None:
        """Record the step, and compare it with one that runs without a graph.

        Args:
            pool: Memory of other graphs of this render, which do not run at the same time; `None` for none.
            stream: Stream of all recordings of this render, on the GPU of the network.

        Raises:
            NotRecordableError: It cannot be recorded, or the replayed step differs.
        """
        changed = [*self._leaves, *(self._state or ()), self._done, self._index]
        before = [tensor.detach().clone() for tensor in changed]
        try:
            expected = self._capture(pool, stream)
            obstacle = "" if self._replays(*expected) else DIFFERS
        except Exception as error:  # own objectives and transforms may raise anything where numbers become tensors
            obstacle = _reason(error)
        finally:
            with torch.no_grad():
                for tensor, old in zip(changed, before, strict=True):
                    tensor.copy_(old)
        if obstacle:  # outside of the `except`: the error's traceback would keep the activations alive
            self.graph.reset()
            self._gradients = ()
            for leaf in self._leaves:
                leaf.grad = None
            raise NotRecordableError(obstacle)

    def _capture(self, pool: Any, stream: torch.cuda.Stream | None) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        """Record the step. Returns the scores and gradients of one that runs without a graph."""
        self._constants = constants = _Constants()  # the graph reads its tensors
        with one_recording(), constants:
            expected = self._pass()
            constants.begin_again()
            with torch.cuda.graph(self.graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
                scores, self._gradients = self._pass()
                self._scores.index_copy_(0, self._done, scores[None])
                if self._state is not None:
                    self._update()
                self._done.add_(1)
                self._index.add_(1)
        return expected

    @torch.no_grad()
    def _replays(self, scores: Tensor, gradients: tuple[Tensor | None, ...]) -> bool:
        """Replay the step once, and return whether it equals one that ran without a graph."""
        done = self._done.clone()
        self.graph.replay()
        replayed = self._scores.index_select(0, done)[0]
        largest = max(scores.nan_to_num().abs().max().item(), 1e-6)
        is_same = torch.allclose(replayed, scores, rtol=0, atol=SCORE_TOLERANCE * largest, equal_nan=True)
        for mine, theirs in zip(self._gradients, gradients, strict=True):
            if mine is not None and theirs is not None:
                is_same &= not bool((mine - theirs).norm() > GRADIENT_TOLERANCE * theirs.norm())
        return is_same

    def _pass(self) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        return self._chunks.gradients(self._draw(), self._done[0] / self._steps, self._redirect)

    def _draw(self) -> DrawFunction:
        """Return a function that reads the draws of the current step from those of many steps."""

        def rows(tensor: Tensor) -> Tensor:
            return tensor.unflatten(0, (self._inputs.steps, -1)).index_select(0, self._index)[0]

        drawn = iter([map_tensors(rows, each) for each in self._inputs.draws])
        return lambda *_: next(drawn)

    def _update(self) -> None:
        for leaf, gradient in zip(self._leaves, self._gradients, strict=True):
            # A copy, because an optimizer may change it, with the strides of the leaf, as autograd gives it.
            leaf.grad = None if gradient is None else torch.empty_like(leaf).copy_(gradient)
        self._stepper.step()


class _Constants(TorchDispatchMode):
    """Keep the tensors that a graph reads but does not compute: a replay would read memory that was freed or changed.

    A step runs twice with this mode: without a graph, and while it is recorded. The second time, the GPU copies of CPU
    tensors of the first time are used, and the values are compared with those of the first time. Tensors on the GPU
    that come from outside of the step, such as those of a cache, are kept for as long as the graph.
    """

    def __init__(self) -> None:
        super().__init__()
        self._kept: list[tuple[Tensor, Tensor]] = []
        self._position: int | None = None  # while a graph is recorded
        self._from_outside: dict[int, Tensor] = {}
        self._computed: set[int] = set()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return false: otherwise the first operation would import PyTorch's compiler, which takes over a second."""
        return False

    def begin_again(self) -> None:
        """Use the copies from now on."""
        self._position = 0

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation, and keep what it reads from outside of the step."""
        kwargs = kwargs or {}
        result = self._run(func, args, kwargs)
        if self._position is not None:
            read, made = (_tensors_on(each, "cuda") for each in ((args, kwargs), result))
            self._from_outside |= {address: each for address, each in read.items() if address not in self._computed}
            self._computed |= made.keys() - self._from_outside.keys()
        return result

    def _run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operation, with kept copies of CPU tensors, and refuse those that wait for the GPU."""
        name = func.overloadpacket.__name__
        if name == "_to_copy":
            target = torch.device(kwargs.get("device") or args[0].device)
            if args[0].is_cuda and target.type == "cpu":
                raise NotRecordableError(f"{_place()} reads values from the GPU")
            if args[0].device.type == "cpu" and target.type == "cuda":
                return self._constant(args[0], lambda: func(*args, **kwargs))
        elif name == "copy_" and args[0].is_cuda != args[1].is_cuda:
            if args[1].is_cuda:
                raise NotRecordableError(f"{_place()} reads values from the GPU")
            source, device = args[1], args[0].device
            return func(args[0], self._constant(source, lambda: source.to(device)), *args[2:], **kwargs)
        elif name in INDEXING and args[0].is_cuda and any(map(_must_be_copied, args[1])):
            raise NotRecordableError(f"{_place()} indexes a tensor on the GPU with a mask, or with numbers on the CPU")
        elif name in WAITING and any(isinstance(each, Tensor) and each.is_cuda for each in args):
            raise NotRecordableError(f"{_place()} waits for the GPU")
        return func(*args, **kwargs)

    def _constant(self, source: Tensor, copy: Callable[[], Tensor]) -> Tensor:
        if self._position is None:
            self._kept.append((source.clone(), copy()))
            return self._kept[-1][1]
        before, copied = self._kept[self._position] if self._position < len(self._kept) else (None, source)
        self._position += 1
        if before is None or before.shape != source.shape or not torch.equal(before, source):
            raise NotRecordableError(f"{_place()} uses other values in each step")
        return copied


def _tensors_on(value: Any, device: str) -> dict[int, Tensor]:
    """Return the tensors of a value on a kind of device, by the address of their memory."""
    tensors = [each for each in tree_leaves(value) if isinstance(each, Tensor) and each.device.type == device]
    tensors = [each for each in tensors if each.layout == torch.strided]  # sparse ones have several storages
    return {tensor.untyped_storage().data_ptr(): tensor for tensor in tensors}


def _must_be_copied(index: Tensor | None) -> bool:
    """Return whether an index cannot be part of a graph."""
    return index is not None and (index.dtype in (torch.bool, torch.uint8) or not index.is_cuda)


def _reason(error: Exception) -> str:
    """Return why a step cannot be recorded.

    It is a function because a local name for the error would keep the frames of its traceback alive.
    """
    first = _first(error)
    return str(first) if isinstance(first, NotRecordableError) else f"{_place(first)}: {first_line(first)}"


def _first(error: BaseException) -> BaseException:
    """Return the error that led to this one: ending a recording that failed raises another one."""
    return _first(error.__context__) if error.__context__ else error


def _place(error: BaseException | None = None) -> str:
    """Return the function and line of the last frame outside of PyTorch and this file."""
    frames = traceback.extract_tb(error.__traceback__) if error else traceback.extract_stack()
    inside = (str(Path(torch.__file__).parent), __file__)
    for frame in reversed(frames):
        if not frame.filename.startswith(inside):
            return f"{frame.name} ({Path(frame.filename).name}, line {frame.lineno})"
    return "a step"
