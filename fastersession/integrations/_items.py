"""Lists of items in a conversation, for frameworks that add several at once and take the last one away.

Rules of residence: what the adapters share; imports no framework.

An entry is one of these, and so each change is one append, which other writers can neither divide nor undo:

    {"items": [...]}   what was added in one call
    {"popped": 1}      the last item before this entry is taken away
    {"cleared": 1}     all entries before this one are removed
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from .. import Conversation, Entry

T = TypeVar("T")

PAGE = 100  # entries, of which a store returns at most 256 KB


class Items:
    """The items in one conversation. What is given and returned is copied: a ``MemoryStore`` keeps the objects."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation

    async def add(self, items: Sequence[Any]) -> None:
        """Add items, all of them or none. If the caller is cancelled they are added all the same."""
        if items:
            await completed(self._conversation.append({"items": deepcopy(list(items))}))

    async def last(self, limit: int | None = None, before: Entry | None = None) -> list[Any]:
        """Return the last items, the oldest first; ``None``: all."""
        found: list[Any] = []
        if limit is None or limit > 0:
            async for item in self._backwards(before):
                found.append(deepcopy(item))
                if len(found) == limit:
                    break
        return found[::-1]

    async def pop(self) -> Any:
        """Take the last item away and return it; ``None`` if there is none. No two callers get the same."""
        return await completed(self._pop())

    async def _pop(self) -> Any:
        if not await self.last(1):
            return None
        taken = await self._conversation.append({"popped": 1})
        found = await self.last(1, before=taken)
        return found[0] if found else None

    async def clear(self) -> None:
        """Remove all items. Those that others add meanwhile are before that, or stay."""
        await completed(self._clear())

    async def _clear(self) -> None:
        if await self._conversation.tail(1):
            cleared = await self._conversation.append({"cleared": 1})
            await self._conversation.truncate(before=cleared)

    async def _backwards(self, before: Entry | None) -> AsyncIterator[Any]:
        """Yield the items that are there, the last first. What the application has appended itself is an item, too."""
        popped = 0
        async for entry in backwards(self._conversation, before):
            value = entry.value
            if value == {"cleared": 1}:
                return
            if value == {"popped": 1}:
                popped += 1
                continue
            items = value["items"] if isinstance(value, dict) and value.keys() == {"items"} else [value]
            for item in reversed(items):
                if popped:
                    popped -= 1
                else:
                    yield item


async def backwards(conversation: Conversation, before: Entry | None = None) -> AsyncIterator[Entry]:
    """Yield the entries of a conversation, the last first."""
    while page := await conversation.tail(PAGE, before):
        for entry in reversed(page):
            yield entry
        before = page[0]


async def completed(work: Coroutine[Any, Any, T]) -> T:
    """Await something to its end. A cancellation is raised then: the store's time limit bounds how long that takes."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return task.result()
    if not task.cancelled():
        task.exception()  # so that nobody complains that it was not looked at
    raise cancelled
