"""A conversation as the event store of a server of the Model Context Protocol, so that its clients can resume.

Rules of residence: the ``EventStore`` of the official SDK over a conversation, nothing else.

    events = ConversationEventStore(request.session.conversations["mcp"])
    transport = StreamableHTTPServerTransport(mcp_session_id, event_store=events)
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from mcp_types import JSONRPCMessage, jsonrpc_message_adapter

from .. import StoreError
from ._items import backwards

if TYPE_CHECKING:
    from .. import Conversation, Entry


class ConversationEventStore(EventStore):
    """The events of one MCP session, in a conversation of its own.

    Each session needs another conversation: the SDK names the streams of all clients alike, "1", "2", and so on. The id
    of an event is that of its entry: one of another conversation leads nowhere, and no client says which stream it is.

    :param keep: how many events can be replayed at least; up to twice as many are kept.
    """

    def __init__(self, conversation: Conversation, keep: int = 1000) -> None:
        if keep < 1:
            raise ValueError("keep must be at least 1")
        self._conversation = conversation
        self._keep = keep
        self._kept: deque[Entry] = deque()

    async def store_event(self, stream_id: str, message: JSONRPCMessage | None) -> str:
        """Store an event, and return its id.

        :param message: ``None`` for an event that only gives the client an id to resume from.
        :raises Gone: the conversation was deleted, or its session has ended.
        :raises StoreError: the store failed.
        """
        data = "" if message is None else message.model_dump_json(by_alias=True, exclude_unset=True)
        entry = await self._conversation.append({"stream": stream_id, "data": data})
        self._kept.append(entry._replace(value=None))
        if len(self._kept) >= 2 * self._keep:
            with suppress(StoreError):  # the next event tries again
                await self._conversation.truncate(before=self._kept[-self._keep])
                self._kept = deque(list(self._kept)[-self._keep :])
        return entry.id

    async def replay_events_after(self, last_event_id: str, send_callback: EventCallback) -> str | None:
        """Send the events of a stream that came after one of them, and return the stream.

        :returns: ``None`` for an id that is none of this conversation, or which is there no more: nothing is sent, for
            events might be missing.
        :raises StoreError: the store failed.
        """
        newer: list[Entry] = []
        async for entry in backwards(self._conversation):
            if entry.id == last_event_id:
                break
            newer.append(entry)
        else:
            return None
        stream: str = entry.value["stream"]
        for later in reversed(newer):
            if later.value["stream"] == stream and later.value["data"]:
                message = jsonrpc_message_adapter.validate_json(later.value["data"])
                await send_callback(EventMessage(message, later.id))
        return stream
