"""Names, values, ids and users that are hostile, large or rare: each comes back as it went in.

Rules of residence: a mixin of `StoreContract`; one caller at a time.
"""

from __future__ import annotations

import itertools
import secrets

import pytest

from .subject import START, Subject, over_a_store

V, W = b"v" * 32, b"w" * 32
# What a store could take for something else: its own fields, SQL, formats, keys, padding, case, composed characters.
NAMES = [
    "", " ", "  ", "a", "a ", " a", "A", "ä", "Ä", "a\u0308", "\u00e5", "\u212b", "ss", "ß", "\0", "a\0", "a\0b", "\n",
    "\r\n", "\t", "0", "00", "1e3", "None", "null", "true", "verifier", "version", "user", "id", "name", "value",
    "created_at", "accessed_at", "expires", "not_after", "idle_timeout", "lease", "lock", "owner", "__class__", ":a",
    "$1", "%s", "%(a)s", "%", "?", "{}", "{0}", "*", "a:b", "a{b}c", "'", '"', "`", "\\", "'; drop table session; --",
    "' or '1'='1", "/*", "--", ";", "$$", "\N{GRINNING FACE}", "\U0010ffff", "\ufeff", "\u202e", "\uffff", "\ud800",
    "x" * 255, "x" * 256, "\N{GRINNING FACE}" * 100, "y" * 5_000, "y" * 4_999 + "z",
]  # fmt: skip
RECORD_IDS = [
    bytes(16), b"\xff" * 16, b" " * 16, b"a" * 16, b"A" * 16, b"a" * 15 + b"\0", b"a" * 15 + b" ", b"0" * 16,
    b"{a}{b}{c}{d}{e}\n", b"'; drop table x;", b"%s%d:a$1?\\\\\\\\\r\n\0", b"****************", bytes(range(128, 144)),
]  # fmt: skip
VALUES = [
    b"", b"\0", b" ", b"0", b"None", b"\\x00", b"'\"", b"%s", b"\r\n", b"\xc3\x28", bytes(range(256)),
    bytes(range(255, -1, -1)),
]  # fmt: skip
LARGE = 4_000_000


