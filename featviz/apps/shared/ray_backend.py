"""Batches on the workers of a Ray cluster: each holds the network once, and draws one batch at a time."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import featviz as fv
from featviz.apps.shared.batches import Batch, Outcome, draw
from featviz.io import Store

AHEAD = 2
"""Batches that wait at each worker, so that none waits for its next."""


@dataclass(frozen=True)
class RayBackend:
    """Draws batches on a Ray cluster: `pip install 'featviz[ray]'`.

    The workers write their pictures to the store themselves, so it has to be one that all of them reach. A worker that
    is lost is started anew, and does its batch again.

    Args:
        address: of the cluster; `"auto"` for the one that this machine belongs to, `"local"` to start one here.
        workers: how many; `None` means one for each processor core, or each GPU where there are any.
        threads: of each.

    Raises:
        SettingError: Ray is not installed, or there is no cluster at the address.
    """

    address: str = "local"
    workers: int | None = None
    threads: int = 1

    def run(self, network: fv.Network, batches: Sequence[Batch], store: Store) -> Iterator[Outcome]:
        """Draw them into the store, and say of each picture what became of it, as it is known."""
        if not batches:
            return
        ray = _connect(self.address)
        gpus = 1 if network.device.type == "cuda" else 0
        resources = ray.cluster_resources()
        most = int(resources.get("GPU", 0) if gpus else resources.get("CPU", 1) // self.threads)
        count = max(1, min(self.workers or most, len(batches)))
        _carry_modules(ray, network)
        held, worker = ray.put(network), ray.remote(_Worker)
        options = {"num_cpus": self.threads, "num_gpus": gpus, "max_restarts": -1, "max_task_retries": -1}
        workers = [worker.options(**options).remote(str(store.path or store.url), self.threads) for _ in range(count)]
        waiting, busy = list(reversed(batches)), {}
        try:
            for one in workers * AHEAD:
                if waiting:
                    busy[one.draw.remote([held], waiting.pop())] = one
            while busy:
                (done,), _ = ray.wait(list(busy), num_returns=1)
                one = busy.pop(done)
                if waiting:
                    busy[one.draw.remote([held], waiting.pop())] = one
                yield from _result(ray, done)
        finally:
            for one in workers:
                ray.kill(one)


class _Worker:
    """Holds the network, from its first batch on."""

    def __init__(self, url: str, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._store = Store(url)
        self._network: fv.Network | None = None

    def draw(self, held: list[Any], batch: Batch) -> list[Outcome]:
        """Draw a batch into the store; the network is where the one thing held is."""
        import ray

        self._network = self._network or ray.get(held[0])
        return draw(self._network, batch, self._store)


def _connect(address: str) -> Any:
    """Find the cluster, or start one.

    Raises:
        SettingError: Ray is not installed, or there is no cluster at the address.
    """
    try:
        import ray
    except ImportError as error:
        raise fv.SettingError("Ray is not installed; run: pip install 'featviz[ray]'") from error
    if not ray.is_initialized():
        try:
            ray.init(address=address, log_to_driver=False, include_dashboard=False if address == "local" else None)
        except (ConnectionError, ValueError, RuntimeError) as error:
            why = str(error).partition("\n")[0].rstrip(".")
            raise fv.SettingError(
                f"no Ray cluster at {address!r} ({why}); start one with ray start, or give local"
            ) from error
    return ray


def _carry_modules(ray: Any, network: fv.Network) -> None:
    """Send the code of a network of one's own along, which the workers could not import."""
    for part in {type(part).__module__ for part in network.module.modules()}:
        module = sys.modules.get(part)
        file = getattr(module, "__file__", None) or ""
        if module is not None and "site-packages" not in file and not part.startswith("featviz"):
            ray.cloudpickle.register_pickle_by_value(module)


def _result(ray: Any, done: Any) -> list[Outcome]:
    """Fetch what became of a batch, and raise as here what a worker raised."""
    try:
        return list(ray.get(done))
    except ray.exceptions.RayTaskError as error:
        raise error.cause if isinstance(error.cause, fv.FeatvizError) else error from None
