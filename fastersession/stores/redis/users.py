"""Logins, and the index of a user's sessions: record and index are keys of two slots, and change one after the other.

Rules of residence: the verbs of ``UserStore`` that have to do with users. What has ended is in ``ends``, Lua in
``users_scripts``.

A login binds its record first, and confirms it in the user's index then. A revocation that comes between is seen as his
mark, a later one finds the record. Whoever ends a record takes it out of the index afterwards: so an index may name
what is absent, and never leaves out what is alive and was confirmed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from ...errors import StoreError
from ..base import Change, Record, Renewal
from ..users import FOUND, Login, LoginOutcome, NotConfirmed, Outcome
from . import first_login
from . import scripts as lua
from . import users_scripts as of_users
from .client import Client
from .commands import binding, creation, merge
from .index import ALIVE, Index, is_alive
from .record import (
    ATTRIBUTE,
    REASON,
    RECORD_ID,
    SHOWN,
    UNTIL,
    USER,
    VERIFIER,
    field,
    number,
    to_record,
)
from .route import FAILED, SURE, Route
from .sending import failed

TRIES = 20  # of a login at the limit: each is lost to another login that took the place
NOBODYS = b"-"  # as a verifier: it is no SHA-256


class _Seat(NamedTuple):
    """What a look at a user's indexes says to a login."""

    refusal: Outcome | None = None
    limit: int | None = None  # None: it needs no room
    older: Mapping[bytes, bytes] = MappingProxyType({})  # live sessions that other tags' indexes have, with the tag


