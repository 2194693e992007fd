"""A model behind any OpenAI-compatible ``/v1/chat/completions``: one streamed request for each answer.

Rules of residence: the connection to the inference server; nothing of our pages or sessions. h11 does HTTP (uvicorn
brings it), asyncio moves the bytes. So a cancelled answer closes its connection at once. Every fault of the server
becomes a `ModelError` that a person can read. No text that leaves contains the key.
"""

import asyncio
import json
import re
import ssl
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import h11

from fastersession.demo.completions import EventData, delta, messages, reason_of
from fastersession.demo.model import ModelError, Turn

_BROKEN = "The inference server broke off, or does not speak HTTP."
_ERROR_BYTES = 16 * 1024  # of an error answer: more than any message worth showing


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The address of an inference server: where to connect, and which resource to request."""

    host: str
    port: int
    tls: bool
    authority: str
    target: str

    @classmethod
    def parse(cls, url: str) -> "Endpoint":
        """Read a base URL, with or without ``/v1`` or ``/v1/chat/completions``; a `ValueError` says what is wrong."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is not an http:// or https:// URL")
        if parts.username is not None or not url.isascii() or not url.isprintable() or " " in url:
            raise ValueError("the URL must be plain ASCII, without blanks, user name or password")
        tls = parts.scheme == "https"
        port = parts.port if parts.port is not None else (443 if tls else 80)
        query = f"?{parts.query}" if parts.query else ""
        return cls(parts.hostname, port, tls, parts.netloc, _completions(parts.path) + query)


def _completions(path: str) -> str:
    path = path.rstrip("/")
    if path.endswith("/chat/completions"):
        return path
    # ``/v1``, ``/api/v3``, ``/v1beta`` have a version, and lack only the resource.
    tail = "/chat/completions" if re.fullmatch(r".*/v\d\w*", path) else "/v1/chat/completions"
    return path + tail


class UpstreamModel:
    """Streams the answers of ``model`` at ``url``. ``timeout`` bounds each silence, not the whole answer."""

    def __init__(
        self, url: str, model: str, *, api_key: str | None = None, timeout: float = 60.0, connect_timeout: float = 10.0
    ) -> None:
        self.name = model
        self.endpoint = Endpoint.parse(url)
        self._api_key = api_key
        self._timeout = timeout
        self._connect_timeout = min(connect_timeout, timeout)
        self._tls = ssl.create_default_context() if self.endpoint.tls else None

    async def answer(self, turns: Sequence[Turn]) -> AsyncGenerator[str, None]:
        """Send the whole conversation, and yield the content of each delta."""
        reader, writer = await self._connect()
        try:
            trip = _RoundTrip(reader, writer, self._timeout)
            response = await trip.ask(self._request(messages(turns)))
            if response.status_code != 200:
                raise ModelError(self._complaint(response, await trip.head_of_body(_ERROR_BYTES)))
            events, finished = EventData(), False
            more = True
            while more:
                # Deviation: the last event counts without its blank line, for some servers hang up after ``[DONE]``.
                more = bool(chunk := await trip.chunk())
                for data in events.feed(chunk or b"\n\n"):
                    if data == "[DONE]":
                        return
                    text, last = self._delta(data)
                    finished = finished or last
                    if text:
                        yield text
            # A body that ends with the connection looks complete when the server dies.
            if not finished:
                raise ModelError("The inference server ended its answer early.")
        finally:
            writer.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        end = self.endpoint
        try:
            async with asyncio.timeout(self._connect_timeout):
                return await asyncio.open_connection(end.host, end.port, ssl=self._tls)
        except TimeoutError:
            raise ModelError(f"Cannot reach the inference server at {end.authority}: it did not answer.") from None
        except (OSError, UnicodeError) as error:  # UnicodeError: of a host name like "a..b"
            reason = getattr(error, "verify_message", None) or getattr(error, "strerror", None) or error
            raise ModelError(f"Cannot reach the inference server at {end.authority}: {reason}.") from None

    def _request(self, history: list[dict[str, str]]) -> tuple[h11.Request, bytes]:
        body = json.dumps({"model": self.name, "messages": history, "stream": True}).encode()
        headers = [
            ("host", self.endpoint.authority),
            ("content-type", "application/json"),
            ("content-length", str(len(body))),
            ("accept", "text/event-stream"),
            ("user-agent", "fastersession-demo"),
            ("connection", "close"),
        ]
        if self._api_key:
            headers.append(("authorization", f"Bearer {self._api_key}"))
        return h11.Request(method="POST", target=self.endpoint.target, headers=headers), body

    def _delta(self, data: str) -> tuple[str, bool]:
        try:
            return delta(data)
        except ModelError as error:
            raise ModelError(self._discreet(str(error))) from None

    def _complaint(self, response: h11.Response, body: bytes) -> str:
        said = reason_of(body) or bytes(response.reason).decode("latin-1") or "no reason given"
        return self._discreet(f"The inference server answered {response.status_code}: {said}")

    def _discreet(self, text: str) -> str:
        """Return the text without the key, which some servers repeat when they refuse it."""
        return text.replace(self._api_key, "…") if self._api_key else text


class _RoundTrip:
    """One request and its response, on a connection of their own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, timeout: float) -> None:
        self._reader, self._writer, self._timeout = reader, writer, timeout
        self._http = h11.Connection(h11.CLIENT)

    async def ask(self, request: tuple[h11.Request, bytes]) -> h11.Response:
        head, body = request
        for event in (head, h11.Data(data=body), h11.EndOfMessage()):
            self._writer.write(self._http.send(event) or b"")
        while isinstance(event := await self._event(), h11.InformationalResponse):
            pass
        if not isinstance(event, h11.Response):
            raise ModelError(_BROKEN)
        return event

    async def chunk(self) -> bytes:
        """Return the next piece of the body, or nothing at its end."""
        event = await self._event()
        return bytes(event.data) if isinstance(event, h11.Data) else b""

    async def head_of_body(self, limit: int) -> bytes:
        """Return the beginning of the body of an error answer. Its rest may be broken."""
        body = bytearray()
        try:
            while len(body) < limit and (chunk := await self.chunk()):
                body += chunk
        except ModelError:
            pass
        return bytes(body[:limit])

    async def _event(self) -> Any:
        """Return the next event of h11, which may need more bytes."""
        try:
            async with asyncio.timeout(self._timeout):
                while (event := self._http.next_event()) is h11.NEED_DATA:
                    self._http.receive_data(await self._reader.read(65536))
        except TimeoutError:
            raise ModelError(f"The inference server was silent for {self._timeout:g} seconds.") from None
        except h11.RemoteProtocolError:
            raise ModelError(_BROKEN) from None
        except OSError as error:
            raise ModelError(f"The connection to the inference server broke: {error.strerror or error}.") from None
        return event
