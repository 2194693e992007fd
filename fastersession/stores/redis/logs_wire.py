"""What the verbs of conversations have in common: keys, calls of scripts, and replies that make sense.

Rules of residence: from a ``Place`` to keys, from bytes to entries and statuses. No verb. A conversation's keys begin
as its session's record does, or as a record would whose id is the conversation's, so all are in one slot.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from ...errors import StoreError
from ..logs import ORIGIN, Entry, Listed, Log, Outcome, Place, Position, Status
from .record import LONGEST, number
from .route import FAST, SURE, Build, Route
from .scripts import GRACE, Script

OUTCOMES = (None, *Outcome)  # as the scripts count them


class Asking(Protocol):
    """How many keys are asked in one go."""

    def __call__(
        self, asks: Sequence[tuple[bytes, Build]], kind: str = SURE, refusal: str | None = None, /
    ) -> Awaitable[list[Any]]:
        """Return a reply for each."""


class Means(NamedTuple):
    """What a store lends to its conversations."""

    prefix: bytes
    clock: Callable[[], float]
    calling: Callable[..., Build]
    ask: Callable[[bytes, Build, int, str], Awaitable[Any]]
    ask_all: Asking
    tell: Callable[..., None]
    settled: Callable[..., Awaitable[None]]
    opened: Callable[[], Awaitable[Route]]
    out_of_step: Callable[[bytes], StoreError]


def to_id(position: Position) -> bytes:
    """Return a position as the id of an entry of a stream."""
    return b"%d-%d" % position


def to_position(entry_id: bytes) -> Position:
    """Return the id of an entry of a stream as a position."""
    epoch, _, seq = entry_id.partition(b"-")
    return int(epoch), int(seq)


def to_entry(reply: Any) -> Entry:
    """Make an entry of one of a stream."""
    entry_id, parts = reply
    fields = dict(zip(parts[::2], parts[1::2], strict=True))
    run = fields.get(b"r")
    value = fields[b"v"]
    return Entry(
        to_position(entry_id), value, None if run is None else bytes.fromhex(run.decode()), fields.get(b"k"), len(value)
    )


def of_entry(entry: Entry | None) -> tuple[bytes, ...]:
    """Return what scripts take of an entry: position, the one before, value, run, key."""
    if entry is None:
        return ()
    (epoch, seq), run = entry.position, entry.run
    before = to_id((epoch, seq - 1))
    return to_id(entry.position), before, entry.value, b"" if run is None else to_hex(run), entry.key or b""


def to_hex(some_id: bytes) -> bytes:
    """Return an id as keys and fields have it."""
    return some_id.hex().encode()


def to_status(reply: Any) -> Status | None:
    """Make a status of what a script says of a run."""
    if not reply:
        return None
    run, is_running, left, is_entered, *terminal = reply
    return Status(
        bytes.fromhex(run.decode()), bool(is_running), float(left), bool(is_entered), terminal[0] if terminal else None
    )


def milliseconds(seconds: float) -> bytes:
    """Return a duration as the server takes it."""
    return b"%d" % (min(seconds, LONGEST) * 1000)


class Wire:
    """How scripts over conversations are called."""

    def __init__(self, means: Means) -> None:
        self._means = means

    # --- keys ---

    def _base(self, record_or_conversation: bytes) -> bytes:
        return b"%b{%b}" % (self._means.prefix, to_hex(record_or_conversation))

    def _index(self, owner: bytes) -> bytes:
        return b"%b{o:%b}" % (self._means.prefix, to_hex(owner))

    def _keys(self, place: Place, log: bytes = b"", run: bytes | None = None) -> tuple[bytes, ...]:
        base, its = self._base(place.session or place.conversation), to_hex(log)
        keys = [b"%b:c:%b" % (base, to_hex(place.conversation)), b"%b:l:%b" % (base, its), b"%b:k:%b" % (base, its)]
        if place.session is not None:
            keys += [base, base + b":s", base + b":f"]
        if run is not None:
            keys.append(b"%b:r:%b%b" % (base, its, to_hex(run)))
        return tuple(keys)

    # --- calls ---

    def _asking(
        self, script: Script, place: Place, log: bytes | None, *arguments: bytes, run: bytes | None = None
    ) -> tuple[bytes, Build]:
        keys = self._keys(place, log or b"", run)
        named = b"" if log is None else to_hex(log)
        return keys[0], self._means.calling(script, keys, named, place.verifier or b"", *arguments)

    async def _call(
        self, script: Script, log: Log, *arguments: bytes, run: bytes | None = None, kind: str = FAST
    ) -> tuple[Outcome, list[Any]]:
        key, build = self._asking(script, log.place, log.log, *arguments, run=run)
        return self._outcome(key, await self._means.ask(key, build, 1, kind))

    def _outcome(self, key: bytes, reply: Any) -> tuple[Outcome, list[Any]]:
        """Return an outcome, and what a script says beside it."""
        if not isinstance(reply, list) or not reply or reply[0] not in range(1, len(OUTCOMES)):
            raise self._means.out_of_step(key)
        return Outcome(reply[0]), reply[1:]

    @contextlib.contextmanager
    def _parsing(self, key: bytes) -> Iterator[None]:
        """Leave the connection if what it has said makes no sense."""
        try:
            yield
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            raise self._means.out_of_step(key) from None

    def _keep(self, keep: float | None) -> tuple[bytes, bytes]:
        """Return the end of what is kept, and what the server's time to live is then."""
        if keep is None:
            return b"", b""
        return number(self._means.clock() + keep), milliseconds(keep + GRACE)

    # --- the index of an owner, a hint ---

    def _updated(self, log: Log, owner: bytes) -> None:
        """Note that a user's conversation was updated. If that is lost, its place in lists is an older one."""
        if owner and log.place.session is None:
            index = self._index(owner)
            now = number(self._means.clock())
            self._means.tell(index, b"ZADD", index, b"GT", now, log.place.conversation)

    def _unlisted(self, owner: bytes, conversation: bytes) -> None:
        index = self._index(owner)
        self._means.tell(index, b"ZREM", index, conversation)

    def _listed(self, place: Place, fields: Any) -> Listed | None:
        """Return what lists show, of the fields ``SHOWN``; ``None``: it is not there."""
        log, about, created, updated, is_running, end = fields
        if log is None or (end is not None and self._means.clock() >= float(end)):
            return None
        return Listed(place, bytes.fromhex(log.decode()), about, float(created), float(updated), is_running is not None)


SHOWN = (b"l", b"a", b"c", b"u", b"e", b"x")


def top_of(more: list[Any]) -> Position:
    """Return the top that a script has said first."""
    return to_position(more[0]) if more else ORIGIN


def bounds(after: Position | None, before: Position | None) -> tuple[bytes, bytes]:
    """Return the ends of a range that lie strictly between two positions."""
    lowest = b"-" if after is None else b"(" + to_id(after)
    if before is None:
        return lowest, b"+"
    return lowest, b"(" + to_id(before) if before > (0, 0) else b"0-0"
