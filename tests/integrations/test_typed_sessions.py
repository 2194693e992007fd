"""Each integration hands out the session of the middleware, with its type, on HTTP routes and WebSockets."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio.to_thread
import litestar
import litestar.testing
import pytest
from driver import Browser, in_loop, lifespan
from fastapi import FastAPI, WebSocket
from framework_contract import CONTRACT, SECRET
from litestar.di import NamedDependency, Provide
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from test_frameworks_litestar import ROUTES

from fastersession import ConfigError, FasterSessionMiddleware, MemoryStore, Session
from fastersession.integrations.fastapi import SessionDep
from fastersession.integrations.litestar import FasterSessionPlugin
from fastersession.integrations.litestar import SessionDep as LitestarDep
from fastersession.integrations.litestar import get_session as litestar_session
from fastersession.integrations.starlette import get_session
from fastersession.stores.sqlite import SQLiteStore
from fastersession.testing import FaultyStore, session_of

Make = Callable[..., Any]


def fastapi(**options: Any) -> Any:
    app = FastAPI()

    @app.get("/count")
    async def count(session: SessionDep) -> dict[str, Any]:
        session["count"] = session.get("count", 0) + 1
        return {**session, "id": session.id}

    @app.websocket("/ws")
    async def talk(socket: WebSocket, session: SessionDep) -> None:
        await socket.accept()
        session["heard"] = await socket.receive_text()
        await socket.send_text(session.id)

    if options.pop("bare", False):
        return app
    return FasterSessionMiddleware(app, **options)


def starlette(**options: Any) -> Any:
    async def count(request: Request) -> JSONResponse:
        session = get_session(request, "session")
        session["count"] = session.get("count", 0) + 1
        assert session is request.session
        return JSONResponse({**session, "id": session.id})

    async def talk(socket: Any) -> None:
        await socket.accept()
        get_session(socket)["heard"] = await socket.receive_text()
        await socket.send_text(get_session(socket).id)

    ours = [] if options.pop("bare", False) else [Middleware(FasterSessionMiddleware, **options)]
    return Starlette(routes=[Route("/count", count), WebSocketRoute("/ws", talk)], middleware=ours)


@litestar.get("/count")
async def count(session: LitestarDep, request: litestar.Request) -> dict[str, Any]:
    session["count"] = session.get("count", 0) + 1
    assert session is litestar_session(request)
    return {**session, "id": session.id}


@litestar.websocket("/ws")
async def talk(socket: litestar.WebSocket, session: LitestarDep) -> None:
    await socket.accept()
    session["heard"] = await socket.receive_text()
    await socket.send_text(session.id)


def plugged(**options: Any) -> Any:
    own = ("lifespan", "on_shutdown", "dependencies", "route_handlers")
    more = {"route_handlers": [count, talk]} | {key: options.pop(key) for key in own if key in options}
    return litestar.Litestar(
        **more,
        plugins=[FasterSessionPlugin(**options)],
        openapi_config=None,
        logging_config=None,
    )


APPS: list[Make] = [fastapi, starlette, plugged]


@pytest.mark.parametrize("make", APPS)
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@in_loop
async def test_the_session_is_the_middleware_s(make: Make, kind: str, tmp_path: Any) -> None:
    """What is written through it is kept, by an HTTP route and by a WebSocket, in one and the same session."""
    store = MemoryStore() if kind == "memory" else SQLiteStore(tmp_path / "sessions.db")
    app = make(secret_key=SECRET, secure=False, store=store)
    async with lifespan(app):
        browser = Browser(app)
        first, second = [(await browser.get("/count")).json() for _ in range(2)]
        assert (first["id"], second["count"]) == (second["id"], 2)
        async with browser.websocket("/ws") as socket:
            await socket.accepted()
            await socket.send("hello")
            assert await socket.receive() == first["id"]
        async with session_of(browser) as session:
            assert session == {"count": 2, "heard": "hello"}


@pytest.mark.parametrize("make", [fastapi, starlette])
@in_loop
async def test_without_the_middleware_the_error_says_what_to_do(make: Make) -> None:
    """No session, or somebody else's in its place: an error that names the place, the class and the remedy."""
    answer = await Browser(make(bare=True)).get("/count", catch=True)
    assert isinstance(answer.error, ConfigError)
    assert "scope['session']: put FasterSessionMiddleware around" in str(answer.error)
    answer = await Browser(SessionMiddleware(make(bare=True), "a key")).get("/count", catch=True)
    assert isinstance(answer.error, ConfigError)
    assert "starlette.middleware.sessions.Session" in str(answer.error)
    assert "scope_key" in str(answer.error)


