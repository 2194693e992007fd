"""Sessions that have ended behind ``SQLStore``: which they are, and who claims one to tell of it.

Rules of residence: statements and the order in which a transaction executes them, the same for every database; no
coroutine. Nobody waits for a lock: what somebody else is at, he claims.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.engine import Connection

from ..users import CLAIM_SECONDS, CLAIMED, Ended
from . import statements as sql
from .exchange import transaction
from .mysql import MySQL
from .postgresql import PostgreSQL
from .records import Found

STATES = "select id, expires > real(:now), ended_reason from {session} where id among(:ids)"
DUE = """
    select id, claimed_until is not null from {session} where <> and expires <= real(:now) and retention is not null
    and (claimed_until is null or claimed_until <= real(:now))"""
DUE_BY_HOUR = DUE.replace("<>", "expire_hour <= :hour")
DUE_FIRST = DUE.replace("<>", "id = bytes(:first)")
CLAIM = " ".join((
    "update {session} set claimed_until = real(:until), not_after =", sql.ENDED_AT, ",", sql.OVER,
    "where id among(:ids)",
))  # fmt: skip
CLAIMED_ONES = " ".join((
    sql.SHOWN, ", s.ended_reason",
    "from {session} s left join {attribute} a on a.session_id = s.id where s.id among(:ids)",
))  # fmt: skip
SETTLE = "delete from {session} where id = bytes(:id) and expires <= real(:now)"


class Claims:
    """What is asked of sessions that have ended."""

    def __init__(self, database: PostgreSQL | MySQL) -> None:
        self._database, compiled = database, database.compiled
        self._states, self._claim, self._claimed, self._settle = map(compiled, (STATES, CLAIM, CLAIMED_ONES, SETTLE))
        self._any_due, self._due_first = compiled(DUE_BY_HOUR, "limit 1"), compiled(DUE_FIRST, "for update skip locked")
        self._due = compiled(DUE_BY_HOUR, "order by expire_hour limit", str(CLAIMED), "for update skip locked")

    def ended(self, connection: Connection, record_ids: Sequence[bytes], now: float) -> dict[bytes, str]:
        """Return which of some records are absent or retired, and why."""
        rows = self._states.run(connection, {"ids": list(set(record_ids)), "now": now})
        states = {  # a retired one has its reason while it is alive
            row[0]: None if row[1] and row[2] is None else (row[2] or b"expired").decode(errors="ignore")
            for row in rows
        }
        return {record_id: state for record_id in record_ids if (state := states.get(record_id, "")) is not None}

    def due(self, connection: Connection, now: float, hour: int, first: bytes | None) -> list[Ended]:
        """Claim what was ended, or expired in an hour up to this one; and ``first``, whenever it expired."""
        given = {"now": now, "hour": hour, "first": first}
        if first is None and not self._any_due.run(connection, given):
            return []
        with transaction(connection, *self._database.begin):
            before = dict(map(tuple, self._due.run(connection, given)))
            if first is not None and first not in before:
                before.update(map(tuple, self._due_first.run(connection, given)))
            if not before:
                return []
            ids = list(before)
            self._claim.count(connection, {"ids": ids, "until": now + CLAIM_SECONDS, "reason": b"expired"})
            rows = self._claimed.run(connection, {"ids": ids})
        found, reasons = Found(rows, self._database.unbound), {row[0]: row[13].decode(errors="ignore") for row in rows}
        return [
            Ended(record_id, record, reasons[record_id], bool(before[record_id]))
            for record_id in ids
            if (record := found.record(record_id)) is not None
        ]

    def settle(self, connection: Connection, parameters: Mapping[str, Any]) -> bool:
        """Remove what has ended."""
        return self._settle.one(connection, parameters)
