"""What error pages and middlewares further out find of the session, in the scope that ours was given."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import types
from collections import UserDict
from collections.abc import Callable
from typing import Any

import pytest
from apps import SpyStore, ask, cookie, nothing, page, site, token_of, wrap
from driver import Browser, in_loop
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from fastersession import FasterSessionMiddleware, Session, StoreError

SECRET = "a secret of the tests of the outer scope, and of nothing else"


async def swallow(message: Any) -> None:
    """Send to nobody."""


def scope_of(path: str = "/", token: str | None = None, **more: Any) -> dict[str, Any]:
    """Make the scope that a server makes."""
    headers = [] if token is None else cookie(token)
    base = {"type": "http", "path": path, "scheme": "http", "query_string": b"", "headers": headers}
    return {**base, **more}


# --- frameworks ---


async def crash(request: Request) -> Response:
    request.session["seen"] = "by the handler"
    raise ZeroDivisionError


async def write(request: Request) -> Response:
    request.session["name"] = "alice"
    return PlainTextResponse("written")


async def stream(request: Request) -> Response:
    async def tokens() -> Any:
        yield "one "
        request.session["answer"] = "two"
        yield "two"

    return StreamingResponse(tokens(), media_type="text/plain")


ROUTES = [Route("/crash", crash), Route("/write", write), Route("/stream", stream)]
OURS = Middleware(FasterSessionMiddleware, secret_key=SECRET, secure=False)


async def apology(request: Request, error: Exception) -> Response:
    return JSONResponse({"sorry": request.session.get("name"), "id": request.session.id}, status_code=500)


def of_starlette(**options: Any) -> Any:
    return Starlette(routes=ROUTES, middleware=[OURS], **options)


def of_fastapi() -> Any:
    app = FastAPI(routes=ROUTES)
    app.add_middleware(FasterSessionMiddleware, secret_key=SECRET, secure=False)
    app.exception_handler(Exception)(apology)
    return app


@pytest.mark.parametrize(
    "make",
    [
        lambda: of_starlette(exception_handlers={500: apology}),
        lambda: of_starlette(exception_handlers={Exception: apology}),
        of_fastapi,
    ],
    ids=["starlette-500", "starlette-exception", "fastapi"],
)
@in_loop
async def test_a_handler_of_errors_reads_the_session(make: Callable[[], Any]) -> None:
    """The handler of the 500, outside of every middleware, greets who is logged in, and names the session."""
    browser = Browser(make())
    await browser.get("/write")
    answer = await browser.get("/crash", catch=True)
    assert isinstance(answer.error, ZeroDivisionError)
    assert answer.status == 500
    assert answer.json()["sorry"] == "alice"
    assert len(answer.json()["id"]) == 32


class Audit:
    """A middleware further out that notes who it was, however the request ends."""

    def __init__(self, app: Any, names: list[Any]) -> None:
        self.app, self.names = app, names

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await self.app(scope, receive, send)
        finally:
            self.names.append(Request(scope).session.get("name"))


@in_loop
async def test_who_reads_the_session_outside_hides_no_error() -> None:
    """Starlette's debug page tells of the error that happened, not of a session that could not be read."""
    names: list[Any] = []
    browser = Browser(Starlette(debug=True, routes=ROUTES, middleware=[Middleware(Audit, names=names), OURS]))
    await browser.get("/write")
    answer = await browser.get("/crash", headers=[(b"accept", b"text/plain")], catch=True)
    assert (answer.status, names) == (500, ["alice", "alice"])
    assert "ZeroDivisionError" in answer.text
    assert "AssertionError" not in answer.text


