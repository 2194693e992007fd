"""The Redis part of the benchmark: every peer at every case on a real server, and peers that do not do the work."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import replace

import pytest
from paths import ROOT
from test_bench import _frozen  # noqa: F401 - each measurement would look through all that was collected

from bench import checks, redis, report
from bench.app import BrokenPeerError
from bench.peers import Peer
from bench.redis_peers import REDIS_PEERS


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis, "TASKS", 5)


def measure(*peers: Peer, cases=tuple(redis.CASES)):
    job = redis.compare(peers, [redis.CASES[key] for key in cases], 1, 1e-6, lambda line: None)
    return asyncio.run(job)


def test_every_case_runs_on_every_peer_and_ours_keeps_to_its_round_trips():
    """A handful of requests of each, verified before and after; what is counted depends on no clock."""
    results = measure(*REDIS_PEERS.values())
    assert [sorted(case["peers"]) for case in results["cases"].values()] == [sorted(REDIS_PEERS)] * 3
    exact = [check for check in checks.redis(results) if ", time, " not in check.what]
    assert len(exact) == 6
    assert all(check.met for check in exact), list(map(str, exact))
    assert "fastersession, `seal=False`" in "\n".join(report.redis(results))


def altered(alter) -> Peer:
    """A peer whose requests pass through ``alter(session)`` when its application has answered."""

    def wrap(app, url):
        async def between(scope, receive, send):
            async def sending(message):
                if message["type"] == "http.response.start":
                    alter(scope["session"])
                await send(message)

            await app(scope, receive, sending)

        return REDIS_PEERS["redis-py"].wrap(between, url)

    return replace(REDIS_PEERS["redis-py"], key="altered", wrap=wrap)


def forget(session):
    session["n"] = 1


def twice(session):
    session["n"] += 1


def same_for_all(session):
    session["user"] = "u1"


@pytest.mark.parametrize("alter", [forget, twice, same_for_all])
def test_a_peer_that_does_not_do_the_work_is_refused(alter):
    """A lost write, a second one, and a session that is somebody else's."""
    with pytest.raises(BrokenPeerError):
        measure(altered(alter))


def test_a_sound_peer_made_the_same_way_is_not_refused():
    """What the test above refuses is the fault, not the way the peer was made."""
    assert measure(altered(lambda session: None), cases=["write"])


def test_ratios_are_taken_within_a_round():
    """A disturbance that slows a whole round leaves the ratio as it is."""
    samples = {"a": [[(4.0, 1.0)], [(400.0, 1.0)]], "b": [[(2.0, 1.0)], [(200.0, 1.0)]]}
    found = redis.summary(redis.CASES["read"], samples, {"a": {}, "b": {}})["peers"]["a"]
    assert (found["ratio"], found["least"]) == ({"b": 2.0}, 4.0)


def test_one_command_writes_tables_and_results(tmp_path):
    """`python -m bench redis` with peers, cases and files named."""
    files = tmp_path / "results.json", tmp_path / "results.md"
    options = ["--rounds", "1", "--seconds", "0.0001", "--peers", "fastersession,starsessions", "--check"]
    command = [sys.executable, "-m", "bench", "redis", *options, "--json", files[0], "--markdown", files[1]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    assert set(json.loads(files[0].read_text())["redis"]["cases"]) == set(redis.CASES)
    assert files[1].read_text() in done.stdout
    assert "read one key, time, times that of starsessions" in done.stdout
