"""Sessions of the Model Context Protocol, by the client and server of its official SDK: four processes, one store."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
from driver import in_loop
from examples import everything
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from serving import UVICORN, Kind, Server, free_port, launch

WORKERS, CLIENTS, CALLS = 4, 6, 8
EXAMPLE = "mcp_notes.py"
TYPES = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
SESSION, VERSION = "mcp-session-id", {"mcp-protocol-version": "2025-11-25"}
HELLO = {
    "jsonrpc": "2.0", "id": 1, "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}  # fmt: skip
LIST = {"jsonrpc": "2.0", "id": 2, "method": "tools/list", "params": {}}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    """Serve the guide's example in processes that share a store."""
    folder = tmp_path_factory.mktemp("mcp")
    everything(folder)
    path = os.pathsep.join([str(folder), *sys.path])
    env = {"PYTHONPATH": path, "SESSION_SECRET": "x" * 32, "SESSION_STORE": f"sqlite:///{folder}/sessions.db"}
    with contextlib.ExitStack() as stack:
        ports = [free_port() for _ in range(WORKERS)]
        argv = [Kind(UVICORN).argv(sys.executable, f"{Path(EXAMPLE).stem}:app", port) for port in ports]
        yield [stack.enter_context(launch(*one, env)) for one in zip(argv, ports, strict=True)]


class InTurn(httpx2.AsyncHTTPTransport):
    """Has each request of a client answered by another server than the one before."""

    def __init__(self, servers: list[Server], first: int) -> None:
        super().__init__()
        self.ports = itertools.islice(itertools.cycle([server.port for server in servers]), first, None)
        self.seen: list[tuple[str, int, int, str | None]] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        port = next(self.ports)
        request.url = request.url.copy_with(port=port)
        answer = await super().handle_async_request(request)
        self.seen.append((request.method, port, answer.status_code, request.headers.get(SESSION)))
        return answer


@contextlib.asynccontextmanager
async def client(servers: list[Server], first: int = 0, mode: Any = "auto") -> AsyncIterator[tuple[Client, InTurn]]:
    """Open a client of the SDK, whose requests go round; at the end it deletes its session."""
    transport = InTurn(servers, first)
    async with httpx2.AsyncClient(transport=transport) as http:
        url = servers[0].url + "/mcp"
        async with Client(streamable_http_client(url, http_client=http), mode=mode) as made:
            yield made, transport


async def notes(made: Client, text: str) -> Any:
    result = await made.call_tool("note", {"text": text})
    assert not result.is_error, result
    return result.structured_content["result"]


@pytest.mark.parametrize("mode", ["legacy", "auto"])
@in_loop
async def test_each_client_has_his_state_whichever_worker_answers(servers: list[Server], mode: str) -> None:
    """Several clients at once; of each, every request goes to another worker, and sees all that was before it."""

    async def one(number: int) -> tuple[list[int], set[str | None]]:
        async with client(servers, number % WORKERS, mode) as (made, seen):
            assert [tool.name for tool in (await made.list_tools()).tools] == ["note"]
            said: list[str] = []
            for call in range(CALLS):
                said.append(f"{number}: {call}")
                assert await notes(made, said[-1]) == said
        assert [(method, status) for method, _, status, _ in seen.seen if method == "DELETE"] == [("DELETE", 204)]
        return [port for method, port, *_ in seen.seen if method == "POST"], {sid for *_, sid in seen.seen}

    for ports, ids in await asyncio.gather(*map(one, range(CLIENTS))):
        assert set(ports) == {server.port for server in servers}
        assert len(ids - {None}) == 1


@in_loop
async def test_calls_of_one_client_at_once_lose_nothing(servers: list[Server]) -> None:
    """By several workers at once."""
    async with client(servers) as (made, _):
        await asyncio.gather(*(notes(made, str(call)) for call in range(CALLS)))
        assert sorted(await notes(made, "last")) == [*map(str, range(CALLS)), "last"]


def post(server: Server, message: dict[str, Any], **headers: str) -> httpx.Response:
    return httpx.post(server.url + "/mcp", json=message, headers=TYPES | headers)


def begun(server: Server) -> str:
    answer = post(server, HELLO)
    assert answer.status_code == 200
    assert "set-cookie" not in answer.headers
    token: str = answer.headers[SESSION]
    assert len(token) == 88
    assert all(0x21 <= ord(character) <= 0x7E for character in token)  # what the protocol allows
    return token


def test_an_ended_and_an_unknown_session_is_404_and_a_missing_one_400(servers: list[Server]) -> None:
    """As the protocol's revision 2025-11-25 says of sessions, in every worker; and no other answer gives a token."""
    token = begun(servers[0])
    for server in servers:
        answer = post(server, LIST, **VERSION, **{SESSION: token})
        assert (answer.status_code, SESSION in answer.headers) == (200, False)
        assert "note" in answer.text
    deleted = httpx.delete(servers[1].url + "/mcp", headers=VERSION | {SESSION: token})
    assert (deleted.status_code, deleted.headers[SESSION]) == (204, "")
    forged = token[:-1] + ("A" if token[-1] != "A" else "B")
    for server in servers:
        for method, sent in itertools.product(("POST", "GET", "DELETE"), (token, forged, "unknown", "A" * 88)):
            answer = httpx.request(
                method, server.url + "/mcp", headers=TYPES | VERSION | {SESSION: sent},
                json=LIST if method == "POST" else None,
            )  # fmt: skip
            assert (answer.status_code, answer.headers.get(SESSION)) == (404, None)
        for method in ("POST", "GET", "DELETE"):
            answer = httpx.request(method, server.url + "/mcp", headers=TYPES | VERSION)
            assert (answer.status_code, answer.headers.get(SESSION)) == (400, None)


@in_loop
async def test_a_client_is_told_that_its_session_has_ended(servers: list[Server]) -> None:
    """The SDK's client gets an error, no other session's state; initialized anew it goes on."""
    async with client(servers, mode="legacy") as (made, seen):
        assert await notes(made, "one") == ["one"]
        (token,) = {sid for *_, sid in seen.seen} - {None}
        assert httpx.delete(servers[2].url + "/mcp", headers=VERSION | {SESSION: str(token)}).status_code == 204
        with pytest.raises(Exception, match="Session terminated"):
            await notes(made, "two")
    async with client(servers) as (made, _):
        assert await notes(made, "three") == ["three"]
