"""Answers that outlive their connections: which requests may have one, and in which task they run (``detachable``).

Rules of residence: what stands around the application, and around the call, of a middleware with ``detachable``. One
without it imports nothing of this. What becomes of the messages is ``connection``'s.
"""

from __future__ import annotations

import asyncio
import copy
from typing import Any

from ..engine.tasks import on_asyncio
from .arrivals import DISCONNECT, TASKS
from .connection import Connection
from .exchange import Exchange
from .gate import Gate
from .messages import CONNECTION, Message
from .selection import Selection


class Detachable:
    """An application whose answers may be detached.

    :param paths: of requests whose answers are.
    """

    def __init__(self, app: Any, paths: Selection) -> None:
        self.app = app
        self._paths = paths

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Run the application, and the connection around it."""
        exchange: Any = getattr(send, "__self__", None)
        if not isinstance(exchange, Exchange) or not on_asyncio():
            await self.app(scope, receive, send)
            return
        connection = scope[CONNECTION] = Connection(exchange, receive)
        if self._paths.covers(scope):
            exchange.session.detach()
        error: BaseException | None = None
        try:
            await self.app(scope, connection.arrivals.receive, connection.send)
        except BaseException as raised:
            error = raised
            if not (connection.is_stopped and isinstance(raised, asyncio.CancelledError)):
                raise
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
        finally:
            scope.pop(CONNECTION, None)
            try:
                await connection.ended(error)
            finally:
                del error, connection  # a traceback holds this frame: together they would be a cycle


class Apart:
    """Runs calls in tasks of their own: a client that leaves, or a cancellation from outside, ends none of them."""

    def __init__(self, call: Any, paths: Selection) -> None:
        self._call = call
        self._paths = paths

    def covers(self, scope: Any) -> bool:
        """Return whether a call is one of those."""
        return scope["type"] == "http" and on_asyncio() and self._paths.covers(scope)

    async def run(self, scope: Any, receive: Any, send: Any) -> None:
        """Run a call until its end, or until the client has left."""
        way = Way(receive, send)
        task = asyncio.get_running_loop().create_task(self._call(scope, way.receive, way.send))
        TASKS.add(task)
        task.add_done_callback(TASKS.discard)
        try:
            await asyncio.wait({task, way.left}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            way.go()
            if not task.done():
                task.add_done_callback(_seen)
        if task.done():
            task.result()


class Way:
    """The messages of a call that may go on without its server."""

    def __init__(self, receive: Any, send: Any) -> None:
        loop = asyncio.get_running_loop()
        self.left: asyncio.Future[None] = loop.create_future()
        self._gone: asyncio.Future[None] = loop.create_future()
        self._receive, self._send = receive, send
        self._is_complete = False

    def go(self) -> None:
        """Let nothing pass any more: the server's call is over."""
        if not self._gone.done():
            self._gone.set_result(None)

    async def receive(self) -> Message:
        """Receive a message; that the client has left, if the server's call is over."""
        if self._gone.done():
            return DISCONNECT
        coming = asyncio.ensure_future(self._receive())
        try:
            await asyncio.wait({coming, self._gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not coming.done():
                coming.cancel()
        if not coming.done():
            return DISCONNECT
        message: Message = coming.result()
        if message["type"] == "http.disconnect" and not self._is_complete and not self.left.done():
            self.left.set_result(None)
        return message

    async def send(self, message: Message) -> None:
        """Send a message, if anybody is there."""
        if self._gone.done():
            return
        self._is_complete = message["type"] == "http.response.body" and not message.get("more_body", False)
        await self._send(message)


def gate_apart(middleware: Any, paths: Selection) -> Gate | None:
    """Return the gate of a middleware that runs the calls of these paths apart; what it decides else is for them."""
    gate: Gate | None = middleware.gate
    return (gate or Gate(None, None, None))._replace(apart=Apart(copy.copy(middleware), paths)) if any(paths) else gate


def _seen(task: asyncio.Task[Any]) -> None:
    """Take the error of a call whose server has gone: its run has told it."""
    if not task.cancelled():
        task.exception()
