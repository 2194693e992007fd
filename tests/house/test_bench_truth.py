"""The truth table says what is so: known answers, and a control against probes that would always say no."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import http.cookies
import json
import os
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from test_bench import HERE, Forgetful, OneForAll, broken

from bench import truth, truth_users
from bench.accounts import OURS as KINDS
from bench.app import BrokenPeerError
from bench.floor import FloorMiddleware, FloorSession
from bench.peers import PEERS
from bench.usual import USUAL
from fastersession.engine.watch import Watch
from fastersession.stores.memory.users import UserTable
from fastersession.stores.sqlite import ends

PUBLISHED = json.loads((Path(truth.__file__).parent / "results" / "truth.json").read_text())["truth"]
OURS = {  # what is answered with "no" by what is made here
    "fastersession": set(),
    "floor": {"logout-stream", "logout-slow", "ws-cookie", "ws-save"},
}
CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def said_no(found: dict[str, bool | None]) -> set[str]:
    assert list(found) == list(truth.FACTS)
    return {fact for fact, kept in found.items() if kept is False}


def asked(key: str) -> dict[str, bool | None]:
    """Measure one peer, with warnings and logs silenced, as the command does."""
    found = truth.measure([PEERS["bare"], PEERS[key]], SimpleNamespace(), lambda line: None)
    assert list(found) == [key]
    return found[key]


def patched(self, key, value, coded, _set=http.cookies.Morsel.set):
    """`Morsel.set` with the fix of CVE-2026-0672, which this Python may have or not."""
    if any(CONTROL.search(str(part)) for part in (key, value, coded)):
        raise http.cookies.CookieError("Control characters are not allowed in cookies")
    _set(self, key, value, coded)


@pytest.mark.parametrize("key", OURS)
def test_the_facts_that_are_ours(key):
    """Known answers: what is made here, and so does not change with what is installed."""
    found = asked(key)
    assert said_no(found) == OURS[key]
    assert found == PUBLISHED[key]
    has_none = {"floor": {"logout-socket", *truth_users.FACTS}}
    assert {fact for fact, kept in found.items() if kept is None} == has_none.get(key, set())


@pytest.mark.parametrize("key", [key for key in HERE if key not in OURS])
def test_a_peer_answers_every_question_alike_on_every_python(key, monkeypatch):
    """A whole row, the same whether `http.cookies` is patched; what it says is the affair of the peer's version."""
    before = asked(key)
    said_no(before)
    monkeypatch.setattr(http.cookies.Morsel, "set", patched)
    assert asked(key) == before


def test_garbage_has_no_control_characters():
    """Patched Pythons raise at them, so they would ask for the patch and not for the peer."""
    assert not any(CONTROL.search(cookie.decode("latin-1")) for cookie in truth.GARBAGE)


class Undying(FloorMiddleware):
    """Has no logout."""

    async def __call__(self, scope, receive, send):
        kept = {sid: dict(session) for sid, session in self.data.items()}
        await super().__call__(scope, receive, send)
        for sid, values in kept.items():
            self.data[sid].update(values)


class Hoarding(FloorMiddleware):
    """Stores something for everybody who comes by."""

    async def __call__(self, scope, receive, send):
        self.data[os.urandom(16)] = FloorSession()
        await super().__call__(scope, receive, send)


@pytest.mark.parametrize("kind", [Forgetful, Undying])
def test_a_peer_with_which_nothing_works_is_refused(kind):
    """Its answers would say nothing."""
    with pytest.raises(BrokenPeerError):
        asyncio.run(truth.facts(broken(kind)))


@pytest.mark.parametrize(("kind", "fact"), [(Hoarding, "anonymous"), (OneForAll, "anonymous"), (OneForAll, "garbage")])
def test_a_fault_is_a_no(kind, fact):
    """A probe notices what it is there to notice."""
    assert fact in said_no(asyncio.run(truth.facts(broken(kind))))


def test_a_probe_that_hangs_is_a_no():
    """It does not hold up the others."""
    assert asyncio.run(truth.fact(PEERS["floor"], lambda peer: asyncio.sleep(60), 0.01)) is False


def test_the_usual_way_fails_where_things_happen_at_once():
    """So each probe of users shows that what it asks for can go wrong; and one that sees nothing is refused."""
    asyncio.run(truth_users.control())
    with pytest.raises(BrokenPeerError, match="revoke-logins"):
        asyncio.run(truth_users.control(KINDS[0]))


@pytest.mark.parametrize("kind", [USUAL, KINDS[0]], ids=lambda kind: kind.title)
def test_a_kind_with_which_nothing_works_is_refused(kind):
    """Without a logout, without a revocation, without a limit."""

    async def nothing(*arguments):
        pass

    @contextlib.asynccontextmanager
    async def unlimited(app, clock, limit, closes):
        async with kind.opened(app, clock, None, closes) as house:
            yield house

    @contextlib.asynccontextmanager
    async def irrevocable(app, clock, limit, closes):
        async with kind.opened(app, clock, limit, closes) as house:
            house.revoke = nothing
            yield house

    asyncio.run(truth_users.works(kind))
    for change in ({"logout": nothing}, {"opened": unlimited}, {"opened": irrevocable}):
        with pytest.raises(BrokenPeerError):
            asyncio.run(truth_users.works(dataclasses.replace(kind, **change)))


MEMORY, SQLITE = KINDS[:2]
FAULTS = {  # what is planted, in which store, and what notices
    "no mark": (MEMORY, UserTable, "_is_revoked", lambda *_: False, {"revoke-begun"}),
    "no limit": (MEMORY, UserTable, "_room_for", lambda *_: (), {"limit"}),
    "forgets who is used": (MEMORY, UserTable, "find", lambda *_: [], {"limit", "prune"}),
    "nobody is told": (MEMORY, Watch, "end", lambda *_: None, {"running"}),
    "claims of no duration": (SQLITE, ends, "CLAIM_SECONDS", -1.0, {"expiry"}),
    "ends that stay": (SQLITE, ends, "SETTLE", "DELETE FROM session WHERE id = :id AND 0", {"expiry"}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_a_store_is_a_no(fault, monkeypatch):
    """A probe of users notices what it is there to notice, and the others do not."""
    kind, where, name, planted, notices = FAULTS[fault]
    monkeypatch.setattr(where, name, planted)
    peer = dataclasses.replace(PEERS["fastersession"], users=(kind,))

    async def said():
        return {key for key, (_, probe) in truth_users.FACTS.items() if not await truth.of_users(peer, probe)}

    assert asyncio.run(said()) == notices
