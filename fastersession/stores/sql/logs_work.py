"""The histories behind ``SQLStore``: what the verbs do on a connection.

Rules of residence: statements and the order in which a transaction executes them, the same for every database; no
coroutine. What writes holds the lock of the conversation's row, so of one conversation one writes at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy.engine import Connection

from ..logs import (
    MOST_OF_A_SESSION,
    ORIGIN,
    Appended,
    Created,
    Entry,
    Listed,
    Log,
    Look,
    Outcome,
    Place,
    Position,
    Status,
)
from .exchange import transaction
from .logs_tables import CARRIED, COLUMNS, META, PROOF, RUN, LogTables, Meta, RunRow, entry_of, status

LOWEST, HIGHEST = (-1, 0), (2**62, 0)
TRIES = 3  # of an insert that somebody else has made
INSERT = """
    insert into {conversation} (id, session_id, log, owner_id, about, version, created, updated, expires, epoch, seq,
        entered)
    values (bytes(:conversation), bytes(:session), bytes(:log), bytes(:owner), bytes(:about), 1, real(:now), real(:now),
        real(:now) + real(:keep), 1, 0, 0)"""
REMOVE = "delete from {conversation} where id = bytes(:conversation)"
REMOVE_OVER = f"{REMOVE} and expires <= real(:now)"  # not what somebody else has made a moment ago
COUNT = "select count(*) from {conversation} where session_id = bytes(:session)"
AT = "select value from {entry} where conversation = bytes(:conversation) and epoch = :epoch and seq = :seq"
BY_KEY = "from {entry} where conversation = bytes(:conversation) and entry_key = bytes(:key)"
BY_RUN = """from {entry} where conversation = bytes(:conversation) and run = bytes(:run)
    order by epoch desc, seq desc limit 1"""
ENTER = """
    insert into {entry} (conversation, epoch, seq, value, run, entry_key)
    values (bytes(:conversation), :epoch, :seq, bytes(:value), bytes(:run), bytes(:key))"""
RAISE = """
    update {conversation} set epoch = :epoch, seq = :seq, entered = case when :is_run = 1 then 1 else entered end
    where id = bytes(:conversation)"""
TOUCH = """
    update {conversation} set updated = greatest(updated, real(:now)),
        expires = coalesce(real(:now) + real(:keep), expires)
    where id = bytes(:conversation)"""
BOUNDS = """from {entry} where conversation = bytes(:conversation)
    and (epoch > :ae or (epoch = :af and seq > :as_)) and (epoch < :be or (epoch = :bf and seq < :bs))"""
LAST = "select seq from {entry} where conversation = bytes(:conversation) and <> order by epoch desc, seq desc limit 1"
FIRST = "select seq from {entry} where conversation = bytes(:conversation) and <> order by epoch, seq limit 1"
UP_TO, ABOVE, BELOW = (
    "(epoch < :epoch or (epoch = :same and seq <= :seq))", "(epoch > :epoch or (epoch = :same and seq > :seq))",
    "(epoch < :epoch or (epoch = :same and seq < :seq))",
)  # fmt: skip
CUT = "delete from {entry} where conversation = bytes(:conversation) and <>"
SET_TOP = "update {conversation} set epoch = :epoch, seq = :seq where id = bytes(:conversation)"
DESCRIBE = """
    update {conversation} set about = bytes(:about), version = version + 1, updated = greatest(updated, real(:now))
    where id = bytes(:conversation)"""
LISTED = """
    select c.id, c.session_id, c.log, c.about, c.created, c.updated, coalesce(r.is_running, 0)
    from {conversation} c left join {session} s on s.id = c.session_id
        left join {run} r on r.conversation = c.id and r.id = c.run
    where (c.expires is null or c.expires > real(:now)) and (c.session_id is null or s.expires > real(:now))"""
OWNED = """and c.owner_id = bytes(:owner)
    and (c.updated < real(:updated) or (c.updated = real(:updated) and c.id < bytes(:id)))
    order by c.updated desc, c.id desc limit :count"""
PAGE = "and c.session_id is null and c.id > bytes(:after) order by c.id limit :count"
OVER = "select id from {conversation} where expires <= real(:now) limit :limit"
OF_THE_DEAD = """
    select c.id from {session} s join {conversation} c on c.session_id = s.id where s.expires <= real(:now)
    limit :limit"""
# Of a session's that has ended none is made anew.
REMOVE_ALL = "delete from {conversation} where id among(:ids) and (session_id is not null or expires <= real(:now))"
OVER_RUNS = "select conversation, id from {run} where is_running = 0 and kept_until <= <now> limit :limit"
REMOVE_RUN = """
    delete from {run} where conversation = bytes(:conversation) and id = bytes(:run) and is_running = 0
        and kept_until <= <now>"""


class Histories:
    """What the verbs of histories do on a connection."""

    def __init__(self, tables: LogTables) -> None:
        self.tables, self.begin, compiled = tables, tables.database.begin, tables.compiled
        self._proof, self._proof_held = compiled(PROOF), compiled(PROOF, tables.share)
        self._proof_alone = compiled(PROOF, "for update")
        self._meta, self._meta_held = compiled(META), compiled(META, "for update")
        self._run, self._carried = compiled(RUN), compiled(CARRIED)
        self._insert, self._remove, self._count = compiled(INSERT), compiled(REMOVE), compiled(COUNT)
        self._remove_over = compiled(REMOVE_OVER)
        self._at, self._enter, self._raise, self._touch = map(compiled, (AT, ENTER, RAISE, TOUCH))
        self._by_key, self._by_run = (compiled("select", COLUMNS, text) for text in (BY_KEY, BY_RUN))
        asked = "select", COLUMNS, BOUNDS
        self._on = compiled(*asked, "order by epoch, seq limit :count")
        self._back = compiled(*asked, "order by epoch desc, seq desc limit :count")
        self._last, self._first = compiled(LAST.replace("<>", UP_TO)), compiled(FIRST.replace("<>", ABOVE))
        self._cut_tail, self._cut_head = (compiled(CUT.replace("<>", which)) for which in (ABOVE, BELOW))
        self._set_top, self._describe = compiled(SET_TOP), compiled(DESCRIBE)
        self._owned, self._page = compiled(LISTED, OWNED), compiled(LISTED, PAGE)
        self._over, self._of_the_dead, self._remove_all = map(compiled, (OVER, OF_THE_DEAD, REMOVE_ALL))
        self._over_runs, self._remove_run = compiled(OVER_RUNS), compiled(REMOVE_RUN)

    # --- finding ---

    def meta(self, connection: Connection, place: Place, now: float, *, held: bool) -> Meta | None:
        """Return what is at a place; ``held``: behind its lock, and its session's."""
        user, proven = None, True
        if place.session is not None:
            given = {"session": place.session, "verifier": place.verifier or b"", "now": now}
            rows = (self._proof_held if held else self._proof).run(connection, given)
            if not rows:
                return None
            user, proven = rows[0][0], bool(rows[0][1])
        given = {"conversation": place.conversation, "now": now}
        rows = (self._meta_held if held else self._meta).run(connection, given)
        if not rows or rows[0][11] != place.session:
            return None
        return Meta(*rows[0])._replace(user=user, proven=proven)

    def of(self, connection: Connection, log: Log, now: float, *, held: bool) -> Meta | None:
        """Return what is there of this very log."""
        meta = self.meta(connection, log.place, now, held=held)
        return meta if meta is not None and meta.log == log.log else None

    def run_row(self, connection: Connection, conversation: bytes, run: bytes | None) -> RunRow | None:
        """Return the row of a run."""
        rows = [] if run is None else self._run.run(connection, {"conversation": conversation, "run": run})
        return RunRow(*rows[0]) if rows else None

    def status(self, connection: Connection, meta: Meta, run: bytes | None) -> Status | None:
        """Return the status of a run."""
        if run is None:
            return None
        row = self.run_row(connection, meta.id, run)
        carried = bool(self._carried.run(connection, {"conversation": meta.id, "run": run}))
        return status(run, row, carried=carried, is_entered=run == meta.run and bool(meta.entered))

    def is_running(self, connection: Connection, meta: Meta) -> bool:
        """Return whether the turn is taken."""
        row = self.run_row(connection, meta.id, meta.run)
        return row is not None and bool(row.is_running)

    # --- verbs ---

    def create(
        self, connection: Connection, place: Place, log: bytes, owner: bytes, about: bytes, keep: float | None,
        now: float,
    ) -> Created:  # fmt: skip
        """Insert, in the place of one that is over, too."""
        for _ in range(TRIES):
            try:
                with transaction(connection, *self.begin):
                    return self._create(connection, place, log, owner, about, keep, now)
            except connection.dialect.loaded_dbapi.IntegrityError:
                continue  # somebody else was faster, or the session has ended meanwhile: the next look tells
        return Created(Outcome.GONE)

    def _create(
        self, connection: Connection, place: Place, log: bytes, owner: bytes, about: bytes, keep: float | None,
        now: float,
    ) -> Created:  # fmt: skip
        if place.session is not None:
            given = {"session": place.session, "verifier": place.verifier or b"", "now": now}
            rows = self._proof_alone.run(connection, given)  # so that none is made beside while they are counted
            if not rows or not rows[0][1]:
                return Created(Outcome.GONE)
        meta = self.meta(connection, place, now, held=True)
        if meta is not None:
            return Created(Outcome.DONE, meta.log, meta.top)
        if place.session is not None:
            counted = self._count.run(connection, {"session": place.session})
            if counted[0][0] >= MOST_OF_A_SESSION:
                return Created(Outcome.FULL)
        self._remove_over.count(connection, {"conversation": place.conversation, "now": now})
        given = {"conversation": place.conversation, "session": place.session, "log": log, "owner": owner}
        self._insert.count(connection, {**given, "about": about, "keep": keep, "now": now})
        return Created(Outcome.DONE, log, ORIGIN)

    def append(self, connection: Connection, log: Log, entry: Entry, keep: float | None, now: float) -> Appended:
        """Append one entry."""
        with transaction(connection, *self.begin):
            meta = self.of(connection, log, now, held=True)
            if meta is None or not (meta.proven or entry.run is not None):
                return Appended(Outcome.GONE)
            if entry.run is not None and entry.run != meta.run:
                return Appended(Outcome.SUPERSEDED, meta.top)
            if entry.run is not None and meta.run_user != meta.user:
                return Appended(Outcome.GONE)
            epoch, seq = entry.position
            there = self._at.run(connection, {"conversation": meta.id, "epoch": epoch, "seq": seq})
            if there and there[0][0] == entry.value:
                return Appended(Outcome.DONE, meta.top)
            if entry.key is not None:
                rows = self._by_key.run(connection, {"conversation": meta.id, "key": entry.key})
                if rows:
                    return Appended(Outcome.SAME, meta.top, entry_of(rows[0]))
            if not meta.is_next(entry.position):
                return Appended(Outcome.TAKEN, meta.top)
            self.enter(connection, meta, entry)
            self.touch(connection, meta, keep, now)
        return Appended(Outcome.DONE, entry.position)

    def enter(self, connection: Connection, meta: Meta, entry: Entry) -> None:
        """Write an entry at the next position."""
        epoch, seq = entry.position
        given = {"conversation": meta.id, "epoch": epoch, "seq": seq}
        self._enter.count(connection, {**given, "value": entry.value, "run": entry.run, "key": entry.key})
        self._raise.count(connection, {**given, "is_run": int(entry.run is not None)})

    def touch(self, connection: Connection, meta: Meta, keep: float | None, now: float) -> None:
        """Note that something was written, and until when it is kept."""
        self._touch.count(connection, {"conversation": meta.id, "now": now, "keep": keep})

    def between(
        self, connection: Connection, meta: Meta, after: Position | None, before: Position | None, count: int,
        limit: int, *, newest: bool,
    ) -> list[Entry]:  # fmt: skip
        """Return entries, as ``LogStore.entries`` says."""
        (ae, as_), (be, bs) = after or LOWEST, before or HIGHEST
        given = {"conversation": meta.id, "ae": ae, "af": ae, "as_": as_, "be": be, "bf": be, "bs": bs, "count": count}
        found: list[Entry] = []
        for row in (self._back if newest else self._on).run(connection, given):
            entry = entry_of(row)
            limit -= entry.size
            if found and limit < 0:
                break
            found.append(entry)
        return found[::-1] if newest else found

    def entries(self, connection: Connection, log: Log, *bounds: Any, newest: bool, now: float) -> list[Entry] | None:
        """Return them; ``None`` if the log is gone."""
        meta = self.of(connection, log, now, held=False)
        return None if meta is None else self.between(connection, meta, *bounds, newest=newest)

    def find(self, connection: Connection, log: Log, key: bytes | None, run: bytes | None, now: float) -> Entry | None:
        """Return the entry of a key, or the last of a run."""
        meta = self.of(connection, log, now, held=False)
        if meta is None:
            return None
        query, given = (self._by_key, {"key": key}) if key is not None else (self._by_run, {"run": run})
        rows = query.run(connection, {"conversation": meta.id, **given})
        return entry_of(rows[0]) if rows else None

    def look(self, connection: Connection, places: Sequence[Place], count: int, limit: int, now: float) -> Look | None:
        """Return the first that is there, at one moment: behind its lock."""
        for place in places:
            with transaction(connection, *self.begin):
                meta = self.meta(connection, place, now, held=True)
                if meta is not None:
                    last = self.between(connection, meta, None, None, count, limit, newest=True) if count else []
                    said = meta.about, meta.version, float(meta.created), float(meta.updated)
                    found = self.status(connection, meta, meta.run)
                    return Look(Log(place, meta.log), meta.top, *said, last, found)
        return None

    def cut(
        self, connection: Connection, log: Log, after: Position | None, before: Position | None, now: float
    ) -> Appended:
        """Remove the tail or the head."""
        with transaction(connection, *self.begin):
            meta = self.of(connection, log, now, held=True)
            if meta is None or not meta.proven:
                return Appended(Outcome.GONE)
            if after is not None and self.is_running(connection, meta):
                return Appended(Outcome.BUSY, meta.top)
            top = meta.top
            if after is not None and after <= top:
                top = self._without_tail(connection, meta, after)
            if before is not None:
                self._cut_head.count(connection, _at(meta, before))
        return Appended(Outcome.DONE, top)

    def _without_tail(self, connection: Connection, meta: Meta, after: Position) -> Position:
        last = self._last.run(connection, _at(meta, after))
        first = self._first.run(connection, _at(meta, after))
        seq = last[0][0] if last else min(after[1], meta.seq, *([first[0][0] - 1] if first else []))
        self._cut_tail.count(connection, _at(meta, after))
        self._set_top.count(connection, {"conversation": meta.id, "epoch": meta.epoch + 1, "seq": seq})
        return meta.epoch + 1, seq

    def describe(self, connection: Connection, log: Log, about: bytes, version: int, now: float) -> Outcome:
        """Replace what is said."""
        with transaction(connection, *self.begin):
            meta = self.of(connection, log, now, held=True)
            if meta is None or not meta.proven:
                return Outcome.GONE
            if meta.version != version:
                return Outcome.TAKEN
            self._describe.count(connection, {"conversation": meta.id, "about": about, "now": now})
        return Outcome.DONE

    def delete(self, connection: Connection, place: Place, log: bytes | None, top: Position | None, now: float) -> bool:
        """Remove a conversation."""
        with transaction(connection, *self.begin):
            meta = self.meta(connection, place, now, held=True)
            if meta is None or not meta.proven or log not in (None, meta.log) or top not in (None, meta.top):
                return False
            self._remove.count(connection, {"conversation": meta.id})
        return True

    def owned(
        self, connection: Connection, owner: bytes, count: int, before: tuple[float, bytes] | None, now: float
    ) -> list[Listed]:
        """Return what an owner has."""
        updated, last = before or (1e300, b"")
        given = {"owner": owner, "updated": updated, "id": last, "count": count, "now": now}
        return [_listed(row) for row in self._owned.run(connection, given)]

    def page(
        self, connection: Connection, after: bytes | None, count: int, now: float
    ) -> tuple[list[Listed], bytes | None]:
        """Return users' conversations in the order of their ids."""
        rows = self._page.run(connection, {"after": after or b"", "count": count, "now": now})
        found = [_listed(row) for row in rows]
        return found, found[-1].place.conversation if len(found) == count else None

    def purge(self, connection: Connection, limit: int, now: float) -> tuple[int, bool]:
        """Remove conversations that are over, and frames; return how many, and whether there may be more."""
        given = {"now": now, "limit": limit}
        ids = sorted({row[0] for query in (self._over, self._of_the_dead) for row in query.run(connection, given)})
        removed = self._remove_all.count(connection, {"ids": ids, "now": now}) if ids else 0
        runs = self._over_runs.run(connection, {"limit": limit})
        for conversation, run in runs:
            self._remove_run.count(connection, {"conversation": conversation, "run": run})
        return removed, max(len(ids), len(runs)) >= limit


def _at(meta: Meta, position: Position) -> dict[str, Any]:
    epoch, seq = position
    return {"conversation": meta.id, "epoch": epoch, "same": epoch, "seq": seq}


def _listed(row: Sequence[Any]) -> Listed:
    conversation, session, log, about, created, updated, running = row
    return Listed(Place(conversation, session), log, about, float(created), float(updated), bool(running))
