"""Whose conversations they are: a session's, or a user's.

Rules of residence: what follows from the owner alone: places, index, proofs, and what a session needs before it can
have any.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any
from uuid import UUID

from ..errors import Gone, SessionNotEstablished
from ..facts import ENDED, NOT_STARTED, Status
from ..stores.logs import Place
from .holding import Holding
from .keeper import Keeper

MOST_NAME = 255  # characters


def name_of(name: object) -> str:
    """Return the name of a conversation.

    :raises TypeError: it is no ``str``.
    :raises ValueError: it is empty, longer than 255 characters, or no text.
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of a conversation must be a str, not {type(name).__name__}")
    name = str.__str__(name)
    if not 0 < len(name) <= MOST_NAME:
        raise ValueError(f"the name of a conversation must have 1 to {MOST_NAME} characters")
    name.encode()  # what is no text is no name: UnicodeEncodeError is a ValueError
    return name


def user_of(user: object) -> str:
    """Return a user's id as text.

    :raises TypeError: it is no ``str``, ``int`` or ``UUID``, or is empty: all visitors without a login would share one.
    """
    if isinstance(user, bool) or not isinstance(user, str | int | UUID) or user == "":
        given = "an empty str" if user == "" else type(user).__name__
        raise TypeError(f"conversations_of(): user must be a str, int or UUID, and not empty: this is {given}")
    text = str.__str__(user) if isinstance(user, str) else str(user)
    text.encode()
    return text


class OfUser:
    """The conversations of a user. The application vouches for him: nothing is compared with ``session.user``."""

    def __init__(self, keeper: Keeper, user: str, request: Any = None) -> None:
        self.keeper = keeper
        self.user: str | None = user
        self._request = request
        self.owners = keeper.keys.owners(user)

    def places(self, name: str) -> list[Place]:
        """Return where a conversation may be, the place where it is made first."""
        return [Place(conversation) for conversation in self.keeper.keys.of_user(self.user or "", name)]

    async def ready(self) -> None:
        """Do nothing: a user needs no record."""

    def hold(self) -> None:
        """Hold nothing: a user's run outlives the session that began it."""

    @property
    def guard(self) -> Callable[[], Awaitable[Any]] | None:
        """What is awaited by who reads: the end of the session of his request, if it has one."""
        return None if self._request is None else _guard(self._request)

    @property
    def is_over(self) -> bool:
        """Whether the request is over."""
        return self._request is not None and self._request.phase == ENDED


class AtPlace(OfUser):
    """A conversation of a user at one of the places where it may be."""

    def __init__(self, keeper: Keeper, user: str, place: Place) -> None:
        super().__init__(keeper, user)
        self._place = place

    def places(self, name: str) -> list[Place]:
        """Return the place."""
        return [self._place]


class OfSession:
    """The conversations of a session, for one request of it."""

    user: str | None = None

    def __init__(self, keeper: Keeper, session: Any, state: Any) -> None:
        self.keeper = keeper
        self._session = session
        self._state = state

    @property
    def owners(self) -> tuple[bytes, ...]:
        """What the store finds them by."""
        return (self._record_id(),)

    def places(self, name: str) -> list[Place]:
        """Return where a conversation is, if the session has a record."""
        record_id, state = self._record_id(), self._state
        verifier = state.verifier if state.status is Status.LIVE else b""
        return [Place(each, record_id, verifier) for each in self.keeper.keys.of_session(record_id, name)]

    async def ready(self) -> None:
        """See that the session has a record, before something is written.

        :raises SessionNotEstablished: no cookie can reach the client any more.
        :raises Gone: the session is superseded, or has ended.
        """
        state = self._state
        if state.status is Status.NEW and state.phase == NOT_STARTED:
            await self._session.establish()
        if state.status in (Status.GONE, Status.SUPERSEDED):
            raise Gone("the session of this conversation has ended")
        if state.status is not Status.LIVE:
            why = state.refusal_of_writes() or "the response has started"
            raise SessionNotEstablished(f"a conversation of the session cannot be kept: {why}")

    def hold(self) -> Holding:
        """Hold the session for a run."""
        return Holding(self._state)

    @property
    def guard(self) -> Callable[[], Awaitable[Any]] | None:
        """What is awaited by who reads: the end of the session, which is that of its conversations, too."""
        return _guard(self._state)

    @property
    def is_over(self) -> bool:
        """Whether the request is over."""
        return bool(self._state.phase == ENDED)

    def _record_id(self) -> bytes:
        state = self._state
        return state.record_id or state.ticket()[0]  # type: ignore[no-any-return]


def _guard(state: Any) -> Callable[[], Awaitable[Any]] | None:
    """Return what waits for the end of a session; ``None`` where it has none, or nobody could tell."""
    watch = state.host.runs.watch
    if state.record is None or not watch.can_tell:
        return None
    return partial(watch.wait, state)
