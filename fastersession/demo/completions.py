"""The words of an OpenAI-compatible ``/v1/chat/completions``: what is asked, and what its events and errors say.

Rules of residence: data in, data out; no connection, no HTTP. Whatever the server sends, the only error is a
`ModelError` that a person can read.
"""

import codecs
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from fastersession.demo.model import ModelError, Turn

ERROR_SHOWN = 400  # characters: enough for any message worth showing
LINE_CHARS = 1024 * 1024  # a longer event is no token: what never ends in a newline must not grow without bound
LINE_BREAK = re.compile(r"\r\n|\n|\r(?!\Z)")


def messages(turns: Sequence[Turn]) -> list[dict[str, str]]:
    """Return the conversation in the form of the API: the question to answer comes last."""
    history = []
    for turn in turns[:-1]:
        history.append({"role": "user", "content": turn["question"]})
        # A turn without an answer would leave two user messages in a row, which templates of Mistral and Gemma refuse.
        history.append({"role": "assistant", "content": turn["answer"] or "(no answer)"})
    history.append({"role": "user", "content": turns[-1]["question"]})
    return history


class EventData:
    """The data of server-sent events (WHATWG HTML §9.2.6), however the bytes are cut."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._rest = ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> Iterator[str]:
        """Take bytes, and yield the data of each event that they complete."""
        # A carriage return at the very end may be half of a line break.
        *lines, self._rest = LINE_BREAK.split(self._rest + self._decoder.decode(chunk))
        if len(self._rest) > LINE_CHARS:
            raise ModelError("The inference server sent a line without end.")
        for line in lines:
            if line.startswith("data:"):
                self._data.append(line[5:].removeprefix(" "))
            elif not line and self._data:
                yield "\n".join(self._data)
                self._data.clear()


def delta(data: str) -> tuple[str, bool]:
    """Return the text of a chunk, and whether it ends a choice."""
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


def reason_of(body: bytes) -> str:
    """Return the reason that an error body gives, in OpenAI's or FastAPI's JSON, or as plain text."""
    text = body.decode("utf-8", "replace").strip()
    try:
        return _reason(json.loads(text))
    except (ValueError, RecursionError):
        return "" if text.startswith("<") else " ".join(text.split())[:ERROR_SHOWN]


def _reason(body: Any) -> str:
    """Return the text under the names that servers use, from the outside in."""
    for _ in range(4):
        if not isinstance(body, dict):
            break
        body = next((body[name] for name in ("error", "message", "detail") if body.get(name)), None)
    return body[:ERROR_SHOWN] if isinstance(body, str) else ""
