"""Yes or no: what becomes of a session in situations that are not about speed, asked by running each peer.

Rules of residence: one probe per fact, all through the same client and the same application; a probe sees what a
browser would see, and what the peer keeps on the server. A probe that ends in an error, or does not end, is a "no".
A control comes first: a peer that does not even keep an attribute from one request to the next is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import warnings
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from bench.app import BrokenPeerError, answer
from bench.client import Client, Socket, Wire
from bench.peers import Peer

DEADLINE = 5.0
"""Seconds for a probe; only one that hangs takes them."""

GARBAGE = (b"garbage", b"", b"\xff\xfe\x00", b'"', b"null", b"a" * 8000, b"a[x]=1", b"e30=.e30=", b"../../etc/passwd")
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

    async def entered(self, path: str) -> asyncio.Task[bytes]:
        """Begin a request and leave it at its gate."""
        task = asyncio.create_task(self.get(path))
        waiting = asyncio.create_task(self.stage.entered.get())
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            waiting.cancel()
            await task
        return task

    async def finish(self, task: asyncio.Task[bytes], gate: str) -> None:
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


async def after_start(peer: Peer) -> bool:
    visitor = await Visitor(peer).logged_in()
    await visitor.get("/late")
    return (await visitor.shown()).get("late") == "kept"


async def after_disconnect(peer: Peer) -> bool:
    visitor = await Visitor(peer).logged_in()
    visitor.keep(await visitor.leave("/left", Wire()))
    return (await visitor.shown()).get("late") == "kept"


async def nested(peer: Peer) -> bool:
    visitor = await Visitor(peer).logged_in()
    await visitor.get("/nested")
    return (await visitor.shown())["history"] == ["hello", "more"]


async def two_tabs(peer: Peer) -> bool:
    """Both requests have read the session before either writes an attribute of its own."""
    visitor = await Visitor(peer).logged_in()
    tabs = {name: await visitor.entered(f"/tab/{name}") for name in ("one", "two")}
    for name, task in tabs.items():
        await visitor.finish(task, name)
    found = await visitor.shown()
    return found.get("one") == found.get("two") == "kept"


async def logout_during(peer: Peer, scene: str) -> bool:
    visitor = await Visitor(peer).logged_in()
    task = await visitor.entered(f"/{scene}")
    await visitor.get("/logout")
    if await visitor.shown():
        raise BrokenPeerError(f"{peer.key}: logged out, and still there")
    with contextlib.suppress(BrokenPeerError):  # an error for an answer is as good as any
        await visitor.finish(task, scene)
    return not await visitor.shown()


async def logout_during_stream(peer: Peer) -> bool:
    return await logout_during(peer, "streamed")


async def logout_before_start(peer: Peer) -> bool:
    return await logout_during(peer, "slow")


async def websocket_cookie(peer: Peer) -> bool:
    visitor = Visitor(peer)
    await visitor.get("/begin", "websocket")
    return (await visitor.shown()).get("user") == "ada"


async def websocket_save(peer: Peer) -> bool:
    visitor = await Visitor(peer).logged_in()
    visitor.keep(await visitor.leave("/listen", Socket()))
    return (await visitor.shown()).get("late") == "kept"


async def anonymous(peer: Peer) -> bool:
    visitor = await Visitor(peer).logged_in()
    records, visitor.cookie, visitor.cookies_set = len(visitor.sessions), None, 0
    return not await visitor.shown() and not visitor.cookies_set and len(visitor.sessions) == records


async def garbage(peer: Peer) -> bool:
    visitor = await Visitor(peer).logged_in()
    for cookie in GARBAGE:
        visitor.cookie = cookie
        if await visitor.shown():
            return False
    return True


FACTS: dict[str, tuple[str, Callable[[Peer], Awaitable[bool]]]] = {
    "start": ("a change made after the headers left is kept", after_start),
    "disconnect": ("a change made after the reader left is kept", after_disconnect),
    "nested": ("a change inside a nested value is kept", nested),
    "tabs": ("two tabs write different attributes: both are kept", two_tabs),
    "logout-stream": ("logout while an answer streams: nothing comes back", logout_during_stream),
    "logout-slow": ("logout before an answer starts: nothing comes back", logout_before_start),
    "ws-cookie": ("a session begun on a websocket gets its cookie", websocket_cookie),
    "ws-save": ("a change made on an open websocket is kept", websocket_save),
    "anonymous": ("a visitor who only reads: no cookie, no record", anonymous),
    "garbage": ("a garbage cookie is answered as if there were none", garbage),
}


async def control(peer: Peer) -> None:
    """Refuse a peer, or an adapter, with which nothing works: its every "no" would say nothing."""
    visitor = await Visitor(peer).logged_in()
    if await visitor.shown() != {"user": "ada", "history": ["hello"]}:
        raise BrokenPeerError(f"{peer.key} does not keep a session from one request to the next")
    await visitor.get("/logout")
    if await visitor.shown():
        raise BrokenPeerError(f"{peer.key} does not log out")


async def fact(peer: Peer, probe: Callable[[Peer], Awaitable[bool]]) -> bool:
    try:
        return await asyncio.wait_for(probe(peer), DEADLINE)
    except Exception:  # whatever a peer raises is its answer
        return False


async def facts(peer: Peer) -> dict[str, bool]:
    await control(peer)
    return {key: await fact(peer, probe) for key, (_, probe) in FACTS.items()}


def measure(peers: Sequence[Peer], options: Any, tell: Callable[[str], None]) -> dict[str, Any]:
    """Ask every peer that has sessions."""
    tell("truth")
    logging.disable()
    try:
        with warnings.catch_warnings(action="ignore"):
            return {peer.key: asyncio.run(facts(peer)) for peer in peers if not peer.bare}
    finally:
        logging.disable(logging.NOTSET)
