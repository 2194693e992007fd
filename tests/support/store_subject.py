"""A store under test, as the kit has it, and what tests of single stores share besides.

Rules of residence: names of `fastersession.testing`, and what only our own tests need; no test, no server.

    await make(store, a=b"1")                  # one record under ID, for a test that brings its own store
    assert await content(store) == {"a": b"1"}
"""

from __future__ import annotations

from typing import Any

from fastersession.stores.base import Change, Record
from fastersession.testing.contract.subject import START, Factory, Subject, fields, opened, over_a_store

__all__ = [
    "EVERY", "ID", "OTHER_ID", "OWNER", "SHARED", "START", "V1", "V2", "V3", "Change", "Factory", "Subject", "content",
    "fields", "make", "opened", "over_a_store",
]  # fmt: skip

SHARED = ("sqlite", "redis", "redis_cluster", "asyncpg", "psycopg", "mariadb")  # kinds of stores that processes share
EVERY = ("memory", *SHARED)
ID, OTHER_ID = b"\x00\xff'\"\\%;:$1?{}\n\r\x1a", bytes(16)
V1, V2, V3 = (bytes(range(start, start + 32)) for start in (0, 32, 200))
OWNER = b"'" * 16


async def make(store: Any, record_id: bytes = ID, verifier: bytes = V1, **attributes: bytes) -> Record:
    """Create a record that idles out after 100 s and ends after 1,000."""
    now = store.clock()
    record = Record(verifier, now, 100.0, now + 1000, attributes)
    assert await store.create(record_id, record) is True
    return record


async def content(store: Any, record_id: bytes = ID) -> dict[str, bytes]:
    """All attributes of a record that must be there."""
    record = await store.load(record_id)
    assert record is not None
    return dict(record.attributes)
