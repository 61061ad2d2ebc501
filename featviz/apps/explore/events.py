"""Server-sent events that report the progress of a page's jobs."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

MAX_PAGES = 32
"""Largest number of pages that listen at once."""
MAX_WAITING = 4000
"""Largest number of unread events per page. Beyond it, the stream is closed and the browser reconnects."""
HEARTBEAT_S = 10.0
"""Seconds after which a comment is sent where there was no event, so that a broken connection is noticed."""
RETRY_MS = 1000
"""Milliseconds after which a browser opens a broken stream again."""


class TooManyPagesError(Exception):
    """Too many pages listen."""


class Stream:
    """The events of one page, written by any thread and read by the server's.

    Args:
        loop: The server's event loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._events: deque[str] = deque()
        self._ready = asyncio.Event()
        self.closed = False

    def put(self, text: str | None) -> None:
        """Add an event, from any thread.

        Args:
            text: The event; `None` to end the stream.
        """
        if text is None or len(self._events) >= MAX_WAITING:
            self.closed = True
        else:
            self._events.append(text)
        try:
            self._loop.call_soon_threadsafe(self._ready.set)
        except RuntimeError:  # the server has ended
            self.closed = True

    async def read(self) -> AsyncIterator[str]:
        """Yield the events as they come, and comments in between."""
        while True:
            while self._events:
                yield self._events.popleft()
            if self.closed:
                return
            self._ready.clear()
            try:
                await asyncio.wait_for(self._ready.wait(), HEARTBEAT_S)
            except TimeoutError:
                yield ": heartbeat\n\n"


class Hub:
    """The streams of all pages.

    Args:
        on_closed: Called with the id of a page that does not listen any more.
    """

    def __init__(self, on_closed: Callable[[str], None]) -> None:
        self._on_closed = on_closed
        self._streams: dict[str, Stream] = {}
        self._lock = threading.Lock()

    def listens(self, page: str) -> bool:
        """Return whether a page has a stream.

        Args:
            page: Id of the page.
        """
        return page in self._streams

    @property
    def pages(self) -> list[str]:
        """Ids of the pages that listen."""
        return list(self._streams)

    def open(self, page: str) -> Stream:
        """Open the stream of a page. An earlier one of the same page ends.

        Args:
            page: Id of the page.

        Returns:
            The stream, to be given to `left` when the connection ends.

        Raises:
            TooManyPagesError: `MAX_PAGES` listen already.
        """
        stream = Stream(asyncio.get_running_loop())
        with self._lock:
            earlier = self._streams.get(page)
            if earlier is None and len(self._streams) >= MAX_PAGES:
                raise TooManyPagesError
            self._streams[page] = stream
        if earlier is not None:
            earlier.put(None)
        stream.put(f"retry: {RETRY_MS}\n\n")
        stream.put(event_text("hello", {"page": page}))
        return stream

    def left(self, page: str, stream: Stream) -> None:
        """Forget a stream whose connection has ended.

        Args:
            page: Id of the page.
            stream: Its stream, which a later one of the same page may have replaced.
        """
        with self._lock:
            last = self._streams.get(page) is stream
            if last:
                del self._streams[page]
        if last:
            self._on_closed(page)

    def send(self, pages: Iterable[str], event: str, data: Any) -> None:
        """Send an event to pages, from any thread. Pages that do not listen are left out.

        Args:
            pages: Ids of the pages.
            event: Name of the event.
            data: Its data, for JSON.
        """
        text = event_text(event, data)
        for page in tuple(pages):
            stream = self._streams.get(page)
            if stream is not None:
                stream.put(text)

    def close(self) -> None:
        """End all streams."""
        for stream in list(self._streams.values()):
            stream.put(None)


def event_text(event: str, data: Any) -> str:
    r"""Return the text of an event.

    >>> event_text("done", {"id": "a"})
    'event: done\ndata: {"id": "a"}\n\n'
    """
    return f"event: {event}\ndata: {json.dumps(data)}\n\n"
