"""Conversations in Redis, as the attribute ``logs`` of a store. Imported when that is first asked for.

Rules of residence: the verbs of ``LogStore`` over histories, and over conversations as a whole. Runs are in
``logs_runs``, Lua in ``logs_scripts``, keys and replies in ``logs_wire``.

Of a conversation there are, in one slot, a hash ``...:c:CONVERSATION``, a stream ``...:l:LOG`` of its history, a hash
``...:k:LOG`` that finds entries by key and by run, and for a while a stream ``...:r:LOG RUN`` of each run's frames;
``...`` is ``{prefix}{CONVERSATION}``, or the record's key, beside which the sets ``:s`` and ``:f`` name them. The hash
has the top, by which an entry is refused. ``{prefix}{o:OWNER}`` is a sorted set of a user's conversations by their last
update: a hint. While a slot moves, verbs of its conversations may fail; nothing is half done then.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any

from ..logs import Append, Appended, Created, Entry, Listed, Log, Look, Outcome, Place, Position
from . import logs_scripts as lua
from .link import pack
from .logs_runs import LogRuns
from .logs_wire import (
    SHOWN,
    bounds,
    of_entry,
    to_entry,
    to_hex,
    to_id,
    to_position,
    to_status,
    top_of,
)
from .record import number
from .route import BULK, FAILED, FAST, SURE, Node
from .scripts import evaluation
from .sending import LARGE, failed

SCAN = 500  # keys looked at in one step of purge()
PAGE = 100  # names of a list that are read at once
PING = pack((b"PING",))


class RedisLogs(LogRuns):
    """The conversations of one ``RedisStore``."""

    async def create(self, place: Place, log: bytes, owner: bytes, about: Any, keep: float | None = None) -> Created:
        """Make it, and then enter a user's in his list: two round trips."""
        outcome, more = await self._call(lua.CREATE, Log(place, log), owner, about, *self._keep(keep))
        if outcome is not Outcome.DONE:
            return Created(outcome)
        with self._parsing(self._keys(place)[0]):
            created = Created(outcome, bytes.fromhex(more[0].decode()), to_position(more[1]))
        if place.session is None:
            index = self._index(owner)
            packed = pack((b"ZADD", index, b"GT", number(self._means.clock()), place.conversation))
            await self._means.ask(index, lambda *_: packed, 1, SURE)
        return created

    async def append(self, appends: Sequence[Append]) -> list[Appended]:
        """Append in one piece per server."""
        asks = [
            self._asking(lua.APPEND, one.log.place, one.log.log, *self._keep(one.keep), *of_entry(one.entry))
            for one in appends
        ]
        kind = BULK if sum(len(one.entry.value) for one in appends) > LARGE else FAST
        replies = await self._means.ask_all(asks, kind)
        return [
            self._appended(one.log, key, reply) for one, (key, _), reply in zip(appends, asks, replies, strict=True)
        ]

    async def entries(
        self, log: Log, after: Position | None, before: Position | None, count: int, limit: int, *, newest: bool
    ) -> list[Entry] | None:
        outcome, more = await self._call(lua.ENTRIES, log, *_between(after, before, count, limit, newest), kind=BULK)
        with self._parsing(self._keys(log.place)[0]):
            return None if outcome is Outcome.GONE else _in_order(more[0])

    async def find(self, log: Log, key: bytes | None, run: bytes | None) -> Entry | None:
        if key is None and run is None:
            return None
        what = b"k" + key if key is not None else b"r" + to_hex(run or b"")
        _, more = await self._call(lua.FIND, log, what)
        with self._parsing(self._keys(log.place)[0]):
            return to_entry(more[0]) if more else None

    async def look(self, places: Sequence[Place], count: int, limit: int) -> Look | None:
        between = _between(None, None, count, limit, True)
        asks = [self._asking(lua.LOOK, place, None, *between) for place in places]
        for place, (key, _), reply in zip(places, asks, await self._means.ask_all(asks, BULK), strict=True):
            outcome, more = self._outcome(key, reply)
            if outcome is Outcome.DONE:
                with self._parsing(key):
                    return _to_look(place, more)
        return None

    async def cut(self, log: Log, after: Position | None, before: Position | None) -> Appended:
        tail = b"" if after is None else to_id(after)
        head = b"" if before is None else bounds(None, before)[1]
        outcome, more = await self._call(lua.CUT, log, tail, head)
        with self._parsing(self._keys(log.place)[0]):
            return Appended(outcome, top_of(more))

    async def describe(self, log: Log, about: Any, version: int) -> Outcome:
        outcome, more = await self._call(lua.DESCRIBE, log, about, b"%d" % version)
        with self._parsing(self._keys(log.place)[0]):
            if outcome is Outcome.DONE:
                self._updated(log, more[0])
        return outcome

    async def delete(self, place: Place, log: bytes | None = None, top: Position | None = None) -> bool:
        """Remove. What was removed just before the connection was lost may be ``False``."""
        key, build = self._asking(lua.DELETE, place, log, b"" if top is None else to_id(top))
        reply = await self._means.ask(key, build, 1, SURE)
        if reply == [0]:
            return False
        with self._parsing(key):
            removed, owner = reply
            if place.session is None:
                self._unlisted(owner, place.conversation)
            if not isinstance(removed, int):
                raise self._means.out_of_step(key)
        await self._means.settled((key, removed))
        return True

    async def owned(self, owner: bytes, count: int, before: tuple[float, bytes] | None) -> list[Listed]:
        """Read what a session has, and the list of a user; of him then what is shown."""
        record = self._base(owner)
        reply = await self._means.ask(record, self._means.calling(lua.OWNED, (record, record + b":s")), 1, SURE)
        with self._parsing(record):
            listed = [self._listed(Place(bytes.fromhex(its.decode()), owner), fields) for its, fields in reply[1]]
        found = [one for one in listed if one is not None] or await self._of_user(owner, count, before)
        found = [one for one in found if before is None or _order(one) < before]
        return sorted(found, key=_order, reverse=True)[:count]

    async def page(self, after: bytes | None, count: int) -> tuple[list[Listed], bytes | None]:
        """Look at about ``count`` keys of one server: two round trips. A lost connection is not mended here."""
        nodes = list((await self._means.opened()).primaries())
        at, cursor = (0, b"0") if after is None else (after[0], after[1:])
        if at >= len(nodes):  # there were more of them
            return [], None
        try:
            cursor, keys = await self._scan(nodes[at], cursor, count)
            keys = [key for key in keys if _is_users(key)]
            replies = await _each(nodes[at], [pack((b"HMGET", key, *SHOWN)) for key in keys])
        except FAILED as error:
            raise failed(error) from error
        listed = [
            self._listed(Place(_id_of(key)), reply)
            for key, reply in zip(keys, replies, strict=True)
            if isinstance(reply, list)  # else it has moved away
        ]
        if cursor == b"0":
            at += 1
        return [one for one in listed if one is not None], bytes((at,)) + cursor if at < len(nodes) else None

    async def purge(self) -> int:
        """Remove what is over. Never needed: the server does so, a minute late. Looks at every key there is."""
        route = await self._means.opened()
        try:
            return sum([await self._purge(node) for node in route.primaries()])
        except FAILED as error:
            raise failed(error) from error

    # --- how they work ---

    def _appended(self, log: Log, key: bytes, reply: Any) -> Appended:
        outcome, more = self._outcome(key, reply)
        with self._parsing(key):
            there = to_entry(more[2]) if outcome is Outcome.SAME else None
            if outcome is Outcome.DONE:
                self._updated(log, more[1])
            return Appended(outcome, top_of(more), there)

    async def _of_user(self, owner: bytes, count: int, before: tuple[float, bytes] | None) -> list[Listed]:
        """Return at least so many of a user's that lie before, if there are, and take out of the list what is gone."""
        index, found, start = self._index(owner), list[Listed](), 0
        highest = b"+inf" if before is None else number(before[0])
        while sum(before is None or _order(one) < before for one in found) < count:
            page = b"%d" % start, b"%d" % PAGE
            packed = pack((b"ZREVRANGEBYSCORE", index, highest, b"-inf", b"LIMIT", *page))
            ids = await self._means.ask(index, lambda *_, packed=packed: packed, 1, SURE)
            keys = [self._keys(Place(one))[0] for one in ids]
            packs = [pack((b"HMGET", key, *SHOWN)) for key in keys]
            asks = [(key, lambda *_, packed=packed: packed) for key, packed in zip(keys, packs, strict=True)]
            for one, fields in zip(ids, await self._means.ask_all(asks, SURE), strict=True):
                listed = self._listed(Place(one), fields)
                if listed is None:
                    self._unlisted(owner, one)
                else:
                    found.append(listed)
            start += PAGE
            if len(ids) < PAGE:
                break
        return found

    async def _purge(self, node: Node) -> int:
        cursor, removed, now = b"0", 0, number(self._means.clock())
        while True:
            cursor, keys = await self._scan(node, cursor, SCAN)
            reaps = []
            for key in keys:
                place = Place(_id_of(key), None if _is_users(key) else bytes.fromhex(_tag_of(key).decode()))
                reaps.append(evaluation(lua.REAP, self._keys(place), now, b"", b""))
            for key, reply in zip(keys, await _each(node, reaps), strict=True):
                if isinstance(reply, list) and reply[0]:  # else it has moved away
                    removed += 1
                    if _is_users(key):
                        self._unlisted(reply[1], _id_of(key))
            if cursor == b"0":
                return removed
            await asyncio.sleep(0)

    async def _scan(self, node: Node, cursor: bytes, count: int) -> tuple[bytes, list[bytes]]:
        """Return where to go on, and the keys of conversations."""
        prefix = re.sub(rb"([*?\[\]\\^])", rb"\\\1", self._means.prefix)
        pattern = b"%b{%b}:c:%b" % (prefix, b"?" * 32, b"?" * 32)
        scan = pack((b"SCAN", cursor, b"MATCH", pattern, b"COUNT", b"%d" % count, b"TYPE", b"hash"))
        cursor, keys = await node.links[BULK].send(scan)
        return cursor, keys


async def _each(node: Node, commands: list[bytes]) -> list[Any]:
    replies: list[Any] = await node.links[BULK].send(b"".join([*commands, PING, PING]), len(commands) + 2)
    return replies[:-2]


def _tag_of(key: bytes) -> bytes:
    return key[-68:-36]


def _id_of(key: bytes) -> bytes:
    return bytes.fromhex(key[-32:].decode())


def _is_users(key: bytes) -> bool:
    return _tag_of(key) == key[-32:]


def _between(
    after: Position | None, before: Position | None, count: int, limit: int, newest: bool
) -> tuple[bytes, ...]:
    return b"%d" % count, b"%d" % limit, b"1" if newest else b"", *bounds(after, before)


def _to_look(place: Place, reply: list[Any]) -> Look:
    log, top, about, version, created, updated, entries, status = reply
    return Look(
        Log(place, bytes.fromhex(log.decode())), to_position(top), about, int(version), float(created), float(updated),
        _in_order(entries), to_status(status),
    )  # fmt: skip


def _in_order(entries: list[Any]) -> list[Entry]:
    return sorted(map(to_entry, entries), key=lambda entry: entry.position)


def _order(listed: Listed) -> tuple[float, bytes]:
    return listed.updated_at, listed.place.conversation
