"""Coroutines that do not suspend, and waiting that no cancellation ends.

Rules of residence: asyncio and coroutines, nothing about sessions.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
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
