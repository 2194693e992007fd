"""One call of an ASGI application, played from the other side: what it receives, when it may send, how it is left.

Rules of residence: plays the server; knows ASGI messages and the clock of deadlines, no URLs and no cookies but the jar
that it fills. Tests reach it through driver.Browser.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from answer import Answer, Jar, Message

DEADLINE = 10  # seconds any single wait may take; generous, because it is only reached by a failing test

App = Callable[..., Awaitable[None]]


class Exchange:
    """One app call in a task of its own. `paced`: a body leaves only when `chunk()` asks for it.

    `closing`: what `send` raises once the client is gone; None swallows, as servers below spec 2.4 do.
    """

    def __init__(
        self, app: App, scope: dict[str, Any], jar: Jar, *, paced: bool, closing: type[OSError] | None
    ) -> None:
        self.app, self.scope, self.jar, self.closing = app, scope, jar, closing
        self.answer = Answer()
        self.gone = self.over = False
        self.leave_after: int | None = None
        self._credit = asyncio.Semaphore(0) if paced else None
        self._incoming: asyncio.Queue[Message] = asyncio.Queue()
        self._changed = asyncio.Condition()
        self._read = 0
        self.task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Exchange:
        self.task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Leaving the block is leaving the page: the app is told, then awaited; one that ignores it is cancelled."""
        self.disconnect()
        try:
            await self.ended()
        finally:
            assert self.task is not None
            while not self.task.done():
                self.task.cancel()
                await asyncio.wait([self.task], timeout=1)

    async def _run(self) -> None:
        try:
            await self.app(self.scope, self._receive, self._send)
        except BaseException as error:
            self.answer.error = error
        self.over = True
        async with self._changed:
            self._changed.notify_all()

    async def _receive(self) -> Message:
        return await self._incoming.get()

    async def _send(self, message: Message) -> None:
        is_body = message["type"] == "http.response.body"
        if is_body and self._credit is not None and not self.gone:
            await self._credit.acquire()
        if self.gone:
            if self.closing is not None:
                raise self.closing("the client is gone")
            return
        self.answer.messages.append(message)
        if "headers" in message:
            self.jar.take(message["headers"])
        if self._final():
            self.feed({"type": "http.disconnect"})
        if self.leave_after is not None and len(self.answer.chunks) >= self.leave_after:
            self.disconnect()
        async with self._changed:
            self._changed.notify_all()

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait until the condition holds or the app call has ended; the deadline is an error."""
        async with asyncio.timeout(DEADLINE), self._changed:
            await self._changed.wait_for(lambda: condition() or self.over)

    def feed(self, *messages: Message) -> None:
        """Put messages into what the app receives."""
        for message in messages:
            self._incoming.put_nowait(message)

    async def started(self) -> Answer:
        """Wait for the start message (or the accept)."""
        await self.until(lambda: any(m["type"].endswith((".start", ".accept", ".close")) for m in self.answer.messages))
        return self.answer

    async def chunk(self) -> bytes:
        """Give the next body that is not empty, b'' once the app has no more; with `paced` this lets the app go on."""
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
        """End the pacing: from here on every body leaves at once."""
        if self._credit is not None:
            credit, self._credit = self._credit, None
            for _ in range(1_000):
                credit.release()

    def disconnect(self) -> None:
        """Leave: the app receives http.disconnect, what it sends from now on reaches nobody."""
        if not self.gone:
            self.gone = True
            self.feed({"type": "http.disconnect"})
            self.resume()

    async def cancel(self, times: int = 1) -> Answer:
        """Cancel the app task, `times` in a row with one turn of the loop between, and wait for its end."""
        assert self.task is not None
        for _ in range(times):
            self.task.cancel()
            await asyncio.sleep(0)
        return await self.ended()

    async def ended(self) -> Answer:
        """Wait until the app call is over."""
        assert self.task is not None
        self.resume()
        _, pending = await asyncio.wait([self.task], timeout=DEADLINE)
        assert not pending, "the app did not end"
        return self.answer


class Socket(Exchange):
    """A websocket: `accepted`, `send`, `receive`, `close`. Leaving the block sends websocket.disconnect."""

    async def __aenter__(self) -> Socket:
        self.feed({"type": "websocket.connect"})
        await super().__aenter__()
        return self

    async def accepted(self) -> Answer:
        """Wait for the answer to the handshake: accept, denial or close."""
        return await self.started()

    async def send(self, data: str | bytes) -> None:
        key = "text" if isinstance(data, str) else "bytes"
        self.feed({"type": "websocket.receive", key: data})

    async def receive(self) -> str | bytes | None:
        """Give the next message of the app, None once it closed or ended."""
        await self.until(lambda: len(self._sent()) > self._read)
        if len(self._sent()) <= self._read:
            return None
        self._read += 1
        message = self._sent()[self._read - 1]
        return message.get("text") if message.get("text") is not None else message.get("bytes")

    def _sent(self) -> list[Message]:
        return [message for message in self.answer.messages if message["type"] in ("websocket.send", "websocket.close")]

    def disconnect(self, code: int = 1001) -> None:
        """Leave with a close code."""
        if not self.gone:
            self.gone = True
            self.feed({"type": "websocket.disconnect", "code": code, "reason": ""})