@in_loop
async def test_no_query_parameter_chooses_the_session() -> None:
    """A dependency has no parameter that a client could give; nor has the documentation one."""
    app = fastapi(bare=True)
    parameters = [route.get("parameters", []) for route in app.openapi()["paths"]["/count"].values()]
    assert parameters == [[]]
    browser = Browser(FasterSessionMiddleware(app, SECRET, secure=False))
    assert (await browser.get("/count?scope_key=other&connection=1&session=2")).json()["count"] == 1


@pytest.mark.parametrize("make", APPS)
@in_loop
async def test_no_worker_thread_is_asked_for_the_session(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frameworks run a dependency that is a plain function in a thread, which costs ten times the session."""

    async def refuse(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("a worker thread is asked for")

    monkeypatch.setattr(anyio.to_thread, "run_sync", refuse)
    assert (await Browser(make(secret_key=SECRET, secure=False)).get("/count")).json()["count"] == 1


def test_no_integration_is_loaded_by_another() -> None:
    """Each imports its own framework only: whoever uses one needs no other."""
    names = {"fastapi", "starlette", "litestar", "quart"}
    for name, needs in {
        "fastapi": {"fastapi", "starlette"},
        "starlette": {"starlette"},
        "litestar": {"litestar"},
    }.items():
        blocked = names - needs
        code = (
            f"import sys\nfor name in {blocked!r}:\n    sys.modules[name] = None\n"
            f"import fastersession.integrations.{name}"
        )
        asyncio.run(_run(code))


async def _run(code: str) -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stderr=asyncio.subprocess.PIPE)
    _, text = await process.communicate()
    assert process.returncode == 0, text.decode()


# --- Litestar's plugin ---


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
@in_loop
async def test_the_contract_by_the_plugin(check: Any) -> None:
    """Litestar with the plugin: streams, breaks, failures and logouts leave the session as promised."""
    await check(plugged(route_handlers=ROUTES, secret_key=SECRET, secure=False))


@in_loop
async def test_the_plugin_makes_one_middleware_for_all_routes() -> None:
    """Without `store=`, too: what one route writes another reads."""

    @litestar.get("/seen")
    async def seen(session: LitestarDep) -> int:
        return int(session["count"])

    browser = Browser(plugged(route_handlers=[count, seen], secret_key=SECRET, secure=False))
    await browser.get("/count")
    assert (await browser.get("/seen")).json() == 1


@in_loop
async def test_the_plugin_stands_outside_of_the_application_s_middlewares() -> None:
    """A middleware of the application reads the session, as one for authentication must."""
    seen: list[Any] = []

    def reading(app: Any) -> Any:
        async def read(scope: Any, receive: Any, send: Any) -> None:
            seen.append(type(scope["session"]))
            await app(scope, receive, send)

        return read

    app = litestar.Litestar(
        [count],
        middleware=[reading],
        plugins=[FasterSessionPlugin(SECRET, secure=False)],
        openapi_config=None,
        logging_config=None,
    )
    await Browser(app).get("/count")
    assert seen == [Session]


@in_loop
async def test_a_dependency_of_the_application_s_own_keeps_its_name() -> None:
    """An application that has a `session` already (of its database, say) keeps it."""

    async def database() -> str:
        return "of the database"

    @litestar.get("/")
    async def show(session: NamedDependency[str], request: litestar.Request) -> list[Any]:
        return [session, litestar_session(request).is_new]

    own = {"session": Provide(database)}
    app = plugged(route_handlers=[show], dependencies=own, secret_key=SECRET, secure=False)
    assert (await Browser(app).get("/")).json() == ["of the database", True]


@in_loop
async def test_the_plugin_takes_another_scope_key() -> None:
    """A second session beside the first: the dependency is that of the plugin's key."""
    app = plugged(secret_key=SECRET, secure=False, scope_key="chat")

    @litestar.get("/")
    async def show(session: LitestarDep, request: litestar.Request) -> bool:
        return session is litestar_session(request, "chat")

    app.register(show)
    assert (await Browser(app).get("/")).json() is True


@in_loop
async def test_the_store_is_open_before_the_application_s_lifespan_and_drained_before_its_end() -> None:
    """Opened first, drained before anything of the application stops, closed after its lifespan has ended."""
    events: list[str] = []

    class Watched(FaultyStore):
        async def open(self) -> None:
            events.append("open")

        async def close(self) -> None:
            events.append("close")

        async def update(self, *args: Any, **kwargs: Any) -> Any:
            events.append("saved")
            return await super().update(*args, **kwargs)

    @asynccontextmanager
    async def own(app: Any) -> AsyncIterator[None]:
        events.append("begin")
        yield
        events.append("end")

    @litestar.get("/stream")
    async def stream(session: LitestarDep) -> litestar.response.Stream:
        session["answer"] = ""

        async def answer() -> AsyncIterator[str]:
            yield "first"
            session["answer"] = "kept by the drain"
            yield "second"
            await asyncio.Event().wait()

        return litestar.response.Stream(answer())

    async def at_shutdown() -> None:
        events.append("hook")

    options: dict[str, Any] = {"route_handlers": [count, stream], "lifespan": [own], "on_shutdown": [at_shutdown]}
    app = plugged(secret_key=SECRET, secure=False, store=Watched(MemoryStore()), **options)
    browser = Browser(app)
    async with lifespan(app):
        await browser.get("/count")
        del events[2:]
        held = browser.open("/stream")
        await held.__aenter__()
        assert [await held.chunk(), await held.chunk()] == [b"first", b"second"]
    del events[events.index("saved") : -4]
    assert events == ["open", "begin", "saved", "end", "close", "hook"]
    held.task.cancel()
    await asyncio.wait([held.task])


@in_loop
async def test_a_store_that_does_not_open_ends_the_startup() -> None:
    """The server is told, in Litestar's words, and the reason is the store's."""

    class Broken(MemoryStore):
        async def open(self) -> None:
            raise OSError("no such place")

    with pytest.raises(AssertionError, match="no such place"):
        async with lifespan(plugged(secret_key=SECRET, store=Broken())):
            pass


@in_loop
async def test_what_the_application_s_lifespan_raises_is_raised_as_it_is() -> None:
    """The plugin puts no group around an error of the application's own startup; its store is closed."""

    @asynccontextmanager
    async def broken(app: Any) -> AsyncIterator[None]:
        raise LookupError("of the application")
        yield

    shapes = []
    for app in (litestar.Litestar([], lifespan=[broken]), plugged(secret_key=SECRET, lifespan=[broken])):
        with pytest.raises(BaseException) as raised:
            async with app.lifespan():
                pass
        shapes.append(repr(raised.value))
    assert shapes[0] == shapes[1]
    assert "of the application" in shapes[0]


def test_a_wrong_argument_is_an_error_when_the_plugin_is_made() -> None:
    """Not at the first request."""
    with pytest.raises(ConfigError, match="same_site"):
        FasterSessionPlugin(SECRET, same_site="sideways")


def test_the_plugin_under_litestar_s_own_client() -> None:
    """Its TestClient runs the lifespan in a thread of its own."""
    with litestar.testing.TestClient(plugged(secret_key=SECRET), base_url="https://testserver.local") as client:
        assert [client.get("/count").json()["count"] for _ in range(2)] == [1, 2]
