"""The application and the browser that the probes of the truth table play with.

Rules of residence: scenes that use a session as an application would, and the two sides' steps, which a probe puts in
order. No verdict here.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from bench.app import answer
from bench.client import Client, Socket, Wire
from bench.peers import Peer

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}
CHUNK = {"type": "http.response.body", "body": b"chunk", "more_body": True}
END = {"type": "http.response.body", "body": b"end", "more_body": False}


class Stage:
    """The application of the probes: each path is a scene; some stop at a gate until the probe opens it."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.entered = asyncio.Queue[None]()
        self.gates: dict[str, asyncio.Event] = {}

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        name, _, argument = scope["path"].removeprefix("/").partition("/")
        if name == "logout":
            self.peer.logout(scope)
            return await answer(send, b"bye")
        return await getattr(self, name)(self.peer.session_of(scope), receive, send, argument)

    async def pause(self, gate: str) -> None:
        self.gates[gate] = asyncio.Event()
        self.entered.put_nowait(None)
        await self.gates[gate].wait()

    async def login(self, session: Any, receive: Any, send: Any, name: str) -> None:
        session["user"] = "ada"
        session["history"] = ["hello"]
        await answer(send, b"welcome")

    async def show(self, session: Any, receive: Any, send: Any, name: str) -> None:
        found = {key: session.get(key) for key in ("user", "history", "late", "one", "two")}
        await answer(send, json.dumps({key: value for key, value in found.items() if value is not None}).encode())

    async def nested(self, session: Any, receive: Any, send: Any, name: str) -> None:
        session["history"].append("more")
        await answer(send, b"appended")

    async def late(self, session: Any, receive: Any, send: Any, name: str) -> None:
        await send(dict(START))
        await send(dict(CHUNK))
        session["late"] = "kept"
        await send(dict(END))

    async def left(self, session: Any, receive: Any, send: Any, name: str) -> None:
        await send(dict(START))
        await send(dict(CHUNK))
        while (await receive())["type"] != "http.disconnect":
            pass
        session["late"] = "kept"

    async def tab(self, session: Any, receive: Any, send: Any, name: str) -> None:
        session.get("user")
        await self.pause(name)
        session[name] = "kept"
        await answer(send, b"done")

    async def slow(self, session: Any, receive: Any, send: Any, name: str) -> None:
        """Know the user, think, and only then answer."""
        session.get("user")
        await self.pause("slow")
        session["late"] = "kept"
        await answer(send, b"done")

    async def streamed(self, session: Any, receive: Any, send: Any, name: str) -> None:
        """Answer at once and think while the answer streams."""
        session.get("user")
        await send(dict(START))
        await send(dict(CHUNK))
        await self.pause("streamed")
        session["late"] = "kept"
        await send(dict(END))

    async def begin(self, session: Any, receive: Any, send: Any, name: str) -> None:
        """Accept a websocket that begins a session."""
        await receive()
        session["user"] = "ada"
        await send({"type": "websocket.accept", "headers": []})
        await send({"type": "websocket.close", "code": 1000})

    async def chat(self, session: Any, receive: Any, send: Any, name: str) -> None:
        """Accept a websocket, know the user, think, and write."""
        await receive()
        session.get("user")
        await send({"type": "websocket.accept", "headers": []})
        await self.pause("chat")
        session["late"] = "kept"
        await send({"type": "websocket.send", "bytes": b"written"})
        await receive()

    async def listen(self, session: Any, receive: Any, send: Any, name: str) -> None:
        """Accept a websocket and write after that, until the other side leaves."""
        await receive()
        await send({"type": "websocket.accept", "headers": []})
        session["late"] = "kept"
        await send({"type": "websocket.send", "bytes": b"written"})
        await receive()


class Visitor(Client):
    """A browser in front of a stage."""

    def __init__(self, peer: Peer) -> None:
        self.stage = Stage(peer)
        super().__init__(peer, app=self.stage)

    async def logged_in(self) -> Visitor:
        await self.get("/login")
        return self

    async def shown(self) -> dict[str, Any]:
        return json.loads(await self.get("/show"))

    async def entered(self, path: str, wire: Wire | None = None) -> asyncio.Task[Any]:
        """Begin a request and leave it at its gate; with a wire, go away after the first part that comes then."""
        task: asyncio.Task[Any] = asyncio.create_task(self.leave(path, wire) if wire else self.get(path))
        waiting = asyncio.create_task(self.stage.entered.get())
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            waiting.cancel()
            await task
        return task

    async def finish(self, task: asyncio.Task[Any], gate: str) -> None:
        self.stage.gates[gate].set()
        await task

    async def leave(self, path: str, wire: Wire) -> Wire:
        """Make a request and go away when its first part has come; what the application raises is its own affair."""
        kind = "websocket" if isinstance(wire, Socket) else "http"
        task = asyncio.create_task(self.middleware(self.scope(path, kind), wire.receive, wire.send))
        while not wire.parts and not task.done():  # noqa: ASYNC110 (the wire, which is timed elsewhere, has no event)
            await asyncio.sleep(0)
        wire.leave()
        await asyncio.wait({task})
        task.cancelled() or task.exception()
        return wire