class RoundTrip:
    """What goes in comes out."""

    @over_a_store
    async def test_s7_any_name_is_a_name_of_its_own(self, subject: Subject) -> None:
        """S7: every attribute name, the empty one too, is kept, told from all others, changed and deleted alone."""
        assert len(set(NAMES)) == len(NAMES)
        values = {name: f"{number}".encode() for number, name in enumerate(NAMES)}
        record_id = await subject.insert(values)
        assert await subject.attributes(record_id) == values
        for number, name in enumerate(NAMES):
            values[name] = b"changed %d" % number
            assert await subject.update(record_id, V, sets={name: values[name]}) is True
        assert await subject.attributes(record_id) == values
        for name in NAMES:
            del values[name]
            assert await subject.update(record_id, V, name) is True
            if len(values) % 8 == 0:
                assert await subject.attributes(record_id) == values
        assert (await subject.read(record_id))["verifier"] == V

    @pytest.mark.parametrize("name", ["a", "", "'; --"])
    @over_a_store
    async def test_any_bytes_are_a_value(self, subject: Subject, name: str) -> None:
        """Every byte, no byte, and what looks like a number, text or marker of some store comes back."""
        record_id = await subject.insert()
        for value in VALUES:
            assert await subject.update(record_id, V, sets={name: value}) is True
            assert await subject.attributes(record_id) == {name: value}
            other = await subject.insert({name: value})
            assert await subject.attributes(other) == {name: value}

    @over_a_store
    async def test_large_values(self, subject: Subject) -> None:
        """Megabytes are kept by create, update and regenerate alike; a counter beside them is changed alone."""
        first, second, third = (secrets.token_bytes(LARGE) for _ in range(3))
        record_id = await subject.insert({"first": first, "counter": b"0"})
        assert await subject.update(record_id, V, sets={"second": second, "counter": b"1"}) is True
        assert await subject.update(record_id, V, sets={"counter": b"2"}) is True
        assert await subject.regenerate(record_id, V, W, sets={"third": third}) is True
        expected = {"first": first, "second": second, "third": third, "counter": b"2"}
        assert await subject.attributes(record_id) == expected
        for bad in (b"x" * 32, V[:-1]):
            assert await subject.update(record_id, bad, "first", sets={"second": first}) is False
        assert await subject.update(record_id, W, "first", sets={"second": third}) is True
        assert await subject.attributes(record_id) == {"second": third, "third": third, "counter": b"2"}
        assert await subject.delete(record_id) is True
        assert await subject.update(record_id, W, sets={"second": second}) is False
        assert await subject.load(record_id) is None

    @pytest.mark.parametrize("size", [1, 500, 1_000, 1_024, 1_025, 2_000, 8_192, 70_000])
    @over_a_store
    async def test_every_size_keeps_the_rules(self, subject: Subject, size: int) -> None:
        """Whatever way a store takes for a size: merged where the record is alive and its own, else nothing."""
        value, record_id = secrets.token_bytes(size), await subject.insert({"a": b"1", "b": b"2"}, idle=100.0)
        before = await subject.read(record_id)
        assert await subject.update(record_id, W, "a", sets={"c": value}) is False
        assert await subject.regenerate(record_id, W, V, sets={"c": value}) is False
        assert await subject.read(record_id) == before
        subject.clock.advance(60)
        assert await subject.update(record_id, V, "a", sets={"c": value}, at=START) is True
        found = before | {"version": 2, "attributes": {"b": b"2", "c": value}}
        assert await subject.read(record_id) == found
        assert await subject.update(record_id, V, sets={"d": value}, idle_timeout=30.0) is True
        found |= {"version": 3, "accessed_at": subject.clock(), "idle_timeout": 30.0}
        assert await subject.read(record_id) == found | {"attributes": {"b": b"2", "c": value, "d": value}}
        subject.clock.advance(30)
        assert await subject.update(record_id, V, sets={"e": value}, at=subject.clock()) is False
        assert await subject.load(record_id) is None
        await subject.insert({"new": value}, record_id=record_id)
        assert await subject.attributes(record_id) == {"new": value}

    @over_a_store
    async def test_many_attributes(self, subject: Subject) -> None:
        """A thousand attributes are set, changed and deleted by one save each."""
        values = {f"attribute {number}": b"%d" % number for number in range(1_000)}
        record_id = await subject.insert(values)
        assert await subject.attributes(record_id) == values
        changed = {name: b"new " + value for name, value in values.items()}
        assert await subject.update(record_id, V, sets=changed) is True
        assert await subject.attributes(record_id) == changed
        assert await subject.update(record_id, V, *list(values)[:999]) is True
        assert await subject.attributes(record_id) == {"attribute 999": b"new 999"}

    @over_a_store
    async def test_s2_any_record_id_is_a_record_of_its_own(self, subject: Subject) -> None:
        """S2: ids are any 16 bytes; none is taken for another, for a pattern, or for a key of something else."""
        for number, record_id in enumerate(RECORD_IDS):
            await subject.delete(record_id)  # of an earlier run on a shared server
            await subject.insert({"n": b"%d" % number}, record_id=record_id)
        for number, record_id in enumerate(RECORD_IDS):
            assert await subject.attributes(record_id) == {"n": b"%d" % number}
            assert await subject.update(record_id, V, sets={"n": b"again"}) is True
            assert await subject.delete(record_id) is True
            assert await subject.load(record_id) is None

    @over_a_store
    async def test_any_verifier(self, subject: Subject) -> None:
        """A verifier is any bytes, and only exactly these are the record's own, or the one before."""
        every = [bytes(32), b"\xff" * 32, b" " * 32, b"a" * 32, b"A" * 32, b"0" * 32, b"'" * 32, bytes(range(10, 42))]
        record_id, before = await subject.insert(verifier=every[0]), None
        for old, new in itertools.pairwise(every):
            for other in every:
                assert await subject.touch(record_id, other, START) is (other in (old, before))
            assert await subject.regenerate(record_id, old, new) is True
            before, found = old, await subject.read(record_id)
            assert (found["verifier"], found["verifier_before"]) == (new, old)

    @pytest.mark.parametrize("tag", [None, bytes(16), b"\xff" * 16, b"\x01'; -- \xc3\x28\0 \ta\n\r%"])
    @over_a_store
    async def test_any_tag(self, subject: Subject, tag: bytes | None) -> None:
        """The tag given at creation is the record's, through saves and regeneration."""
        record_id = await subject.insert({"a": b"1"}, tag=tag)
        assert (await subject.read(record_id))["tag"] == tag
        await subject.update(record_id, V, sets={"a": b"2"})
        await subject.regenerate(record_id, V, W)
        assert (await subject.read(record_id))["tag"] == tag
