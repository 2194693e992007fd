"""MemoryStore keeps the contract of stores/base.py: against a dict model, over any sequence of calls and any time."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from typing import Any

import pytest
from clocks import FakeClock
from driver import Browser, in_loop
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule
from routes import content, secret_of, serve
from routes import record_id as id_of

from fastersession import ConfigError, MemoryStore
from fastersession.engine.tasks import run_now
from fastersession.stores.base import Change, Extra, Record
from fastersession.stores.memory.record import LiveRecord

IDS = [bytes([n]) * 16 for n in range(6)]
VERIFIERS = [bytes([n]) * 16 for n in range(100, 103)]
IDLE = (10.0, 60.0, 1_000.0, math.inf)
NAMES = ("a", "b", "c")

ids, verifiers = st.sampled_from(IDS), st.sampled_from(VERIFIERS)
contents = st.dictionaries(st.sampled_from(NAMES), st.integers(), max_size=3)
changes = st.tuples(contents, st.lists(st.sampled_from(NAMES), max_size=2, unique=True), st.sampled_from((None, *IDLE)))


@dataclass
class Row:
    """What the model knows of one record."""

    verifier: bytes
    created_at: float
    accessed_at: float
    idle_timeout: float
    not_after: float
    attributes: dict[str, Any]
    regenerated_at: float | None = None
    verifier_before: bytes | None = None
    requests: int = 0
    version: int = 1
    seen: list[tuple[Any, dict[str, Any]]] = field(default_factory=list)  # mappings handed out, and their content then


class MemoryStoreModel(RuleBasedStateMachine):
    """Every verb has the model's outcome; a record is there exactly as long as the model says."""

    # Invariant: store and model agree on which records are alive and on all their fields, whatever the order of
    # calls and times; a mapping once handed out never changes; len() is never below the number alive.
    held = Bundle("held")

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.store = MemoryStore(clock=self.clock)
        self.rows: dict[bytes, Row] = {}

    def do(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        return run_now(getattr(self.store, verb)(*args, **kwargs))

    def alive(self, record_id: bytes) -> Row | None:
        row, now = self.rows.get(record_id), self.clock()
        if row is None or now >= row.not_after or (now >= row.accessed_at + row.idle_timeout and not row.requests):
            self.rows.pop(record_id, None)
            return None
        return row

    def own(self, record_id: bytes, verifier: bytes) -> Row | None:
        row = self.alive(record_id)
        return row if row is not None and row.verifier == verifier else None

    def proven(self, record_id: bytes, verifier: bytes) -> Row | None:
        row = self.alive(record_id)
        return row if row is not None and verifier in (row.verifier, row.verifier_before) else None

    @rule(record_id=ids, verifier=verifiers, idle=st.sampled_from(IDLE), life=st.sampled_from(IDLE), content=contents)
    def create(self, record_id: bytes, verifier: bytes, idle: float, life: float, content: dict[str, Any]) -> None:
        now = self.clock()
        given: dict[str, Any] = {
            "verifier": verifier, "created_at": now, "idle_timeout": idle, "not_after": now + life,
            "attributes": content,
        }  # fmt: skip
        created = self.do("create", record_id, LiveRecord(**given))
        assert created == (self.alive(record_id) is None)
        if created:
            self.rows[record_id] = Row(accessed_at=now, **{**given, "attributes": dict(content)})

    @rule(record_id=ids)
    def load(self, record_id: bytes) -> None:
        self.compare(record_id, self.do("load", record_id))

    @rule(target=held, record_id=ids)
    def hold(self, record_id: bytes) -> Any:
        """Begin a request: the record it loaded is in use."""
        record, row = self.do("load", record_id), self.alive(record_id)
        if record is None or row is None:
            return None
        record.requests += 1
        row.requests += 1
        return [record, row]

    @rule(begun=held)
    def release(self, begun: Any) -> None:
        """End it, perhaps after its record."""
        if begun:
            record, row = begun
            record.requests -= 1
            row.requests -= 1
            begun.clear()

    @rule(record_id=ids, verifier=verifiers, change=changes, back=st.sampled_from((0.0, 5.0)))
    def update(self, record_id: bytes, verifier: bytes, change: Any, back: float) -> None:
        row = self.proven(record_id, verifier)
        given = self.change(change, back)
        assert self.do("update", record_id, verifier, given) == (row is not None)
        if row is not None:
            self.apply(row, given)

    @rule(record_id=ids, verifier=verifiers, back=st.sampled_from((0.0, 5.0, -5.0)))
    def touch(self, record_id: bytes, verifier: bytes, back: float) -> None:
        row = self.proven(record_id, verifier)
        at = self.clock() - back
        assert self.do("touch", record_id, verifier, at) == (row is not None)
        if row is not None:
            row.accessed_at = max(row.accessed_at, at)

    @rule(record_id=ids, old=verifiers, new=verifiers, life=st.sampled_from(IDLE), change=changes)
    def regenerate(self, record_id: bytes, old: bytes, new: bytes, life: float, change: Any) -> None:
        row, not_after = self.own(record_id, old), self.clock() + life
        given = self.change(change, 0.0)
        assert self.do("regenerate", record_id, old, new, not_after, given) == (row is not None)
        if row is not None:
            row.verifier, row.verifier_before, row.not_after = new, old, not_after
            row.regenerated_at = given.accessed_at
            self.apply(row, given)

    @rule(record_id=ids)
    def delete(self, record_id: bytes) -> None:
        assert self.do("delete", record_id) == (self.alive(record_id) is not None)
        self.rows.pop(record_id, None)

    @rule(seconds=st.sampled_from((0.5, 9.5, 15.0, 61.0, 990.0)))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def purge(self) -> None:
        before = len(self.store)
        removed = self.do("purge")
        assert len(self.store) == before - removed == sum(self.alive(one) is not None for one in IDS)

    @rule()
    def compare_all(self) -> None:
        for record_id in IDS:
            self.load(record_id)
        assert len(self.store) == len(self.rows)

    @invariant()
    def nothing_is_forgotten(self) -> None:
        assert len(self.store) >= sum(self.alive(one) is not None for one in IDS)

    def change(self, change: Any, back: float) -> Change:
        sets, deletes, idle = change
        return Change(self.clock() - back, sets, tuple(name for name in deletes if name not in sets), idle)

    def apply(self, row: Row, change: Change) -> None:
        row.attributes = {n: v for n, v in {**row.attributes, **change.sets}.items() if n not in change.deletes}
        row.accessed_at = max(row.accessed_at, change.accessed_at)
        row.idle_timeout = row.idle_timeout if change.idle_timeout is None else change.idle_timeout
        row.version += 1

    def compare(self, record_id: bytes, record: Record | None) -> None:
        row = self.alive(record_id)
        assert (record is None) == (row is None)
        if record is None or row is None:
            return
        for name in (
            "verifier", "verifier_before", "created_at", "accessed_at", "idle_timeout", "not_after", "regenerated_at",
            "version",
        ):  # fmt: skip
            assert getattr(record, name) == getattr(row, name), name
        assert dict(record.attributes) == row.attributes
        row.seen.append((record.attributes, dict(record.attributes)))
        assert all(mapping == then for mapping, then in row.seen)


class LiveModel(MemoryStoreModel):
    """The same through ``live``, the verbs as plain functions."""

    def do(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        if verb == "purge":
            return super().do(verb)
        return getattr(self.store.live, verb)(*args, **kwargs)


TestMemoryStoreModel = MemoryStoreModel.TestCase
TestMemoryStoreModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestLiveModel = LiveModel.TestCase
TestLiveModel.settings = settings(max_examples=20, stateful_step_count=30, deadline=None)


def find(store: MemoryStore, record_id: bytes) -> Record | None:
    return run_now(store.load(record_id))


def add(store: MemoryStore, record_id: bytes, idle: float = math.inf, tag: bytes | None = None) -> Record | None:
    now = store.clock()
    live = store.live
    assert live is not None
    record = live.record_type(b"v", now, idle, math.inf, {}, Extra(tag))
    return record if live.create(record_id, record) else None  # a load would count as its first use


@pytest.mark.parametrize("given", [0, -1, 1.5, True, "100", None])
def test_a_bound_that_is_no_number_of_sessions_is_refused(given: Any) -> None:
    """max_sessions is a positive whole number, and clock can be called, or ConfigError names the argument."""
    with pytest.raises(ConfigError, match="max_sessions"):
        MemoryStore(max_sessions=given)
    with pytest.raises(ConfigError, match="clock"):
        MemoryStore(clock=12)  # type: ignore[arg-type]


class Counting(MemoryStore):
    """A store with a verb of its own."""

    loads = 0

    async def load(self, record_id: bytes) -> Record | None:
        self.loads += 1
        return await super().load(record_id)


class Sized(MemoryStore):
    """A store with more to it, and no verb of its own."""

    async def size(self) -> int:
        return len(self)


def test_a_store_with_verbs_of_its_own_is_not_live() -> None:
    """Whether a class brings them or they were put on the object; other methods and attributes do not matter."""
    patched, sized = MemoryStore(), Sized()
    patched.load = Counting(clock=patched.clock).load  # type: ignore[method-assign]
    assert [store.live for store in (Counting(), patched)] == [None, None]
    assert None not in (MemoryStore().live, sized.live)
    assert sized.live is sized.live


@in_loop
async def test_a_store_with_verbs_of_its_own_is_a_store_of_coroutines() -> None:
    """Its verbs are called; it is given bytes, and the SHA-256 of the secret."""
    store = Counting()
    browser = Browser(serve(store=store))
    await browser.get("/set?name=ada")
    assert await content(browser) == {"name": "ada"}
    assert store.loads == 1
    record = await store.load(id_of(browser))
    assert record is not None
    assert sorted(record.attributes) == ["!", ".name"]
    assert all(isinstance(value, bytes) and b"ada" not in value for value in record.attributes.values())
    assert record.verifier == hashlib.sha256(secret_of(browser)).digest()


def test_a_save_of_a_running_request_is_swapped_in() -> None:
    """The fast way is taken while a request is counted, and left to `update` when none is."""
    store = MemoryStore(clock=FakeClock())
    live, record = store.live, add(store, IDS[0])
    assert live is not None
    assert record is not None
    assert live.swap(record, record.verifier, record.attributes, {"a": 1}, store.clock()) is False
    record.requests += 1
    assert live.swap(record, record.verifier, record.attributes, {"a": 1}, store.clock()) is True
    assert record.attributes == {"a": 1}
