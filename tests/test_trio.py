"""On trio, with a MemoryStore: nothing in the core asks for asyncio."""

from __future__ import annotations

from typing import Any

import trio
import trio.testing
from routes import Call, serve

from fastersession import FasterSessionMiddleware, MemoryStore


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
