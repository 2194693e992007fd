"""Coroutines that do not suspend, and waiting that no cancellation ends.

Rules of residence: asyncio and coroutines, nothing about sessions.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import nullcontext
from typing import Any, TypeVar

T = TypeVar("T")


def run_now(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that does not suspend, and return its result.

    :raises RuntimeError: it did suspend, so its store is wrong to say ``live``.
    """
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    coroutine.close()
    raise RuntimeError("a store that says it is live suspended")


def on_asyncio() -> bool:
    """Return whether the code that runs is a task of asyncio, and not of trio, say."""
    try:
        return asyncio.current_task() is not None
    except RuntimeError:
        return False


def begin(work: Callable[[], Coroutine[Any, Any, None]], tasks: set[asyncio.Task[Any]]) -> bool:
    """Begin work in a task of its own, which stands in ``tasks`` while it runs; ``False`` if this is no asyncio."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return False
    task = loop.create_task(work())
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return True


async def outlasted(task: asyncio.Task[Any]) -> asyncio.CancelledError | None:
    """Wait for the end of a task; return the last cancellation of the caller that came meanwhile.

    A cancelled scope of anyio cancels again in every turn of the loop, until it is left or shielded from. A shield of
    anyio's holds back its own scopes only, and a ``_Deaf`` the rest: both are needed.
    """
    if task.done():
        return None
    waiter = _Deaf()
    task.add_done_callback(waiter.end)
    scope = getattr(sys.modules.get("anyio"), "CancelScope", None)  # where nobody has loaded it, there are no scopes
    with nullcontext() if scope is None else scope(shield=True):
        await waiter
    return waiter.cancellation


class Interrupted(Exception):  # noqa: N818 - no error: something else has come
    """What was awaited is not awaited any more."""


class Waits:
    """Calls that are awaited, perhaps by several tasks, until somebody interrupts them all.

    No task is made for one: a call that has its answer gives it without suspending, as the call itself does. (Who asks
    in a cancelled scope whether there is a message, as Starlette does, gets it.)
    """

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: dict[object, asyncio.Task[Any]] = {}

    async def run(self, function: Callable[[], Awaitable[T]]) -> T:
        """Call and await a function. The rules of cancelling are those of ``asyncio.timeout``.

        :raises Interrupted: in place of an answer.
        """
        if not on_asyncio():
            return await function()
        waiting, call, task = self._waiting, object(), asyncio.current_task()
        assert task is not None  # noqa: S101 - or on_asyncio() had said so
        cancelling = task.cancelling()
        waiting[call] = task
        try:
            return await function()
        except asyncio.CancelledError as error:
            if call not in waiting and task.cancelling() <= cancelling + 1:
                raise Interrupted from error
            raise
        finally:
            if waiting.pop(call, None) is None:  # it was interrupted
                task.uncancel()
            del task, waiting  # an exception's traceback holds this frame: with its task it would be a cycle

    def interrupt(self) -> None:
        """Interrupt all that wait."""
        waiting = list(self._waiting.values())
        self._waiting.clear()
        for task in waiting:
            task.cancel()


class _Deaf(asyncio.Future[None]):
    """A future whose awaiting task a cancellation does not wake. Who awaits it must raise ``cancellation`` then."""

    cancellation: asyncio.CancelledError | None = None

    def cancel(self, msg: Any | None = None) -> bool:
        """Note that the task which awaits this was cancelled."""
        self.cancellation = asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg)
        return True

    def end(self, task: asyncio.Future[Any]) -> None:
        """Wake the task that awaits this: a callback of the work's end."""
        self.set_result(None)
