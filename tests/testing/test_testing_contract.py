"""The contract and the state machine find a store that breaks a rule: one planted fault for each."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from fastersession import MemoryStore
from fastersession.stores.base import Change, Record
from fastersession.stores.memory.record import LiveRecord
from fastersession.stores.memory.table import Table
from fastersession.testing.contract.live import Awaited
from fastersession.testing.stores import (
    LiveStoreContract,
    SharedStoreContract,
    StoreContract,
    StoreMachine,
    check_store,
)


class Upserting(MemoryStore):
    """Its update makes a record appear: a late save revives a session that was logged out."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.known: dict[bytes, Any] = {}

    async def create(self, record_id: bytes, record: Record) -> bool:
        self.known[record_id] = record.attributes
        return await super().create(record_id, record)

    async def update(self, record_id: bytes, verifier: bytes, change: Change) -> bool:
        if await super().load(record_id) is None:
            now = self.clock()
            await super().create(record_id, Record(verifier, now, 60.0, now + 60.0, self.known.get(record_id, {})))
        return await super().update(record_id, verifier, change)


class Overwriting(MemoryStore):
    """Its create takes a taken id."""

    async def create(self, record_id: bytes, record: Record) -> bool:
        await super().delete(record_id)
        return await super().create(record_id, record)


class Trusting(MemoryStore):
    """Its update asks for no verifier."""

    async def update(self, record_id: bytes, verifier: bytes, change: Change) -> bool:
        record = await super().load(record_id)
        return await super().update(record_id, verifier if record is None else record.verifier, change)


class Replacing(MemoryStore):
    """Its update replaces all attributes."""

    async def update(self, record_id: bytes, verifier: bytes, change: Change) -> bool:
        record = await super().load(record_id)
        others = [name for name in record.attributes if name not in change.sets] if record else []
        return await super().update(record_id, verifier, change._replace(deletes=tuple(others)))


class Forgetful(MemoryStore):
    """Its delete removes nothing."""

    async def delete(self, record_id: bytes) -> bool:
        return await super().load(record_id) is not None


class Regressing(MemoryStore):
    """Its touch moves the last access back."""

    async def touch(self, record_id: bytes, verifier: bytes, accessed_at: float) -> bool:
        done = await super().touch(record_id, verifier, accessed_at)
        if done:
            (await super().load(record_id)).accessed_at = accessed_at  # type: ignore[union-attr]
        return done


class Touching(MemoryStore):
    """Its load counts as an access."""

    async def load(self, record_id: bytes) -> Any:
        record = await super().load(record_id)
        if record is not None:
            await super().touch(record_id, record.verifier, self.clock())
        return await super().load(record_id)


class Eternal(MemoryStore):
    """Nothing in it expires."""

    def __init__(self, *, clock: Callable[[], float]) -> None:
        begun = clock()
        super().__init__(clock=lambda: begun)


class Racing(MemoryStore):
    """Its regenerate does not mind the verifier: two that race both win."""

    async def regenerate(self, record_id: bytes, verifier: bytes, *more: Any) -> bool:
        record = await super().load(record_id)
        return await super().regenerate(record_id, verifier if record is None else record.verifier, *more)


class Strict(MemoryStore):
    """It knows no verifier before: what runs while another request regenerates is lost."""

    async def regenerate(self, record_id: bytes, *more: Any) -> bool:
        done = await super().regenerate(record_id, *more)
        record = await super().load(record_id)
        if done and record is not None:
            record.verifier_before = None
        return done


class Nostalgic(MemoryStore):
    """It forgets no verifier that was ever the record's own."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.known: dict[bytes, set[bytes]] = {}

    async def regenerate(self, record_id: bytes, verifier: bytes, *more: Any) -> bool:
        done = await super().regenerate(record_id, verifier, *more)
        if done:
            self.known.setdefault(record_id, set()).add(verifier)
        return done

    async def update(self, record_id: bytes, verifier: bytes, change: Change) -> bool:
        record = await super().load(record_id)
        known = record is not None and verifier in self.known.get(record_id, ())
        return await super().update(record_id, record.verifier if known and record else verifier, change)


class Lenient(MemoryStore):
    """Its regenerate takes the verifier before, so a request under the old cookie gets a new one."""

    async def regenerate(self, record_id: bytes, verifier: bytes, *more: Any) -> bool:
        record = await super().load(record_id)
        before = record is not None and verifier == record.verifier_before
        return await super().regenerate(record_id, record.verifier if before and record else verifier, *more)


class Locked(MemoryStore):
    """Its lease is for the record's own verifier alone: an answer that is appended in its turn ends the session."""

    async def lock(self, record_id: bytes, verifier: bytes, owner: bytes, seconds: float) -> bool:
        record = await super().load(record_id)
        own = record is not None and verifier == record.verifier
        return own and await super().lock(record_id, verifier, owner, seconds)


