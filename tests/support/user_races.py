"""Logins, logouts and revocations of one user at once, by two workers: what must be true however they interleave.

Rules of residence: the invariants R1 to R4, and who plays the rounds. No server: who calls brings a factory of stores.
What one store does differently is an argument here, or a test beside it.

    check(lambda clock: SQLiteStore(path, clock=clock), rounds=100)
    check_processes(SQLiteStore(path), f"from ... import SQLiteStore; store = SQLiteStore({path!r})", rounds=100)
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from paths import SUPPORT
from user_rounds import DAY, Call, Round, Said, a_round, login_of, new_id, play, play_one

from fastersession.stores.users import Outcome
from fastersession.testing import FakeClock

Factory = Callable[[Callable[[], float]], Any]


# --- what must be true ---


async def judge(store: Any, round_: Round, told: Sequence[Said], *, limit_holds_while_turned: bool = True) -> None:
    """Look at what is left of a round, and compare it with what the calls were told."""
    tags = tuple(map(bytes.fromhex, round_.tags))
    logins = [said for said in told if said.call.verb == "login" and said.outcome == "DONE"]
    alive = {
        one for one in {said.call.record_id for said in told if said.call.record_id}
        if (record := await store.load(bytes.fromhex(one))) is not None and record.extra.tag is not None
    }  # fmt: skip
    listed = [one.hex() for one, _ in await store.find(tags)]
    assert alive <= {login.call.record_id for login in logins}
    # R1: what survives a revocation was authenticated at or after its call, or is the one that it keeps.
    revocations = [said for said in told if said.call.verb == "revoke"]
    for said in revocations:
        for one in alive - _kept(said, revocations):
            assert max(_authenticated(login, said) for login in logins if login.call.record_id == one) >= said.start
    # R1: and the one that all of them keep survives, where nothing else ended it.
    for one in _spared(round_, told):
        assert one in alive, one
    # R3: whatever is alive and was logged in is listed, once, and nothing else is.
    assert sorted(listed) == sorted(alive)
    gone = [one for said in told if said.call.verb in ("login", "revoke") for one in said.ids]
    assert len(set(gone)) == len(gone), "one end is told twice"
    assert not alive & {*gone, *(said.call.record_id for said in told if _is_deleted(said))}
    # R4: confirmed sessions never exceed the limit, at no time.
    turned = any(said.call.turned for said in told)
    if round_.limit is not None and (limit_holds_while_turned or not turned):
        seen = [len(said.ids) for said in told if said.call.verb == "find"]
        assert max([len(listed), *seen]) <= round_.limit
    assert round_.limit is not None or not any(said.ids for said in told if said.call.verb == "login")
    assert {said.outcome for said in told if said.call.verb == "login"} <= {
        "DONE", "ABSENT", "REVOKED", *(["FULL"] if round_.limit is not None and not round_.evicts else []),
    }  # fmt: skip
    await _go_on(store, round_, tags, listed)


async def _go_on(store: Any, round_: Round, tags: tuple[bytes, ...], listed: Sequence[str]) -> None:
    """R2: a login after a revocation works at once. Then the last one leaves nothing."""
    policy: Any = {"limit": round_.limit, "evicts": round_.evicts}
    last = Call("login", new_id(), **policy)
    outcome = await store.login(bytes.fromhex(last.record_id), None, login_of(last, tags, store.clock()))
    if outcome.outcome is not Outcome.FULL:
        assert outcome.outcome is Outcome.DONE
        assert last.record_id in [one.hex() for one, _ in await store.find(tags)]
    else:
        assert round_.limit is not None
        assert len(listed) >= round_.limit
    rest = {one for one, _ in await store.find(tags)}
    assert {*await store.revoke(tags, None, store.clock())} == rest
    assert [await store.load(one) for one in rest] == [None] * len(rest)
    assert await store.find(tags) == []


def _kept(said: Said, revocations: Sequence[Said]) -> set[str]:
    """Return what a revocation spares: its own one, and those that a later or simultaneous one let go on."""
    return {other.call.record_id for other in revocations if other.end >= said.start}


def _authenticated(login: Said, said: Said) -> float:
    """Return when a login says that its user had authenticated; at the revocation's call is before it if strict."""
    at = login.start + login.call.since
    return float("-inf") if login.call.strictly and at == said.start else at


