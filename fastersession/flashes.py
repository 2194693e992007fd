"""Messages for the next page: kept beside the attributes, and shown once.

Rules of residence: a part of ``Session``, and what a request knows of its flashes. No store; how they get there, and
back, is ``engine.flashing``'s. The words are Flask's and Rails'.

Each flash is an entry of its own in the record, so two tabs add theirs without meeting. Its name begins with ``~``,
which no attribute's stored name does, and goes on with the time: names are in the order of their making.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Iterable
from typing import Any, NamedTuple

from .crypto.tokens import draw
from .facts import Rare

PREFIX = "~"


class Flash(NamedTuple):
    """One message."""

    message: str
    category: str


class Book:
    """The flashes of one request, by their stored names."""

    __slots__ = ("count", "going", "known", "new", "saved", "sent", "shown")

    def __init__(self) -> None:
        self.count = 0  # made by this request: the order of those of one moment
        self.known: set[str] = set()  # that the request has loaded, and has shown or left to another
        self.new: dict[str, Flash] = {}  # not in the store yet
        self.saved: dict[str, Flash] = {}  # put there by this request
        self.shown: dict[str, Flash] = {}
        self.going: set[str] = set()  # shown, and to be removed from the store
        self.sent: tuple[dict[str, Flash], frozenset[str]] | None = None  # what a save under way adds and removes

    def add(self, now: float, flash: Flash) -> None:
        """Take a new one."""
        self.count += 1
        self.new[f"{PREFIX}{int(now * 1e6):016x}{self.count:04x}{draw()[0][:6].hex()}"] = flash

    def show(self, loaded: dict[str, Flash]) -> frozenset[str]:
        """Show what was loaded, and what this request has made; return what of it the store has."""
        stored = {**loaded, **self.saved}
        self.shown |= stored | self.new
        self.known |= loaded.keys()
        self.going |= stored.keys()
        self.new, self.saved = {}, {}
        return frozenset(stored)

    def hide(self, names: Iterable[str]) -> None:
        """Take back what was shown: only what the store gives is to be."""
        for name in names:
            self.shown.pop(name, None)
            self.going.discard(name)

    def settle(self) -> bool:
        """Note that the save has been done; return whether the store still has something that was shown meanwhile."""
        (new, gone), self.sent = self.sent or ({}, frozenset()), None
        for name, flash in new.items():
            if self.new.pop(name, None) is not None or name in self.saved:
                self.saved[name] = flash
            else:
                self.going.add(name)
        self.going -= gone
        return bool(self.going)

    def listed(self) -> list[Flash]:
        """Return what was shown, in the order of its making."""
        return [flash for _, flash in sorted(self.shown.items())]


def book_of(rare: Rare) -> Book | None:
    """Return the book of a request that has used flashes."""
    book: Book | None = rare.flashes
    return book


class Flashes(list[Flash]):
    """What ``flashes()`` returns: a list, which can be awaited."""

    __slots__ = ("_take",)

    def __init__(self, shown: Iterable[Flash], take: Callable[[], Coroutine[Any, Any, list[Flash]]]) -> None:
        super().__init__(shown)
        self._take = take

    def __await__(self) -> Generator[Any, Any, list[Flash]]:
        return self._take().__await__()


class Flashing:
    """A part of ``Session``: the verbs."""

    __slots__ = ()

    def flash(self: Any, message: str, category: str = "message") -> None:
        """Keep a message for the page that the user sees next: see ``flashes()``.

        Kept as plain text, with the attributes of this request: a response of 500 or above drops it. A session that is
        new begins. A login in this request keeps it, one in a later request drops it. Of more than a hundred the oldest
        go.

        :param category: your own word for its kind, say for a colour.
        :raises TypeError: message or category is no ``str``.
        :raises SessionNotEstablished: the session is new and the headers have left.
        """
        if not isinstance(message, str) or not isinstance(category, str):
            raise TypeError("flash(): message and category must be str")
        state = self._state
        if state.guarded:
            self._adding(("flash()",))
        self._book().add(state.host.now(), Flash(str(message), str(category)))
        intents = state.wishes()
        intents.flashing, intents.cleared = True, False

    def flashes(self: Any) -> Flashes:
        """Return the messages that are to be shown now, each with ``message`` and ``category``, the oldest first.

        They are those that this request has loaded and made; the next save point removes them, unless the status is 500
        or above. Two tabs that load at the same time both show them. Awaited, it takes them from the store now, so each
        is given to one of two tabs only, and stands whatever the status. Asked again, it returns the same. A passive
        request is shown none.

        :raises StoreError: (awaited) the store failed: nothing was shown.
        """
        state = self._state
        state.accessed = True
        kept, record, book = state.host.flashing, state.record, book_of(state.rare)
        names = [] if record is None else kept.names(record)
        if state.passive or (book is None and not names):
            return Flashes((), _nothing)
        book = self._book()
        fresh = [name for name in names if name not in book.known and name not in book.saved]
        stored = book.show(kept.opened(state.record_id, record, fresh) if fresh else {})
        if stored:
            state.wishes().flashing = True
        return Flashes(book.listed(), lambda: self._take_flashes(book, stored))

    def _book(self: Any) -> Book:
        rare: Rare = self._state.rarely()
        book = book_of(rare)
        if book is None:
            book = rare.flashes = Book()
        return book

    async def _take_flashes(self: Any, book: Book, stored: frozenset[str]) -> list[Flash]:
        book.hide(stored)
        if stored:
            try:
                book.shown |= await self._state.host.flashing.take(self._state)
            except BaseException:
                book.known -= stored
                raise
            book.known |= book.shown.keys()
        return book.listed()


async def _nothing() -> list[Flash]:
    return []
