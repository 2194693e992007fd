"""One call of an ASGI application, from the server's side: what it receives, when it may send, how the client leaves.

Rules of residence: the part of a server; it knows ASGI messages, and of cookies only the jar that it fills. asgiref's
communicator would not do: it takes every message at once, so it holds up nothing, and no send can fail. httpx's
transport would not do: it gives an answer only when that is whole, and cannot leave.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any

from asgiref.compatibility import guarantee_single_callable

from .answer import STARTS, Answer, Message
from .jar import Jar

DEADLINE = 10  # seconds of a single wait; generous, for only a failing test reaches it

App = Callable[..., Any]  # ASGI 3, or ASGI 2


class Connection:
    """One application call in a task of its own: ``async with browser.open("/chat") as held``.

    ``Browser.open`` makes it. ``answer`` grows while the application sends.

    :param paced: a body waits until ``chunk()`` asks for it; else the application never waits.
    :param closing: what ``send`` raises once the client is gone. With ``None`` it drops the message, as servers below
        ASGI 2.4 do.
    """

    def __init__(
        self,
        app: App,
        scope: dict[str, Any],
        jar: Jar,
        url: str,
        *,
        paced: bool = False,
        closing: type[OSError] | None = None,
    ) -> None:
        self.app, self.scope, self.jar, self.url, self.closing = app, scope, jar, url, closing
        self.answer = Answer()
        self.gone = self.over = False
        self.leave_after: int | None = None
        self.half = False  # leave_after closes only the client's own side
        self._credit = asyncio.Semaphore(0) if paced else None
        self._changed = asyncio.Condition()
        self._read = 0
        self._incoming: asyncio.Queue[Message] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    @property
    def task(self) -> asyncio.Task[None]:
        """The task of the application call, which begins with the first access."""
        return self._task or self.begin()

    def begin(self) -> asyncio.Task[None]:
        """Begin the application call, in a context without the test's variables."""
        assert self._task is None, "a connection is one call"
        self._task = asyncio.get_running_loop().create_task(self._run(), context=contextvars.Context())
        return self._task

    async def __aenter__(self) -> Connection:
        self.begin()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Leave the page, and wait for the application's end; cancel one that ignores the disconnect."""
        self.disconnect()
        try:
            await self.ended()
        finally:
            while not self.task.done():
                self.task.cancel()
                await asyncio.wait([self.task], timeout=1)

    async def _run(self) -> None:
        try:
            app: Any = guarantee_single_callable(self.app)  # type: ignore[no-untyped-call]
            await app(self.scope, self._receive, self._send)
        except BaseException as error:
            self.answer.error = error
        self.over = True
        async with self._changed:
            self._changed.notify_all()

    async def _receive(self) -> Message:
        return await self._incoming.get()

    async def _send(self, message: Message) -> None:
        is_body = message["type"] == "http.response.body" and not (message.get("more_body") and not message.get("body"))
        if is_body and self._credit is not None and not self.gone:  # nobody asks for an empty chunk
            await self._credit.acquire()
        if self.gone:
            if self.closing is not None:
                raise self.closing("the client is gone")
            return
        self.answer.messages.append(message)
        if message["type"] in STARTS:
            self.jar.take(message.get("headers") or (), self.url)
        self._after(message)
        if self.leave_after is not None and len(self.answer.chunks) >= self.leave_after:
            self.leave_after = None
            (self.half_close if self.half else self.disconnect)()
        async with self._changed:
            self._changed.notify_all()

    def _after(self, message: Message) -> None:
        """Send the disconnect that servers send after the last message of an answer."""
        if self._final():
            self.feed({"type": "http.disconnect"})

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait until the condition holds or the application call has ended.

        :raises TimeoutError: neither happens within ``DEADLINE``.
        """
        async with asyncio.timeout(DEADLINE), self._changed:
            await self._changed.wait_for(lambda: condition() or self.over)

    def feed(self, *messages: Message) -> None:
        """Queue messages for the application to receive."""
        for message in messages:
            self._incoming.put_nowait(message)

    async def started(self) -> Answer:
        """Wait for the start message, the accept, or the close that refuses."""
        await self.until(lambda: any(m["type"].endswith((".start", ".accept", ".close")) for m in self.answer.messages))
        return self.answer

    async def chunk(self) -> bytes:
        """Return the next body that is not empty, or ``b""`` after the last; if ``paced``, let it leave."""
        chunks = self.answer.chunks
        if self._credit is not None and len(chunks) <= self._read:
            self._credit.release()
        await self.until(lambda: len(self.answer.chunks) > self._read or self._final())
        if len(self.answer.chunks) <= self._read:
            return b""
        self._read += 1
        return self.answer.chunks[self._read - 1]

    def _final(self) -> bool:
        last = self.answer.messages[-1:]
        return bool(last) and last[0]["type"] == "http.response.body" and not last[0].get("more_body")

    def resume(self) -> None:
        """End the pacing: every further body leaves at once."""
        if self._credit is not None:
            credit, self._credit = self._credit, None
            for _ in range(1_000):
                credit.release()

    def half_close(self) -> None:
        """Close the client's own side: the application receives http.disconnect, and its messages still arrive."""
        self.feed({"type": "http.disconnect"})

    def disconnect(self) -> None:
        """Leave: the application receives http.disconnect, and its further messages reach nobody."""
        if not self.gone:
            self.gone = True
            self.feed({"type": "http.disconnect"})
            self.resume()

    async def cancel(self, times: int = 1) -> Answer:
        """Cancel the application's task, ``times`` in a row with a turn of the loop between, and wait for its end."""
        for _ in range(times):
            self.task.cancel()
            await asyncio.sleep(0)
        return await self.ended()

    async def ended(self) -> Answer:
        """Wait until the application call has ended.

        :raises AssertionError: it has not within ``DEADLINE``.
        """
        self.resume()
        _, pending = await asyncio.wait([self.task], timeout=DEADLINE)
        assert not pending, "the app did not end"
        return self.answer


class Socket(Connection):
    """The connection of a WebSocket. The end of its block sends websocket.disconnect."""

    async def __aenter__(self) -> Socket:
        self.feed({"type": "websocket.connect"})
        await super().__aenter__()
        return self

    async def accepted(self) -> Answer:
        """Wait for the answer to the handshake: accept, denial or close."""
        return await self.started()

    async def send(self, data: str | bytes) -> None:
        """Send one message."""
        key = "text" if isinstance(data, str) else "bytes"
        self.feed({"type": "websocket.receive", key: data})

    async def receive(self) -> str | bytes | None:
        """Return the next message of the application, or ``None`` once it has closed or ended."""
        await self.until(lambda: len(self._sent()) > self._read)
        if len(self._sent()) <= self._read:
            return None
        self._read += 1
        message = self._sent()[self._read - 1]
        text: str | None = message.get("text")
        return text if text is not None else message.get("bytes")

    def _after(self, message: Message) -> None:
        denied = message["type"] == "websocket.http.response.body" and not message.get("more_body")
        if denied or message["type"] == "websocket.close":
            code = 1006 if denied else message.get("code", 1000)
            self.feed({"type": "websocket.disconnect", "code": code, "reason": ""})

    def _sent(self) -> list[Message]:
        return [message for message in self.answer.messages if message["type"] in ("websocket.send", "websocket.close")]

    def disconnect(self, code: int = 1001) -> None:
        """Leave with a close code."""
        if not self.gone:
            self.gone = True
            self.feed({"type": "websocket.disconnect", "code": code, "reason": ""})
