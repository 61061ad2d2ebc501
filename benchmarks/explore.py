"""Time the explorer as a page sees it: from the start to the first tile, tiles of a layer, and opening again.

Run with `make explore-bench`. The server runs in this process, and answers real requests. Drafts are of a fresh
folder; finished images and opening again use it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time

import httpx
import torch

import featviz as fv

TILES = 12
"""Tiles on the screen."""
PAGE = "benchmark"


def main() -> None:
    """Print a table of times, one row per network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch")
    parser.add_argument("--mobilenet", default="none", help="weights of MobileNetV2; random ones by default")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.one:
        name, layer, size = options.one.split(",")
        print(measure(name, layer, int(size), options.mobilenet))
        return
    print("| network, size | ready | first draft | each draft | each final | first final | opened again |")
    print("|---|---|---|---|---|---|---|")
    for name, layer, size in (("motifnet", "stage3", 64), ("mobilenet_v2", "features.5", 128)):
        # In a process of its own, with an empty cache: nothing is imported, probed or measured yet.
        with tempfile.TemporaryDirectory() as cache:
            more = ["--threads", str(options.threads), "--mobilenet", options.mobilenet]
            command = [sys.executable, __file__, *more, "--one", f"{name},{layer},{size}"]
            subprocess.run(command, check=True, env=os.environ | {"XDG_CACHE_HOME": cache})


def measure(name: str, layer: str, size: int, mobilenet: str) -> str:
    """Return the row of one network."""
    net = fv.load(name, weights=mobilenet if name == "mobilenet_v2" else "default")
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        with fv.explore(net, output=folder, size=size, open_browser=False) as running:
            page = Page(running.url)
            about = page.http.get("api/about").json()["defaults"]
            ready = time.perf_counter() - started
            first, each = page.times(layer, about["draft_size"], about["draft_steps"])
            first_final, final = page.times(layer, size, about["steps"])
        with fv.explore(net, output=folder, size=size, open_browser=False) as running:
            page = Page(running.url)
            started = time.perf_counter()
            found = page.ask(layer, size, about["steps"])
            assert all(image["state"] == "done" for image in found)
            again = time.perf_counter() - started
    times = " | ".join(f"{seconds:.2f} s" for seconds in (ready, ready + first, each, final, first_final, again))
    return f"| {name}, {size} px | {times} |"


class Page:
    """Asks for the tiles of a layer, and waits for them."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=60)
        self.done: dict[str, float] = {}
        self.changed, self.opened = threading.Condition(), threading.Event()
        threading.Thread(target=self._listen, args=[url], daemon=True).start()
        assert self.opened.wait(10)

    def _listen(self, url: str) -> None:
        try:
            with httpx.stream("GET", f"{url}api/events?page={PAGE}", timeout=None) as answer:
                event = ""
                for line in answer.iter_lines():
                    self.opened.set()
                    if line.startswith("event: "):
                        event = line.removeprefix("event: ")
                    elif line.startswith("data: ") and event in ("done", "failed"):
                        with self.changed:
                            self.done[json.loads(line.removeprefix("data: "))["id"]] = time.perf_counter()
                            self.changed.notify_all()
        except httpx.HTTPError:
            pass  # the server has ended

    def ask(self, layer: str, size: int, steps: int) -> list[dict[str, str]]:
        """Ask for the tiles of a layer."""
        wanted = [{"objective": f"{layer}:{i}", "size": size, "steps": steps} for i in range(TILES)]
        return self.http.post("api/images", json={"page": PAGE, "wanted": wanted}).json()["images"]

    def times(self, layer: str, size: int, steps: int) -> tuple[float, float]:
        """Return the seconds until the first tile is there, and those per tile until all are."""
        started = time.perf_counter()
        ids = [image["id"] for image in self.ask(layer, size, steps)]
        with self.changed:
            self.changed.wait_for(lambda: all(name in self.done for name in ids))
        ends = sorted(self.done[name] for name in ids)
        return ends[0] - started, (ends[-1] - started) / len(ids)


if __name__ == "__main__":
    main()
