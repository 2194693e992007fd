"""Bad and odd cookies through the whole middleware: P1, P2, P5 to P9 and K8 of SECURITY."""

from __future__ import annotations

import itertools
import logging
import pickle
import time
from base64 import urlsafe_b64encode
from typing import Any

import pytest
from apps import OTHER, SECRET, Clock, SpyStore, ask, cookie, page, site, token_of, wrap
from driver import in_loop
from hypothesis import given, settings
from hypothesis import strategies as st

from fastersession import MemoryStore
from fastersession.crypto.tokens import KeyRing, Ticket
from fastersession.events import CookieRejected, SessionUnknown
from fastersession.log import EventLog
from fastersession.testing import Answer

RING = KeyRing([SECRET.encode()], "sid")
UNKNOWN = RING.sign(Ticket(bytes(16), bytes(16)))
FOREIGN_KEY = KeyRing([OTHER.encode()], "sid").sign(Ticket(bytes(16), bytes(16)))

BAD_COOKIES = {
    "empty": b"",
    "junk": b"junk",
    "truncated": UNKNOWN[:-1],
    "extended": UNKNOWN + b"A",
    "forged": UNKNOWN[:-1] + b"!",
    "other tag": UNKNOWN[:-4] + b"AAAA",
    "other key": FOREIGN_KEY,
    "other cookie": KeyRing([SECRET.encode()], "sid2").sign(Ticket(bytes(16), bytes(16))),
    "other version": b"Ag" + UNKNOWN[2:],
    "zeros": b"\0" * 88,
    "high": b"\xff" * 88,
    "oversized": b"x" * 70_000,
    "many": b"; sid=".join([b"x"] * 5_000),
}
ROUTES = ["/read", "/write?name=bob", "/logout", "/establish", "/login?name=bob", "/plain"]


def shape(answer: Answer) -> Any:
    """Return what came back, with the random part of the tokens taken out."""
    tokens = [c.value.encode() for c in answer.cookies if c.value]
    text = repr(answer.messages)
    for token in tokens:
        text = text.replace(token.decode(), "TOKEN")
    return answer.error, text


@pytest.mark.parametrize("value", BAD_COOKIES.values(), ids=BAD_COOKIES)
@in_loop
async def test_p1_bad_cookies_are_the_same_as_none(value: bytes) -> None:
    """P1: byte for byte the answer of a request without a cookie, and the same store calls."""
    for route in ROUTES:
        store, reference = SpyStore(), SpyStore()
        answer = await ask(wrap(site, store=store), route, cookie(value))
        expected = await ask(wrap(site, store=reference), route)
        assert shape(answer) == shape(expected)
        assert store.calls == reference.calls
        assert "load" not in store.calls


class Refusing:
    """A mixin that lets nobody in, as one that checks a licence or a tenant would."""

    async def load(self, record_id: bytes) -> None:
        return None


class RefusingStore(Refusing, MemoryStore):
    """The mixin's verb stands before the store's own."""


@in_loop
async def test_p1_a_stores_own_verbs_are_always_called() -> None:
    """P1: a verb that a subclass overrides, itself or by a mixin, is the one that decides."""
    app = wrap(site, store=RefusingStore())
    token = await token_of(app)
    assert (await ask(app, headers=cookie(token))).json() == {}


def _pickle() -> bytes:
    class Trap:
        def __reduce__(self) -> Any:
            return print, ("owned",)

    return pickle.dumps(Trap())


CODECS = {
    "json": b'{"name": "mallory"}',
    "json in base64": urlsafe_b64encode(b'{"name": "mallory"}'),
    "starlette": urlsafe_b64encode(b'{"name": "mallory"}') + b".aGVsbG8.c2lnbmF0dXJlc2lnbmF0dXJlc2lnbmF0dXI",
    "flask": b"eyJuYW1lIjoibWFsbG9yeSJ9.ZnRlcg.c2lnbmF0dXJlc2lnbmF0dXJlc2lnbmF0dXI",
    "django": b"session:1tTtTt:c2lnbmF0dXJlc2lnbmF0dXJlc2lnbmF0dXI",
    "jwt none": b"eyJhbGciOiJub25lIn0.eyJuYW1lIjoibWFsbG9yeSJ9.",
    "pickle": _pickle(),
    "pickle in base64": urlsafe_b64encode(_pickle()),
    "pickle of a token's length": urlsafe_b64encode(_pickle().ljust(66, b".")),
    "uuid": b"123e4567-e89b-42d3-a456-426614174000",
    "named algorithm": b"none$" + UNKNOWN,
}


