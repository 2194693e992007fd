"""The lifespan protocol: the store is opened before the application starts, and drained and closed after it.

Rules of residence: the lifespan messages. How a store is opened, drained and closed is the engine's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from ..engine.calls import Calls
from ..engine.running import Running
from ..errors import FasterSessionError
from ..events import LifespanUnknown
from ..log import EventLog
from .messages import Message, Send


class Lifespan:
    """One run of the protocol. It passes on what server and application say, and does its own part in time."""

    def __init__(self, calls: Calls, runs: Running, events: EventLog, receive: Any, send: Send) -> None:
        self._calls, self._runs, self._events = calls, runs, events
        self._receive, self._send = receive, send
        self._known = False  # the application takes part
        self._failed = False  # the server knows that there is no startup

    async def run(self, app: Callable[..., Awaitable[None]], scope: Any) -> None:
        """Run the application through it.

        A store that cannot be opened is told in the protocol's own words: servers take a mere exception for an
        application that knows no lifespan, and serve on without it. What such an application leaves undone is done for
        it: a server that sees it refuse, as Django does, does not tell of its shutdown, and what streams hold then
        would be lost.
        """
        self._runs.told_of_shutdown = True
        refusal = "it returned"
        try:
            await app(scope, self._receiving, self._sending)
        except Exception as error:
            if self._known:
                raise
            refusal = type(error).__name__
        if not self._known:
            self._events.tell(LifespanUnknown(refusal=refusal))
            for _ in range(2):  # startup and shutdown
                await self._sending({"type": f"{(await self._receiving())['type']}.complete"})

    async def _receiving(self) -> Message:
        self._known = True
        message: Message = await self._receive()
        if message["type"] == "lifespan.startup":
            await self._open()
        elif message["type"] == "lifespan.shutdown":
            await self._runs.drain()
        return message

    async def _open(self) -> None:
        try:
            await self._calls.open()
        except FasterSessionError as error:
            self._failed = True
            await self._send({"type": "lifespan.startup.failed", "message": f"{type(error).__name__}: {error}"})
            raise

    async def _sending(self, message: Message) -> None:
        self._known = True
        if self._failed:  # all has been said
            return
        if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
            self._runs.watch.stop()
            await self._calls.close()
        await self._send(message)
