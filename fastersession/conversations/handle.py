"""One conversation in the hands of a request: where it is, and what is known of it.

Rules of residence: finding, making and appending. What users call is ``history``'s and ``turns``'s.
"""

from __future__ import annotations

import binascii
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeVar

from ..engine.packing import Unreadable
from ..errors import Busy, Gone, KeyReused
from ..events import EntryUnreadable
from ..stores.logs import Append, Log, Outcome, Place, Position
from ..stores.logs import Entry as Stored
from .holding import Holding
from .keeper import Keeper
from .owner import OfSession, OfUser
from .running import current_run
from .said import Said

T = TypeVar("T")

LOG_CHARACTERS = 8  # of an entry's id: enough to tell the log of before from that of now
VERSION = "1"


class Known(NamedTuple):
    """A conversation that is there."""

    log: Log
    top: Position


class Entry(NamedTuple):
    """One entry of a history.

    ``id`` says where it is: opaque, and of this conversation only. ``run`` is the id of the run that has written it.
    """

    id: str
    value: Any
    run: str | None = None


class Handle:
    """One conversation. Nothing is asked of the store before something is done with it.

    A handle that has seen a log never makes or writes another: who holds it over a ``delete()`` gets ``Gone``.
    """

    def __init__(self, owner: OfUser | OfSession, name: str) -> None:
        self.keeper: Keeper = owner.keeper
        self.name = name
        self.owner = owner
        self.seen: bytes | None = None  # the log
        self._is_guess = False  # it was seen a while ago, in this process: it may be gone

    @property
    def places(self) -> list[Place]:
        """Where it may be."""
        places = self.owner.places(self.name)
        for key in range(1, len(places)):
            self.keeper.values.found_under(key, places[key].conversation)
        return places

    @property
    def guard(self) -> Callable[[], Awaitable[Any]] | None:
        """What a reader's end waits for."""
        return self.owner.guard

    @property
    def is_over(self) -> bool:
        """Whether the request that has it is over."""
        return self.owner.is_over

    def hold(self) -> Holding | None:
        """Hold the session for a run; ``None`` if it is a user's conversation."""
        return self.owner.hold()

    async def reached(self, *, make: bool) -> Known | None:
        """Return the conversation; ``None`` if it is not there, and is not to be made.

        :raises Gone: it is another one by now; or its session has ended.
        """
        if make:
            await self.owner.ready()
        for place in self.places:
            known = self.keeper.known(place.conversation)
            if known is not None and self.seen in (None, known[0].log):
                self._is_guess = self._is_guess or self.seen is None
                return self.saw(Log(place, known[0].log), known[1])
        look = await self.keeper.call("look", self.places, 0, 0)
        if look is not None:
            return self.saw(look.log, look.top)
        if self.seen is not None:
            raise Gone("this conversation was deleted")
        return await self._made() if make else None

    async def certain(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do what writes; once more where it was done on a log that is gone, and which this handle has not asked for.

        :raises Gone: the conversation was deleted, or its session has ended.
        """
        try:
            return await work()
        except Gone:
            if not self._is_guess:
                raise
        self.lost()
        self.seen, self._is_guess = None, False
        return await work()

    async def _made(self) -> Known:
        place, log = self.places[0], secrets.token_bytes(16)
        about = Said(self.owner.user, self.name).packed(self.keeper.values, Log(place, log))
        created = await self.keeper.call("create", place, log, self.owner.owners[0], about, self.keep)
        if created.outcome is Outcome.FULL:
            raise Busy("this session has as many conversations as one may have; delete one", 409)
        if created.outcome is Outcome.GONE:
            raise Gone("the session of this conversation has ended")
        if created.log != log:  # another one was faster
            return self.saw(Log(place, created.log), created.top)
        return self.saw(Log(place, log), created.top)

    @property
    def keep(self) -> float | None:
        """Seconds for which it is kept after its last entry."""
        return self.keeper.retention if isinstance(self.owner, OfUser) else None

    def saw(self, log: Log, top: Position) -> Known:
        """Note what the store has.

        :raises Gone: it is another log than this handle has seen.
        """
        if self.seen not in (None, log.log):
            raise Gone("this conversation was deleted, and made anew")
        self.seen = log.log
        self.keeper.note(log, top)
        return Known(log, top)

    def lost(self) -> Gone:
        """Note that the log is gone; return what is to be raised."""
        for place in self.places:
            self.keeper.forget(place.conversation)
        return Gone("this conversation was deleted, or its session has ended")

    # --- appending ---

    async def appended(self, value: Any, *, key: str | None = None) -> Entry:
        """Append one value behind what is there.

        :raises KeyReused: the key has come before with another value.
        :raises Gone: the conversation is gone; or the run that writes was superseded.
        """

        async def work() -> Entry:
            return await self._lined_up(value, key)

        return await self.certain(work)

    async def _lined_up(self, value: Any, key: str | None) -> Entry:
        known = await self.reached(make=True)
        assert known is not None  # noqa: S101 - it was to be made
        if self.keeper.is_live:  # nothing suspends between the look at the top and the append
            return await self._append(known.log, known.top, value, key)
        line = await self.keeper.line.enter(known.log.place.conversation)
        try:
            at = self.keeper.known(known.log.place.conversation)
            top = known.top if at is None or at[0].log != known.log.log else at[1]
            return await self._append(known.log, top, value, key)
        finally:
            self.keeper.line.leave(line)

    async def _append(self, log: Log, top: Position, value: Any, key: str | None) -> Entry:
        digest = None if key is None else self.keeper.keys.key_digest(log.log, key)
        run = current_run(log.log)
        while True:
            entry = self.entry_at(log, (top[0], top[1] + 1), value, digest, run)
            (appended,) = await self.keeper.call("append", [Append(log, entry, self.keep)])
            if appended.outcome is Outcome.DONE:
                self._is_guess = False
                self.keeper.note(log, appended.top)
                return _shown(entry, log, value)
            if appended.outcome is Outcome.SAME:
                there = self.public(appended.there, log)
                if there is None or there.value != value:
                    raise KeyReused("this key has come before with another value")
                return there
            if appended.outcome is Outcome.SUPERSEDED:
                raise Gone("a later run has begun: what this one writes is refused")
            if appended.outcome is not Outcome.TAKEN:
                raise self.lost()
            top = appended.top

    def entry_at(self, log: Log, position: Position, value: Any, key: bytes | None, run: bytes | None) -> Stored:
        """Return an entry as the store keeps it at a position.

        :raises AttributeNotSerializable: the codec does not keep the value.
        """
        packed, size = self.keeper.values.pack("entry", log, position, value, run)
        return Stored(position, packed, run, key, size)

    # --- what the store has, as users see it ---

    def public(self, entry: Stored, log: Log) -> Entry | None:
        """Return an entry as users see it; ``None`` for one that cannot be read, of which is told."""
        try:
            value = self.keeper.values.unpack("entry", log, entry.position, entry.value, entry.run)
        except Unreadable:
            self.keeper.events.tell(EntryUnreadable(position=f"{entry.position[0]}-{entry.position[1]}"))
            return None
        return _shown(entry, log, value)

    def readable(self, entries: list[Stored], log: Log) -> list[Entry]:
        """Return those of many entries that can be read."""
        return [shown for shown in (self.public(entry, log) for entry in entries) if shown is not None]

    def position_of(self, cursor: str | Entry, log: Log) -> Position | None:
        """Return the position of an entry's id; ``None`` if it is none of this log."""
        return position_of(cursor.id if isinstance(cursor, Entry) else cursor, log.log)


def _shown(entry: Stored, log: Log, value: Any) -> Entry:
    return Entry(entry_id(log.log, entry.position), value, None if entry.run is None else entry.run.hex())


def entry_id(log: bytes, position: Position) -> str:
    """Return the id of an entry."""
    return f"{VERSION}{urlsafe_b64encode(log[:6]).decode()}.{position[0]}.{position[1]}"


def position_of(cursor: object, log: bytes) -> Position | None:
    """Return the position that an id names. It comes from clients: ``None`` for anything else than one of this log."""
    if not isinstance(cursor, str) or len(cursor) > 60 or not cursor.isascii() or cursor[:1] != VERSION:
        return None
    named, *numbers = cursor[1:].split(".")
    try:
        is_ours = len(named) == LOG_CHARACTERS and urlsafe_b64decode(named) == log[:6]
    except (binascii.Error, ValueError):
        return None
    if not is_ours or len(numbers) != 2 or not all(number.isdigit() and len(number) < 16 for number in numbers):
        return None
    return int(numbers[0]), int(numbers[1])
