"""A model behind any OpenAI-compatible ``/v1/chat/completions``: one streamed request per answer.

Rules of residence: the wire to the inference server, and nothing of our own pages or sessions.
HTTP is h11's business (uvicorn brings it), bytes are asyncio's, so that giving up on an answer
is an ordinary cancellation and closes the connection there and then. Every fault of the other
side leaves here as one `ModelError` that a person can read; no text that leaves contains the key.
"""

import asyncio
import codecs
import json
import re
import ssl
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import h11

from fastersession.demo.model import ModelError, Turn

__all__ = ["Endpoint", "EventData", "UpstreamModel", "delta", "messages"]

_BROKEN = "The inference server broke off, or does not speak HTTP."
# Of an error answer, enough for any message worth showing.
_ERROR_BYTES = 16 * 1024
_ERROR_SHOWN = 400
# One event longer than this is no token: do not collect without bound what never ends in a newline.
_LINE_CHARS = 1024 * 1024
_LINE_BREAK = re.compile(r"\r\n|\n|\r(?!\Z)")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to connect, and what to ask for there."""

    host: str
    port: int
    tls: bool
    authority: str
    target: str

    @classmethod
    def parse(cls, url: str) -> "Endpoint":
        """Read a base URL, with or without ``/v1`` or ``/v1/chat/completions``; `ValueError` says what is wrong."""
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
    # ``/v1``, ``/api/v3``, ``/v1beta``: the version is there, only the resource is missing.
    tail = "/chat/completions" if re.fullmatch(r".*/v\d\w*", path) else "/v1/chat/completions"
    return path + tail


class UpstreamModel:
    """Streams the answers of ``model`` at ``url``; ``timeout`` bounds each silence, not the whole answer."""

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
        """Send the whole conversation, yield the content of each delta."""
        reader, writer = await self._connect()
        try:
            exchange = _Exchange(reader, writer, self._timeout)
            response = await exchange.ask(self._request(messages(turns)))
            if response.status_code != 200:
                raise ModelError(self._complaint(response, await exchange.head_of_body(_ERROR_BYTES)))
            events, finished = EventData(), False
            more = True
            while more:
                # Deviation: a last event without its blank line counts; some servers hang up after ``[DONE]``.
                more = bool(chunk := await exchange.chunk())
                for data in events.feed(chunk or b"\n\n"):
                    if data == "[DONE]":
                        return
                    text, last = self._delta(data)
                    finished = finished or last
                    if text:
                        yield text
            # A body that lasts until the connection closes looks complete when the server dies.
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
        except (OSError, UnicodeError) as error:  # UnicodeError: a host name that is none, like "a..b"
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
        said = _said(body) or bytes(response.reason).decode("latin-1") or "no reason given"
        return self._discreet(f"The inference server answered {response.status_code}: {said}")

    def _discreet(self, text: str) -> str:
        """Take the key out: some servers repeat the one that they refuse."""
        return text.replace(self._api_key, "…") if self._api_key else text


class _Exchange:
    """One request and its response over one connection."""

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
        """Read the next piece of the body, however it was cut; empty at its end."""
        event = await self._event()
        return bytes(event.data) if isinstance(event, h11.Data) else b""

    async def head_of_body(self, limit: int) -> bytes:
        """Collect the beginning of the body; a broken rest is no further news after an error status."""
        body = bytearray()
        try:
            while len(body) < limit and (chunk := await self.chunk()):
                body += chunk
        except ModelError:
            pass
        return bytes(body[:limit])

    async def _event(self) -> Any:
        """Wait for the next event that h11 makes of the bytes, reading more of them as needed."""
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


def messages(turns: Sequence[Turn]) -> list[dict[str, str]]:
    """Spell the conversation as the API wants it: the question to answer comes last."""
    history = []
    for turn in turns[:-1]:
        history.append({"role": "user", "content": turn["question"]})
        # Chat templates of Mistral and Gemma refuse two user messages in a row: fill the gap of
        # a turn that failed or was stopped before its first word.
        history.append({"role": "assistant", "content": turn["answer"] or "(no answer)"})
    history.append({"role": "user", "content": turns[-1]["question"]})
    return history


class EventData:
    """The data of server-sent events (WHATWG HTML §9.2.6), wherever the bytes are cut."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._rest = ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> Iterator[str]:
        """Take in some bytes, give out the events that they complete."""
        # A carriage return at the very end may be half of a line break.
        *lines, self._rest = _LINE_BREAK.split(self._rest + self._decoder.decode(chunk))
        if len(self._rest) > _LINE_CHARS:
            raise ModelError("The inference server sent a line without end.")
        for line in lines:
            if line.startswith("data:"):
                self._data.append(line[5:].removeprefix(" "))
            elif not line and self._data:
                yield "\n".join(self._data)
                self._data.clear()


def delta(data: str) -> tuple[str, bool]:
    """Read one chunk: its text, and whether a choice ended here. What carries neither is skipped."""
    try:
        chunk = json.loads(data)
    except (ValueError, RecursionError):
        raise ModelError("The inference server sent something that is not JSON.") from None
    if not isinstance(chunk, dict):
        raise ModelError("The inference server sent something that is not a completion.")
    if chunk.get("error"):
        raise ModelError(f"The inference server gave up: {_reason(chunk) or 'no reason given'}")
    choices = chunk.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    part = choice.get("delta")
    content = part.get("content") if isinstance(part, dict) else None
    return (content if isinstance(content, str) else ""), bool(choice.get("finish_reason"))


def _said(body: bytes) -> str:
    """Find the sentence in an error body: OpenAI's and FastAPI's JSON, or plain text."""
    text = body.decode("utf-8", "replace").strip()
    try:
        return _reason(json.loads(text))
    except (ValueError, RecursionError):
        return "" if text.startswith("<") else " ".join(text.split())[:_ERROR_SHOWN]


def _reason(body: Any) -> str:
    """Look for a text under the names that servers use, from the outside in."""
    for _ in range(4):
        if not isinstance(body, dict):
            break
        body = next((body[name] for name in ("error", "message", "detail") if body.get(name)), None)
    return body[:_ERROR_SHOWN] if isinstance(body, str) else ""
