"""S2: whatever ids and names are, no two of them meet in a store, nor what a store keeps for itself."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from fastersession.stores.redis import RedisStore
from fastersession.stores.redis import record as _redis_record
from fastersession.stores.rows import name_of, name_to_bytes
from fastersession.stores.sql.statements import KEY_BYTES, from_key, to_key

alike = st.builds(lambda start, tail: start * 254 + tail, st.sampled_from("aA é\ud800"), st.text(max_size=3))
names = st.lists(st.text(st.characters(codec=None)) | alike, unique=True)
ids = st.lists(st.binary(min_size=16, max_size=16), unique=True)
prefixes = st.lists(st.text(st.characters(codec=None, exclude_characters="{}"), min_size=1), unique=True)


@given(names, ids, prefixes)
def test_s2_redis_keys_and_fields_are_injective(names: list[str], ids: list[bytes], prefixes: list[str]) -> None:
    """S2: another key for each prefix and id, another field for each name, none of them a field of metadata."""
    # Invariant: as many keys as pairs of prefix and id, also with the second key; as many fields as names.
    stores = [RedisStore("redis://localhost", prefix=prefix) for prefix in prefixes]
    keys = [store._key(record_id) + more for store in stores for record_id in ids for more in (b"", b":hold")]
    assert len(set(keys)) == len(keys)
    made = {_redis_record.field(name) for name in names}
    assert len(made) == len(names)
    metadata = {value for value in vars(_redis_record).values() if isinstance(value, bytes)} - {_redis_record.ATTRIBUTE}
    assert len(metadata) == 16
    assert not made & (metadata | {b"l", b"e"})  # and of the lease


@given(names)
@example(["x" * 254, "x" * 255, "x" * 256])
def test_s2_sql_keys_are_injective_and_short(names: list[str]) -> None:
    """S2: another key for each name, however long, that an index takes; the name comes back."""
    # Invariant: as many keys as names, none longer than KEY_BYTES.
    kept = [to_key(name, b"value") for name in names]
    assert len({key for key, _ in kept}) == len(names)
    assert all(len(key) <= KEY_BYTES for key, _ in kept)
    assert [from_key(*row) for row in kept] == [(name, b"value") for name in names]


@given(names)
def test_s2_sqlite_names_are_injective(names: list[str]) -> None:
    """S2: another key for each name, compared byte by byte; the name comes back."""
    assert [name_of(name_to_bytes(name)) for name in names] == names
