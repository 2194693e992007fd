"""The sessions of users behind ``SQLStore``: logins, lists and revocations.

Rules of residence: statements and the order in which a transaction executes them, the same for every database; no
coroutine. Locks are taken in one order: a user's row, then sessions by id. So a revocation finds each login either
before it, as a session, or behind it, where that sees the mark.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy.engine import Connection

from ..rows import name_to_bytes
from ..users import ABOUT, FOUND, Login, LoginOutcome, Outcome
from . import statements as sql
from .exchange import transaction
from .marks import Marks
from .mysql import MySQL
from .postgresql import PostgreSQL
from .records import Found
from .statements import DIGEST_BYTES, KEY_BYTES, from_key, to_key

REASON_BYTES = 255  # of the column of MariaDB
# A record that no login has made a user's does not say whose it is.
LIST = " ".join((
    sql.SHOWN, "from {session} s join {attribute} a on a.session_id = s.id and a.name = bytes(:about)",
    "where s.user_id among(:tags) and s.expires > real(:now) order by s.accessed desc limit", str(FOUND),
))  # fmt: skip
ENTER = " ".join((
    "update {session} set verifier = bytes(:new_verifier), verifier_before = bytes(:before),",
    "verifier_after = bytes(:new_verifier), user_id = bytes(:user), retention = real(:retention),",
    "regenerated_at = real(:accessed), not_after = real(:not_after),", sql.MERGED, ", expires =", sql.EXPIRES_ANEW, ",",
    sql.HOUR_OF.replace("<>", sql.EXPIRES_ANEW), sql.OWN, "and", sql.LEASED,
))  # fmt: skip
PAGE = " ".join((
    sql.SHOWN, "from {session} s left join {attribute} a on a.session_id = s.id and a.name = bytes(:about)",
    "where s.id > bytes(:after) and s.expires > real(:now) order by s.id limit :count",
))  # fmt: skip
EXPIRES_SOONER = "least(expires, real(:until))"
RETIRE = " ".join((
    "update {session} set verifier = bytes(:new_verifier), verifier_before = null, verifier_after = null,",
    "user_id = null, ended_reason = bytes(:reason), regenerated_at = real(:now),",
    "not_after = least(not_after, real(:until)), expires =", EXPIRES_SOONER, ",",
    sql.HOUR_OF.replace("<>", EXPIRES_SOONER), sql.OWN,
))  # fmt: skip
MEMBERS = "select id from {session} where user_id among(:tags) and expires > real(:now) order by accessed"
ENDING = """
    select id, retention is null from {session} <>
    where id among(:ids) and (id = bytes(:id) or user_id among(:tags)) and expires > real(:now)
    order by id for update"""
DELETE_ALL = "delete from {session} where id among(:ids)"
END_ALL = " ".join((sql.END, "where id among(:ids)"))
DELETE_NAMES = "delete from {attribute} where session_id = bytes(:id) and name among(:names)"
DELETE_OTHERS = "delete from {attribute} where session_id = bytes(:id) and not name among(:names)"
PROVEN = " ".join(("select id from {session}", sql.PROVEN, "for update"))
PREFIXED = """
    select name, value from {attribute}
    where session_id = bytes(:id) and substring(name from 1 for octet_length(bytes(:prefix))) = bytes(:prefix)"""
COUNT_ON = "update {session} set version = version + 1 where id = bytes(:id)"


class RefusedError(Exception):
    """Ends a login's transaction, which is undone."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome


class Attempt:
    """What may have come of a login whose answer was lost."""

    __slots__ = ("evicted", "is_unheard")

    def __init__(self) -> None:
        self.is_unheard = False  # whether a commit was asked for
        self.evicted: tuple[bytes, ...] = ()


