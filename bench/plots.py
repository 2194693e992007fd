"""Figures as pictures.

Rules of residence: from the results to PNG files, by matplotlib, which is imported only when a picture is drawn. Opaque
and white, so that a dark page shows them as a light one does. Every peer keeps its colour in all pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

from bench.checks import OURS
from bench.report_stores import shown_level

COLOURS = {
    "floor": "#9aa0a6",
    "fastersession": "#d6336c",
    "starlette": "#1c7ed6",
    "starsessions": "#0ca678",
    "asgi-sessions": "#f08c00",
    "fastsession": "#7048e8",
    "litestar": "#c2a000",
    "django": "#2b6b4f",
    "redis-py": "#9aa0a6",
    "aiosqlite": "#9aa0a6",
    "asyncpg": "#9aa0a6",
    "psycopg": "#9aa0a6",
    "asyncmy": "#9aa0a6",
    "unsealed": "#f0a3bd",
    "fastersession-psycopg": "#d6336c",
    "django-db": "#2b6b4f",
    "django-cached_db": "#2b6b4f",
}
BARE = "#ced4da"
STORED = ("read", "write", "new", "large")
SHOWN = ("none", "read", "write", "new", "history", "websocket")
NAMES = {
    "bare": "bare app",
    "floor": "the floor",
    "starlette": "Starlette",
    "fastsession": "fastsession 0.3",
    "litestar": "Litestar",
    "bare-litestar": "Litestar, no sessions",
    "django": "Django",
    "bare-django": "Django, no sessions",
    **{key: f"{key} alone" for key in ("redis-py", "aiosqlite", "asyncpg", "psycopg", "asyncmy")},
    "unsealed": "seal=False",
    "fastersession-psycopg": "fastersession, psycopg",
    "django-db": "Django, db",
    "django-cached_db": "Django, cached_db",
}
DPI = 110
RC = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10}


def label(key: str) -> str:
    return NAMES.get(key, key)


@contextmanager
def canvas(
    path: Path, rows: int, columns: int, size: tuple[float, float], title: str, heights: Sequence[float] | None = None
) -> Iterator[Sequence[Any]]:
    """Give axes to draw on, row by row, and write the picture at the end; rows are of one height, unless told."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    with mpl.rc_context(RC):
        figure, axes = pyplot.subplots(
            rows, columns, figsize=size, squeeze=False, layout="constrained", height_ratios=heights
        )
        figure.suptitle(title, fontsize=11, fontweight="bold")
        figure.get_layout_engine().set(w_pad=0.1, h_pad=0.06)
        yield list(axes.flat)
        figure.savefig(path, dpi=DPI, facecolor="white", transparent=False)
        pyplot.close(figure)
    shrink(path)


def shrink(path: Path) -> None:
    """Store a picture with few colours in a palette: a third of the bytes, and the same to the eye."""
    from PIL import Image

    with Image.open(path) as picture:
        small = picture.convert("RGB").quantize(64)
    small.save(path, optimize=True)


def bars(axis: Any, title: str, values: dict[str, float | None], text: Callable[[float], str]) -> None:
    """Draw a bar for every peer, from the top; one that cannot do it says so."""
    names = list(values)
    known = [value or 0 for value in values.values()]
    axis.barh(names, known, color=[COLOURS.get(key, BARE) for key in names], height=0.72)
    least = axis.get_xlim()[0]
    for row, value in enumerate(values.values()):
        axis.annotate("no" if value is None else text(value), (value or least, row), (3, 0), **AT)
    axis.set_yticks(range(len(names)), [label(key) for key in names])
    axis.get_yticklabels()[names.index(OURS)].set_fontweight("bold") if OURS in names else None
    axis.invert_yaxis()
    axis.set_title(title, loc="left")
    axis.tick_params(axis="y", length=0)


AT = {"textcoords": "offset points", "va": "center", "fontsize": 8, "color": "#343a40"}


def micro(ns: float) -> str:
    return f"{ns / 1000:.1f}" if ns < 100_000 else f"{ns / 1000:,.0f}"


