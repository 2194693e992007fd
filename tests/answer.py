"""What a browser keeps of an answer: its messages, headers and cookies.

Rules of residence: plain data about one finished or running answer; no event loop, nothing of the package under test.
"""

from __future__ import annotations

import email.utils
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

Message = dict[str, Any]
Headers = list[tuple[bytes, bytes]]


@dataclass
class Cookie:
    """One Set-Cookie line, taken apart: the attribute names are lowered, a flag has the value ''."""

    name: str
    value: str
    attributes: dict[str, str]

    @classmethod
    def parse(cls, line: bytes) -> Cookie:
        pair, *rest = line.decode("latin-1").split(";")
        name, _, value = pair.strip().partition("=")
        split = (part.strip().partition("=") for part in rest)
        return cls(name, value, {key.lower(): given for key, _, given in split})

    @property
    def expired(self) -> bool:
        """Max-Age decides; without one, Expires (RFC 6265 section 5.3, step 3)."""
        if "max-age" in self.attributes:
            return int(self.attributes["max-age"]) <= 0
        if "expires" in self.attributes:
            return email.utils.parsedate_to_datetime(self.attributes["expires"]).timestamp() <= time.time()
        return False

    @property
    def acceptable(self) -> bool:
        """A browser drops a prefixed cookie that breaks its prefix (RFC 6265bis section 4.1.3)."""
        secure, path, domain = (self.attributes.get(key) for key in ("secure", "path", "domain"))
        if self.name.startswith("__Host-"):
            return secure is not None and path == "/" and domain is None
        return secure is not None or not self.name.startswith("__Secure-")

    def matches(self, path: str, encrypted: bool) -> bool:
        """Whether a request to `path` carries it (RFC 6265 section 5.1.4)."""
        own = self.attributes.get("path") or "/"
        below = path == own or path.startswith(own if own.endswith("/") else own + "/")
        return below and (encrypted or "secure" not in self.attributes)


class Jar(dict[str, Cookie]):
    """The cookies of one browser on one host, by name."""

    def take(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        for name, value in headers:
            if name.lower() == b"set-cookie":
                cookie = Cookie.parse(value)
                if cookie.expired:
                    self.pop(cookie.name, None)
                elif cookie.acceptable:
                    self[cookie.name] = cookie

    def header(self, path: str, encrypted: bool) -> Headers:
        sent = [f"{c.name}={c.value}" for c in self.values() if c.matches(path, encrypted)]
        return [(b"cookie", "; ".join(sent).encode("latin-1"))] if sent else []

    def copy(self) -> Jar:
        return Jar(self)


@dataclass
class Answer:
    """What came back: every message as the app's side sent it, and the error the app ended with, if any."""

    messages: list[Message] = field(default_factory=list)
    error: BaseException | None = None

    @property
    def start(self) -> Message:
        """The start message, or the accept of a websocket."""
        kinds = ("http.response.start", "websocket.accept", "websocket.http.response.start")
        return next(message for message in self.messages if message["type"] in kinds)

    @property
    def status(self) -> int:
        return self.start["status"]

    @property
    def headers(self) -> Headers:
        return list(self.start.get("headers", ()))

    def all(self, name: str) -> list[bytes]:
        """Every value of one header, in order."""
        return [value for key, value in self.headers if key.lower() == name.lower().encode()]

    def header(self, name: str) -> bytes | None:
        """Give the one value of a header, or None; two of them are an error."""
        values = self.all(name)
        assert len(values) < 2, values
        return values[0] if values else None

    @property
    def cookies(self) -> list[Cookie]:
        return [Cookie.parse(value) for value in self.all("set-cookie")]

    @property
    def chunks(self) -> list[bytes]:
        """The bodies that are not empty."""
        return [message["body"] for message in self.messages if message.get("body")]

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)
