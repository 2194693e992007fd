"""Where the cost of a request lies: the bytecodes that each function runs, and what the pieces cost, each alone.

Rules of residence: the floor and our middleware, taken apart. Bytecodes are counted and the same in every run; pieces
are timed in a row, so they are cheaper here than within a request, where the caches are cold.
"""

from __future__ import annotations

import asyncio
import sys
import timeit
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import fastersession
from bench import floor
from bench.cases import CASES
from bench.checks import OURS
from bench.client import WIRES, Client
from bench.peers import PEERS, Peer
from fastersession.asgi.exchange import Exchange
from fastersession.crypto.tokens import draw
from fastersession.session import Session, give_state

CASES_TAKEN_APART = ("none", "read", "write", "new")
WARM, REPEATS, NUMBER = 50, 20, 2000
FILES = {"floor": floor.__file__, OURS: str(Path(fastersession.__file__).parent)}
"""Where the code of each begins."""


class Counted:
    """A trace function that counts the bytecodes of the functions whose files begin with a path."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.functions: Counter[str] = Counter()

    def __call__(self, frame: FrameType, event: str, argument: object) -> Counted:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode" and frame.f_code.co_filename.startswith(self.path):
            self.functions[frame.f_code.co_qualname] += 1
        return self


async def taken_apart(peer: Peer, key: str, path: str) -> dict[str, int]:
    """Return the bytecodes of one warm request in the files of a path, by function."""
    client, case = Client(peer), CASES[key]
    await case.before(client)
    for _ in range(WARM):
        case.ready(client)
        client.keep((await client.timed(case.path, case.kind))[1])
    case.ready(client)
    wire, counted = WIRES[case.kind](), Counted(path)
    request = client.middleware(client.scope(case.path, case.kind), wire.receive, wire.send)
    before = sys.gettrace()
    sys.settrace(counted)
    try:
        await request
    finally:
        sys.settrace(before)
    client.keep(wire)
    return dict(counted.functions.most_common())


def pieces() -> dict[str, Callable[[], Any]]:
    """Return what a request is made of, each to be timed alone."""
    client = Client(PEERS[OURS])
    asyncio.run(CASES["read"].before(client))
    find, terms, scope = client.middleware._find, client.middleware._terms, client.scope("/read")
    (token,) = find(scope["headers"])
    keys, table = client.middleware._loader._keys, client.middleware._engine.calls.live
    ticket = keys.unsign(token)
    record = table.load(ticket.record_id)

    def entries() -> None:
        copy = scope.copy()
        copy["session"] = copy["fastersession.applied"] = None

    def state() -> None:
        known: dict[str, Any] = {}
        known["session"] = record
        known.pop("session", None)

    def empty() -> None:
        exchange = Exchange()
        exchange.opened(terms)
        give_state(Session(), exchange)

    def create() -> None:
        record_id, secret = draw()
        fields = secret, record.created_at, 43200.0, record.not_after, record.attributes
        table.create(record_id, table.record_type(*fields))

    return {
        "the scope copied, two entries added": entries,
        "the manager put into the state and taken out": state,
        "an empty session made": empty,
        "the cookie found": lambda: find(scope["headers"]),
        "the token checked": lambda: keys.unsign_pair(token),
        "of that, the HMAC": lambda: hmac(keys, token),
        "the record loaded": lambda: table.load(ticket.record_id),
        "a random id and secret drawn": draw,
        "a record created, its id drawn": create,
        "a token signed": lambda: keys.sign(ticket),
    }


def hmac(keys: Any, token: bytes) -> None:
    mac = keys._first.copy()
    mac.update(token[:34])
    mac.finalize()


def measure(peers: Sequence[Peer], options: Any, tell: Callable[[str], None]) -> dict[str, Any]:
    """Take the cases apart, whatever peers and cases are asked for."""
    tell("the profile")
    found = {
        peer: {key: asyncio.run(taken_apart(PEERS[peer], key, path)) for key in CASES_TAKEN_APART}
        for peer, path in FILES.items()
    }
    nothing = least(lambda: None)
    return {"bytecodes": found, "pieces": {name: least(piece) - nothing for name, piece in pieces().items()}}


def least(piece: Callable[[], Any]) -> float:
    """Return the ns of a piece in its best run."""
    return min(timeit.repeat(piece, number=NUMBER, repeat=REPEATS)) / NUMBER * 1e9
