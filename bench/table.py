"""What all tables and targets of a report are made of.

Rules of residence: shapes only; no figure, no peer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Check(NamedTuple):
    what: str
    value: float
    limit: float
    places: int = 2

    @property
    def met(self) -> bool:
        return self.value <= self.limit

    def __str__(self) -> str:
        word = "met   " if self.met else "MISSED"
        return f"{word} {self.what}: {self.value:,.{self.places}f} (at most {self.limit:,g})"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
