"""The connection of a request whose answer may outlive it (``session.detach()``).

Rules of residence: the messages between one application call and its client, where the answer is a run. How a run is
kept and read is of ``conversations``; who makes these is ``detach``.

The application never learns that the client has left before its own final message has passed, and never waits for it:
what it sends is what the run has, and the client is one of the run's readers.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..errors import FasterSessionError, Gone, SessionEnded
from ..events import AnswerNotKept
from .arrivals import Arrivals, begun
from .exchange import Exchange
from .messages import Message, Send

if TYPE_CHECKING:
    from ..conversations.blocks import Blocks
    from ..conversations.bridge import Bridge
    from ..conversations.reader import Run

FILES = ("http.response.pathsend", "http.response.zerocopysend")
FORMATS = ("sse", "bytes")
MOST_OF_A_CHUNK = 256 * 1024  # bytes of one frame; longer chunks are cut


class Connection:
    """One request on a middleware with ``detachable``. It is nothing but a way through until ``wants`` is called."""

    def __init__(self, exchange: Exchange, receive: Any) -> None:
        self.exchange = exchange
        self.is_stopped = False  # the run was ended, and the application call with it
        self.run: Run | None = None
        self._task = asyncio.current_task()
        self._scope = exchange.scope
        self._client: Send = exchange.out
        self.arrivals = Arrivals(receive, self._leave)
        self._to: Send = self._before
        self._chat: Any = None  # the conversation, once an answer is to be detached
        self._when_busy = "reject"
        self._format: str | None = None
        self._bridge: Bridge | None = None
        self._blocks: Blocks | None = None
        self._relay: asyncio.Task[None] | None = None

    # --- what is asked for ---

    def wants(self, chat: Any, when_busy: str, format: str | None) -> None:  # noqa: A002 - as the verb has it
        """Have the answer become a run of a conversation.

        :raises ValueError: no such policy, or no such format.
        """
        from ..conversations.beginning import POLICIES

        if when_busy not in POLICIES:
            raise ValueError(f"detach(): when_busy must be one of {', '.join(POLICIES)}")
        if format is not None and format not in FORMATS:
            raise ValueError('detach(): format must be "sse", "bytes" or None')
        if self.run is None:
            self._chat, self._when_busy, self._format = chat, when_busy, format
            self.arrivals.hides = True
        extensions = self._scope.get("extensions")
        if extensions:
            self._scope["extensions"] = {name: told for name, told in extensions.items() if name not in FILES}

    async def begin(self) -> None:
        """Begin the run before the answer's start.

        :raises Busy: another run runs.
        """
        if self.run is None:
            await self._begin(is_stream=self._format != "bytes")

    async def _begin(self, *, is_stream: bool) -> None:
        from ..conversations.bridge import Bridge

        keeper = self.exchange.host.conversations().keeper
        self._bridge = bridge = Bridge(keeper.bounds.max_bytes, self._stop)
        self.run = await self._chat.start(
            bridge.frames(), when_busy=self._when_busy, format="sse" if is_stream else None
        )

    def _stop(self) -> None:
        """End the application call, for the run was."""
        if not self.is_stopped and self._task is not None:
            self.is_stopped = True
            self._task.cancel()

    def _leave(self) -> None:
        """Have the client's reader leave, too."""
        if self._relay is not None and self._relay is not asyncio.current_task():
            self._relay.cancel()

    # --- what it sends ---

    async def send(self, message: Message) -> None:
        """Send a message. Where ``close_on_end`` cuts the client, a run of a user's goes on without it."""
        try:
            await self._to(message)
        except SessionEnded:
            if self.run is None:
                raise
            self.arrivals.leave()
            await self._out(message)

    async def _before(self, message: Message) -> None:
        if message["type"] == "http.response.start" and message.get("status", 200) >= 200:
            self._to = self.exchange.on_message
            await self._start(message)
        await self.exchange.on_message(message)

    async def _start(self, message: Message) -> None:
        """Decide what becomes of the answer."""
        if self._chat is None:
            return
        headers = message["headers"] = list(message.get("headers", ()))
        told = {bytes(name).lower(): bytes(value) for name, value in headers}
        status = message["status"]
        if self._scope["method"] == "HEAD" or status in (204, 304) or status >= 400:
            self._give_up()
            self.arrivals.answered()
        elif b"content-encoding" in told:
            self._give_up()
            self.exchange.host.events.tell(AnswerNotKept(self.exchange.record_id))
            self.exchange.out = self._pass
            self.arrivals.watch()
        else:
            await self._detach(told)

    def _give_up(self) -> None:
        if self._bridge is not None:
            self._bridge.end(asyncio.CancelledError())

    async def _detach(self, headers: dict[bytes, bytes]) -> None:
        is_stream = self._format == "sse" or (
            self._format is None
            and headers.get(b"content-type", b"").lower().startswith(b"text/event-stream")
            and b"content-length" not in headers
        )
        try:
            if self.run is None:
                await self._begin(is_stream=is_stream)
        except FasterSessionError as error:
            self._chat = None
            self.arrivals.answered()
            self.exchange.failed(error)
            await self.exchange.answered(error)
            raise
        if is_stream:
            from ..conversations.blocks import Blocks

            self._blocks = Blocks()
        self.exchange.out = self._out
        self.arrivals.watch()

    async def _out(self, message: Message) -> None:
        """Take a message of the detached answer, as it would leave."""
        kind = message["type"]
        if kind == "http.response.start":
            if not self.arrivals.is_left:
                self._relay = begun(self._relaying(message))
        elif kind == "http.response.body":
            await self._body(message.get("body", b""), more=message.get("more_body", False))
        else:
            if kind in FILES:
                self._give_up()
            await self._relayed()
            await self._pass(message)

    async def _body(self, data: bytes, *, more: bool) -> None:
        bridge = self._bridge
        assert bridge is not None  # noqa: S101 - it was made at the start
        frames = deque(self._cut(data, more=more))
        while frames and not bridge.is_full and await bridge.put(frames[0]):
            frames.popleft()
        if not more:
            bridge.end()
            if not bridge.is_full:
                self.arrivals.answered()
        if bridge.is_full:
            await self._relayed()
            await self._pass({"type": "http.response.body", "body": _joined(frames), "more_body": more})

    def _cut(self, data: bytes, *, more: bool) -> list[Any]:
        if self._blocks is not None:
            return self._blocks.cut(data) + ([] if more else self._blocks.end())
        return [bytes(data[at : at + MOST_OF_A_CHUNK]) for at in range(0, len(data), MOST_OF_A_CHUNK)]

    async def _pass(self, message: Message) -> None:
        """Send a message to the client, if it is there. Its errors are not the application's."""
        if not self.arrivals.is_left:
            try:
                await self._client(message)
            except Exception:
                self.arrivals.leave()
        if message["type"] != "http.response.start" and not message.get("more_body"):
            self.arrivals.answered()

    # --- the client as a reader ---

    async def _relaying(self, start: Message) -> None:
        try:
            await self._client(start)
            async for data in self._read():
                await self._client({"type": "http.response.body", "body": data, "more_body": True})
            if self.run is not None and self.run.status != "failed":
                await self._client({"type": "http.response.body", "body": b"", "more_body": False})
        except Gone:
            return  # without its end, the answer does not look complete
        except Exception:
            self.arrivals.leave()

    async def _read(self) -> Any:
        assert self.run is not None  # noqa: S101 - it was begun at the start
        if self._blocks is not None:
            async for text in self.run.sse():
                yield text.encode("utf-8", "replace")
        else:
            async for frame in self.run.frames():
                yield frame.data

    async def _relayed(self) -> None:
        if self._relay is not None:
            await asyncio.wait({self._relay})

    # --- the end of the call ---

    async def ended(self, error: BaseException | None) -> None:
        """Hear that the application has returned, or raised; wait until the client has all that there is."""
        if self._bridge is not None:
            self._bridge.end(error if isinstance(error, Exception) else asyncio.CancelledError())
            self._bridge.producer_over.set()
        self.arrivals.answered()
        try:
            if isinstance(error, Exception | None) or self.is_stopped:
                await self._relayed()
        finally:
            self.arrivals.close()
            if self._relay is not None:
                self._relay.cancel()


def _joined(frames: Iterable[Any]) -> bytes:
    return b"".join(frame.encode("utf-8", "replace") if isinstance(frame, str) else frame for frame in frames)
