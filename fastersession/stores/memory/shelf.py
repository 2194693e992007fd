"""Which conversations there are in this process, for how long, and how many.

Rules of residence: finding, keeping and removing whole conversations, and the bounds on all of them. No verb.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import islice

from ..logs import Entry, Log, Place
from .conversation import Conversation
from .record import LiveRecord
from .users import UserTable

MOST_ENTRIES = 1_000_000  # in all; an entry is an object of the application's, mostly small
MOST_FRAME_BYTES = 256 * 2**20  # in all
LOOK_AT = 64  # conversations that one eviction passes over because they run

logger = logging.getLogger("fastersession")


class Shelf:
    """The conversations of one ``MemoryStore``. Above a bound the least recently used goes, never one that runs."""

    def __init__(self, table: UserTable, clock: Callable[[], float]) -> None:
        self._table = table
        self._clock = clock
        self._all: dict[bytes, Conversation] = {}  # by id, the least recently used first
        self._owned: dict[bytes, dict[bytes, Conversation]] = {}
        self.entries = self.frame_bytes = 0
        self._warned = False
        table.watch(self.told)

    def told(self, record: LiveRecord, reason: str, is_over: bool) -> None:
        """Remove the conversations of a session that has ended."""
        if is_over and record.record_id in self._owned:
            for conversation in list(self._owned[record.record_id].values()):
                if conversation.session is not None:
                    self.remove(conversation)

    def all(self) -> list[Conversation]:
        """Return all that may be there."""
        return list(self._all.values())

    def owned(self, owner: bytes) -> list[Conversation]:
        """Return what an owner has."""
        there = map(self.alive, list(self._owned.get(owner, {}).values()))
        return [conversation for conversation in there if conversation is not None]

    def add(self, conversation: Conversation) -> None:
        """Take a new conversation in."""
        self._all[conversation.id] = self._owned.setdefault(conversation.owner, {})[conversation.id] = conversation

    def count(self, entries: int, frame_bytes: int) -> None:
        """Note that there is so much more, or less."""
        self.entries += entries
        self.frame_bytes += frame_bytes
        if self.is_full():
            self._make_room()

    def is_full(self) -> bool:
        """Return whether a bound is exceeded."""
        return self.entries > MOST_ENTRIES or self.frame_bytes > MOST_FRAME_BYTES

    def there(self, place: Place) -> Conversation | None:
        """Return the conversation of a place, if it is there."""
        there = self._all.get(place.conversation)
        return None if there is None or there.session != place.session else self.alive(there)

    def alive(self, conversation: Conversation) -> Conversation | None:
        """Return a conversation unless it is over, or its session is."""
        if conversation.session is not None:
            self._table.peek(conversation.session)  # which tells of it, if it is over
        elif conversation.expires is not None and self._clock() >= conversation.expires:
            self.remove(conversation)
        return conversation if self._all.get(conversation.id) is conversation else None

    def of(self, log: Log) -> Conversation | None:
        """Return a conversation whose log this is."""
        there = self.there(log.place)
        return there if there is not None and there.log == log.log else None

    def proven(self, log: Log) -> Conversation | None:
        """Return it for a request that writes."""
        return self.of(log) if self.is_proven(log.place) else None

    def is_proven(self, place: Place) -> bool:
        """Return whether a verifier is that of the place's session."""
        if place.session is None:
            return True
        record = self._table.peek(place.session)
        return record is not None and place.verifier in (record.verifier, record.verifier_before)

    def tag_of(self, conversation: Conversation) -> bytes | None:
        """Return the user of a conversation's session."""
        record = None if conversation.session is None else self._table.peek(conversation.session)
        return None if record is None else record.extra.tag

    def enter(self, conversation: Conversation, entry: Entry) -> None:
        """Append an entry."""
        conversation.enter(entry)
        self.use(conversation)
        self.count(1, 0)

    def keep(self, conversation: Conversation, keep: float | None) -> None:
        """Note that something was written, and until when it is kept from now on."""
        now = self._clock()
        conversation.updated_at = max(conversation.updated_at, now)
        conversation.expires = conversation.expires if keep is None else now + keep

    def use(self, conversation: Conversation) -> None:
        """Let a conversation be the most recently used."""
        self._all[conversation.id] = self._all.pop(conversation.id)

    def remove(self, conversation: Conversation) -> None:
        """Remove a conversation, with all that it has."""
        del self._all[conversation.id]
        owned = self._owned[conversation.owner]
        del owned[conversation.id]
        if not owned:
            del self._owned[conversation.owner]
        self.entries -= len(conversation.entries)
        self.frame_bytes -= conversation.frame_bytes()

    def _make_room(self) -> None:
        """Remove the least recently used; never the last that was used, for it is being written to."""
        for conversation in list(islice(self._all.values(), min(LOOK_AT, len(self._all) - 1))):
            if not self.is_full():
                return
            if conversation.is_running:
                self.use(conversation)
            else:
                self.remove(conversation)
                self._warn()

    def _warn(self) -> None:
        if not self._warned:
            self._warned = True
            logger.warning(
                "MemoryStore: more than %d entries or %d bytes of frames of conversations; those least recently used "
                "are removed: keep them in another store",
                MOST_ENTRIES, MOST_FRAME_BYTES, extra={"event": "store.full", "session_id": None},
            )  # fmt: skip
