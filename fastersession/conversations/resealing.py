"""Conversations of users under the first secret key, so that the others can be dropped.

Rules of residence: which conversations are to be moved, and in which order. How one is moved is ``History.hand_over``.

Ids and seals are made of a key, so a conversation is copied into a new one under its new id, and the old one deleted if
it has not changed meanwhile. Who writes to the old one until then is copied, too; who reads meanwhile may see a part.
"""

from __future__ import annotations

from typing import NamedTuple

from ..errors import Busy
from ..stores.logs import Listed, Place
from .all import AllConversations
from .conversation import Conversation
from .handle import Handle
from .of import MOST_LISTED
from .owner import AtPlace

PAGE = 500


class Resealed(NamedTuple):
    """What a pass has done: how many conversations it has moved, and how many it has left where they were."""

    resealed: int
    running: int  # left, for a run runs
    unreadable: int  # left, for no key or codec reads them


class Resealing:
    """One pass over a store."""

    def __init__(self, everything: AllConversations) -> None:
        self._all = everything
        self._keeper = everything.keeper
        self._resealed = self._running = self._unreadable = 0
        self._left: set[bytes] = set()  # conversations that are counted

    async def done(self) -> Resealed:
        """Look at each conversation, and move it if it is to be moved.

        :raises StoreError: the store failed: do it again, it goes on where it stopped.
        """
        after = None
        while True:
            found, after = await self._keeper.call("page", after, PAGE)
            for listed in found:
                await self._user_of(listed)
            if after is None:
                return Resealed(self._resealed, self._running, self._unreadable)

    async def _user_of(self, listed: Listed) -> None:
        """Move what a user has, the last updated last, so that his list stays in order; then this one."""
        shown = self._all.shown(listed)
        if shown is None or shown.user is None:
            self._unreadable += 1
        elif listed.place.conversation != self._first(shown) and listed.place.conversation not in self._left:
            for old in sorted(await self._owned(shown.user), key=_order):
                await self._move(old)
            await self._move(listed)

    async def _owned(self, user: str) -> list[Listed]:
        """Return what a user has under other keys than the first."""
        found: list[Listed] = []
        for owner in self._keeper.keys.owners(user)[1:]:
            before = None
            while page := await self._keeper.call("owned", owner, MOST_LISTED, before):
                found += page
                before = page[-1].updated_at, page[-1].place.conversation
        return found

    async def _move(self, listed: Listed) -> None:
        shown = self._all.shown(listed)
        if shown is None or shown.user is None or listed.place.conversation in self._left:
            return
        first = self._first(shown)
        if listed.place.conversation == first:
            return
        self._left.add(listed.place.conversation)
        places = listed.place, Place(first)
        source, target = (Conversation(Handle(AtPlace(self._keeper, shown.user, at), shown.name)) for at in places)
        if listed.is_running:
            self._running += 1
            return
        try:
            if await source.hand_over(target):
                self._resealed += 1
            else:
                self._unreadable += 1
        except Busy:
            self._running += 1

    def _first(self, shown: Conversation) -> bytes:
        """Return the id of a conversation under the first key."""
        return self._keeper.keys.of_user(shown.user or "", shown.name)[0]


def _order(listed: Listed) -> tuple[float, bytes]:
    return listed.updated_at, listed.place.conversation
