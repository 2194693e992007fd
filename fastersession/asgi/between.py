"""What an open WebSocket saves between its accept and its close, beside the application.

Rules of residence: when a save is begun, and that there is one at a time; what there is to save the exchange and the
manager know. Made for a socket whose session is used after the accept, and for no other request.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

__all__ = ["Between", "Socket"]

AFTER_SEND = 1.0  # seconds after a message was sent, where a reader always waits: long enough to save a burst at once
REST = 10  # times what a comparison took until the next: it stands in the way of every request for a tenth at most


class Socket(Protocol):
    """What these saves need from the exchange."""

    def begin_save(self) -> asyncio.Task[None] | None:
        """Save what has changed, one try, in a task; ``None`` if that is done already, or nothing has changed."""

    def note_failure(self, error: BaseException) -> None:
        """Log that such a save has failed."""

    def is_open(self) -> bool:
        """Tell if the WebSocket was accepted and its application has not returned yet."""


class Between:
    """The saves of one WebSocket. Needs no lock: it is used in the event loop only, and never suspends."""

    __slots__ = ("_again", "_failing", "_rest_until", "_saving", "_sent", "_waiting")

    def __init__(self) -> None:
        self._again = False  # something may have changed while a save was at work
        self._failing = False  # the last save has failed: one line in the log is enough until one succeeds
        self._rest_until = 0.0
        self._saving = False
        self._sent = False  # a message, while the timer was set
        self._waiting = False  # for a timer

    def turn(self, socket: Socket) -> None:
        """Save what has changed now, or, where a save or a costly comparison has just been, a moment later."""
        if self._saving:
            self._again = True
            return
        begun = time.perf_counter()
        if begun < self._rest_until and self._later(socket, self._rest_until - begun):
            return
        try:
            task = socket.begin_save()
        except Exception as error:  # nothing of a save's is raised where the application asks for a message
            self._ended(socket, error)
            return
        finally:
            ended = time.perf_counter()
            self._rest_until = ended + REST * (ended - begun)
        if task is None:
            self._failing = False
            return
        self._saving = True
        task.add_done_callback(lambda task: self._saved(socket, task))

    def sent(self, socket: Socket) -> None:
        """Note that a message was sent while a reader waits for one: there may be no turn for a long time."""
        self._sent = self._waiting
        if not self._waiting and not self._later(socket, AFTER_SEND):
            self.turn(socket)

    def _later(self, socket: Socket, seconds: float) -> bool:
        """Set the timer, if it is not set; ``False`` if this is no loop of asyncio, but trio's."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return False
        if not self._waiting:
            self._waiting = True
            loop.call_later(seconds, self._fire, socket)
        return True

    def _fire(self, socket: Socket) -> None:
        self._waiting = False
        if socket.is_open():
            self.turn(socket)
            if self._sent:  # meanwhile, and what follows that message has a second, too
                self._sent = False
                self._later(socket, AFTER_SEND)

    def _saved(self, socket: Socket, task: asyncio.Task[None]) -> None:
        self._saving = False
        if not task.cancelled():  # else the loop is being closed
            self._ended(socket, task.exception())
        again, self._again = self._again, False
        if again and socket.is_open():
            self.turn(socket)

    def _ended(self, socket: Socket, error: BaseException | None) -> None:
        if error is not None and not self._failing:
            socket.note_failure(error)
        self._failing = error is not None
