"""The writes of the contract as commands of Redis: a script for what is small, a transaction for what is large.

Rules of residence: from a verb's arguments to bytes; no connection, no reply. What the scripts do is in ``scripts``.
"""

from __future__ import annotations

from typing import NamedTuple

from ..base import Change, Record
from ..users import ABOUT, Login
from . import scripts as lua
from . import users_scripts as of_users
from .link import pack
from .record import UNTIL, field, kept_for, number, to_fields
from .route import FAST, SURE, Build
from .scripts import Script, evaluation

MULTI, EXEC = pack((b"MULTI",)), pack((b"EXEC",))


class Write(NamedTuple):
    """One write in both forms. What each is given, ``Build`` says.

    The large one names no script by its digest: where the server did not know it, MULTI would let HSET through without
    its guard.
    """

    small: Build
    large: Build
    size: int  # bytes of contents
    replies: int  # to the large form
    kind: str = FAST


def creation(key: bytes, record_id: bytes, record: Record, now: float, until: float | None = None) -> Write:
    """Return the write of a new record, whose key ends with it, and a while later.

    :param until: of a user's record: the end of its entry in his index.
    """
    fields, hold = to_fields(record_id, record), _hold(key)
    if until is not None:
        fields += [UNTIL, number(until)]
    left = min(record.created_at + record.idle_timeout, record.not_after) - now + float(kept_for(record) or lua.GRACE)
    arguments = number(now), record.verifier
    to_live = b"%d" % max(left * 1000, 1) if left < 1e12 else b""

    def small(again: bytes, known: bool) -> bytes:
        return evaluation(lua.CREATE, (key,), *arguments, again, to_live, *fields, known=known)

    def large(again: bytes, _: bool) -> bytes:
        place = evaluation(lua.PLACE, (key, hold), *arguments, again, to_live)
        return b"".join((MULTI, pack((b"HSET", hold, *fields)), place, EXEC))

    return Write(small, large, sum(map(len, fields)), 4)


def merge(
    key: bytes, scripts: tuple[Script, Script], now: float, verifier: bytes, change: Change, *renewal: bytes
) -> Write:
    """Return the write of a change.

    :param scripts: the whole of it, and its last step where the contents travel outside of scripts.
    :param renewal: of a regeneration: the new verifier, and the new end; of a renewal: the new end, and ``UNTIL``.
    """
    hold = _hold(key)
    sets = [part for name, value in change.sets.items() for part in (field(name), value)]
    deletes = [field(name) for name in change.deletes]
    idle = b"" if change.idle_timeout is None else number(change.idle_timeout)
    head = (number(now), verifier, change.lease or b"", number(change.accessed_at), idle)

    def tail(again: bytes) -> tuple[bytes, ...]:
        return (*renewal, again) if renewal else ()

    def small(again: bytes, known: bool) -> bytes:
        return evaluation(scripts[0], (key,), *head, b"%d" % len(deletes), *tail(again), *deletes, *sets, known=known)

    def large(again: bytes, _: bool) -> bytes:
        proof = *head, b"0", *tail(again)
        guard = evaluation(lua.GUARD, (key, hold), *proof)
        contents = [pack((b"HSET", key, *sets))] if sets else []
        if deletes:
            contents.append(pack((b"HDEL", key, *deletes)))
        return b"".join((MULTI, guard, *contents, evaluation(scripts[1], (key, hold), *proof), EXEC))

    size = sum(map(len, sets)) + sum(map(len, deletes))
    return Write(small, large, size, 4 + bool(sets) + bool(deletes), SURE if renewal else FAST)


def binding(key: bytes, now: float, verifier: bytes, login: Login) -> Write:
    """Return the write that makes a record a user's."""
    hold, record = _hold(key), login.record
    sets = [part for name, value in record.attributes.items() for part in (field(name), value)]
    deletes = [field(name) for name in login.deletes]
    stays = [] if login.keep is None else [field(name) for name in {*login.keep, ABOUT, *record.attributes}]
    head = number(now), verifier, login.lease or b"", number(record.accessed_at), number(record.idle_timeout)
    secret = record.verifier, number(record.not_after)
    more = (
        login.tags[0], kept_for(record), number(login.until), b"" if login.keep is None else b"%d" % len(stays),
        *deletes, *stays,
    )  # fmt: skip

    def arguments(again: bytes) -> tuple[bytes, ...]:
        return (*head, b"%d" % len(deletes), *secret, again, *more)

    def small(again: bytes, known: bool) -> bytes:
        return evaluation(of_users.BIND, (key,), *arguments(again), *sets, known=known)

    def large(again: bytes, _: bool) -> bytes:
        guard = evaluation(lua.GUARD, (key, hold), *head, b"0", *secret, again)
        contents = pack((b"HSET", key, *sets))
        finish = evaluation(of_users.FINISH_BIND, (key, hold), *arguments(again))
        return b"".join((MULTI, guard, contents, finish, EXEC))

    return Write(small, large, sum(map(len, sets)), 5, SURE)


def _hold(key: bytes) -> bytes:
    """Return the key beside, which is there only while a large value is being written."""
    return key + b":hold"
