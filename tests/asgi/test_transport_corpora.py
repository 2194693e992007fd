"""The corpora of tokens and of bad cookies once more, in the header: K3, K3b, K7, K8, P1 and P7 to P9 of SECURITY."""

from __future__ import annotations

import itertools
import logging
import pickle
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

import pytest
from apps import OTHER, SECRET, SpyStore, ask, cookie, site, wrap
from driver import in_loop
from test_reading_cookies import BAD_COOKIES, CODECS, FOREIGN_KEY, MARKER, RING, ROUTES, UNKNOWN
from test_transport import BOTH, EMPTY, HEADER, NAME, bearing, begun, shown

from fastersession.crypto.tokens import Ticket
from fastersession.testing import Answer

WAYS = pytest.mark.parametrize("transport", [BOTH, HEADER], ids=["both", "header"])
BITS = 66 * 8


def shape(answer: Answer) -> Any:
    """Return what came back, with the random token taken out."""
    text = repr(answer.messages)
    for token in filter(None, shown(answer)):
        text = text.replace(repr(token), "TOKEN")
    return answer.error, answer.cookies, text


@WAYS
@pytest.mark.parametrize("value", BAD_COOKIES.values(), ids=BAD_COOKIES)
@in_loop
async def test_u10_p1_bad_values_are_the_same_as_an_empty_one(value: bytes, transport: Any) -> None:
    """U10, P1: byte for byte the answer, and the same store calls."""
    for route in ROUTES:
        store, reference = SpyStore(), SpyStore()
        answer = await ask(wrap(site, store=store, transport=transport), route, bearing(value))
        expected = await ask(wrap(site, store=reference, transport=transport), route, EMPTY)
        assert shape(answer) == shape(expected)
        assert store.calls == reference.calls
        assert "load" not in store.calls


@WAYS
@pytest.mark.parametrize("value", CODECS.values(), ids=CODECS)
@in_loop
async def test_u10_k8_no_other_format_is_tried(value: bytes, transport: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """U10, K8: raw JSON, pickle and signed cookies of others are no session."""
    called: list[str] = []
    for name in ("pickle.loads", "pickle.load", "pickle.Unpickler", "json.loads"):
        monkeypatch.setattr(name, lambda *args, name=name, **kwargs: called.append(name))
    assert pickle.loads(b"") is None
    assert called == ["pickle.loads"]
    store = SpyStore()
    answer = await ask(wrap(site, store=store, transport=transport), headers=bearing(value))
    assert (answer.body, shown(answer), answer.cookies, store.calls, called[1:]) == (b"{}", [], [], [], [])


@WAYS
@in_loop
async def test_u10_k3_every_bit_counts(transport: Any) -> None:
    """U10, K3: a live token with any one bit flipped opens nothing, and the store is not asked."""
    store = SpyStore()
    app = wrap(site, store=store, transport=transport)
    token = await begun(app)
    raw = urlsafe_b64decode(token)
    store.calls.clear()
    for bit in range(BITS):
        flipped = raw[: bit // 8] + bytes([raw[bit // 8] ^ 1 << bit % 8]) + raw[bit // 8 + 1 :]
        assert (await ask(app, headers=bearing(urlsafe_b64encode(flipped)))).json() == {}
    assert store.calls == []
    assert (await ask(app, headers=bearing(token))).json() == {"name": "alice"}


@in_loop
async def test_u10_k3b_a_right_id_with_a_wrong_secret_is_anonymous() -> None:
    """U10, K3b: another session's secret opens nothing and changes nothing."""
    app = wrap(site, transport=BOTH)
    tokens = [await begun(app), await begun(app, "/write?name=mallory")]
    one, other = (RING.unsign(token) for token in tokens)
    assert one is not None
    assert other is not None
    for wrong in (Ticket(one.record_id, other.secret), Ticket(other.record_id, one.secret)):
        for route in ROUTES:
            answer = await ask(app, route, bearing(RING.sign(wrong)))
            assert b"alice" not in answer.body
            assert b"mallory" not in answer.body
    assert [(await ask(app, headers=bearing(token))).json()["name"] for token in tokens] == ["alice", "mallory"]


@in_loop
async def test_u10_k7_keys_change_as_for_cookies() -> None:
    """U10, K7: the old key's token is accepted while the key is listed, without a store call when it is not."""
    store = SpyStore()
    old = await begun(wrap(site, store=store, transport=BOTH))
    both = wrap(site, store=store, transport=BOTH, secret_key=[OTHER, SECRET])
    answer = await ask(both, "/write?seen=yes", bearing(old))
    assert (answer.json(), shown(answer)) == ({"name": "alice", "seen": "yes"}, [])
    store.calls.clear()
    alone = wrap(site, store=store, transport=BOTH, secret_key=OTHER)
    assert (await ask(alone, headers=bearing(old))).json() == {}
    assert store.calls == []


@WAYS
@in_loop
async def test_u10_p7_any_byte_anywhere(transport: Any) -> None:
    """U10, P7: each of 256 values in each position of a live token, replaced and inserted: no error, no session."""
    app = wrap(site, transport=transport)
    token = await begun(app)
    for at, byte in itertools.product(range(len(token) + 1), range(256)):
        for value in (token[:at] + bytes([byte]) + token[at:], token[:at] + bytes([byte]) + token[at + 1 :]):
            answer = await ask(app, headers=bearing(value))
            assert answer.status == 200
            assert answer.json() == ({"name": "alice"} if value == token else {})


@WAYS
@in_loop
async def test_u10_p8_no_request_byte_reaches_a_response_header(transport: Any) -> None:
    """U10, P8: a marker beside, in and around the token shows up in no header of ours, in no outcome."""
    for broken, is_live in itertools.product((set(), {"load"}, {"create"}), (True, False)):
        store = SpyStore(live=is_live)
        app = wrap(site, store=store, transport=transport)
        token = await begun(app)
        store.broken = broken
        sent = [[], [token], [UNKNOWN], [MARKER], [MARKER + token], [token + MARKER], [token, MARKER]]
        for route, values in itertools.product(ROUTES, sent):
            headers = [*bearing(*values), *cookie(MARKER), (NAME + MARKER.lower(), MARKER), (b"vary", MARKER)]
            answer = await ask(app, route, headers)
            assert MARKER not in repr(answer.headers).encode()
            assert token not in [value for name, value in answer.headers if name != NAME]


@WAYS
@in_loop
async def test_u10_p9_a_flood_of_bad_values_fills_no_log(transport: Any, caplog: pytest.LogCaptureFixture) -> None:
    """U10, P9: one record a request at most, ten a minute and kind, at DEBUG, without a byte of what came."""
    caplog.set_level(logging.DEBUG, "fastersession")
    app = wrap(site, transport=transport)
    kinds = [bad for bad in BAD_COOKIES.values() if bad != FOREIGN_KEY]
    for bad in kinds:
        before = len(caplog.records)
        await ask(wrap(site, transport=transport), headers=bearing(bad))
        assert len(caplog.records) - before == (bad != b"")
        assert bad[:20] == b"" or bad[:20].decode("latin-1") not in caplog.text
    caplog.clear()
    minute = time.monotonic() // 60
    for index in range(1000):
        assert (await ask(app, headers=bearing(*[kinds[index % len(kinds)]] * 50))).status == 200
    minutes = time.monotonic() // 60 - minute + 1
    assert 1 <= len(caplog.records) <= 11 * minutes
    assert {record.levelno for record in caplog.records} == {logging.DEBUG}
