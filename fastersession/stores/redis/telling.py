"""What is sent behind an answer that has been given: nobody waits for it, and a lost connection does not lose it.

Rules of residence: when such a command is sent again, and what waits at the end. Commands are the verbs' affair.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from .link import SECONDS, pack
from .route import FAILED, SURE, Route


class Telling:
    """Sends over a route, for one event loop. A command must do no harm when it is carried out twice, or late."""

    def __init__(self, route: Route) -> None:
        self._route = route
        self._tasks: set[asyncio.Task[None]] = set()

    def tell(self, key: bytes, command: tuple[bytes, ...]) -> None:
        """Send to the server that has the key, behind what is ``SURE``; what fails is tried again as by ``ask``.

        Nobody hears the reply. If its last try fails it is lost.
        """
        packed, reply = pack(command), None
        with suppress(*FAILED):
            reply = self._route.send(key, packed)
        task = self._route.loop.create_task(self._told(key, packed, reply))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Wait a while for what has been told, and give up the rest."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=SECONDS)
        for task in self._tasks:
            task.cancel()

    async def _told(self, key: bytes, packed: bytes, reply: asyncio.Future[Any] | None) -> None:
        if reply is not None:
            with suppress(*FAILED):
                await reply
                return
        with suppress(*FAILED):
            await self._route.ask(key, lambda *_: packed, kind=SURE)
