"""Corners of ASGI: what a scope may hold, starts that are not the last, stores that are not whole."""

from __future__ import annotations

from typing import Any

import pytest
from driver import Browser, in_loop
from routes import SECRET, Call, content, serve
from stores import SpyStore, SuspendingStore

from fastersession import ConfigError, FasterSessionMiddleware, MemoryStore

STORES = pytest.mark.parametrize("make", [MemoryStore, SuspendingStore])


async def write(call: Call) -> None:
    call.session["a"] = 1
    await call.reply()


# --- scope["state"] ---


@in_loop
async def test_two_middlewares_leave_one_state_in_place() -> None:
    """What is written to request.state inside is found outside: one dict, with the outer manager, and none is left."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["state"])
        scope["state"]["user"] = "me"
        scope["state"]["session"].get_session()["by manager"] = 1
        scope["inner"]["b"] = 2
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    inner = FasterSessionMiddleware(app, SECRET, secure=False, scope_key="inner", session_cookie="inner")

    async def between(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["state"])
        await inner(scope, receive, send)
        seen.append(scope["state"]["session"].get_session() is scope["session"])

    outer = FasterSessionMiddleware(between, SECRET, secure=False)

    async def server(scope: Any, receive: Any, send: Any) -> None:
        state = scope["state"] = {"shared": 1}
        await outer(scope, receive, send)
        assert scope["state"] is state
        seen.append(state)

    answer = await Browser(server).get("/")
    between_state, inner_state, is_outer, state = seen
    assert between_state is inner_state is state
    assert is_outer
    assert state == {"shared": 1, "user": "me"}
    assert [cookie.name for cookie in answer.cookies] == ["inner", "sid"]


@STORES
@pytest.mark.parametrize("kind", ["http", "websocket"])
@in_loop
async def test_a_state_of_none_is_none_at_all(kind: str, make: Any) -> None:
    """A scope whose state is None works as one without, and no request is left among the running ones."""
    seen: list[Any] = []

    async def do(call: Call) -> None:
        call.session["a"] = 1
        seen.append(call.scope["state"]["session"].get_session() is call.session)
        if kind == "http":
            await call.reply()
        else:
            await call.send({"type": "websocket.accept"})

    app = serve({"/act": do}, store=make())
    browser = Browser(app, extra={"state": None})
    if kind == "http":
        await browser.get("/act")
    else:
        async with browser.websocket("/act") as socket:
            await socket.ended()
        assert socket.answer.error is None
    assert seen == [True]
    assert app._engine.runs.requests == set()
    assert await content(browser) == {"a": 1}


# --- headers ---


@STORES
@in_loop
async def test_request_headers_that_can_be_read_once_reach_the_application(make: Any) -> None:
    """ASGI allows any iterable: after we have looked for the cookie, the application finds all of them."""
    seen: list[Any] = []

    async def do(call: Call) -> None:
        seen.append((list(call.scope["headers"]), list(call.scope["headers"]), dict(call.session)))
        await call.reply()

    app = serve({"/act": do}, store=make())
    given: list[Any] = []

    async def server(scope: Any, receive: Any, send: Any) -> None:
        given.append(list(scope["headers"]))
        await app({**scope, "headers": (header for header in given[-1])}, receive, send)

    browser = Browser(server)
    await browser.get("/set?a=1")
    await browser.get("/act", headers=[(b"x-custom", b"1")])
    assert seen == [(given[-1], given[-1], {"a": "1"})]
    assert {name for name, _ in given[-1]} == {b"host", b"cookie", b"x-custom"}


# --- starts ---


@STORES
@pytest.mark.parametrize("status", [100, 101, 102, 103, 199])
@in_loop
async def test_an_informational_start_gets_no_cookie_and_the_final_one_does(status: int, make: Any) -> None:
    """The message of status 1xx leaves as it came; the session begins with the response that follows."""
    early = {"type": "http.response.start", "status": status, "headers": [(b"link", b"</style.css>")]}

    async def do(call: Call) -> None:
        call.session["a"] = 1
        await call.send(early)
        call.session["b"] = 2
        await call.reply()

    store = make()
    browser = Browser(serve({"/act": do}, store=store))
    answer = await browser.get("/act")
    assert answer.messages[0] is early
    assert early["headers"] == [(b"link", b"</style.css>")]
    final = [key for key, _ in answer.messages[1]["headers"]]
    assert final.count(b"set-cookie") == 1
    assert await content(browser) == {"a": 1, "b": 2}


@STORES
@in_loop
async def test_a_switch_of_protocols_begins_no_session(make: Any) -> None:
    """After a 101 alone there is no response that could carry a cookie, so there is no record either."""

    async def do(call: Call) -> None:
        call.session["a"] = 1
        await call.start(101)

    store = make()
    answer = await Browser(serve({"/act": do}, store=store)).get("/act")
    assert (answer.status, answer.headers) == (101, [])
    assert len(store) == 0


@STORES
@pytest.mark.parametrize("more", [True, 1])
@in_loop
async def test_a_start_is_a_start_whatever_else_it_says(more: Any, make: Any) -> None:
    """A stray more_body makes no chunk of a start or an accept: the session begins with it."""

    async def do(call: Call) -> None:
        call.session["a"] = 1
        if call.scope["type"] == "websocket":
            await call.send({"type": "websocket.accept", "more_body": more})
        else:
            await call.send({"type": "http.response.start", "status": 200, "more_body": more})
            await call.finish()

    app = serve({"/act": do}, store=make())
    for kind in ("http", "websocket"):
        browser = Browser(app)
        async with browser.websocket("/act") if kind == "websocket" else browser.open("/act") as held:
            answer = await held.ended()
        assert (len(answer.cookies), answer.error) == (1, None)
        assert await content(browser) == {"a": 1}


FOREIGN: dict[str, list[str]] = {
    "http": ["websocket.send", "websocket.accept", "websocket.close", "websocket.http.response.body"],
    "websocket": ["http.response.start", "http.response.body", "http.response.trailers", "http.response.unheard.of"],
}


@STORES
@pytest.mark.parametrize("started", [True, False])
@pytest.mark.parametrize(("kind", "message"), [(kind, type_) for kind in FOREIGN for type_ in FOREIGN[kind]])
@in_loop
async def test_a_message_of_another_protocol_is_for_the_server_to_refuse(
    kind: str, message: str, started: bool, make: Any
) -> None:
    """It arrives there, before the start and after it, and nothing of ours is raised."""
    start = {"http": {"type": "http.response.start", "status": 200}, "websocket": {"type": "websocket.accept"}}[kind]

    async def do(call: Call) -> None:
        call.session["b"] = 2
        if started:
            await call.send(start)
            call.session["c"] = 3
        await call.send({"type": message, "status": 200} if message.endswith("start") else {"type": message})

    browser = Browser(serve({"/act": do}, store=make()))
    await browser.get("/set?a=1")
    async with browser.websocket("/act") if kind == "websocket" else browser.open("/act") as held:
        answer = await held.ended()
    assert answer.error is None
    assert answer.messages[-1]["type"] == message


# --- starts that are followed by another ---

FAILING: dict[str, Any] = {  # starts that cannot leave
    "headers of no kind": {"type": "http.response.start", "status": 200, "headers": 5},
    "a header that is no pair": {"type": "http.response.start", "status": 200, "headers": [(b"a",)]},
}


@STORES
@pytest.mark.parametrize("first", [{"type": "http.response.start", "status": 200}, *FAILING.values()])
@pytest.mark.parametrize("what", ["cleared", "new", "regenerated"])
@in_loop
async def test_of_several_starts_one_carries_the_cookie(what: str, first: Any, make: Any) -> None:
    """It leaves with the first start that leaves, which after one that failed is the error page's, and only once."""

    async def do(call: Call) -> None:
        if what == "cleared":
            call.session.invalidate()
        elif what == "regenerated":
            call.session.regenerate_id()
        else:
            call.session.update(call.query, new=1)
        try:
            await call.send(first)
        except (TypeError, ValueError):
            assert first in FAILING.values()
        await call.reply("an error page", status=500)

    browser = Browser(serve({"/act": do}, store=make()))
    if what != "new":
        await browser.get("/set?a=1")
    answer = await browser.get("/act", catch=True)
    lines = [
        value for message in answer.messages for name, value in message.get("headers", ()) if name == b"set-cookie"
    ]
    assert len(lines) == 1
    assert (b"Max-Age=0" in lines[0]) == (what == "cleared")


