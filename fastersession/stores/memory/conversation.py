"""One conversation in this process: its history, and its runs.

Rules of residence: one conversation by itself. No clock, no session; which conversations there are is ``logs``'s.
"""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right
from typing import Any

from ..logs import ORIGIN, TERMINAL, Entry, Listed, Place, Position, Status


def is_same(one: Any, other: Any) -> bool:
    """Return whether two values are the very same, without asking what an application's objects think of it."""
    return one is other or (type(one) is bytes and type(other) is bytes and one == other)


class Frames:
    """The log of one run."""

    __slots__ = ("expires", "is_running", "lease_end", "positions", "size", "tag", "values")

    def __init__(self, tag: bytes | None, head: Any, seconds: float, kept: float) -> None:
        self.tag = tag  # of the user who was logged in to the session when it began
        self.expires = time.monotonic() + kept
        self.is_running = True
        self.renew(seconds)
        self.positions: list[Position] = [ORIGIN]
        self.values: list[Any] = [head]
        self.size = 0

    @property
    def top(self) -> Position:
        """The last position."""
        return self.positions[-1]

    @property
    def terminal(self) -> Any:
        """The value of its end; ``None`` while it runs."""
        return None if self.is_running else self.values[-1]

    def renew(self, seconds: float) -> None:
        """Let the lease end so many seconds from now."""
        self.lease_end = time.monotonic() + seconds

    def seconds_left(self) -> float:
        """Return how long its lease will be."""
        return max(self.lease_end - time.monotonic(), 0.0) if self.is_running else 0.0

    def add(self, position: Position, value: Any, size: int) -> None:
        """Write a value above all that is there."""
        self.positions.append(position)
        self.values.append(value)
        self.size += size

    def end(self, value: Any, lingers: float) -> None:
        """Write the last value."""
        self.add(TERMINAL, value, 0)
        self.is_running, self.expires = False, time.monotonic() + lingers

    def has(self, position: Position, value: Any) -> bool:
        """Return whether this very value is at a position."""
        at = bisect_left(self.positions, position)
        return at < len(self.positions) and self.positions[at] == position and is_same(self.values[at], value)

    def are_over(self) -> bool:
        """Return whether they are kept no longer."""
        return time.monotonic() >= self.expires

    def after(self, position: Position, limit: int) -> list[tuple[Position, Any]]:
        """Return what is above a position; live objects have no bytes to be limited."""
        start = bisect_right(self.positions, position)
        return list(zip(self.positions[start:], self.values[start:], strict=True))


class Conversation:
    """A history, and its runs by id: the last that has begun, and those before it whose frames are kept."""

    def __init__(self, place: Place, log: bytes, owner: bytes, about: Any, now: float, keep: float | None) -> None:
        self.id, self.session = place.conversation, place.session
        self.log = log
        self.owner = owner
        self.about, self.version = about, 1
        self.created_at = self.updated_at = now
        self.expires = None if keep is None else now + keep
        self.top: Position = ORIGIN
        self.entries: list[Entry] = []
        self.keys: dict[bytes, Entry] = {}
        self.written: dict[bytes, list[Entry]] = {}  # by each run of those that have written any
        self.runs: dict[bytes, Frames] = {}
        self.last: bytes | None = None  # run that has begun
        self.tag: bytes | None = None  # of the user who was logged in to the session when it did
        self.is_entered = False  # by that run

    @property
    def is_running(self) -> bool:
        """Whether the turn is taken."""
        return self.last in self.runs and self.runs[self.last].is_running

    def order(self) -> tuple[float, bytes]:
        """Return what lists are sorted by."""
        return self.updated_at, self.id

    def listed(self) -> Listed:
        """Return what lists show."""
        place = Place(self.id, self.session)
        return Listed(place, self.log, self.about, self.created_at, self.updated_at, self.is_running)

    def is_next(self, position: Position) -> bool:
        """Return whether an entry may have this position."""
        return position == (self.top[0], self.top[1] + 1)

    def enter(self, entry: Entry) -> None:
        """Append an entry at the next position."""
        self.entries.append(entry)
        self.top = entry.position
        if entry.key is not None:
            self.keys[entry.key] = entry
        if entry.run is not None:
            self.written.setdefault(entry.run, []).append(entry)
            self.is_entered = True

    def at(self, position: Position) -> Entry | None:
        """Return the entry at a position."""
        number = bisect_left(self.entries, position, key=_position)
        there = self.entries[number] if number < len(self.entries) else None
        return there if there is not None and there.position == position else None

    def find(self, key: bytes | None, run: bytes | None) -> Entry | None:
        """Return the entry of a key, or the last of a run."""
        if key is not None:
            return self.keys.get(key)
        return None if run is None or run not in self.written else self.written[run][-1]

    def between(
        self, after: Position | None, before: Position | None, count: int, limit: int, newest: bool
    ) -> list[Entry]:
        """Return what ``LogStore.entries`` says."""
        start = 0 if after is None else bisect_right(self.entries, after, key=_position)
        stop = len(self.entries) if before is None else bisect_left(self.entries, before, key=_position)
        found: list[Entry] = []
        size = 0
        for at in reversed(range(start, stop)) if newest else range(start, stop):
            size += self.entries[at].size
            if len(found) == count or (found and size > limit):
                break
            found.append(self.entries[at])
        return found[::-1] if newest else found

    def cut(self, after: Position | None, before: Position | None) -> int:
        """Remove the tail or the head; return how many entries that were."""
        stop = len(self.entries) if after is None else bisect_right(self.entries, after, key=_position)
        start = 0 if before is None else bisect_left(self.entries, before, key=_position)
        tail = self.entries[stop:]
        gone = self.entries[:start] + self.entries[max(stop, start) :]
        if after is not None and after <= self.top:
            below = [tail[0].position[1] - 1] if tail else []
            seq = self.entries[stop - 1].position[1] if stop else min(after[1], self.top[1], *below)
            self.top = self.top[0] + 1, seq
        self.entries = self.entries[start:stop]
        for entry in gone:
            if entry.key is not None:
                del self.keys[entry.key]
            if entry.run is not None:
                self.written[entry.run].remove(entry)
                if not self.written[entry.run]:
                    del self.written[entry.run]
        return len(gone)

    # --- runs ---

    def begin(self, run: bytes, frames: Frames) -> None:
        """Let a run be the last that has begun."""
        self.runs[run] = frames
        self.last, self.tag, self.is_entered = run, frames.tag, False

    def kept(self, run: bytes) -> Frames | None:
        """Return the frames of a run, unless they are over."""
        frames = self.runs.get(run)
        return None if frames is None or frames.are_over() else frames

    def status(self, run: bytes | None) -> Status | None:
        """Return the status of a run whose frames are kept, or that has not ended, or that an entry carries."""
        if run is None:
            return None
        frames, carried = self.runs.get(run), run in self.written
        if frames is not None and (frames.is_running or not frames.are_over()):
            is_entered = carried or (run == self.last and self.is_entered)
            return Status(run, frames.is_running, frames.seconds_left(), is_entered, frames.terminal)
        return Status(run, False, is_entered=True) if carried else None

    def forget(self) -> int:
        """Drop the frames that are over, but of a run that nobody has ended; return how many bytes that were."""
        over = [run for run, frames in self.runs.items() if frames.are_over() and not frames.is_running]
        return sum(self.runs.pop(run).size for run in over)

    def frame_bytes(self) -> int:
        """Return the size of all frames."""
        return sum(frames.size for frames in self.runs.values())


def _position(entry: Entry) -> Position:
    return entry.position
