"""What came of a soak: its figures as a table, and all that is wrong with them, in words.

Rules of residence: figures in, text out; no process, no event loop. The thresholds are argued here.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from visitors import Note

SHOWN = 20  # of what is wrong, of one kind
TOO_LONG = 4.0  # seconds: late saves are tried for five, and then the guide promises no more than an event
AFTER = 6.0  # seconds after the end of a fault in which turns may still fail by it
RAISED = ("BrokenError", "StoreError", "CancelledError")  # what the application may raise

# Tasks and descriptors must be as many as before, for all connections and requests are gone. Objects as well, but for
# what is still on its way out (the connection that asks has some twenty) and the caches, which are full by then or
# not. A leak of one object for each turn would leave thousands.
MORE_OBJECTS = 200
CACHES = {"fastersession.crypto.tokens.RecordSealer": 1024}

# Memory is not given back by Python's allocator, but once there are as many sessions and streams as there will be, it
# must not grow any more. One session with its history, left behind by each turn, would be 10 MB a minute at 100 turns
# a second; what is allowed is the noise of fragmentation, and means nothing over less than two minutes.
GROWTH = 0.05  # of the memory, a minute
LONG_ENOUGH = 240.0


class Happening(NamedTuple):
    """One fault, while it happened. ``excuses``: turns may fail by it, and saves must be tried again."""

    name: str
    start: float
    end: float
    excuses: bool


@dataclass
class Report:
    """One run. ``base`` and ``end`` are the figures of the server when nobody is there, ``samples`` those between."""

    store: str
    clients: int
    seconds: float
    counts: Counter[str] = field(default_factory=Counter)
    happened: list[Happening] = field(default_factory=list)
    failures: list[tuple[float, Note]] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)  # or mixed up, or brought back
    samples: list[dict[str, Any]] = field(default_factory=list)
    base: dict[str, Any] = field(default_factory=dict)
    end: dict[str, Any] = field(default_factory=dict)
    left: int = 0  # sessions in the store, when all have ended
    output: str = ""  # of the server

    def peak(self, what: str) -> int:
        return int(max(sample[what] for sample in self.samples))

    @property
    def growth(self) -> float:
        """Bytes a minute by which the process grew in the second half, when there were as many clients all the time."""
        half = [sample for sample in self.samples if sample["at"] > self.seconds / 2]
        times, sizes = [sample["at"] / 60 for sample in half], [sample["bytes"] for sample in half]
        return statistics.linear_regression(times, sizes).slope

    @property
    def more_objects(self) -> Counter[str]:
        """Live objects by type, at the end less at the beginning; those of caches only above their bound."""
        more = Counter(self.end["objects"])
        more.subtract(self.base["objects"])
        for name, bound in CACHES.items():
            more[name] = max(0, self.end["objects"].get(name, 0) - bound)
        return more

    def wrong(self) -> list[str]:
        """Return all that must not be."""
        kinds = [list(kind) for kind in (self._slow(), self.lost, self._failed(), self._leaks(), self._noise())]
        return [text for kind in kinds for text in (*kind[:SHOWN], *(["…"] if len(kind) > SHOWN else []))]

    def _slow(self) -> Iterator[str]:
        for fault in self.happened:
            lasted = fault.end - fault.start
            if fault.excuses and lasted > TOO_LONG:
                yield f"this machine was too slow: {fault.name} lasted {lasted:.1f} s, more than is fair"

    def _failed(self) -> Iterator[str]:
        for at, note in self.failures:
            before = [fault for fault in self.happened if fault.start <= at]
            if not any(fault.excuses and at <= fault.end + AFTER for fault in before):
                when = f", {at - before[-1].start:.1f} s after {before[-1].name!r}" if before else ""
                yield f"a turn failed without a reason{when}: {note}"
        yield from (f"the application raised {name}" for name in self.end["errors"] if name not in RAISED)

    def _leaks(self) -> Iterator[str]:
        for what in ("tasks", "descriptors"):
            if self.end[what] > self.base[what]:
                yield f"{self.end[what]} {what}, {self.base[what]} before"
        if (number := self.more_objects.total()) > MORE_OBJECTS:
            yield f"{number:,} objects more: {self.more_objects.most_common(12)}"
        if self.seconds >= LONG_ENOUGH and self.growth > GROWTH * self.end["bytes"]:
            yield f"the process grew by {self.growth / 1e6:.1f} MB a minute"
        if self.left:
            yield f"{self.left} sessions are left in the store"

    def _noise(self) -> Iterator[str]:
        """Yield what the log has of a store that never fails, and of coroutines and exceptions that nobody took."""
        if self.store == "memory":
            yield from (f"an event of memory: {name}" for name in self.end["events"] if name != "session.dropped")
        yield from (line for line in self.output.splitlines() if "was never" in line)

    def rows(self) -> dict[str, str]:
        """Return the figures as a table has them."""
        counts, last = self.counts, self.samples[-1]
        logins = counts["logins"] + counts["logins cut off"]
        return {
            "clients, each with a connection of its own": f"{self.clients:,}",
            "minutes": f"{self.seconds / 60:.3g}",
            "faults": f"{len(self.happened)}",
            "turns acknowledged": f"{counts['acknowledged']:,}",
            "turns left in the middle": f"{counts['left'] + counts['overtaken']:,}",
            "turns in which the application raised": f"{counts['broken']:,}",
            "turns refused or cut off by a fault": f"{counts['failed'] + counts['refused']:,}",
            "tokens streamed": f"{counts['tokens']:,}",
            "logins (cut off by a fault)": f"{logins:,} ({counts['logins cut off']})",
            "logouts": f"{counts['logouts']:,}",
            "sessions compared with what their clients were told": f"{counts['sessions compared']:,}",
            "requests with dead cookies": f"{counts['dead cookies tried']:,}",
            "**turns lost or mixed up, sessions brought back**": f"**{len(self.lost)}**",
            "tasks before, at most, after": self._triple("tasks"),
            "descriptors before, at most, after": self._triple("descriptors"),
            "objects before, after": ", ".join(f"{sum(at['objects'].values()):,}" for at in (self.base, self.end)),
            "memory before, at most, after": f"{self._triple('bytes', 1e6)} MB",
            "its growth in the second half": f"{self.growth / 1e6:+.1f} MB a minute",
            "processor time of the server": f"{(last['cpu'] - self.base['cpu']) / last['at']:.0%}",
        }

    def _triple(self, what: str, unit: float = 1) -> str:
        return ", ".join(f"{value / unit:,.0f}" for value in (self.base[what], self.peak(what), self.end[what]))


def table(reports: Sequence[Report]) -> str:
    """Return the figures of runs, side by side."""
    columns = [report.rows() for report in reports]
    rows = [(name, *(column[name] for column in columns)) for name in columns[0]]
    return _markdown(("", *(report.store for report in reports)), rows)


def faults(report: Report) -> str:
    """Return which faults happened in a run, how often, and how long the longest took to be over."""
    times: dict[str, list[float]] = {}
    for fault in report.happened:
        times.setdefault(fault.name, []).append(fault.end - fault.start)
    rows = [(name, str(len(lasted)), f"{max(lasted):.1f} s") for name, lasted in times.items()]
    return _markdown((f"faults, {report.store}", "times", "longest"), rows)


def _markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ("---", *["---:"] * (len(header) - 1)), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