class Generous(MemoryStore):
    """Its lease goes to whoever asks."""

    async def lock(self, record_id: bytes, verifier: bytes, owner: bytes, seconds: float) -> bool:
        return await super().load(record_id) is not None


class Lawless(MemoryStore):
    """It saves under any lease."""

    async def update(self, record_id: bytes, verifier: bytes, change: Change) -> bool:
        return await super().update(record_id, verifier, change._replace(lease=None))


class Folding(MemoryStore):
    """Names differ by case only, for it."""

    async def update(self, record_id: bytes, verifier: bytes, change: Change) -> bool:
        folded = {name.lower(): value for name, value in change.sets.items()}
        return await super().update(record_id, verifier, change._replace(sets=folded))


class Cutting(MemoryStore):
    """What is long is cut."""

    async def create(self, record_id: bytes, record: Record) -> bool:
        record.attributes = {name: value[:1_000] for name, value in record.attributes.items()}
        return await super().create(record_id, record)

    async def update(self, record_id: bytes, verifier: bytes, change: Change) -> bool:
        cut = {name: value[:1_000] for name, value in change.sets.items()}
        return await super().update(record_id, verifier, change._replace(sets=cut))


class Purging(MemoryStore):
    """Its purge counts what it does not remove."""

    async def purge(self) -> int:
        return await super().purge() + 1


WHY = {"why": "deleted"}
MUTANTS: list[tuple[type[MemoryStore], str, dict[str, Any]]] = [
    (Upserting, "test_l5_no_verb_brings_a_record_back", WHY),
    (Overwriting, "test_k2_create_is_insert_only", {}),
    (Overwriting, "test_k2_one_of_many_creates", {}),
    (Trusting, "test_another_verifier_changes_nothing", {}),
    (Replacing, "test_update_merges", {}),
    (Replacing, "test_l8_different_attributes_all_survive", {}),
    (Forgetful, "test_delete_wins_whatever_the_verifier", {}),
    (Forgetful, "test_l5_a_delete_among_saves_is_final", {}),
    (Regressing, "test_an_access_never_moves_back", {}),
    (Touching, "test_loading_is_no_access", {}),
    (Eternal, "test_touch_moves_the_end_and_writes_no_data", {}),
    (Racing, "test_l2_one_of_many_regenerates", {}),
    (Racing, "test_l2_regenerate_is_a_compare_and_set", {}),
    (Strict, "test_l3_the_verifier_before_still_saves", {"size": 8}),
    (Strict, "test_l3_saves_that_race_a_regeneration_are_all_kept", {}),
    (Strict, "test_l3_losers_of_a_race_save_all_the_same", {}),
    (Nostalgic, "test_l3_a_second_regeneration_forgets_it", {}),
    (Nostalgic, "test_l5_a_new_record_has_no_verifier_before", {}),
    (Lenient, "test_l2_regenerate_is_a_compare_and_set", {}),
    (Lenient, "test_l3_a_refused_regeneration_forgets_nothing", {}),
    (Locked, "test_a_lease_goes_on_under_the_verifier_before", {}),
    (Generous, "test_a_lease_has_one_owner", {}),
    (Lawless, "test_a_save_under_a_lease_needs_the_lease", {}),
    (Folding, "test_s7_any_name_is_a_name_of_its_own", {}),
    (Cutting, "test_large_values", {}),
    (Cutting, "test_every_size_keeps_the_rules", {"size": 2_000}),
    (Purging, "test_purge_removes_exactly_what_has_expired", {}),
]
IDS = [f"{mutant.__name__}-{test}" for mutant, test, _ in MUTANTS]


