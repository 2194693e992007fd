"""An application's answer: its messages, headers and cookies.

Rules of residence: plain data of one answer, finished or running; no event loop, nothing of the code under test.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from .jar import Cookie, Headers

Message = dict[str, Any]
STARTS = ("http.response.start", "websocket.accept", "websocket.http.response.start")


@dataclass
class Answer:
    """Every message as it arrived, and the error that the application ended with, if any."""

    messages: list[Message] = field(default_factory=list)
    error: BaseException | None = None

    @property
    def start(self) -> Message:
        """The start message, or the accept of a WebSocket.

        :raises LookupError: no such message has arrived.
        """
        for message in self.messages:
            if message["type"] in STARTS:
                return message
        raise LookupError("no response was started")

    @property
    def status(self) -> int:
        """The status of the response.

        :raises LookupError: no response was started, or it is an accepted WebSocket, which has none.
        """
        status: int = self.start["status"]
        return status

    @property
    def headers(self) -> Headers:
        """The headers of the start, raw and in order."""
        return list(self.start.get("headers", ()))

    def all(self, name: str) -> list[bytes]:
        """Return every value of a header, in order."""
        return [value for key, value in self.headers if key.lower() == name.lower().encode()]

    def header(self, name: str) -> bytes | None:
        """Return the only value of a header, or ``None``.

        :raises AssertionError: there are several.
        """
        values = self.all(name)
        assert len(values) < 2, values
        return values[0] if values else None

    @property
    def cookies(self) -> list[Cookie]:
        """The cookies of all Set-Cookie lines."""
        return [Cookie.parse(value) for value in self.all("set-cookie")]

    @property
    def chunks(self) -> list[bytes]:
        """The bodies that are not empty."""
        return [message["body"] for message in self.messages if message.get("body")]

    @property
    def body(self) -> bytes:
        """All chunks, joined."""
        return b"".join(self.chunks)

    @property
    def text(self) -> str:
        """The body as UTF-8."""
        return self.body.decode()

    def json(self) -> Any:
        """Return the value that the body is JSON of."""
        return json.loads(self.body)
