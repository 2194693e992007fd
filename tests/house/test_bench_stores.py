"""The stores part of the benchmark: every case on every store, and what is made of the figures."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
from paths import ROOT
from test_bench import _frozen  # noqa: F401 - each measurement would look through all that was collected

from bench import app, crowd, report, results, servers, stores
from bench.checks import checks
from bench.crowd import CASES, Turn
from bench.servers_sql import STORES
from bench.store_peers import STORE_PEERS, StorePeer, pick

LEVELS = (1, 3)
REACHED_FIRST = ("sqlite", "redis")
"""Stores that start within a moment; the others are in the long tier."""


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "LARGE", 2)
    for module in (app, crowd):
        monkeypatch.setattr(module, "LETTERS", 40)


def measure(store, *peers: StorePeer, cases=tuple(CASES), rounds=1):
    chosen = [CASES[key] for key in cases]
    return asyncio.run(stores.compare(STORES[store], peers, chosen, LEVELS, rounds, 1e-6, lambda line: None))


@pytest.mark.parametrize(
    "store", [key if key in REACHED_FIRST else pytest.param(key, marks=pytest.mark.long) for key in STORES]
)
def test_every_case_runs_on_every_store(store):
    """A handful of requests of each, at one and at several at once, proven in the store itself."""
    peers = [peer for peer in pick(store) if peer.package != "django"]  # whose settings are those of the process
    assert {"fastersession"} <= {peer.key for peer in peers}
    found = measure(store, *peers)
    assert list(found["cases"]) == list(CASES)
    for case in found["cases"].values():
        assert list(case["levels"]) == [str(level) for level in LEVELS]
        for figures in (figures for level in case["levels"].values() for figures in level.values()):
            assert figures["rps"] > 0 < figures["cpu"]
            assert figures["p99"] > 0
            assert (figures["server"] is None) is (store == "sqlite")
    assert store == "sqlite" or found["cases"]["write"]["levels"]["3"]["fastersession"]["server"] > 0
    said = "\n".join(report.stores({"rounds": 1, "stores": {store: found}}))
    assert all(said.count(f"| {peer.title} |") == 3 * len(LEVELS) for peer in peers)


def test_a_turn_is_reduced_by_rounds():
    """Ratios are requests a second within a round; p99 is of all requests of a round; no server says nothing."""
    turn = {"cpu": 5.0, "took": [1]}
    slow, fast = (Turn(10, ns=ns, server=None, **turn) for ns in (4e9, 2e9))
    disturbed = [[slow._replace(ns=400e9)], [slow], [slow]], [[fast._replace(ns=200e9)], [fast], [fast]]
    found = stores.summary({"a": disturbed[0], "b": disturbed[1]})
    assert found["a"]["ratio"] == {"b": 0.5}
    assert found["b"]["ratio"] == {"a": 2.0}
    assert (found["a"]["rps"], found["a"]["cpu"], found["a"]["server"]) == (0.25, 5.0, None)
    told = [Turn(100, 1.0, 1.0, 3.0, list(range(1, 51))), Turn(100, 1.0, 1.0, 5.0, list(range(51, 101)))]
    (figures,) = stores.summary({"a": [told]}).values()
    assert (figures["p99"], figures["server"]) == (99, 4.0)
    assert [stores.p99([7]), stores.p99(list(range(1, 201)))] == [7, 198]


def test_what_is_missing_is_told_and_left_out(monkeypatch):
    """No server, no figures of it; the others are measured."""
    monkeypatch.setattr(STORES["redis"], "programs", ("no-such-server",))
    said = []
    options = SimpleNamespace(rounds=1, seconds=1e-6, cases=["read"], stores=["redis"], at_once=[1], peers=None)
    assert stores.measure([], options, said.append) == {"rounds": 1, "stores": {}}
    assert said == ["not installed, so left out: redis (no-such-server)"]


def test_a_server_that_does_not_come_up_says_why():
    """What it has written is in the error, and its folder is gone."""

    class Sick(servers.Redis):
        def command(self):
            return [*super().command(), "--no-such-option"]

    server = Sick()
    with pytest.raises(RuntimeError, match="no-such-option"), server:
        pass
    assert not server.folder.exists()


def figures(rps, ratio):
    return {"rps": rps, "cpu": 81_000.0, "server": 20_000.0, "p99": 2_500_000, "ratio": ratio}


def test_figures_are_told_and_judged():
    """At 50 at once against the targets and in the table of GUIDE, at one against the bare driver."""
    level = {"asyncpg": figures(1000.0, {"fastersession": 0.25}), "fastersession": figures(4000.0, {"asyncpg": 4.0})}
    single = {**level, "fastersession": figures(600.0, {"asyncpg": 0.6})}
    case = {"title": "read one key", "levels": {"1": single, "50": level}}
    beside = {"title": "read, while others load 2 MB", "levels": {"1": single, "50": level}}
    store = {"title": "PostgreSQL", "versions": ["PostgreSQL 15"], "peers": list(level), "cases": {"read": case}}
    found = {"rounds": 7, "stores": {"postgresql": {**store, "cases": {"read": case, "beside": beside}}}}
    assert [check.met for check in checks({"stores": found})] == [True, False]
    brief = results.MARKED["stores"]({"stores": found})
    assert "50 at once" in brief
    assert "| PostgreSQL: **fastersession**, asyncpg | 4,000 (4.00 x) | 2.50 |" in brief
    said = "\n".join(report.stores(found))
    assert "| asyncpg alone | 50 | 81 + 20 | 81 + 20 |" in said


def test_one_command_measures_django_too(tmp_path):
    """`python -m bench stores` with stores, cases, peers and numbers at once named."""
    files = tmp_path / "results.json", tmp_path / "results.md"
    peers = ["fastersession", "django-db", "django-cached_db"]
    options = ["--rounds", "1", "--seconds", "0.0001", "--stores", "sqlite", "--at-once", "1,3", "--check"]
    options += ["--cases", "read,write,new,untouched", "--peers", ",".join(peers)]
    command = [sys.executable, "-m", "bench", "stores", *options, "--json", files[0], "--markdown", files[1]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    found = json.loads(files[0].read_text())["stores"]["stores"]["sqlite"]
    assert found["peers"] == peers
    assert list(found["cases"]) == ["read", "write", "new", "untouched"]
    assert files[1].read_text() in done.stdout


def test_peers_of_a_store_have_keys_and_places_of_their_own():
    """Two of one place count each other's sessions: only Django's may, whose settings are those of the process."""
    for peers in STORE_PEERS.values():
        assert len({peer.key for peer in peers}) == len(peers)
        shared = [peer.place for peer in peers if peer.place != peer.key]
        assert set(shared) <= {"django"}
