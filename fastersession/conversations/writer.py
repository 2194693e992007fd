"""The batches of all runs of a process leave together.

Rules of residence: when batches are written and in which calls, and asking again where the store has failed. What a
batch is and what its outcome means is ``pump``'s.

Runs are written at common ticks, one ``gap`` after another, or a little more where there are many. One that has been
silent for a gap is written at once, so its first frame never waits. A run has one batch in flight at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import FasterSessionError
from ..stores.logs import Batch, Outcome, Position, Run

if TYPE_CHECKING:
    from .keeper import Keeper

LONGER = 20e-6  # seconds by which a tick is later for each run that was written at the one before
LONGEST = 5 / 3  # of a gap, that this makes of it
MOST_AT_ONCE = 500  # batches of one call
MOST_BYTES = 4 * 2**20  # of one call
PAUSES = (0.05, 0.2, 0.5, 1.0)  # seconds before a store that has failed is asked again; the last one from there on
PROBE_BYTES = 1024 * 1024  # of the frames of each run that are read after a failure


class Pump(Protocol):
    """The frames of one run. Hashed by identity."""

    run: Run
    keeper: Keeper
    written_at: float  # the loop's time
    is_fenced: bool

    def take(self) -> Batch | None:
        """Return what is to be written next."""

    def written(self, outcome: Outcome) -> None:
        """Hear what became of it."""

    def failing(self) -> None:
        """Hear that the store could not be asked."""

    def probe(self) -> Position:
        """Return above which position the store is to be read, to compare it."""

    def compare(self, found: Sequence[tuple[Position, Any]] | None) -> bool:
        """Compare what the store has; return whether all is known."""


class Writer:
    """Writes the frames of many runs.

    :param gap: seconds between two ticks.
    """

    def __init__(self, gap: float, tasks: set[asyncio.Task[Any]]) -> None:
        self._gap = gap
        self._tasks = tasks
        self._dirty: dict[Pump, None] = {}
        self._failing: dict[Pump, None] = {}
        self._recovering = False
        self._tick = 0.0  # when the last was
        self._pace = gap  # seconds until the next
        self._due = 0.0  # when the timer is
        self._timer: asyncio.TimerHandle | None = None

    def add(self, pump: Pump) -> None:
        """Write what this run has, at its time."""
        if pump in self._dirty or pump in self._failing:
            return
        self._dirty[pump] = None
        now = asyncio.get_running_loop().time()
        self._wake_at(now if now - pump.written_at >= self._gap else max(self._tick + self._pace, now))

    def hurry(self, pump: Pump) -> None:
        """Write what this run has without waiting for a tick."""
        pump.written_at = float("-inf")
        if pump in self._dirty:
            self._wake_at(asyncio.get_running_loop().time())

    def remove(self, pump: Pump) -> None:
        """Write nothing more of a run."""
        self._dirty.pop(pump, None)
        self._failing.pop(pump, None)

    def _wake_at(self, due: float) -> None:
        if self._timer is not None:
            if self._due <= due:
                return
            self._timer.cancel()
        self._due = due
        self._timer = asyncio.get_running_loop().call_at(due, self._fire)

    def _fire(self) -> None:
        self._timer, now = None, asyncio.get_running_loop().time()
        is_tick = now >= self._tick + self._pace
        age = self._gap / 2 if is_tick else self._gap  # so that who came at once a moment ago finds into the ticks
        due = [pump for pump in self._dirty if now - pump.written_at >= age]
        if is_tick:
            self._tick, self._pace = now, min(self._gap + len(due) * LONGER, self._gap * LONGEST)
        for pump in due:
            del self._dirty[pump]
            pump.written_at = now
        if self._dirty:
            self._wake_at(max(self._tick + self._pace, now))
        for pumps in _portions(due):
            self._begin(self._write(pumps))

    def _begin(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _write(self, pumps: dict[Pump, Batch]) -> None:
        keeper = next(iter(pumps)).keeper
        try:
            outcomes = await keeper.call("write", list(pumps.values()))
        except FasterSessionError:
            self._fail(pumps)
            return
        for pump, outcome in zip(pumps, outcomes, strict=True):
            pump.written(outcome)

    # --- a store that has failed ---

    def _fail(self, pumps: Iterable[Pump]) -> None:
        for pump in pumps:
            if not pump.is_fenced:
                self._failing[pump] = None
                pump.failing()
        if self._failing and not self._recovering:
            self._recovering = True
            self._begin(self._recover())

    async def _recover(self) -> None:
        """Ask what the store has, until it answers; then let the runs write what is missing."""
        tries = 0
        try:
            while self._failing:
                await asyncio.sleep(PAUSES[min(tries, len(PAUSES) - 1)])
                tries += 1
                pumps = list(self._failing)
                found = await self._probe(pumps)
                for pump in pumps:
                    if found is None:
                        pump.failing()
                    elif pump in self._failing and pump.compare(found[pump.run]):
                        del self._failing[pump]
                        self.add(pump)
        finally:
            self._recovering = False

    async def _probe(self, pumps: list[Pump]) -> Mapping[Any, Any] | None:
        if not pumps:
            return {}
        try:
            probes = {pump.run: pump.probe() for pump in pumps}
            found: Mapping[Any, Any] = await pumps[0].keeper.call("read", probes, PROBE_BYTES)
        except FasterSessionError:
            return None
        return found


def _portions(due: Iterable[Pump]) -> Iterable[dict[Pump, Batch]]:
    """Yield what goes into one call each."""
    portion: dict[Pump, Batch] = {}
    size = 0
    for pump in due:
        batch = pump.take()
        if batch is None:
            continue
        portion[pump] = batch
        size += batch.size
        if len(portion) == MOST_AT_ONCE or size >= MOST_BYTES:
            yield portion
            portion, size = {}, 0
    if portion:
        yield portion
