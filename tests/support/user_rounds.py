"""Rounds of logins, logouts and revocations of one user, made up at random, and how a worker plays its part.

Rules of residence: plans, and the calls of verbs. What must be true afterwards is in user_races. No server, no test.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import secrets
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from fastersession.stores.base import Change, Extra, Record, Renewal
from fastersession.stores.users import ABOUT, Login
from fastersession.testing import FakeClock

DAY = 86_400.0
SHORT = 5.0  # seconds of a session that may end while others log in
SPREAD = 0.004  # seconds within which the calls of a round begin: a few round trips
FIRST, ANONYMOUS = b"v" * 32, b"a" * 32  # verifiers of what is there before a round


@dataclass
class Call:
    """One call of a verb. Ids and tags are hexadecimal, so that a plan can be sent to another process."""

    verb: str
    record_id: str = ""
    delay: float = 0.0
    turned: bool = False  # this worker has the keys in the other order
    verifier: str | None = None
    since: float = 0.0  # when the user had authenticated, in seconds after the call
    strictly: bool = False
    life: float = DAY
    limit: int | None = None
    evicts: bool = True


@dataclass
class Said:
    """What came of a call, and when it was made."""

    call: Call
    start: float
    end: float
    outcome: str  # of a login the name of its ``Outcome``, of others what they returned
    ids: list[str] = field(default_factory=list)  # that were evicted, revoked or listed


@dataclass
class Round:
    """A user, what he has before, and what two workers do at once."""

    tags: list[str]
    limit: int | None
    evicts: bool
    before: list[Call]
    plans: tuple[list[Call], list[Call]]


# --- plans ---


def a_round(chance: random.Random, *, turns: bool, passes: bool) -> Round:
    """Make up a round. ``turns``: the workers' keys may be in another order; ``passes``: time may pass meanwhile."""
    limit = chance.choice([None, None, 1, 2, 3])
    policy: Any = {"limit": limit, "evicts": chance.random() < 0.6}
    there = [new_id() for _ in range(chance.randrange(4))]
    before = [Call("login", one, life=chance.choice([DAY, DAY, SHORT]), **policy) for one in there]
    anonymous = [new_id() for _ in range(2)]
    before += [Call("create", one) for one in anonymous]
    turned = turns and chance.random() < 0.3
    plans: tuple[list[Call], list[Call]] = [], []
    for _ in range(chance.randrange(5, 11)):
        worker = chance.randrange(2)
        call = _a_call(chance, there, anonymous, policy, passes=passes)
        call.delay, call.turned = chance.choice([0.0, SPREAD * chance.random()]), turned and worker == 1
        plans[worker].append(call)
    return Round([_tag(), _tag()], limit, policy["evicts"], before, plans)


def _a_call(
    chance: random.Random, there: Sequence[str], anonymous: Sequence[str], policy: dict[str, Any], *, passes: bool
) -> Call:
    verbs = ["login"] * 6 + ["revoke"] * 3 + ["find"] + ["pass"] * passes
    verbs += ["again", "again", "delete", "touch", "renew"] * bool(there)
    verb = chance.choice(verbs)
    if verb in ("login", "again"):
        given: Any = {"since": chance.choice([0.0, 0.0, -0.002, -1.0]), "life": chance.choice([DAY, DAY, SHORT])}
        given |= policy | {"strictly": given["since"] < 0}
        if verb == "again":
            return Call("login", chance.choice(there), verifier=FIRST.hex(), **given)
        if chance.random() < 0.5:
            return Call("login", chance.choice(anonymous), verifier=ANONYMOUS.hex(), **given)
        return Call("login", new_id(), **given)
    if verb == "revoke":
        return Call(verb, chance.choice(["", *there, *anonymous]))  # the one that is kept
    return Call(verb, chance.choice(there) if there else "")


def new_id() -> str:
    return secrets.token_hex(16)


def _tag() -> str:
    return "01" + secrets.token_hex(15)


# --- a worker ---


async def play(store: Any, tags: Sequence[str], calls: Sequence[Call]) -> list[Said]:
    """Make all calls at once, each after its delay."""
    return list(await asyncio.gather(*(play_one(store, tags, call) for call in calls)))


async def play_one(store: Any, tags: Sequence[str], call: Call) -> Said:
    """Make one call after its delay. A clock of the test's own goes on a little with it, or not at all."""
    await asyncio.sleep(call.delay)
    if isinstance(store.clock, FakeClock):
        store.clock.advance(SHORT if call.verb == "pass" else secrets.choice([0.0, 0.001]))
    start = store.clock()
    order = tuple(bytes.fromhex(tag) for tag in (reversed(tags) if call.turned else tags))
    outcome, ids = await _act(store, order, call, start)
    return Said(call, start, store.clock(), outcome, [one.hex() for one in ids])


async def _act(store: Any, tags: tuple[bytes, ...], call: Call, now: float) -> tuple[str, Sequence[bytes]]:
    one = bytes.fromhex(call.record_id)
    if call.verb == "login":
        outcome = await store.login(one, call.verifier and bytes.fromhex(call.verifier), login_of(call, tags, now))
        return outcome.outcome.name, outcome.evicted
    if call.verb == "revoke":
        return "", await store.revoke(tags, one or None, now)
    if call.verb == "find":
        return "", [found for found, _ in await store.find(tags)]
    if call.verb == "create":
        return str(await store.create(one, Record(ANONYMOUS, now, DAY, now + DAY, {"cart": b"1"}))), ()
    if call.verb == "delete":
        return str(await store.delete(one)), ()
    if call.verb == "touch":
        return str(await store.touch(one, FIRST, now)), ()
    if call.verb == "renew":
        return str(await store.update(one, FIRST, Change(now, renewal=Renewal(now + 2 * DAY, now + 2 * DAY)))), ()
    assert call.verb == "pass"
    return "", ()


def login_of(call: Call, tags: tuple[bytes, ...], now: float) -> Login:
    """Return what the call asks for. A new record gets the verifier that later calls of the round know."""
    keep = None if call.verifier == FIRST.hex() else frozenset({"cart"})
    verifier = FIRST if call.verifier is None else hashlib.sha256(secrets.token_bytes(8)).digest()
    record = Record(verifier, now, DAY, now + call.life, {ABOUT: b"about"}, Extra(tags[0]))
    more: Any = {"strictly": call.strictly, "until": now + call.life, "limit": call.limit, "evicts": call.evicts}
    return Login(record, tags, now + call.since, keep=keep, **more)


async def serve(store: Any) -> None:
    """Play what comes as a line of standard input, until it ends."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        tags, calls = json.loads(line)
        told = await play(store, tags, [Call(**call) for call in calls])
        print(json.dumps([asdict(said) for said in told]), flush=True)
    await store.close()
