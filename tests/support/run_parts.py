"""Workers that share a store, with the conversations that tests of runs need.

Rules of residence: how the parts are put together. What they do is the tests'.
"""

from __future__ import annotations

from typing import Any

from faulty_logs import FaultyLogs
from small_keeper import Chat, Handle, Keeper

from fastersession.events import Event
from fastersession.stores.logs import Append

PACKS = False  # values are bytes: as of a store outside the process


class Worker:
    """A store as one process reaches it: it fails as told, and its runs are its own."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.logs = FaultyLogs(inner.logs)
        self.events = self
        self.told: list[Event] = []
        self.packs = PACKS
        self.count = 0  # of logs that were made

    def tell(self, event: Event, error: BaseException | None = None) -> None:
        """Note an event."""
        self.told.append(event)

    def chat(self, name: str = "main", fold: Any = None, gap: float = 0.03, **bounds: Any) -> Chat:
        """Return a conversation, for a request of its own."""
        return Chat(Handle(Keeper(self, fold, gap, bounds), name))

    async def append(self, chat: Chat, value: Any, run: bytes | None = None) -> None:
        """Append to the history, as another request would."""
        handle = chat._handle
        look = await self.inner.logs.look(handle.places, 0, 0)
        position = look.top[0], look.top[1] + 1
        await self.inner.logs.append([Append(look.log, handle.entry_at(look.log, position, value, None, run))])


def shared(worker: Worker) -> Worker:
    """Return another worker on the store of this one."""
    return Worker(worker.inner)
