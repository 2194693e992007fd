"""Nothing that opens a session is ever printed: K9 of SECURITY."""

from __future__ import annotations

import asyncio
import binascii
import gc
import logging
import traceback
import warnings
from base64 import b64encode, urlsafe_b64decode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from apps import OTHER, SECRET, Clock, SpyStore, ask, cookie, token_of, wrap
from driver import Browser, in_loop
from stores import shorten

import fastersession
from fastersession import ConfigError, StoreError
from fastersession.asgi.exchange import Exchange
from fastersession.config import Faults
from fastersession.crypto.tokens import KeyRing, subkey
from fastersession.testing import Answer

PACKAGE = str(Path(fastersession.__file__).parent)
THE_SERVERS_OWN = {"scope", "headers"}  # request data that the server's own frames hold too


def spellings(raw: bytes) -> set[str]:
    """How bytes could show up in a text."""
    escaped = repr(raw)[2:-1]
    return {escaped, raw.hex(), raw.hex().upper(), b64encode(raw).decode().rstrip("="), str(list(raw))[1:-1]}


class Forbidden:
    """The texts that must not appear: keys, subkeys, and every token, tag and secret issued."""

    def __init__(self) -> None:
        self.texts: set[str] = set()
        for key in (SECRET.encode(), OTHER.encode()):
            self.texts |= spellings(key)
            for purpose in (b"cookie-mac", b"key-id", b"seal"):
                self.texts |= spellings(subkey(key, purpose, "sid"))

    def issue(self, token: str | bytes) -> None:
        text = token if isinstance(token, str) else token.decode()
        raw = urlsafe_b64decode(text)
        self.texts |= {text} | spellings(raw) | spellings(raw[18:34]) | spellings(raw[34:])

    def found_in(self, *texts: str) -> list[tuple[str, str]]:
        return [(secret, text) for text in texts for secret in self.texts if secret in text]


def shown(error: BaseException | None) -> Iterator[str]:
    """Everything an error reporter with captured locals would send of our frames, through all causes."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield f"{error!r} {error} {error.args!r} {vars(error)!r} {getattr(error, '__notes__', '')!r}"
        report = traceback.TracebackException.from_exception(error, capture_locals=True)
        for frame in report.stack:
            if frame.filename.startswith(PACKAGE):
                yield from (
                    f"{frame.name}: {name}={value}"
                    for name, value in (frame.locals or {}).items()
                    if name not in THE_SERVERS_OWN
                )
        error = error.__cause__ or error.__context__


def logged(records: list[logging.LogRecord]) -> Iterator[str]:
    for record in records:
        yield f"{record.getMessage()} {record.args!r} {vars(record)!r}"
        if record.exc_info:
            yield from shown(record.exc_info[1])


async def late(scope: Any, receive: Any, send: Any) -> None:
    """Do what the path says, then answer; many ways to fail in between."""
    session, path = scope["session"], scope["path"]
    if "/write" in path:
        session["n"] = session.get("n", 0) + 1
    if "/rotate" in path:
        await session.regenerate_id()
    if "/logout" in path:
        session.invalidate()
    if "/save" in path:
        await session.save()
    if "/reload" in path:
        await session.reload()
    if "/crash" in path:
        raise ZeroDivisionError(repr(session), str(session), session.id, f"{scope['state']['session']!r}")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if "/late" in path:
        session["late"] = 1
    if "/establish" in path:
        session.establish()
    if "/again" in path:
        session.regenerate_id()
    if "/broken" in path:
        raise ZeroDivisionError
    await send({"type": "http.response.body", "body": b""})


PATHS = [
    *("/", "/write", "/rotate", "/rotate/write", "/logout", "/write/save", "/reload", "/crash", "/write/crash"),
    *("/late", "/establish", "/again", "/rotate/broken", "/write/broken", "/logout/write", "/rotate/crash"),
]


async def attempt(app: Any, path: str, headers: Any, forbidden: Forbidden) -> tuple[list[str], BaseException | None]:
    """Make one request; return the tokens issued and the error."""
    error = None
    answer = Answer()

    async def send(message: dict[str, Any]) -> None:
        answer.messages.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    scope = {"type": "http", "path": path, "headers": headers, "scheme": "http", "state": {}, "query_string": b""}
    try:
        await app(scope, receive, send)
    except BaseException as caught:
        error = caught
    tokens = [c.value for m in answer.messages[:1] if "headers" in m for c in answer.cookies if c.value]
    for token in tokens:
        forbidden.issue(token)
    return tokens, error


@pytest.mark.parametrize("live", [True, False], ids=["live", "suspending"])
@pytest.mark.parametrize("broken", ["", "load", "create", "update", "touch", "delete", "regenerate"])
@in_loop
async def test_k9_no_flow_shows_a_secret(
    live: bool, broken: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K9: every flow, with each store verb failing, at DEBUG: no token, secret or key in logs, errors, or locals."""
    shorten(monkeypatch, FLUSH_PAUSES=(0.0,))
    caplog.set_level(logging.DEBUG)
    forbidden, clock, errors = Forbidden(), Clock(), []
    store = SpyStore(live=live, clock=clock)
    app = wrap(late, store=store, secret_key=[SECRET, OTHER])
    for path in PATHS:
        store.broken = set()
        token = await token_of(app, "/write")
        forbidden.issue(token)
        clock.now += 10_000  # so that a touch is due
        store.broken = {broken}
        forged = token[:-2] + ("AA" if token[-2:] != "AA" else "BB")
        forbidden.issue(forged)
        for headers in (cookie(token), [], cookie(forged), cookie(token, forged), cookie("junk")):
            _, error = await attempt(app, path, headers, forbidden)
            errors.append(error)
    gc.collect()
    texts = [*logged(caplog.records), *(text for error in errors for text in shown(error)), caplog.text]
    assert forbidden.found_in(*texts) == []
    assert [error for error in errors if error is not None]


