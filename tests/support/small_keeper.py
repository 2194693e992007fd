"""What runs need of a conversation, without sessions, codecs and keys.

Rules of residence: the protocols of ``conversations.needs``, fulfilled as simply as can be.
"""

from __future__ import annotations

import hashlib
import pickle
import secrets
from typing import Any, NamedTuple

from fastersession.conversations.runs import Runs, runs_of
from fastersession.conversations.turns import Turns
from fastersession.engine.packing import Unreadable
from fastersession.errors import Gone, StoreError
from fastersession.stores.logs import Entry, Log, Place, Position, Run

SIZE = 10


class Bounds(NamedTuple):
    """The bounds."""

    max_runs: int = 1000
    max_seconds: float = 1800.0
    max_bytes: int = 4 * 2**20
    abandon_after: float | None = None
    linger: float = 600.0


class Values:
    """Keeps values as they are."""

    def pack(self, kind: str, log: Log | Run, position: Position, value: Any, count: int = 0) -> tuple[Any, int]:
        return value, SIZE

    def unpack(self, kind: str, log: Log | Run, position: Position, value: Any, count: int = 0) -> Any:
        return value


class PackedValues:
    """Makes bytes of values, each time others, which open only where they belong."""

    def pack(self, kind: str, log: Log | Run, position: Position, value: Any, count: int = 0) -> tuple[Any, int]:
        packed = pickle.dumps((secrets.token_bytes(8), (kind, log, position), value))
        return packed, len(packed)

    def unpack(self, kind: str, log: Log | Run, position: Position, value: Any, count: int = 0) -> Any:
        _, where, unpacked = pickle.loads(value)
        if where != (kind, log, position):
            raise Unreadable("it belongs elsewhere")
        return unpacked


class Keys:
    """Makes ids."""

    def run_id(self, log: bytes, key: str) -> bytes:
        return _digest(b"run", log, key)

    def key_digest(self, log: bytes, key: str) -> bytes:
        return _digest(b"key", log, key)


class Keeper:
    """What the conversations of one worker share."""

    retention = None

    def __init__(self, store: Any, fold: Any, gap: float, bounds: dict[str, Any]) -> None:
        self.store, self.fold, self.gap = store, fold, gap
        self.events = store.events
        self.values = PackedValues() if store.packs else Values()
        self.keys, self.bounds = Keys(), Bounds(**bounds)

    @property
    def runs(self) -> Runs:
        return runs_of(self.store, self.gap)

    def known(self, conversation: bytes) -> None:
        """Remember nothing."""

    def note(self, log: Log, top: Position) -> None:
        """Remember nothing."""

    async def call(self, verb: str, *arguments: Any) -> Any:
        try:
            return await getattr(self.store.logs, verb)(*arguments)
        except ConnectionError as error:
            raise StoreError(str(error)) from error


class Shown(NamedTuple):
    """An entry as applications see it."""

    value: Any
    run: str | None


class Known(NamedTuple):
    """A history that was reached."""

    log: Log
    top: Position


class Handle:
    """A user's conversation."""

    guard = None

    def __init__(self, keeper: Keeper, name: str) -> None:
        self.keeper = keeper
        self.is_over = False
        self.seen: bytes | None = None
        self.place = Place(_digest(b"place", b"", name))
        self.places = [self.place]

    async def certain(self, work: Any) -> Any:
        """Do what is never done on a guess."""
        return await work()

    def hold(self) -> None:
        """Hold nothing."""

    def saw(self, log: Log, top: Position) -> None:
        """Note what is there."""
        if self.seen not in (None, log.log):
            raise Gone("another log")
        self.seen = log.log

    def lost(self) -> Gone:
        """Return what is raised."""
        return Gone("the log is gone")

    async def reached(self, make: bool) -> Known:
        self.keeper.store.count += 1
        log = _digest(b"log", repr(id(self.keeper.store)).encode(), str(self.keeper.store.count))
        owner = self.place.session or b"o" * 16
        created = await self.keeper.call("create", self.place, log, owner, b"about")
        return Known(Log(self.place, created.log), created.top)

    def entry_at(self, log: Log, position: Position, value: Any, key: bytes | None, run: bytes | None) -> Entry:
        stored, size = self.keeper.values.pack("entry", _of(log), position, value)
        return Entry(position, stored, run, key, size)

    def public(self, entry: Entry, log: Log) -> Shown:
        value = self.keeper.values.unpack("entry", _of(log), entry.position, entry.value)
        return Shown(value, None if entry.run is None else entry.run.hex())


class Chat(Turns):
    """A conversation with runs alone."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle


def _of(log: Log) -> Log:
    """Return a log as what is sealed names it: without a verifier."""
    return log._replace(place=log.place._replace(verifier=None))


def _digest(*parts: bytes | str) -> bytes:
    joined = b"\0".join(part if isinstance(part, bytes) else part.encode() for part in parts)
    return hashlib.sha256(joined).digest()[:16]
