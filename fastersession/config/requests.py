"""Which requests get no session, which are refused, and which origins count as one's own.

Rules of residence: what tells requests apart, by path, header or origin.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..asgi.headers import normal_origin
from .faults import Collector

Headers = tuple[tuple[bytes, bytes | None], ...]  # name and value, ``None`` for any
TAKEN_NAMES = frozenset({
    "access-control-expose-headers", "cache-control", "connection", "content-length", "content-type", "cookie", "host",
    "origin", "sec-fetch-site", "sec-purpose", "set-cookie", "transfer-encoding", "upgrade", "vary",
})  # fmt: skip
CSRF = (None, "fetch-metadata", "report", "all")
HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 section 5.1


class Requests(Collector):
    """Checks what names requests."""

    def passive(self, given: object) -> tuple[frozenset[str], tuple[str, ...], Headers]:
        """Accept what ``exclude`` and ``skip_session_header`` take; return (paths, prefixes, headers)."""
        listed = isinstance(given, Iterable) and not isinstance(given, str | bytes | Mapping)
        entries: list[Any] = list(given) if listed else [given]  # type: ignore[call-overload]
        if not all(_is_path(entry) or _is_skip_entry(entry) for entry in entries):
            self.add("passive: must be a sequence of what exclude and skip_session_header take, paths and dicts")
            return frozenset(), (), ()
        paths = [entry for entry in entries if isinstance(entry, str)]
        return *self.exclude(paths), self.skip_headers([entry for entry in entries if not isinstance(entry, str)])

    def skip_headers(self, given: object) -> Headers:
        """Accept a dict or list of dicts with ``header_name`` and ``header_value``; ``"*"`` becomes ``None``."""
        entries = [] if given is None else [given] if isinstance(given, Mapping) else given
        if not isinstance(entries, list | tuple) or not all(map(_is_skip_entry, entries)):
            form = '{"header_name": "...", "header_value": "..."}'
            self.add(f"skip_session_header: must be a dict {form} with an RFC 9110 field name, or a list of them")
            return ()
        return tuple(
            (entry["header_name"].lower().encode(),
             None if entry["header_value"] == "*" else entry["header_value"].encode("latin-1"))
            for entry in entries
        )  # fmt: skip

    def exclude(self, given: object, name: str = "exclude") -> tuple[frozenset[str], tuple[str, ...]]:
        """Accept paths, and prefixes that end in ``*``; return (paths, prefixes)."""
        listed = isinstance(given, Iterable) and not isinstance(given, str | bytes | Mapping)
        paths: list[Any] = list(given) if listed else [given]  # type: ignore[call-overload]
        if not all(map(_is_path, paths)):
            self.add(f"{name}: must be a sequence of paths that start with '/', '*' standing only at the end")
            return frozenset(), ()
        return (
            frozenset(path for path in paths if not path.endswith("*")),
            tuple(path[:-1] for path in paths if path.endswith("*")),
        )

    def origins(self, given: object) -> frozenset[tuple[str, str]]:
        """Accept exact origins, ``scheme://host[:port]``."""
        origins = list(given) if isinstance(given, Iterable) and not isinstance(given, str | bytes) else [given]
        normal = [normal_origin(origin) if isinstance(origin, str) else None for origin in origins]
        if None in normal:
            self.add("allowed_origins: must be a sequence of exact origins like 'https://app.example.org'")
        return frozenset(origin for origin in normal if origin is not None)

    def transport(self, given: object) -> tuple[bool, str | None, bool]:
        """Accept ways of the token; return (cookies are taken, the header's name, a token begins in the header)."""
        listed = isinstance(given, Sequence) and not isinstance(given, str | bytes)
        ways: list[Any] = list(given) if listed else [given]  # type: ignore[call-overload]
        names = [way.removeprefix("header:").lower() for way in ways if isinstance(way, str) and way != "cookie"]
        fits = len(names) <= 1 and len(ways) == len(names) + ways.count("cookie") and 1 <= len(ways) <= len(set(ways))
        if not listed or not fits or not all(_is_header_way(way) for way in ways if way != "cookie"):
            self.add(
                "transport: must be a sequence of 'cookie', or 'header:x-session-token' with a name of yours, or both"
            )
            return True, None, False
        return "cookie" in ways, names[0] if names else None, ways[0] != "cookie"

    def csrf(self, given: object) -> None:
        """Check that it is a way to refuse other sites' requests."""
        if not isinstance(given, str | None) or given not in CSRF:
            self.add("csrf: must be 'fetch-metadata', 'report', 'all', or None")


def _is_header_way(way: str) -> bool:
    name = way.removeprefix("header:").lower()
    return way.startswith("header:") and HEADER_NAME.fullmatch(name) is not None and name not in TAKEN_NAMES


def _is_path(path: Any) -> bool:
    return isinstance(path, str) and path.startswith("/") and "*" not in path[:-1]


def _is_skip_entry(entry: Any) -> bool:
    if not isinstance(entry, Mapping) or set(entry) != {"header_name", "header_value"}:
        return False
    name, value = entry["header_name"], entry["header_value"]
    return (
        isinstance(name, str)
        and HEADER_NAME.fullmatch(name) is not None
        and isinstance(value, str)
        and value.isprintable()
        and value.isascii()
    )
