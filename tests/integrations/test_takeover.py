"""Users of another session middleware stay logged in: GUIDE's way to take their sessions over, with the real ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import redis.asyncio
from driver import in_loop
from examples import guided
from servers_redis import RedisServer
from starlette.applications import Starlette
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from starsessions import CookieStore, InMemoryStore, SessionAutoloadMiddleware
from starsessions import SessionMiddleware as Starsessions
from starsessions.stores.redis import RedisStore

from fastersession import FasterSessionMiddleware, MemoryStore
from fastersession.stores.sqlite import SQLiteStore
from fastersession.testing import Browser, FakeClock, FaultyStore, session_of

SECRET = "a secret of the tests of a migration, and of nothing else"
OLD = {"secret_key": "the key of before", "https_only": True}
HELD = {"user": "ada", "cart": [1, {"n": 2}]}


async def login(request: Request) -> Response:
    request.session.update(HELD)
    return Response("in")


async def show(request: Request) -> Response:
    return JSONResponse(request.session)


async def logout(request: Request) -> Response:
    request.session.clear()
    return Response("out")


async def fail(request: Request) -> Response:
    request.session["of the failure"] = True
    return Response("failed", status_code=500)


async def crash(request: Request) -> Response:
    raise LookupError


async def slow(request: Request) -> Response:
    await request.app.state.go_on.wait()
    return Response("slow")


async def talk(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_json(dict(socket.session))
    await socket.close()


class Expiring(InMemoryStore):
    """A store of starsessions that forgets in time, as its RedisStore does."""

    def __init__(self) -> None:
        super().__init__()
        self.clock, self.until = FakeClock(), dict[str, float]()

    async def read(self, session_id: str, lifetime: int) -> bytes:
        return await super().read(session_id, lifetime) if self.clock() < self.until.get(session_id, 0) else b""

    async def write(self, session_id: str, data: bytes, lifetime: int, ttl: int) -> str:
        self.until[session_id] = self.clock() + ttl
        return await super().write(session_id, data, lifetime, ttl)


VIEWS = [Route(f"/{view.__name__}", view) for view in (login, show, logout, fail, crash, slow)]
your_app = Starlette(routes=[*VIEWS, WebSocketRoute("/talk", talk)])


class Move:
    """One migration: the application as it was, and as it is."""

    def __init__(self, kind: str, load: Callable[[str], ModuleType], folder: Path, ours: str) -> None:
        store: Any = MemoryStore() if ours == "memory" else SQLiteStore(folder / "of_the_test.db")
        if kind == "starlette":
            self.before: Any = SessionMiddleware(your_app, **OLD)
            inside = load("takeover.py").TakeOver(your_app, **OLD)
        else:
            self.old: Any = Expiring() if kind == "starsessions" else CookieStore("the key of before")
            self.before = Starsessions(SessionAutoloadMiddleware(your_app), self.old, lifetime=3600, rolling=True)
            inside = load("takeover_starsessions.py").TakeOverStarsessions(
                your_app, self.old, lifetime=3600, rolling=True
            )
        self.forgets = kind == "starsessions"
        self.store = FaultyStore(store)
        self.now = FasterSessionMiddleware(inside, SECRET, store)
        self.failing = FasterSessionMiddleware(inside, SECRET, self.store)

    async def user(self) -> Browser:
        """Return a browser that has logged in before."""
        browser = Browser(self.before)
        await browser.get("/login")
        assert list(browser.jar) == ["session"]
        browser.app = self.now
        return browser


@pytest.fixture(params=["memory", "sqlite"])
def ours(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["starlette", "starsessions", "starsessions with cookies"])
def move(request: pytest.FixtureRequest, tmp_path: Path, ours: str) -> Move:
    return Move(request.param, lambda name: guided(name, tmp_path), tmp_path, ours)


@in_loop
async def test_the_old_content_is_taken_over_once(move: Move) -> None:
    """The first answer has it, sets the new cookie and deletes the old one; so have the next."""
    browser = await move.user()
    for _ in range(3):
        assert (await browser.get("/show")).json() == HELD
        assert list(browser.jar) == ["__Host-sid"]
    async with session_of(browser) as session:
        assert session == HELD


@in_loop
async def test_who_has_no_old_cookie_notices_nothing(move: Move) -> None:
    """No session, no cookie; a login is one of the new kind."""
    browser = Browser(move.now)
    answer = await browser.get("/show")
    assert (answer.json(), answer.cookies) == ({}, [])
    await browser.get("/login")
    assert list(browser.jar) == ["__Host-sid"]
    assert (await browser.get("/show")).json() == HELD


@pytest.mark.parametrize("first", ["/show", "/logout"])
@in_loop
async def test_a_logout_is_final(move: Move, first: str) -> None:
    """After it nothing is taken over again, also where the logout is the first that comes with the old cookie."""
    browser = await move.user()
    await browser.get(first)
    await browser.get("/logout")
    assert (await browser.get("/show")).json() == {}
    assert "session" not in browser.jar


@in_loop
async def test_an_old_cookie_beside_a_session_is_deleted_and_not_read(move: Move) -> None:
    """A browser may have kept it, for the answer that deleted it was lost; without content it may stay."""
    browser = await move.user()
    old = browser.jar["session"]
    await browser.get("/show")
    async with session_of(browser) as session:
        session["user"] = "bob"
    browser.jar["session"] = old
    assert (await browser.get("/show")).json()["user"] == "bob"
    assert "session" not in browser.jar or move.forgets
    browser.jar["session"] = old
    await browser.get("/logout")
    assert "__Host-sid" not in browser.jar
    assert (await browser.get("/show")).json() == {}


@in_loop
async def test_a_copied_old_cookie(move: Move) -> None:
    """A store of starsessions forgets within a minute, whoever asks; a cookie that is the session opens again."""
    browser = await move.user()
    copies = [browser.tab() for _ in range(3)]
    await browser.get("/show")
    if not move.forgets:
        assert (await copies[0].get("/show")).json() == HELD
        return
    for copy, expected in zip(copies, (HELD, HELD, {}), strict=True):  # after 25, 50 and 75 seconds
        move.old.clock.advance(25)
        assert (await copy.get("/show")).json() == expected


@in_loop
async def test_a_failing_answer_loses_nothing(move: Move) -> None:
    """With a 500 the old cookie goes and the content is kept; without an answer of the application's both stay."""
    browser = await move.user()
    await browser.get("/crash", catch=True)
    assert list(browser.jar) in (["session"], ["__Host-sid"])
    assert (await browser.get("/fail")).status == 500
    assert (await browser.get("/show")).json() == HELD
    assert list(browser.jar) == ["__Host-sid"]


