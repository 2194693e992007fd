"""Save points that outlast what happens around them: cancellation, other commits, a store that is away for a moment.

Rules of residence: when a commit runs and how often it is tried. Two classes with one interface, chosen once per
middleware: a live store's commits are over at once, those of any other wait. What a commit does is in ``save``.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from typing import Any, TypeVar

from ..errors import FasterSessionError, SessionNotEstablished, StoreError
from ..events import SaveFailed, SessionUnsaved, VerbUnheard
from ..facts import ENDED, Status
from ..session import Session
from ..state import State
from .plan import Point, touch_due
from .save import Saver, Tries
from .tasks import outlasted

FLUSH_SECONDS = 5.0  # bound on a save behind the answer, retries included; times the patience, as the pauses
FLUSH_PAUSES = (0.05, 0.2, 0.8, 1.0, 1.0, 1.0)  # seconds between its tries: a server that restarts refuses at once

_PLAIN = nullcontext()
length = dict.__len__  # of a session, without marking it


T = TypeVar("T")


class Saves(ABC):
    """What both have in common."""

    def __init__(self, saver: Saver, tasks: set[asyncio.Task[Any]]) -> None:
        self.saver = saver
        self.events = saver.events
        self.tasks = tasks  # that run for the middleware, so that a shutdown can wait for them

    @abstractmethod
    def save(self, session: Session, state: State, at: Point, *, discard: bool = False) -> Coroutine[Any, Any, None]:
        """Carry out a save point, once, protected from cancellation. Errors: see ``Saver.commit``."""

    @abstractmethod
    def flush(self, session: Session, state: State, at: Point, *, discard: bool = False) -> Coroutine[Any, Any, None]:
        """Carry out a save point behind the answer: tried again within ``FLUSH_SECONDS``, and told if it fails."""

    @abstractmethod
    def begin(self, session: Session, state: State) -> asyncio.Task[None] | None:
        """Begin a save of what has changed by now, one try, in a task; ``None`` if it is done or there is nothing."""

    @abstractmethod
    async def reload(self, session: Session, state: State) -> None:
        """Carry out ``await session.reload()``."""

    @abstractmethod
    def touch_soon(self, state: State) -> None:
        """Touch the session: no message shall wait for it."""

    @abstractmethod
    def save_soon(self, session: Session, state: State) -> None:
        """Carry out a verb that sync code called after the end of the request."""

    def is_busy(self, state: State) -> bool:
        """Return whether a commit of another task is at work."""
        return False

    async def save_awaited(self, session: Session, state: State) -> None:
        """Carry out ``await session.save()``."""
        state.look()
        await self.save(session, state, Point.NOW)

    def is_due(self, state: State) -> bool:
        """Return whether the session's last access should be recorded again."""
        record = state.record
        return record is not None and touch_due(record, state.host.now())

    def is_clear(self, session: Session, state: State) -> bool:
        """Return whether ``clear()`` was called with nothing written after it, which may be a logout at the end."""
        intents = state.intents
        return intents is not None and intents.cleared and state.status is Status.LIVE and not length(session)

    def tell_unsaved(self, state: State, names: Iterable[str]) -> None:
        """Tell of attributes that were written after the end of the request and never saved."""
        self.events.tell(SessionUnsaved(state.record_id, ", ".join(map(repr, names))))

    @contextmanager
    def told(self, state: State, at: Point) -> Iterator[None]:
        """Tell of a ``StoreError`` of a save after the headers: it is too late for an answer that tells of it."""
        try:
            yield
        except StoreError:
            self.tell_failed(state, at)
            raise

    def tell_failed(self, state: State, at: Point) -> None:
        """Tell that a save after the headers has failed."""
        what = "a session could not be saved: changes of this request are lost"
        if at is not Point.END:
            what = "a session could not be saved yet: its changes are tried again when the request ends"
        self.events.tell(SaveFailed(state.record_id, what))


