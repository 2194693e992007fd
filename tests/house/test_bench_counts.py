"""The counting parts of the benchmark: known answers, requests that are really counted, and counts that are refused."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
from paths import ROOT
from test_bench import Forgetful, OneForAll, broken

from bench import calls, instructions, report
from bench.app import BrokenPeerError
from bench.checks import CALLS, INSTRUCTIONS, checks
from bench.counted import REQUESTS, Counted
from bench.floor import FloorMiddleware
from bench.peers import PEERS

PEERS_WANTED = ("bare", "floor", "fastersession")


@pytest.mark.timeout(400)  # valgrind is fifty times slower than the machine, and then others run beside it
def test_instructions_of_a_request_are_counted():
    """A few requests under valgrind: what is added is more than nothing, and more by us than by the floor."""
    wanted = instructions.pairs(PEERS_WANTED, ["none"])
    (none,) = instructions.summary(instructions.counts(wanted, 3)).values()
    assert 0 < none["peers"]["floor"] < none["peers"]["fastersession"]
    assert 1_000 < none["bare"] < 100_000


def test_every_request_is_counted_of_every_peer_that_can_do_it():
    """The floor has no websocket."""
    wanted = instructions.pairs(PEERS_WANTED, list(REQUESTS))
    assert len(wanted) == 3 * len(REQUESTS) - 1
    assert ("floor", "socket") not in wanted
    assert set(REQUESTS) == set(INSTRUCTIONS)


@pytest.fixture
def valgrind(tmp_path, monkeypatch):
    """Put a script in the place of valgrind."""

    def put(script: str) -> None:
        file = tmp_path / "valgrind"
        file.write_text("#!/bin/sh\nfor word; do case $word in *-out-file=*) out=${word#*=} ;; esac; done\n" + script)
        file.chmod(0o755)
        monkeypatch.setattr(instructions, "tool", lambda: str(file))

    return put


def test_what_is_counted_between_two_marks_is_divided_by_the_requests(valgrind):
    """A known answer: every second file counts, in the order of the pairs; the bare app is subtracted."""
    valgrind('n=0; for total in 999 300 999 700; do n=$((n+1)); echo "totals: $total" >"$out.$n"; done; : >"$out"\n')
    found = instructions.counts([("bare", "read"), ("floor", "read")], 100)
    assert found == {("bare", "read"): 3.0, ("floor", "read"): 7.0}
    assert instructions.summary(found) == {"read": {"bare": 3.0, "peers": {"floor": 4.0}}}


@pytest.mark.parametrize(
    ("script", "said"),
    [("echo no such peer >&2; exit 1\n", "no such peer"), ('echo "totals: 5" >"$out.1"\n', "two calls of getpgrp")],
)
def test_a_run_that_did_not_count_is_refused(valgrind, script, said):
    """It failed, or valgrind did not see the marks."""
    valgrind(script)
    with pytest.raises(BrokenPeerError, match=said):
        instructions.counts([("bare", "read")], 1)


def test_without_valgrind_the_message_is_clear(monkeypatch):
    """It says what to install."""
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(SystemExit, match="apt-get install valgrind"):
        instructions.tool()


async def proven(peer) -> None:
    client = Counted(peer)
    await client.begin()
    for key in REQUESTS:
        if REQUESTS[key].kind not in peer.lacks:
            await client.prove(key)


@pytest.mark.parametrize("kind", [Forgetful, OneForAll])
def test_a_peer_that_does_not_do_the_work_is_not_counted(kind):
    """One that loses sessions, one that takes a forged cookie."""
    with pytest.raises(BrokenPeerError):
        asyncio.run(proven(broken(kind)))


@pytest.mark.parametrize("peer", [broken(FloorMiddleware), *(PEERS[key] for key in instructions.COUNTED)])
def test_a_peer_that_does_the_work_is_counted(peer):
    """Every request is answered, by all that are counted."""
    asyncio.run(proven(peer))


def test_calls_and_changes_of_file_have_known_answers(tmp_path):
    """A coroutine in one file awaits one in another, which suspends: two are entered, two are resumed."""
    entered = calls.Entered(tmp_path)
    names = {"asyncio": asyncio}
    for file, source in {
        "two.py": "async def two():\n    await asyncio.sleep(0)\n",
        "one.py": "async def one():\n    await two()\n    return len('not counted')\n",
    }.items():
        exec(compile(source, str(tmp_path / file), "exec"), names)

    async def run():
        sys.setprofile(entered)
        try:
            await names["one"]()
        finally:
            sys.setprofile(None)

    asyncio.run(run())
    assert calls.summary(entered.calls) == {
        "calls": 4,
        "changes": 3,
        "files": 2,
        "trace": ["one.py: one", "two.py: two"] * 2,
    }


def test_calls_of_a_request_are_the_same_in_every_run():
    """On both stores, from the middleware on, into the store and back."""
    runs = [calls.measure([], SimpleNamespace(trace=True), lambda line: None) for _ in range(2)]
    assert runs[0] == runs[1]
    for store, place in (("MemoryStore", "stores/memory"), ("SQLiteStore", "stores/sqlite")):
        read, write = (runs[0][store][request] for request in ("read", "write"))
        assert read["trace"][0] == write["trace"][0] == "middleware.py: FasterSessionMiddleware.__call__"
        assert any(line.startswith(place) for line in read["trace"])
        assert 1 < read["files"] <= read["changes"] + 1 < read["calls"] == len(read["trace"]) < write["calls"]


def test_one_command_counts_the_calls_and_lists_them(tmp_path):
    """`python -m bench calls` with a trace, a file and a verdict."""
    file = tmp_path / "results.json"
    command = [sys.executable, "-m", "bench", "calls", "--peers", "fastersession", "--trace", "--check", "--json", file]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    found = json.loads(file.read_text())["calls"]
    assert set(found) == set(CALLS)
    assert "\n".join(found["SQLiteStore"]["write"]["trace"]) in done.stdout
    assert "calls of a write on SQLiteStore" in done.stdout


def test_counts_are_told_and_judged():
    """Beside the figures of 0.1, by the interpreter that they were counted with and no other."""
    peers = {"floor": 10_000.0, "fastersession": INSTRUCTIONS["read"] * 1.06}
    case = {"bare": 11_000.0, "peers": peers}
    results = {"instructions": {"read": case, "none": {"bare": 11_000.0, "peers": {"fastersession": 21_131.0}}}}
    said = "\n".join(report.instructions(results["instructions"]))
    assert "| 57,026 (5.70 x) | 21,131 |" in said
    assert "| more than 0.1 | +6.0% | +0.0% |" in said
    python = {"environment": {"python": "CPython 3.11.7"}}
    assert [check.met for check in checks(results | python)] == [False, True]
    assert checks(results) == []
    stores = {"SQLiteStore": {"write": {"calls": 85, "changes": 51}}}
    assert [check.met for check in checks({"calls": stores})] == [True, False]
