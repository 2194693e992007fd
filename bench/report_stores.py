"""What sessions in stores cost, as Markdown.

Rules of residence: as in report.py, for the parts that have real stores behind them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.checks import JUDGED
from bench.store_peers import STORE_PEERS
from bench.tables import table

SHOWN = "read", "write", "new", "untouched", "large"
"""What the table of GUIDE has at full length."""


Cell = Callable[[dict[str, Any], str | None], str]
"""How the figures of a peer are told, beside those of the driver alone."""


def title(store: str, key: str) -> str:
    return next(peer.title for peer in STORE_PEERS[store] if peer.key == key)


def redis(found: dict[str, Any]) -> list[str]:
    cases = found["cases"].values()
    rows = [
        [title("redis", key), *(f"{case['peers'][key].get('trips', 0):g}" for case in cases)] for key in found["beside"]
    ]
    return [redis_brief(found), "The same, round trips", table(["", *(case["title"] for case in cases)], rows)]


def redis_brief(found: dict[str, Any]) -> str:
    """Return what a reader of GUIDE asks for: what a request sends."""
    cases = found["cases"].values()
    sent = {key: [*(case["peers"][key] for case in cases), beside] for key, beside in found["beside"].items()}
    rows = [[title("redis", key), *(f"{one.get('sent', 0):,.0f}" for one in counted)] for key, counted in sent.items()]
    header = ["", *(case["title"] for case in cases), "write beside 1 MB"]
    return f"Bytes that each request sends; {', '.join(found['versions'])}.\n\n{table(header, rows)}"


def stores(found: dict[str, Any]) -> list[str]:
    """Return for each store a table of each figure, with a row for each peer at each number at once."""
    parts = [stores_brief(found)]
    for key, store in found["stores"].items():
        for caption, cell in FIGURES.items():
            parts += [f"{store['title']}: {caption}", full(key, store, cell)]
    return [*parts, NOTES.format(rounds=found["rounds"], decode=found["decode"] / 1e6)]


def full(key: str, store: dict[str, Any], cell: Cell) -> str:
    header = ["", "at once", *(case["title"] for case in store["cases"].values())]
    levels = list(next(iter(store["cases"].values()))["levels"])
    return table(header, [row(key, store, peer, level, cell) for peer in store["peers"] for level in levels])


def row(key: str, store: dict[str, Any], peer: str, level: str, cell: Cell) -> list[str]:
    measured = {case: found["levels"][level][peer] for case, found in store["cases"].items()}
    return [title(key, peer), level, *(cell(figures, base(store, case)) for case, figures in measured.items())]


def base(store: dict[str, Any], case: str) -> str | None:
    """Return the driver that a case is held against: none where the driver alone does nothing."""
    return None if case == "untouched" else str(store["driver"])


def rate(figures: dict[str, Any], driver: str | None) -> str:
    times = figures["ratio"].get(driver)
    return f"{figures['rps']:,.0f}" + ("" if times is None else f" ({times:.{2 if times >= 0.1 else 3}f} x)")


def cpu(figures: dict[str, Any], driver: str | None = None) -> str:
    server = "" if figures["server"] is None else f" + {micro(figures['server'])}"
    return micro(figures["cpu"]) + server


def micro(ns: float) -> str:
    return f"{ns / 1000:,.0f}"


def slowest(figures: dict[str, Any], driver: str | None = None) -> str:
    return f"{figures['p99'] / 1e6:,.2f}"


FIGURES: dict[str, Cell] = {
    "requests a second (times those of the driver alone)": rate,
    "CPU of a request, µs: of the process, + of the server": cpu,
    "the time that 99 of 100 requests keep to, ms": slowest,
}
NOTES = """\
Medians of {rounds} rounds; ratios within a round. All requests of a table's row are at once in one process, and the \
server on the same machine; no store waits for the disk. The driver alone keeps one row, or key, of JSON, and reads \
none for a session untouched. *Read, while others load 2 MB* is of small sessions, beside two requests at once of \
large ones. To decode the 2 MB once takes the standard library {decode:.1f} ms.

[Where the CPU goes](profile-stores.md) on each store, function by function, says what is behind these figures."""


def stores_brief(found: dict[str, Any]) -> str:
    """Return the rates at one number at once, all stores in one table, and p99 beside large loads."""
    measured, level = found["stores"], shown_level(found)
    cases = {key: case["title"] for store in measured.values() for key, case in store["cases"].items()}
    header = ["", *(title for key, title in cases.items() if key in SHOWN)]
    header += [f"{cases['beside']}: p99, ms"] if "beside" in cases else []
    rows = [brief_row(key, store, peer, level) for key, store in measured.items() for peer in store["peers"]]
    names = dict.fromkeys(name for store in measured.values() for name in store["versions"])
    caption = f"Requests a second, {level} at once in one process (times those of the driver alone); "
    return f"{caption}{', '.join(names)}.\n\n{table(header, rows)}"


def shown_level(found: dict[str, Any]) -> str:
    """Return the number at once that is shown: the judged one, or else the largest there is."""
    levels = [level for store in found["stores"].values() for c in store["cases"].values() for level in c["levels"]]
    return JUDGED if JUDGED in levels else max(levels, key=int)


def brief_row(key: str, store: dict[str, Any], peer: str, level: str) -> list[str]:
    figures = {case: found["levels"][level][peer] for case, found in store["cases"].items()}
    rates = [rate(one, base(store, case)) for case, one in figures.items() if case in SHOWN]
    last = [slowest(figures["beside"])] if "beside" in figures else []
    return [f"{store['title']}: {title(key, peer)}", *rates, *last]
