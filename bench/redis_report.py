"""The figures of the Redis part as Markdown, and the targets they are held against.

Rules of residence: as in `report`.
"""

from __future__ import annotations

from typing import Any

from bench.redis_peers import REDIS_PEERS
from bench.table import Check, table

OURS, UNSEALED = "fastersession", "unsealed"
PEERS = ("starsessions", "litestar")


def checks(results: dict[str, Any]) -> list[Check]:
    """Hold the results against the targets; a case or a peer that was not measured is not judged."""
    found = []
    for key, case in results.get("cases", {}).items():
        if OURS in case["peers"]:
            found += case_checks(key, case["title"], case["peers"][OURS])
    beside = results.get("beside", {}).get(OURS)
    if beside:
        found.append(Check("Redis, write beside 1 MB, bytes sent", beside["sent"], 1023, 0))
    return found


def case_checks(key: str, title: str, ours: dict[str, Any]) -> list[Check]:
    traffic, ratios = ours["traffic"], ours["ratio"]
    found = [Check(f"Redis, {title}, round trips", traffic["trips"], 2 if key == "write" else 1)]
    if key != "write":
        found.append(Check(f"Redis, {title}, changes of the data", traffic.get("changes", 0), 0))
    limits = {"read": 1 / 2, "write": 1 / 1.2}
    found += [
        Check(f"Redis, {title}, time, times that of {REDIS_PEERS[to].title}", ratios[to], round(limits[key], 3))
        for to in PEERS
        if to in ratios and key in limits
    ]
    if key == "read" and UNSEALED in ratios:
        found.append(Check(f"Redis, {title}, time, times without sealing", ratios[UNSEALED], 1.15))
    return found


def markdown(results: dict[str, Any]) -> list[str]:
    """Return the tables: requests a second, and what each request costs."""
    cases = results["cases"]
    keys = list(results["beside"])
    rates = [["", *(case["title"] for case in cases.values())]]
    rates += [[REDIS_PEERS[key].title, *(rate(case, key) for case in cases.values())] for key in keys]
    costs = ["", *(f"{case['title']}: CPU µs" for case in cases.values())]
    costs += [f"{case['title']}: round trips, bytes sent" for case in cases.values()]
    costs += ["write beside 1 MB: bytes sent"]
    rows = [cost_row(key, results) for key in keys]
    title = f"Requests a second, {results['tasks']} at once in one process: medians, the best turn in brackets"
    note = "Time of one request, as a multiple of its peers': medians of the ratios within a round"
    parts = ["Sessions in Redis, over a socket. " + title, table(rates[0], rates[1:])]
    if OURS in keys:
        parts += [note, table(["", *(case["title"] for case in cases.values())], ratio_rows(cases, keys))]
    return [*parts, "What one of them costs", table(costs, rows)]


def rate(case: dict[str, Any], key: str) -> str:
    peer = case["peers"][key]
    return f"{1e9 / peer['ns']:,.0f} ({1e9 / peer['least']:,.0f})"


def ratio_rows(cases: dict[str, Any], keys: list[str]) -> list[list[str]]:
    return [
        [f"{REDIS_PEERS[OURS].title} to {REDIS_PEERS[to].title}"]
        + [f"{case['peers'][OURS]['ratio'][to]:.2f} x" for case in cases.values()]
        for to in keys
        if to != OURS
    ]


def cost_row(key: str, results: dict[str, Any]) -> list[str]:
    peers = [case["peers"][key] for case in results["cases"].values()]
    row = [REDIS_PEERS[key].title, *(f"{peer['cpu'] / 1000:.0f}" for peer in peers)]
    row += [f"{peer['traffic'].get('trips', 0):g}, {peer['traffic'].get('sent', 0):,.0f}" for peer in peers]
    return [*row, f"{results['beside'][key]['sent']:,.0f}"]
