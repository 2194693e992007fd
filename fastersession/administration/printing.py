"""What administrators see: tables and lines for people, JSON for programs.

Rules of residence: text only. What strangers wrote (users, labels, values) never reaches a terminal as it is.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from .. import SessionInfo

COLUMNS = ("id", "user", "label", "created", "last used", "expires")
WIDE = 1000  # columns, where no terminal says how many it has
HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})  # categories of characters that act on a terminal, or deceive


def shown(text: str) -> str:
    """Return text that a stranger wrote, with each character that acts on a terminal as its escape."""
    return "".join(
        char if unicodedata.category(char) not in HIDDEN else char.encode("unicode_escape", "surrogatepass").decode()
        for char in text
    )


def progress(*, hidden: bool) -> Any:
    """Return a bar for long work, which is shown on a terminal only."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = BarColumn(), TextColumn("{task.completed} {task.description}"), TimeElapsedColumn()
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=hidden)


def print_sessions(sessions: Sequence[SessionInfo], *, as_json: bool) -> None:
    """Print a table, or an object a line."""
    print_rows(COLUMNS, [said(session) for session in sessions], as_json=as_json)


def print_rows(columns: Sequence[str], rows: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    """Print a table, or an object a line."""
    if as_json:
        for row in rows:
            print(json.dumps(row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=None, pad_edge=False)
    for column in table.columns:
        column.no_wrap, column.overflow = True, "ignore"
    for row in rows:
        table.add_row(*(Text("" if cell is None else shown(str(cell))) for cell in row.values()))
    Console(width=None if sys.stdout.isatty() else WIDE).print(table)


def said(session: SessionInfo) -> dict[str, Any]:
    """Return what is said of a session, by column."""
    times = session.created_at, session.last_accessed_at, session.expires_at
    cells = session.id, session.user, session.label, *(None if time is None else time_of(time) for time in times)
    return dict(zip((name.replace(" ", "_") for name in COLUMNS), cells, strict=True))


def lines(name: str, value: Any) -> Iterable[str]:
    """Return a value, or a dict of them, as lines for a terminal."""
    if isinstance(value, dict):
        yield f"{name}:"
        yield from (f"  {shown(inner)}: {shown(text)}" for inner, text in value.items())
    else:
        yield f"{name}: {'' if value is None else shown(value)}"


def time_of(time: datetime) -> str:
    """Return a time in UTC, to the second."""
    return time.isoformat(" ", "seconds").removesuffix("+00:00") + "Z"
