"""The Redis part of the benchmark: what every peer sends to a real server, counted there."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

from paths import ROOT
from test_bench import _frozen  # noqa: F401 - each measurement would look through all that was collected

from bench import checks, redis, report
from bench.store_peers import STORE_PEERS

HERE = STORE_PEERS["redis"]


def test_every_case_is_counted_of_every_peer_and_ours_keeps_to_its_round_trips():
    """A few requests of each, one after another: what is counted depends on no clock."""
    results = asyncio.run(redis.compare(HERE, redis.KEYS))
    assert [list(case["peers"]) for case in results["cases"].values()] == [[peer.key for peer in HERE]] * 3
    exact = list(checks.redis(results))
    assert len(exact) == 6
    assert all(check.met for check in exact), list(map(str, exact))
    said = "\n".join(report.redis(results))
    assert "fastersession**, `seal=False`" in said
    counted = {peer: case["trips"] for peer, case in results["cases"]["write"]["peers"].items()}
    assert counted == {"redis-py": 2, "fastersession": 2, "unsealed": 2, "starsessions": 2, "litestar": 2}
    sent = {peer: case["sent"] for peer, case in results["cases"]["write"]["peers"].items()}
    assert sent["unsealed"] < sent["fastersession"]
    assert results["beside"]["redis-py"]["sent"] > 1_000_000 > results["beside"]["fastersession"]["sent"]


def test_one_command_writes_tables_and_results(tmp_path):
    """`python -m bench redis` with peers and files named."""
    files = tmp_path / "results.json", tmp_path / "results.md"
    options = ["--peers", "fastersession,starsessions", "--check", "--json", files[0], "--markdown", files[1]]
    command = [sys.executable, "-m", "bench", "redis", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    assert set(json.loads(files[0].read_text())["redis"]["cases"]) == set(redis.KEYS)
    assert files[1].read_text() in done.stdout
    assert "Redis, read one key, round trips" in done.stdout