@in_loop
async def test_a_store_that_is_down_loses_nothing(move: Move) -> None:
    """The answer is a 503 and the old cookie stays; the next request takes it over."""
    browser = await move.user()
    browser.app = move.failing
    move.store.fail("create")
    answer = await browser.get("/show", catch=True)
    assert (answer.status, list(browser.jar)) == (503, ["session"])
    assert (await browser.get("/show")).json() == HELD


@in_loop
async def test_a_forged_old_cookie_is_nothing(move: Move) -> None:
    """What the old middleware refuses is not taken over."""
    browser = await move.user()
    cookie = browser.jar["session"]
    cookie.value = cookie.value[:-2] + ("AA" if cookie.value[-2:] != "AA" else "BB")
    browser.jar["session"] = cookie
    assert (await browser.get("/show")).json() == {}
    assert "__Host-sid" not in browser.jar


@in_loop
async def test_a_websocket_takes_nothing_over(move: Move) -> None:
    """Its page did; then it has the session."""
    browser = await move.user()
    for expected in ("{}", HELD):
        async with browser.websocket("/talk") as socket:
            text = await socket.receive()
            assert isinstance(text, str)
            assert text == expected if expected == "{}" else "ada" in text
        assert (await browser.get("/show")).json() == HELD


@in_loop
async def test_requests_at_the_same_moment_take_over_each(move: Move) -> None:
    """All see the content, and the cookie that is left leads to it."""
    browser = await move.user()
    tabs = [browser.open("/show", paced=True) for _ in range(3)]
    async with tabs[0], tabs[1], tabs[2]:
        answers = [await tab.ended() for tab in tabs]
    assert [answer.json() for answer in answers] == [HELD] * 3
    assert (await browser.get("/show")).json() == HELD


@in_loop
async def test_one_that_is_at_work_at_the_logout_logs_in_again(move: Move) -> None:
    """The limit that GUIDE speaks of: it has taken the content over before, and its answer comes after the logout."""
    your_app.state.go_on = asyncio.Event()
    browser = await move.user()
    async with browser.open("/slow") as slow_one:
        await asyncio.sleep(0)
        await browser.get("/show")
        await browser.get("/logout")
        assert not browser.jar
        your_app.state.go_on.set()
        await slow_one.ended()
    assert (await browser.get("/show")).json() == HELD


@in_loop
async def test_redis_forgets_what_was_taken_over(one: RedisServer, tmp_path: Path) -> None:
    """In a real Redis the old record has a minute left, which a second request does not prolong."""
    async with redis.asyncio.Redis.from_url(one.url) as connection:
        old = RedisStore(connection=connection)
        takeover = guided("takeover_starsessions.py", tmp_path).TakeOverStarsessions(your_app, old, lifetime=3600)
        browser = Browser(Starsessions(SessionAutoloadMiddleware(your_app), old, lifetime=3600))
        await browser.get("/login")
        browser.app = FasterSessionMiddleware(takeover, SECRET)
        copy = browser.tab()
        (key,) = await connection.keys()
        assert await connection.ttl(key) > 60
        assert (await browser.get("/show")).json() == HELD
        assert 0 < await connection.ttl(key) <= 60
        await connection.expire(key, 20)
        assert (await copy.get("/show")).json() == HELD
        assert 0 < await connection.ttl(key) <= 20


def test_the_example_of_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It puts the one inside the other."""
    monkeypatch.setenv("SESSION_SECRET", SECRET)
    monkeypatch.setenv("OLD_SECRET", str(OLD["secret_key"]))
    example = guided("taken_over.py", tmp_path)
    assert isinstance(example.app, FasterSessionMiddleware)
    assert example.app.app is example.inside