class Users(Index):
    """What a store does with users."""

    def __init__(self, client_or_url: Client | str, prefix: bytes, clock: Callable[[], float]) -> None:
        super().__init__(client_or_url, prefix, clock)
        self._checked: Route | None = None

    async def login(self, record_id: bytes, verifier: bytes | None, login: Login) -> LoginOutcome:
        """Bind, then confirm: two round trips, and the replicas' wait where there are any.

        The first one of a connection checks the server. Where ``strictly`` or a limit that refuses asks for it, or the
        user has several tags, a look at his indexes comes before; at the limit a look at his sessions after it.
        """
        key, index = self._key(record_id), self._index(login.tags[0])
        await self._check(index)
        seat = await self._seat(record_id, login)
        if seat.refusal is not None:
            return LoginOutcome(seat.refusal)
        bound = await self._bind(key, record_id, verifier, login)
        if not bound:
            return LoginOutcome(Outcome.ABSENT)
        try:
            outcome, evicted, confirmed = await self._confirm(record_id, login, seat)
            if outcome is not Outcome.DONE:
                await self._take_back(record_id, verifier is None, outcome)
            await self._settled((key, bound), (index, confirmed))
        except StoreError as error:
            cause = NotConfirmed()
            cause.__cause__ = error.__cause__
            raise StoreError(f"{error}; a login was not confirmed") from cause
        return LoginOutcome(outcome, tuple(evicted), outcome is not Outcome.DONE and verifier is not None)

    async def retire(self, record_id: bytes, verifier: bytes, until: float) -> bool:
        key = self._key(record_id)
        build = self._calling(of_users.RETIRE, (key,), verifier, NOBODYS, number(until))
        outcome = self._listed(key, await self._ask(key, build, kind=SURE), 1, 3)
        self._over({record_id: outcome}, until)
        await self._settled((key, outcome[0]))
        return bool(outcome[0])

    async def find(self, tags: Sequence[bytes]) -> list[tuple[bytes, Record]]:
        """Read the index, then of each record what is shown: two round trips."""
        now = self.clock()
        listed = await self._members(tags, now)
        members = {record_id: tag for tag, ids in zip(tags, listed, strict=True) for record_id in ids}
        found = []
        for record_id, fields in (await self._read(members, SHOWN)).items():
            if fields.get(USER) not in tags:
                self._unlist(members[record_id], [record_id])
                continue
            try:
                record = to_record(fields, now)
            except (ValueError, KeyError):
                raise StoreError("Redis: the record is not one of ours") from None  # the cause would quote it
            if record is not None:
                found.append((record_id, record))
        found.sort(key=lambda pair: pair[1].accessed_at, reverse=True)
        return found[:FOUND]

    async def revoke(self, tags: Sequence[bytes], keep: bytes | None, at: float) -> list[bytes]:
        """Set the marks and read the indexes, then delete: two round trips, and the replicas' wait.

        What was removed just before a connection was lost may not be among the ids.
        """
        indexes = [self._index(tag) for tag in tags]
        marked = await asyncio.gather(*(self._mark(index, number(at), keep or b"") for index in indexes))
        members = {record_id for _, ids in marked for record_id in ids} - {keep}
        ended = await self._end(sorted(members), "revoked", tags)
        outcomes = [(self._key(record_id), outcome) for record_id, outcome in ended.items()]
        await self._settled(*outcomes, *zip(indexes, [outcome for outcome, _ in marked], strict=True))
        return list(ended)

    async def ended(self, record_ids: Sequence[bytes]) -> Mapping[bytes, str]:
        """Ask for all in one round trip. One that was retired is among them at once."""
        now, ended = self.clock(), dict[bytes, str]()
        for record_id, fields in (await self._read(record_ids, (*ALIVE, REASON))).items():
            if REASON in fields:
                ended[record_id] = fields[REASON].decode()
            elif not is_alive(fields, now):
                ended[record_id] = "expired" if VERIFIER in fields else ""
        return ended

    async def take(self, record_id: bytes, verifier: bytes, prefix: str) -> dict[str, Any]:
        """Read and remove in one round trip. What was removed just before the connection was lost is lost."""
        key = self._key(record_id)
        build = self._calling(of_users.TAKE, (key,), verifier, field(prefix))
        reply = await self._ask(key, build)
        if reply == 0:
            return {}
        if not isinstance(reply, list) or reply[:2] != [1, record_id]:
            raise self._out_of_step(key)
        start = len(ATTRIBUTE)
        names = [name[start:].decode("utf-8", "surrogatepass") for name in reply[2::2]]
        return dict(zip(names, reply[3::2], strict=True))

    # --- how they work ---

    async def _check(self, index: bytes) -> None:
        route = self._route
        if route is None or route is not self._checked or route.loop is not asyncio.get_running_loop():
            route = await self._opened()
            try:
                await first_login.check(route, index + b":probe")
            except FAILED as error:
                raise failed(error) from error
            self._checked = route

    async def _seat(self, record_id: bytes, login: Login) -> _Seat:
        """Look before the bind, where that can spare a record, or several indexes count."""
        refuses = login.limit is not None and not login.evicts
        tags = login.tags if login.strictly or refuses else login.tags[1:]
        seen = await asyncio.gather(*(self._at(tag, of_users.LOOK, record_id, login) for tag in tags))
        if any(ids is None for _, ids in seen):
            return _Seat(Outcome.REVOKED)
        if login.limit is None or any(is_in for is_in, _ in seen):
            return _Seat()
        if not refuses and not login.tags[1:]:
            return _Seat(limit=login.limit)
        alive = await self._alive(
            {one: tag for tag, (_, ids) in zip(tags, seen, strict=True) for one in ids or ()}, login.tags
        )
        if refuses and len(alive) >= login.limit:
            return _Seat(Outcome.FULL)
        return _Seat(None, login.limit, {one: tag for one, (tag, _) in alive.items() if tag != login.tags[0]})

    async def _bind(self, key: bytes, record_id: bytes, verifier: bytes | None, login: Login) -> int:
        """Return 0 if the record is not there; else 1, and 1 more for each replica that is worth waiting for."""
        now = self.clock()
        if verifier is None:
            write = creation(key, record_id, login.record, now, login.until)
        else:
            write = binding(key, now, verifier, login)
        return await self._armed(record_id, login.record, self._write(key, write))

    async def _confirm(self, record_id: bytes, login: Login, seat: _Seat) -> tuple[Outcome, list[bytes], int]:
        """Return the outcome, who was evicted, and what CONFIRM said."""
        first, until, older = login.tags[0], number(login.until), dict(seat.older)
        gone, evicted = list[bytes](), list[bytes]()
        for _ in range(TRIES):
            room = b"" if seat.limit is None else b"%d" % (seat.limit - len(older))
            outcome, full = await self._at(first, of_users.CONFIRM, record_id, login, until, room, *gone)
            if full is None or seat.limit is None:
                return Outcome.DONE if outcome else Outcome.REVOKED, evicted, outcome
            alive = await self._alive(dict.fromkeys(full, first) | older, login.tags)
            surplus = sorted(alive, key=lambda one: alive[one][1])[: max(len(alive) + 1 - seat.limit, 0)]
            if surplus and not login.evicts:
                break
            evicted += await self._end(surplus, "evicted", login.tags)
            for one in surplus:
                self._unlist(alive.pop(one)[0], [one])
            gone = [one for one in full if one not in alive]
            older = {one: tag for one, tag in older.items() if one in alive and one not in full}
        return Outcome.FULL, evicted, 0

    async def _take_back(self, record_id: bytes, is_new: bool, outcome: Outcome) -> None:
        """Remove a record that was bound in vain. Of a new one nobody has heard, and nobody is told."""
        key = self._key(record_id)
        reason = b"" if is_new else b"revoked" if outcome is Outcome.REVOKED else b"invalidated"
        reply = await self._ask(key, self._calling(lua.DELETE, (key,), reason), kind=SURE)
        self._over({record_id: self._listed(key, reply, 1, 3)})

    async def _renewed(self, record_id: bytes, verifier: bytes, change: Change, renewal: Renewal) -> bool:
        """Move the end, and the end of the user's entry before it: two round trips, three where that moves."""
        key, until = self._key(record_id), max(renewal.until, renewal.not_after)
        fields = (await self._read([record_id], (RECORD_ID, USER, UNTIL)))[record_id]
        moves = USER in fields and until > float(fields.get(UNTIL, b"0"))
        if moves:
            index = self._index(fields[USER])
            await self._of_user(of_users.EXTEND, (index,), record_id, number(until))
        scripts = of_users.RENEW, of_users.FINISH_RENEW
        end = number(renewal.not_after), number(until) if moves else b""
        return bool(await self._write(key, merge(key, scripts, self.clock(), verifier, change, *end)))
