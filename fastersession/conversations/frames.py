"""What a frame is: text, bytes, or a value for JSON.

Rules of residence: single frames. What is done with them is elsewhere.
"""

from __future__ import annotations

from typing import Any


def size_of(frame: Any) -> int:
    """Return about how many bytes a frame has.

    :raises TypeError: it is none.
    """
    if isinstance(frame, str):
        return len(frame.encode("utf-8", "surrogatepass"))
    if isinstance(frame, bytes):
        return len(frame)
    if isinstance(frame, dict | list):
        return len(repr(frame))
    raise TypeError(f"a frame is a str, bytes, a dict or a list, and this is a {type(frame).__name__}")
