"""The soak at a size for the long tier, and the proof that its report sees what it is there to see."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from soak import STORES, soak
from soak_guests import Gathering, Guest
from soak_report import Happening, Report, table
from visitors import Note
from workers_app import new_entry, whole_answer


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("store", STORES)
def test_a_small_soak_leaves_nothing_behind(store: str) -> None:
    """300 clients for 40 s, every fault once: nothing is lost, mixed up or brought back, and nothing is left."""
    report = soak(store, clients=300, seconds=40, pause=0.4)
    print(table([report]))
    assert report.wrong() == []
    assert len({fault.name for fault in report.happened}) == {"memory": 4, "redis": 8}[store]
    assert report.counts["acknowledged"] > 1000
    assert report.peak("descriptors") > 250  # they did stream at once


def quiet(**others: Any) -> dict[str, Any]:
    figures = {"tasks": 3, "descriptors": 16, "sessions": 0, "bytes": 50_000_000, "cpu": 1.0}
    return {**figures, "errors": {}, "events": {}, "objects": {"builtins.dict": 1000}} | others


def report(seconds: float = 300, growth: float = 0, **end: Any) -> Report:
    samples = [quiet(at=float(at), bytes=50_000_000 + growth * at / 60) for at in range(0, int(seconds), 10)]
    return Report("memory", 10, seconds, samples=samples, base=quiet(), end=quiet(**end))


def test_a_run_that_ends_as_it_began_is_right() -> None:
    """The same figures before and after, and memory that stays: nothing to say."""
    assert report().wrong() == []
    assert "| clients, each with a connection of its own | 10 |" in table([report()])


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (report(tasks=4), "4 tasks, 3 before"),
        (report(descriptors=17), "17 descriptors, 16 before"),
        (report(objects={"builtins.dict": 1000, "fastersession.session.Session": 500}), "500 objects more"),
        (report(objects={"fastersession.crypto.tokens.RecordSealer": 3000}), "976 objects more"),
        (report(growth=5e6), "grew by 5.0 MB a minute"),
        (report(errors={"AssertionError": 1}), "raised AssertionError"),
        (report(events={"store.full": 1}), "store.full"),
    ],
)
def test_what_is_left_is_told(found: Report, said: str) -> None:
    """A leak of anything, an error that has no excuse: each is wrong."""
    assert any(said in fault for fault in found.wrong())


def test_a_failure_needs_a_fault_to_explain_it() -> None:
    """A turn that fails while a fault lasts is excused, any other is not."""
    note = Note("tab-0-0", "?", "own", False, None)
    found = report()
    found.happened = [Happening("silence", 9.0, 10.0, True), Happening("nothing", 29.0, 29.0, False)]
    found.failures = [(10.0, note), (16.5, note), (30.0, note)]
    assert [text.partition(":")[0] for text in found.wrong()] == [
        "a turn failed without a reason, 7.5 s after 'silence'",
        "a turn failed without a reason, 1.0 s after 'nothing'",
    ]


def test_a_fault_that_lasts_too_long_is_the_machines() -> None:
    """A store may be away for less than late saves are tried for; more is no fair test, and is said."""
    found = report()
    found.happened = [Happening("silence", 9.0, 15.0, True), Happening("a flood", 29.0, 39.0, False)]
    assert [text.partition(":")[0] for text in found.wrong()] == ["this machine was too slow"]


def guest(content: dict[str, Any], *notes: Note) -> Guest:
    """Return a guest who finds this in every session, whatever the cookie."""
    found = Guest(Gathering(0, 0, 0), 0)
    found.who, found.tabs = "ada", (list(notes), [], [])

    async def get(path: str, cookie: str) -> tuple[dict[str, str], Any]:
        return {}, content

    found.get = get
    return found


def test_a_lost_turn_anothers_turn_and_a_dead_session_are_told() -> None:
    """What a guest was told must be there, what it was not told must not, and a dead cookie must lead nowhere."""
    entry = {**new_entry("ada", "tab-0-0"), "answer": (answer := whole_answer("ada asks tab-0-0"))}
    note = Note("tab-0-0", entry["question"], "whole", False, 1, end="acknowledged", seen=answer)
    right, lost = guest({"history": [entry]}, note), guest({"history": []}, note)
    mixed = guest({"history": [entry, new_entry("bob", "tab-0-1")]}, note)
    for each in (right, lost, mixed):
        asyncio.run(each.check(settled=True))
    assert right.crowd.wrong == []
    assert any("acknowledged, but kept as None" in fault for fault in lost.crowd.wrong)
    assert any("not mine" in fault for fault in mixed.crowd.wrong)
    asyncio.run(right.haunt(["sid=dead"]))
    assert "a dead session came back" in right.crowd.wrong[0]
