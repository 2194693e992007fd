"""The contract of stores that keep conversations: ``LogStore``.

Rules of residence: types and docstrings, no behaviour. Concrete stores import this module, ``base`` and their driver.

A conversation is a *history*, a log that many write, and at most one *run* at a time, whose frames are a log that one
writes. What is appended names its position, ``(epoch, seq)``. The store refuses it where the top is there already or
beyond, or the log is gone. So a retry is harmless, a writer that stood still for too long is refused, and no write
brings back what was deleted.

A store knows no name: a conversation is 16 bytes, computed from its owner's; an owner is a tag. Values are bytes that
the caller has sealed. Only a live store keeps the objects themselves; the ``size`` that goes with each is in bytes, as
the caller has estimated it. A process may give one value again, in a retry: the very same bytes.

Leases, and how long frames are kept, are durations by the clock of the server that keeps them. All other times are
those of the store's ``clock``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum, auto
from typing import Any, NamedTuple, Protocol

Position = tuple[int, int]
"""Epoch and seq. Positions are compared as tuples. The first entry of a history is at (1, 1)."""

ORIGIN: Position = (1, 0)
"""The top of a new history; and where the head of a run is."""

TERMINAL: Position = (2, 0)
"""Where the end of a run is: above each of its frames."""

MOST_OF_A_SESSION = 100  # conversations


class Outcome(Enum):
    """What became of a verb. None of these is a failure of the store."""

    DONE = auto()
    GONE = auto()  # the conversation, this log of it, its session, or the run is not there, and never comes back
    TAKEN = auto()  # another value is at this position, or one beyond it: nothing was written
    SAME = auto()  # the key is there already: nothing was written
    BUSY = auto()  # a run is running: nothing was written
    SUPERSEDED = auto()  # a later run has begun: what an earlier one writes is refused
    FULL = auto()  # the session has ``MOST_OF_A_SESSION`` conversations


class Place(NamedTuple):
    """Where a conversation is.

    One of a session exists only while the session's record does, and is removed with it. ``verifier`` is the session's
    as the caller has loaded it: ``create``, ``append`` (but of a run), ``begin``, ``cut``, ``describe`` and ``delete``
    are refused with ``GONE`` unless it is the record's own or the one before.
    """

    conversation: bytes  # 16
    session: bytes | None = None  # the record id; ``None``: it is a user's
    verifier: bytes | None = None


class Log(NamedTuple):
    """One history: the conversation, and the random id (16 bytes) that was drawn when it was created.

    A conversation that was deleted and made anew has another, so a writer of the old one is refused.
    """

    place: Place
    log: bytes


class Run(NamedTuple):
    """One run of a conversation: the log of its frames."""

    log: Log
    run: bytes  # 16


class Entry(NamedTuple):
    """What a history keeps at a position."""

    position: Position
    value: Any
    run: bytes | None = None  # that has written it
    key: bytes | None = None  # 16 bytes; no two entries of a log have the same
    size: int = 0


class Status(NamedTuple):
    """What is known of the last run of a conversation."""

    run: bytes
    is_running: bool
    seconds_left: float = 0.0  # of the lease of one that is running; it is lost if there are none
    is_entered: bool = False  # an entry was written by it, be it still there or not
    terminal: Any = None  # the value of its end, if it has one and its frames are kept


class Look(NamedTuple):
    """A conversation at one moment."""

    log: Log  # with the place that was found
    top: Position
    about: Any
    version: int  # of ``about``
    created_at: float
    updated_at: float  # by the last entry, run or description
    entries: list[Entry]  # the last ones, the oldest first
    run: Status | None  # the last that has begun, as long as its frames are kept or an entry carries it


class Created(NamedTuple):
    """``DONE``: the log that is there, and its top; made by this call or before. Else ``GONE`` or ``FULL``."""

    outcome: Outcome
    log: bytes = b""
    top: Position = ORIGIN


class Append(NamedTuple):
    """One entry to be appended: at the position behind the top that the caller knows.

    With ``entry.run`` it is accepted as long as this is the last run that has begun, be it ended or not; and of a
    session's conversation only while the record belongs to the user it did when the run began. ``keep``: seconds after
    which the conversation goes, if nothing more is written; ``None``: its end stays as it is. A session's has none.
    """

    log: Log
    entry: Entry
    keep: float | None = None


class Appended(NamedTuple):
    """``DONE``, ``GONE``, ``TAKEN``, ``SAME`` (``there`` is the entry of that key) or ``SUPERSEDED``; the top now."""

    outcome: Outcome
    top: Position = ORIGIN
    there: Entry | None = None


class Batch(NamedTuple):
    """Frames to be written: one value, at the position (1, seq of the last frame)."""

    run: Run
    position: Position
    value: Any
    size: int


class Begin(NamedTuple):
    """The begin of a run.

    ``head`` is written at ``ORIGIN`` of its frames, ``entry`` into the history. Both are there, or neither is. No two
    begins have the same head: so a retry is known.
    """

    run: Run
    seconds: float  # of the lease
    kept: float  # seconds for which the frames are kept, if nobody ends the run
    head: Any
    entry: Entry | None = None
    instead_of: bytes | None = None  # the last run must be this one; ``None``: any
    keep: float | None = None  # as of ``Append``


class Begun(NamedTuple):
    """What became of a begin.

    ``DONE``, also for a retry; ``SAME``: it has begun before, with another head; ``BUSY``: another runs, or is not the
    one that it was to follow; ``TAKEN``: the entry's position is; ``GONE``. They are looked at in this order, but
    ``GONE`` comes first. ``status`` is that of the run which is there, ``top`` that of the history.
    """

    outcome: Outcome
    status: Status | None = None
    top: Position = ORIGIN


class End(NamedTuple):
    """The end of a run: ``value`` is written at ``TERMINAL`` of its frames, and the turn is free, in one step.

    ``entry``, the answer, is written in the same step, or nothing is. For a session whose record belongs to another
    user than when the run began, the run ends without it. If the frames are over, only the turn is freed, and the entry
    written.
    """

    run: Run
    value: Any
    lingers: float  # seconds for which the frames are kept from now on
    entry: Entry | None = None
    if_lost: bool = False  # only if its lease is over
    keep: float | None = None  # as of ``Append``


class Ended(NamedTuple):
    """What became of an end.

    ``DONE``: it has ended with this very value; ``TAKEN``: it has ended with another before, which ``status`` has; or,
    where ``status`` is running, the entry's position is taken, and nothing was written; ``BUSY``: it is not lost;
    ``GONE``: it is not there. ``top`` is that of the history.
    """

    outcome: Outcome
    status: Status | None = None
    top: Position = ORIGIN


class Listed(NamedTuple):
    """A conversation as lists show it."""

    place: Place  # without a verifier
    log: bytes
    about: Any
    created_at: float
    updated_at: float
    is_running: bool


class LogStore(Protocol):
    """Keeps conversations. All verbs are coroutines and atomic; a store has them as its attribute ``logs``.

    Outcomes are returned; exceptions mean that the system failed. A call whose reply was lost is made again with the
    same arguments, and has the same outcome then.
    """

    async def create(self, place: Place, log: bytes, owner: bytes, about: Any, keep: float | None = None) -> Created:
        """Make a conversation with this log, unless there is one: then that one is returned as it is.

        :param owner: 16 bytes, by which ``owned`` finds it; a session's record id for its own.
        """

    async def append(self, appends: Sequence[Append]) -> list[Appended]:
        """Append to histories, each by itself, with an outcome of its own. Two of one log are in one call never.

        The position must be the next: the top's epoch, its seq and one. The key is looked at before the position. Where
        this very value is at this position already, it is ``DONE``.
        """

    async def entries(
        self, log: Log, after: Position | None, before: Position | None, count: int, limit: int, *, newest: bool
    ) -> list[Entry] | None:
        """Return entries strictly between two positions, the oldest first; ``None``: the log is gone.

        At most ``count``, and ``limit`` bytes in all, but at least one if there is one: from the oldest on, or from the
        newest back.
        """

    async def find(self, log: Log, key: bytes | None, run: bytes | None) -> Entry | None:
        """Return the entry with this key; or the last one that this run has written."""

    async def look(self, places: Sequence[Place], count: int, limit: int) -> Look | None:
        """Return the first of these that is there, with its last entries, at one moment. Reading makes nothing."""

    async def cut(self, log: Log, after: Position | None, before: Position | None) -> Appended:
        """Remove the entries above ``after``, or those below ``before``: ``DONE``, ``BUSY`` or ``GONE``.

        Without the tail, also where there was none, the top's epoch is one more, so what was about to be appended is
        refused. Its seq is that of the last entry that stays; if none does, that of ``after``, but below the first that
        was removed. ``after`` above the top changes nothing. Cutting the head leaves the top, and is never ``BUSY``.
        """

    async def describe(self, log: Log, about: Any, version: int) -> Outcome:
        """Replace what is said about a conversation, if its version is this one: ``DONE``, ``TAKEN`` or ``GONE``.

        The version grows by one. A retry after ``DONE`` may be ``TAKEN``: the caller looks.
        """

    async def delete(self, place: Place, log: bytes | None = None, top: Position | None = None) -> bool:
        """Remove a conversation with all its runs, whatever runs. ``False`` if it was absent.

        With ``log`` or ``top`` only if they are still its own.
        """

    async def owned(self, owner: bytes, count: int, before: tuple[float, bytes] | None) -> list[Listed]:
        """Return an owner's conversations, the last updated first.

        :param before: ``updated_at`` and id of the last of the page before. One that is updated while pages are read
            may be on two, or on none.
        """

    async def page(self, after: bytes | None, count: int) -> tuple[list[Listed], bytes | None]:
        """Return conversations of users, anybody's, about ``count``, and where to go on; there ``None`` is the end."""

    async def begin(self, begin: Begin) -> Begun:
        """Begin a run. From its lease on the turn is this run's, until it ends."""

    async def write(self, batches: Sequence[Batch]) -> list[Outcome]:
        """Write frames of many runs, each with its own outcome: ``DONE``, ``TAKEN`` or ``GONE``.

        The position must be above all that the run has; the same value at its own position is ``DONE``. ``TAKEN`` also
        after its end; ``GONE`` also where the session's record belongs to another user than when the run began.
        """

    async def read(self, after: Mapping[Run, Position], limit: int) -> Mapping[Run, list[tuple[Position, Any]] | None]:
        """Return what runs have above positions, in order; ``None``: it is gone. About ``limit`` bytes of each."""

    async def renew(self, runs: Sequence[Run], seconds: float) -> set[Run]:
        """Renew the leases of runs, also those that are over; return the runs that are not running any more."""

    async def end(self, end: End) -> Ended:
        """End a run. The first end wins."""

    async def purge(self) -> int:
        """Remove conversations that are over, and frames; return how many conversations that were."""
