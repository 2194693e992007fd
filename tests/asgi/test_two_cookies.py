"""Several of our cookies in one request (SECURITY P4): one live, none, or two."""

from __future__ import annotations

from typing import Any

import pytest
from driver import Browser, in_loop
from routes import content, events, serve, tab
from stores import SpyStore, SuspendingStore

STORES = pytest.mark.parametrize("make", [SpyStore, SuspendingStore])


def header(*browsers: Browser, junk: str = "") -> list[tuple[bytes, bytes]]:
    tokens = [cookie.value for browser in browsers for cookie in browser.jar.values()]
    return [(b"cookie", "; ".join(f"sid={token}" for token in [*filter(None, [junk]), *tokens]).encode())]


@STORES
@in_loop
async def test_p4_two_live_tokens_are_nobody(make: Any, caplog: Any) -> None:
    """P4: with two live sessions in one request neither is used, in any order; one event, no cookie for reading."""
    caplog.set_level("DEBUG", "fastersession")
    app = serve(store=make())
    victim, attacker, both = Browser(app), Browser(app), Browser(app)
    await victim.get("/set?a=1")
    await attacker.get("/set?b=2")
    for pair in ((victim, attacker), (attacker, victim)):
        caplog.clear()
        answer = await both.get("/", headers=header(*pair))
        assert (answer.json(), answer.cookies) == ({}, [])
        assert len(events(caplog)) == 1
    await both.get("/logout", headers=header(victim, attacker))
    assert await content(victim) == {"a": "1"}


@STORES
@pytest.mark.parametrize("dead_first", [True, False])
@pytest.mark.parametrize("twin", ["deleted", "superseded", "junk", "itself"])
@in_loop
async def test_p4_a_dead_twin_hides_nothing(twin: str, dead_first: bool, make: Any) -> None:
    """P4: beside a cookie that is dead, superseded, junk, or the very same, the live one is used."""
    store = make()
    app = serve(store=store)
    live, dead = Browser(app), Browser(app)
    await live.get("/set?a=1")
    if twin == "deleted":
        await dead.get("/set?b=2")
        gone = tab(dead)
        await dead.get("/logout")
        dead = gone
    elif twin == "superseded":
        dead = tab(live)
        await live.get("/login")
    elif twin == "itself":
        dead = live
    pair = (dead, live) if dead_first else (live, dead)
    answer = await Browser(app).get("/", headers=header(*pair, junk="A" * 88 if twin == "junk" else ""))
    assert answer.json()["a"] == "1"
    assert answer.cookies == []
