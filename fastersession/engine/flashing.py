"""Flashes on their way to the store and back.

Rules of residence: which entries a save adds and removes, and the store's ``take``. What a request has shown is noted
in its book (``flashes``). A store of bytes gets them with the save's own step; a live one beside it, without a pause.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..facts import Status
from ..flashes import PREFIX, Book, Flash, book_of
from ..state import State
from ..stores.base import Record
from ..stores.users import MOST_ENTRIES
from .calls import Calls
from .packing import Packer


class Flashing:
    """The flashes of one middleware.

    :param packer: ``None`` for a live store.
    """

    def __init__(self, calls: Calls, packer: Packer | None) -> None:
        self._call = calls.call
        self._verbs = calls.verbs
        self._packer = packer

    def names(self, record: Record) -> list[str]:
        """Return the names of what a record has."""
        if self._packer is None:
            return list(record.extra.entries or ())
        return [name for name in record.attributes if name.startswith(PREFIX)]

    def opened(self, record_id: bytes, record: Record, names: Iterable[str]) -> dict[str, Flash]:
        """Return these of a record's."""
        has = record.attributes if self._packer is not None else record.extra.entries or {}
        return self._read(record_id, {name: has[name] for name in names if name in has})

    async def take(self, state: State) -> dict[str, Flash]:
        """Take all that the session has, each of which is given to one request only.

        :raises StoreError: the store failed.
        """
        proof = state.proof() if state.status is Status.LIVE else None
        if proof is None:
            return {}
        return self._read(proof[0], await self._call(self._verbs.take, *proof, PREFIX))

    def added(
        self, state: State, record_id: bytes, sets: Mapping[str, Any], deletes: tuple[str, ...], *, anew: bool = False
    ) -> tuple[Mapping[str, Any], tuple[str, ...]]:
        """Return what a save sets and deletes, with the request's flashes.

        :param anew: the record has nothing of before, or will not: what the request has put there already is added.
        """
        book = book_of(state.rare)
        if book is None:
            return sets, deletes
        new = {**book.saved, **book.new} if anew else dict(book.new)
        book.sent = new, frozenset() if anew else frozenset(book.going)
        if self._packer is None:
            return sets, deletes
        packed = {name: self._packer.pack_flash(record_id, name, flash) for name, flash in new.items()}
        return {**sets, **packed}, (*deletes, *book.sent[1], *self._surplus(state.record, book, anew=anew))

    async def settle(self, state: State) -> None:
        """Note that the save has been done."""
        book, proof = book_of(state.rare), state.proof()
        if book is None or book.sent is None or state.status is not Status.LIVE or proof is None:
            return
        if self._packer is None:
            new, gone = book.sent
            if new:
                await self._call(self._verbs.give, *proof, new)
            for name in gone:
                await self._call(self._verbs.take, *proof, name)
        if book.settle():
            state.wishes().flashing = True

    def _surplus(self, record: Record | None, book: Book, *, anew: bool) -> list[str]:
        """Return the oldest of those that are too many: a session that never shows one must not grow for ever."""
        if record is None or anew or not book.new:
            return []
        stored = sorted({*self.names(record), *book.saved} - book.known)
        return stored[: max(len(stored) + len(book.new) - MOST_ENTRIES, 0)]

    def _read(self, record_id: bytes, stored: Mapping[str, Any]) -> dict[str, Flash]:
        if self._packer is None:
            return dict(stored)
        return {name: Flash(*self._packer.unpack_flash(record_id, name, data)) for name, data in stored.items()}
