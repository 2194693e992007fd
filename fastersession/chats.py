"""The conversations of a session and of its user.

Rules of residence: a part of ``Session``. What conversations are is imported when somebody asks for one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uuid import UUID

    from .conversations.of import ConversationsOf


class Chats:
    """A part of ``Session``: its conversations."""

    __slots__ = ()

    @property
    def conversations(self: Any) -> ConversationsOf:
        """The conversations of this session, by name: ``session.conversations["main"]``. They end with it.

        Those of a guest stay his when he logs in, and are nobody else's. The first write makes the session's record.

        :raises ConfigError: (awaited) the store keeps no conversations.
        """
        found: ConversationsOf = self._state.host.conversations().of_session(self, self._state)
        return found

    def conversations_of(self: Any, user: str | int | UUID) -> ConversationsOf:
        """Return the conversations of a user, which he has on every device and after every logout.

        The application vouches for him: nothing is compared with ``session.user``. Neither the session nor its cookie
        is touched.

        :raises TypeError: the user is no ``str``, ``int`` or ``UUID``, or is empty, as a visitor's without a login is.
        """
        found: ConversationsOf = self._state.host.conversations().of_user(user, self._state)
        return found
