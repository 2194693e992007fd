"""What a batch carries to the databases comes back as it was: values of all kinds, and none, side by side."""

from __future__ import annotations

import asyncio

from over_sql import Place
from store_subject import fields

from fastersession.stores.base import NOTHING_MORE, Extra, Record
from fastersession.stores.sql.postgresql import array_of

TAGS = NOTHING_MORE, Extra(b"tag"), Extra(b"\x00\\'\"" * 4)
ENDS = float("inf"), 3e9 + 0.123456
VALUES = bytes(range(256)), b"", b"NULL", b"None"


def test_a_batch_of_sessions_comes_back_as_it_was(place: Place) -> None:
    """Created in one moment and loaded in one, each has all that it had, whatever its neighbours have."""
    batch = {
        bytes((number,)) * 16: Record(
            bytes((255 - number,)) * 32,
            1.7e9 + number / 7,
            1e9 if number % 2 else 3600.5,
            ENDS[number // 2 % 2],
            {f"é\\'{name}": value for name, value in enumerate(VALUES[: number % 5])},
            TAGS[number % 3],
        )
        for number in range(60)
    }

    async def main() -> None:
        store = place.store()
        store.clock = lambda: 1.6e9
        try:
            await store.open()
            assert all(await asyncio.gather(*[store.create(*item) for item in batch.items()]))
            loaded = await asyncio.gather(*[store.load(record_id) for record_id in batch])
            assert [fields(record) for record in loaded] == [fields(record) for record in batch.values()]
        finally:
            await store.close()

    asyncio.run(main())


def test_an_array_is_spelt_as_postgresql_reads_it() -> None:
    """Known answers: NULL, and the one word for infinity that ``repr`` and the server share."""
    assert array_of([b"\x00\\", None, b""], "bytes") == r'{"\\x005c",NULL,"\\x"}'
    assert array_of([1.5, None, float("inf"), 1e300], "real") == "{1.5,NULL,inf,1e+300}"
    assert array_of([], "bytes") == "{}"
