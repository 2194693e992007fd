"""Yes or no: what becomes of a session in situations that are not about speed, asked by running each peer.

Rules of residence: one probe per fact, all through the same client and the same application; a probe sees what a
browser would see, and what the peer keeps on the server. A probe that ends in an error, or does not end, is a "no".
A control comes first: a peer that does not even keep an attribute from one request to the next is refused. The probes
of users are in truth_users; who knows no users "has none".
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import warnings
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from bench import truth_users
from bench.app import BrokenPeerError
from bench.client import Socket, Wire
from bench.peers import Peer
from bench.stage import Visitor

DEADLINE = 5.0
"""Seconds for a probe; only one that hangs takes them."""
PATIENCE = 60.0
"""The same for one of users, which has many rounds, on stores that wait for a disk."""

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


async def logout_during_socket(peer: Peer) -> bool | None:
    """The browser has no cookie any more, but somebody else may have it."""
    if "websocket" in peer.lacks:
        return None
    visitor = await Visitor(peer).logged_in()
    cookie = visitor.cookie
    task = await visitor.entered("/chat", Socket())
    await visitor.get("/logout")
    await visitor.finish(task, "chat")
    without, visitor.cookie = await visitor.shown(), cookie
    return "late" not in {**without, **await visitor.shown()}


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


Probe = Callable[[Any], Awaitable[bool | None]]
OF_PEERS: dict[str, tuple[str, Probe]] = {
    "start": ("a change made after the headers left is kept", after_start),
    "disconnect": ("a change made after the reader left is kept", after_disconnect),
    "nested": ("a change inside a nested value is kept", nested),
    "tabs": ("two tabs write different attributes: both are kept", two_tabs),
    "logout-stream": ("logout while an answer streams: nothing comes back", logout_during_stream),
    "logout-slow": ("logout before an answer starts: nothing comes back", logout_before_start),
    "ws-cookie": ("a session begun on a websocket gets its cookie", websocket_cookie),
    "ws-save": ("a change made on an open websocket is kept", websocket_save),
    "logout-socket": ("logout while a websocket is open: nothing that it writes comes back", logout_during_socket),
    "anonymous": ("a visitor who only reads: no cookie, no record", anonymous),
    "garbage": ("a garbage cookie is answered as if there were none", garbage),
}
FACTS = {**OF_PEERS, **truth_users.FACTS}


async def control(peer: Peer) -> None:
    """Refuse a peer, or an adapter, with which nothing works: its every "no" would say nothing."""
    visitor = await Visitor(peer).logged_in()
    if await visitor.shown() != {"user": "ada", "history": ["hello"]}:
        raise BrokenPeerError(f"{peer.key} does not keep a session from one request to the next")
    await visitor.get("/logout")
    if await visitor.shown():
        raise BrokenPeerError(f"{peer.key} does not log out")


async def fact(subject: Any, probe: Probe, seconds: float) -> bool | None:
    try:
        return await asyncio.wait_for(probe(subject), seconds)
    except Exception:  # whatever a peer raises is its answer
        return False


async def of_users(peer: Peer, probe: Probe) -> bool | None:
    """Ask on every store of the peer that is here: one "no" is one."""
    said = [await fact(kind, probe, PATIENCE) for kind in peer.users if not kind.missing()]
    return all(said) if said else None


async def facts(peer: Peer) -> dict[str, bool | None]:
    await control(peer)
    for kind in peer.users:
        if not kind.missing():
            await truth_users.works(kind)
    found = {key: await fact(peer, probe, DEADLINE) for key, (_, probe) in OF_PEERS.items()}
    return {**found, **{key: await of_users(peer, probe) for key, (_, probe) in truth_users.FACTS.items()}}


def measure(peers: Sequence[Peer], options: Any, tell: Callable[[str], None]) -> dict[str, Any]:
    """Ask every peer that has sessions; those of users first of the usual way to know them, which must fail."""
    tell("truth")
    for lacking in {name for peer in peers for kind in peer.users for name in kind.missing()}:
        tell(f"not installed, so users are not asked for in its store: {lacking}")
    logging.disable()
    try:
        with warnings.catch_warnings(action="ignore"):
            if any(peer.users for peer in peers):
                asyncio.run(truth_users.control())
            return {peer.key: asyncio.run(facts(peer)) for peer in peers if not peer.bare}
    finally:
        logging.disable(logging.NOTSET)
