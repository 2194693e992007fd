"""How a record looks as columns, by itself: names byte by byte, and what an older release leaves."""

from __future__ import annotations

from typing import Any

import pytest

from fastersession.stores.base import NOTHING_MORE, Extra
from fastersession.stores.rows import name_of, name_to_bytes, record_of

BEFORE, AFTER = b"before", b"after"


def row(**columns: Any) -> tuple[Any, ...]:
    usual: dict[str, Any] = {
        "verifier": AFTER, "tag": b"t" * 16, "created": 1, "accessed": 2, "idle_timeout": 3, "not_after": 4,
        "regenerated_at": 5, "version": 6, "before": BEFORE, "after": AFTER,
    }  # fmt: skip
    return (*{**usual, **columns}.values(),)


def test_a_row_is_a_record() -> None:
    """Its times are floats, as the engine reckons, whatever the driver gives."""
    record = record_of(row(), {"a": b"1"})
    found = {name: getattr(record, name) for name in record.__slots__}
    times = {"created_at": 1.0, "accessed_at": 2.0, "idle_timeout": 3.0, "not_after": 4.0, "regenerated_at": 5.0}
    assert found == {
        **times, "verifier": AFTER, "verifier_before": BEFORE, "extra": Extra(b"t" * 16), "version": 6,
        "attributes": {"a": b"1"},
        "requests": 0, "sockets": 0,
    }  # fmt: skip
    assert {type(found[name]) for name in times} == {float}


def test_what_a_row_need_not_have_may_be_missing() -> None:
    """A session without a user that never was regenerated."""
    record = record_of(row(tag=None, regenerated_at=None, before=None, after=None), {})
    assert (record.extra.tag, record.regenerated_at, record.verifier_before) == (None, None, None)
    assert record.extra is NOTHING_MORE


def test_a_verifier_before_counts_only_beside_the_one_that_followed_it() -> None:
    """An older release that regenerates knows nothing of these columns and leaves them as they are."""
    assert record_of(row(after=b"another"), {}).verifier_before is None


@pytest.mark.parametrize("name", ["name", "Stra\u00dfe", "\ud800", "\0"])
def test_any_name_comes_back(name: str) -> None:
    """Half characters, too, which UTF-8 does not have."""
    assert name_of(name_to_bytes(name)) == name
