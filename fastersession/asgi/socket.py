"""A WebSocket on its way: what is saved between its accept and its close, beside the application.

Rules of residence: what an open WebSocket has and a request has not.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from functools import partial
from typing import Any

from ..engine.plan import TOUCH_FRACTION, touch_due
from ..errors import FasterSessionError
from ..events import SaveFailed
from ..facts import ENDED, NOT_STARTED, STARTED
from .exchange import Exchange
from .messages import Message

AFTER_SEND = 1.0  # seconds after a message was sent, where a reader always waits: long enough to save a burst at once
REST = 10  # times what a comparison took until the next: it stands in the way of every request for a tenth at most


class OpenSocket:
    """An open WebSocket, as its application sees it: its ``receive`` and its ``send``."""

    __slots__ = ("_beside", "_exchange", "_reading", "_receive", "_tried_at")

    _beside: Beside | None  # made when it is first needed
    _exchange: Exchange
    _reading: bool  # the application has asked for a message, and none has come
    _receive: Any
    _tried_at: float  # when the session was to be touched last

    def __init__(self, exchange: Exchange, receive: Any) -> None:
        self._beside = None
        self._exchange = exchange
        self._reading = False
        self._receive = receive
        self._tried_at = 0.0

    def receive(self) -> Awaitable[Any]:
        """Receive a message: after the start, the call is a save point."""
        exchange, self._reading = self._exchange, True
        if exchange.phase == NOT_STARTED:
            return self._receive()  # type: ignore[no-any-return]
        if exchange.accessed and exchange.phase == STARTED:
            self._saves().turn(exchange)
        return self._received()

    async def _received(self) -> Any:
        """Receive a message, which keeps the session alive."""
        message = await self._receive()
        if message["type"] == "websocket.receive" and self._exchange.phase != ENDED:
            self._reading = False
            self._note_traffic()
        return message

    def send(self, message: Message) -> Awaitable[None]:
        """Send a message: it keeps the session alive, which is saved soon if no turn may come."""
        exchange = self._exchange
        if message["type"] == "websocket.send" and exchange.send is not None and exchange.phase != ENDED:
            self._note_traffic()
            if exchange.scope.get(exchange.host.scope_key) is not exchange.session:
                exchange.used()  # what stands in its place is compared at the next turn
            if exchange.held is not None and self._reading:
                self._saves().sent(exchange)
        return exchange.on_message(message)

    def _note_traffic(self) -> None:
        """Touch the session if that is due, once however it ends: a failing store must not be asked per message."""
        exchange = self._exchange
        record, now = exchange.record, exchange.host.now()
        if (
            record is not None
            and now >= self._tried_at + record.idle_timeout * TOUCH_FRACTION
            and touch_due(record, now)
        ):
            self._tried_at = now
            exchange.host.saves.touch_soon(exchange)

    def _saves(self) -> Beside:
        if self._beside is None:
            self._beside = Beside()
        return self._beside


class Beside:
    """The saves of one WebSocket, beside its application.

    Needs no lock: it is used in the event loop only, and never suspends.
    """

    __slots__ = ("_again", "_failing", "_rest_until", "_saving", "_sent", "_waiting")

    def __init__(self) -> None:
        self._again = False  # something may have changed while a save was at work
        self._failing = False  # the last save has failed: one line in the log is enough until one succeeds
        self._rest_until = 0.0
        self._saving = False
        self._sent = False  # a message, while the timer was set
        self._waiting = False  # for a timer

    def sent(self, exchange: Exchange) -> None:
        """Note that a message was sent while a reader waits for one: there may be no turn for a long time."""
        self._sent = self._waiting
        if not self._waiting and not self._later(exchange, AFTER_SEND):
            self.turn(exchange)

    def turn(self, exchange: Exchange) -> None:
        """Save what has changed now, or, where a save or a costly comparison has just been, a moment later."""
        if self._saving:
            self._again = True
            return
        begun = time.perf_counter()
        if begun < self._rest_until and self._later(exchange, self._rest_until - begun):
            return
        try:
            task = _begin_save(exchange)
        except Exception as error:  # nothing of a save's is raised where the application asks for a message
            self._ended(exchange, error)
            return
        finally:
            ended = time.perf_counter()
            self._rest_until = ended + REST * (ended - begun)
        if task is None:
            self._failing = False
            return
        self._saving = True
        task.add_done_callback(partial(self._saved, exchange))

    def _later(self, exchange: Exchange, seconds: float) -> bool:
        """Set the timer, if it is not set; ``False`` if this is no loop of asyncio, but trio's."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return False
        if not self._waiting:
            self._waiting = True
            loop.call_later(seconds, self._fire, exchange)
        return True

    def _fire(self, exchange: Exchange) -> None:
        self._waiting = False
        if exchange.phase == STARTED:
            self.turn(exchange)
            if self._sent:  # meanwhile, and what follows that message has a second, too
                self._sent = False
                self._later(exchange, AFTER_SEND)

    def _saved(self, exchange: Exchange, task: asyncio.Task[None]) -> None:
        self._saving = False
        if not task.cancelled():  # else the loop is being closed
            self._ended(exchange, task.exception())
        again, self._again = self._again, False
        if again and exchange.phase == STARTED:
            self.turn(exchange)

    def _ended(self, exchange: Exchange, error: BaseException | None) -> None:
        if error is not None and not self._failing:
            why = error if isinstance(error, FasterSessionError) else type(error).__name__
            what = f"the session of an open WebSocket could not be saved yet: {why}; tried again at its next message"
            exchange.host.events.tell(SaveFailed(exchange.record_id, what))
        self._failing = error is not None


def _begin_save(exchange: Exchange) -> asyncio.Task[None] | None:
    """Save what has changed, one try, in a task; ``None`` if that is done already, or nothing has changed.

    Whether ``clear()`` was a logout is known at the close only.
    """
    saves, session = exchange.host.saves, exchange.session
    if not exchange.has_work() or saves.is_clear(session, exchange):
        return None
    exchange.used()  # if it fails, the next save point has something to do
    return saves.begin(session, exchange)
