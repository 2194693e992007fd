"""A conversation as the event store of an MCP server: by the SDK's own transport and client, over a cut connection."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from accounts import BytesStore
from driver import in_loop
from in_this_loop import served
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.streamable_http import EventMessage, EventStore
from mcp_types import JSONRPCNotification, JSONRPCResponse

from fastersession import Conversations, MemoryStore, StoreError
from fastersession.integrations.mcp import ConversationEventStore

SECRET = "a secret of the tests of adapters, and of nothing else"
STORES = {"live": MemoryStore, "bytes": BytesStore}


@pytest.fixture(params=STORES)
def conversations(request: Any) -> Conversations:
    """Give conversations over each kind of store."""
    return Conversations(STORES[request.param](), SECRET)


def note(number: int) -> JSONRPCNotification:
    return JSONRPCNotification(jsonrpc="2.0", method="notifications/message", params={"n": number, "none": None})


async def replayed(events: EventStore, after: str) -> tuple[str | None, list[tuple[str | None, Any]]]:
    found: list[EventMessage] = []

    async def send(event: EventMessage) -> None:
        found.append(event)

    stream = await events.replay_events_after(after, send)
    return stream, [(event.event_id, event.message) for event in found]


@in_loop
async def test_what_came_after_in_this_stream(conversations: Conversations) -> None:
    """In order, each with its id and as it was; no other stream's, and no event without a message."""
    events = ConversationEventStore(conversations.of_user("ada")["mcp"])
    first = await events.store_event("1", None)
    stored = [(await events.store_event("12"[number % 2], note(number)), note(number)) for number in range(250)]
    primed = await events.store_event("1", None)
    answer = JSONRPCResponse(jsonrpc="2.0", id=1, result={"text": "\u00e9 \U0001f600", "none": None})
    last = await events.store_event("1", answer)
    again = ConversationEventStore(conversations.of_user("ada")["mcp"])  # as another worker has it
    assert await replayed(again, first) == ("1", [*stored[::2], (last, answer)])
    assert await replayed(again, stored[100][0]) == ("1", [*stored[102::2], (last, answer)])
    assert await replayed(again, stored[101][0]) == ("2", stored[103::2])
    assert await replayed(again, primed) == ("1", [(last, answer)])
    assert await replayed(again, last) == ("1", [])


@in_loop
async def test_an_id_of_somebody_else_leads_nowhere(conversations: Conversations) -> None:
    """Nor does one that is none."""
    mine, hers = (ConversationEventStore(conversations.of_user(user)["mcp"]) for user in ("ada", "eve"))
    first = await mine.store_event("1", None)
    await mine.store_event("1", note(1))
    other = await hers.store_event("1", None)
    for wrong in (other, "", "1", first[:-1], first + "0", first.replace(".", "/"), "\x00", "x" * 10_000):
        assert await replayed(mine, wrong) == (None, [])
    assert await replayed(hers, first) == (None, [])


@in_loop
async def test_only_the_newest_are_kept(conversations: Conversations) -> None:
    """Never fewer than promised, never twice as many; after an id that is gone nothing is sent, rather than a part."""
    chat = conversations.of_user("ada")["mcp"]
    events = ConversationEventStore(chat, keep=5)
    ids = []
    for number in range(33):
        ids.append(await events.store_event("1", note(number)))
        kept = [entry.id for entry in await chat.tail(100)]
        assert kept == ids[-len(kept) :]
        assert min(number + 1, 5) <= len(kept) < 10
    assert len(await chat.tail(100)) < 33
    assert await replayed(events, ids[20]) == (None, [])
    assert [event for event, _ in (await replayed(events, ids[-4]))[1]] == ids[-3:]
    with pytest.raises(ValueError, match="keep"):
        ConversationEventStore(chat, keep=0)


@in_loop
async def test_what_cannot_be_removed_goes_later(conversations: Conversations) -> None:
    """The event was stored: its id is returned; the next one removes what is too much."""
    chat: Any = conversations.of_user("ada")["mcp"]
    truncate, failures = chat.truncate, [StoreError("away"), StoreError("away")]

    async def fails(**bounds: Any) -> None:
        if failures:
            raise failures.pop()
        await truncate(**bounds)

    chat.truncate = fails
    events = ConversationEventStore(chat, keep=2)
    ids = [await events.store_event("1", note(number)) for number in range(6)]
    assert failures == []
    assert [entry.id for entry in await chat.tail(100)] == ids[-2:]


server = MCPServer("counting")


@server.tool()
async def count(to: int, context: Context[Any, Any]) -> str:
    """Tell of each step, and cut the connection before each."""
    for step in range(to):
        await context.close_sse_stream()
        await context.report_progress(step + 1, to)
    return f"counted to {to}"


@in_loop
async def test_the_sdks_client_resumes(conversations: Conversations) -> None:
    """Its connection is cut in the middle of a call: it gets the result, and what was told meanwhile, each once."""
    events = ConversationEventStore(conversations.of_user("ada")["mcp"])
    app = server.streamable_http_app(event_store=events, retry_interval=10)
    told: list[float] = []
    asked: list[str | None] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        told.append(progress)

    async def noted(request: httpx2.Request) -> None:
        if request.method == "GET":
            asked.append(request.headers.get("last-event-id"))

    async with served(app) as url, httpx2.AsyncClient(event_hooks={"request": [noted]}) as http:
        transport = streamable_http_client(f"{url}/mcp", http_client=http)
        async with Client(transport, mode="legacy") as client:
            result = await client.call_tool("count", {"to": 3}, progress_callback=on_progress)
    assert [block.text for block in result.content if block.type == "text"] == ["counted to 3"]
    assert told == [1, 2, 3]
    assert any(asked)  # it did resume
