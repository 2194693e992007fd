"""The sampled profile of the stores: known answers, and a handful of requests that are really sampled."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from test_bench import _frozen  # noqa: F401 - each measurement would look through all that was collected

import fastersession
from bench import profile_stores, report
from bench.checks import checks
from bench.profile_stores import CASES_SAMPLED, Sampled, measure, place, shares, threads

PACKAGE = Path(fastersession.__file__).parent


def busy(sampler: Sampled) -> None:
    while not sampler.functions:
        sum(range(1000))


def test_what_the_thread_uses_counts_for_the_function_that_it_is_in():
    """Until a first sample is taken, and none after the end; whoever had the signal before has it again."""
    begin = time.thread_time_ns()
    with Sampled() as sampler:
        busy(sampler)
    taken = dict(sampler.functions)
    assert (__file__, "busy") in taken
    assert 0 < sum(taken.values()) <= time.thread_time_ns() - begin
    with Sampled() as other:
        busy(other)
    assert sampler.functions == taken


def test_each_part_and_each_function_has_its_share():
    """A known answer: of the event loop's thread and of the store's own; the largest stands first."""
    engine, patience = str(PACKAGE / "engine" / "load.py"), str(PACKAGE / "engine" / "patience.py")
    found = shares({(engine, "f"): 10, (patience, "g"): 30, ("/x/site-packages/a/b.py", "h"): 20}, {"writer": 40})
    assert list(found["parts"].items()) == [("engine", 0.4), ("the thread writer", 0.4), ("a", 0.2)]
    assert found["functions"] == {"engine/patience.py: g": 0.3, "a/b.py: h": 0.2, "engine/load.py: f": 0.1}
    assert shares({}, {}) == {"parts": {}, "functions": {}}


@pytest.mark.parametrize(
    ("file", "part", "short"),
    [
        (str(PACKAGE / "stores" / "sql" / "batches.py"), "stores/sql", "stores/sql/batches.py"),
        (str(PACKAGE / "stores" / "rows.py"), "stores", "stores/rows.py"),
        (str(PACKAGE / "middleware.py"), "the rest of fastersession", "middleware.py"),
        (str(PACKAGE.parent / "bench" / "app.py"), "the application and its client", "app.py"),
        (asyncio.events.__file__, "asyncio and what Python brings", "asyncio/events.py"),
        ("<frozen abc>", "asyncio and what Python brings", "<frozen abc>"),
    ],
)
def test_a_file_belongs_to_a_part(file, part, short):
    """A store's folder is a part of its own."""
    assert place(file) == (part, short)


def test_threads_are_told_by_name():
    """Those beside the one that asks, with the time that they have taken."""
    done = threading.Event()
    beside = threading.Thread(target=done.wait, name="beside", daemon=True)
    beside.start()
    try:
        found = threads()
    finally:
        done.set()
        beside.join()
    assert found["beside"] > 0
    assert threading.current_thread().name not in found
    assert "beside" not in threads()


def test_a_store_is_sampled_case_by_case(monkeypatch):
    """On SQLite, whose threads are told as parts; every answer is checked, and all of it is shown."""
    options = SimpleNamespace(at_once=[3], stores=["sqlite"], seconds=0.01)
    found = measure([], options, lambda line: None)
    cases = found["stores"]["sqlite"]["cases"]
    assert found["level"] == 3
    assert list(cases) == list(CASES_SAMPLED)
    assert all(case["cpu"] > 0 for case in cases.values())
    assert "the thread fastersession-reader" in cases["read"]["parts"]
    assert "the thread fastersession-writer" in cases["write"]["parts"]
    assert all(abs(sum(case["parts"].values()) - 1) < 1e-6 for case in cases.values())
    said = "\n".join(report.WRITERS["profile-stores"](found))
    assert "| the thread fastersession-writer |" in said
    assert said.startswith("SQLite, 3 at once (SQLite ")


def test_functions_are_shown_from_one_percent_on():
    """A known answer: those with the most of all cases first; parts are shown however small."""
    read = {"title": "read", "cpu": 50_000.0, "parts": {"a": 0.995, "b": 0.005}, "functions": {"f": 0.2, "g": 0.005}}
    write = {"title": "write", "cpu": 80_000.0, "parts": {"a": 1.0}, "functions": {"g": 0.5}}
    store = {"title": "SQLite", "versions": ["SQLite 3"], "cases": {"read": read, "write": write}}
    said = "\n".join(report.WRITERS["profile-stores"]({"level": 50, "stores": {"sqlite": store}}))
    rows = [line for line in said.splitlines() if line.startswith("| ")][2:]
    assert rows == [
        "| **CPU of a request, µs** | 50 | 80 |",
        "| a | 99.5% | 100.0% |",
        "| b | 0.5% |  |",
        "| `g` | 0.5% | 50.0% |",
        "| `f` | 20.0% |  |",
    ]


def test_a_store_that_is_not_there_is_told_and_left_out(monkeypatch):
    """Without its programs, and without its driver."""
    told: list[str] = []
    monkeypatch.setattr(profile_stores, "pick", lambda store, wanted: [])
    found = measure([], SimpleNamespace(at_once=None, stores=["sqlite"], seconds=None), told.append)
    assert found == {"level": 50, "stores": {}}
    assert told == ["not installed, so left out: sqlite (the driver)"]


def test_what_2_mb_cost_is_judged_and_shown():
    """A read beside them is held against decoding them once; what they cost a small one has no limit."""
    figures = {"cpu": 5e6, "p99": 2_500_000}
    levels = {"1": {"fastersession": figures, "aiosqlite": figures}}
    cases = {"large": {"title": "read beside 2 MB", "levels": levels}, "beside": {"title": "read", "levels": levels}}
    store = {"title": "SQLite", "driver": "aiosqlite", "cases": cases}
    judged, driver, ours = checks({"stores": {"decode": 4e6, "stores": {"sqlite": store}}})
    assert not judged.met
    assert "CPU, times that of decoding these once: 1.250 (at most 1.150)" in str(judged)
    assert driver.met
    assert ours.met
    assert "p99 of aiosqlite, ms: 2.50" in str(driver)
    assert str(ours) == "shown  SQLite, read while others load 2 MB, 1 at once: p99 of fastersession, ms: 2.50"
