"""The blocks of an event stream that an application sends in bytes, wherever its chunks end.

Rules of residence: bytes to texts, each of which is a whole block. What is in one is not looked at.

A block ends with an empty line; a line ends with LF, CRLF or CR (HTML standard, "Parsing an event stream"). Empty lines
before a block mean nothing and are left out, and each block is given out with two LF at its end: so it does not matter
if a CR is half of a CRLF whose other half comes later.
"""

from __future__ import annotations

import re
from codecs import getincrementaldecoder

MOST_OF_A_BLOCK = 1024 * 1024  # characters; what has no end within them is given out as it is
_LONGEST_END = 4  # characters
_EMPTY = "\n\n"
_END = re.compile(r"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")
_MARK = "\ufeff"  # of the byte order, which a stream may begin with


class Blocks:
    """Cuts one stream."""

    def __init__(self) -> None:
        self._decoder = getincrementaldecoder("utf-8")("replace")
        self._rest = ""
        self._has_begun = False

    def cut(self, data: bytes) -> list[str]:
        """Return the blocks that end within these bytes."""
        return self._cut(self._decoder.decode(data))

    def end(self) -> list[str]:
        """Return the last blocks; what is left at the end of the stream is one, too."""
        found = self._cut(self._decoder.decode(b"", True))
        rest, self._rest = self._rest, ""
        return [*found, rest] if rest else found

    def _cut(self, text: str) -> list[str]:
        if text and not self._has_begun:
            self._has_begun, text = True, text.removeprefix(_MARK)
        found: list[str] = []
        sought = max(len(self._rest) - _LONGEST_END + 1, 0)  # up to there the rest has no end
        rest = (self._rest + text) if self._rest else text.lstrip("\r\n")
        while (end := _END.search(rest, sought)) is not None:
            found.append(f"{rest[: end.start()]}{_EMPTY}")
            rest, sought = rest[end.end() :].lstrip("\r\n"), 0
        if len(rest) > MOST_OF_A_BLOCK:
            found.append(rest)
            rest = ""
        self._rest = rest
        return found
