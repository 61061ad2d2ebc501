"""Render batches on the workers of a Ray cluster. Each worker loads the network once and renders a batch at a time."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import featviz as fv
from featviz.apps.shared.rendering.backends import render_batch
from featviz.apps.shared.rendering.batch import Batch, Outcome
from featviz.errors import first_line, pluralize
from featviz.io import Store

QUEUED_PER_WORKER = 2
"""Batches that are submitted to each worker at a time, so that none waits for its next."""


@dataclass(frozen=True)
class RayBackend:
    """Renders batches on a Ray cluster: `pip install 'featviz[ray]'`.

    The workers write their images to the store themselves, so all of them must be able to reach it. A worker that is
    lost is restarted and renders its batch again.

    Args:
        address: Address of the cluster; `"auto"` for the one that this machine belongs to, `"local"` to start one here.
        workers: Number of workers, >= 1; `None` for one per GPU if the network is on a GPU, else per CPU core.
        threads: CPU threads of each worker, >= 1.

    Raises:
        SettingError: Ray is not installed.
    """

    address: str = "local"
    workers: int | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        """Check that Ray is installed, before anything is written."""
        if find_spec("ray") is None:
            raise fv.SettingError("Ray is not installed; run: pip install 'featviz[ray]'")

    def run(self, network: fv.Network, batches: Sequence[Batch], store: Store) -> Iterator[Outcome]:
        """Render batches into a store, and yield the outcome of each image as soon as it is known.

        Args:
            network: The network.
            batches: The images to render.
            store: Where the files are written.

        Raises:
            SettingError: There is no cluster at the address.
            OutputError: A worker cannot write to the store.
        """
        if not batches:
            return
        ray = _connect(self.address)
        gpus = 1 if network.device.type == "cuda" else 0
        resources = ray.cluster_resources()
        available = int(resources.get("GPU", 0) if gpus else resources.get("CPU", 1) // self.threads)
        each = "GPU" if gpus else pluralize(self.threads, "CPU thread")
        count = min(self._worker_count(available, each), len(batches))
        _pickle_user_modules(ray, network)
        network_ref, worker_class = ray.put(network), ray.remote(_Worker)
        options = {"num_cpus": self.threads, "num_gpus": gpus, "max_restarts": -1, "max_task_retries": -1}
        url = str(store.path or store.url)
        workers = [worker_class.options(**options).remote(url, self.threads) for _ in range(count)]
        waiting, running = list(reversed(batches)), {}
        try:
            for worker in workers * QUEUED_PER_WORKER:
                if waiting:
                    running[worker.render.remote([network_ref], waiting.pop())] = worker
            while running:
                (done,), _ = ray.wait(list(running), num_returns=1)
                worker = running.pop(done)
                if waiting:
                    running[worker.render.remote([network_ref], waiting.pop())] = worker
                yield from _result(ray, done)
        finally:
            for worker in workers:
                ray.kill(worker)

    def _worker_count(self, available: int, each: str) -> int:
        """Return the number of workers. Those for which there is no room would be waited for without end.

        Args:
            available: Number of workers for which the cluster has room now.
            each: What each worker needs, for the message.

        Raises:
            SettingError: There is no room for any, and the cluster is of this machine, or no number was given.
        """
        can_grow = self.address != "local"  # a cluster may start nodes when they are needed
        if not available and not (can_grow and self.workers):
            raise fv.SettingError(
                f"the Ray cluster at {self.address!r} has no room for a worker, which needs a {each}; give fewer "
                "threads, or another address"
            )
        return self.workers if self.workers and can_grow else min(self.workers or available, available)


class _Worker:
    """Ray actor that keeps the network after its first batch."""

    def __init__(self, url: str, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._store = Store(url)
        self._network: fv.Network | None = None

    def render(self, network_ref: list[Any], batch: Batch) -> list[Outcome]:
        """Render a batch into the store.

        Args:
            network_ref: Reference to the network, in a list: Ray resolves bare references before every call, which
                would copy the network for each batch.
            batch: The images.
        """
        import ray

        self._network = self._network or ray.get(network_ref[0])
        return render_batch(self._network, batch, self._store)


def _connect(address: str) -> Any:
    """Connect to a cluster, or start one.

    Raises:
        SettingError: There is no cluster at the address.
    """
    import ray

    if not ray.is_initialized():
        try:
            ray.init(address=address, log_to_driver=False, include_dashboard=False if address == "local" else None)
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = first_line(error).rstrip(".")
            raise fv.SettingError(
                f"no Ray cluster at {address!r} ({reason}); start one with: ray start --head, or use address 'local'"
            ) from error
    return ray


def _pickle_user_modules(ray: Any, network: fv.Network) -> None:
    """Send the code of a user's own network along with it, since the workers could not import that code."""
    for name in {type(module).__module__ for module in network.module.modules()}:
        module = sys.modules.get(name)
        file = getattr(module, "__file__", None) or ""
        if module is not None and "site-packages" not in file and not name.startswith("featviz"):
            ray.cloudpickle.register_pickle_by_value(module)


def _result(ray: Any, done: Any) -> list[Outcome]:
    """Fetch the outcomes of a batch. A featviz error of a worker is raised here as itself."""
    try:
        return list(ray.get(done))
    except ray.exceptions.RayTaskError as error:
        raise error.cause if isinstance(error.cause, fv.FeatvizError) else error from None
