"""`check_app` lets good services pass, and reports each planted fault as a scenario in words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
import starlette_apps
from naive_sessions import NaiveSessions
from raw_apps import app2, app3
from starlette.middleware.sessions import SessionMiddleware
from test_testing_contract import Eternal, Forgetful, Upserting

from fastersession import FasterSessionMiddleware, MemoryStore
from fastersession.stores.sqlite import SQLiteStore
from fastersession.testing import FakeClock, FaultyStore
from fastersession.testing.fuzz import ScenarioError, Target, check_app

TARGETS = ["GET /", "GET /login?name={canary}", "GET /logout", "GET /chat?q={canary}", "GET /boom"]
LAST: dict[str, str] = {}


async def service(scope: Any, receive: Any, send: Any) -> None:
    """A chat with a login; /boom fails; /who is for those who leak."""
    if scope["type"] != "http":
        raise ValueError("http only")
    session, path = scope["session"], scope["path"]
    query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
    if path == "/boom":
        raise ZeroDivisionError
    if path == "/login":
        getattr(session, "regenerate_id", dict)()
        session["name"] = LAST["name"] = query.get("name", "")
    elif path == "/logout":
        getattr(session, "invalidate", session.clear)()
    elif path == "/who":
        session["who"] = LAST.get("name", "")
    headers = [(b"x-app", b"1")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if path == "/chat":
        session["turns"] = session.get("turns", 0) + 1 if session else 0
    if session and path == "/chat":
        for token in ("an ", "answer ", "to ", query.get("q", "")):
            session["answer"] = session.get("answer", "") + token
            await send({"type": "http.response.body", "body": token.encode() or b"-", "more_body": True})
    await send({"type": "http.response.body", "body": json.dumps(dict(session)).encode()})


async def begun(scope: Any, receive: Any, send: Any) -> None:
    """The same; /chat begins a session before it streams."""
    if scope["type"] == "http" and scope["path"] == "/chat":
        scope["session"].setdefault("turns", 0)
    await service(scope, receive, send)


def failing(app: Any, targets: Any = TARGETS, **options: Any) -> str:
    """Return the report of the scenario that fails."""
    with pytest.raises(ScenarioError) as caught:
        check_app(app, targets, **{"examples": 20, **options})
    return str(caught.value)


MAKES: dict[str, Callable[[FakeClock, Path], Any]] = {
    "memory": lambda clock, folder: MemoryStore(clock=clock),
    "bytes": lambda clock, folder: FaultyStore(clock=clock),
    "sqlite": lambda clock, folder: SQLiteStore(folder / "sessions.db", clock=clock),
}


@pytest.mark.parametrize("store", MAKES)
def test_a_good_service_passes_over_every_kind_of_store(store: str, tmp_path: Path) -> None:
    """Its own errors are its own affair; sealed or not."""
    check_app(begun, TARGETS, make_store=lambda clock: MAKES[store](clock, tmp_path), examples=60)
    check_app(begun, TARGETS, make_store=lambda clock: MAKES[store](clock, tmp_path), examples=5, seal=False)


def test_the_idle_timeout_is_the_middlewares() -> None:
    """A cookie that lives for a week keeps its session as long: 1.1 of the default idle timeout do not end it."""
    check_app(begun, ["GET /chat"], max_age=7 * 24 * 60 * 60, examples=1)


ROUTES = ["GET /session", "GET /chat?q={canary}", "GET /logout", "GET /fail", "GET /crash", "GET /break?q={canary}"]


@pytest.mark.parametrize("app", [app3, app2, starlette_apps.starlette(), starlette_apps.APPS["fastapi"]()])
def test_services_of_every_kind_pass(app: Any) -> None:
    """Raw ASGI 3 and 2, a framework, and one that has the middleware in it."""
    check_app(app, [*ROUTES, "GET /endless?q={canary}", "GET /late"], examples=20, secure=False)


async def talk(scope: Any, receive: Any, send: Any) -> None:
    """Keep what is said on a WebSocket; /deny answers with a denial, /silent closes at once."""
    await receive()
    session = scope["session"]
    if scope["path"] == "/deny":
        await send({"type": "websocket.http.response.start", "status": 403, "headers": []})
        return await send({"type": "websocket.http.response.body", "body": b"no"})
    if scope["path"] == "/silent":
        return await send({"type": "websocket.close"})
    session["heard"] = ""
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        session["heard"] += message["text"]
        await send({"type": "websocket.send", "text": session["heard"] if scope["path"] == "/own" else LAST["heard"]})
    LAST["heard"] = session["heard"]
    return None


def test_websockets_take_part() -> None:
    """What is said is kept, and what another browser said is not heard."""
    LAST["heard"] = ""

    async def site(scope: Any, receive: Any, send: Any) -> None:
        await (talk if scope["type"] == "websocket" else service)(scope, receive, send)

    own = Target("WS", "/own", b"{canary}")
    check_app(site, [own, "WS /own", "WS /deny", "WS /silent", "GET /"], examples=20)
    report = failing(site, [Target("WS", "/all", b"{canary}")])
    assert "nothing of browser A reaches browser B" in report


def test_a_leak_between_users_is_reported_step_by_step() -> None:
    """The whole report: the shortest scenario, with the canaries of the browsers."""
    lines = failing(service, [*TARGETS, "GET /who"]).splitlines()
    canary = lines[1].partition("name=")[2].partition(" ")[0]
    assert lines == [
        "a session went wrong:",
        f"  1. Browser A GET /login?name={canary} → 200, cookie set",
        "  2. Browser B GET /who → 200, cookie set",
        "  expected: nothing of browser A reaches browser B",
        f"  got: '{canary}' is in its answer",
    ]


class Sparing(MemoryStore):
    """Its revocations end nothing, and say that they did."""

    async def revoke(self, tags: Any, keep: Any, at: float) -> list[bytes]:
        return [record_id for record_id, _ in await self.find(tags)]


class Unlisting(MemoryStore):
    """Its index has lost what it was given."""

    async def find(self, tags: Any) -> list[Any]:
        return []

    async def revoke(self, tags: Any, keep: Any, at: float) -> list[bytes]:
        return []


class Unbinding(MemoryStore):
    """Its logins leave the old secret alive."""

    async def login(self, record_id: bytes, verifier: bytes | None, login: Any) -> Any:
        outcome = await super().login(record_id, verifier, login)
        record: Any = await self.load(record_id)
        if verifier is not None and record is not None:
            record.verifier = verifier
        return outcome


@pytest.mark.parametrize(
    ("mutant", "reported"),
    [
        (Sparing, "nobody is logged in"),
        (Unlisting, "the session that the user is logged in with is ended"),
        (Unbinding, "Browser A logs in"),
        (Upserting, "the session of this cookie has ended"),
        (Forgetful, "the session of this cookie has ended"),
        (Eternal, "1.1 of the idle timeout pass"),
    ],
)
def test_a_broken_store_is_found_through_the_application(mutant: type[MemoryStore], reported: str) -> None:
    """Without knowing anything of stores."""
    assert reported in failing(begun, make_store=lambda clock: mutant(clock=clock))


def test_a_store_that_loses_a_write_is_found() -> None:
    """An update that is acknowledged and not done."""

    class Lossy(MemoryStore):
        async def update(self, *arguments: Any) -> bool:
            return True

    assert "is there" not in (report := failing(begun, make_store=lambda clock: Lossy(clock=clock)))
    assert "expected: session['" in report


def test_another_good_middleware_passes() -> None:
    """The checks are of sessions, not of ours."""
    check_app(begun, TARGETS, wrap=NaiveSessions, session_cookie="id", examples=100)


@pytest.mark.parametrize(
    ("fault", "reported"),
    [
        ("early", "expected: session['"),
        ("upsert", "the session of this cookie has ended"),
        ("undead", "the session of this cookie has ended"),
        ("one for all", "reaches browser"),
        ("twice", "one Set-Cookie of the session"),
        ("eager", "no Set-Cookie for wrong cookies"),
        ("clears", "no Set-Cookie for a cookie that leads nowhere"),
        ("in place", "list of headers is left as it is"),
        ("drops", "the application's headers"),
        ("loud", "as the application sent it"),
        ("silent", "it was swallowed"),
        ("raises", "RuntimeError: the session was too beautiful"),
    ],
)
def test_each_fault_of_a_middleware_is_found(fault: str, reported: str) -> None:
    """One flag, one check, one report that says which."""
    report = failing(begun, wrap=lambda app: NaiveSessions(app, fault), session_cookie="id", examples=200)
    assert reported in report, report


def test_starlettes_own_sessions_lose_what_a_stream_writes() -> None:
    """The peer that most services have: the answer is lost, and a logout is none for who kept the cookie."""

    def around(app: Any) -> Any:
        async def copying(scope: Any, receive: Any, send: Any) -> None:
            async def own(message: Any) -> None:  # Starlette changes headers in place, reported first
                fresh = {"headers": list(message.get("headers") or ())} if "status" in message else {}
                await send({**message, **fresh})

            await app(scope, receive, own)

        return SessionMiddleware(copying, secret_key="of Starlette's sessions, for a test", https_only=True)

    report = failing(begun, ["GET /chat?q=hello"], wrap=around, session_cookie="session")
    assert report.splitlines()[-2:] == ["  expected: session['answer'] is 'an answer to hello'", "  got: not there"]
    report = failing(begun, ["GET /"], wrap=around, session_cookie="session")
    assert "the session of this cookie has ended" in report


def test_an_application_that_fails_to_start_is_reported() -> None:
    """Its lifespan runs once, around all scenarios."""
    seen: list[str] = []

    async def living(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            assert scope["state"] == {"db": 1}
            return await service(scope, receive, send)
        for _ in range(2):
            seen.append((await receive())["type"])
            scope["state"]["db"] = 1
            await send({"type": f"{seen[-1]}.complete"})
        return None

    check_app(living, examples=5)
    assert seen == ["lifespan.startup", "lifespan.shutdown"]

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    with pytest.raises(AssertionError, match="no database"):
        check_app(broken)


def test_what_fails_once_is_reported_all_the_same() -> None:
    """Of a fault that depends on more than the scenario the report says so; it is no complaint about flaky tests."""
    times = iter(range(10_000))

    def sometimes(app: Any) -> Any:
        async def outer(scope: Any, receive: Any, send: Any) -> None:
            await inner(scope, receive, send)
            if next(times) == 150:
                raise RuntimeError("once")

        inner = FasterSessionMiddleware(app, "a secret of the once test, and of nothing else", secure=False)
        return outer

    report = failing(begun, ["GET /"], wrap=sometimes, session_cookie="sid", examples=200)
    assert "RuntimeError: once" in report
