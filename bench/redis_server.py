"""A Redis server of the benchmark's own, and what it counts.

Rules of residence: one process on a free port in a temporary folder, ended by pid; its own figures. No peer, no clock.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from typing import Any

SECONDS = 10.0
"""How long a server may take to come up."""


def installed() -> bool:
    """Tell if there is a server to run, and redis-py to speak to it."""
    try:
        import redis  # noqa: F401
    except ImportError:
        return False
    return shutil.which("redis-server") is not None


@contextlib.contextmanager
def running() -> Iterator[str]:
    """Run a server that keeps everything in memory; gives its URL."""
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", ""]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            try:
                until_it_answers(port)
                yield f"redis://127.0.0.1:{port}/0"
            finally:
                process.kill()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def until_it_answers(port: int) -> None:
    end = time.monotonic() + SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)
        else:
            return


class Counters:
    """What the server has counted between two looks, less what looking costs.

    A message that arrives alone is one read of the server, so requests that are made one after another cost a round
    trip for each.
    """

    def __init__(self, url: str) -> None:
        from redis import Redis

        self._client = Redis.from_url(url)
        self._cost: dict[str, int] = {}
        self._last = self._look()
        self._cost = self.since()

    def since(self) -> dict[str, int]:
        """Return what was counted since the last look."""
        last, self._last = self._last, self._look()
        now = self._last
        return {key: now[key] - last.get(key, 0) - self._cost.get(key, 0) for key in now}

    def versions(self) -> dict[str, str]:
        """Name what the figures depend on beside the peers."""
        found = {"redis-server": str(self._client.info("server")["redis_version"])}  # type: ignore[index]
        for package in ("redis", "hiredis"):
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                found[package] = importlib.metadata.version(package)
        return found

    def close(self) -> None:
        self._client.close()

    def _look(self) -> dict[str, int]:
        info: dict[str, Any] = self._client.info("all")  # type: ignore[assignment]
        ran = {key.removeprefix("cmdstat_"): value["calls"] for key, value in info.items() if key[:8] == "cmdstat_"}
        return {
            **ran,
            "trips": info["total_reads_processed"],
            "sent": info["total_net_input_bytes"],
            "changes": info["rdb_changes_since_last_save"],
        }
