"""Calls of an application whose client leaves when a test says so.

Rules of residence: one ASGI call as a server makes it. What is served is the tests'.
"""

from __future__ import annotations

import asyncio
from typing import Any

LEFT = {"type": "http.disconnect"}


class Call:
    """One request, in a task of its own."""

    def __init__(self, app: Any, path: str = "/chat", cookie: str | None = None, **scope: Any) -> None:
        headers = [] if cookie is None else [(b"cookie", cookie.encode())]
        self.scope: dict[str, Any] = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "GET",
            "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
            "headers": headers, "server": ("a", 1), "client": ("b", 2), "extensions": {}, **scope,
        }  # fmt: skip
        self.sent: list[dict[str, Any]] = []
        self._incoming: asyncio.Queue[Any] = asyncio.Queue()
        self._incoming.put_nowait({"type": "http.request", "body": b"", "more_body": False})
        self._has_sent = asyncio.Condition()
        self.task = asyncio.ensure_future(app(self.scope, self._receive, self._send))

    async def _receive(self) -> Any:
        message = await self._incoming.get()
        if message is LEFT:
            self._incoming.put_nowait(LEFT)
        return message

    async def _send(self, message: Any) -> None:
        async with self._has_sent:
            self.sent.append(message)
            self._has_sent.notify_all()

    def leave(self) -> None:
        """Have the client leave."""
        self._incoming.put_nowait(LEFT)

    async def until(self, text: str) -> None:
        """Wait until the client has this."""
        async with asyncio.timeout(20), self._has_sent:
            await self._has_sent.wait_for(lambda: text in self.text)

    async def over(self) -> Call:
        """Wait for the end of the call."""
        async with asyncio.timeout(20):
            await self.task
        return self

    @property
    def text(self) -> str:
        """What the client has got."""
        return b"".join(one.get("body", b"") for one in self.sent).decode()

    @property
    def status(self) -> int:
        """The status that it has got."""
        return next(one["status"] for one in self.sent if one["type"] == "http.response.start")

    @property
    def is_complete(self) -> bool:
        """Whether the client has seen the end."""
        last = self.sent[-1]
        return last["type"] == "http.response.body" and not last.get("more_body", False)

    @property
    def cookie(self) -> str:
        """The cookie that it has got."""
        headers = next(one["headers"] for one in self.sent if one["type"] == "http.response.start")
        return next(
            value.decode().partition(";")[0] for name, value in headers if name == b"set-cookie" and b"sid=" in value
        )
