"""The conversations of users, for code outside of a request: jobs, exports, pages of administrators.

Rules of residence: arguments and composition.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn

from .codecs import Codec
from .config import Faults, Hidden
from .conversations.all import AllConversations
from .conversations.conversation import Conversation
from .conversations.keeper import Keeper
from .conversations.of import ConversationsOf
from .conversations.options import ConversationOptions
from .conversations.resealing import Resealed, Resealing
from .engine.calls import Calls
from .log import EventLog
from .stores.base import Store

if TYPE_CHECKING:
    from uuid import UUID


class Conversations:
    """The conversations of users. Give it what the middleware has: keys, and the codec.

    It asks nobody's leave. The cookie's name does not matter to it.

        async with Conversations(store, secret_key=SECRET) as conversations:
            async for entry in conversations.of_user("ada")["main"]:
                print(entry.value)

    :param store: the middleware's, or its URL.
    :param secret_key: the middleware's, all of them.
    :param codec: the middleware's.
    :param seal: the middleware's.
    :param options: the middleware's ``conversations``.
    :raises ConfigError: arguments that cannot work, all named in one text.
    """

    def __init__(
        self,
        store: Store | str,
        secret_key: str | bytes | Hidden | Sequence[str | bytes | Hidden] | None = None,
        *,
        codec: Codec | None = None,
        seal: bool = True,
        options: ConversationOptions | None = None,
    ) -> None:
        faults = Faults()
        keys = faults.secret_keys(secret_key)
        del secret_key  # no traceback from here on can show it
        given = faults.store(store)
        del store  # it may be a URL with a password
        faults.codec(codec, seal)
        if given is None:
            faults.add("store: give the middleware's store, or its URL")
        if options is not None and not isinstance(options, ConversationOptions):
            faults.add("options: must be ConversationOptions(...)")
        faults.settle()
        assert given is not None  # noqa: S101 - or settle() has raised
        events = EventLog(logging.getLogger("fastersession"))
        self._calls = Calls(given, events, 1.0)
        self.all = AllConversations(Keeper(self._calls, keys, codec, events, options, seal=seal))

    def of_user(self, user: str | int | UUID) -> ConversationsOf:
        """Return the conversations of a user, as ``session.conversations_of(user)`` does.

        :raises TypeError: the user is no ``str``, ``int`` or ``UUID``, or is empty.
        """
        return self.all.of_user(user)

    async def page(self, after: bytes | None = None, count: int = 100) -> tuple[list[Conversation], bytes | None]:
        """Return conversations of users, anybody's, about ``count``, and where the next page begins.

        There ``None`` is the end. What no key reads is left out.

        :param after: where the page before has ended.
        :raises StoreError: the store failed.
        """
        return await self.all.page(after, count)

    async def reseal(self) -> Resealed:
        """Move every user's conversation under the first key, so that the others can be dropped.

        While one is copied, who reads it may see a part of it. Its entries get new ids, and their keys are forgotten.
        One that runs is left for the next pass, and so is one that cannot be read; if there are none, the other keys
        are not needed for conversations any more. The last updated stays the first of a user's list.

        :returns: how many were moved, left because they run, and left because they cannot be read.
        :raises StoreError: the store failed: call it again, it goes on where it stopped.
        """
        return await Resealing(self.all).done()

    async def close(self) -> None:
        """Close the store."""
        await self._calls.close()

    async def __aenter__(self) -> Conversations:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<Conversations of {type(self._calls.store).__name__}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("Conversations has the keys: it cannot be pickled, make one where it is needed")
