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
from .conversations.keeper import Keeper
from .conversations.of import ConversationsOf
from .conversations.options import ConversationOptions
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
