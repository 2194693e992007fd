"""Calls that a request makes within the package, and how often they lead into another file.

Rules of residence: one warm request on each store, watched on the event loop's thread; what a store's own threads do is
not counted. A call is a function entered, a coroutine resumed, or a comprehension where the interpreter enters it as a
function (CPython 3.11 does); a change of file is a call in another file than that of the call before it.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

import fastersession
from bench.adapters import SECRET
from bench.checks import OURS
from bench.counted import Counted
from bench.peers import PEERS, Peer
from fastersession import FasterSessionMiddleware, MemoryStore
from fastersession.stores.sqlite import SQLiteStore

PACKAGE = Path(fastersession.__file__).parent
REQUESTS = ("read", "write")
WARM = 20


class Entered:
    """A profile function that lists the calls of functions whose files lie in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = f"{folder}/"
        self.calls: list[tuple[str, str]] = []
        """File and function of each."""

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(self.folder):
            self.calls.append((code.co_filename.removeprefix(self.folder), code.co_qualname))


async def entered(client: Counted, key: str) -> list[tuple[str, str]]:
    """Return the calls of one warm request, in their order."""
    await client.warm(key, WARM)
    (scope, wire), found = client.ready(key), Entered(PACKAGE)
    before = sys.getprofile()
    gc.collect()
    gc.disable()  # the finalizer of a store that was left elsewhere is no call of this request
    sys.setprofile(found)
    try:
        await client.middleware(scope, wire.receive, wire.send)
    finally:
        sys.setprofile(before)
        gc.enable()
    client.keep(wire)
    return found.calls


def summary(calls: Sequence[tuple[str, str]]) -> dict[str, Any]:
    files = [file for file, _ in calls]
    changes = sum(one != other for one, other in pairwise(files))
    return {
        "calls": len(calls),
        "changes": changes,
        "files": len(set(files)),
        "trace": [f"{file}: {function}" for file, function in calls],
    }


def on(store: Any) -> Peer:
    """Return our peer with a store of its own."""
    return replace(PEERS[OURS], wrap=lambda app, clock: (FasterSessionMiddleware(app, SECRET, store=store), ()))


async def counts(store: Any) -> dict[str, Any]:
    client = Counted(on(store))
    try:
        await client.begin()
        return {key: summary(await entered(client, key)) for key in REQUESTS}
    finally:
        await store.close()


def measure(peers: Sequence[Peer], options: Any, tell: Callable[[str], None]) -> dict[str, Any]:
    """Count on a live store and on one of bytes, whatever peers and cases are asked for; keep traces if asked to."""
    tell("calls")
    with tempfile.TemporaryDirectory() as folder:
        stores = MemoryStore(), SQLiteStore(Path(folder) / "sessions.db")
        found = {type(store).__name__: asyncio.run(counts(store)) for store in stores}
    for request in (request for requests in found.values() for request in requests.values() if not options.trace):
        del request["trace"]
    return found