def inprocess(cases: dict[str, Any], folder: Path) -> None:
    """Draw what the session adds to a request, a panel for each case, all on one logarithmic scale."""
    shown = [cases[key] for key in SHOWN if key in cases]
    added = [{key: peer and max(peer["added"], 1) for key, peer in case["peers"].items()} for case in shown]
    known = [value for values in added for value in values.values() if value]
    columns = 3
    rows = -(-len(shown) // columns)
    title = "What a session adds to a request, µs (shorter is better; logarithmic)"
    with canvas(folder / "inprocess.png", rows, columns, (11, 0.5 + 2.1 * rows), title) as axes:
        for axis, case, values in zip(axes, shown, added, strict=False):
            axis.set_xscale("log")
            axis.set_xlim(min(known) / 2, max(known) * 4)
            bars(axis, case["title"], values, micro)
            axis.set_xticks([], minor=True)
            axis.set_xticks([])
        for axis in (axis for number, axis in enumerate(axes) if number % columns):
            axis.set_yticks([])
        for axis in axes[len(shown) :]:
            axis.set_axis_off()


def scale(peers: dict[str, Any], folder: Path) -> None:
    """Draw the cost of new, read and write against live sessions, both logarithmic, and the collector's pause."""
    title = "What a session adds to a request, and the garbage collector, against live sessions (logarithmic)"
    with canvas(folder / "scale.png", 1, len(SCALE), (11, 3.6), title) as axes:
        for axis, (operation, panel) in zip(axes, SCALE.items(), strict=True):
            for key, found in peers.items():
                costs = {int(live): max(at(level, operation), 1) for live, level in found["levels"].items()}
                width = 2.6 if key == OURS else 1.4
                axis.loglog(
                    list(costs), list(costs.values()), "o-", ms=3, lw=width, color=COLOURS[key], label=label(key)
                )
            axis.set_title(panel, loc="left")
            axis.set_xticks(list(costs), [short(live) for live in costs])
            axis.set_xticks([], minor=True)
            axis.grid(visible=True, color="#e9ecef")
            axis.set_ylim(1, None)
            axis.yaxis.set_major_formatter("{x:,.0f}")
        handles, names = axes[0].get_legend_handles_labels()
        axes[0].figure.legend(handles, names, loc="outside lower center", ncols=len(names), frameon=False)


SCALE = {"new": "new, µs", "read": "read, µs", "write": "write, µs", "pause": "longest collection, ms"}


def short(live: int) -> str:
    return f"{live // 1_000_000} M" if live >= 1_000_000 else f"{live // 1000} k" if live >= 1000 else str(live)


def at(level: dict[str, Any], operation: str) -> float:
    return level["pause"] / 1e6 if operation == "pause" else level[operation]["added"] / 1000


def sockets(found: dict[str, Any], folder: Path) -> None:
    """Draw requests per second, a panel for each case."""
    titles = {"none": "no cookie", "read": "read one key", "write": "write one key"}
    panels = {titles[case]: {key: peer["rps"] for key, peer in peers.items()} for case, peers in found["short"].items()}
    rates(panels, folder / "sockets.png", "Requests per second through uvicorn, one core (longer is better)")


def stores(found: dict[str, Any], folder: Path) -> None:
    """Draw the same with the sessions in real stores: a row for each of them, a panel for each case."""
    measured, level = found["stores"], shown_level(found)
    keys = [key for key in STORED if all(key in store["cases"] for store in measured.values())]
    title = f"Requests per second, {level} at once in one process (longer is better)"
    heights = [len(store["peers"]) + 2 for store in measured.values()]
    size = (3.0 * len(keys) + 1.5, 0.4 + 0.2 * sum(heights))
    with canvas(folder / "stores.png", len(measured), len(keys), size, title, heights) as axes:
        for axis, (store, key) in zip(axes, product(measured.values(), keys), strict=True):
            figures = store["cases"][key]["levels"][level]
            caption = f"{store['title']}: {store['cases'][key]['title']}"
            panel(axis, caption, {peer: figures[peer]["rps"] for peer in store["peers"]}, key is keys[0])


def rates(panels: dict[str, dict[str, float]], path: Path, title: str) -> None:
    height = 0.6 + 0.25 * max(map(len, panels.values()))
    with canvas(path, 1, len(panels), (4.0 * len(panels), height), title) as axes:
        for axis, (caption, values) in zip(axes, panels.items(), strict=True):
            panel(axis, caption, values, axis is axes[0])


def panel(axis: Any, caption: str, values: dict[str, float], named: bool) -> None:
    bars(axis, caption, dict(values), "{:,.0f}".format)
    axis.set_xlim(0, axis.get_xlim()[1] * 1.2)
    axis.set_xticks([])
    if not named:
        axis.set_yticks([])


PICTURES: dict[str, Callable[[Any, Path], None]] = {
    "inprocess": inprocess,
    "scale": scale,
    "stores": stores,
    "sockets": sockets,
}