@pytest.mark.parametrize(("mutant", "test", "given"), MUTANTS, ids=IDS)
def test_the_contract_finds_it(mutant: type[MemoryStore], test: str, given: dict[str, Any]) -> None:
    """The test of the rule that is broken fails, which the reference passes."""
    getattr(StoreContract(), test)(factory=lambda clock: MemoryStore(clock=clock), **given)
    with pytest.raises((AssertionError, ValueError)):  # ValueError: too many winners
        getattr(StoreContract(), test)(factory=lambda clock: mutant(clock=clock), **given)


UNSHRUNK = settings(  # that it is found is enough: the shortest sequence is not asked for
    max_examples=300, phases=[Phase.generate], deadline=None, report_multiple_bugs=False, derandomize=True,
    database=None, suppress_health_check=list(HealthCheck),
)  # fmt: skip
UNSEEN = {Cutting, Purging, Eternal, Folding}  # sizes, counts and names that the machine does not try, or rarely


@pytest.mark.parametrize("mutant", sorted({mutant for mutant, _, _ in MUTANTS} - UNSEEN, key=lambda one: one.__name__))
def test_the_state_machine_finds_it(mutant: type[MemoryStore]) -> None:
    """By itself, without a test for the rule."""
    made: Any = functools.partial(StoreMachine, lambda clock: mutant(clock=clock), shared=False)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(made, settings=UNSHRUNK)


class Careless(Table):
    """Its swap looks at nothing."""

    def swap(self, record: Any, verifier: bytes, base: Any, content: Any, now: float) -> bool:
        record.attributes = content
        return True


class Uncounted(Table):
    """Its swap is no new version."""

    def swap(self, record: Any, *more: Any) -> bool:
        done = super().swap(record, *more)
        record.version -= done
        return done


class Copying(Table):
    """It keeps another object than the one that it was given."""

    def create(self, record_id: bytes, record: Any) -> bool:
        times = record.created_at, record.idle_timeout, record.not_after
        return super().create(record_id, LiveRecord(record.verifier, *times, record.attributes, record.extra))


class Impatient(Table):
    """A record idles out under a running request."""

    def load(self, record_id: bytes) -> Any:
        record = super().load(record_id)
        return None if record is None or self.clock() >= record.accessed_at + record.idle_timeout else record


def of(kind: type[Table]) -> Callable[[Callable[[], float]], Awaited]:
    """Make a factory of awaited live stores."""

    def factory(clock: Callable[[], float]) -> Awaited:
        store = MemoryStore(clock=clock)
        store._table = kind(100, clock)
        return Awaited(store, swaps=True)

    return factory


@pytest.mark.parametrize(
    ("mutant", "test", "given"),
    [
        *[
            (Careless, "test_l5_swap_is_refused", {"why": why})
            for why in ("saved", "equal", "stranger", "before", "ended")
        ],
        (Uncounted, "test_swap_publishes_the_content", {}),
        (Uncounted, "test_update_merges", {}),
        (Copying, "test_the_record_is_the_very_object", {}),
        (Impatient, "test_a_running_request_keeps_the_record", {}),
    ],
)
def test_the_contract_of_live_stores_finds_it(mutant: type[Table], test: str, given: dict[str, Any]) -> None:
    """A planted fault for each rule that only a live store has."""
    getattr(LiveStoreContract(), test)(factory=of(Table), **given)
    with pytest.raises(AssertionError):
        getattr(LiveStoreContract(), test)(factory=of(mutant), **given)


def test_the_state_machine_swaps() -> None:
    """It finds a fault that only `swap` has."""
    with pytest.raises(AssertionError):
        run_state_machine_as_test(functools.partial(StoreMachine, of(Uncounted), shared=False), settings=UNSHRUNK)  # type: ignore[arg-type]


def test_a_store_that_forgets_at_a_crash_is_found() -> None:
    """Where sessions must outlive a process, one that does not keep them fails."""
    with pytest.raises(AssertionError):
        check_store(lambda clock: MemoryStore(clock=clock), shared=True, examples=100)


def test_a_subclass_without_a_store_says_what_to_give() -> None:
    """Neither make_store() nor a factory."""
    with pytest.raises(NotImplementedError, match="make_store"):
        SharedStoreContract().make_store(lambda: 0.0)
