"""On trio, with a MemoryStore: nothing in the core asks for asyncio. What needs asyncio says so."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from paths import SUPPORT
from routes import SECRET, Call, serve
from serving import KINDS, free_port
from stores import SuspendingStore

from fastersession import ConfigError, FasterSessionMiddleware, MemoryStore
from fastersession.stores.redis import RedisStore
from fastersession.stores.sql import SQLStore
from fastersession.stores.sqlite import SQLiteStore


class Client:
    """The least of a browser: one cookie, whole exchanges, under trio."""

    def __init__(self, app: FasterSessionMiddleware) -> None:
        self.app, self.cookie = app, b""

    async def get(self, target: str, *, leave_after: int | None = None) -> list[dict[str, Any]]:
        path, _, query = target.partition("?")
        headers = [(b"cookie", self.cookie)] if self.cookie else []
        scope = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "method": "GET", "scheme": "http",
            "path": path, "query_string": query.encode(), "headers": headers,
        }  # fmt: skip
        sent: list[dict[str, Any]] = []
        with trio.CancelScope() as cancelling:

            async def send(message: dict[str, Any]) -> None:
                await trio.lowlevel.checkpoint()
                sent.append(message)
                if len(sent) == leave_after:
                    cancelling.cancel()

            await self.app(scope, trio.sleep_forever, send)
        for name, value in sent[0].get("headers", ()):
            if name == b"set-cookie":
                self.cookie = value.partition(b";")[0]
        return sent

    async def read(self) -> bytes:
        return (await self.get("/"))[1]["body"]


def test_a_stream_and_its_session_under_trio() -> None:
    """A stream writes after the headers, and the next request sees it; login and logout work."""

    async def main() -> None:
        store = MemoryStore()
        client = Client(serve(store=store))
        assert await client.read() == b"{}"
        await client.get("/set?a=1")
        await client.get("/stream?b=2")
        assert await client.read() == b'{"a": "1", "b": "2"}'
        await client.get("/login")
        assert await client.read() == b'{"a": "1", "b": "2", "user": "me"}'
        await client.get("/logout")
        assert len(store) == 0
        assert await store.purge() == 0

    trio.run(main)


def test_a_cancelled_stream_is_saved_under_trio() -> None:
    """Trio raises Cancelled at every await from then on; the last save needs none."""

    async def endless(call: Call) -> None:
        await call.start()
        call.session["answer"] = ""
        while True:
            call.session["answer"] += "x"
            await call.chunk()

    async def main() -> None:
        client = Client(serve({"/endless": endless}))
        await client.get("/set?a=1")
        await client.get("/endless", leave_after=4)
        assert (
            await client.read() == b'{"a": "1", "answer": "xxxx"}'
        )  # the last one was written, and met the cancellation

    trio.run(main)


def test_verbs_are_awaited_under_trio() -> None:
    """save(), reload() and invalidate() are awaited in the middle of a request, in several tasks of one nursery."""

    async def do(call: Call) -> None:
        async def write(name: str) -> None:
            call.session[name] = name
            await call.session.save()
            await call.session.reload()

        await call.session.establish()
        await call.start()
        async with trio.open_nursery() as nursery:
            for name in "abc":
                nursery.start_soon(write, name)
        await call.finish()

    async def main() -> None:
        store = MemoryStore()
        client = Client(serve({"/act": do}, store=store))
        await client.get("/act")
        assert sorted(await client.read()) == sorted(b'{"a": "a", "b": "b", "c": "c"}')
        assert len(store) == 1

    trio.run(main)


# --- what needs asyncio ---

Make = Callable[[Path], Any]
OTHERS: dict[str, Make] = {
    "SQLiteStore": lambda folder: SQLiteStore(folder / "sessions.db"),
    "RedisStore": lambda _: RedisStore("redis://localhost"),
    "SQLStore": lambda _: SQLStore("postgresql://localhost/d"),
    "FaultyStore": lambda _: SuspendingStore(),
}
NAMED = pytest.mark.parametrize("name", OTHERS)


@NAMED
def test_every_other_store_refuses_at_the_startup(name: str, tmp_path: Path) -> None:
    """In the lifespan's own words, so that the server ends: the store, asyncio, and what works instead."""
    sent: list[dict[str, Any]] = []
    app = serve(store=OTHERS[name](tmp_path))

    async def receive() -> dict[str, Any]:
        return {"type": "lifespan.startup"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    with pytest.raises(ConfigError, match=rf"^store: {name} needs asyncio: .*trio.*MemoryStore"):
        trio.run(app, {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
    assert [(message["type"], "asyncio" in message["message"]) for message in sent] == [
        ("lifespan.startup.failed", True)
    ]
    gc.collect()  # a coroutine that was never awaited would warn


@NAMED
@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize("cookie", [True, False], ids=["cookie", "no cookie"])
def test_every_other_store_refuses_at_the_first_use(name: str, kind: str, cookie: bool, tmp_path: Path) -> None:
    """Where the server runs no lifespan: before the application is called, whatever it would do with its session."""
    called: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        called.append(scope)

    async def request() -> None:
        client = Client(serve(store=MemoryStore()))
        await client.get("/set?a=1")
        headers = [(b"cookie", client.cookie)] if cookie else []
        scope = {"type": kind, "asgi": {"version": "3.0"}, "path": "/", "query_string": b"", "headers": headers}
        middleware = FasterSessionMiddleware(app, SECRET, OTHERS[name](tmp_path), secure=False)
        await middleware(scope, trio.sleep_forever, trio.lowlevel.checkpoint)

    with pytest.raises(ConfigError, match=rf"^store: {name} needs asyncio: "):
        trio.run(request)
    assert not called
    gc.collect()


def test_a_turn_says_that_it_needs_asyncio() -> None:
    """exclusive() raises on entry, with a MemoryStore too; the session is as before, and all else works."""

    async def do(call: Call) -> None:
        call.session["a"] = 1
        with pytest.raises(ConfigError, match=r"exclusive\(\) needs asyncio"):
            async with call.session.exclusive():
                raise AssertionError("there is no turn")
        await call.reply()

    async def main() -> None:
        client = Client(serve({"/act": do}))
        await client.get("/act")
        assert await client.read() == b'{"a": 1}'

    trio.run(main)
    gc.collect()


def test_a_server_on_trio_ends_at_its_startup() -> None:
    """hypercorn does not serve on with answers of 500: it ends, and shows why."""
    argv = KINDS["hypercorn-trio"].argv(sys.executable, "trio_app:app", free_port())
    done = subprocess.run(argv, cwd=SUPPORT, capture_output=True, text=True, timeout=60)
    assert "SQLiteStore needs asyncio" in done.stdout + done.stderr


def test_a_reader_task_of_a_socket_under_trio() -> None:
    """Where one task always waits for a message, what has changed is saved as the next message is sent."""

    async def main() -> None:
        store = MemoryStore()

        async def chat(call: Call) -> None:
            await call.receive()
            await call.send({"type": "websocket.accept"})
            async with trio.open_nursery() as nursery:
                nursery.start_soon(call.receive)
                await trio.testing.wait_all_tasks_blocked()
                call.session["b"] = 2
                await call.send({"type": "websocket.send", "text": "said"})
                seen.append(await client.read())
                nursery.cancel_scope.cancel()

        async def receive() -> dict[str, Any]:
            return messages.pop() if messages else await trio.sleep_forever()

        async def send(message: dict[str, Any]) -> None:
            await trio.lowlevel.checkpoint()

        seen: list[bytes] = []
        messages = [{"type": "websocket.connect"}]
        client = Client(app := serve({"/act": chat}, store=store))
        await client.get("/set?a=1")
        headers = [(b"cookie", client.cookie)]
        scope = {"type": "websocket", "path": "/act", "query_string": b"", "headers": headers, "scheme": "ws"}
        await app(scope, receive, send)
        assert seen == [b'{"a": "1", "b": 2}']

    trio.run(main)


def test_the_turns_of_a_socket_under_trio() -> None:
    """Each is saved at once, however costly the comparison before was: there is no timer that could make up for it."""

    async def main() -> None:
        async def chat(call: Call) -> None:
            await call.receive()
            await call.send({"type": "websocket.accept"})
            call.session["history"] = [[number] for number in range(100_000)]
            for number in range(3):
                call.session["history"][number].append("said")
                call.session["b"] = number
                await call.receive()

        async def receive() -> dict[str, Any]:
            seen.append(await client.read() if len(seen) else b"")
            return {"type": "websocket.receive", "text": "hello"}

        async def send(message: dict[str, Any]) -> None:
            await trio.lowlevel.checkpoint()

        async def read(call: Call) -> None:
            await call.reply(str(call.session.get("b")))

        seen: list[bytes] = []
        client = Client(app := serve({"/act": chat, "/": read}, store=MemoryStore()))
        await client.get("/set?a=1")
        headers = [(b"cookie", client.cookie)]
        scope = {"type": "websocket", "path": "/act", "query_string": b"", "headers": headers, "scheme": "ws"}
        await app(scope, receive, send)
        assert seen == [b"", b"0", b"1", b"2"]

    trio.run(main)
