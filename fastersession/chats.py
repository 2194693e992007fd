"""The conversations of a session and of its user.

Rules of residence: a part of ``Session``. What conversations are is imported when somebody asks for one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import ConfigError, HeadersSent
from .facts import NOT_STARTED
from .pending import Pending

if TYPE_CHECKING:
    from uuid import UUID

    from .conversations.conversation import Conversation
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

    def detach(
        self: Any, conversation: str | Conversation = "main", *, when_busy: str = "reject",
        format: str | None = None,  # noqa: A002 - the word of the public interface
    ) -> Pending:  # fmt: skip
        """Let the answer of this very request outlive its connection: it becomes a run of a conversation.

        The application never learns that its client has left, and runs to its end; the answer can be resumed by
        ``chat.run(last_event_id)`` and stopped by ``chat.stop()``, as any run. The run begins with the start of the
        answer, or when this is awaited. Nothing of the answer's head is kept. Not detached: an answer to HEAD, one with
        status 204, 304 or from 400 on, and a compressed one.

        :param conversation: one, or the name of one of this session.
        :param when_busy: what happens if another run runs, as for ``start()``; a ``Busy`` replaces the answer.
        :param format: "sse": the answer is an event stream, and each block gets an id. "bytes": it passes as it is.
            ``None``: an event stream without a content-length is one (awaited before the start: any answer).
        :raises ConfigError: the middleware has no ``detachable``, or this is a WebSocket, or not asyncio.
        :raises HeadersSent: the answer has begun.
        :raises Busy: (awaited) another run runs.
        """
        state = self._state
        if state.rare.is_socket:
            raise ConfigError("session.detach(): the answer of a request is detached, and this is a WebSocket")
        if state.phase != NOT_STARTED:
            raise HeadersSent("session.detach(): the answer has begun; call it before the response starts")
        connection = state.host.connection_of(state)
        if connection is None:
            raise ConfigError(
                "session.detach(): give the middleware detachable=(), or paths whose answers are detached without it; "
                "it needs asyncio"
            )
        chat = self.conversations[conversation] if isinstance(conversation, str) else conversation
        connection.wants(chat, when_busy, format)
        return Pending(connection.begin)
