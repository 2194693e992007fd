"""The promise on real servers: what a stream writes into the session is there for the next request.

Every server of the matrix is a process of its own. The fast tier has one row per server, `-m long` the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import signal
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from server_stores import last_saves
from serving import KINDS, Server, Wire, serve, until
from websockets.sync.client import ClientConnection, connect

FAST = {"uvicorn-httptools", "hypercorn-h2", "granian-h1"}
WEBSOCKETS = ("uvicorn-h11", "uvicorn-httptools", "hypercorn-h1", "hypercorn-trio")  # these deliver the cookie
LONG = 400  # tokens of 5 ms: outlasts the grace of 1 s; granian over HTTP/1.1 waits for the end of every stream
STORES = {"memory": {}, "distant": {"DELAY": "0.03"}}  # one that never suspends, one that always does
APP = "server_apps:app"


def rows(kinds: Iterable[str] = KINDS, stores: Iterable[str] = STORES) -> list[object]:
    """Parametrize over servers and stores; what is not of the fast tier carries the mark."""
    pairs = [(kind, store) for kind in kinds for store in stores if (kind, store) != ("hypercorn-trio", "distant")]
    marks = {kind: () if kind in FAST else pytest.mark.long for kind in KINDS}
    return [pytest.param((kind, store), id=f"{kind}-{store}", marks=marks[kind]) for kind, store in pairs]


@pytest.fixture(scope="module", params=rows())
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """One process per server and store, shared by the tests that leave it running."""
    kind, store = request.param
    with serve(kind, APP, STORES[store]) as running:
        yield running
        assert "Traceback" not in running.output, running.output


def ask(client: httpx.Client, question: str, tokens: int) -> str:
    """One whole turn, read to its end."""
    return client.get("/chat", params={"q": question, "n": tokens}).text


class Reader:
    """A client in the middle of an answer (endless unless told): holds the stream open until `stack` lets go."""

    def __init__(self, client: httpx.Client, stack: contextlib.ExitStack, question: str, tokens: int = 0) -> None:
        query = {"q": question, "n": tokens}
        self.response = stack.enter_context(client.stream("GET", "/chat", params=query))
        self.lines = self.response.iter_lines()
        self.seen = ""

    def read(self, tokens: int) -> Reader:
        for _ in range(tokens):
            line = next((line for line in self.lines if line), None)
            if line is None:
                raise httpx.ReadError("the answer ended")
            self.seen += line.removeprefix("data: ") + " "
        return self


def test_the_next_request_sees_what_the_stream_wrote(server: Server) -> None:
    """A client that has seen the end of the answer finds all of it in its next request."""
    with server.client() as client:
        for turn, tokens in enumerate((3, 5, 8)):
            assert ask(client, f"question {turn}", tokens).count("data:") == tokens
            answer = "".join(f"{number} " for number in range(tokens))
            assert client.get("/session").json() == {"question": f"question {turn}", "answer": answer}


def test_two_browsers_are_two_sessions(server: Server) -> None:
    """A client without the cookie sees nothing of another's session."""
    with server.client() as first, server.client() as second:
        ask(first, "mine", 2)
        assert second.get("/session").json() == {}
        assert "sid" not in second.cookies


def test_a_client_that_leaves_keeps_the_partial_answer(server: Server) -> None:
    """What was written before the client left in the middle of the stream is there when it comes back."""
    with server.client() as client:
        ask(client, "first", 1)
        cookies = dict(client.cookies)
        with contextlib.ExitStack() as stack:
            seen = Reader(client, stack, "tell me all").read(3).seen
    with server.client(cookies=cookies) as back:
        session = until(lambda: partial(back, seen), "the partial answer")
    assert session["question"] == "tell me all"


def partial(client: httpx.Client, seen: str) -> dict[str, str] | None:
    """Show the session, once its answer reaches at least as far as the client has read."""
    session = client.get("/session").json()
    return session if session.get("answer", "").startswith(seen) else None


def test_a_first_stream_left_in_the_middle_is_kept_too(server: Server) -> None:
    """The cookie left with the headers, so even the first request's partial answer has a session to live in."""
    with server.client() as client, contextlib.ExitStack() as stack:
        reader = Reader(client, stack, "tell me all").read(2)
        cookies = dict(reader.response.cookies)
    with server.client(cookies=cookies) as back:
        assert until(lambda: partial(back, reader.seen), "the partial answer")["question"] == "tell me all"


def listen(server: Server, question: str, seen: dict[str, str]) -> None:
    """Read one long answer as a browser does, to whatever end it comes; `seen` always holds what has arrived."""
    with contextlib.suppress(httpx.TransportError), contextlib.ExitStack() as stack:
        reader = Reader(stack.enter_context(server.client()), stack, question, LONG)
        while True:
            seen[question] = reader.read(1).seen


