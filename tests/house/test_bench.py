"""The benchmark measures what it says: each case runs on each peer, and refuses a peer that does not do the work."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import json
import subprocess
import sys
from collections.abc import Iterator
from operator import itemgetter

import pytest
from paths import ROOT

from bench import inprocess, profile, report, results, scale
from bench.app import BrokenPeerError
from bench.cases import CASES
from bench.checks import checks
from bench.floor import FloorMiddleware, FloorSession
from bench.peers import PEERS, Peer, pick

# Django's settings are those of the process, which other tests have configured: it is measured in one of its own.
HERE = [peer.key for peer in pick()[0] if not peer.bare and peer.key != "django"]

COOKIE = (b"set-cookie", b"session=" + b"0" * 96)


@pytest.fixture(autouse=True, scope="module")
def _frozen() -> Iterator[None]:
    """Keep frozen what was, which each measurement would look through; let go of what they froze, at the end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gc, "unfreeze", lambda: None)
        yield
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def measure(*peers: Peer, cases=tuple(CASES)):
    job = inprocess.compare(peers, [CASES[key] for key in cases], 1, 1e-6, lambda line: None)
    return asyncio.run(job)


@pytest.mark.parametrize("key", HERE)
def test_every_case_runs_on_every_peer(key):
    """A handful of requests of each case, verified before and after, beside the app without sessions."""
    found = measure(*pick([key])[0])
    assert list(found) == list(CASES)
    assert {case for case in CASES if found[case]["peers"][key] is None} == PEERS[key].lacks & set(CASES)


@pytest.mark.parametrize(("key", "case"), [(key, case) for key in HERE for case in PEERS[key].lacks & set(CASES)])
def test_a_peer_says_no_only_to_what_it_cannot_do(key, case):
    """What is not timed because a peer lacks it fails when it is tried."""
    with pytest.raises((BrokenPeerError, KeyError)):
        measure(*pick([])[0], dataclasses.replace(PEERS[key], lacks=frozenset()), cases=[case])


class Forgetful(FloorMiddleware):
    """Signs and sends, and keeps nothing."""

    data = property(lambda self: {}, lambda self, value: None)


class Twice(FloorMiddleware):
    """Saves what nobody asked it to save."""

    async def __call__(self, scope, receive, send):
        await super().__call__(scope, receive, send)
        if "n" in scope["session"]:
            scope["session"]["n"] += 1


class OneForAll(FloorMiddleware):
    """Gives everybody, forged cookies too, the first session that it made."""

    async def __call__(self, scope, receive, send):
        scope["session"] = next(iter(self.data.values()), None) or FloorSession()
        if not self.data:
            return await super().__call__(scope, receive, send)
        return await self.app(scope, receive, send)


class Chatty(FloorMiddleware):
    """Sets a cookie for visitors without a session."""

    async def __call__(self, scope, receive, send):
        async def told(message):
            message.get("headers", []).append(COOKIE)
            await send(message)

        await super().__call__(scope, receive, told)


class Swallowing(FloorMiddleware):
    """Loses one message of a stream."""

    async def __call__(self, scope, receive, send):
        sent = 0

        async def told(message):
            nonlocal sent
            sent += 1
            if sent != 7:
                await send(message)

        await super().__call__(scope, receive, told)


class Silent(FloorMiddleware):
    """Does not call the application."""

    async def __call__(self, scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})


def broken(kind: type[FloorMiddleware]) -> Peer:
    def wrap(app, clock=None):
        made = kind(app, b"k" * 32)
        return made, made.data

    lacks = PEERS["floor"].lacks
    return Peer(kind.__name__, kind.__name__, wrap, b"session", session_of=itemgetter("session"), lacks=lacks)


@pytest.mark.parametrize(
    ("kind", "cases"),
    [
        (Forgetful, ["read", "write", "new", "tampered", "history", "append", "cookies3", "stream"]),
        (Twice, ["read", "write", "history", "append", "cookies30", "stream"]),
        (OneForAll, ["new", "tampered"]),
        (Chatty, ["none", "read", "tampered"]),
        (Swallowing, ["stream"]),
        (Silent, [case for case in CASES if case != "websocket"]),
    ],
)
def test_a_peer_that_does_not_do_the_work_is_refused(kind, cases):
    """Each case notices what it is there to notice."""
    for case in cases:
        with pytest.raises(BrokenPeerError):
            measure(PEERS["bare"], broken(kind), cases=[case])


