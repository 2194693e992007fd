"""How a run begins: the key first, then the turn, by policy.

Rules of residence: from the wish to begin to the begin in the store. What runs then is ``own``'s.
"""

from __future__ import annotations

import asyncio
from typing import Any

from ..engine.patience import shielded
from ..errors import Busy, Gone, StoreError
from ..stores.logs import Begin, Begun, Outcome, Position, Run, Status
from .ending import Ending, bare
from .leases import LEASE_SECONDS
from .packed import Packed
from .runs import Runs
from .wish import Wish
from .writer import PAUSES

POLICIES = ("reject", "enqueue", "interrupt", "rollback")
WAIT_SECONDS = 30.0  # for the turn, as ``exclusive()`` does
FIRST_PAUSE, LONGEST_PAUSE = 0.005, 0.1  # seconds between two tries
ANSWER_SECONDS = 2.0  # for the answer of a run that was superseded to enter the history
RUNS = "another run of this conversation runs"
TRIES = 3  # of a begin: its reply may have been lost


class Beginning:
    """One wish to begin a run.

    :param top: of the history, as far as it is known.
    """

    def __init__(self, wish: Wish, run: Run, top: Position) -> None:
        self.keeper = wish.handle.keeper
        self._runs = wish.handle.keeper.runs
        self._wish = wish
        self._run = run
        self._top = top

    async def begun(self, when_busy: str) -> Begun:
        """Begin; return what the store says: ``DONE``, or ``SAME`` if it had begun before.

        :raises Busy: another run runs.
        :raises Gone: the conversation, or its session, is gone.
        :raises StoreError: the store failed. Nothing runs.
        """
        until = asyncio.get_running_loop().time() + WAIT_SECONDS
        if when_busy != "enqueue":
            return await self._turn(when_busy, until)
        try:
            async with asyncio.timeout_at(until):
                line = await self._runs.queue.enter(self._run.log.log)
        except TimeoutError:
            raise Busy(RUNS) from None
        try:
            return await self._turn(when_busy, until)
        finally:
            self._runs.queue.leave(line)

    async def _turn(self, when_busy: str, until: float) -> Begun:
        loop, pause = asyncio.get_running_loop(), FIRST_PAUSE
        while True:
            # To its end, whoever is cancelled: a run that has begun, and that nobody produces, would hold the turn.
            begun = await shielded(self._begin(), self._runs.tasks)
            status = begun.status
            if begun.outcome in (Outcome.DONE, Outcome.SAME):
                return begun
            if begun.outcome is Outcome.GONE:
                raise Gone("the conversation is gone")
            if begun.outcome is Outcome.TAKEN:
                self._top = begun.top
            elif status is not None and status.is_running and status.seconds_left <= 0:
                await self._ending(status.run).lost()
            elif when_busy == "reject" or loop.time() >= until:
                raise Busy(RUNS)
            elif when_busy == "enqueue" or status is None:
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                await self._supersede(status, rolls_back=when_busy == "rollback")

    async def _begin(self) -> Begun:
        """Try once; a run that has begun runs from here on."""
        position = self._top[0], self._top[1] + 1
        entry = self._wish.question(self._run.log, position)
        head = Packed(self.keeper, bare(self._run)).head({**self._wish.head, "top": list(self._top)})
        bounds = self.keeper.bounds
        kept = bounds.max_seconds + bounds.linger
        keep = None if self._run.log.place.session is not None else self.keeper.retention
        begin = Begin(self._run, LEASE_SECONDS, kept, head, entry, None, keep)
        begun = await self._ask(begin)
        if begun.outcome is Outcome.DONE:
            self.keeper.note(self._run.log, begun.top)
            self._runs.start(self._wish.own(bare(self._run), begun.top))
        return begun

    async def _ask(self, begin: Begin) -> Begun:
        for pause in PAUSES[: TRIES - 1]:
            try:
                return await self._call(begin)
            except StoreError:
                await asyncio.sleep(pause)
        return await self._call(begin)

    async def _call(self, begin: Begin) -> Begun:
        begun: Begun = await self.keeper.call("begin", begin)
        return begun

    # --- a run that is to be superseded ---

    async def _supersede(self, status: Status, *, rolls_back: bool) -> None:
        """End the run that has the turn. If another one is faster then, that is ended, too."""
        ending = self._ending(status.run)
        head = await ending.head()
        await stopped(self._runs, ending, "interrupted")
        await self._answered(ending, head)
        if rolls_back and "top" in head:
            epoch, seq = head["top"]
            cut = await self.keeper.call("cut", self._run.log, (epoch, seq), None)
            self._top = cut.top if cut.outcome is Outcome.DONE else self._top

    async def _answered(self, ending: Ending, head: dict[str, Any]) -> None:
        """Wait until the answer of a run that has ended is in the history, for a while."""
        own = self._runs.own.get(ending.run)
        until = asyncio.get_running_loop().time() + ANSWER_SECONDS
        if own is not None:
            await asyncio.wait({asyncio.ensure_future(own.over())}, timeout=ANSWER_SECONDS)
        elif head.get("folds"):
            while not await ending.ask("find", ending.run.log, None, ending.run.run):
                if asyncio.get_running_loop().time() >= until:
                    return
                await asyncio.sleep(LONGEST_PAUSE)

    def _ending(self, run: bytes) -> Ending:
        return Ending(self._wish.handle, bare(self._run._replace(run=run)), self._top, self.keeper.fold)


async def stopped(runs: Runs, ending: Ending, status: str) -> bool:
    """End a run wherever it is produced; return whether it was running.

    :raises StoreError: the store failed.
    """
    terminal = await ending.stop(status)
    if terminal is None:
        return False
    own = runs.own.get(ending.run)
    if own is not None:
        own.ended_elsewhere(terminal)
    elif ending.fold is not None:
        await shielded(ending.enter_late(), runs.tasks)
    return True