@pytest.mark.parametrize("record", ["no record", object()])
@in_loop
async def test_k9_a_store_that_gives_no_record_shows_no_secret(record: Any) -> None:
    """K9: a 503, as for any failure of the store."""
    store = SpyStore()
    store.live.load = lambda _: record
    forbidden, app = Forbidden(), wrap(late, store=store)
    token = await token_of(app, "/write")
    forbidden.issue(token)
    with pytest.raises(StoreError) as caught:
        app._loader.open_now(Exchange(), [token.encode()])
    assert forbidden.found_in(*shown(caught.value)) == []
    assert (await ask(app, headers=cookie(token))).status == 503


@in_loop
async def test_k9_an_applications_failure_shows_no_secret_of_ours() -> None:
    """K9: a handler that raises in the middle of a stream, with the whole chain of our frames captured."""
    forbidden = Forbidden()
    app = wrap(late)
    browser = Browser(app)
    await browser.get("/write")
    forbidden.issue(browser.jar["sid"].value)
    for path in ("/crash", "/write/broken"):
        answer = await browser.get(path, catch=True)
        assert isinstance(answer.error, ZeroDivisionError)
        assert forbidden.found_in(*shown(answer.error)) == []


class HangingStore(SpyStore):
    """A store elsewhere whose verbs wait for ever where told."""

    def __init__(self) -> None:
        super().__init__(live=False)
        self.reached = asyncio.Event()

    async def load(self, *args: Any) -> Any:
        return await self._hang("load", super().load(*args))

    async def create(self, *args: Any) -> Any:
        return await self._hang("create", super().create(*args))

    async def _hang(self, verb: str, call: Any) -> Any:
        if verb not in self.broken:
            return await call
        call.close()
        self.reached.set()
        return await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize("verb", ["load", "create"])
@in_loop
async def test_k9_a_cancelled_request_shows_no_secret(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """K9: the traceback of a CancelledError, or of what a time-out became, goes through our frames like any other."""
    shorten(monkeypatch, STORE_SECONDS=0.01)
    forbidden, store = Forbidden(), HangingStore()
    app = wrap(late, store=store)
    token = await token_of(app, "/write")
    forbidden.issue(token)
    store.broken = {verb}
    headers = cookie(token) if verb == "load" else []
    task = asyncio.ensure_future(attempt(app, "/write", headers, forbidden))
    await store.reached.wait()
    task.cancel()
    _, error = await task
    assert isinstance(error, asyncio.CancelledError)
    assert any("__call__: " in text for text in shown(error))
    assert forbidden.found_in(*shown(error)) == []


@in_loop
async def test_k9_nothing_has_a_telling_repr() -> None:
    """K9: repr, str, format and vars of what an application or a debugger holds of a running request."""
    forbidden, seen = Forbidden(), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        session, manager = scope["session"], scope["state"]["session"]
        session["n"] = "a value"
        seen.extend(f"{thing!r} {thing!s}" for thing in (session, manager, session.save(), scope, wrapped))
        await late(scope, receive, send)

    wrapped = wrap(app)
    token = await token_of(wrapped, "/")
    forbidden.issue(token)
    assert forbidden.found_in(*seen) == []
    assert not any("a value" in text for text in seen if text.startswith("<Session"))
    assert forbidden.found_in(repr(KeyRing([SECRET.encode()], "sid")), repr(vars(wrapped))) == []


FAULTY: list[dict[str, Any]] = [
    {"path": "x"},
    {"secret_key": [SECRET, ""]},
    {"secret_key": [SECRET] * 5},
    {"secret_key": [SECRET, 1]},
    {"secret_key": (SECRET,), "domain": "a b", "same_site": "x"},
    {"store": object()},
    {"idle_timeout": 0},
    {"exclude": ["x"]},
]


@pytest.mark.parametrize("options", FAULTY, ids="-".join)
def test_k9_a_config_error_shows_no_key(options: dict[str, Any]) -> None:
    """K9: neither its text nor the locals of our frames, which a crash reporter sends at a failing start."""
    with pytest.raises(ConfigError) as caught:
        wrap(late, **options)
    assert Forbidden().found_in(*shown(caught.value)) == []


def test_k9_an_error_for_being_applied_twice_shows_no_key() -> None:
    """K9: also when everything else was already made."""
    with pytest.raises(ConfigError) as caught:
        wrap(wrap(late))
    assert Forbidden().found_in(*shown(caught.value)) == []


def test_k9_a_warning_that_is_an_error_shows_no_key() -> None:
    """K9: with warnings as errors, the construction itself raises from our frames."""
    key = SECRET[:20]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning) as caught:
            wrap(late, secret_key=key)
    assert not [text for text in shown(caught.value) if key in text]


def test_k9_a_collector_of_faults_keeps_no_key() -> None:
    """K9: what checks the arguments does not hold on to them."""
    faults = Faults()
    faults.secret_keys([SECRET, OTHER])
    assert Forbidden().found_in(repr(vars(faults))) == []


def test_k9_the_search_itself_finds() -> None:
    """K9: the search above is no tautology: a planted token, key, and secret in a local are found."""
    forbidden = Forbidden()
    token = b64encode(bytes(range(66))).decode()
    forbidden.issue(token)
    raw = binascii.a2b_base64(token)
    plant: Callable[[Any], str] = lambda value: f"x={value!r}"  # noqa: E731
    for value in (
        token,
        raw,
        raw[18:34],
        raw[18:34].hex(),
        SECRET,
        SECRET.encode(),
        subkey(SECRET.encode(), b"seal", "sid"),
    ):
        assert forbidden.found_in(plant(value))
