"""The runs behind ``SQLStore``: what the verbs do on a connection.

Rules of residence: as for ``logs_work``. Who begins or ends a run holds the lock of its conversation's row; who writes
frames those of the runs, in one order, for all runs of a process leave in one transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.engine import Connection

from ..logs import ORIGIN, TERMINAL, Batch, Begin, Begun, End, Ended, Outcome, Position, Run
from .exchange import execute, transaction
from .logs_tables import LogTables, Meta, status
from .logs_work import Histories
from .mysql import ROW, MySQL
from .statements import Statement

FORGET = "delete from {run} where conversation = bytes(:conversation) and is_running = 0 and kept_until <= <now>"
FRAME = """
    select value from {frame}
    where conversation = bytes(:conversation) and run = bytes(:run) and epoch = :epoch and seq = :seq"""
FRAMES = """
    select epoch, seq, value from {frame} where conversation = bytes(:conversation) and run = bytes(:run)
        and (epoch > :epoch or (epoch = :same and seq > :seq))
    order by epoch, seq"""
WRITE = """
    insert into {frame} (conversation, run, epoch, seq, value)
    values (bytes(:conversation), bytes(:run), :epoch, :seq, bytes(:value))"""
BEGIN = """
    insert into {run} (conversation, id, user_id, is_running, lease_until, kept_until)
    values (bytes(:conversation), bytes(:run), bytes(:user), 1, <now> + real(:seconds), <now> + real(:kept))"""
LAST = """
    update {conversation} set run = bytes(:run), run_user = bytes(:user), entered = 0
    where id = bytes(:conversation)"""
RENEW = """
    update {run} set lease_until = <now> + real(:seconds)
    where conversation = bytes(:conversation) and id = bytes(:run) and is_running = 1"""
END = """
    update {run} set is_running = 0, terminal = bytes(:terminal), kept_until = <now> + real(:lingers)
    where conversation = bytes(:conversation) and id = bytes(:run)"""
REMOVE = "delete from {run} where conversation = bytes(:conversation) and id = bytes(:run)"
HOLD = "select conversation, id from {run} where conversation among(:ids) order by conversation, id for update"
# After the locks: a statement sees what was there when it began.
FACTS = """
    select r.conversation, r.id, r.user_id, r.is_running, c.log, c.session_id, s.user_id,
        (select max(f.seq) from {frame} f where f.conversation = r.conversation and f.run = r.id and f.epoch = 1)
    from {run} r join {conversation} c on c.id = r.conversation left join {session} s on s.id = c.session_id
    where r.conversation among(:ids) and r.kept_until > <now> and (c.expires is null or c.expires > real(:now))
        and (c.session_id is null or s.expires > real(:now))"""
WRITE_ALL = """
    insert into {frame} (conversation, run, epoch, seq, value)
    select x.conversation, x.run, 1, x.seq, x.value from unnest(cast(:conversations as bytea[]), cast(:runs as bytea[]),
        cast(:seqs as bigint[]), cast(:frames as bytea[])) as x (conversation, run, seq, value)"""
SET_ALL = "insert into {frame} (conversation, run, value, epoch, seq) values"
FRAME_ROW = ROW.removesuffix(")") + ", 1, %s)"


class Runs:
    """What the verbs of runs do on a connection."""

    def __init__(self, histories: Histories) -> None:
        tables: LogTables = histories.tables
        self._histories, self._begin_text, compiled = histories, tables.database.begin, tables.compiled
        self._forget, self._frame, self._frames, self._write_one = map(compiled, (FORGET, FRAME, FRAMES, WRITE))
        self._begin, self._last, self._renew, self._end = map(compiled, (BEGIN, LAST, RENEW, END))
        self._remove, self._hold, self._facts = compiled(REMOVE), compiled(HOLD), compiled(FACTS)
        self._is_mysql = isinstance(tables.database, MySQL)
        self._set_all = SET_ALL.replace("{frame}", tables.name("frame"))
        self._write_all: Statement | None = None if self._is_mysql else compiled(WRITE_ALL)

    def begin(self, connection: Connection, begin: Begin, now: float) -> Begun:
        """Take the turn, and write head and question."""
        histories, run = self._histories, begin.run.run
        with transaction(connection, *self._begin_text):
            meta = histories.of(connection, begin.run.log, now, held=True)
            if meta is None or not meta.proven:
                return Begun(Outcome.GONE)
            self._forget.count(connection, {"conversation": meta.id})
            known = histories.status(connection, meta, run)
            if known is not None:
                is_retry = self._has(connection, meta.id, run, ORIGIN, begin.head)
                return Begun(Outcome.DONE if is_retry else Outcome.SAME, known, meta.top)
            is_other = begin.instead_of is not None and meta.run != begin.instead_of
            if is_other or histories.is_running(connection, meta):
                return Begun(Outcome.BUSY, histories.status(connection, meta, meta.run), meta.top)
            if begin.entry is not None and not meta.is_next(begin.entry.position):
                return Begun(Outcome.TAKEN, histories.status(connection, meta, meta.run), meta.top)
            given = {"conversation": meta.id, "run": run}
            kept = {"user": meta.user, "seconds": float(begin.seconds), "kept": float(begin.kept)}
            self._begin.count(connection, {**given, **kept})
            self._put(connection, meta, run, ORIGIN, begin.head)
            self._last.count(connection, {**given, "user": meta.user})
            if begin.entry is not None:
                histories.enter(connection, meta, begin.entry)
            histories.touch(connection, meta, begin.keep, now)
            row = histories.run_row(connection, meta.id, run)
        top = meta.top if begin.entry is None else begin.entry.position
        return Begun(Outcome.DONE, status(run, row, carried=False, is_entered=False), top)

    def write(self, connection: Connection, batches: Sequence[Batch], now: float) -> list[Outcome]:
        """Write frames of many runs, in one transaction."""
        ids = sorted({batch.run.log.place.conversation for batch in batches})
        with transaction(connection, *self._begin_text):
            if not self._is_mysql:
                execute(connection, "set local synchronous_commit = off")  # a crash of the server costs the last gap
            self._hold.run(connection, {"ids": ids})
            facts = {(row[0], row[1]): row for row in self._facts.run(connection, {"ids": ids, "now": now})}
            outcomes = [self._outcome(connection, batch, facts) for batch in batches]
            new = [batch for batch, outcome in zip(batches, outcomes, strict=True) if outcome is None]
            self._put_all(connection, new)
        return [Outcome.DONE if outcome is None else outcome for outcome in outcomes]

    def _outcome(self, connection: Connection, batch: Batch, facts: dict[Any, Any]) -> Outcome | None:
        """Return what becomes of one batch; ``None`` if it is to be written. The facts take it in."""
        run, (epoch, seq) = batch.run, batch.position
        place = run.log.place
        row = facts.get((place.conversation, run.run))
        if row is None or row[4] != run.log.log or row[5] != place.session or row[2] != row[6]:
            return Outcome.GONE
        top = row[7] if row[7] is not None else 0
        if row[3] and epoch == 1 and seq > top:
            facts[place.conversation, run.run] = (*row[:7], seq)
            return None
        return (
            Outcome.DONE
            if self._has(connection, place.conversation, run.run, batch.position, batch.value)
            else (Outcome.TAKEN)
        )

    def _put_all(self, connection: Connection, batches: Sequence[Batch]) -> None:
        if not batches:
            return
        if self._write_all is None:
            bind = self._histories.tables.database.bind  # type: ignore[union-attr]
            text = " ".join((self._set_all, ", ".join([FRAME_ROW] * len(batches))))
            rows = ((b.run.log.place.conversation, b.run.run, b.value) for b in batches)
            bound = [[*map(bind, row), batch.position[1]] for row, batch in zip(rows, batches, strict=True)]
            execute(connection, text, tuple(value for row in bound for value in row))
            return
        given = {
            "conversations": [batch.run.log.place.conversation for batch in batches],
            "runs": [batch.run.run for batch in batches],
            "seqs": [batch.position[1] for batch in batches],
            "frames": [batch.value for batch in batches],
        }
        self._write_all.count(connection, given)

    def read(
        self, connection: Connection, after: Mapping[Run, Position], limit: int, now: float
    ) -> dict[Run, list[tuple[Position, Any]] | None]:
        """Return what runs have above positions."""
        ids = sorted({run.log.place.conversation for run in after})
        facts = {(row[0], row[1]): row for row in self._facts.run(connection, {"ids": ids, "now": now})}
        found: dict[Run, list[tuple[Position, Any]] | None] = {}
        for run, position in after.items():
            row = facts.get((run.log.place.conversation, run.run))
            is_there = row is not None and row[4] == run.log.log and row[5] == run.log.place.session
            found[run] = self._after(connection, run, position, limit) if is_there else None
        return found

    def _after(self, connection: Connection, run: Run, position: Position, limit: int) -> list[tuple[Position, Any]]:
        epoch, seq = position
        given = {"conversation": run.log.place.conversation, "run": run.run, "epoch": epoch, "same": epoch, "seq": seq}
        found: list[tuple[Position, Any]] = []
        for row in self._frames.run(connection, given):
            if found and limit < len(row[2]):
                break
            limit -= len(row[2])
            found.append(((row[0], row[1]), row[2]))
        return found

    def renew(self, connection: Connection, runs: Sequence[Run], seconds: float, now: float) -> set[Run]:
        """Renew leases; return the runs that are not running."""
        ids = sorted({run.log.place.conversation for run in runs})
        with transaction(connection, *self._begin_text):
            self._hold.run(connection, {"ids": ids})
            facts = {(row[0], row[1]): row for row in self._facts.run(connection, {"ids": ids, "now": now})}
            ended = set()
            for run in runs:
                row = facts.get((run.log.place.conversation, run.run))
                if row is None or not row[3] or row[4] != run.log.log or row[5] != run.log.place.session:
                    ended.add(run)
                else:
                    given = {"conversation": row[0], "run": run.run, "seconds": float(seconds)}
                    self._renew.count(connection, given)
        return ended

    def end(self, connection: Connection, end: End, now: float) -> Ended:
        """End a run, and write the answer."""
        histories, run = self._histories, end.run.run
        with transaction(connection, *self._begin_text):
            meta = histories.of(connection, end.run.log, now, held=True)
            row = None if meta is None else histories.run_row(connection, meta.id, run)
            if meta is None or row is None:
                return Ended(Outcome.GONE)
            if not row.is_running:
                if row.is_over:
                    return Ended(Outcome.GONE)
                outcome = Outcome.DONE if row.terminal == end.value else Outcome.TAKEN
                return Ended(outcome, histories.status(connection, meta, run), meta.top)
            if end.if_lost and row.seconds_left > 0:
                return Ended(Outcome.BUSY, histories.status(connection, meta, run), meta.top)
            entry = end.entry if row.user == meta.user else None
            if entry is not None and not meta.is_next(entry.position):
                return Ended(Outcome.TAKEN, histories.status(connection, meta, run), meta.top)
            given = {"conversation": meta.id, "run": run}
            if row.is_over:
                self._remove.count(connection, given)
            else:
                self._end.count(connection, {**given, "terminal": end.value, "lingers": float(end.lingers)})
                self._put(connection, meta, run, TERMINAL, end.value)
            if entry is not None:
                histories.enter(connection, meta, entry)
                meta = meta._replace(epoch=entry.position[0], seq=entry.position[1], entered=1)
            histories.touch(connection, meta, end.keep, now)
            found = histories.status(connection, meta, run)
        return Ended(Outcome.DONE, found, meta.top)

    def _has(self, connection: Connection, conversation: bytes, run: bytes, position: Position, value: bytes) -> bool:
        epoch, seq = position
        given = {"conversation": conversation, "run": run, "epoch": epoch, "seq": seq}
        rows = self._frame.run(connection, given)
        return bool(rows) and rows[0][0] == value

    def _put(self, connection: Connection, meta: Meta, run: bytes, position: Position, value: bytes) -> None:
        epoch, seq = position
        given = {"conversation": meta.id, "run": run, "epoch": epoch, "seq": seq, "value": value}
        self._write_one.count(connection, given)
