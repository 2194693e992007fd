"""Runs in Redis: whose turn it is, and the frames.

Rules of residence: the verbs of ``LogStore`` that have to do with runs. A user's frames are written and read by plain
commands, all of one call in one piece; a session's by scripts that look at its record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..logs import Batch, Begin, Begun, End, Ended, Outcome, Position, Run
from . import logs_runs_scripts as lua
from .link import pack
from .logs_wire import Wire, milliseconds, of_entry, to_hex, to_id, to_position, to_status, top_of
from .route import BULK, FAST, Build
from .sending import LARGE

REFUSAL = "equal or smaller"  # in what XADD says of a position that is not above all that is there
FOLLOWED, REPLAYED = 16, 64  # entries of each run that one read takes: of many runs, of one
Ask = tuple[bytes, Build]
Frames = list[tuple[Position, Any]] | None


class LogRuns(Wire):
    """The verbs of runs."""

    async def begin(self, begin: Begin) -> Begun:
        run = begin.run
        arguments = (
            *self._keep(begin.keep), to_hex(run.run), milliseconds(begin.seconds), milliseconds(begin.kept),
            begin.head, b"" if begin.instead_of is None else to_hex(begin.instead_of), *of_entry(begin.entry),
        )  # fmt: skip
        outcome, more = await self._call(lua.BEGIN, run.log, *arguments, run=run.run)
        if outcome is Outcome.GONE:
            return Begun(outcome)
        with self._parsing(self._frames(run)):
            top, owner, status = more
            self._updated(run.log, owner)
            return Begun(outcome, to_status(status), to_position(top))

    async def end(self, end: End) -> Ended:
        run = end.run
        arguments = (
            *self._keep(end.keep), to_hex(run.run), b"1" if end.if_lost else b"", milliseconds(end.lingers),
            end.value, b"", *of_entry(end.entry),
        )  # fmt: skip
        outcome, more = await self._call(lua.END, run.log, *arguments, run=run.run)
        if outcome is Outcome.GONE:
            return Ended(outcome)
        with self._parsing(self._frames(run)):
            _, owner, status = more
            self._updated(run.log, owner)
            return Ended(outcome, to_status(status), top_of(more))

    async def renew(self, runs: Sequence[Run], seconds: float) -> set[Run]:
        lease = milliseconds(seconds)
        asks = [self._asking(lua.RENEW, log.place, log.log, to_hex(run), lease, run=run) for log, run in runs]
        replies = await self._means.ask_all(asks, FAST)
        outcomes = [self._outcome(key, reply)[0] for (key, _), reply in zip(asks, replies, strict=True)]
        return {run for run, outcome in zip(runs, outcomes, strict=True) if outcome is not Outcome.DONE}

    async def write(self, batches: Sequence[Batch]) -> list[Outcome]:
        """Write in one piece per server: of a user's run one XADD, and a look at whether the conversation is over.

        Two looks at what is there follow for a position that was refused.
        """
        kind = BULK if sum(batch.size for batch in batches) > LARGE else FAST
        asks: list[Ask] = []
        for batch in batches:
            asks += self._writing(batch)
        replies = iter(await self._means.ask_all(asks, kind, REFUSAL))
        outcomes = [self._written(batch, next(replies), replies) for batch in batches]
        refused = [at for at, outcome in enumerate(outcomes) if outcome is None]
        looks = [self._there(batches[at]) for at in refused]
        for at, reply in zip(refused, await self._means.ask_all(looks, kind), strict=True):
            is_same = reply and reply[0][1][1] == batches[at].value
            outcomes[at] = Outcome.DONE if is_same else Outcome.TAKEN
        return [Outcome.TAKEN if outcome is None else outcome for outcome in outcomes]

    async def read(self, after: Mapping[Run, Position], limit: int) -> Mapping[Run, list[tuple[Position, Any]] | None]:
        """Read in one piece per server: one XREAD of all that are a user's, on a Cluster one of each.

        Beside it EXISTS of each, and a look at whether the conversation is over.
        """
        route = await self._means.opened()
        count = b"%d" % (REPLAYED if len(after) == 1 else FOLLOWED)
        users = [run for run in after if run.log.place.session is None]
        sessions = [run for run in after if run.log.place.session is not None]
        groups = [[run] for run in users] if route.is_cluster else [users] if users else []
        asks = [self._streams(group, after, count) for group in groups]
        for run in users:
            asks += self._looks(run)
        asks += [
            self._asking(lua.READ_ON, log.place, log.log, to_id(after[Run(log, run)]), count, run=run)
            for log, run in sessions
        ]
        replies = await self._means.ask_all(asks, BULK if len(after) == 1 else FAST)
        with self._parsing(asks[0][0] if asks else b""):
            streams: dict[bytes, Any] = {}
            for reply in replies[: len(groups)]:
                streams.update(reply or {})  # pairs; of RESP3 a dict
            looked = iter(replies[len(groups) :])
            found = {run: self._of_users(run, streams, next(looked), next(looked), limit) for run in users}
            return found | {run: self._of_sessions(run, next(looked), limit) for run in sessions}

    # --- how they work ---

    def _of_users(self, run: Run, streams: Mapping[bytes, Any], there: int, life: Any, limit: int) -> Frames:
        """Return what XREAD has of a run, if EXISTS and the conversation say that it is there."""
        if not isinstance(there, int):
            raise ValueError("the reply of EXISTS is a number")
        return _within(streams.get(self._frames(run), []), limit) if there and self._is_there(run, life) else None

    def _of_sessions(self, run: Run, reply: Any, limit: int) -> Frames:
        outcome, more = self._outcome(self._frames(run), reply)
        return _within(more[0], limit) if outcome is Outcome.DONE else None

    def _frames(self, run: Run) -> bytes:
        return self._keys(run.log.place, run.log.log, run.run)[-1]

    def _plain(self, *command: bytes) -> Ask:
        packed = pack(command)
        return command[1], lambda *_: packed

    def _life(self, run: Run) -> Ask:
        return self._plain(b"HMGET", self._keys(run.log.place)[0], b"l", b"x")

    def _looks(self, run: Run) -> list[Ask]:
        return [self._plain(b"EXISTS", self._frames(run)), self._life(run)]

    def _is_there(self, run: Run, fields: Any) -> bool:
        """Return whether the conversation has this log, and is not over, by what ``_life`` says."""
        log, end = fields
        return bool(log == to_hex(run.log.log) and (end is None or self._means.clock() < float(end)))

    def _streams(self, group: Sequence[Run], after: Mapping[Run, Position], count: bytes) -> Ask:
        keys, ids = [self._frames(run) for run in group], [to_id(after[run]) for run in group]
        packed = pack((b"XREAD", b"COUNT", count, b"STREAMS", *keys, *ids))
        return keys[0], lambda *_: packed

    def _writing(self, batch: Batch) -> list[Ask]:
        run, position, value, _ = batch
        place, log = run.log.place, run.log.log
        if place.session is not None:
            return [self._asking(lua.WRITE, place, log, to_id(position), value, run=run.run)]
        return [self._life(run), self._plain(b"XADD", self._frames(run), b"NOMKSTREAM", to_id(position), b"v", value)]

    def _written(self, batch: Batch, reply: Any, replies: Any) -> Outcome | None:
        """Return an outcome; ``None``: the position was refused."""
        if batch.run.log.place.session is not None:
            return self._outcome(self._frames(batch.run), reply)[0]
        written = next(replies)
        if written is None or not self._is_there(batch.run, reply):
            return Outcome.GONE
        return None if isinstance(written, Exception) else Outcome.DONE

    def _there(self, batch: Batch) -> Ask:
        position = to_id(batch.position)
        return self._plain(b"XRANGE", self._frames(batch.run), position, position)


def _within(entries: Any, limit: int) -> list[tuple[Position, Any]]:
    """Return frames until a limit in bytes is reached, at least one."""
    found: list[tuple[Position, Any]] = []
    size = 0
    for entry_id, parts in entries:
        size += len(parts[1])
        if found and size > limit:
            break
        found.append((to_position(entry_id), parts[1]))
    return found