def test_a_sound_peer_made_the_same_way_is_not_refused():
    """What the test above refuses is the fault, not the way the peer was made."""
    assert measure(PEERS["bare"], broken(FloorMiddleware))


def test_ratios_are_taken_within_a_round():
    """A disturbance that slows a whole round leaves the ratio as it is."""
    samples = {"bare": [[1.0], [100.0], [1.0]], "floor": [[3.0], [300.0], [3.0]], "a": [[5.0], [500.0], [5.0]]}
    found = inprocess.summary(CASES["read"], samples, {"floor": "bare", "a": "bare"})["peers"]["a"]
    assert found == {"added": 4.0, "least": 4.0, "ratio": {"floor": 2.0}}


def test_the_profile_counts_what_a_request_runs():
    """Functions of the package alone, more of them in a new session than in none; every piece takes its time."""
    found = profile.measure([], None, lambda line: None)
    none, new = (found["bytecodes"]["fastersession"][key] for key in ("none", "new"))
    assert none["FasterSessionMiddleware.__call__"] > 50
    assert none.keys() - {"Exchange.on_start"} < new.keys()
    assert "KeyRing.sign" in new
    assert not any(name.startswith(("App", "Wire")) for name in new)
    assert set(found["bytecodes"]["floor"]["none"]) == {
        "FloorMiddleware.__call__",
        "FloorMiddleware.__call__.<locals>.wrapped",
        "FloorSession.__init__",
    }
    assert all(ns > 0 for ns in found["pieces"].values())


@pytest.mark.parametrize("key", ["floor", "fastersession"])
def test_scale_measures_a_level(key):
    """New, read, write and expiry at a level, each against the bare app and few sessions."""
    found = asyncio.run(scale.one_level(PEERS[key], 300, 1))
    assert {"new", "read", "write", "pause", "bytes"} <= set(found)
    assert ("expire" in found) is PEERS[key].clocked
    assert found.get("expire", {"expired": 300})["expired"] >= 300


@pytest.mark.parametrize("kind", [Forgetful, OneForAll])
def test_scale_refuses_a_peer_that_loses_sessions(kind):
    """A level is filled by requests and counted."""
    with pytest.raises(BrokenPeerError):
        asyncio.run(scale.crowd(broken(kind), 50))


def test_one_command_writes_tables_and_results(tmp_path):
    """`python -m bench` with peers, cases and files named."""
    files = tmp_path / "results.json", tmp_path / "results.md"
    options = ["--rounds", "1", "--seconds", "0.0001", "--peers", "floor,fastersession", "--check"]
    command = [sys.executable, "-m", "bench", "inprocess", *options, "--json", files[0], "--markdown", files[1]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    results = json.loads(files[0].read_text())
    assert set(results["inprocess"]) == set(CASES)
    assert report.markdown(results) == files[1].read_text()
    assert files[1].read_text() in done.stdout
    assert "read one key, added, times that of floor" in done.stdout


def test_what_stands_in_the_repository_is_what_was_measured():
    """The tables of bench/results, README and GUIDE are those of the JSON files; every picture is small."""
    for file in results.FOLDER.glob("*.json"):
        assert file.with_suffix(".md").read_text() == results.page(file.stem, json.loads(file.read_text()))
    for text in results.TEXTS:
        assert results.filled(text.read_text()) == text.read_text()
    assert all(picture.stat().st_size < 60_000 for picture in results.FOLDER.glob("*.png"))


def test_targets_are_judged():
    """A figure above its target is missed, one at it is met, and what was not measured is not judged."""
    ratio = {"floor": 2.5, "starlette": 0.4}
    case = {"title": "read one key", "peers": {"fastersession": {"ratio": ratio}}}
    assert [check.met for check in checks({"inprocess": {"read": case}})] == [False, True]
    asked = {"ratio": {"floor": {"rps": 0.92}, "bare": {"rps": 0.81, "p99": 1.0}}}
    found = checks({"sockets": {"short": {"read": {"fastersession": asked}}}})
    assert [check.met for check in found] == [True, False, True]
    assert checks({}) == []
