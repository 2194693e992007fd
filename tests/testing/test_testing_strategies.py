"""The strategies give what they say, legal and illegal, and the middleware takes all of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from routes import SECRET, serve

from fastersession import FasterSessionMiddleware, JsonCodec
from fastersession.testing import Browser, Connection, Headers, Jar
from fastersession.testing.fuzz import asgi_messages, cookie_headers, illegal, scopes, session_data
from fastersession.testing.fuzz.scenario import (
    Leave,
    Login,
    Logout,
    OddScope,
    Open,
    ReadOn,
    Replay,
    Respond,
    Visit,
    Wait,
    Write,
    WrongCookies,
    clients,
)  # fmt: skip

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")  # of cookies that are meant to be
# Without chance: what is found must be found in every run.
FIND = settings(
    max_examples=3_000,
    phases=[Phase.generate],
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
QUICK = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))


def one(scope: Any, *, app: Any) -> Any:
    """Send a scope to an application, and return the answer."""

    async def run() -> Any:
        connection = Connection(app, scope, Jar(), "https://testserver/")
        kind = "http.request" if scope["type"] == "http" else "websocket.connect"
        connection.feed({"type": kind}, {"type": f"{scope['type']}.disconnect", "code": 1000})
        async with connection:
            return await connection.ended()

    return asyncio.run(run())


def bare(messages: list[Any]) -> list[Any]:
    return [{key: value for key, value in message.items() if key != "headers"} for message in messages]


def total(headers: Headers) -> bytes:
    return b"; ".join(value for _, value in headers)


@pytest.mark.parametrize(
    "wanted",
    [
        lambda found: total(found).startswith(b"sid=real"),
        lambda found: total(found).count(b"sid=real") > 1,
        lambda found: len(found) > 2,
        lambda found: len(total(found)) > 65_536,
        lambda found: b"SID=" in total(found),
        lambda found: b"sid=rea" in total(found) and b"sid=real" not in total(found),
        lambda found: b"\xff" in total(found),
        lambda found: found == [],
    ],
)
def test_cookie_headers_come_in_every_kind(wanted: Any) -> None:
    """Valid, duplicate, split, huge, misspelt, cut, odd bytes, none."""
    find(cookie_headers("sid", ["real"]), wanted, settings=FIND)


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize("legal", [True, False])
def test_messages_come_in_every_order(kind: str, legal: bool) -> None:
    """Orders that the spec allows, and others; the empty call is legal, so more is asked for."""
    found = find(asgi_messages(kind), lambda sent: len(sent) > 1 and (illegal(sent) is None) == legal, settings=FIND)
    assert all(message["type"] for message in found)


STEPS = [Leave, Login, Logout, OddScope, Open, ReadOn, Replay, Respond, Visit, Wait, Write, WrongCookies]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
def test_scenarios_have_every_step(step: type) -> None:
    """None is forgotten in the strategy."""
    assert find(clients(), lambda scenario: any(type(each) is step for each in scenario), settings=FIND)


START, CHUNK = {"type": "http.response.start", "status": 200}, {"type": "http.response.body", "more_body": True}
FINAL, HINT = {"type": "http.response.body"}, {"type": "http.response.early_hint"}
ACCEPT, CLOSE, SAY = ({"type": f"websocket.{verb}"} for verb in ("accept", "close", "send"))
DENY, DENIAL = {"type": "websocket.http.response.start", "status": 403}, {"type": "websocket.http.response.body"}
TRAILERS = {"type": "http.response.trailers"}


@pytest.mark.parametrize(
    ("messages", "why"),
    [
        ([], None),
        ([START, FINAL], None),
        ([HINT, START, CHUNK, CHUNK, FINAL], None),
        ([START | {"status": 103}, START, FINAL], None),
        ([START | {"trailers": True}, FINAL, TRAILERS | {"more_trailers": True}, TRAILERS], None),
        ([START, {"type": "http.response.pathsend", "path": "/x"}], None),
        ([{"type": "example.unknown"}, START], None),
        ([START, START], "http.response.start when the call was open"),
        ([FINAL], "http.response.body when the call was begun"),
        ([START, FINAL, CHUNK], "when the call was ended"),
        ([START, FINAL, TRAILERS], "http.response.trailers when the call was ended"),
        ([START | {"headers": [(b"a", "b")]}], "no pair of bytes"),
        ([START | {"headers": [(b"a", b"b\r\nc: d")]}], "line break"),
        ([ACCEPT, SAY, CLOSE], None),
        ([CLOSE], None),
        ([DENY, DENIAL], None),
        ([SAY], "websocket.send when the call was begun"),
        ([ACCEPT, CLOSE, SAY], "when the call was ended"),
        ([ACCEPT, DENIAL], "when the call was accepted"),
    ],
)
def test_legality(messages: list[Any], why: str | None) -> None:
    """What is wrong is said, and nothing else is."""
    found = illegal(messages)
    assert found is None if why is None else why in str(found)


@given(scope=scopes())
@QUICK
def test_any_scope_passes_the_middleware(scope: dict[str, Any]) -> None:
    """Invariant: whatever the scope, the application gets it with an empty session, and its answer comes out."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(dict(scope["session"]))
        await receive()
        await send({"type": "websocket.close"} if scope["type"] == "websocket" else START)
        await send({"type": "example.unknown"} if scope["type"] == "websocket" else FINAL)

    answer = one(scope, app=FasterSessionMiddleware(app, SECRET))
    assert (answer.error, seen, len(answer.messages)) == (None, [{}], 2)


@given(kind=st.sampled_from(("http", "websocket")), data=st.data())
@QUICK
def test_any_messages_pass_the_middleware(kind: str, data: st.DataObject) -> None:
    """Invariant: messages arrive in number, order and content, but for headers; what was legal is legal."""
    sent = data.draw(asgi_messages(kind))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["session"]["a"] = 1
        for message in sent:
            await send(message)

    scope = Browser(app).scope("GET", "/") | {"type": kind}
    answer = one(scope, app=FasterSessionMiddleware(app, SECRET))
    assert bare(sent) == bare(answer.messages)
    assert answer.error is None or illegal(sent)
    assert illegal(sent) is not None or illegal(answer.messages) is None


@given(data=session_data())
@QUICK
def test_session_data_is_what_every_codec_keeps(data: dict[str, Any]) -> None:
    """Invariant: each value comes back equal from JSON, under its name."""
    codec = JsonCodec()
    assert {name: codec.decode(name, codec.encode(name, value)) for name, value in data.items()} == data


@given(headers=cookie_headers("sid"))
@QUICK
def test_cookies_that_are_none_lead_nowhere(headers: Headers) -> None:
    """Invariant: without a real value there is no session, no cookie and no error."""
    answer = one(Browser(None).scope("GET", "/", headers), app=serve())
    assert (answer.error, answer.json(), answer.cookies) == (None, {}, [])
