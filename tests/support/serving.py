"""Real ASGI servers as processes: started on a free port, awaited, stopped, and never left behind.

Rules of residence: knows command lines, signals and sockets; knows nothing of sessions. What a process serves is named
as `module:attribute` and imported from `tests/support`. Waits are on conditions, each with a deadline.

    with serve("uvicorn-h11", "server_apps:app", {"RECORD": str(path)}) as server:
        with server.client() as client:
            client.get("/")
        assert server.terminate() == 0
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import httpx
from paths import ROOT, SUPPORT

DEADLINE = 30  # seconds for a process to answer or to end; only a failing test reaches it

UVICORN = "uvicorn {app} --host 127.0.0.1 --port {port} --timeout-graceful-shutdown 1 --lifespan on"
HYPERCORN = "hypercorn {app} --bind 127.0.0.1:{port} --graceful-timeout 1"
GRANIAN = "granian {app} --interface asgi --host 127.0.0.1 --port {port}"
DAPHNE = "daphne {app} --bind 127.0.0.1 --port {port}"


@dataclass(frozen=True)
class Kind:
    """One row of the matrix: how the server is started, and which HTTP its clients speak to it."""

    command: str
    http2: bool = False

    def argv(self, python: str, app: str, port: int) -> list[str]:
        return [python, "-m", *self.command.format(app=app, port=port).split()]


KINDS = {
    "uvicorn-h11": Kind(UVICORN + " --http h11 --loop asyncio"),
    "uvicorn-httptools": Kind(UVICORN + " --http httptools"),
    "hypercorn-h1": Kind(HYPERCORN),
    "hypercorn-h2": Kind(HYPERCORN, http2=True),
    "hypercorn-trio": Kind(HYPERCORN + " -k trio"),
    "granian-h1": Kind(GRANIAN + " --http 1"),
    "granian-h2": Kind(GRANIAN + " --http 2", http2=True),
    "daphne": Kind(DAPHNE),
}


def until(condition: Callable[[], Any], what: str, deadline: float = DEADLINE) -> Any:
    """Ask until the answer is true, and return it; past the deadline this is an error that says what was awaited."""
    end = time.monotonic() + deadline
    while not (answer := condition()):
        assert time.monotonic() < end, f"waited {deadline} s for {what}"
        time.sleep(0.02)
    return answer


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A running server process and all that it printed."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: IO[bytes], *, http2: bool) -> None:
        self.process, self.port, self.log, self.http2 = process, port, log, http2

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def output(self) -> str:
        """What the process printed so far, both streams."""
        return Path(self.log.name).read_text(errors="replace")

    def client(self, **options: Any) -> httpx.Client:
        """Make a browser: cookies kept, connections reused, HTTP/2 by prior knowledge where the kind speaks it."""
        options = {"timeout": DEADLINE, **options}
        return httpx.Client(base_url=self.url, http1=not self.http2, http2=self.http2, **options)

    def answers(self, path: str) -> bool:
        """Whether a request gets any answer; a process that ended can no longer give one."""
        assert self.process.poll() is None, f"the server ended with {self.process.returncode}:\n{self.output}"
        with contextlib.suppress(httpx.TransportError), self.client() as client:
            client.get(path)
            return True
        return False

    def terminate(self) -> int:
        """Send SIGTERM and wait for the end, as a process manager does; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the server ignored SIGTERM for {DEADLINE} s:\n{self.output}") from None

    def kill(self) -> None:
        """End the process and whatever it started: it leads a group of its own."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(DEADLINE)


@contextlib.contextmanager
def launch(
    argv: list[str],
    port: int,
    env: dict[str, str] | None = None,
    *,
    http2: bool = False,
    ready: str = "/ready",
    patience: float = DEADLINE,
) -> Iterator[Server]:
    """Start any server command, wait until `ready` is answered, stop it at the end; a failure shows its output."""
    path = os.pathsep.join([str(SUPPORT), str(ROOT)])
    environment = os.environ | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"} | (env or {})
    with tempfile.NamedTemporaryFile(prefix="server-", suffix=".log") as log:
        process = subprocess.Popen(
            argv, cwd=SUPPORT, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        server = Server(process, port, log, http2=http2)
        try:
            until(lambda: server.answers(ready), f"{argv[2]} to answer {ready}", patience)
            yield server
        except BaseException as error:
            error.add_note(f"--- output of {' '.join(argv[1:4])} ---\n{server.output}")
            raise
        finally:
            server.kill()


@contextlib.contextmanager
def serve(kind: str, app: str, env: dict[str, str] | None = None) -> Iterator[Server]:
    """Start `app` on one of `KINDS` with this interpreter."""
    port = free_port()
    with launch(KINDS[kind].argv(sys.executable, app, port), port, env, http2=KINDS[kind].http2) as server:
        yield server


class RefusedError(AssertionError):
    """An answer that is no 200. `status`: what it is."""

    def __init__(self, head: list[str]) -> None:
        super().__init__(head)
        self.status = int(head[0].split()[1])


class Wire:
    """A keep-alive HTTP/1.1 connection, as lean as a load test needs: every answer must be a 200."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    @property
    def is_open(self) -> bool:
        """Tell if the next request goes over the connection of the last one."""
        return self.streams is not None and not self.streams[0].at_eof()

    async def ask(self, target: str, cookie: str = "") -> dict[str, str]:
        """Send a request and return the headers, names lowered; connects anew where the server closed at the last."""
        if not self.is_open:
            await self.aclose()
            self.streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self.streams
        line = f"Cookie: {cookie}\r\n" if cookie else ""
        writer.write(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n{line}\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        if not head[0].startswith("HTTP/1.1 200"):
            raise RefusedError(head)
        return {name.lower(): value.strip() for name, _, value in (row.partition(":") for row in head[1:])}

    async def get(self, target: str, cookie: str = "") -> tuple[dict[str, str], bytes]:
        """Return the headers and the body of an answer that has a content-length."""
        headers = await self.ask(target, cookie)
        body = await self.streams[0].readexactly(int(headers["content-length"]))
        if headers.get("connection") == "close":  # hypercorn, after 1,000 requests
            await self.aclose()
        return headers, body

    async def chunks(self) -> AsyncIterator[bytes]:
        """Give the chunks of a chunked answer as they come; it is complete when they end."""
        reader = self.streams[0]
        while size := int(await reader.readuntil(b"\r\n"), 16):
            yield (await reader.readexactly(size + 2))[:-2]
        await reader.readuntil(b"\r\n")

    def drop(self) -> None:
        """Be gone at once, without a goodbye: who reads gets an OSError or an IncompleteReadError."""
        if self.streams is not None:
            self.streams[1].transport.abort()

    async def aclose(self) -> None:
        if self.streams is not None:
            writer, self.streams = self.streams[1], None
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
