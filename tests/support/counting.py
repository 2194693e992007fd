"""A codec that counts, and one request whose save points are told apart.

Rules of residence: what was encoded when. What a test proves stands in the test.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from driver import Browser
from markupsafe import Markup
from routes import Call, serve
from stores import SuspendingStore

from fastersession import JsonCodec
from fastersession.testing import session_of

Act = Callable[[Any], Any]
TAGGED = Markup("x")  # a value that has one can be told from others by encoding it only


class CountingCodec(JsonCodec):
    """Notes the name of each value that it encodes or decodes."""

    def __init__(self) -> None:
        super().__init__()
        self.encoded: list[str] = []
        self.decoded: list[str] = []

    def encode(self, attribute: str, value: Any) -> bytes:
        self.encoded.append(attribute)
        return super().encode(attribute, value)

    def decode(self, attribute: str, data: bytes) -> Any:
        self.decoded.append(attribute)
        return super().decode(attribute, data)

    def take(self) -> list[str]:
        """Return what was encoded since the last call, in order of name."""
        taken, self.encoded = sorted(self.encoded), []
        return taken


class Counted:
    """A session in a store of bytes, and what each save point of a request with it has encoded.

    A save point is at the start, at the last chunk, and at the end of the call.
    """

    def __init__(self, begin: dict[str, Any] | None, **options: Any) -> None:
        self.begin, self.codec, self.store = begin, CountingCodec(), SuspendingStore()
        self.at: list[list[str]] = []
        self.handler: Any = None
        routes = {"/begin": self._begin, "/act": self._act}
        self.browser = Browser(serve(routes, store=self.store, codec=self.codec, **options))

    async def _begin(self, call: Call) -> None:
        call.session.update(self.begin or {})
        await call.reply()

    async def _act(self, call: Call) -> None:
        await self.handler(call)

    async def request(self, handler: Any, *, catch: bool = False) -> Any:
        """Send a request to a handler, in a session of its own if there is something to begin with."""
        if self.begin is not None:
            await self.browser.get("/begin")
            self.begin = None
        self.codec.take()
        self.codec.decoded.clear()
        self.handler = handler
        answer = await self.browser.get("/act", catch=catch)
        self.point()
        return answer

    def point(self) -> None:
        """Note that a save point is over."""
        self.at.append(self.codec.take())

    async def acted(self, *acts: Act) -> list[list[str]]:
        """Act before the start, in the stream, after its last chunk; return what each save point has encoded."""

        async def handler(call: Call) -> None:
            moments = [call.start, call.finish]
            for act in acts:
                act(call.session)
                if moments:
                    await moments.pop(0)()
                    self.point()
            for moment in moments:
                await moment()
                self.point()

        self.at = []
        await self.request(handler)
        return self.at

    async def content(self) -> Any:
        async with session_of(self.browser) as session:
            return dict(session)

    def sets(self) -> list[list[str]]:
        """Return the names that each update has set."""
        return [sorted(call[3].sets) for call in self.store.arguments if call[0] == "update"]
