"""The targets that the results are held against.

Rules of residence: figures and limits; pure functions from the results (plain dicts, as `--json` writes them). What was
not measured is not judged.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

OURS, UNSEALED = "fastersession", "unsealed"
ENOUGH = 10_000
"""Live sessions below which resident memory says nothing."""

IN_PROCESS = {
    "floor": {"none": 2.0, "read": 2.4, "write": 2.8, "new": 2.1, "tampered": 2.0, "stream": 1.7},
    "starlette": {"read": 1 / 2.5, "write": 1 / 2.5, "new": 1 / 2.2},
    "fastsession": {"none": 1 / 18, "read": 1 / 18, "write": 1 / 18, "new": 1 / 18},
}
HISTORY = 1.1
FEW, WORST, SMALL = 1.3, 1e6, 700
"""Times the cost at 100 live sessions; ns of the worst request; bytes."""
REQUESTS = {"floor": 0.92, "bare": 0.82}
P99, STREAM = 1.15, 1.03
ON_STORES = {
    "sqlite": {"read": {"aiosqlite": 2.0}, "write": {"aiosqlite": 2.0}, "new": {"aiosqlite": 1.0}},
    "postgresql": {"read": {"asyncpg": 4.0}, "write": {"asyncpg": 3.0}, "new": {"asyncpg": 2.0}},
    "mariadb": {"read": {"asyncmy": 3.0}, "write": {"asyncmy": 1.5}},
    "redis": {
        "read": {"starsessions": 2.0, "litestar": 2.0, UNSEALED: 1 / 1.15},
        "write": {"starsessions": 1.7, "litestar": 2.0},
    },
}
"""Requests a second, `JUDGED` at once, as a multiple of the peer's."""
DECODING = 1.15
"""CPU time of a request that reads one name beside 2 MB, as a multiple of what it takes to decode these once."""
JUDGED, ALONE = "50", 0.7
"""The number at once that is judged; and how much of the bare driver's speed there must be at one at once."""
TRIPS = {"read": 1, "write": 2, "untouched": 1}
BESIDE = 350
"""Bytes sent to change a counter beside 1 MB."""
INSTRUCTIONS = {
    "none": 21_131,
    "untouched": 47_740,
    "read": 53_798,
    "write": 61_117,
    "new": 68_716,
    "tampered": 44_428,
    "stream20": 74_408,
    "socket": 86_576,
}
"""What 0.1 added to a request, by the interpreter that `COMPARABLE` begins the name of, on x86-64."""
COMPARABLE, GROWTH = "CPython 3.11.", 1.05
CALLS = {"MemoryStore": {"write": {"calls": 21}}, "SQLiteStore": {"write": {"calls": 85, "changes": 50}}}


class Check(NamedTuple):
    what: str
    value: float
    limit: float
    least: bool = False
    """The limit is a lower one."""

    @property
    def met(self) -> bool:
        return self.value >= self.limit if self.least else self.value <= self.limit

    def __str__(self) -> str:
        word, bound = "met   " if self.met else "MISSED", "at least" if self.least else "at most"
        places = 0 if self.limit >= 100 else 3
        return f"{word} {self.what}: {self.value:,.{places}f} ({bound} {self.limit:,.{places}f})"


class Shown(NamedTuple):
    """A figure that has no limit."""

    what: str
    value: float

    @property
    def met(self) -> bool:
        return True

    def __str__(self) -> str:
        return f"shown  {self.what}: {self.value:,.2f}"


def checks(results: dict[str, Any]) -> list[Check | Shown]:
    return [
        *inprocess(results.get("inprocess", {})),
        *scale(results.get("scale", {}).get(OURS, {}).get("levels", {})),
        *traced(results.get("scale", {}).get(OURS, {})),
        *instructions(results.get("instructions", {}), results.get("environment", {}).get("python", "")),
        *calls(results.get("calls", {})),
        *redis(results.get("redis", {})),
        *stores(results.get("stores", {}).get("stores", {})),
        *beside_large(results.get("stores", {})),
        *short(results.get("sockets", {}).get("short", {})),
        *streams(results.get("sockets", {}).get("streams", {})),
        *truth(results.get("truth", {}).get(OURS, {})),
    ]


def inprocess(cases: dict[str, Any]) -> Iterator[Check]:
    for to, limits in IN_PROCESS.items():
        for key, limit in limits.items():
            ratios = cases.get(key, {}).get("peers", {}).get(OURS, {}).get("ratio", {})
            if to in ratios:
                yield Check(f"{cases[key]['title']}, added, times that of {to}", ratios[to], limit)
    if "history" in cases and "read" in cases:
        beside, alone = (cases[key]["peers"][OURS]["added"] for key in ("history", "read"))
        yield Check("read beside 100 KB, added, times a read in a small session", beside / alone, HISTORY)