class Users:
    """What the verbs of users do on a connection. Each that changes more than a row is one transaction."""

    def __init__(self, database: PostgreSQL | MySQL) -> None:
        self._database, self._marks, compiled = database, Marks(database), database.compiled
        self._list, self._page, self._members = map(compiled, (LIST, PAGE, MEMBERS))
        self._enter, self._retire = compiled(ENTER), compiled(RETIRE)
        self._ending = compiled(ENDING.replace("<>", database.by_key))
        self._delete_all, self._end_all = map(compiled, (DELETE_ALL, END_ALL))
        self._delete_names, self._delete_others = map(compiled, (DELETE_NAMES, DELETE_OTHERS))
        self._proven, self._prefixed, self._count_on = map(compiled, (PROVEN, PREFIXED, COUNT_ON))
        self.purge = self._marks.purge

    def login(
        self,
        connection: Connection,
        record_id: bytes,
        verifier: bytes | None,
        login: Login,
        clock: Callable[[], float],
        attempt: Attempt,
    ) -> LoginOutcome | None:
        """Log in. ``None`` if there is no such record to be made his.

        :param clock: is asked behind the lock: who comes later sees no session alive that an earlier one saw expired.
        """
        try:
            with transaction(connection, *self._database.begin):
                self._check_marks(connection, record_id, login, float(clock()))
                now = float(clock())
                evicted = self._make_room(connection, record_id, login, now)
                if not self._write(connection, record_id, verifier, login, now):
                    raise RefusedError(Outcome.ABSENT)
                attempt.is_unheard, attempt.evicted = True, evicted
        except RefusedError as refused:
            return None if refused.outcome is Outcome.ABSENT else LoginOutcome(refused.outcome)
        return LoginOutcome(Outcome.DONE, evicted)

    def retire(self, connection: Connection, parameters: Mapping[str, Any]) -> bool:
        """Take a record from its user and from who has its secret."""
        return self._retire.one(connection, {**parameters, "reason": b"replaced"})

    def delete(self, connection: Connection, parameters: Mapping[str, Any], reason: str) -> bool:
        """Remove a record, or end it, if it has a retention."""
        one = self._database.one
        return one(connection, sql.DELETE, parameters) or one(
            connection, sql.END_ONE, {**parameters, "reason": _reason(reason)}
        )

    def find(self, connection: Connection, tags: Sequence[bytes], now: float) -> Found:
        """Read a user's sessions, the last used first."""
        given = {"tags": list(tags), "now": now, "about": name_to_bytes(ABOUT)}
        return Found(self._list.run(connection, given), self._database.unbound)

    def page(self, connection: Connection, after: bytes, count: int, now: float) -> Found:
        """Read anybody's sessions, in the order of their ids."""
        given = {"after": after, "count": count, "now": now, "about": name_to_bytes(ABOUT)}
        return Found(self._page.run(connection, given), self._database.unbound)

    def revoke(
        self, connection: Connection, tags: Sequence[bytes], keep: bytes | None, at: float, now: float
    ) -> list[bytes]:
        """Set a user's mark, and end his sessions but one."""
        with transaction(connection, *self._database.begin):
            self._marks.set(connection, tags, keep, at, now)
            ids = [record_id for record_id in self._of(connection, tags, now) if record_id != keep]
            return self._end(connection, ids, tags, None, "revoked", now)

    def take(
        self, connection: Connection, record_id: bytes, verifier: bytes, prefix: str, now: float
    ) -> dict[str, bytes]:
        """Remove the attributes with a prefix, behind the lock of the session's row, and return them."""
        given = {"id": record_id, "verifier": verifier, "now": now}
        key = name_to_bytes(prefix)[: KEY_BYTES - DIGEST_BYTES]  # what a name's key has of it
        taken: dict[bytes, tuple[str, bytes]] = {}
        with transaction(connection, *self._database.begin):
            if self._proven.run(connection, given):
                rows = self._prefixed.run(connection, {"id": record_id, "prefix": key})
                taken = {row[0]: item for row in rows if (item := from_key(row[0], row[1]))[0].startswith(prefix)}
            if taken:
                self._delete_names.count(connection, {"id": record_id, "names": list(taken)})
                self._count_on.one(connection, {"id": record_id})
        return dict(taken.values())

    # --- how they work ---

    def _check_marks(self, connection: Connection, record_id: bytes, login: Login, now: float) -> None:
        for at, spared in self._marks.hold(connection, login.tags, now):
            is_late = at is not None and (
                login.authenticated_at <= at if login.strictly else login.authenticated_at < at
            )
            if is_late and spared != record_id:
                raise RefusedError(Outcome.REVOKED)

    def _make_room(self, connection: Connection, record_id: bytes, login: Login, now: float) -> tuple[bytes, ...]:
        """Evict what is above the limit, and return the ids."""
        if login.limit is None:
            return ()
        members = self._of(connection, login.tags, now)
        surplus = members[: max(len(members) + 1 - login.limit, 0)]
        if not surplus or record_id in members:
            return ()
        if not login.evicts:
            raise RefusedError(Outcome.FULL)
        return tuple(self._end(connection, surplus, login.tags, record_id, "evicted", now))

    def _of(self, connection: Connection, tags: Sequence[bytes], now: float) -> list[bytes]:
        """Return the ids of a user's sessions, the least recently used first. His row is locked, so none can come."""
        return [row[0] for row in self._members.run(connection, {"tags": list(tags), "now": now})]

    def _end(
        self,
        connection: Connection,
        ids: list[bytes],
        tags: Sequence[bytes],
        own: bytes | None,
        reason: str,
        now: float,
    ) -> list[bytes]:
        """End those of some sessions that are still a user's, and return their ids.

        ``own`` is locked with them, in its place: this transaction will change it.
        """
        if not ids:
            return []
        among = ids if own is None else [*ids, own]
        rows = self._ending.run(connection, {"ids": among, "id": own, "tags": list(tags), "now": now})
        locked = {row[0]: bool(row[1]) for row in rows if row[0] != own}
        plain, kept = (
            [record_id for record_id in ids if locked.get(record_id) is has_none] for has_none in (True, False)
        )
        if plain:
            self._delete_all.count(connection, {"ids": plain})
        if kept:
            self._end_all.count(connection, {"ids": kept, "now": now, "reason": _reason(reason)})
        return [record_id for record_id in ids if record_id in locked]

    def _write(
        self, connection: Connection, record_id: bytes, verifier: bytes | None, login: Login, now: float
    ) -> bool:
        record, deletes = login.record, login.deletes
        sets = dict([to_key(name, value) for name, value in record.attributes.items() if name not in deletes])
        given: dict[str, Any] = {
            "id": record_id, "now": now, "idle": float(record.idle_timeout), "not_after": float(record.not_after),
            "user": record.extra.tag, "retention": record.extra.retention,
        }  # fmt: skip
        if verifier is None:
            return self._database.insert(
                connection, {**given, "verifier": record.verifier, "created": float(record.created_at)}, sets
            )
        given.update(
            verifier=verifier, before=verifier if login.keep is None else None, new_verifier=record.verifier,
            accessed=float(record.accessed_at), lease=login.lease,
        )  # fmt: skip
        if not self._enter.one(connection, given):
            return False
        self._drop(connection, record_id, login)
        self._database.put(connection, record_id, sets)
        return True

    def _drop(self, connection: Connection, record_id: bytes, login: Login) -> None:
        """Remove the attributes that do not stay."""
        if login.keep is not None:
            names = {*login.keep, ABOUT}.difference(login.deletes)
            self._delete_others.count(connection, {"id": record_id, "names": _keys(names)})
        elif login.deletes:
            self._delete_names.count(connection, {"id": record_id, "names": _keys(login.deletes)})


def _keys(names: Iterable[str]) -> list[bytes]:
    return [to_key(name, b"")[0] for name in names]


def _reason(reason: str) -> bytes:
    return reason.encode()[:REASON_BYTES]
