"""The table of users behind ``SQLStore``: a row for each tag, locked by whoever logs in or revokes, and its mark.

Rules of residence: the statements of that table, and how the databases spell them. What the lock is for is in
``users``.

A row is made by the first login or revocation. Its lock makes a user's logins and revocations come one after the
other, and holds up nobody else's. It says nothing but the mark, so it may go when that is over.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sqlalchemy.engine import Connection

from ..users import MARK_SECONDS
from .exchange import transaction
from .mysql import MySQL
from .postgresql import PostgreSQL

# An upsert, which locks the row and changes nothing but its hour. MariaDB's `insert ignore` would take a shared lock.
LATER_HOUR = "expire_hour = greatest(held.expire_hour, new.expire_hour)"
LATER_MARK = "not_before = greatest(coalesce(held.not_before, new.not_before), new.not_before), kept = new.kept"
# PostgreSQL: all tags in one statement, locked in their order.
INSERT_ALL = """
    insert into {user} as held (user_id, not_before, kept, expire_hour)
    select x.tag, real(:at), bytes(:kept), :hour from unnest(cast(:tags as bytea[])) as x (tag) order by x.tag
    on conflict (user_id) do update set <> returning not_before, kept"""
# MariaDB and MySQL: one for each.
INSERT_ONE = """
    insert into {user} (user_id, not_before, kept, expire_hour) values (bytes(:tag), real(:at), bytes(:kept), :hour)
    on duplicate key update <>"""
MARKS = "select not_before, kept from {user} where user_id among(:tags)"
FIND_OLD = "select user_id from {user} where expire_hour <= hour(:now) limit :limit for update skip locked"
DELETE_OLD = "delete from {user} where user_id among(:tags)"


class Marks:
    """The rows of users."""

    def __init__(self, database: PostgreSQL | MySQL) -> None:
        self._database = database
        self._at_once = isinstance(database, PostgreSQL)
        self._hold, self._set = (self._upsert(sets) for sets in (LATER_HOUR, f"{LATER_HOUR}, {LATER_MARK}"))
        self._marks = database.compiled(MARKS)
        self._find_old, self._delete_old = database.compiled(FIND_OLD), database.compiled(DELETE_OLD)

    def hold(self, connection: Connection, tags: Sequence[bytes], now: float) -> Sequence[Any]:
        """Lock the rows of some tags, in a transaction. Return when each was last revoked, and which id was spared."""
        return self._write(self._hold, connection, tags, {"at": None, "kept": None, "hour": int(now // 3600)})

    def set(self, connection: Connection, tags: Sequence[bytes], kept: bytes | None, at: float, now: float) -> None:
        """Lock the rows of some tags, in a transaction, and set their marks, of which none moves back."""
        hour = int((max(at, now) + MARK_SECONDS) // 3600) + 1
        self._write(self._set, connection, tags, {"at": at, "kept": kept, "hour": hour})

    def purge(self, connection: Connection, now: float, limit: int) -> int:
        """Remove up to ``limit`` rows whose mark is over, passing over those that somebody else is at."""
        with transaction(connection, *self._database.begin):
            old = [row[0] for row in self._find_old.run(connection, {"now": now, "limit": limit})]
            if old:
                self._delete_old.run(connection, {"tags": old})
        return len(old)

    def _upsert(self, sets: str) -> Any:
        if self._at_once:
            return self._database.compiled(INSERT_ALL.replace("<>", sets.replace("new.", "excluded.")))
        sets = re.sub(r"new\.([a-z_]+)", r"values(\1)", sets.replace("held.", ""))
        return self._database.compiled(INSERT_ONE.replace("<>", sets))

    def _write(
        self, statement: Any, connection: Connection, tags: Sequence[bytes], values: dict[str, Any]
    ) -> Sequence[Any]:
        tags = sorted(set(tags))
        if self._at_once:
            rows: Sequence[Any] = statement.run(connection, {"tags": tags, **values})
            return rows
        for tag in tags:
            statement.run(connection, {"tag": tag, **values})
        return self._marks.run(connection, {"tags": tags})