@in_loop
async def test_a_logout_that_could_not_be_saved_at_once_clears_the_cookie_once() -> None:
    """A start that fails for an attribute that cannot be stored is followed by the error page, which clears."""

    async def do(call: Call) -> None:
        call.session.invalidate()
        call.session["odd"] = object()
        with pytest.raises(TypeError):
            await call.start()
        call.session.clear()
        await call.start(500)
        await call.start(500)

    browser = Browser(serve({"/act": do}, store=SuspendingStore()))
    await browser.get("/set?a=1")
    answer = await browser.get("/act")
    cookies = [name for message in answer.messages for name, _ in message["headers"] if name == b"set-cookie"]
    assert cookies == [b"set-cookie"]
    assert not browser.jar


# --- stores ---


@pytest.mark.parametrize("missing", ["live", "clock", "regenerate", "purge"])
def test_a_store_that_lacks_a_member_is_a_config_error(missing: str) -> None:
    """What a store of one's own forgot is named when the middleware is made, not by the first request."""
    whole = SpyStore()
    members = ("live", "clock", "open", "close", "load", "create", "update", "touch", "delete", "regenerate", "purge")
    store = type("Mine", (), {name: getattr(whole, name) for name in members if name != missing})()
    with pytest.raises(ConfigError, match=rf"store: .*missing: {missing}\)"):
        FasterSessionMiddleware(lambda scope, receive, send: None, SECRET, store=store)


class OfFields(MemoryStore):
    """A subclass with the `create` of 0.1."""

    async def create(  # type: ignore[override]
        self, record_id: bytes, verifier: bytes, created_at: float, idle: float, end: float, attributes: Any
    ) -> Any:
        raise NotImplementedError


class Flagged(SuspendingStore):
    """A store that says in the words of 0.1 what it is."""

    def __init__(self, live: bool) -> None:
        super().__init__()
        self.live: Any = live


@pytest.mark.parametrize("store", [Flagged(False), Flagged(True), OfFields()], ids=["far", "near", "fields"])
def test_a_store_written_for_0_1_is_a_config_error(store: Any) -> None:
    """What to change in it is said when the middleware is made."""
    name = type(store).__name__
    said = (
        rf"store: {name} was written for fastersession 0.1.*`live = None`.*`create\(record_id, record\)`.*CHANGELOG.md"
    )
    with pytest.raises(ConfigError, match=said):
        FasterSessionMiddleware(lambda scope, receive, send: None, SECRET, store=store)