def scale(levels: dict[str, Any]) -> Iterator[Check]:
    if not levels:
        return
    top = max(levels, key=int)
    title = f"{int(top):,} live sessions"
    for operation in ("new", "read"):
        yield Check(f"{operation} at {title}, times that at 100", levels[top][operation]["ratio"], FEW)
    for operation in ("new", "read", "write", "expire"):
        if operation in levels[top]:
            yield Check(f"worst {operation} at {title}, ns", levels[top][operation]["worst"], WORST)
    if int(top) >= ENOUGH:
        yield Check(f"bytes of a small session, resident, at {title}", levels[top]["bytes"], SMALL)


def traced(ours: dict[str, Any]) -> Iterator[Check]:
    if ours:
        yield Check("bytes of a small session, traced", ours["traced_bytes"], SMALL)


def instructions(cases: dict[str, Any], python: str) -> Iterator[Check]:
    for key, case in cases.items():
        if OURS in case["peers"] and python.startswith(COMPARABLE):
            yield Check(f"instructions, {key}, times those of 0.1", case["peers"][OURS] / INSTRUCTIONS[key], GROWTH)


def calls(stores: dict[str, Any]) -> Iterator[Check]:
    for store, requests in CALLS.items():
        for request, limits in requests.items():
            for what, limit in limits.items():
                if store in stores:
                    yield Check(f"{what} of a {request} on {store}", stores[store][request][what], limit)


def redis(found: dict[str, Any]) -> Iterator[Check]:
    for key, case in found.get("cases", {}).items():
        if OURS in case["peers"]:
            yield from on_redis(key, f"Redis, {case['title']}", case["peers"][OURS])
    if OURS in found.get("beside", {}):
        yield Check("Redis, write beside 1 MB, bytes sent", found["beside"][OURS]["sent"], BESIDE)


def on_redis(key: str, title: str, sent: dict[str, float]) -> Iterator[Check]:
    yield Check(f"{title}, round trips", sent["trips"], TRIPS[key])
    if key != "write":
        yield Check(f"{title}, changes of the data", sent.get("changes", 0), 0)


def stores(found: dict[str, Any]) -> Iterator[Check]:
    for store, measured in found.items():
        for key, limits in ON_STORES[store].items():
            levels = measured["cases"].get(key, {}).get("levels", {})
            alone = {to: ALONE for to in limits if to == measured["driver"]}
            for level, least in ((JUDGED, limits), ("1", alone)):
                ratios = levels.get(level, {}).get(OURS, {}).get("ratio", {})
                for to in least.keys() & ratios.keys():
                    title = f"{measured['title']}, {measured['cases'][key]['title']}, {level} at once"
                    yield Check(f"{title}: requests/s, times those of {to}", ratios[to], least[to], least=True)


def beside_large(found: dict[str, Any]) -> Iterator[Check | Shown]:
    """Judge what a request pays for 2 MB that it does not touch, and show what others' 2 MB cost a small one."""
    for store in found.get("stores", {}).values():
        for level, peers in store["cases"].get("large", {}).get("levels", {}).items():
            if OURS in peers:
                title = f"{store['title']}, read beside 2 MB, {level} at once: CPU, times that of decoding these once"
                yield Check(title, peers[OURS]["cpu"] / found["decode"], DECODING)
        for level, peers in store["cases"].get("beside", {}).get("levels", {}).items():
            for key in (key for key in (store["driver"], OURS) if key in peers):
                title = f"{store['title']}, read while others load 2 MB, {level} at once: p99 of {key}, ms"
                yield Shown(title, peers[key]["p99"] / 1e6)


def short(cases: dict[str, Any]) -> Iterator[Check]:
    for case, peers in cases.items():
        ratios = peers.get(OURS, {}).get("ratio", {})
        for to, limit in REQUESTS.items():
            if to in ratios:
                yield Check(f"sockets, {case}: requests/s, times that of {to}", ratios[to]["rps"], limit, least=True)
        if "bare" in ratios:
            yield Check(f"sockets, {case}: p99, times that of bare", ratios["bare"]["p99"], P99)


def streams(counts: dict[str, Any]) -> Iterator[Check]:
    for clients, peers in counts.items():
        ratios = peers.get(OURS, {}).get("ratio", {}).get("bare", {})
        for figure in ("total", "cpu"):
            if figure in ratios:
                yield Check(f"stream, {clients} readers: {figure}, times that of bare", ratios[figure], STREAM)


def truth(facts: dict[str, bool | None]) -> Iterator[Check]:
    if facts:
        yield Check("facts answered with no", sum(kept is False for kept in facts.values()), 0)
