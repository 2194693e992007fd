"""Instructions that a request takes, counted by callgrind: the same from run to run, whatever else the machine does.

Rules of residence: both sides of the counting. `measure` starts this module again under valgrind, which counts from one
call of a function of the C library to the next; there it runs requests between two such calls. What is asked of a peer
is in counted.py. The figures depend on the interpreter and how it was compiled.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.app import BrokenPeerError
from bench.counted import REQUESTS, Counted
from bench.peers import PEERS, Peer

ROOT = Path(__file__).parents[1]
COUNTED = ("bare", "floor", "fastersession", "starlette")
"""The peers that find their session in the scope and add no framework of their own."""
WARM, NUMBER = 40, 60
MARK = "getpgrp"
"""A function that neither Python nor a peer calls by itself: a call of it makes callgrind write what it has counted."""
TOTAL = re.compile(r"^(?:summary|totals): (\d+)", re.MULTILINE)

Pair = tuple[str, str]
"""The keys of a peer and of a request."""


def measure(peers: Sequence[Peer], options: Any, tell: Callable[[str], None]) -> dict[str, Any]:
    """Count every request, with those of the peers that can be counted."""
    tell("instructions, 20 seconds")
    keys = [peer.key for peer in peers if peer.key in COUNTED]
    return summary(counts(pairs(keys, list(REQUESTS)), NUMBER))


def pairs(peers: Sequence[str], requests: Sequence[str]) -> list[Pair]:
    return [(peer, key) for peer in peers for key in requests if REQUESTS[key].kind not in PEERS[peer].lacks]


def counts(wanted: Sequence[Pair], number: int) -> dict[Pair, float]:
    """Return the instructions of one request of each pair, the application's included."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        command = [tool(), "--tool=callgrind", f"--dump-before={MARK}", f"--callgrind-out-file={out}"]
        command += [sys.executable, "-m", "bench.instructions", json.dumps(wanted), str(number)]
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BrokenPeerError(f"what valgrind ran has failed: {done.stderr[-2000:]}")
        return dict(zip(wanted, [total / number for total in between(out, len(wanted))], strict=True))


def between(out: Path, number: int) -> list[int]:
    """Return what was counted from each odd call of the mark to the even one after it."""
    if len(list(out.parent.glob(f"{out.name}.*"))) != 2 * number:
        raise BrokenPeerError(f"callgrind has not seen two calls of {MARK} for each of {number} counts")
    texts = [out.with_suffix(f".{2 * n + 2}").read_text() for n in range(number)]
    return [int(TOTAL.findall(text)[-1]) for text in texts]


def tool() -> str:
    if found := shutil.which("valgrind"):
        return found
    raise SystemExit("the instructions part needs valgrind: apt-get install valgrind (or the package of your system)")


def summary(found: dict[Pair, float]) -> dict[str, Any]:
    """Return for each request what the bare app takes, and what each peer adds to that."""
    cases: dict[str, Any] = {key: {"peers": {}} for _, key in found}
    for (peer, key), value in found.items():
        if peer == "bare":
            cases[key]["bare"] = value
        else:
            cases[key]["peers"][peer] = value - found["bare", key]
    return cases


async def run(wanted: Sequence[Pair], number: int) -> None:
    for peer, key in wanted:
        await marked(PEERS[peer], key, number)


async def marked(peer: Peer, key: str, number: int) -> None:
    """Warm up, run requests between two calls of the mark, without the collector, and prove what they were."""
    client = Counted(peer)
    await client.begin()
    await requests(client, key, WARM, lambda: None)
    gc.collect()
    gc.disable()
    await requests(client, key, number, os.getpgrp)
    gc.enable()
    await client.prove(key)


async def requests(client: Counted, key: str, number: int, mark: Callable[[], object]) -> None:
    """Make requests, prepared beforehand, between two calls of `mark`."""
    jobs = [(scope, wire.receive) for scope, wire in (client.ready(key) for _ in range(number))]
    middleware = client.middleware
    mark()
    for scope, receive in jobs:
        await middleware(scope, receive, forgotten)
    mark()


async def forgotten(message: dict[str, Any]) -> None:
    """Keep nothing of an answer: what is kept takes memory, and so instructions, at another place."""


if __name__ == "__main__":
    asyncio.run(run(json.loads(sys.argv[1]), int(sys.argv[2])))
