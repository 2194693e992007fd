"""Frames that are put, and messages that come in: what stands between an application call and its run."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from driver import in_loop

from fastersession.asgi.arrivals import DISCONNECT, Arrivals
from fastersession.conversations.bridge import MOST_WAITING, Bridge
from fastersession.conversations.pump import MOST_OF_A_FRAME, TooLarge

REQUEST = {"type": "http.request", "body": b"more", "more_body": True}


class Stops:
    """Counts."""

    count = 0

    def __call__(self) -> None:
        self.count += 1


async def turns() -> None:
    """Let everything that can go on go on."""
    for _ in range(20):
        await asyncio.sleep(0)


@in_loop
async def test_who_puts_waits_for_a_run_that_is_slow() -> None:
    """At most so many bytes are between them, and none is lost."""
    bridge = Bridge(10 * MOST_WAITING, Stops())
    frames = bridge.frames()
    putting = asyncio.ensure_future(bridge.put(b"a" * (MOST_WAITING + 1)))
    await turns()
    assert not putting.done()
    assert len(await anext(frames)) == MOST_WAITING + 1
    assert await putting
    bridge.end()
    assert [frame async for frame in frames] == []


@in_loop
async def test_a_run_that_ends_first_waits_for_its_producer() -> None:
    """The producer is told once; what it still puts is dropped, and does not make it wait."""
    stops = Stops()
    bridge = Bridge(10 * MOST_WAITING, stops)
    frames = bridge.frames()
    await bridge.put("a")
    await anext(frames)
    closing = asyncio.ensure_future(frames.aclose())
    await turns()
    assert stops.count == 1
    assert not closing.done()
    for _ in range(3):
        async with asyncio.timeout(20):
            assert await bridge.put(b"a" * MOST_WAITING)
    bridge.producer_over.set()
    await closing
    assert stops.count == 1


@in_loop
@pytest.mark.parametrize("size", [MOST_OF_A_FRAME + 1, 5 * MOST_OF_A_FRAME])
async def test_what_is_too_large_fails_the_run(size: int) -> None:
    """What came before is in it, and its producer is not stopped."""
    stops = Stops()
    bridge = Bridge(4 * MOST_OF_A_FRAME, stops)
    assert await bridge.put("a")
    assert not await bridge.put(b"b" * size)
    assert bridge.is_full
    bridge.end()  # the first end counts
    frames = bridge.frames()
    assert await anext(frames) == "a"
    with pytest.raises(TooLarge):
        await anext(frames)
    assert stops.count == 0


class Receiver:
    """A server that takes one who waits for its messages, as hypercorn's queue would give each to one of two."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[Any] = asyncio.Queue()
        self.waiting = 0
        self.most = 0

    async def __call__(self) -> Any:
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        try:
            return await self.messages.get()
        finally:
            self.waiting -= 1


@in_loop
async def test_one_waits_for_the_server_at_a_time() -> None:
    """An application that waits already is let wait; when it stops to, somebody else does; it gets every message."""
    server, left = Receiver(), Stops()
    arrivals = Arrivals(server, left)
    arrivals.hides = True
    first = asyncio.ensure_future(arrivals.receive())
    await turns()
    arrivals.watch()
    await turns()
    assert server.most == 1
    server.messages.put_nowait(REQUEST)
    assert await first == REQUEST
    await turns()
    assert server.waiting == 1
    server.messages.put_nowait({**REQUEST, "body": b"last"})
    await turns()
    assert (await arrivals.receive())["body"] == b"last"
    server.messages.put_nowait(DISCONNECT)
    second = asyncio.ensure_future(arrivals.receive())
    await turns()
    assert left.count == 1
    assert not second.done()
    arrivals.answered()
    assert await second == DISCONNECT
    assert server.most == 1
    arrivals.close()


@in_loop
async def test_a_listener_that_gives_up_is_followed_by_another() -> None:
    """So that it is seen when the client leaves."""
    server, left = Receiver(), Stops()
    arrivals = Arrivals(server, left)
    listener = asyncio.ensure_future(arrivals.receive())
    await turns()
    arrivals.watch()
    listener.cancel()
    await turns()
    assert server.waiting == 1
    server.messages.put_nowait(DISCONNECT)
    await turns()
    assert left.count == 1
    arrivals.close()
