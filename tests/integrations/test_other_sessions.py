"""Another session middleware inside ours: the real packages, and whatever else stands in the session's place."""

from __future__ import annotations

import types
from collections import OrderedDict, UserDict, defaultdict
from typing import Any

import pytest
from apps import SpyStore, ask, cookie, page, site, token_of, wrap
from driver import Browser, in_loop
from litestar import Litestar, Request, get
from litestar.middleware.session.client_side import CookieBackendConfig
from litestar.middleware.session.server_side import ServerSideSessionConfig
from litestar.stores.memory import MemoryStore as LitestarStore
from starlette.middleware.sessions import Session as StarletteSession
from starlette.middleware.sessions import SessionMiddleware as StarletteSessions
from starlette.types import ASGIApp
from starsessions import InMemoryStore, SessionAutoloadMiddleware
from starsessions import SessionMiddleware as StarsessionsMiddleware


def events(caplog: pytest.LogCaptureFixture) -> list[Any]:
    return [record.event for record in caplog.records if hasattr(record, "event")]


async def inner(scope: Any, receive: Any, send: Any) -> None:
    """/write changes what stands in the session's place, /read reads it, any other path leaves it alone."""
    body = b""
    if scope["path"] == "/write":
        scope["session"]["theirs"] = "written"
    if scope["path"] == "/read":
        body = repr(dict(scope["session"])).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def starlette(app: ASGIApp) -> Any:
    return StarletteSessions(app, "the key of another session middleware", session_cookie="theirs")


def starsessions(app: ASGIApp) -> Any:
    return StarsessionsMiddleware(app, InMemoryStore(), cookie_name="theirs", cookie_https_only=False)


def autoloaded(app: ASGIApp) -> Any:
    return starsessions(SessionAutoloadMiddleware(app))


class Older:
    """As Starlette's was before 1.0: a plain dict, empty for who has no cookie."""

    def __init__(self, app: ASGIApp, content: dict[str, Any]) -> None:
        self.app, self.content = app, content

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        scope["session"] = dict(self.content)
        await self.app(scope, receive, send)


