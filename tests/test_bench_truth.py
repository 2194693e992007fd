"""The truth table says what is so: known answers, and a control against probes that would always say no."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from test_bench import HERE, Forgetful, OneForAll, broken

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench import truth
from bench.app import BrokenPeerError
from bench.floor import FloorMiddleware, FloorSession
from bench.peers import PEERS

NO = {  # what each peer answers with "no", as far as the versions go that bench/requirements.txt pins
    "fastersession": set(),
    "floor": {"logout-stream", "logout-slow", "ws-cookie", "ws-save"},
    "starlette": {"start", "disconnect", "nested", "tabs", "logout-slow", "ws-cookie", "ws-save"},
    "starsessions": {"start", "disconnect", "tabs", "logout-slow", "ws-cookie", "ws-save"},
    "asgi-sessions": {"start", "disconnect", "nested", "tabs", "logout-slow", "ws-cookie", "ws-save"},
    "fastsession": {"logout-stream", "logout-slow", "ws-cookie", "ws-save", "anonymous", "garbage"},
    "litestar": {"start", "disconnect", "tabs", "logout-slow", "ws-cookie", "ws-save", "anonymous"},
    "django": {"start", "disconnect", "nested", "tabs", "ws-cookie", "ws-save"},
}


def said_no(found: dict[str, bool]) -> set[str]:
    assert list(found) == list(truth.FACTS)
    return {fact for fact, kept in found.items() if not kept}


@pytest.mark.parametrize("key", HERE)
def test_the_facts_of_each_peer(key):
    """Every probe finds what this version of the peer does."""
    found = truth.measure([PEERS["bare"], PEERS[key]], SimpleNamespace(), lambda line: None)
    assert list(found) == [key]
    assert said_no(found[key]) == NO[key]


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


def test_a_probe_that_hangs_is_a_no(monkeypatch):
    """It does not hold up the others."""
    monkeypatch.setattr(truth, "DEADLINE", 0.01)
    assert asyncio.run(truth.fact(PEERS["floor"], lambda peer: asyncio.sleep(60))) is False
