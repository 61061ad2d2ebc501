"""Read the parts of a request within bounds, and turn errors into answers of one plain line."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from featviz.apps.explore.guard import error
from featviz.apps.explore.requests import IDS, MAX_BODY, RequestError, read_json
from featviz.apps.explore.worker import QueueFullError
from featviz.errors import FeatvizError, first_line, kind_and_line

log = logging.getLogger("featviz")

Answer = Callable[[Request], Awaitable[Response]]
"""Answers a request."""


def id_of(text: str, ending: str) -> str:
    """Return the id in the name of a file.

    Args:
        text: The name.
        ending: What must follow the id.

    Raises:
        RequestError: There is none.
    """
    name = text.removesuffix(ending)
    if not text.endswith(ending) or not IDS.fullmatch(name):
        raise RequestError("nothing here", 404)
    return name


def whole_number(text: str, name: str, most: int) -> int:
    """Read a whole number of a query.

    Args:
        text: Its digits.
        name: What it is, for messages.
        most: The largest one.

    Raises:
        RequestError: The text is not a whole number, or out of its range.
    """
    if not text.isascii() or not text.isdecimal() or len(text) > 18 or int(text) > most:
        raise RequestError(f"{name} must be a whole number in 0…{most}")
    return int(text)


async def json_body(request: Request, *, most: int = MAX_BODY) -> dict[str, Any]:
    """Read the body of a request as a JSON object.

    Args:
        request: The request.
        most: Largest number of bytes.

    Raises:
        RequestError: The body is not JSON, or too large.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RequestError("the body must be JSON, with content-type: application/json", 415)
    return read_json(await body_of(request, most))


async def body_of(request: Request, most: int) -> bytes:
    """Read the body of a request, and no more of it than is allowed.

    Args:
        request: The request.
        most: Largest number of bytes.

    Raises:
        RequestError: The body is too large.
    """
    too_large = RequestError(f"at most {most // 1024} kB are accepted", 413)
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or len(length) > 12 or int(length) > most:
        raise too_large
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > most:
            raise too_large
    return bytes(data)


def safely(answer: Answer) -> Answer:
    """Turn errors into answers of one plain line.

    Args:
        answer: Answers a request, or raises an error.

    Returns:
        What answers every request.
    """

    async def run(request: Request) -> Response:
        try:
            return await answer(request)
        except RequestError as problem:
            return error(problem.status, str(problem), problem.position)
        except QueueFullError:
            return error(429, "too many images are waiting; wait a moment, or cancel some")
        except FeatvizError as problem:
            return error(400, first_line(problem))
        except (ClientDisconnect, asyncio.CancelledError):
            raise
        except Exception as problem:
            line = kind_and_line(problem)
            log.error("%s %s: %s", request.method, request.url.path, line)
            return error(500, line)

    return run


async def not_found(_: Request, __: Exception) -> Response:
    """Answer a path that there is not."""
    return error(404, "nothing here")


async def wrong_method(_: Request, __: Exception) -> Response:
    """Answer a method that a path does not have."""
    return error(405, "this address does not answer to that method")
