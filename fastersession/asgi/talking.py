"""The conversations of a middleware, made when the first is asked for.

Rules of residence: what to make them of, and when. Nothing of them is imported before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..codecs import Codec
from ..engine.calls import Calls
from ..log import EventLog

if TYPE_CHECKING:
    from ..conversations.all import AllConversations
    from ..conversations.options import ConversationOptions


class Talking:
    """Makes the conversations of one middleware, once."""

    def __init__(
        self, calls: Calls, keys: Sequence[bytes], codec: Codec | None, events: EventLog,
        options: ConversationOptions | None, *, seal: bool,
    ) -> None:  # fmt: skip
        self._parts: tuple[Any, ...] = calls, keys, codec, events, options
        self._seal = seal
        self._store = calls.store
        self.made: AllConversations | None = None  # ``None`` as long as nobody has asked for one

    def __call__(self) -> AllConversations:
        """Return them."""
        if self.made is None:
            from ..conversations.all import AllConversations
            from ..conversations.keeper import Keeper

            self.made = AllConversations(Keeper(*self._parts, seal=self._seal))
        return self.made

    async def drain(self) -> None:
        """End the runs of this process, at the shutdown."""
        if self.made is not None:
            await self.made.keeper.drain()

    async def stop_all(self, user: str) -> None:
        """Stop the runs of a user, all of whose sessions were revoked, wherever they run."""
        if getattr(self._store, "logs", None) is not None:
            await self().stop_all(user)
