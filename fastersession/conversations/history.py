"""What can be done with the history of a conversation: the first half of what ``chats["main"]`` is.

Rules of residence: the public verbs of histories, and what they check.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from ..errors import Busy
from ..stores.logs import Entry as Stored
from ..stores.logs import Log, Outcome, Position
from .handle import Entry, Handle
from .said import MOST_TITLE, Said

PAGE = 500  # entries
PAGE_BYTES = 256 * 1024
MOST_KEY = 255  # characters
KEEP: Any = object()
TRIES = 100  # of a change of what is said: each failure is another one's success


class History:
    """The entries of one conversation. None is loaded before it is asked for."""

    _handle: Handle

    @property
    def name(self) -> str:
        """The application's name for it."""
        return self._handle.name

    async def append(self, value: Any, *, key: str | None = None) -> Entry:
        """Append a value behind what is there, and return its entry. When this returns, the store has it.

        Any number of requests may append at once: each entry gets a place of its own, and none is lost. Inside the
        generator of a run it is written for that run, which may do so until a later one has begun.

        :param value: what the codec keeps, at most 1 MiB; on a ``MemoryStore`` any object, which is not copied.
        :param key: of the request: with the same key and an equal value the entry of before is returned.
        :raises KeyReused: the key has come before with another value.
        :raises AttributeNotSerializable: the codec does not keep the value.
        :raises Gone: the conversation was deleted, or its session has ended.
        :raises SessionNotEstablished: it is a new session's, and no cookie can reach the client any more.
        :raises StoreError: the store failed: whether the value was appended is not known; a key makes it safe to retry.
        """
        if key is not None and (not isinstance(key, str) or not 0 < len(key) <= MOST_KEY):
            raise ValueError(f"append(): key must be a str of 1 to {MOST_KEY} characters")
        return await self._handle.appended(value, key=key)

    async def tail(self, count: int = 20, before: str | Entry | None = None) -> list[Entry]:
        """Return the last entries, the oldest of them first; fewer where they are large (256 KB).

        :param before: an entry, or its id: those before it. An id that is none of this conversation: the last.
        :raises StoreError: the store failed.
        """
        return await self._handle.certain(partial(self._tail, count, before))

    async def _tail(self, count: int, before: str | Entry | None) -> list[Entry]:
        log = await self._log()
        if log is None:
            return []
        stop = None if before is None else self._handle.position_of(before, log)
        found = await self._entries(log, None, stop, count, newest=True)
        return self._handle.readable(found, log)

    async def __aiter__(self) -> AsyncIterator[Entry]:
        """Yield all entries, the oldest first, also those that are appended meanwhile. Loaded in pages of 256 KB.

        :raises StoreError: the store failed.
        """
        log, found = await self._handle.certain(self._first_page)
        while log is not None and found:
            for entry in self._handle.readable(found, log):
                yield entry
            found = await self._entries(log, found[-1].position, None, PAGE, newest=False)

    async def _first_page(self) -> tuple[Log | None, list[Stored]]:
        log = await self._log()
        return log, [] if log is None else await self._entries(log, None, None, PAGE, newest=False)

    async def truncate(self, *, after: str | Entry | None = None, before: str | Entry | None = None) -> None:
        """Remove the entries behind one, as before a regeneration; or those before one, the oldest.

        What is about to be appended behind ``after`` at this moment is appended behind what stays.

        :raises ValueError: not one of the two is given, or it is no entry of this conversation.
        :raises Busy: a run runs, and the tail is to be removed.
        :raises Gone: the conversation was deleted, or its session has ended.
        :raises StoreError: the store failed.
        """
        if (after is None) == (before is None):
            raise ValueError("truncate(): give after= or before=")
        await self._handle.certain(partial(self._truncate, after, before))

    async def _truncate(self, after: str | Entry | None, before: str | Entry | None) -> None:
        log = await self._log()
        if log is None:
            raise self._handle.lost()
        position = self._handle.position_of(after or before or "", log)
        if position is None:
            raise ValueError("truncate(): this is no entry of this conversation")
        cut = await self._handle.keeper.call("cut", log, *((position, None) if after is not None else (None, position)))
        if cut.outcome is Outcome.BUSY:
            raise Busy("a run of this conversation runs: stop it first")
        if cut.outcome is not Outcome.DONE:
            raise self._handle.lost()
        self._handle.saw(log, cut.top)

    async def set(self, *, title: str | None = KEEP, metadata: dict[str, Any] | None = KEEP) -> None:
        """Change what lists show of it. What is not given stays. Makes the conversation if it is not there.

        :param title: at most 255 characters.
        :param metadata: the application's own, JSON of at most 16 KB; it replaces what was there.
        :raises ValueError: they are longer.
        :raises Gone: the conversation was deleted, or its session has ended.
        :raises StoreError: the store failed.
        """
        changes: dict[str, Any] = {}
        if title is not KEEP:
            if title is not None and (not isinstance(title, str) or len(title) > MOST_TITLE):
                raise ValueError(f"set(): title must be a str of at most {MOST_TITLE} characters, or None")
            changes["title"] = title
        if metadata is not KEEP:
            changes["metadata"] = dict(metadata or {})
        await self._handle.certain(partial(self._set, changes))

    async def described_as(self, other: Said | None) -> None:
        """Make the conversation if it is not there, with another one's title and metadata, if it has none yet."""
        changes = {} if other is None else {"title": other.title, "metadata": other.metadata}
        await self._handle.certain(partial(self._set, changes, if_none=True))

    async def _set(self, changes: dict[str, Any], *, if_none: bool = False) -> None:
        handle = self._handle
        for _ in range(TRIES):
            await handle.reached(make=True)
            look = await handle.keeper.call("look", handle.places, 0, 0)
            if look is None or look.log.log != handle.seen:
                raise handle.lost()
            said = Said.read(handle.keeper.values, look.log, look.about) or Said(handle.owner.user, handle.name)
            if if_none and (said.title is not None or said.metadata or not any(changes.values())):
                return
            about = said._replace(**changes).packed(handle.keeper.values, look.log)
            outcome = await handle.keeper.call("describe", look.log, about, look.version)
            if outcome is Outcome.DONE:
                return
            if outcome is not Outcome.TAKEN:
                raise handle.lost()
        raise Busy(f"set(): somebody else was faster {TRIES} times")

    async def delete(self) -> bool:
        """Delete it, with all its entries and runs; what runs is ended. Return whether it was there.

        Whoever holds it gets ``Gone`` from then on; under its name a new one may be made.

        :raises StoreError: the store failed.
        """
        handle = self._handle
        deleted = False
        for place in handle.places:
            handle.keeper.forget(place.conversation)
            deleted = await handle.keeper.call("delete", place, handle.seen) or deleted
        return deleted

    async def hand_over(self, other: History) -> bool:
        """Append all entries to another conversation, each once, however often this is done; then delete this one.

        Return whether it is so: what cannot be read cannot be handed over, and then all stays as it is.

        :raises Busy: a run runs.
        """
        handle = self._handle
        while (look := await handle.keeper.call("look", handle.places, 0, 0)) is not None:
            if look.run is not None and look.run.is_running:
                raise Busy("a run of this conversation runs: stop it first")
            handle.saw(look.log, look.top)
            if not await self._is_readable():
                return False
            await other.described_as(Said.read(handle.keeper.values, look.log, look.about))
            async for entry in self:
                await other.append(entry.value, key=entry.id)
            if await handle.keeper.call("delete", look.log.place, look.log.log, look.top):
                handle.keeper.forget(look.log.place.conversation)
                break
        return True

    async def _is_readable(self) -> bool:
        log, found = await self._first_page()
        while log is not None and found:
            if len(self._handle.readable(found, log)) < len(found):
                return False
            found = await self._entries(log, found[-1].position, None, PAGE, newest=False)
        return True

    # --- how they work ---

    async def _log(self) -> Log | None:
        known = await self._handle.reached(make=False)
        return None if known is None else known.log

    async def _entries(
        self, log: Log, after: Position | None, before: Position | None, count: int, *, newest: bool
    ) -> list[Stored]:
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ValueError("count must be a whole number of at least 1")
        call = self._handle.keeper.call
        found = await call("entries", log, after, before, count, PAGE_BYTES, newest=newest)
        if found is None:
            raise self._handle.lost()
        return list(found)