def _spared(round_: Round, told: Sequence[Said]) -> set[str]:
    """Return sessions from before that every revocation keeps, that nobody deleted, and that could not expire."""
    if round_.limit is not None:
        return set()
    there = {said.call.record_id for said in told if said.call in round_.before and said.call.verb == "login"}
    for said in told:
        if said.call.verb == "revoke":
            there &= {said.call.record_id}
        elif said.call.verb == "delete" or (said.call.verb == "login" and said.call.life < DAY):
            there -= {said.call.record_id}
    return there


def _is_deleted(said: Said) -> bool:
    return said.call.verb == "delete" and said.outcome == "True"


# --- two stores of this process ---


def check(factory: Factory, rounds: int, *, seed: int | None = None, limit_holds_while_turned: bool = True) -> None:
    """Play rounds with two stores over one server, which the factory makes, on a clock that is moved only here."""
    asyncio.run(_check(factory, rounds, _seeded(seed), limit_holds_while_turned))


async def _check(factory: Factory, rounds: int, seed: int, limit_holds_while_turned: bool) -> None:
    chance, clock = random.Random(seed), FakeClock()
    stores = factory(clock), factory(clock)
    try:
        for number in range(rounds):
            round_ = a_round(chance, turns=True, passes=True)
            before = [await play_one(stores[0], round_.tags, call) for call in round_.before]
            plans = zip(stores, round_.plans, strict=True)
            lots = await asyncio.gather(*(play(store, round_.tags, plan) for store, plan in plans))
            told = before + [said for lot in lots for said in lot]
            with _told(seed, number, told):
                await judge(stores[1], round_, told, limit_holds_while_turned=limit_holds_while_turned)
    finally:
        for store in stores:
            await store.close()


def _seeded(seed: int | None) -> int:
    return secrets.randbits(32) if seed is None else seed


class _told:  # noqa: N801 - used as a function
    """Say of what a failure came."""

    def __init__(self, seed: int, number: int, told: Sequence[Said]) -> None:
        self.text = "\n".join([f"seed {seed}, round {number}:", *map(str, told)])

    def __enter__(self) -> None:
        """Nothing is to be done."""

    def __exit__(self, kind: object, error: BaseException | None, *_: object) -> None:
        if error is not None:
            error.add_note(self.text)


# --- two processes ---

WORKER = """
import asyncio, sys
sys.path.insert(0, {here!r})
import user_rounds
{code}
asyncio.run(user_rounds.serve(store))
"""


def check_processes(
    own: Any, code: str, rounds: int, *, seed: int | None = None, limit_holds_while_turned: bool = True
) -> None:
    """Play rounds with two processes, by the machine's clock. There ``code`` makes ``store``, over our own's server."""
    command = [sys.executable, "-W", "error", "-c", WORKER.format(here=str(SUPPORT), code=code)]
    pipes: Any = dict.fromkeys(("stdin", "stdout"), subprocess.PIPE)
    workers = [subprocess.Popen(command, text=True, **pipes) for _ in range(2)]
    try:
        asyncio.run(_check_processes(own, workers, rounds, _seeded(seed), limit_holds_while_turned))
    finally:
        for worker in workers:
            worker.communicate()
    assert [worker.returncode for worker in workers] == [0, 0]


async def _check_processes(
    own: Any, workers: Sequence[Any], rounds: int, seed: int, limit_holds_while_turned: bool
) -> None:
    assert own.clock is time.time
    chance = random.Random(seed)
    try:
        for number in range(rounds):
            round_ = a_round(chance, turns=True, passes=False)
            told = [await play_one(own, round_.tags, call) for call in round_.before]
            for worker, plan in zip(workers, round_.plans, strict=True):
                worker.stdin.write(json.dumps([round_.tags, [asdict(call) for call in plan]]) + "\n")
                worker.stdin.flush()
            for worker in workers:
                lines = json.loads(await asyncio.to_thread(worker.stdout.readline))
                told += [Said(**{**line, "call": Call(**line["call"])}) for line in lines]
            with _told(seed, number, told):
                await judge(own, round_, told, limit_holds_while_turned=limit_holds_while_turned)
    finally:
        await own.close()
