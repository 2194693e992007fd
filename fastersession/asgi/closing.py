"""A request that ends when its session does: to its application, the client has gone away (``close_on_end``).

Rules of residence: what a request does when it is told of the end. Who tells it is the engine's watch. A middleware
that does not close has none of these.

An answer that has begun is never ended politely: without its last chunk, and with an error for the server, no client
takes it for complete. What has not begun is a 401, and the peer of a WebSocket is told in the close.
"""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import suppress
from functools import partial
from typing import Any

from ..engine.tasks import Interrupted, Waits, begin
from ..errors import SessionEnded
from ..facts import ENDED, NOT_STARTED
from ..session import Session
from .exchange import NOTHING, Exchange
from .headers import has_content_length
from .messages import FINALS, STARTS, Message, Send
from .passive import PassiveExchange
from .refusal import UNAUTHORIZED, send_unauthorized
from .rolling import RollingExchange


class ClosingExchange(Exchange):
    """An exchange that acts when its session has ended."""

    __slots__ = ("is_complete", "is_long", "is_told", "waits", "way", "why")

    is_complete: bool  # the application has sent the end of its answer
    is_long: bool  # a stream or a socket has begun
    is_told: bool  # the client knows: nothing need be cut
    waits: Waits  # of the application, for messages
    way: Send  # to the client, whatever was put in its place
    why: str | None  # the session has ended

    def begin(self, session: Session, scope: Any, send: Send) -> None:
        self.is_complete = self.is_long = self.is_told = False
        self.waits = Waits()
        self.way = send
        self.why = None
        super().begin(session, scope, send)

    def hold(self) -> None:
        super().hold()
        if self.is_long and self.held is not None:
            self.host.runs.watch.add(self)

    def on_start(self, message: Message) -> Awaitable[None]:
        headers = message.get("headers")
        plain = isinstance(headers, list | tuple) and has_content_length(headers)  # others may be read but once
        self.is_long = self.rare.is_socket or not plain
        if self.is_long and self.held is not None:
            self.host.runs.watch.add(self)
        return super().on_start(message)

    def on_message(self, message: Message) -> Awaitable[None]:
        if self.why is not None and not self.is_complete and self.phase != ENDED:
            return self._refuse()
        if not message.get("more_body") and message["type"] in FINALS:
            self.is_complete = True
        return super().on_message(message)

    # --- the end of the session ---

    def end(self, reason: str) -> None:
        """Let nothing more of an answer leave, and wake whoever waits for a message."""
        if self.why is not None or self.phase == ENDED:
            return
        super().end(reason)
        self.why = reason
        if self.phase == NOT_STARTED:
            self.out = self._in_its_place  # a save may be at work that the start follows
            if self.rare.is_socket:  # its handshake is over in a moment: the accept is refused
                return
        elif self.rare.is_socket and not self.is_complete:
            self.is_told = begin(partial(close, self.way, reason), self.host.saves.tasks)  # else by the next message
        self.waits.interrupt()

    def is_gone(self) -> bool:
        """Return whether the application is told that the client has gone away."""
        return self.why is not None and not (self.rare.is_socket and self.phase == NOT_STARTED)

    async def gone(self) -> Message:
        """Return the message that says so."""
        if not self.rare.is_socket:
            return {"type": "http.disconnect"}
        await self._tell()
        return {"type": "websocket.disconnect", "code": UNAUTHORIZED, "reason": self.why}

    async def _refuse(self) -> None:
        await self._tell()
        raise SessionEnded(str(self.why))

    async def _in_its_place(self, message: Message) -> None:
        """Send a 401 in place of the start; what is informational comes before it, and is not needed."""
        if message["type"] in STARTS:
            self.phase = NOT_STARTED
        await self._refuse()

    async def _tell(self) -> None:
        """Tell the client, once, if that can be."""
        if self.is_told or self.is_complete:
            return
        if self.phase == NOT_STARTED:
            self.is_told = True
            self.replaced()
            await send_unauthorized(self.scope, self.way)
        elif self.rare.is_socket:
            self.is_told = True
            await close(self.way, str(self.why))

    # --- the end of the call ---

    def leave(self) -> bool:
        return self.why is None and super().leave()

    async def close(self) -> None:
        """Do what every exchange does, and see to it that what was cut does not look complete."""
        if self.why is None:
            await super().close()
            return
        try:
            await self.save_last(raised=False)
            await self._tell()
            if not self.is_told and not self.is_complete:
                raise SessionEnded(self.why)
        finally:
            self.release()

    async def answered(self, error: BaseException) -> bool:
        if self.why is None or self.is_complete:
            return await super().answered(error)
        if isinstance(error, Exception):
            await self._tell()
        return self.is_told and _is_ours(error)

    def release(self) -> None:
        self.host.runs.watch.remove(self)
        self.out = self.way  # or this would hold itself
        super().release()
        self.way = NOTHING


class ClosingPassiveExchange(ClosingExchange, PassiveExchange):
    """The same, of a passive request, whose session may idle out under it."""

    __slots__ = ()


class ClosingRollingExchange(ClosingExchange, RollingExchange):
    """The same, where sessions roll."""

    __slots__ = ()


CLOSING: dict[type[Exchange], type[ClosingExchange]] = {  # by what a call has else
    Exchange: ClosingExchange,
    PassiveExchange: ClosingPassiveExchange,
    RollingExchange: ClosingRollingExchange,
}


class Incoming:
    """The messages of a client that may go away at any moment. Not kept by the exchange: a server's has the scope."""

    __slots__ = ("_exchange", "_receive")

    _exchange: ClosingExchange

    def __init__(self, exchange: Any, receive: Any) -> None:
        self._exchange, self._receive = exchange, receive

    async def receive(self) -> Any:
        """Receive a message; that of a client that has gone away, if the session has ended."""
        exchange = self._exchange
        if exchange.is_gone():
            return await exchange.gone()
        try:
            return await exchange.waits.run(self._receive)
        except Interrupted:
            return await exchange.gone()


async def close(send: Send, reason: str) -> None:
    """Tell a WebSocket's peer that its session has ended. It may have gone away itself."""
    with suppress(Exception):
        await send({"type": "websocket.close", "code": UNAUTHORIZED, "reason": reason})


def _is_ours(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return error.split(SessionEnded)[1] is None
    return isinstance(error, SessionEnded)
