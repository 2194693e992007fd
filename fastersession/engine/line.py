"""The queue of one process for the exclusive turns of a session.

Rules of residence: asyncio locks by record id, first come first served. No store: other processes are not known here.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

IN_A_ROW = 4  # turns that one process takes before it leaves the time of two tries to the others, which only poll


class Line:
    """The requests of this process that want a turn of one session."""

    __slots__ = ("_served", "length", "lock", "record_id")

    def __init__(self, record_id: bytes) -> None:
        self.lock = asyncio.Lock()
        self.record_id = record_id
        self.length = self._served = 0

    def is_greedy(self) -> bool:
        """Return, to who has just entered, whether it is time to let other processes go first."""
        self._served += 1
        return self._served > 1 and self._served % IN_A_ROW == 1


class Queue:
    """Lines up the requests of this process, first come first served, so that one of them at a time asks the store."""

    def __init__(self) -> None:
        self._lines: dict[bytes, Line]
        self._loop: asyncio.AbstractEventLoop | None
        self._lines, self._loop = {}, None

    async def enter(self, record_id: bytes) -> Line:
        """Wait for the turn in this process."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._lines = loop, {}  # nobody gets on in a loop that is gone: the lease is what is left
        line = self._lines.get(record_id)
        if line is None:
            line = self._lines[record_id] = Line(record_id)
        line.length += 1
        try:
            await line.lock.acquire()
        except BaseException:
            self._forget(line)
            raise
        return line

    def leave(self, line: Line) -> None:
        """Let the next one in."""
        with suppress(RuntimeError):  # the next one's loop was closed
            line.lock.release()
        self._forget(line)

    def _forget(self, line: Line) -> None:
        line.length -= 1
        if not line.length and self._lines.get(line.record_id) is line:
            del self._lines[line.record_id]