@pytest.mark.parametrize("path", ["/plain", "/read", "/write"])
@pytest.mark.parametrize(
    "theirs",
    [starlette, starsessions, autoloaded, lambda app: Older(app, {}), lambda app: Older(app, {"their": "own"})],
    ids=["starlette", "starsessions", "starsessions-loaded", "older-empty", "older-full"],
)
@in_loop
async def test_another_session_middleware_inside_is_told_once(
    theirs: Any, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One WARNING for the middleware's life, from the first request on, whatever the application does with it."""
    if theirs is starsessions and path != "/plain":
        return  # what was not loaded can only be left alone
    browser = Browser(wrap(theirs(inner)))
    for _ in range(3):
        assert (await browser.get(path)).status == 200
        assert events(caplog) == ["session.replaced"]
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "scope_key" in record.getMessage()


@pytest.mark.parametrize("theirs", [starlette, starsessions])
@in_loop
async def test_it_is_told_of_a_stream_that_breaks_and_of_one_that_never_starts(
    theirs: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """However the request ends; and an error of the application comes out as it is."""

    async def breaking(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/late":
            await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ZeroDivisionError

    for path in ("/late", "/never"):
        caplog.clear()
        answer = await Browser(wrap(theirs(breaking))).get(path, catch=True)
        assert isinstance(answer.error, ZeroDivisionError)
        assert events(caplog) == ["session.replaced"]


@pytest.mark.parametrize("theirs", [starlette, starsessions, autoloaded, lambda app: Older(app, {})])
@in_loop
async def test_our_session_stays_as_it_was(theirs: Any) -> None:
    """What was in ours is there when theirs is taken away, and no cookie of ours was set or cleared."""
    store = SpyStore()
    token = await token_of(wrap(site, store=store))
    answer = await ask(wrap(theirs(inner), store=store), "/plain", cookie(token))
    assert [c for c in answer.cookies if c.name == "sid"] == []
    assert (await ask(wrap(site, store=store), headers=cookie(token))).json() == {"name": "alice"}


@pytest.mark.parametrize("theirs", [starlette, starsessions, autoloaded])
@in_loop
async def test_with_a_scope_key_each_nobody_is_told(theirs: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The remedy that the warning names: two places, two sessions, silence."""
    browser = Browser(wrap(theirs(inner), scope_key="chat"))
    for path in ("/plain", "/plain"):
        assert (await browser.get(path)).status == 200
    assert events(caplog) == []


# --- Litestar ---


@get("/set")
async def setting(request: Request[Any, Any, Any]) -> dict[str, Any]:
    request.set_session({"a": 1})
    return {}


@get("/empty")
async def emptying(request: Request[Any, Any, Any]) -> dict[str, Any]:
    request.set_session({})
    return {}


@get("/clear")
async def clearing(request: Request[Any, Any, Any]) -> dict[str, Any]:
    request.clear_session()
    return {}


@get("/read")
async def reading(request: Request[Any, Any, Any]) -> dict[str, Any]:
    return dict(request.session)


HANDLERS: list[Any] = [setting, emptying, clearing, reading]


@in_loop
async def test_the_verbs_of_litestar_are_no_other_middleware(caplog: pytest.LogCaptureFixture) -> None:
    """set_session and clear_session do what they say, and nobody is warned."""
    browser = Browser(wrap(Litestar(HANDLERS, logging_config=None)))
    for path, content in (("/set", {"a": 1}), ("/empty", {}), ("/set", {"a": 1}), ("/clear", {})):
        await browser.get(path)
        assert (await browser.get("/read")).json() == content
    assert events(caplog) == []


@pytest.mark.parametrize(
    "config",
    [
        lambda: ServerSideSessionConfig(key="theirs", store="theirs"),
        lambda: CookieBackendConfig(secret=b"k" * 32, key="theirs"),
    ],
    ids=["server-side", "client-side"],
)
@in_loop
async def test_litestars_own_session_middleware_inside_is_told_once(
    config: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """It puts plain dicts there as set_session does, and is another session middleware all the same."""
    stores = {"theirs": LitestarStore()}
    browser = Browser(wrap(Litestar(HANDLERS, middleware=[config().middleware], stores=stores, logging_config=None)))
    for path in ("/read", "/set", "/read"):
        assert (await browser.get(path)).status == 200
        assert events(caplog) == ["session.replaced"]


# --- whatever it is ---


class Untouchable:
    """Raises whatever is asked of it, as the placeholder of starsessions does."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __bool__(self) -> bool:
        raise RuntimeError


@pytest.mark.parametrize(
    "make",
    [
        dict, StarletteSession, UserDict, OrderedDict, object, str, int, list, types.SimpleNamespace, Untouchable,
        lambda: {"a": 1}, lambda: StarletteSession(a=1), lambda: UserDict(a=1), lambda: types.MappingProxyType({}),
        lambda: defaultdict(list),
    ],
)  # fmt: skip
@pytest.mark.parametrize("status", [200, 500])
@in_loop
async def test_whatever_hides_the_session_is_told_once(
    make: Any, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Any mapping, any object: one warning that names its class and no content of it."""
    value = make()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["session"] = value
        await page(status=status)(scope, receive, send)

    ours = wrap(app)
    for _ in range(2):
        await ask(ours)
        assert events(caplog) == ["session.replaced"]
    text = caplog.records[0].getMessage()
    assert type(value).__qualname__ in text
    assert "'a'" not in text


@pytest.mark.parametrize("change", [lambda scope: scope.pop("session"), lambda scope: scope.update(session=None)])
@in_loop
async def test_what_hides_nothing_is_not_told(change: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A session that was taken away, or cleared with None, is hidden by nobody."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        change(scope)
        await page()(scope, receive, send)

    await ask(wrap(app))
    assert events(caplog) == []
