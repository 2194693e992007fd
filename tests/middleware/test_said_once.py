"""What a deployment is told at the right moment, once: several keys, several memory stores."""

from __future__ import annotations

import asyncio
import base64
import gc
import logging
import sys
from typing import Any

import pytest
from apps import SpyStore, ask, cookie, site, talk, token_of
from driver import Browser, in_loop
from stores import SuspendingStore

from fastersession import FasterSessionMiddleware, MemoryStore

KEY = "a key of the tests of what is said once, used nowhere else"
OTHER = "another key of the tests of what is said once, never first"


def ours(app: Any = site, **options: Any) -> FasterSessionMiddleware:
    return FasterSessionMiddleware(app, **{"secret_key": KEY, "secure": False, **options})


def said(caplog: pytest.LogCaptureFixture, event: str) -> list[logging.LogRecord]:
    return [record for record in caplog.records if getattr(record, "event", None) == event]


# --- a token that no key verifies ---


@pytest.mark.parametrize("make", [MemoryStore, SuspendingStore, lambda: SpyStore(live=False)])
@pytest.mark.parametrize("beside", [b"", b"junk", b"a" * 88])
@in_loop
async def test_a_token_of_another_key_is_told_once(make: Any, beside: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Workers that do not share a key log their users out: one WARNING, whoever sends how many such cookies."""
    caplog.set_level(logging.DEBUG)
    token = (await token_of(ours(secret_key=OTHER))).encode()
    app = ours(store=make())
    headers = cookie(token, beside) if beside else cookie(token)
    for number in range(20):
        assert (await ask(app, headers=headers)).json() == {}
        if number == 0:  # at most one record a request
            assert [record.event for record in caplog.records] == ["cookie.other_key"]  # type: ignore[attr-defined]
    (record,) = said(caplog, "cookie.other_key")
    assert record.levelname == "WARNING"
    assert "every worker needs the same secret_key" in record.getMessage()
    assert len(said(caplog, "cookie.rejected")) >= 10  # the others, as many as a minute shows
    assert token.decode() not in caplog.text


@in_loop
async def test_on_a_websocket_too(caplog: pytest.LogCaptureFixture) -> None:
    """A chat may have nothing but sockets."""
    token = await token_of(ours(secret_key=OTHER))
    app = ours(talk)
    for _ in range(2):
        browser = Browser(app)
        async with browser.websocket("/", headers=cookie(token)):
            pass
    assert len(said(caplog, "cookie.other_key")) == 1


def forms() -> list[bytes]:
    """Values that are no token by their form: length, alphabet, version."""
    genuine = base64.urlsafe_b64encode(b"\1" + b"x" * 65)
    wrong = [genuine[:-1], genuine + b"A", b"+" + genuine[1:], genuine[:-1] + b"=", genuine[:40] + b"." + genuine[41:]]
    wrong += [genuine[:40] + b"...." + genuine[44:], genuine[:80] + b"~" * 8]
    return [
        *wrong,
        *(base64.urlsafe_b64encode(bytes([version]) + b"x" * 65) for version in (0, 2, 255)),
        b"",
        b"x" * 88,
    ]


@pytest.mark.parametrize("value", forms())
@in_loop
async def test_what_has_not_the_form_of_a_token_is_not_told(value: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Junk is DEBUG, as before; then a token of another key is told all the same."""
    app = ours()
    await ask(app, headers=cookie(value))
    assert said(caplog, "cookie.other_key") == []
    await ask(app, headers=cookie(base64.urlsafe_b64encode(b"\1" + b"x" * 65)))
    assert len(said(caplog, "cookie.other_key")) == 1


@in_loop
async def test_a_rotated_key_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    """Who keeps the old key behind the new one reads nothing; nor does a genuine cookie beside another's."""
    store = MemoryStore()
    token = await token_of(ours(secret_key=OTHER, store=store))
    app = ours(secret_key=[KEY, OTHER], store=store)
    assert (await ask(app, headers=cookie(token))).json() == {"name": "alice"}
    stranger = await token_of(ours(secret_key="k3y of a stranger, of another application on localhost"))
    assert (await ask(app, headers=cookie(token, stranger))).json() == {"name": "alice"}
    assert said(caplog, "cookie.other_key") == []


@in_loop
async def test_p9_a_flood_of_such_cookies_is_eleven_records(caplog: pytest.LogCaptureFixture) -> None:
    """P9: anybody can make values of that form: one WARNING and the ten DEBUG records of a minute, whatever comes."""
    caplog.set_level(logging.DEBUG)
    app = ours()
    forged = [base64.urlsafe_b64encode(b"\1" + number.to_bytes(65, "big")) for number in range(200)]
    for number in range(200):
        await ask(app, headers=cookie(*(forged[number:] + forged)[:4]))
    assert len(caplog.records) <= 12  # a minute may begin meanwhile: its ten are counted from there
    assert len(said(caplog, "cookie.other_key")) == 1


# --- several memory stores ---


@in_loop
async def test_two_middlewares_with_a_memory_store_each_are_told(caplog: pytest.LogCaptureFixture) -> None:
    """One secret, no `store=`: what one has made the other cannot find, and says why, once."""
    one, two = ours(), ours()
    token = await token_of(one)
    for _ in range(3):
        assert (await ask(two, headers=cookie(token))).json() == {}
    (record,) = said(caplog, "store.not_shared")
    assert record.levelname == "WARNING"
    assert "one store to all middlewares" in record.getMessage()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"secret_key": [OTHER, KEY]}, True),  # its own are signed by another key, which is not known here
        ({"secret_key": [KEY, OTHER]}, True),
        ({"secret_key": OTHER}, False),
        ({"session_cookie": "other"}, False),
        ({"store": SuspendingStore()}, False),
        ({"store": "memory://"}, True),
    ],
)
@in_loop
async def test_only_a_store_that_can_have_made_the_session_counts(
    options: dict[str, Any], told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A session that has expired is no sign of anything beside a middleware whose cookies are not genuine here."""
    app = ours(secret_key=[KEY, OTHER] if "secret_key" in options and isinstance(options["secret_key"], list) else KEY)
    other = ours(**options)
    await ask(app, headers=cookie(await token_of(ours(store=MemoryStore()))))
    assert (len(said(caplog, "store.not_shared")) == 1) == told
    assert other is not None


@in_loop
async def test_one_store_for_all_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    """As Litestar, which makes a middleware for each route, needs it: a logged-out cookie says nothing then."""
    store = MemoryStore()
    apps = [ours(store=store) for _ in range(3)]
    token = await token_of(apps[0])
    await ask(apps[1], "/logout", cookie(token))
    assert (await ask(apps[2], headers=cookie(token))).json() == {}
    assert said(caplog, "store.not_shared") == []


@in_loop
async def test_middlewares_that_are_gone_are_not_kept(caplog: pytest.LogCaptureFixture) -> None:
    """Only what lives counts, and the process keeps none of it alive."""
    one = ours()
    token = await token_of(one)
    store = one._engine.calls.store
    del one
    gc.collect()
    assert [holder for holder in gc.get_referrers(store) if isinstance(holder, dict)] == []
    assert (await ask(ours(), headers=cookie(token))).json() == {}
    assert said(caplog, "store.not_shared") == []


@in_loop
async def test_middlewares_may_be_made_meanwhile(caplog: pytest.LogCaptureFixture) -> None:
    """A thread that makes middlewares while another looks for one disturbs nobody."""
    token = await token_of(ours(secret_key=KEY))
    app, made = ours(), [ours(session_cookie="elsewhere") for _ in range(50)]

    def make() -> None:
        made.extend(ours(session_cookie="elsewhere") for _ in range(200))

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        making = asyncio.ensure_future(asyncio.to_thread(make))
        while not making.done():
            assert (await ask(app, headers=cookie(token))).status == 200
            await asyncio.sleep(0)
        await making
    finally:
        sys.setswitchinterval(before)
    assert len(made) == 250
