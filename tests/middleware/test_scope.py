"""What the application finds in its scope (state, exclude, skip): I1 and I2 of SECURITY."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from apps import SECRET, SpyStore, ask, cookie, nothing, page, site, token_of, wrap
from driver import Browser, in_loop

from fastersession import ConfigError, FasterSessionMiddleware, Session
from fastersession.engine.running import RequestManager


class Seen:
    """An app that keeps the scope it was called with, and answers without touching it."""

    def __init__(self) -> None:
        self.scopes: list[Any] = []
        self.during: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        self.during.append(dict(scope.get("state", {})))
        await page()(scope, receive, send)


# --- exclude, skip_session_header ---


@pytest.mark.parametrize(
    ("path", "excluded"),
    [
        ("/health", True), ("/health/", False), ("/Health", False), ("/healthy", False), ("/", False), ("", False),
        ("/static/", True), ("/static/a/b.css", True), ("/static", False), ("/Static/a", False), ("/a/static/", False),
        ("/v1", True), ("/v1/x", True), ("/v10", True), ("/v", False), ("/health?x", False), ("/health*", False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["http", "websocket"])
@in_loop
async def test_excluded_paths_get_nothing(path: str, excluded: bool, kind: str) -> None:
    """Exact paths and prefixes, case-sensitive: no session, manager, cookie, Vary or store call."""
    store, seen = SpyStore(), Seen()
    token = await token_of(wrap(site, store=store))
    store.calls.clear()
    app = wrap(seen, store=store, exclude=["/health", "/static/*", "/v1*"])
    answer = await ask(app, "/placeholder", cookie(token), path=path, type=kind, state={})
    assert ("session" not in seen.scopes[0], "session" not in seen.during[0]) == (excluded, excluded)
    assert store.calls == ([] if excluded else ["load"])
    assert (answer.cookies, answer.all("vary")) == ([], [])


ENTRIES = [
    {"header_name": "X-Health-Check", "header_value": "*"},
    {"header_name": "user-agent", "header_value": "Probe/1.0"},
]


@pytest.mark.parametrize(
    ("header", "skipped"),
    [
        ((b"x-health-check", b"anything"), True),
        ((b"x-health-check", b""), True),
        ((b"X-HEALTH-CHECK", b"1"), True),
        ((b"x-health", b"1"), False),
        ((b"user-agent", b"Probe/1.0"), True),
        ((b"User-Agent", b"Probe/1.0"), True),
        ((b"user-agent", b"probe/1.0"), False),
        ((b"user-agent", b"Probe/1.0 "), False),
        ((b"user-agent", b"*"), False),
    ],
)
@in_loop
async def test_skip_session_header(header: tuple[bytes, bytes], skipped: bool) -> None:
    """A request with one of the headers gets no session, manager or cookie; names in any case, `*` is any value."""
    for entries in (ENTRIES, tuple(ENTRIES), ENTRIES[0] if b"health" in header[0].lower() else ENTRIES[1]):
        store, seen = SpyStore(), Seen()
        token = await token_of(wrap(site, store=store))
        store.calls.clear()
        await ask(wrap(seen, store=store, skip_session_header=entries), headers=[*cookie(token), header], state={})
        assert ("session" not in seen.scopes[0], "session" not in seen.during[0]) == (skipped, skipped)
        assert store.calls == ([] if skipped else ["load"])


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize("skipped", [True, False])
@in_loop
async def test_headers_that_can_be_read_once_are_there_for_all(kind: str, skipped: bool) -> None:
    """Whoever looks at an iterable of headers, the next one finds them all: the skipping, the cookie, the app."""
    store, seen = SpyStore(), Seen()
    token = await token_of(wrap(site, store=store))
    store.calls.clear()
    app = wrap(seen, store=store, skip_session_header=ENTRIES)
    headers = [(b"x-health-check" if skipped else b"x-other", b"1"), *cookie("junk"), *cookie(token)]

    async def send(message: Any) -> None:
        pass

    await app({"type": kind, "path": "/", "scheme": "http", "headers": iter(headers)}, nothing, send)
    assert list(seen.scopes[0]["headers"]) == headers
    assert store.calls == ([] if skipped else ["load"])


# --- scope["state"] ---


@in_loop
async def test_the_scope_is_copied_before_we_add_to_it() -> None:
    """The server's scope is as it was but for the session: no other key of ours, no manager in its state."""
    seen = Seen()
    scope = {"type": "http", "path": "/", "headers": [], "method": "GET", "query_string": b"", "scheme": "http"}
    before = dict(scope)

    async def send(message: Any) -> None:
        pass

    await wrap(seen)(scope, nothing, send)
    assert scope == {**before, "session": seen.scopes[0]["session"]}
    assert isinstance(scope["session"], Session)
    assert isinstance(seen.during[0]["session"], RequestManager)


