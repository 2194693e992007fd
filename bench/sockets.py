"""Requests per second and token streams through a real server, with the server on one core and the client on another.

Rules of residence: starts a fresh server for every peer in every round, and stops it; serve.py serves, `wrk` asks for
short answers and tokens.py for streams. Counts on both sides before it believes a figure.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from bench.app import BrokenPeerError
from bench.inprocess import ratio
from bench.peers import Peer
from bench.tokens import cpu_of

ROUNDS, SECONDS = 5, 2.0
CONNECTIONS = 32
SESSIONS = 256
"""Asked in turn, so that of the requests in flight no two have the same session: none waits for another's save."""
CLIENTS = (20, 500)
SPREAD = 1.0
"""Seconds over which the readers arrive."""
WARM = 0.3
DEADLINE = 30.0
SHORT = {"none": ("no cookie", "/hello"), "read": ("read one key", "/read"), "write": ("write one key", "/write")}
AGAINST = ("bare", "floor")
HERE = Path(__file__).parent

Figures = dict[str, float]


def tool() -> str:
    """Find `wrk`, or install it where that is possible."""
    if not shutil.which("wrk") and shutil.which("apt-get") and os.geteuid() == 0:
        subprocess.run(["apt-get", "install", "-y", "-qq", "wrk"], check=False, stdout=subprocess.DEVNULL)
    if found := shutil.which("wrk"):
        return found
    raise SystemExit("the sockets part needs wrk: apt-get install wrk (or the package of your system)")


