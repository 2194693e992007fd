"""Looks at every key there is: what has expired, and whose sessions there are.

Rules of residence: the verbs ``purge`` and ``page``, for administrators. No usual request comes here.
"""

from __future__ import annotations

import re
from typing import Any

from ..base import Record
from . import scripts as lua
from .link import pack
from .record import RECORD_ID, SHOWN, number, to_record
from .route import BULK, FAILED, Node
from .scripts import evaluation
from .sending import Sender, failed

SCAN = 500  # keys looked at in one step of purge(): about a millisecond of the server's
PING = pack((b"PING",))


class Scans(Sender):
    """What a store does with all sessions."""

    async def purge(self) -> int:
        """Remove what has expired. Never needed: the server does so, a minute late. Looks at every key there is.

        A lost connection is not mended here: call it again.
        """
        route = await self._opened()
        try:
            return sum([await self._purge(node) for node in route.primaries()])
        except FAILED as error:
            raise failed(error) from error

    async def page(self, after: bytes | None, count: int) -> tuple[list[tuple[bytes, Record]], bytes | None]:
        """Look at about ``count`` keys of one server: two round trips. A lost connection is not mended here."""
        route = await self._opened()
        nodes = list(route.primaries())
        at, cursor = (0, b"0") if after is None else (after[0], after[1:])
        if at >= len(nodes):  # there were more of them
            return [], None
        try:
            cursor, keys = await self._scan(nodes[at], cursor, count)
            replies = await self._each(nodes[at], [pack((b"HMGET", key, *SHOWN)) for key in keys])
        except FAILED as error:
            raise failed(error) from error
        found = [shown for shown in map(self._shown, replies) if shown is not None]
        if cursor == b"0":
            at += 1
        return found, bytes((at,)) + cursor if at < len(nodes) else None

    def _shown(self, reply: Any) -> tuple[bytes, Record] | None:
        """Return a live record; ``None`` for a key that has moved away, or that is not one of ours."""
        if not isinstance(reply, list):
            return None
        fields = {name: value for name, value in zip(SHOWN, reply, strict=True) if value is not None}
        try:
            record = to_record(fields, self.clock())
            return None if record is None else (fields[RECORD_ID], record)
        except (ValueError, KeyError):
            return None

    async def _purge(self, node: Node) -> int:
        cursor, removed, now = b"0", 0, number(self.clock())
        while True:
            cursor, keys = await self._scan(node, cursor, SCAN)
            replies = await self._each(node, [evaluation(lua.REAP, (key,), now) for key in keys])
            removed += sum(reply for reply in replies if isinstance(reply, int))  # a key may have moved away
            if cursor == b"0":
                return removed

    async def _scan(self, node: Node, cursor: bytes, count: int) -> tuple[bytes, list[bytes]]:
        """Return where to go on, and the keys of records."""
        pattern = re.sub(rb"([*?\[\]\\^])", rb"\\\1", self._prefix) + b"{" + b"?" * 32 + b"}"
        scan = pack((b"SCAN", cursor, b"MATCH", pattern, b"COUNT", b"%d" % count, b"TYPE", b"hash"))
        cursor, keys = await node.links[BULK].send(scan)
        return cursor, keys

    async def _each(self, node: Node, commands: list[bytes]) -> list[Any]:
        replies: list[Any] = (
            await node.links[BULK].send(b"".join([*commands, PING]), len(commands) + 1) if commands else [b""]
        )
        return replies[:-1]