@in_loop
async def test_state_is_written_in_place_and_cleaned() -> None:
    """The manager stands in the given dict under session_object, only that, while the request runs."""
    for name in ("session", "chat"):
        seen, state = Seen(), {"database": 1}
        await ask(wrap(seen, session_object=name), state=state)
        assert seen.scopes[0]["state"] is state
        assert set(seen.during[0]) == {"database", name}
        assert state == {"database": 1}


@in_loop
async def test_state_is_cleaned_when_the_application_raises() -> None:
    """Each request removes its own manager at its end, however it ends."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert isinstance(scope["state"]["session"], RequestManager)
        raise ZeroDivisionError

    state: dict[str, Any] = {}
    with pytest.raises(ZeroDivisionError):
        await ask(wrap(app), state=state)
    assert state == {}


@pytest.mark.parametrize("there", [None, object(), "a db session", 0, "", False, {}, []], ids=repr)
@in_loop
async def test_a_foreign_object_in_state_is_left_alone(there: Any) -> None:
    """A name that is taken stays taken (SQLAlchemy admin middlewares use state.session); scope["session"] is ours."""
    seen, state = Seen(), {"session": there}
    await ask(wrap(seen), state=state)
    assert seen.during[0]["session"] is there
    assert state["session"] is there
    assert isinstance(seen.scopes[0]["session"], Session)


@in_loop
async def test_a_state_that_requests_share_is_copied() -> None:
    """Where another request's manager stands, this request gets a shallow copy of the state with its own."""
    state: dict[str, Any] = {"database": object()}
    inside, outside = asyncio.Event(), asyncio.Event()
    managers: dict[str, list[Any]] = {"/slow": [], "/fast": []}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        own = managers[scope["path"]]
        own.append(scope["state"]["session"])
        if scope["path"] == "/slow":
            inside.set()
            await outside.wait()
        own.append(scope["state"]["session"])
        assert scope["state"]["session"].get_session() is scope["session"]
        assert scope["state"]["database"] is state["database"]
        await page()(scope, receive, send)

    wrapped = wrap(app)
    slow = asyncio.ensure_future(ask(wrapped, "/slow", state=state))
    await inside.wait()
    await ask(wrapped, "/fast", state=state)
    outside.set()
    await slow
    assert managers["/slow"][0] is managers["/slow"][1] is not managers["/fast"][0]
    assert set(state) == {"database"}


@in_loop
async def test_state_is_never_read_back() -> None:
    """The application may delete or replace the manager there: nothing breaks, and what it put there stays."""

    async def deleting(scope: Any, receive: Any, send: Any) -> None:
        scope["session"]["a"] = 1
        del scope["state"]["session"]
        await page()(scope, receive, send)

    async def replacing(scope: Any, receive: Any, send: Any) -> None:
        scope["session"]["a"] = 1
        scope["state"]["session"] = "mine"
        await page()(scope, receive, send)

    async def dropping(scope: Any, receive: Any, send: Any) -> None:
        scope["session"]["a"] = 1
        del scope["state"]
        await page()(scope, receive, send)

    for app, left in ((deleting, {}), (replacing, {"session": "mine"})):
        state: dict[str, Any] = {}
        assert len((await ask(wrap(app), state=state)).cookies) == 1
        assert state == left
    assert len((await ask(wrap(dropping), state={})).cookies) == 1


