"""Talk to a running explorer as its page does."""

import json
import threading
import time
from contextlib import contextmanager, suppress

import httpx


class Client:
    """Talks to an explorer as a page does."""

    def __init__(self, url, page="page-1", **headers):
        self.url, self.page = url, page
        self.http = httpx.Client(base_url=url, timeout=30, headers=headers)
        self.events, self._changed, self._closing = [], threading.Condition(), False

    def get(self, path, **params):
        return self.http.get(path, params=params or None)

    def post(self, path, **body):
        return self.http.post(path, json=body)

    def images(self, *objectives, priority="visible", **settings):
        wanted = [{"objective": text, "size": 16, "steps": 2, **settings} for text in objectives]
        return self.post("api/images", page=self.page, wanted=wanted, priority=priority)

    @contextmanager
    def listening(self):
        """Read events until the end of the context."""
        http = httpx.Client(base_url=self.url, timeout=None)
        opened = threading.Event()

        def read():
            try:
                with http.stream("GET", f"api/events?page={self.page}") as answer:
                    name = ""
                    for line in answer.iter_lines():
                        if line.startswith("event: "):
                            name = line.removeprefix("event: ")
                        elif line.startswith("data: "):
                            with self._changed:
                                self.events.append((name, json.loads(line.removeprefix("data: "))))
                                self._changed.notify_all()
                            opened.set()
            except httpx.HTTPError:
                pass  # closed from this side, or by the server
            finally:
                opened.set()

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        assert opened.wait(10)
        try:
            yield self
        finally:
            _close(http)
            thread.join(10)
            assert not thread.is_alive()

    def wait(self, found, timeout=60):
        """Wait for an event that a function accepts, and return its data."""
        with self._changed:
            assert self._changed.wait_for(lambda: any(found(*event) for event in self.events), timeout), self.events
            return next(data for name, data in self.events if found(name, data))

    def ended(self, name, timeout=60):
        """Wait until an image is done or has failed."""
        return self.wait(lambda event, data: event in ("done", "failed") and data["id"] == name, timeout)

    def close(self):
        self.http.close()


def _close(http):
    """Close a stream that another thread reads."""
    pool = http._transport._pool
    for connection in list(pool.connections):
        stream = connection._connection._network_stream
        sock = stream.get_extra_info("socket")
        with suppress(OSError):
            sock.shutdown(2)
    http.close()


def wait_until(condition, timeout=30):
    """Wait until a condition holds."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
