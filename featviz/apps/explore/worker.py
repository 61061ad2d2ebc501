"""The one thread that runs the network: jobs by urgency, and short calls between their steps."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

MAX_JOBS = 2000
"""Largest number of jobs that wait."""
LIVE, DRAFT, VISIBLE, OFF_SCREEN = range(4)
"""Urgency of jobs, the most urgent first: an image that is seen forming, drafts and finished images of what is on the
screen, and images that are not on it yet."""
STOP_TIMEOUT_S = 60.0
"""Seconds to wait for the thread: a job ends after its current step."""

T = TypeVar("T")


class QueueFullError(Exception):
    """There are too many jobs."""


@dataclass(eq=False)
class Job:
    """Work that takes longer than an answer may.

    Args:
        id: Name of its result.
        run: Does the work of several jobs of one group together.
        level: How urgent it is: `LIVE`, `DRAFT`, `VISIBLE` or `OFF_SCREEN`.
        group: Jobs of one group and level may run together; `None` for a job that runs alone.
        detail: What `run` needs to know.
        pages: Pages that wait for it. Without any, it is cancelled.
        live: Whether its pages want to see it forming.
    """

    id: str
    run: Callable[[list[Job], Callable[[], None]], None]
    level: int
    group: Hashable = None
    detail: Any = None
    pages: set[str] = field(default_factory=set)
    live: bool = False
    order: int = 0

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for it any more."""
        return not self.pages


class Worker:
    """Runs jobs one after another, the most urgent first, in one thread.

    A more urgent job does not wait for a running one: it runs between two of its steps, in the same thread, so that no
    work is lost. Short calls run there, too. So one thread runs the network, however many pages ask.

    Args:
        limit: Returns how many jobs of a group may run together, given the first of them.
        failed: Called with jobs and the error that ended them.
    """

    def __init__(
        self,
        limit: Callable[[Job], int] = lambda _: 1,
        failed: Callable[[list[Job], Exception], None] = lambda _, __: None,
    ) -> None:
        self._limit, self._failed = limit, failed
        self._changed = threading.Condition()
        self._calls: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._waiting: dict[str, Job] = {}
        self._running: dict[str, Job] = {}
        self._numbers = itertools.count()
        self._stopping = False
        self._thread = threading.Thread(target=self._loop, name="featviz-explore-worker", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Cancel everything, and wait until the thread has ended."""
        with self._changed:
            self._stopping = True
            self._waiting.clear()
            for job in self._running.values():
                job.pages.clear()
            self._changed.notify_all()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(STOP_TIMEOUT_S)

    @property
    def count(self) -> int:
        """Number of jobs that wait or run."""
        return len(self._waiting) + len(self._running)

    def call(self, function: Callable[[], T]) -> Future[T]:
        """Run a short function before the next step of any job.

        Args:
            function: The function.

        Returns:
            Its result, once it is there.
        """
        future: Future[T] = Future()
        with self._changed:
            if self._stopping or len(self._calls) >= MAX_JOBS:
                future.set_exception(QueueFullError())
            else:
                self._calls.append((future, function))
                self._changed.notify_all()
        return future

    def add(self, jobs: Iterable[Job]) -> None:
        """Add jobs. One that is there already gets the further pages, and becomes more urgent if need be.

        Args:
            jobs: The jobs, in the order in which they should run.

        Raises:
            QueueFullError: There would be too many; none is added.
        """
        jobs = list(jobs)
        with self._changed:
            new = {job.id: job for job in jobs if job.id not in self._waiting and job.id not in self._running}
            if self._stopping or len(self._waiting) + len(new) > MAX_JOBS:
                raise QueueFullError
            for job in jobs:
                known = self._waiting.get(job.id) or self._running.get(job.id)
                if known is None:
                    job.order = next(self._numbers)
                    self._waiting[job.id] = job
                elif known is not job:
                    known.pages |= job.pages
                    known.level, known.live = min(known.level, job.level), known.live or job.live
            self._changed.notify_all()

    def cancel(self, page: str, ids: Iterable[str] | None = None) -> None:
        """Remove a page from jobs. Jobs without pages leave the queue, or stop after the current step.

        Args:
            page: The page.
            ids: The jobs; `None` for all.
        """
        with self._changed:
            for name in list({*self._waiting, *self._running}) if ids is None else list(ids):
                job = self._waiting.get(name) or self._running.get(name)
                if job is not None:
                    job.pages.discard(page)
                    if job.cancelled:
                        self._waiting.pop(name, None)

    # ------------------------------------------------------------------------------------------ in the thread

    def _loop(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or self._calls or self._waiting)
                if self._stopping:
                    break
            self._serve(OFF_SCREEN + 1)
        for future, _ in self._calls:
            future.cancel()

    def _serve(self, below: int) -> None:
        """Run calls, and jobs that are more urgent than a level, until none is left."""
        while not self._stopping:
            with self._changed:
                call = self._calls.popleft() if self._calls else None
                jobs = [] if call else self._take(below)
            if call:
                _answer(*call)
            elif jobs:
                self._run(jobs)
            else:
                return

    def _run(self, jobs: list[Job]) -> None:
        """Run jobs together. Those that a page asked for again while they stopped go back to the queue."""
        interrupted = False
        try:
            jobs[0].run(jobs, lambda: self._between_steps(jobs))
        except KeyboardInterrupt:
            interrupted = True
        except Exception as error:
            self._failed(jobs, error)
        with self._changed:
            for job in jobs:
                self._running.pop(job.id, None)
                if interrupted and job.pages and not self._stopping:
                    self._waiting[job.id] = job

    def _between_steps(self, jobs: list[Job]) -> None:
        """Run what is more urgent than some jobs.

        Raises:
            KeyboardInterrupt: Nobody waits for the jobs any more. `fv.render` then stops.
        """
        if not self._stopping:
            self._serve(min(job.level for job in jobs))
        if self._stopping or all(job.cancelled for job in jobs):
            raise KeyboardInterrupt

    def _take(self, below: int) -> list[Job]:
        """Take the most urgent job, and others of its group that may run together with it."""
        first = min(
            (job for job in self._waiting.values() if job.level < below),
            key=lambda job: (job.level, job.order),
            default=None,
        )
        if first is None:
            return []
        alike = [
            job for job in self._waiting.values()
            if job is first or (job.group is not None and (job.group, job.level) == (first.group, first.level))
        ]  # fmt: skip
        alike.sort(key=lambda job: job.order)
        taken = alike[: 1 if first.live else self._limit(first)]
        for job in taken:
            self._running[job.id] = self._waiting.pop(job.id)
        return taken


def _answer(future: Future[Any], function: Callable[[], Any]) -> None:
    """Run a call and set its result."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(function())
    except BaseException as error:
        future.set_exception(error)
