"""`python -m bench.tokens PORT CLIENTS SPREAD PID`: many readers of a token stream at once, timed; JSON on stdout.

Rules of residence: the client's process, with a connection for each reader, raw HTTP/1.1 and nothing that costs more
than it must. Every reader has a session of its own, and proves afterwards that its one stream counted once.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from bench.serve import TOKEN, TOKENS

LAST = b"0\r\n\r\n"
HEADERS_END = b"\r\n\r\n"


class Reader(asyncio.Protocol):
    """One connection, one cookie."""

    def __init__(self) -> None:
        self.cookie = b""
        self.begun = self.first = self.ended = 0.0
        self.data = bytearray()
        self.chunked = False
        self.done: asyncio.Future[bytes]

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def get(self, path: str, *, chunked: bool = False) -> asyncio.Future[bytes]:
        self.done, self.chunked, self.first = asyncio.get_running_loop().create_future(), chunked, 0.0
        self.data.clear()
        cookie = b"Cookie: " + self.cookie + b"\r\n" if self.cookie else b""
        self.begun = time.perf_counter()
        self.transport.write(b"GET " + path.encode() + b" HTTP/1.1\r\nHost: localhost\r\n" + cookie + b"\r\n")
        return self.done

    def data_received(self, data: bytes) -> None:
        self.first = self.first or time.perf_counter()
        self.data += data
        if self.data.endswith(LAST) if self.chunked else self.whole():
            self.ended = time.perf_counter()
            head, _, body = bytes(self.data).partition(HEADERS_END)
            self.keep(head)
            self.done.set_result(body)

    def whole(self) -> bool:
        head, _, body = self.data.partition(HEADERS_END)
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        return bool(length) and len(body) == int(length)

    def keep(self, head: bytes) -> None:
        assert head.startswith(b"HTTP/1.1 200"), head
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"set-cookie":
                self.cookie = value.partition(b";")[0].strip()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error or ConnectionResetError())


def cpu_of(pid: int) -> float:
    """Return the CPU seconds of another process, to the ns: what `clock_getcpuclockid(3)` gives."""
    return time.clock_gettime(~pid << 3 | 2)


async def read(reader: Reader, delay: float) -> None:
    await asyncio.sleep(delay)
    body = await reader.get("/tokens", chunked=True)
    assert body.count(TOKEN) == TOKENS, f"{body.count(TOKEN)} tokens"


async def main(port: int, clients: int, spread: float, pid: int) -> dict[str, Any]:
    """Begin all streams within `spread` seconds; return seconds of each and the server's CPU for one."""
    loop = asyncio.get_running_loop()
    readers = [(await loop.create_connection(Reader, "127.0.0.1", port))[1] for _ in range(clients)]
    for reader in readers:
        await reader.get("/new")
    before = cpu_of(pid)
    async with asyncio.TaskGroup() as group:
        for number, reader in enumerate(readers):
            group.create_task(read(reader, number * spread / clients))
    cpu = cpu_of(pid) - before
    times = [(reader.first - reader.begun, reader.ended - reader.begun) for reader in readers]
    counted = [int(await reader.get("/number")) for reader in readers]
    for reader in readers:
        reader.transport.close()
    return {"cpu": cpu / clients, "first": [a for a, _ in times], "total": [b for _, b in times], "counted": counted}


def run(arguments: Sequence[str]) -> None:
    import uvloop

    port, clients, spread, pid = arguments
    print(json.dumps(uvloop.run(main(int(port), int(clients), float(spread), int(pid)))))


if __name__ == "__main__":
    run(sys.argv[1:])
