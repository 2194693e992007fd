"""A store in another process, with the same verbs: for tests of several processes that share records.

Rules of residence: both ends of a pipe; no test. The other end is this file, run as a command.

    FarStore("sqlite:////tmp/sessions.db", clock)      # a URL as `from_url` takes it; its clock is the caller's

Calls are begun there in the order in which they are made here. A call that is given up here goes on there.
"""

from __future__ import annotations

import asyncio
import itertools
import pickle
import struct
import sys
from collections.abc import Callable
from typing import Any

from fastersession.stores import from_url

HEAD = struct.Struct("<I")


async def receive(reader: asyncio.StreamReader) -> Any:
    """Return the next message, `None` at the end."""
    try:
        (size,) = HEAD.unpack(await reader.readexactly(HEAD.size))
        return pickle.loads(await reader.readexactly(size))
    except asyncio.IncompleteReadError:
        return None


def send(writer: Any, *message: Any) -> None:
    data = pickle.dumps(message)
    writer.write(HEAD.pack(len(data)) + data)


class FarStore:
    """This end."""

    def __init__(self, url: str, clock: Callable[[], float]) -> None:
        self.url, self.clock = url, clock
        self.numbers = itertools.count()
        self.waiting: dict[int, asyncio.Future[Any]] = {}

    def __getattr__(self, verb: str) -> Any:
        return lambda *arguments: self.call(verb, *arguments)

    async def open(self) -> None:
        pipe = asyncio.subprocess.PIPE
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-W", "error", __file__, self.url, stdin=pipe, stdout=pipe
        )
        self.answers = asyncio.ensure_future(self.listen())
        await self.call("open")

    async def close(self) -> None:
        await self.call("close")
        assert self.process.stdin is not None
        self.process.stdin.close()
        await self.answers
        assert await self.process.wait() == 0

    async def call(self, verb: str, *arguments: Any) -> Any:
        assert self.process.stdin is not None
        number = next(self.numbers)
        future = self.waiting[number] = asyncio.get_running_loop().create_future()
        send(self.process.stdin, number, self.clock(), verb, arguments)
        return await future

    async def listen(self) -> None:
        assert self.process.stdout is not None
        while (message := await receive(self.process.stdout)) is not None:
            number, outcome, error = message
            future = self.waiting.pop(number)
            if not future.done():
                future.set_exception(error) if error else future.set_result(outcome)


async def serve(url: str) -> None:
    """Be the other end, until the pipe ends."""
    now = 0.0
    store: Any = from_url(url, clock=lambda: now)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    writer = sys.stdout.buffer
    running: set[asyncio.Task[None]] = set()

    async def answer(number: int, verb: str, arguments: tuple[Any, ...]) -> None:
        try:
            message = number, await getattr(store, verb)(*arguments), None
        except Exception as error:
            message = number, None, error
        send(writer, *message)
        writer.flush()

    while (message := await receive(reader)) is not None:
        number, now, verb, arguments = message
        task = loop.create_task(answer(number, verb, arguments))
        running.add(task)
        task.add_done_callback(running.discard)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
