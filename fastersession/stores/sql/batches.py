"""What waits leaves together: requests that are asked in the same moment become one exchange with a server.

Rules of residence: asyncio only. No driver, no statement, no session: what is asked and who carries it out are given.

The first request goes at once, with all that are asked in the same turn of the event loop. What comes while it is under
way is the next batch, so nobody waits for company, and batches grow as the server falls behind. Three promises:

- each caller gets an outcome of his own: what a batch does not decide is asked again alone, and so is everything in a
  batch that failed;
- of the requests with one key one is under way at a time, in the order in which they were asked (``Lines``);
- a caller that gives up ends his own waiting only. An exchange that nobody waits for any more is ended a moment later.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Sequence
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

ABANDON_SECONDS = 0.25  # after its last caller has given up: a call takes milliseconds, and nothing may overtake it
SILENT_SECONDS = 1.0  # of a call that its caller has given up: so much longer than usual that the network is in doubt
WIDTH = 2  # batches of a kind under way at a time
COUNT = 100  # in a batch: more would not be cheaper by much, and the first of them would wait for the last
ROOM = 2**20  # bytes of a batch: MariaDB takes 16 MB by default, and base64 adds a third
LARGE = 2**16  # bytes that may go with others: nobody's answer waits while more of them travel
ALONE = LARGE + 1  # the size of what must go alone


class Again:
    """In the place of an outcome: the request is to be asked alone.

    :param unheard: whether it may have been done already, and its answer was lost.
    """

    __slots__ = ("unheard",)

    def __init__(self, *, unheard: bool) -> None:
        self.unheard = unheard


AGAIN, UNHEARD = Again(unheard=False), Again(unheard=True)


class Ask(Generic[Item, Outcome]):
    """One caller's request, and where its outcome will be."""

    __slots__ = ("began", "errand", "future", "item", "key", "lane", "size")

    def __init__(
        self,
        lane: Lane[Item, Outcome],
        item: Item,
        key: Hashable | None,
        size: int,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.lane, self.item, self.key, self.size = lane, item, key, size
        self.began = loop.time()
        self.errand: Errand | None = None  # that carries it
        self.future: asyncio.Future[Outcome] = loop.create_future()


class Errand:
    """One exchange: a batch, or a request that goes alone."""

    __slots__ = ("asks", "counted", "task", "timer")

    def __init__(self, asks: Sequence[Ask[Any, Any]], *, counted: bool) -> None:
        self.asks = asks
        self.counted = counted  # among those for whose end a batch waits
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None


class Lines:
    """Where later requests of a key wait for the earlier one."""

    def __init__(self) -> None:
        self._waiting: dict[Hashable, deque[Ask[Any, Any]]] = {}

    def enter(self, ask: Ask[Any, Any]) -> bool:
        """Return whether it is the first of its key. Else it is sent when those before it are over."""
        line = self._waiting.get(ask.key)
        if line is None:
            self._waiting[ask.key] = deque()
            return True
        line.append(ask)
        return False

    def over(self, key: Hashable) -> None:
        """Let the next of a key go. Who has given up by then is passed over, and nothing of his is done."""
        line = self._waiting[key]
        while line:
            ask = line.popleft()
            if not ask.future.done():
                ask.lane.go(ask)
                return
        del self._waiting[key]


class Lane(Generic[Item, Outcome]):
    """Requests of one kind, which leave together.

    :param together: does what some items ask. Returns an outcome for each, or ``Again``.
    :param alone: does what one item asks, with what a batch has said of it, if anything. It raises to the caller.
    :param start: makes a task of a coroutine, which whoever closes the whole waits for.
    :param silent: called when a caller gives up whom the server has kept waiting for very long.
    :param lines: the order that several lanes keep together, ``None`` if any will do.
    :param least: of fewer items each is asked alone.
    """

    def __init__(
        self,
        together: Callable[[list[Item]], Awaitable[Sequence[Outcome | Again]]],
        alone: Callable[[Item, Again | None], Awaitable[Outcome]],
        start: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        silent: Callable[[], object],
        *,
        lines: Lines | None = None,
        least: int = 2,
    ) -> None:
        self._together, self._alone, self._start, self._silent = together, alone, start, silent
        self._lines, self._least = lines, least
        self._waiting: deque[Ask[Item, Outcome]] = deque()
        self._under_way = 0  # batches that are neither over nor abandoned
        self._left = 0.0  # when the last of them left
        self._leaving = False  # whether one will take what waits, in the next turn of the loop

    async def ask(self, item: Item, size: int = 0, key: Hashable | None = None) -> Outcome:
        """Return the outcome of an item.

        :param size: in bytes. What is larger than ``LARGE`` goes alone.
        :param key: what has an order in ``lines``.
        """
        ask = Ask(self, item, key, size, asyncio.get_running_loop())
        if self._lines is None or self._lines.enter(ask):
            self.go(ask)
        try:
            return await ask.future
        except asyncio.CancelledError:
            self._given_up(ask)
            raise

    def go(self, ask: Ask[Item, Outcome]) -> None:
        """Send a request: alone if it is large, else with the next batch."""
        if ask.size > LARGE:
            self._send_alone(ask, None)
        else:
            self._waiting.append(ask)
            if self._under_way < WIDTH or ask.began - self._left > SILENT_SECONDS:
                self._send_batch()

    def _send_batch(self) -> None:
        """Let what waits leave in the next turn of the loop, for it may be more by then."""
        if self._leaving:
            return
        self._leaving = True
        self._under_way += 1
        self._left = asyncio.get_running_loop().time()
        errand = Errand((), counted=True)
        errand.task = self._start(self._carry(errand))

    def _send_alone(self, ask: Ask[Item, Outcome], again: Again | None) -> None:
        errand = ask.errand = Errand((ask,), counted=False)
        errand.task = self._start(self._carry_one(ask, again))

    async def _carry(self, errand: Errand) -> None:
        """Carry those that wait by now, which includes all that were asked in the turn of the first."""
        errand.asks = asks = self._take()
        for ask in asks:
            ask.errand = errand
        try:
            if len(asks) < self._least:
                for ask in asks:
                    await self._carry_one(ask, None)
            else:
                await self._carry_all(asks)
        finally:
            self._free(errand)

    async def _carry_all(self, asks: list[Ask[Item, Outcome]]) -> None:
        try:
            outcomes = await self._together([ask.item for ask in asks])
        except asyncio.CancelledError:
            for ask in asks:
                ask.future.cancel()
                self._over(ask)
            raise
        except Exception:  # whose fault it is shows when each is asked alone
            outcomes = [AGAIN] * len(asks)
        for ask, outcome in zip(asks, outcomes, strict=True):
            if isinstance(outcome, Again):
                self._send_alone(ask, outcome)
            else:
                if not ask.future.done():
                    ask.future.set_result(outcome)
                self._over(ask)

    async def _carry_one(self, ask: Ask[Item, Outcome], again: Again | None) -> None:
        try:
            outcome = await self._alone(ask.item, again)
        except asyncio.CancelledError:
            ask.future.cancel()
            raise
        except Exception as error:
            if not ask.future.done():
                ask.future.set_exception(error)
        else:
            if not ask.future.done():
                ask.future.set_result(outcome)
        finally:
            self._over(ask)

    def _take(self) -> list[Ask[Item, Outcome]]:
        """Return the next batch, of at most ``COUNT`` requests and ``ROOM`` bytes, without those given up."""
        self._leaving = False
        taken: list[Ask[Item, Outcome]] = []
        room, waiting = ROOM, self._waiting
        while waiting and len(taken) < COUNT and waiting[0].size <= room:
            ask = waiting.popleft()
            if ask.future.done():
                self._over(ask)
            else:
                taken.append(ask)
                room -= ask.size
        self._send_rest()
        return taken

    def _free(self, errand: Errand) -> None:
        """Let the next batch leave, when one is over or abandoned."""
        if not errand.counted:
            return
        errand.counted = False
        self._under_way -= 1
        self._send_rest()

    def _send_rest(self) -> None:
        while self._waiting and self._waiting[0].future.done():
            self._over(self._waiting.popleft())
        if self._waiting and self._under_way < WIDTH:
            self._send_batch()

    def _over(self, ask: Ask[Item, Outcome]) -> None:
        """Let the next of a request's key go, once."""
        if self._lines is not None and ask.key is not None:
            key, ask.key = ask.key, None
            self._lines.over(key)

    def _given_up(self, ask: Ask[Item, Outcome]) -> None:
        loop, errand = asyncio.get_running_loop(), ask.errand
        if loop.time() - ask.began > SILENT_SECONDS:
            self._silent()
        if errand is not None and errand.timer is None and all(other.future.done() for other in errand.asks):
            errand.timer = loop.call_later(ABANDON_SECONDS, self._abandon, errand)

    def _abandon(self, errand: Errand) -> None:
        """End an exchange. Nothing waits for that: it takes a driver seconds if the server hangs."""
        if errand.task is not None and errand.task.cancel():
            for ask in errand.asks:
                self._over(ask)
            self._free(errand)