def on_core(number: int) -> list[str]:
    """Return the prefix of a command that stays on one core, empty where that cannot be."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return ["taskset", "-c", str(cores[number])] if len(cores) > 1 and shutil.which("taskset") else []


class Server:
    def __init__(self, key: str, port: int, process: subprocess.Popen[bytes]) -> None:
        self.key, self.port, self.process = key, port, process

    def get(self, path: str, cookie: str = "") -> tuple[str, str]:
        """Return the body, and the cookie that was set or the one that was sent."""
        headers = {"Cookie": cookie} if cookie else {}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers=headers)
        with urllib.request.urlopen(request, timeout=DEADLINE) as response:
            given = response.headers.get("set-cookie", cookie).partition(";")[0]
            return response.read().decode(), given

    def answered(self, path: str) -> int:
        return ast.literal_eval(self.get("/answered")[0]).get(path, 0)

    def settled(self, path: str) -> int:
        """Return how many requests were answered, when the last of those that wrk abandoned have been."""
        before, now = -1, self.answered(path)
        while now != before:
            time.sleep(0.05)
            before, now = now, self.answered(path)
        return now

    def ready(self) -> bool:
        if self.process.poll() is not None:
            raise BrokenPeerError(f"{self.key}: the server ended with {self.process.returncode}")
        with contextlib.suppress(OSError):
            return self.get("/hello")[0] == "hello"
        return False


@contextlib.contextmanager
def serving(peer: Peer) -> Iterator[Server]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [*on_core(0), sys.executable, "-m", "bench.serve", peer.key, str(port)]
    process = subprocess.Popen(command, cwd=HERE.parent)
    server, end = Server(peer.key, port, process), time.monotonic() + DEADLINE
    try:
        while not server.ready():
            if time.monotonic() > end:
                raise BrokenPeerError(f"{peer.key}: no answer within {DEADLINE} s")
            time.sleep(0.05)
        yield server
    finally:
        process.terminate()
        process.wait(DEADLINE)


def wrk(server: Server, path: str, cookies: Sequence[str], seconds: float) -> dict[str, Any]:
    """Ask for one path with each of the cookies in turn."""
    head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n"
    requests = [head + (f"Cookie: {cookie}\r\n\r\n" if cookie else "\r\n") for cookie in cookies]
    with NamedTemporaryFile("w", newline="", suffix=".requests") as file:
        file.write("".join(f"{request}\n-\n" for request in requests))
        file.flush()
        url = f"http://127.0.0.1:{server.port}"
        options = ["-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", "-s", str(HERE / "wrk.lua"), url]
        command = [*on_core(1), tool(), *options, "--", file.name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def asked(server: Server, path: str, cookies: Sequence[str], seconds: float) -> Figures:
    """Time one path, and hold what wrk counted against what the application counted."""
    before, cpu = server.settled(path), cpu_of(server.process.pid)
    found = wrk(server, path, cookies, seconds)
    answered = server.settled(path) - before
    cpu = cpu_of(server.process.pid) - cpu
    if found["errors"] or not found["requests"] <= answered <= found["requests"] + CONNECTIONS:
        raise BrokenPeerError(f"{server.key}, {path}: {answered} answered by the application, wrk says {found}")
    return {
        "rps": found["requests"] / found["microseconds"] * 1e6,
        "cpu": cpu / answered * 1e6,
        "p50": found["p50"] / 1000,
        "p99": found["p99"] / 1000,
    }


def short(peer: Peer, case: str, seconds: float) -> Figures:
    """Time a case on a fresh server, and have it proven: sessions are found again, and count what was answered."""
    with serving(peer) as server:
        _, path = SHORT[case]
        cookies = [""] if case == "none" else [server.get("/new")[1] for _ in range(SESSIONS)]
        users = [server.get("/read", cookie)[0] for cookie in cookies if cookie]
        if not peer.bare and users != [f"u{n + 1}" for n in range(len(users))]:
            raise BrokenPeerError(f"{peer.key}: {users[:3]} … are not whom it was told")
        wrk(server, path, cookies, WARM)
        figures = asked(server, path, cookies, seconds)
        if peer.stores and case != "none":
            counted = sum(int(server.get("/number", cookie)[0]) - 1 for cookie in cookies)
            written = server.answered("/write")
            # What wrk abandons at its end may be dropped: twice, for it ran twice.
            if not written - 2 * CONNECTIONS <= counted <= written:
                raise BrokenPeerError(f"{peer.key}: {counted} counted, {written} written")
        return figures


def stream(peer: Peer, clients: int, spread: float) -> Figures:
    with serving(peer) as server:
        arguments = [str(server.port), str(clients), str(spread), str(server.process.pid)]
        command = [*on_core(1), sys.executable, "-m", "bench.tokens", *arguments]
        done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BrokenPeerError(f"{peer.key}, {clients} readers: {done.stderr}")
    found = json.loads(done.stdout)
    if not peer.bare and found["counted"] != [2] * clients:
        raise BrokenPeerError(f"{peer.key}: streams counted {found['counted']}")
    first, total = sorted(found["first"]), sorted(found["total"])
    return {
        "first": statistics.median(first) * 1000,
        "first_p99": percentile(first, 0.99) * 1000,
        "total": statistics.median(total) * 1000,
        "p99": percentile(total, 0.99) * 1000,
        "cpu": found["cpu"] * 1e6,
    }


def percentile(values: Sequence[float], share: float) -> float:
    """Return a percentile of sorted values."""
    return values[min(len(values) - 1, int(len(values) * share))]


def measure(peers: Sequence[Peer], options: Any, tell: Callable[[str], None]) -> dict[str, Any]:
    tool()
    return compare(peers, options.rounds or ROUNDS, options.seconds or SECONDS, CLIENTS, tell)


def compare(
    peers: Sequence[Peer], rounds: int, seconds: float, clients: Sequence[int], tell: Callable[[str], None]
) -> dict[str, Any]:
    """Run all rounds, every round with all jobs and all peers in random order."""
    jobs: dict[tuple[str, Any], Callable[[Peer], Figures]] = {
        **{("short", case): lambda peer, case=case: short(peer, case, seconds) for case in SHORT},
        **{("streams", count): lambda peer, count=count: stream(peer, count, SPREAD) for count in clients},
    }
    able = {job: [p for p in peers if job[0] == "short" or "tokens" not in p.lacks] for job in jobs}
    samples: dict[tuple[str, Any], dict[str, list[Figures]]] = {job: {p.key: [] for p in able[job]} for job in jobs}
    for number in range(rounds):
        for job in random.sample(list(jobs), len(jobs)):
            tell(f"sockets, round {number + 1} of {rounds}, {job[0]} {job[1]}")
            for peer in random.sample(able[job], len(able[job])):
                samples[job][peer.key].append(jobs[job](peer))
    results: dict[str, Any] = {"short": {}, "streams": {}}
    for (kind, name), found in samples.items():
        results[kind][str(name)] = {peer.key: summary(peer, found) if peer.key in found else None for peer in peers}
    return results


def summary(peer: Peer, found: Mapping[str, list[Figures]]) -> dict[str, Any]:
    """Reduce rounds: medians, the best round, and medians of the ratios within rounds."""
    own = found[peer.key]
    names = {"base": peer.over, **{to: to for to in AGAINST}}
    return {
        **{figure: statistics.median(one[figure] for one in own) for figure in own[0]},
        "best": {figure: (max if figure == "rps" else min)(one[figure] for one in own) for figure in own[0]},
        "ratio": {
            label: {
                figure: ratio([one[figure] for one in own], [one[figure] for one in found[to]]) for figure in own[0]
            }
            for label, to in names.items()
            if to in found
        },
    }
