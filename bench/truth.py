"""Yes or no: what becomes of a session in situations that are not about speed, asked by running each peer.

Rules of residence: one probe per fact, all through the same client and the same application; a probe sees what a
browser would see, and what the peer keeps on the server. A probe that ends in an error, or does not end, is a "no".
A control comes first: a peer that does not even keep an attribute from one request to the next is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import warnings
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from bench.app import BrokenPeerError
from bench.client import Socket, Wire
from bench.peers import Peer
from bench.stage import Visitor

DEADLINE = 5.0
"""Seconds for a probe; only one that hangs takes them."""

GARBAGE = (b"garbage", b"", b"\xff\xfe", b'"', b"null", b"a" * 8000, b"a[x]=1", b"e30=.e30=", b"../../etc/passwd")
"""No control characters: `http.cookies` with the fix of CVE-2026-0672 raises at them, so the answer of whoever parses
with it would be that of his Python's patch level."""


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