class Patient(Saves):
    """Saves of a store that suspends.

    The commits of one session go one after another: what changes meanwhile is for the next. Each runs in a task of its
    own, to its end, whoever is cancelled.

    :param patience: what the bounds and the pauses are multiplied by.
    """

    def __init__(self, saver: Saver, tasks: set[asyncio.Task[Any]], patience: float) -> None:
        super().__init__(saver, tasks)
        self._patience = patience

    def save(self, session: Session, state: State, at: Point, *, discard: bool = False) -> Coroutine[Any, Any, None]:
        return self._run(session, state, at, discard, self._commit)

    def flush(self, session: Session, state: State, at: Point, *, discard: bool = False) -> Coroutine[Any, Any, None]:
        return self._run(session, state, at, discard, self._with_retries)

    async def _run(
        self,
        session: Session,
        state: State,
        at: Point,
        discard: bool,
        commit: Callable[[Session, State, Tries, _Turns], Coroutine[Any, Any, None]],
    ) -> None:
        """Commit if there is anything to do. A refusal counts as said if the caller is still there to hear it."""
        tries = self._tries(session, state, at, discard=discard)
        if tries is None:
            return
        turns = self._turns(state)
        turns.asked += 1
        try:
            await shielded(commit(session, state, tries, turns), self.tasks)
        except SessionNotEstablished:
            self.saver.forget_changes(session, state, tries)
            raise
        finally:
            turns.asked -= 1

    def begin(self, session: Session, state: State) -> asyncio.Task[None] | None:
        tries = self._tries(session, state, Point.NOW)
        if tries is None:
            return None
        turns = self._turns(state)
        turns.asked += 1
        task = self._in_task(self._commit(session, state, tries, turns))
        task.add_done_callback(turns.left)
        return task

    def _tries(self, session: Session, state: State, at: Point, *, discard: bool = False) -> Tries | None:
        """Return the tries of a save point, ``None`` if there is nothing to do.

        Where another commit is at work nobody knows: what it saves is compared with when it is done, and only then.
        """
        if state.intents is None and not self.is_busy(state):
            return self.saver.prepare(session, state, at, discard=discard)
        return Tries(at, discard=discard)

    async def reload(self, session: Session, state: State) -> None:
        is_carried_out(state)
        async with self._turns(state):
            await self.saver.reload(session, state)

    def touch_soon(self, state: State) -> None:
        self._in_task(self.saver.touch(state))

    def save_soon(self, session: Session, state: State) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            self.events.tell(VerbUnheard(state.record_id))
        else:
            self._in_task(self._flush_quietly(session, state))

    def is_busy(self, state: State) -> bool:
        commits = state.rare.commits
        return commits is not None and commits[0].is_busy()

    async def _flush_quietly(self, session: Session, state: State) -> None:
        with suppress(FasterSessionError):  # told
            await self.flush(session, state, Point.END)

    def _in_task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def _with_retries(self, session: Session, state: State, tries: Tries, turns: _Turns) -> None:
        bound = FLUSH_SECONDS * self._patience
        with self.told(state, tries.at):
            try:
                async with asyncio.timeout(bound):
                    for pause in FLUSH_PAUSES:
                        try:
                            return await self._commit(session, state, tries, turns)
                        except StoreError:
                            await asyncio.sleep(pause * self._patience)
                    return await self._commit(session, state, tries, turns)
            except TimeoutError as error:
                raise StoreError(f"the session could not be saved within {bound:g} s") from error

    async def _commit(self, session: Session, state: State, tries: Tries, turns: _Turns) -> None:
        """Commit when the commit before is done."""
        await turns.acquire()
        try:
            with noted(state) if state.phase == ENDED else _PLAIN:  # a generator's context costs three times that
                await self.saver.commit(session, state, tries.at, discard=tries.discard, tries=tries)
        finally:
            turns.release()

    @staticmethod
    def _turns(state: State) -> _Turns:
        """Return what keeps the commits of one session apart."""
        loop = asyncio.get_running_loop()
        turns, made_in = state.rare.commits or (None, loop)
        if turns is None or (made_in is not loop and turns.is_busy()):  # who has one of another loop has ended with it
            turns = _Turns()
            state.committing(turns, loop)
        return turns


class _Turns(asyncio.Lock):
    """Keeps the commits of one session apart."""

    asked = 0  # commits that have been asked for, and are not done

    def is_busy(self) -> bool:
        """Return whether a commit is at work, or about to be."""
        return self.asked > 0 or self.locked()

    def left(self, task: object) -> None:
        """Note that a commit is done: a callback of its task."""
        self.asked -= 1


def is_carried_out(state: State) -> None:
    """Take a wish to reload for carried out: the reload that was awaited is it."""
    if state.intents is not None:
        state.intents.reload = False


@contextmanager
def noted(state: State) -> Iterator[None]:
    """Take the names written after the end of the request as saved, but for those that come while this save runs."""
    covered = state.take_late()
    try:
        yield
    except BaseException:
        state.wrote_late([*covered, *state.take_late()])
        raise


async def shielded(coroutine: Coroutine[Any, Any, T], tasks: set[asyncio.Task[Any]]) -> T:
    """Run a coroutine in a task of its own to its end, however often the caller is cancelled; then be cancelled.

    A plain ``asyncio.shield`` returns at the first cancellation, and the work is lost when the loop closes. The task
    stands in ``tasks`` while it runs. The first cancellation wakes the caller, no later one does.
    """
    loop = asyncio.get_running_loop()
    task = loop.create_task(coroutine)
    tasks.add(task)
    waiter: asyncio.Future[None] = loop.create_future()  # asyncio.wait does the same, and is six times as dear
    task.add_done_callback(partial(_end, tasks, waiter))
    cancelled: asyncio.CancelledError | None = None
    try:
        try:
            await waiter
        except asyncio.CancelledError as error:
            cancelled = error
        if cancelled is None:
            return task.result()
        cancelled = await outlasted(task) or cancelled
        if not task.cancelled():
            task.exception()  # marks it as retrieved: who cancelled does not wait for it
        raise cancelled
    finally:
        del task, cancelled  # an exception's traceback holds this frame: together they would be a cycle


def _end(tasks: set[asyncio.Task[Any]], waiter: asyncio.Future[None], task: asyncio.Task[Any]) -> None:
    tasks.discard(task)
    if not waiter.done():
        waiter.set_result(None)
