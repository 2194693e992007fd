"""Usual requests of every framework: nobody has the session when they end, so nothing is compared once more.

Django's are in ``test_frameworks_django``, whose settings there are once in a process.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any

import litestar
import pytest
from driver import Browser, in_loop
from fastapi import BackgroundTasks, Depends, FastAPI
from framework_contract import SECRET
from litestar.response import Stream
from quart import Quart, session, stream_with_context
from routes import events
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from stores import SuspendingStore

from fastersession import FasterSessionMiddleware
from fastersession.engine.running import Running
from fastersession.integrations.fastapi import SessionDep
from fastersession.integrations.litestar import FasterSessionPlugin
from fastersession.integrations.quart import FasterSessionInterface


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Return the sessions that were watched from their end on. Without a collector, which could only hide one."""
    seen: list[Any] = []
    monkeypatch.setattr(Running, "keep_watch", lambda self, session: seen.append(session))
    gc.collect()
    gc.disable()
    yield seen
    gc.enable()


def use(own: Any) -> Any:
    """Take a value of a session, and change it."""
    own.setdefault("list", []).append(1)
    return own


async def tokens(own: Any) -> AsyncIterator[str]:
    for _ in range(3):
        use(own)
        yield "x"


# --- Starlette ---


async def plain(request: Request) -> Response:
    use(request.session)
    return PlainTextResponse("plain")


async def stream(request: Request) -> Response:
    return StreamingResponse(tokens(use(request.session)))


async def background(request: Request) -> Response:
    own = use(request.session)

    async def after() -> None:
        use(own)

    return PlainTextResponse("background", background=BackgroundTask(after))


class Looking(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: Any) -> Response:
        use(request.session)
        response: Response = await call_next(request)
        use(request.session)
        return response


def starlette(*middleware: Any) -> Any:
    routes = [Route("/plain", plain), Route("/stream", stream), Route("/background", background)]
    return Starlette(routes=[*routes, Mount("/below", routes=routes)], middleware=[*map(Middleware, middleware)])


# --- FastAPI ---


async def given(request: Request) -> AsyncIterator[Any]:
    yield use(request.session)


def fastapi() -> Any:
    app = FastAPI()

    @app.get("/plain")
    async def plain(session: SessionDep) -> str:
        return str(len(use(session)))

    @app.get("/dependency")
    async def dependency(own: Annotated[Any, Depends(given)]) -> str:
        return str(len(use(own)))

    @app.get("/stream")
    async def stream(session: SessionDep) -> StreamingResponse:
        return StreamingResponse(tokens(use(session)))

    @app.get("/background")
    async def background(session: SessionDep, tasks: BackgroundTasks) -> str:
        async def after() -> None:
            use(session)

        tasks.add_task(after)
        return "background"

    return app


# --- Litestar and Quart ---


@litestar.get("/plain")
async def litestar_plain(request: litestar.Request) -> str:
    return str(len(use(request.session)))


@litestar.get("/stream")
async def litestar_stream(request: litestar.Request) -> Stream:
    return Stream(tokens(use(request.session)))


def quart() -> Any:
    app = Quart(__name__)

    @app.get("/plain")
    async def plain() -> str:
        return str(len(use(session)))

    @app.get("/stream")
    async def stream() -> Any:
        @stream_with_context
        async def body() -> AsyncIterator[bytes]:
            async for token in tokens(session):
                yield token.encode()

        return body()

    app.session_interface = FasterSessionInterface()
    return app


OPTIONS: dict[str, Any] = {"secret_key": SECRET, "secure": False}


def around(app: Any) -> Any:
    return FasterSessionMiddleware(app, store=SuspendingStore(), **OPTIONS)


def by_plugin() -> Any:
    plugin = FasterSessionPlugin(store=SuspendingStore(), **OPTIONS)
    return litestar.Litestar([litestar_plain, litestar_stream], plugins=[plugin])


def twice(app: Any) -> Any:
    """Return it with a second, independent session."""
    inner = FasterSessionMiddleware(app, store=SuspendingStore(), session_cookie="other", scope_key="other", **OPTIONS)
    return around(inner)


APPS: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "Starlette": (
        lambda: around(starlette()), ["/plain", "/stream", "/background", "/below/plain", "/below/stream"],
    ),
    "BaseHTTPMiddleware": (lambda: around(starlette(Looking)), ["/plain", "/stream", "/background"]),
    "FastAPI": (lambda: around(fastapi()), ["/plain", "/dependency", "/stream", "/background"]),
    "Litestar": (lambda: around(litestar.Litestar([litestar_plain, litestar_stream])), ["/plain", "/stream"]),
    "Litestar's plugin": (by_plugin, ["/plain", "/stream"]),
    "Quart": (lambda: around(quart()), ["/plain", "/stream"]),
    "two sessions": (lambda: twice(starlette()), ["/plain", *(["/stream"] if sys.version_info < (3, 12) else [])]),
}  # fmt: skip


@pytest.mark.parametrize(("make", "paths"), APPS.values(), ids=list(APPS))
@in_loop
async def test_nobody_has_the_session_when_a_usual_request_ends(
    make: Callable[[], Any], paths: list[str], watched: list[Any], caplog: Any
) -> None:
    """Endpoints, dependencies, streams, background tasks: each lets go of the session before the call ends."""
    browser = Browser(make())
    for path in [*paths, *paths]:  # a new session, and one that was loaded
        assert (await browser.get(path)).status == 200
        assert watched == [], path
    assert events(caplog, "session.unsaved") == []


@in_loop
async def test_a_scope_that_waits_for_the_collector_is_no_late_write(caplog: Any) -> None:
    """From Python 3.12 on, frames of anyio's task group keep the scope that a second session has copied.

    So the session is compared once more when they are collected, and is found as it was saved.
    """
    browser = Browser(twice(starlette()))
    for _ in range(2):
        assert (await browser.get("/stream")).status == 200
        gc.collect()
    assert events(caplog, "session.unsaved") == []
