"""Check every request: accept only those from a page that was opened with this server's token.

Other pages in the same browser can send requests to a local server. They do not know the token, which is part of the
path. A page that points its own name at this machine (DNS rebinding) is refused by the Host header, one that sends
requests to this server by the Origin header.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, RedirectResponse, Response

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

NOTEBOOKS = "http://localhost:* http://127.0.0.1:*"
"""Origins that may embed the page in a frame: notebooks on this machine."""
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    f"frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self' {NOTEBOOKS}"
)
"""Content-Security-Policy of every answer but the pages of other commands."""
OWN_PAGE_POLICY = f"form-action 'none'; frame-ancestors 'self' {NOTEBOOKS}"
"""Policy of a page that another command made, such as `blocks`. It holds a stricter one that lists its own scripts."""
HEADERS = {
    "content-security-policy": PAGE_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
"""Headers of every answer that does not set them itself."""
METHODS = ("GET", "HEAD", "POST")


def error(status: int, text: str, position: int | None = None) -> Response:
    """Return an answer that says what is wrong.

    Args:
        status: HTTP status.
        text: One plain line.
        position: Column of a typed objective at which the problem is; `None` for none.
    """
    return JSONResponse({"error": text, "position": position}, status)


class Guard:
    """Refuses requests that do not come from the page, and adds the headers to every answer.

    Args:
        app: What answers the other requests. It gets the path without the token.
        token: The secret part of the path.
        port: Port of the server.
    """

    def __init__(self, app: ASGIApp, token: str, port: int) -> None:
        self._app, self._token = app, token
        self._hosts = (f"127.0.0.1:{port}", f"localhost:{port}")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return
        send = _with_headers(send)
        refused = self._refusal(scope)
        if refused is not None:
            await refused(scope, receive, send)
            return
        rest = scope["path"][len(self._token) + 1 :]
        await self._app({**scope, "path": rest, "raw_path": rest.encode(), "root_path": ""}, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        """Return why a request is refused; `None` for one that is not."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get("host", "")
        if host not in self._hosts or sum(name == b"host" for name, _ in scope["headers"]) != 1:
            return error(421, "this server answers to 127.0.0.1 and localhost only")
        if headers.get("origin", f"http://{host}") != f"http://{host}":
            return error(403, "this server answers to its own page only")
        if headers.get("sec-fetch-site") == "cross-site" and not self._is_navigation(scope, headers):
            return error(403, "this server answers to its own page only")
        first, slash, _ = scope["path"].removeprefix("/").partition("/")
        if not hmac.compare_digest(first.encode(), self._token.encode()):
            return error(404, "nothing here; open the address that featviz printed")
        if not slash:
            return RedirectResponse(f"/{self._token}/", 307)
        if b"%" in scope.get("raw_path", b"") or ".." in scope["path"] or "\\" in scope["path"]:
            return error(404, "nothing here")
        if scope["method"] not in METHODS:
            return error(405, "this server answers to GET and POST only")
        return None

    def _is_navigation(self, scope: Scope, headers: Mapping[str, str]) -> bool:
        """Return whether the user follows a link to the page, or a notebook shows it.

        The address has the token, so that whoever has it may open the page.
        """
        is_page = scope["path"] in (f"/{self._token}/", f"/{self._token}") and scope["method"] == "GET"
        return is_page and headers.get("sec-fetch-mode") == "navigate"


def _with_headers(send: Send) -> Callable[[Message], Awaitable[None]]:
    """Add the headers to an answer."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            present = {name for name, _ in message["headers"]}
            own = [(name.encode(), value.encode()) for name, value in HEADERS.items() if name.encode() not in present]
            message = {**message, "headers": [*message["headers"], *own]}
        await send(message)

    return sending