@pytest.mark.parametrize("value", CODECS.values(), ids=CODECS)
@in_loop
async def test_k8_no_other_format_is_tried(value: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """K8: raw JSON, pickle and signed cookies of others are no session; nothing is deserialised, no store asked."""
    called: list[str] = []
    for name in ("loads", "load", "Unpickler"):
        monkeypatch.setattr(pickle, name, lambda *args, **kwargs: called.append("pickle"))
    monkeypatch.setattr("json.loads", lambda *args, **kwargs: called.append("json"))
    store = SpyStore()
    answer = await ask(wrap(site, store=store), headers=cookie(value))
    assert (answer.body, answer.cookies, store.calls, called) == (b"{}", [], [], [])


@in_loop
async def test_p2_over_64_kib_of_cookies_are_ignored_with_one_event(caplog: pytest.LogCaptureFixture) -> None:
    """P2: the limit is exact, counts all Cookie fields, and is said once at DEBUG; no store is asked."""
    caplog.set_level(logging.DEBUG, "fastersession")
    store = SpyStore()
    app = wrap(site, store=store)
    token = await token_of(app)
    mine = cookie(token)[0]
    rest = 64 * 1024 - len(mine[1])
    assert (await ask(app, headers=[(b"cookie", b"a" * rest), mine])).json() == {"name": "alice"}
    store.calls.clear()
    for headers in ([(b"cookie", b"a" * rest + b"a"), mine], [mine, *[(b"cookie", b"a" * 1000)] * 66]):
        caplog.clear()
        answer = await ask(app, headers=headers)
        assert (answer.json(), answer.cookies, store.calls) == ({}, [], [])
        assert [record.levelno for record in caplog.records] == [logging.DEBUG]
        assert "64 KiB" in caplog.text


@in_loop
async def test_p5_the_session_is_found_in_any_of_fifty_fields() -> None:
    """P5: 1 to 50 Cookie fields (HTTP/2 splits them), ours in each position."""
    app = wrap(site)
    token = await token_of(app)
    for count in range(1, 51):
        for position in range(count):
            headers = [(b"cookie", b"a=%d" % n) for n in range(count)]
            headers[position] = cookie(token)[0]
            assert (await ask(app, headers=headers)).json() == {"name": "alice"}


@in_loop
async def test_p6_the_name_is_matched_exactly() -> None:
    """P6: a spoofed name opens no session, even with a live token behind it."""
    app = wrap(site)
    token = (await token_of(app)).encode()
    for name in (
        b"SID",
        b"%73id",
        b'"sid"',
        b"sid ",
        b"=sid",
        b"",
        b"__Host-sid",
        b"a=b,sid",
        b"\0sid",
        b"\nsid",
        b"$sid",
    ):
        assert (await ask(app, headers=cookie(token, name=name))).json() == {}
    for before in (b"a=1;", b"a=1; ", b"a=1;\t \t", b";", b" ", b"a[x]=1; ", b'a="; b="; ', b"\xff\x00; "):
        assert (await ask(app, headers=[(b"cookie", before + b"sid=" + token)])).json() == {"name": "alice"}


@in_loop
async def test_p7_any_byte_anywhere() -> None:
    """P7: each of 256 values in each position of a genuine Cookie field, replaced and inserted: no error, no 500."""
    app = wrap(site)
    token = (await token_of(app)).encode()
    line = b"sid=" + token
    for at, byte in itertools.product(range(len(line) + 1), range(256)):
        for value in (line[:at] + bytes([byte]) + line[at:], line[:at] + bytes([byte]) + line[at + 1 :]):
            answer = await ask(app, headers=[(b"cookie", value)])
            stripped = [part.strip(b" \t") for part in value.split(b";")]
            assert answer.status == 200
            assert answer.json() == ({"name": "alice"} if line in stripped else {})


@settings(max_examples=200)
@given(st.lists(st.tuples(st.sampled_from([b"cookie", b"host", b"origin", b"x"]), st.binary(max_size=99)), max_size=6))
def test_p7_arbitrary_headers(headers: list[tuple[bytes, bytes]]) -> None:
    """P7: any bytes in any header, of http and of a WebSocket's handshake: no exception."""

    # Invariant: arbitrary headers hold no live token, so the answer is that of an anonymous request.
    @in_loop
    async def check() -> None:
        assert (await ask(wrap(site), headers=headers)).json() == {}
        assert (await ask(wrap(page(dict)), headers=headers, type="websocket", scheme="ws")).json() == {}

    check()


MARKER = b"TAINTxTAINT"


@in_loop
async def test_p8_no_request_byte_reaches_a_response_header() -> None:
    """P8: a marker in every place of a request shows up in no header of ours, in no outcome."""
    headers = [
        *((name, MARKER) for name in (b"host", b"origin", b"referer", b"x-forwarded-host", MARKER, b"vary")),
        *cookie(MARKER, UNKNOWN + MARKER, MARKER + UNKNOWN),
        (b"cookie", MARKER + b"=" + MARKER),
    ]
    extra = {"root_path": "/" + MARKER.decode(), "client": (MARKER.decode(), 1), "server": (MARKER.decode(), 1)}
    for broken, is_live in itertools.product((set(), {"load"}, {"create"}), (True, False)):
        store = SpyStore(live=is_live)
        app = wrap(site, store=store)
        live = cookie(await token_of(app))
        store.broken = broken
        for route, credentials in itertools.product(ROUTES, ([], live, cookie(UNKNOWN))):
            name, _, query = route.partition("?")
            target = f"{name}?{query}{MARKER.decode()}"
            answer = await ask(app, target, [*headers, *credentials], **extra)
            assert MARKER not in repr(answer.headers).encode()


@in_loop
async def test_p9_a_flood_of_bad_cookies_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    """P9: 1,000 bad cookies in each of 1,000 requests: at most 11 records a minute, at DEBUG."""
    caplog.set_level(logging.DEBUG, "fastersession")
    app = wrap(site)
    kinds = [b"; ".join([b"sid=" + bad] * 1000) for bad in (b"", b"junk", b"!" * 50)] + [
        cookie(FOREIGN_KEY)[0][1] * 700
    ]
    minute = time.monotonic() // 60
    for index in range(1000):
        assert (await ask(app, headers=[(b"cookie", kinds[index % 4])])).status == 200
    minutes = time.monotonic() // 60 - minute + 1
    assert 1 <= len(caplog.records) <= 11 * minutes
    assert {record.levelno for record in caplog.records} == {logging.DEBUG}


def test_p9_the_limit_is_a_minutes() -> None:
    """P9: ten records a minute, whatever the event; the next minute has ten more; nothing below DEBUG's level."""
    clock, records = Clock(0.0), []
    logger = logging.Logger("flood", logging.DEBUG)
    logger.addFilter(lambda record: records.append(record) or False)  # type: ignore[func-returns-value]
    log = EventLog(logger, clock)
    for minute in (1, 2, 3):
        clock.now = minute * 60.0
        for _ in range(1000):
            log.tell(CookieRejected())
            log.tell(SessionUnknown())
        assert len(records) == 10 * minute
    quiet = logging.Logger("quiet", logging.INFO)
    quiet.addFilter(lambda record: records.append(record) or False)  # type: ignore[func-returns-value]
    EventLog(quiet, clock).tell(CookieRejected())
    assert len(records) == 30


@in_loop
async def test_p9_one_request_logs_one_event(caplog: pytest.LogCaptureFixture) -> None:
    """P9: however many bad cookies a request has, it is one record, without a byte of them."""
    caplog.set_level(logging.DEBUG, "fastersession")
    for bad in BAD_COOKIES.values():
        caplog.clear()
        await ask(wrap(site), headers=cookie(bad))
        assert len(caplog.records) == 1
        assert bad[:20] == b"" or bad[:20].decode("latin-1") not in caplog.text