@in_loop
async def test_the_ancestors_manager() -> None:
    """Truthy; get_session() and get_session_id() at once; save_session() and clear_session() are synchronous."""
    store = SpyStore()
    answers: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        manager, session = scope["state"]["session"], scope["session"]
        answers.append((bool(manager), manager.get_session() is session, manager.get_session_id() == session.id))
        if scope["path"] == "/save":
            session["a"] = 1
            assert manager.save_session() is None
        if scope["path"] == "/clear":
            assert manager.clear_session() is None
        await page(status=500 if scope["path"] == "/save" else 200)(scope, receive, send)

    wrapped = wrap(app, store=store)
    answer = await ask(wrapped, "/save")
    assert len(answer.cookies) == 1  # save() covers even a failing answer
    kept = cookie(answer.cookies[0].value)
    assert (await ask(wrap(site, store=store), headers=kept)).json() == {"a": 1}
    answer = await ask(wrapped, "/clear", kept)
    assert [c.value for c in answer.cookies] == [""]
    assert len(store) == 0
    assert answers == [(True, True, True)] * 2


# --- isolation ---


@in_loop
async def test_i1_two_hundred_users_never_meet() -> None:
    """I1: 200 users interleaved at every await see only themselves; the middleware holds nothing of a request."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        session, name = scope["session"], scope["path"]
        assert session.setdefault("name", name) == name
        await asyncio.sleep(0)
        session["count"] = session.get("count", 0) + 1
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(0)
        assert scope["state"]["session"].get_session() is session
        await send({"type": "http.response.body", "body": f"{session['name']} {session['count']}".encode()})

    wrapped = wrap(app)
    before = dict(vars(wrapped))

    async def visit(name: str) -> list[str]:
        kept, texts = [], []
        for _ in range(20):
            answer = await ask(wrapped, name, kept)
            kept = cookie(answer.cookies[0].value) if answer.cookies else kept
            texts.append(answer.text)
        return texts

    names = [f"/{number}" for number in range(200)]
    answers = await asyncio.gather(*map(visit, names))
    assert answers == [[f"{name} {count}" for count in range(1, 21)] for name in names]
    assert vars(wrapped) == before


@in_loop
async def test_i2_two_names_are_two_independent_sessions() -> None:
    """I2: stacked instances with two cookies and keys: each writes, rotates and ends by itself."""
    inner, outer = SpyStore(), SpyStore()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        first, second = scope["session"], scope["admin"]
        if scope["path"] == "/write":
            first["a"], second["b"] = 1, 2
        if scope["path"] == "/logout":
            second.invalidate()
        await page(lambda session: [first, second])(scope, receive, send)

    stack = wrap(wrap(app, store=inner), store=outer, session_cookie="admin", scope_key="admin", session_object="admin")
    browser = Browser(stack)
    answer = await browser.get("/write")
    assert sorted(c.name for c in answer.cookies) == ["admin", "sid"]
    assert answer.all("cache-control") == [b"no-store"]
    assert (await browser.get("/read")).json() == [{"a": 1}, {"b": 2}]
    assert [c.name for c in (await browser.get("/logout")).cookies] == ["admin"]
    assert (await browser.get("/read")).json() == [{"a": 1}, {}]
    assert (len(inner), len(outer)) == (1, 0)


@in_loop
async def test_i2_an_overlap_that_only_requests_show_is_an_error_too() -> None:
    """I2: where a router stands between, the first request tells: the same cookie, or the same scope key."""
    inner = wrap(site)

    async def router(scope: Any, receive: Any, send: Any) -> None:
        await inner(scope, receive, send)

    for options in ({}, {"session_cookie": "b"}, {"scope_key": "b"}):
        outer = FasterSessionMiddleware(router, SECRET, secure=False, **options)
        with pytest.raises(ConfigError, match="applied twice"):
            await ask(outer)
    assert (await ask(wrap(router, session_cookie="b", scope_key="b"))).status == 200