@pytest.mark.parametrize("make", [of_starlette, of_fastapi])
@in_loop
async def test_a_middleware_further_out_reads_the_session_after_the_answer(make: Callable[[], Any]) -> None:
    """`@app.middleware("http")`, added after ours, has the session of its request when the response is there."""
    app, names = make(), []

    async def outside(request: Request, call_next: Any) -> Response:
        assert "session" not in request.scope
        response = await call_next(request)
        names.append((request.session.get("name"), request.session.is_new))
        return response

    app.add_middleware(BaseHTTPMiddleware, dispatch=outside)
    browser = Browser(app)
    for path in ("/write", "/stream", "/nowhere"):
        await browser.get(path)
    assert names == [("alice", True), ("alice", False), ("alice", False)]
    assert (await browser.get("/stream")).text == "one two"


# --- what it is, and for how long ---


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("kind", ["http", "websocket"])
@in_loop
async def test_it_is_the_session_and_nothing_else(known: bool, kind: str) -> None:
    """The same object as inside, during and after the request; no other key, nor any object, of ours leaks."""
    store, seen = SpyStore(), []
    token = await token_of(wrap(site, store=store)) if known else None
    scope = scope_of(token=token, type=kind, state={"database": 1})
    names = set(scope)

    async def app(inner: Any, receive: Any, send: Any) -> None:
        seen.append(inner["session"])
        assert scope["session"] is inner["session"]
        await page()(inner, receive, send)

    await wrap(app, store=store)(scope, nothing, swallow)
    assert set(scope) == names | {"session"}
    assert scope["state"] == {"database": 1}
    assert scope["session"] is seen[0]
    assert isinstance(scope["session"], Session)
    assert dict(scope["session"]) == ({"name": "alice"} if known else {})


@in_loop
async def test_it_stands_under_the_scope_key() -> None:
    """Another `scope_key`, another place; of two middlewares the outer one is seen outside."""
    scope = scope_of()
    inner = wrap(page())
    await wrap(inner, scope_key="admin", session_cookie="admin")(scope, nothing, swallow)
    assert {"admin", "session"} & set(scope) == {"admin"}


@pytest.mark.parametrize("theirs", [{}, {"a": 1}, None, object(), "text", UserDict()], ids=repr)
@in_loop
async def test_what_stands_there_stays(theirs: Any) -> None:
    """The session of another middleware, further out, is left alone there; inside stands ours."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["session"])
        await page()(scope, receive, send)

    scope = scope_of(session=theirs)
    await wrap(app)(scope, nothing, swallow)
    assert scope["session"] is theirs
    assert isinstance(seen[0], Session)


@in_loop
async def test_i1_a_scope_used_twice_never_shows_another_requests_session() -> None:
    """I1: a server, or a middleware that tries again, gives one dict to two requests: each has its own session."""
    store = SpyStore()
    app = wrap(site, store=store, exclude=["/health"])
    scope = scope_of("/read", await token_of(app))
    await app(scope, nothing, swallow)
    alice = scope["session"]
    assert dict(alice) == {"name": "alice"}
    scope["headers"] = []
    await app(scope, nothing, swallow)
    assert scope["session"] is not alice
    assert dict(scope["session"]) == {}
    scope["type"] = "websocket"
    before = scope["session"]
    await app(scope, nothing, swallow)
    assert scope["session"] is not before


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize("how", ["excluded", "store down", "store down for all", "headers of another kind"])
@in_loop
async def test_i1_a_request_without_a_session_shows_none_of_a_request_before(how: str, kind: str) -> None:
    """I1: where a call makes no session, what an earlier one has left in the same scope goes, outside and inside."""
    store, seen = SpyStore(), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope.get("session"))
        await page()(scope, receive, send)

    ours = wrap(app, store=store, exclude=[] if how == "store down for all" else ["/health"])
    token = await token_of(wrap(site, store=store))
    scope = scope_of("/read", token)
    await ours(scope, nothing, swallow)
    alice = scope["session"]
    scope["type"] = kind
    if how == "excluded":
        scope["path"] = "/health"
    elif how.startswith("store down"):
        store.broken.add("load")
    else:
        scope["headers"] = iter([])
    await ours(scope, nothing, swallow)
    if how == "headers of another kind":
        assert isinstance(scope["session"], Session)
        assert scope["session"] is not alice
    else:
        assert "session" not in scope
        assert seen[1:] in ([None], [])


@in_loop
async def test_two_requests_at_once_in_one_scope_have_a_session_each() -> None:
    """The first keeps the place while it runs; the second has its own inside, and its writes go nowhere else."""
    scope, inside, outside = scope_of(), asyncio.Event(), asyncio.Event()
    seen: list[Any] = []

    async def app(inner: Any, receive: Any, send: Any) -> None:
        seen.append(inner["session"])
        if len(seen) == 1:
            inside.set()
            await outside.wait()
        assert inner["session"] is seen[0 if outside.is_set() else 1]
        await page()(inner, receive, send)

    ours = wrap(app)
    first = asyncio.ensure_future(ours(scope, nothing, swallow))
    await inside.wait()
    await ours(scope, nothing, swallow)
    assert scope["session"] is seen[0] is not seen[1]
    outside.set()
    await first
    assert scope["session"] is seen[0]


class Scope(dict[str, Any]):
    """A dict of a server's own."""


