"""`session_of` is the session that a view would see: over any store, sealed or live, in any framework."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from driver import in_loop
from fastapi import FastAPI, Request
from litestar import Litestar
from litestar import Request as LitestarRequest
from litestar import get as litestar_get
from litestar.middleware import DefineMiddleware
from routes import SECRET, serve
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request as StarletteRequest
from starlette.responses import JSONResponse
from starlette.routing import Route

from fastersession import AttributeNotSerializable, FasterSessionMiddleware, MemoryStore, StoreError
from fastersession.stores.sqlite import SQLiteStore
from fastersession.testing import Browser, FakeClock, FaultyStore, session_of
from fastersession.testing.browser.sessions import middleware_of

Make = Callable[[Path], Any]
STORES: dict[str, Make] = {
    "memory": lambda folder: MemoryStore(),
    "bytes": lambda folder: FaultyStore(),
    "sqlite": lambda folder: SQLiteStore(folder / "sessions.db"),
}


@pytest.mark.parametrize("make", STORES.values(), ids=STORES)
@pytest.mark.parametrize("seal", [True, False])
@in_loop
async def test_what_a_test_writes_a_view_reads_and_back(make: Make, seal: bool, tmp_path: Path) -> None:
    """A new session gets its cookie into the jar; a change is merged; a view's own writes are there."""
    store = make(tmp_path)
    browser = Browser(serve(store=store, seal=seal, secure=True))
    async with session_of(browser) as session:
        assert session.is_new
        session["user"] = {"name": "ada"}
    assert (await browser.get("/")).json() == {"user": {"name": "ada"}}
    await browser.get("/set?a=1")
    async with session_of(browser) as session:
        assert dict(session) == {"user": {"name": "ada"}, "a": "1"}
        session["user"]["name"] = "eve"
        del session["a"]
    assert (await browser.get("/")).json() == {"user": {"name": "eve"}}
    await store.close()


@in_loop
async def test_the_verbs_work() -> None:
    """A regeneration replaces the cookie, a logout removes it; looking sets none."""
    store = MemoryStore()
    browser = Browser(serve(store=store))
    async with session_of(browser) as session:
        assert not session
    assert not browser.jar
    async with session_of(browser) as session:
        await session.establish()
    first = browser.jar["sid"].value
    async with session_of(browser) as session:
        session.regenerate_id()
    assert browser.jar["sid"].value != first
    async with session_of(browser) as session:
        session.invalidate()
    assert (len(store), dict(browser.jar)) == (0, {})


@in_loop
async def test_a_block_that_raises_saves_nothing_and_raises() -> None:
    """As a view that fails."""
    browser = Browser(serve())
    with pytest.raises(ZeroDivisionError):
        async with session_of(browser) as session:
            session["a"] = 1 / 0
    assert not browser.jar


@in_loop
async def test_requests_run_while_the_block_is_open() -> None:
    """The session stays open like a slow view's, beside other tabs: different attributes both survive."""
    browser = Browser(serve(store=FaultyStore()))
    async with session_of(browser) as session:
        session["a"] = "1"
    async with session_of(browser) as session:
        await browser.get("/set?b=2")
        session["a"] = "2"
    assert (await browser.get("/")).json() == {"a": "2", "b": "2"}


@in_loop
async def test_what_a_request_would_end_with_is_raised() -> None:
    """What no codec can keep, and a store that is down at the load or at the save."""
    store = FaultyStore()
    browser = Browser(serve(store=store))
    await browser.get("/set?a=1")
    with pytest.raises(AttributeNotSerializable, match="odd"):
        async with session_of(browser) as session:
            session.update(odd=object(), even=2)
    store.fail("load")
    with pytest.raises(StoreError, match="loaded"):
        async with session_of(browser):
            pass
    store.fail("update")
    with pytest.raises(StoreError, match="saved"):
        async with session_of(browser) as session:
            session["a"] = 1


async def show(request: StarletteRequest) -> JSONResponse:
    return JSONResponse(dict(request.session))


@litestar_get("/")
async def litestar_show(request: LitestarRequest) -> dict[str, Any]:
    return {**request.session}


def fastapi() -> Any:
    app = FastAPI()
    app.add_middleware(FasterSessionMiddleware, secret_key=SECRET)

    @app.get("/")
    async def read(request: Request) -> dict[str, Any]:
        return {**request.session}

    return app


def starlette() -> Any:
    ours = Middleware(FasterSessionMiddleware, secret_key=SECRET, exclude=["/static/*"])
    return Starlette(routes=[Route("/", show)], middleware=[ours])


def litestar() -> Any:
    ours = DefineMiddleware(FasterSessionMiddleware, secret_key=SECRET, store=MemoryStore())
    return Litestar([litestar_show], middleware=[ours], openapi_config=None, logging_config=None)


def closure() -> Any:
    app = starlette()

    async def outer(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)

    return outer


@pytest.mark.parametrize("make", [fastapi, starlette, litestar, closure])
@in_loop
async def test_the_middleware_is_found_in_any_framework(make: Callable[[], Any]) -> None:
    """However deep a framework keeps it, and before its first request."""
    browser = Browser(make())
    async with session_of(browser) as session:
        session["who"] = "ada"
    assert (await browser.get("/")).json() == {"who": "ada"}


def test_the_middleware_shows_where_its_session_is() -> None:
    """The scope key, the cookie's name, also where none was given, and its path."""
    app = FasterSessionMiddleware(Starlette(), SECRET)
    assert (app.scope_key, app.session_cookie, app.path) == ("session", "__Host-sid", "/")
    app = FasterSessionMiddleware(Starlette(), SECRET, path="/a", scope_key="b")
    assert (app.scope_key, app.session_cookie, app.path) == ("b", "sid", "/a")


@in_loop
async def test_excluded_paths_cookie_paths_and_several_sessions() -> None:
    """The cookie's own path is asked for, whatever is excluded; a second session is told by its scope key."""
    inner = serve(path="/app", exclude=["/app"], session_cookie="app")
    app = FasterSessionMiddleware(inner, SECRET, secure=False, session_cookie="b", scope_key="b", session_object="b")
    browser = Browser(app)
    for key in ("session", "b"):
        async with session_of(browser, scope_key=key) as session:
            session["key"] = key
        async with session_of(browser, scope_key=key) as session:
            assert dict(session) == {"key": key}
    assert {name: cookie.attributes["path"] for name, cookie in browser.jar.items()} == {"app": "/app", "b": "/"}


def test_an_application_without_the_middleware_is_told() -> None:
    """Nothing is guessed."""
    with pytest.raises(LookupError, match="scope_key 'session'"):
        middleware_of(Starlette())


@in_loop
async def test_a_clock_moves_a_session_to_its_end() -> None:
    """With the store's clock in the test's hand, an idle session ends when the test says so."""
    clock = FakeClock()
    browser = Browser(serve(store=MemoryStore(clock=clock), idle_timeout=60))
    async with session_of(browser) as session:
        session["a"] = 1
        assert session.created_at == clock.datetime
    clock.advance(59)
    async with session_of(browser) as session:
        assert session == {"a": 1}
    clock.advance(61)
    async with session_of(browser) as session:
        assert session.is_new
