"""`exclude` where an application is mounted: behind a server's root path, in routers, in frameworks."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import httpx
import pytest
from apps import SpyStore, ask, cookie, page, site, token_of, wrap
from driver import Browser, in_loop
from fastapi import FastAPI
from paths import SUPPORT, TESTS
from serving import free_port, launch
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from fastersession import FasterSessionMiddleware

SECRET = "a secret of the tests of exclude, and of nothing else"


@pytest.mark.parametrize(
    ("path", "root_path", "excluded"),
    [
        ("/health", "", True), ("/health", None, True), ("/api/health", "/api", True),
        ("/api/v1/health", "/api/v1", True),
        ("/api/health", "", False), ("/api/health", "/ap", False), ("/apihealth", "/api", False),
        ("/health", "/api", True),  # a server or router that has taken it off
        ("/apiary/health", "/api", False), ("/api/apiary/health", "/api", False), ("/API/health", "/api", False),
        ("/api//health", "/api", False), ("/api/Health", "/api", False), ("/api/health/", "/api", False),
        ("/api/health", "/api/", True), ("/api//health", "/api/", True),
        ("//health", "/", True), ("/health", "/", True),
        ("/api/static/a.css", "/api", True), ("/api/static/", "/api", True), ("/api/static", "/api", False),
        ("/static/a.css", "/static", False), ("/static/static/a.css", "/static", True),
        ("/api", "/api", True), ("/api/", "/api", True), ("/", "", True), ("", "", False), ("/", "/", True),
        ("/api/api/health", "/api", False), ("/ü/health", "/ü", True), ("/health/health", "/health", True),
        ("/health", "/health", True),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["http", "websocket"])
@in_loop
async def test_the_root_path_is_taken_off_component_by_component(
    path: str, root_path: str | None, excluded: bool, kind: str
) -> None:
    """`/api` is no beginning of `/apiary`; what does not begin with it is taken as it is; the rest is the path."""
    store, seen = SpyStore(), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append("session" in scope)
        await page()(scope, receive, send)

    token = await token_of(wrap(site, store=store))
    store.calls.clear()
    ours = wrap(app, store=store, exclude=["/health", "/static/*", "/"])
    answer = await ask(ours, "/placeholder", cookie(token), path=path, root_path=root_path, type=kind)
    assert seen == [not excluded]
    assert store.calls == ([] if excluded else ["load"])
    assert (answer.cookies, answer.all("vary")) == ([], [])


@in_loop
async def test_a_scope_without_a_root_path_is_taken_as_it_is() -> None:
    """The key is optional (ASGI, HTTP connection scope)."""
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append("session" in scope)

    async def send(message: Any) -> None:
        pass

    for path in ("/health", "/healthy"):
        await wrap(app, exclude=["/health"])({"type": "http", "path": path, "headers": []}, None, send)
    assert seen == [False, True]


async def told(request: Request) -> Response:
    return JSONResponse("session" in request.scope)


ROUTES = [Route("/health", told), Route("/chat", told), Route("/static/{name}", told)]
OURS = Middleware(FasterSessionMiddleware, secret_key=SECRET, secure=False, exclude=["/health", "/static/*"])
EXPECTED = {"/health": False, "/chat": True, "/static/a.css": False}


def inside() -> Starlette:
    """An application that has the middleware itself, and knows nothing of where it stands."""
    return Starlette(routes=ROUTES, middleware=[OURS])


def in_fastapi(app: Any) -> FastAPI:
    outer = FastAPI()
    outer.mount("/api", app)
    return outer


def fastapi_inside() -> FastAPI:
    app = FastAPI(routes=ROUTES)
    app.add_middleware(FasterSessionMiddleware, secret_key=SECRET, secure=False, exclude=["/health", "/static/*"])
    return app


MOUNTED = {
    "not mounted": ("", inside),
    "starlette mount": ("/api", lambda: Starlette(routes=[Mount("/api", inside())])),
    "mount in mount": ("/a/b", lambda: Starlette(routes=[Mount("/a", Starlette(routes=[Mount("/b", inside())]))])),
    "middleware of a mount": ("/api", lambda: Starlette(routes=[Mount("/api", routes=ROUTES, middleware=[OURS])])),
    "fastapi mount": ("/api", lambda: in_fastapi(fastapi_inside())),
    "starlette in fastapi": ("/api", lambda: in_fastapi(inside())),
}


@pytest.mark.parametrize(("mount", "make"), MOUNTED.values(), ids=MOUNTED)
@in_loop
async def test_a_mounted_application_excludes_its_own_paths(mount: str, make: Any) -> None:
    """The same arguments work wherever the application is mounted."""
    browser = Browser(make())
    assert {path: (await browser.get(mount + path)).json() for path in EXPECTED} == EXPECTED


@pytest.mark.parametrize("before", ["", "/api"])
@in_loop
async def test_behind_the_root_path_that_fastapi_is_told(before: str) -> None:
    """`FastAPI(root_path=…)` is for proxies that take it off and for those that do not: both are understood."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer versions want the server to be told instead
        app = FastAPI(routes=ROUTES, root_path="/api")
    app.add_middleware(FasterSessionMiddleware, secret_key=SECRET, secure=False, exclude=["/health", "/static/*"])
    browser = Browser(app)
    assert {path: (await browser.get(before + path)).json() for path in EXPECTED} == EXPECTED


SERVED = """
from test_exclude import inside
app = inside()
"""
SERVERS = {
    "uvicorn": ("uvicorn served:app --app-dir {folder} --host 127.0.0.1 --port {port} --root-path /api", ("", "/api")),
    "uvicorn-slash": ("uvicorn served:app --app-dir {folder} --host 127.0.0.1 --port {port} --root-path /api/", ("",)),
    "hypercorn": ("hypercorn served:app --bind 127.0.0.1:{port} --root-path /api", ("/api",)),
}


@pytest.mark.parametrize(("command", "asked"), SERVERS.values(), ids=SERVERS)
def test_behind_a_servers_root_path(command: str, asked: tuple[str, ...], tmp_path: Path) -> None:
    """uvicorn puts the root path before the path that came; hypercorn takes the path as the proxy sends it."""
    (tmp_path / "served.py").write_text(SERVED)
    port = free_port()
    line = [sys.executable, "-m", *command.format(folder=tmp_path, port=port).split()]
    path = ":".join(map(str, [tmp_path, TESTS / "middleware", SUPPORT]))
    with launch(line, port, {"PYTHONPATH": path}, ready=asked[0] + "/health") as server, server.client() as client:
        before = asked[0]
        answers = {path: client.get(before + path) for path in EXPECTED}
        assert {path: answer.json() for path, answer in answers.items() if answer.status_code == 200} == EXPECTED
        assert isinstance(client, httpx.Client)
