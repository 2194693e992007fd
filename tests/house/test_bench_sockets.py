"""The sockets part of the benchmark: a real server and a real `wrk`, and both sides' counts held against each other."""

from __future__ import annotations

import shutil

import pytest

from bench import serve, sockets
from bench.app import BrokenPeerError
from bench.peers import PEERS


def test_short_answers_are_counted_on_both_sides():
    """Sessions are made, written to by wrk, and found to count exactly what the application answered."""
    found = sockets.short(PEERS["fastersession"], "write", 1)
    assert set(found) == {"rps", "cpu", "p50", "p99"}
    assert all(found.values())


def test_counts_that_differ_are_refused(monkeypatch):
    """A figure is not believed when the application answered fewer requests than wrk counted."""
    ran = {"requests": 100, "microseconds": 1, "errors": 0, "p50": 1, "p99": 1}
    with sockets.serving(PEERS["bare"]) as server:
        monkeypatch.setattr(sockets, "wrk", lambda *ignored: ran)
        with pytest.raises(BrokenPeerError, match="0 answered by the application"):
            sockets.asked(server, "/read", [""], 1)


def test_streams_are_timed_to_their_end():
    """Each reader gets all tokens of its stream, and has one write in its session afterwards."""
    found = sockets.stream(PEERS["fastersession"], 5, 0)
    assert found["first"] < found["total"]
    assert found["total"] > serve.TOKENS * serve.PAUSE * 1000


def test_without_wrk_the_message_is_clear(monkeypatch):
    """It says what to install; nothing is installed by anybody but root."""
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(sockets.os, "geteuid", lambda: 1000)
    with pytest.raises(SystemExit, match="apt-get install wrk"):
        sockets.tool()


def test_ratios_are_taken_within_a_round():
    """A round in which everything is slow leaves the ratio as it is."""
    base = [{"rps": 100.0}, {"rps": 10.0}, {"rps": 100.0}]
    own = [{"rps": 90.0}, {"rps": 9.0}, {"rps": 90.0}]
    found = sockets.summary(PEERS["starlette"], {"bare": base, "starlette": own})
    assert found["ratio"] == {"base": {"rps": 0.9}, "bare": {"rps": 0.9}}
    assert (found["rps"], found["best"]) == (90.0, {"rps": 90.0})