@pytest.mark.parametrize("row", rows())
def test_three_streams_at_sigterm_are_saved(row: tuple[str, str], tmp_path: Path) -> None:
    """A shutdown in the middle of three answers loses none of the three partial answers."""
    kind, store = row
    record = tmp_path / "saves.jsonl"
    env = {"RECORD": str(record), **STORES[store]}
    seen = {f"question {n}": "" for n in range(3)}
    with ThreadPoolExecutor() as threads, serve(kind, APP, env) as server:
        readers = [threads.submit(listen, server, question, seen) for question in seen]
        until(lambda: all(len(tokens) >= 10 for tokens in seen.values()), "three streams to be under way")
        before = dict(seen)
        assert not any(reader.done() for reader in readers)
        assert server.terminate() in (0, -signal.SIGTERM)
    saved = {session["question"]: session["answer"] for session in last_saves(record)}
    assert saved.keys() == before.keys()
    assert all(saved[question].startswith(tokens) for question, tokens in before.items()), (before, saved)


@pytest.mark.parametrize("row", rows(WEBSOCKETS))
def test_a_websocket_carries_and_saves_the_session(row: tuple[str, str]) -> None:
    """The cookie comes with the accept; each turn, `await session.save()` and the close save what was heard."""
    kind, store = row
    with serve(kind, APP, STORES[store]) as server, server.client() as client:
        with connect(server.url.replace("http", "ws") + "/ws") as socket:
            cookie = socket.response.headers["set-cookie"].partition(";")[0]
            client.headers["cookie"] = cookie
            assert tell(socket, "hello") == "done: hello"
            until(lambda: client.get("/session").json() == {"heard": ["hello"]}, "the save of the turn")
            assert tell(socket, "save") == "done: save"
            assert client.get("/session").json() == {"heard": ["hello"]}
            tell(socket, "goodbye")
        until(lambda: client.get("/session").json() == {"heard": ["hello", "goodbye"]}, "the save at close")


@pytest.mark.parametrize("row", rows((*WEBSOCKETS, "granian-h1")))
def test_a_websocket_open_at_sigterm_is_saved(row: tuple[str, str], tmp_path: Path) -> None:
    """A WebSocket joins the session that HTTP began, on every server; what it heard survives the shutdown."""
    kind, store = row
    record = tmp_path / "saves.jsonl"
    with serve(kind, APP, {"RECORD": str(record), **STORES[store]}) as server, server.client() as client:
        ask(client, "before", 1)
        cookie = {"Cookie": f"sid={client.cookies['sid']}"}
        with connect(server.url.replace("http", "ws") + "/ws", additional_headers=cookie) as socket:
            assert socket.response.headers.get("set-cookie") is None
            tell(socket, "hello")
            assert server.terminate() in (0, -signal.SIGTERM)
    assert last_saves(record) == [{"question": "before", "answer": "0 ", "heard": ["hello"]}]


@pytest.mark.parametrize("kind", ["granian-h1", pytest.param("daphne", marks=pytest.mark.long)])
def test_a_session_begun_on_a_websocket_that_drops_its_cookie_is_warned_of(kind: str) -> None:
    """Granian and daphne drop the headers of the accept: no cookie arrives, and the log says so, once."""
    with serve(kind, APP) as server:
        for _ in range(2):
            with connect(server.url.replace("http", "ws") + "/ws") as socket:
                assert socket.response.headers.get("set-cookie") is None
                tell(socket, "save")
        assert server.output.count("drops the headers of websocket.accept") == 1


def tell(socket: ClientConnection, text: str) -> str | bytes:
    socket.send(text)
    return socket.recv(10)


async def visit(name: str, requests: int, wires: asyncio.Queue[Wire]) -> int:
    """One user's requests, one after the other, each on whichever connection is free; returns the mismatches."""
    mismatches, cookie = 0, ""
    for number in range(requests + 1):
        wire = await wires.get()
        headers, body = await wire.get(f"/login?name={name}" if not number else "/count", cookie)
        wires.put_nowait(wire)
        cookie = headers.get("set-cookie", cookie).partition(";")[0]
        mismatches += json.loads(body) != {"name": name, "count": number}
    return mismatches


async def soak(port: int, users: int, requests: int) -> int:
    """Let all users visit at once over fewer connections than users, in an order that changes all the time."""
    wires: asyncio.Queue[Wire] = asyncio.Queue()
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(max(2, users // 4)):
            wires.put_nowait(await stack.enter_async_context(contextlib.aclosing(Wire(port))))
        names = [f"user-{number}-{secrets.token_hex(8)}" for number in range(users)]
        return sum(await asyncio.gather(*(visit(name, requests, wires) for name in names)))


@pytest.mark.parametrize("kind", ["uvicorn-httptools", "hypercorn-h1", "granian-h1"])
@pytest.mark.parametrize(
    ("users", "requests"),
    [(20, 10), pytest.param(200, 500, marks=[pytest.mark.long, pytest.mark.timeout(900)])],
)
def test_i1_no_user_ever_sees_another(kind: str, users: int, requests: int) -> None:
    """I1: many users, interleaved over shared connections: no answer is ever another user's, none is stale."""
    with serve(kind, APP) as server:
        assert asyncio.run(soak(server.port, users, requests)) == 0
