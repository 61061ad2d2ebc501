"""The routes of the server: read a request, ask the worker or the store, answer as JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from featviz.apps.explore.bodies import (
    Answer,
    body_of,
    id_of,
    json_body,
    not_found,
    safely,
    whole_number,
    wrong_method,
)
from featviz.apps.explore.events import Stream, TooManyPagesError
from featviz.apps.explore.guard import OWN_PAGE_POLICY
from featviz.apps.explore.images import Planned, image_url
from featviz.apps.explore.requests import (
    MAX_BODY,
    MAX_TEXT,
    MAX_WANTED,
    RequestError,
    read_choice,
    read_id,
    read_list,
    read_number,
    read_objective,
    read_page,
    read_text,
    read_wanted,
    read_whole,
)
from featviz.apps.explore.services import Services
from featviz.apps.explore.uploads import MAX_UPLOAD

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

STATIC = Path(__file__).parent / "static"
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml", ".png": "image/png", ".webp": "image/webp",
}  # fmt: skip
"""Media types of the files that are served, by ending."""
FOREVER = {"cache-control": "private, max-age=31536000, immutable"}
"""An image never changes: its name is the hash of what determines it."""
FILE_THREADS = 2
"""Threads that read files and decode photographs."""

T = TypeVar("T")


class Server:
    """Answers the requests of pages.

    Args:
        services: What does the work.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._files = ThreadPoolExecutor(FILE_THREADS, "featviz-explore-files")
        self._static = {file.name: file for file in STATIC.iterdir() if file.suffix in MEDIA_TYPES}

    def close(self) -> None:
        """End the threads."""
        self._files.shutdown(cancel_futures=True)

    def app(self) -> Starlette:
        """Return the application, which expects paths without the token."""
        gets: dict[str, Answer] = {
            "/": self._index,
            "/static/{name}": self._static_file,
            "/api/about": self._about,
            "/api/complete": self._complete,
            "/api/events": self._events,
            "/api/image/{name}": self._image_facts,
            "/api/unit": self._unit,
            "/api/uploads/{name}": self._upload_facts,
            "/api/board": self._board,
            "/images/{name}": self._image,
            "/uploads/{name}": self._upload_file,
            "/crops/{name}": self._crop,
            "/blocks/{name}/{file:path}": self._blocks_file,
            "/export.zip": self._export,
        }
        posts: dict[str, Answer] = {
            "/api/check": self._check,
            "/api/images": self._images,
            "/api/cancel": self._cancel,
            "/api/uploads": self._upload,
            "/api/dream": self._dream,
            "/api/explain": self._explain,
            "/api/blocks": self._blocks,
            "/api/board": self._set_board,
            "/api/board/export": self._export_url,
        }
        routes = [Route(path, safely(answer), methods=["GET"]) for path, answer in gets.items()]
        routes += [Route(path, safely(answer), methods=["POST"]) for path, answer in posts.items()]
        return Starlette(routes=routes, exception_handlers={404: not_found, 405: wrong_method})

    # ------------------------------------------------------------------------------------------ files

    async def _index(self, _: Request) -> Response:
        return await self._static_answer("index.html")

    async def _static_file(self, request: Request) -> Response:
        return await self._static_answer(request.path_params["name"])

    async def _static_answer(self, name: str) -> Response:
        file = self._static.get(name)
        if file is None:
            raise RequestError("nothing here", 404)
        return Response(await self._in_thread(file.read_bytes), media_type=MEDIA_TYPES[file.suffix])

    async def _image(self, request: Request) -> Response:
        name = id_of(request.path_params["name"], ".png")
        data = await self._in_thread(partial(self._services.image_bytes, name))
        return Response(data, media_type="image/png", headers=FOREVER)

    async def _upload_file(self, request: Request) -> Response:
        file = self._services.uploads.path(id_of(request.path_params["name"], ".png"))
        return Response(await self._in_thread(file.read_bytes), media_type="image/png", headers=FOREVER)

    async def _crop(self, request: Request) -> Response:
        name = id_of(request.path_params["name"], ".webp")
        data = await self._in_thread(partial(self._services.units.crop_bytes, name))
        return Response(data, media_type="image/webp", headers=FOREVER)

    async def _blocks_file(self, request: Request) -> Response:
        name, file = id_of(request.path_params["name"], ""), request.path_params["file"]
        data, ending = await self._in_thread(partial(self._services.photographs.blocks_file, name, file))
        own_policy = {"content-security-policy": OWN_PAGE_POLICY} if ending == ".html" else FOREVER
        return Response(data, media_type=MEDIA_TYPES[ending], headers=own_policy)

    async def _export(self, _: Request) -> Response:
        data = await self._in_thread(self._services.board.export)
        disposition = {"content-disposition": 'attachment; filename="featviz-board.zip"'}
        return Response(data, media_type="application/zip", headers=disposition)

    # ------------------------------------------------------------------------------------------ facts

    async def _about(self, _: Request) -> Response:
        return JSONResponse(self._services.about)

    async def _complete(self, request: Request) -> Response:
        text = request.query_params.get("text", "")
        if len(text) > MAX_TEXT:
            raise RequestError(f"text must have at most {MAX_TEXT} characters, got {len(text)}")
        at = whole_number(request.query_params.get("at", str(len(text))), "at", len(text))
        return JSONResponse(self._services.completer.complete(text, at))

    async def _check(self, request: Request) -> Response:
        text = read_text(await json_body(request), "objective")
        objective = read_objective(text)
        await self._in_worker(partial(self._services.check, objective, text))
        return JSONResponse({"ok": True, "objective": repr(objective)})

    async def _image_facts(self, request: Request) -> Response:
        name = id_of(request.path_params["name"], "")
        return JSONResponse(await self._in_thread(partial(self._services.image_facts, name)))

    async def _unit(self, request: Request) -> Response:
        layer, query = request.query_params.get("layer", ""), request.query_params
        channel = whole_number(query.get("channel", ""), "channel", 10**9)
        page = read_page(query["page"]) if "page" in query else None
        return JSONResponse(await self._in_worker(partial(self._services.units.card, layer, channel, page)))

    async def _board(self, _: Request) -> Response:
        return JSONResponse(await self._in_thread(self._services.board.content))

    async def _set_board(self, request: Request) -> Response:
        body = await json_body(request, most=32 * MAX_BODY)  # long notes of many images
        items = read_list(body, "items", self._services.board.most)
        set_items = partial(self._services.board.set, items, read_text(body, "revision"))
        return JSONResponse(await self._in_thread(set_items))

    async def _export_url(self, request: Request) -> Response:
        await json_body(request)
        return JSONResponse({"url": "./export.zip"})

    # ------------------------------------------------------------------------------------------ work

    async def _events(self, request: Request) -> Response:
        page = read_page(request.query_params.get("page"))
        try:
            stream = self._services.hub.open(page)
        except TooManyPagesError:
            raise RequestError("too many pages are open; close one", 429) from None
        return _Events(stream, partial(self._services.hub.left, page, stream))

    async def _images(self, request: Request) -> Response:
        body = await json_body(request)
        page = self._listening(body)
        services = self._services
        off_screen = read_choice(body, "priority", ("visible", "soon"), "visible") == "soon"
        wanted, places, answers = [], [], []
        for i, each in enumerate(read_list(body, "wanted", MAX_WANTED)):
            answers.append(Planned(""))
            try:
                wanted.append(read_wanted(each, services.network.size, services.bounds))
                places.append(i)
            except RequestError as problem:
                answers[i] = Planned("", problem=problem)
        if answers and not wanted and answers[0].problem:
            raise answers[0].problem
        plans = await self._in_worker(partial(services.images.plan, wanted, page, off_screen=off_screen))
        for place, plan in zip(places, plans, strict=True):
            answers[place] = plan
        self._add(answers, page)
        return JSONResponse({"images": [_describe(plan) for plan in answers]})

    async def _cancel(self, request: Request) -> Response:
        body = await json_body(request)
        page = read_page(body.get("page"))
        if body.get("all") is True:
            self._services.worker.cancel(page)
        else:
            ids = [read_id({"id": each}, "id") for each in read_list(body, "ids", 4 * MAX_WANTED)]
            self._services.worker.cancel(page, ids)
        return JSONResponse({})

    async def _upload(self, request: Request) -> Response:
        data = await body_of(request, MAX_UPLOAD)
        return await self._upload_answer(await self._in_thread(partial(self._services.uploads.add, data)))

    async def _upload_facts(self, request: Request) -> Response:
        return await self._upload_answer(id_of(request.path_params["name"], ""))

    async def _upload_answer(self, name: str) -> Response:
        height, width = await self._in_thread(partial(self._services.uploads.size, name))
        predictions = await self._in_worker(partial(self._services.uploads.predictions, name))
        url = f"./uploads/{name}.png"
        return JSONResponse({"id": name, "url": url, "width": width, "height": height, "predictions": predictions})

    async def _dream(self, request: Request) -> Response:
        body = await json_body(request)
        page, objective = self._listening(body), _optional_objective(body)
        plan = partial(
            self._services.photographs.dream,
            read_id(body, "upload"),
            objective,
            page,
            strength=read_number(body, "strength", 0.01, 10, 1.0),
            octaves=read_whole(body, "octaves", 1, 8, 4),
            steps=read_whole(body, "steps", 1, 50, 10),
            seed=read_whole(body, "seed", 0, 2**31 - 1, 0),
            live=body.get("live") is True,
        )
        return await self._started(plan, page)

    async def _explain(self, request: Request) -> Response:
        body = await json_body(request)
        page, objective = self._listening(body), _optional_objective(body)
        methods = [method["name"] for method in self._services.about["methods"]]
        method = read_choice(body, "method", methods, methods[0])
        plan = partial(self._services.photographs.explain, read_id(body, "upload"), objective, method, page)
        return await self._started(plan, page)

    async def _blocks(self, request: Request) -> Response:
        body = await json_body(request)
        page, layer = self._listening(body), read_text(body, "layer")
        plan = partial(self._services.photographs.blocks, read_id(body, "upload"), layer, page)
        return await self._started(plan, page)

    # ------------------------------------------------------------------------------------------ helpers

    def _listening(self, body: dict[str, Any]) -> str:
        """Return the page that asks, which must listen to its events: otherwise its work would never be cancelled.

        Raises:
            RequestError: The page has no open event stream.
        """
        page = read_page(body.get("page"))
        if not self._services.hub.listens(page):
            raise RequestError("this page has no open event stream; open ./api/events first", 409)
        return page

    async def _started(self, plan: Callable[[], Planned], page: str) -> Response:
        planned = await self._in_worker(plan)
        self._add([planned], page)
        return JSONResponse(_describe(planned))

    def _add(self, plans: list[Planned], page: str) -> None:
        """Add the jobs of plans, unless the page has gone since it asked: its jobs were cancelled when it went."""
        self._services.worker.add([plan.job for plan in plans if plan.job is not None])
        if not self._services.hub.listens(page):
            self._services.worker.cancel(page)

    async def _in_thread(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._files, function)

    async def _in_worker(self, function: Callable[[], T]) -> T:
        return await asyncio.wrap_future(self._services.worker.call(function))


class _Events(StreamingResponse):
    """The events of a page, until its connection ends.

    Args:
        stream: The events.
        left: Called at the end, also where the connection broke before the first event was read.
    """

    def __init__(self, stream: Stream, left: Callable[[], None]) -> None:
        super().__init__(stream.read(), media_type="text/event-stream")
        self._left = left

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._left()


def _describe(plan: Planned) -> dict[str, Any]:
    """Return the reply to a page that requested an image."""
    if plan.problem is not None:
        return {
            "id": None, "state": "failed", "url": None, "error": str(plan.problem), "position": plan.problem.position
        }  # fmt: skip
    if plan.job is not None:
        return {"id": plan.id, "state": "queued", "url": None}
    return {"id": plan.id, "state": "done", **({"url": image_url(plan.id)} | dict(plan.result))}


def _optional_objective(body: dict[str, Any]) -> Any:
    """Read an objective; `null` or no text stands for the default."""
    text = body.get("objective")
    return None if text is None or text == "" else read_objective(read_text(body, "objective"))
