"""Start the server of the explorer, and stop it."""

from __future__ import annotations

import asyncio
import atexit
import html
import secrets
import socket
import sys
import threading
import webbrowser
from pathlib import Path
from types import TracebackType
from typing import Any

import featviz as fv
from featviz.apps.shared.arguments.classes import network_title
from featviz.engine import entry_point
from featviz.errors import OutputError, SettingError
from featviz.interfaces import Size, as_size
from featviz.io import Store, cache_folder, images_in, unique_slug

HOST = "127.0.0.1"
"""The only address that the server listens on: this machine."""
MAX_CONNECTIONS = 128
"""Largest number of connections at once."""
STOP_TIMEOUT_S = 30.0
"""Seconds to wait for the server's thread when it stops."""
GRACE_S = 2
"""Seconds that the server waits for open connections when it stops."""
HEIGHT = 720
"""Height of the page in a notebook, in px."""


class Explorer:
    """A running server. It ends with `stop`, at the end of a `with` block, or with the process.

    Args:
        services: What does its work.
        listening: The socket on which it listens.
        open_browser: Whether to open the page in the browser.
    """

    def __init__(self, services: Any, listening: socket.socket, *, open_browser: bool) -> None:
        from uvicorn import Config
        from uvicorn import Server as Uvicorn

        from featviz.apps.explore.guard import Guard
        from featviz.apps.explore.server import Server

        token, port = secrets.token_urlsafe(24), listening.getsockname()[1]
        self.url = f"http://{HOST}:{port}/{token}/"
        self._services, self._listening = services, listening
        self._routes = Server(services)
        config = Config(
            Guard(self._routes.app(), token, port),
            loop="asyncio", http="h11", ws="none", lifespan="off", log_config=None, log_level="critical",
            access_log=False, server_header=False, limit_concurrency=MAX_CONNECTIONS,
            timeout_graceful_shutdown=GRACE_S,
        )  # fmt: skip
        self._server = Uvicorn(config)
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._serve, name="featviz-explore-server", daemon=True)
        services.worker.start()
        services.worker.call(services.images.warm_up)
        self._thread.start()
        atexit.register(self.stop)
        if open_browser:
            webbrowser.open(self.url)

    def _serve(self) -> None:
        asyncio.run(self._server.serve([self._listening]))

    def __repr__(self) -> str:
        """Show the address, or that it has been stopped."""
        return f"<Explorer: {'stopped' if self._stopped.is_set() else self.url}>"

    def _repr_html_(self) -> str:
        """Show the page inside of a notebook, with a link to it."""
        if self._stopped.is_set():
            return "<p>The explorer has been stopped.</p>"
        url = html.escape(self.url, quote=True)
        frame = f'<iframe src="{url}" title="featviz explore" width="100%" height="{HEIGHT}" style="border:0"></iframe>'
        return f'{frame}<p><a href="{url}" target="_blank" rel="noopener">{url}</a></p>'

    def __enter__(self) -> Explorer:
        """Return it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        self.stop()

    def wait(self) -> None:
        """Wait until it has been stopped, from another thread or by Ctrl-C.

        Raises:
            KeyboardInterrupt: After Ctrl-C. The server still runs.
        """
        while not self._stopped.wait(0.5):  # a wait without a limit cannot be interrupted on every system
            if not self._thread.is_alive():
                self.stop()

    def stop(self) -> None:
        """End the work, the server and their threads. Further calls do nothing."""
        with self._lock:
            if self._stopped.is_set():
                return
            self._stopped.set()
            self._services.hub.close()
            self._server.should_exit = True
            self._services.worker.stop()
            self._thread.join(STOP_TIMEOUT_S)
            self._routes.close()
            self._listening.close()
            atexit.unregister(self.stop)


@entry_point
def explore(
    network: fv.Network,
    *,
    photographs: str | Path | None = None,
    output: str | Path | None = None,
    size: int | Size | None = None,
    port: int = 0,
    open_browser: bool | None = None,
) -> Explorer:
    """Explore a network on a local page: its units are rendered as they come into view.

    The page lists the layers. It also renders objectives that you type. It dreams on photographs that you drop on it,
    explains them, or decomposes them into building blocks. Images are kept, so the next start shows them at once. The
    server listens on this machine only, and its address holds a secret. It ends with the process; in a script, call
    `explore(net).wait()`.

    Args:
        network: From `fv.load`, or `fv.Network(module, ...)` around your own module.
        photographs: Folder of images. Those that activate a unit most are shown beside it; `None` for none.
        output: Folder of the images, which may be that of an earlier sweep; `None` for one in featviz's cache.
        size: Height and width in px with which images are first drawn, or one side; `None` for the network's input
            size.
        port: Port of the server; 0 for any free one.
        open_browser: Whether to open the page in the browser; `None` to do so except in notebooks, which show it.

    Returns:
        The running server, with its `url`, and `stop()`.

    Raises:
        SettingError: An argument is out of its range, the network reads text, or Starlette and uvicorn are not
            installed.
        OutputError: A folder is missing or cannot be written to, or the port is in use.
    """
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise SettingError("Starlette and uvicorn are not installed; run: pip install 'featviz[explore]'") from error
    from featviz.apps.explore.services import Services

    if not 0 <= port < 2**16:
        raise SettingError(f"port must be in 0…65535, got {port} (default 0, any free one)")
    if photographs is not None:
        next(iter(images_in(photographs)))  # a folder without images is reported now
    _ = network.table
    store = Store(default_output(network) if output is None else output)
    if store.path is None:
        raise SettingError(f"explore keeps its images in a folder of this machine, got {store.url}")
    folder = None if photographs is None else Path(photographs)
    listening = _listen(port)
    try:
        services = Services(network, store, folder, None if size is None else as_size(size))
        in_notebook = "ipykernel" in sys.modules
        return Explorer(services, listening, open_browser=not in_notebook if open_browser is None else open_browser)
    except BaseException:
        listening.close()
        raise


def default_output(network: fv.Network) -> Path:
    """Return the folder for the images of a network where none is given.

    Args:
        network: The network. Other weights, or another input specification, have another folder.
    """
    name = f"{network_title(network)} {network.fingerprint} {network.input}"
    return cache_folder() / "explore" / unique_slug(name, 80)


def _listen(port: int) -> socket.socket:
    """Open a port of this machine.

    Raises:
        OutputError: The port is in use, or may not be opened.
    """
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((HOST, port))
        listening.listen(MAX_CONNECTIONS)
    except OSError as error:
        listening.close()
        reason = error.strerror or error
        raise OutputError(
            f"cannot open port {port}: {reason}; give another one with --port, or leave it out for any free one"
        ) from error
    return listening