@pytest.mark.parametrize("headers", [list, tuple, iter])
@in_loop
async def test_a_scope_of_any_kind_serves(headers: Any) -> None:
    """A dict of any class gets the session; any other mapping, which may be read-only, is left as it was."""
    store = SpyStore()
    token = await token_of(wrap(site, store=store))
    for make, written in ((dict, True), (Scope, True), (types.MappingProxyType, False), (UserDict, False)):
        names: list[Any] = []
        app = wrap(page(lambda session, to=names: to.append(session["name"])), store=store)
        scope = make(scope_of("/read", token))
        given = make({**scope, "headers": headers(scope["headers"])})
        await app(given, nothing, swallow)
        assert names == ["alice"]
        assert ("session" in given) == written


@in_loop
async def test_a_write_after_the_end_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """What an error page writes once the answer has ended is lost, and said by name; `save()` keeps it."""
    store = SpyStore()
    app = wrap(site, store=store)
    token = await token_of(app)
    scope = scope_of("/read", token)
    await app(scope, nothing, swallow)
    scope["session"]["visited"] = "the error page"
    del scope["session"]
    gc.collect()
    (warned,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert warned.event == "session.unsaved"  # type: ignore[attr-defined]
    assert "'visited'" in warned.getMessage()
    await app(scope, nothing, swallow)
    assert dict(scope["session"]) == {"name": "alice"}
    scope["session"]["visited"] = "once"
    await scope["session"].save()
    assert (await ask(app, headers=cookie(token))).json() == {"name": "alice", "visited": "once"}


@pytest.mark.parametrize("path", ["/read", "/crash"])
@in_loop
async def test_the_scope_of_a_server_is_in_no_cycle(path: str) -> None:
    """What the session in it refers to leads back to no scope: all goes without the collector."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/crash":
            raise ZeroDivisionError
        await site(scope, receive, send)

    class Gone:
        def __del__(self) -> None:
            gone.append(path)

    gone: list[str] = []
    ours = wrap(app)
    gc.disable()
    try:
        scope: Any = scope_of(path, extensions={"mark": Gone()})
        with contextlib.suppress(ZeroDivisionError):
            await ours(scope, nothing, swallow)
        del scope
        assert gone == [path]
    finally:
        gc.enable()


@in_loop
async def test_a_late_save_of_an_error_page_tells_of_the_store(caplog: pytest.LogCaptureFixture) -> None:
    """`await session.save()` outside, after the end, raises what it raises inside."""
    store = SpyStore()
    app = wrap(site, store=store)
    scope = scope_of("/read", await token_of(app))
    await app(scope, nothing, swallow)
    store.broken.add("update")
    scope["session"]["a"] = 1
    with pytest.raises(StoreError):
        await scope["session"].save()
    store.broken.clear()
    await scope["session"].save()
