"""The stores part of the benchmark: every case on every store, and what is made of the figures."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from types import SimpleNamespace
from typing import ClassVar

import pytest
from paths import ROOT
from test_bench import _frozen  # noqa: F401 - each measurement would look through all that was collected

from bench import app, crowd, report, results, servers, stores
from bench.checks import checks
from bench.crowd import CASES, Crowd, Turn
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
    said = "\n".join(report.stores({"rounds": 1, "decode": 1e6, "stores": {store: found}}))
    assert all(said.count(f"| {peer.title} |") == 3 * len(LEVELS) for peer in peers)


class Told(servers.Store):
    """A store whose server says what a test lets it say."""

    looks: ClassVar = [{1: 100, 2: 50}, {1: 160, 2: 50, 3: 40}]

    def spent(self):
        return self.looks.pop(0)


class Watched(Crowd):
    """A crowd that knows which requests are under way at once, and whose they are."""

    async def watched(self, case, level, count):
        before, self.asked, self.most = self.browsers[0].client.middleware, [], 0
        running = 0

        async def between(scope, receive, send):
            nonlocal running
            running += 1
            self.most = max(self.most, running)
            self.asked.append((scope["path"], dict(scope["headers"]).get(b"cookie", b"").partition(b"=")[2]))
            await asyncio.sleep(0)
            await before(scope, receive, send)
            running -= 1

        for browser in (*self.browsers, *self.large):
            browser.client.middleware = between
        try:
            return await self.turn(case, level, count)
        finally:
            for browser in (*self.browsers, *self.large):
                browser.client.middleware = before


@pytest.mark.parametrize(
    ("key", "path", "whose", "most"),
    [
        ("read", "/read", "small", 3),
        ("write", "/write", "small", 3),
        ("untouched", "/hello", "small", 3),
        ("new", "/new", "nobody", 3),
        ("large", "/read", "large", 3),
        ("beside", "/read", "both", 5),
    ],
)
def test_a_turn_makes_the_requests_of_its_case_so_many_at_once(key, path, whose, most):
    """Three browsers of four, two requests each, all at once; loads of large sessions beside are not counted."""

    async def run():
        with Told() as store:
            watched = Watched(next(peer for peer in pick("sqlite") if peer.key == "fastersession"), store, 4, 2)
            store.looks = list(Told.looks)
            await watched.begin()
            turn = await watched.watched(CASES[key], 3, 2)
            await watched.verify()
            await watched.close()
            return watched, turn

    watched, turn = asyncio.run(run())
    small, large = ({b.client.cookie for b in some} for some in (watched.browsers[:3], watched.large))
    of = {"small": small, "large": large, "nobody": {b""}, "both": small | large}[whose]
    assert {asked for asked, _ in watched.asked} == {path}
    assert {cookie for _, cookie in watched.asked} == of
    assert (turn.requests, len(turn.took), watched.most) == (6, 6, most)
    assert len(watched.asked) == 6 or whose == "both"
    assert turn.server == 100 / 6
    assert 6 * turn.ns >= max(turn.took)


def test_enough_requests_fill_a_turn():
    """As many for each browser as the seconds hold, and one at least; the first turn warms up."""

    class Slow:
        took: ClassVar = [9e9, 2e6, 2e6]

        async def turn(self, case, level, count):
            assert (level, count) == (5, 1)
            return Turn(5, self.took.pop(0), 0.0, None, [])

    assert asyncio.run(stores.fitting(Slow(), CASES["read"], 5, 0.1)) == 10
    Slow.took = [9e9, 9e9]
    assert asyncio.run(stores.fitting(Slow(), CASES["read"], 5, 0.1)) == 1


def test_a_server_is_there_for_as_long_as_it_is_used():
    """Each place of it is apart from the others, it counts what is in one, and its process ends."""
    with servers.Redis() as server:
        one, other = server.at("one"), server.at("other")
        assert one == server.at("one") != other
        server.ask("-n", one.rpartition("/")[2], "set", "key", "value")
        assert [server.records(place, "") for place in ("one", "other")] == [1, 0]
        assert set(server.spent()) == {server.process.pid}
        assert server.spent()[server.process.pid] > 0
    assert server.process.poll() is not None
    assert not server.folder.exists()


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
    assert [stores.p99([7]), stores.p99(list(range(1, 201))), stores.p99(list(range(1, 151)))] == [7, 198, 149]


def test_what_is_missing_is_told_and_left_out(monkeypatch):
    """No server, no figures of it; the others are measured."""
    monkeypatch.setattr(STORES["redis"], "programs", ("no-such-server",))
    said = []
    options = SimpleNamespace(rounds=1, seconds=1e-6, cases=["read"], stores=["redis"], at_once=[1], peers=None)
    assert stores.measure([], options, said.append)["stores"] == {}
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
    store = {"title": "PostgreSQL", "versions": ["PostgreSQL 15"], "driver": "asyncpg"}
    untouched = {"title": "session untouched", "levels": {"1": single, "50": level}}
    store |= {"peers": list(level), "cases": {"read": case, "untouched": untouched, "beside": beside}}
    found = {"rounds": 7, "decode": 5e6, "stores": {"postgresql": store}}
    at_50, alone, *shown = checks({"stores": found})
    assert (at_50.met, alone.met) == (True, False)
    assert [check.value for check in shown] == [2.5] * 4
    brief = results.MARKED["stores"]({"stores": found})
    assert "50 at once" in brief
    assert "| PostgreSQL: **fastersession**, asyncpg | 4,000 (4.00 x) | 4,000 | 2.50 |" in brief
    said = "\n".join(report.stores(found))
    assert "| asyncpg alone | 50 | 81 + 20 | 81 + 20 | 81 + 20 |" in said
    assert "asyncpg | 1 | 600 (0.60 x) | 600 | 600 (0.60 x) |" in said
    assert "once takes the standard library 5.0 ms" in said


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
