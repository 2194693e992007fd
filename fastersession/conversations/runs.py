"""The runs of one process on one store.

Rules of residence: which runs are produced or followed here, what they share, and their end at shutdown. What one run
does is ``own``'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from ..engine.line import Queue
from ..stores.logs import Run
from .following import Following
from .leases import Leases
from .own import OwnRun
from .writer import Writer

if TYPE_CHECKING:
    from .keeper import Keeper

MOST_BYTES = 256 * 2**20  # of frames that are held for folding, in all runs; above it the log is read
GRACE_SECONDS = 5.0  # for runs to end by themselves at shutdown
DRAIN_SECONDS = 3.0  # and then for being ended

_ALL: WeakKeyDictionary[Any, WeakKeyDictionary[asyncio.AbstractEventLoop, Runs]] = WeakKeyDictionary()


class Runs:
    """The runs on one store, in one event loop."""

    def __init__(self, gap: float) -> None:
        self.tasks: set[asyncio.Task[Any]] = set()
        self.own: dict[Run, OwnRun] = {}  # by the run, whose place has no verifier
        self.writer = Writer(gap, self.tasks)
        self.leases = Leases(self.own, self.begin)
        self.queue = Queue()  # of those who wait for the turn of a conversation
        self.following = Following(self.begin, gap)
        self.size = 0  # bytes of frames that are held
        self.is_full = False  # no run holds more of them than readers need
        self._closed: WeakKeyDictionary[Keeper, bool] = WeakKeyDictionary()

    def count(self, size: int) -> None:
        """Note that so many more bytes are held."""
        self.size += size
        if self.is_full:
            self.is_full = self.size > MOST_BYTES / 2
        elif self.size > MOST_BYTES:
            self.is_full = True
            for own in list(self.own.values()):
                own.tail.keeps_all = False
                own.tail.trim()

    def takes(self, keeper: Keeper) -> bool:
        """Return whether one more run may begin."""
        return len(self.own) < keeper.bounds.max_runs and keeper not in self._closed

    def start(self, own: OwnRun) -> None:
        """Let a run run that has begun in the store."""
        self.own[own.run] = own
        self.leases.wake()
        self.begin(self._main(own))

    async def _main(self, own: OwnRun) -> None:
        try:
            await own.main()
        finally:
            if self.own.get(own.run) is own:
                del self.own[own.run]
            own.tail.uncount()
            self.leases.rest()

    def begin(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Begin work in a task of its own."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def session_ended(self, record_id: bytes) -> None:
        """End the runs of a session that has ended: their logs are gone."""
        for run, own in list(self.own.items()):
            if run.log.place.session == record_id:
                own.ended_elsewhere(None)

    async def drain(self, keeper: Keeper) -> None:
        """Let no more runs begin; wait for those that run, and end those that do not end by themselves."""
        self._closed[keeper] = True
        running = [own for own in self.own.values() if own.keeper is keeper]
        await self._wait(running, GRACE_SECONDS)
        for own in running:
            own.stop("interrupted")
        await self._wait(running, DRAIN_SECONDS)

    async def _wait(self, running: list[OwnRun], seconds: float) -> None:
        over = [self.begin(own.over()) for own in running if own.run in self.own]
        if over:
            _, pending = await asyncio.wait(over, timeout=seconds)
            for task in pending:
                task.cancel()


def running_on(store: Any) -> Runs | None:
    """Return the runs on a store in the running event loop, if there is one, and there are any."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None
    of_store = _ALL.get(store)
    return None if of_store is None else of_store.get(loop)


def runs_of(store: Any, gap: float) -> Runs:
    """Return the runs on a store, in the running event loop.

    :param gap: seconds between two batches of one run, where these are made.
    """
    loop = asyncio.get_running_loop()
    of_store = _ALL.setdefault(store, WeakKeyDictionary())
    if loop not in of_store:
        of_store[loop] = Runs(gap)
    return of_store[loop]
