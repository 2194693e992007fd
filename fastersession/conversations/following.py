"""What runs of other processes say: one paced read for all that are followed here.

Rules of residence: when the store is asked, and who hears it. No read blocks: all requests share the wire.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import FasterSessionError
from ..stores.logs import Run
from .ending import Ending
from .leases import LEASE_SECONDS
from .tail import Tail

FAST_SECONDS, SLOW_SECONDS = 0.025, 0.05  # between two reads; the second where batches are written seldom
SLOW_GAP = 0.1
LONGEST_SECONDS = 0.25  # between two reads when all are silent
SILENT_SECONDS = 5.0
READ_BYTES = 256 * 1024  # of each run


class Followed:
    """One run of another process."""

    def __init__(self, ending: Ending, last: int, now: float) -> None:
        self.ending = ending
        self.tail = Tail()
        self.tail.last = last
        self.heard_at = now


class Following:
    """Follows runs while anybody here reads them.

    :param begin: begins a task.
    :param gap: seconds between two batches of one run.
    """

    def __init__(self, begin: Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]], gap: float) -> None:
        self._begin = begin
        self._pause = SLOW_SECONDS if gap >= SLOW_GAP else FAST_SECONDS
        self._followed: dict[Run, Followed] = {}
        self._task: asyncio.Task[None] | None = None

    @contextmanager
    def tail_of(self, ending: Ending, last: int) -> Iterator[Tail]:
        """Follow a run, whose frames up to ``last`` are known, while this is held."""
        followed = self._followed.get(ending.run)
        if followed is None:
            now = asyncio.get_running_loop().time()
            followed = self._followed[ending.run] = Followed(ending, last, now)
        elif not followed.tail.pieces:
            followed.tail.last = min(followed.tail.last, last)
        if self._task is None or self._task.done():
            self._task = self._begin(self._follow())
        followed.tail.readers += 1
        try:
            yield followed.tail
        finally:
            followed.tail.readers -= 1
            if not followed.tail.readers and self._followed.get(ending.run) is followed:
                del self._followed[ending.run]
            if not self._followed and self._task is not None:
                self._task.cancel()
                self._task = None

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        while self._followed:
            await self.read()
            silent = loop.time() - max((one.heard_at for one in self._followed.values()), default=0.0)
            await asyncio.sleep(self._pause if silent < SILENT_SECONDS else LONGEST_SECONDS)

    async def read(self) -> None:
        """Read once what all of them have said."""
        followed = {run: one for run, one in self._followed.items() if not one.tail.is_over}
        if not followed:
            return
        keeper = next(iter(followed.values())).ending.keeper
        try:
            found = await keeper.call("read", {run: (1, one.tail.last) for run, one in followed.items()}, READ_BYTES)
        except FasterSessionError:
            return
        now = asyncio.get_running_loop().time()
        for run, one in followed.items():
            await self._hear(one, found[run], now)

    async def _hear(self, one: Followed, found: list[tuple[tuple[int, int], Any]] | None, now: float) -> None:
        """Give what was read to the readers; look after a run that has been silent for as long as its lease."""
        if found is None:
            one.tail.go()
        elif found:
            one.heard_at = now
            one.ending.packed.hear(one.tail, found)
        elif now - one.heard_at >= LEASE_SECONDS:
            one.heard_at = now
            self._begin(one.ending.lost())
