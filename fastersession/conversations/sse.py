"""Frames as an event stream: what every client of one reads, as the HTML standard and OpenAI's client do.

Rules of residence: text alone. No block has an ``id:`` or ``retry:`` and no data: clients that parse the data of every
block fail on one.
"""

from __future__ import annotations

import json
import re
from codecs import getincrementaldecoder
from collections.abc import Sequence
from typing import Any

from .cursor import prefix_of

HEADERS = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}
COMMENT = ": \n\n"
RETRY = "retry: 1000\n"  # milliseconds until a browser connects again
BEFORE = 3  # frames before the first that are read as well: a character may be cut into four
_BREAK = re.compile(r"\r\n|\r|\n")
_OWN_ID = re.compile(r"(?:^|[\r\n])id(?::|[\r\n]|$)")
_DATA = re.compile(r"(?:^|[\r\n])data(?::|[\r\n]|$)")


class Events:
    """The events of one reader.

    :param after: the number of the frame that the client has got last; what comes up to it only completes characters.
    :param are_blocks: each frame is a whole block, and only needs an id.
    """

    def __init__(self, run: bytes, after: int, *, are_blocks: bool) -> None:
        self._prefix = f"1{prefix_of(run)}."
        self._after = after
        self._are_blocks = are_blocks
        self._decoder = getincrementaldecoder("utf-8")("replace")
        self._retry = RETRY

    def text(self, first: int, frames: Sequence[Any], is_logged: bool) -> str:
        """Return the blocks of frames that came together."""
        pieces: list[str] = []
        for seq, frame in enumerate(frames, first):
            text = self._text(frame)
            if seq > self._after and (text or not isinstance(frame, bytes)):
                pieces.append(self._block(f"{self._prefix}{seq}" if is_logged else None, text))
        return "".join(pieces)

    def dicts(self, first: int, frames: Sequence[Any], is_logged: bool) -> list[dict[str, str]]:
        """Return ``{"id", "data"}`` for each."""
        found: list[dict[str, str]] = []
        for seq, frame in enumerate(frames, first):
            text = self._text(frame)
            if seq > self._after and (text or not isinstance(frame, bytes)):
                said = {"id": f"{self._prefix}{seq}"} if is_logged else {}
                found.append({**said, "data": text})
        return found

    def _text(self, frame: Any) -> str:
        """Return a frame's text. Bytes may end within a character, which then comes with the next."""
        if isinstance(frame, str):
            return frame
        if isinstance(frame, bytes):
            return self._decoder.decode(frame)
        return json.dumps(frame, ensure_ascii=False, separators=(",", ":"))

    def _block(self, cursor: str | None, text: str) -> str:
        if self._are_blocks:
            block = text if text.endswith(("\n\n", "\r\r", "\r\n\r\n")) else f"{text}\n\n"
            if _OWN_ID.search(block) or not _DATA.search(block):
                return block
        elif "\n" in text or "\r" in text:
            block = "".join(f"data: {line}\n" for line in _BREAK.split(text)) + "\n"
        else:
            block = f"data: {text}\n\n"
        retry, self._retry = self._retry, ""
        return f"{retry}{block}" if cursor is None else f"id: {cursor}\n{retry}{block}"
