"""The cookie scanner by itself: P2, P3, P5, P6 and P7 of SECURITY."""

from __future__ import annotations

import itertools
import sys
import tracemalloc
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastersession.asgi import cookies
from fastersession.asgi.cookies import MAX_CANDIDATES, MAX_COOKIE_BYTES, CookieFinder

finder = CookieFinder("sid")


def find(headers: list[tuple[bytes, bytes]]) -> list[bytes]:
    return list(finder.find(headers) or ())


def fields(*values: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"cookie", value) for value in values]


def naive(name: bytes, *values: bytes) -> list[bytes]:
    """Split at each semicolon, take optional white space off, compare: what the scanner must equal."""
    pairs = (part.strip(b" \t") for value in values for part in value.split(b";"))
    return [pair[len(name) + 1 :] for pair in pairs if pair.startswith(name + b"=")][:MAX_CANDIDATES]


# --- reading ---

COOKIEISH = st.lists(
    st.one_of(st.sampled_from([b"sid=", b"sid", b"=", b";", b" ", b"\t", b",", b'"', b"\\", b"x", b"\0"]), st.binary()),
    max_size=24,
).map(b"".join)


@given(st.lists(COOKIEISH, max_size=5))
@example([b"sid=a;sid=b; sid=c ;\tsid=d;sid=e"])
@example([b";;; sid=sid=;sid=;sid"])
@example([b"sid=;"])
@example([b" sid=a \t", b"sid= b ;x", b"sid=c d\t;\t\tsid=e "])
@example([b"sid=\t ; sid=a\x0b;sid=b\xa0;sid=c\n"])
def test_p6_the_scanner_equals_a_naive_split(values: list[bytes]) -> None:
    """P6: differential fuzz: the same values in the same order as splitting by hand."""
    # Invariant: find(fields) == the first four of the naive model's.
    assert find(fields(*values)) == naive(b"sid", *values)


@given(st.from_regex(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,12}", fullmatch=True), COOKIEISH, COOKIEISH)
def test_p6_any_name_of_the_grammar_is_found_literally(name: bytes, before: bytes, after: bytes) -> None:
    """P6: characters of a name that mean something in a pattern mean nothing here."""
    # Invariant: as above, for every name that the grammar allows.
    value = before.replace(b"sid", name) + b"; " + name + b"=v" + after.replace(b"sid", name)
    assert list(CookieFinder(name.decode()).find(fields(value)) or ()) == naive(name, value)


@given(st.lists(COOKIEISH, max_size=3), st.integers(0, 8))
@example([b"sid=a; sid=b"], 8)
@example([b"sid=ab;sid=cd"], 2)
@example([b"sid=ab "], 2)
@example([b"sid=ab "], 3)
@example([b"sid=ab\t;"], 2)
def test_p6_knowing_the_usual_length_finds_the_same(values: list[bytes], usual: int) -> None:
    """P6: the short cut for a field with our cookie alone hides no value of the usual length, and invents none."""
    # Invariant: of the values without a semicolon or white space at the end, those of that length are the model's.
    found = CookieFinder("sid", usual).find(fields(*values)) or ()
    assert [v for v in found if len(v) == usual and b";" not in v and v == v.rstrip(b" \t")] == [
        v for v in naive(b"sid", *values) if len(v) == usual
    ]


@pytest.mark.parametrize(
    "spoof",
    [
        b"SID=x", b"Sid=x", b"s%69d=x", b"%73id=x", b'"sid"=x', b"'sid'=x", b"sid =x", b"sid\t=x", b"=sid=x", b"=x",
        b"xsid=x", b"_sid=x", b"__Host-sid=x", b"sid.=x", b"sid\0=x", b"\0sid=x", b"\nsid=x", b"\rsid=x", b"\x0bsid=x",
        b"\x0csid=x", b"\xa0sid=x", b"\xc2\xa0sid=x", b"\xef\xbb\xbfsid=x", b"a=b,sid=x", b"a=b, sid=x", b"a=b\nsid=x",
        b'a="; b', b"a=b sid=x", b"a=b&sid=x", b"a=b:sid=x", b"sid", b"sid:x", b"sid;=x", b"si\xc4\xb1d=x", b"$sid=x",
        b"s\\id=x", b"sid%3dx", b"a={sid=x}", b"a[sid=x]", b"", b";", b"; ;",
    ],
)  # fmt: skip
def test_p6_spoofs_of_the_name_are_not_found(spoof: bytes) -> None:
    """P6: no decoding, folding, quoting or repair makes another name ours; nor does it hide ours behind it."""
    assert find(fields(spoof)) == []
    assert find(fields(spoof + b"; sid=real")) == [b"real"]


def test_p6_quotes_do_not_hold_semicolons() -> None:
    """P6: a quoted string is no quoted string here (RFC 6265bis section 5.8.3 knows none)."""
    assert find(fields(b'a="; sid=inside; b"; sid=after')) == [b"inside", b"after"]
    assert find(fields(b'sid="x"')) == [b'"x"']


@pytest.mark.parametrize("count", [1, 2, 3, 7, 50])
def test_p5_every_cookie_field_is_read(count: int) -> None:
    """P5: among 1 to 50 fields, ours is found in each position; other headers are not looked at."""
    for position in range(count):
        values = [b"a=1; b=2"] * count
        values[position] = b"a=1; sid=here"
        headers = [(b"x-cookie", b"sid=no"), *fields(*values), (b"set-cookie", b"sid=no"), (b"cookie2", b"sid=no")]
        assert find(headers) == [b"here"]


def test_p7_any_byte_anywhere() -> None:
    """P7: each of 256 values in each position, replaced and inserted: as the naive model, no exception."""
    line = b"a=1; sid=v2; b=3"
    for at, byte in itertools.product(range(len(line) + 1), range(256)):
        for value in (line[:at] + bytes([byte]) + line[at:], line[:at] + bytes([byte]) + line[at + 1 :]):
            assert find(fields(value)) == naive(b"sid", value)


@pytest.mark.parametrize("name", ["sid", "__Host-sid"])
@pytest.mark.parametrize("before", [b"", b" ", b"\t", b" \t ", b"a=1;", b"a=1 ;\t", b";;", b"; "])
@pytest.mark.parametrize("after", [b"", b" ", b"\t", b"\t  ", b";", b" ;", b"; ", b"\t;\t", b" ; b=2", b";;"])
def test_p6_white_space_around_the_pair_is_no_part_of_it(name: str, before: bytes, after: bytes) -> None:
    """P6: what proxies and hand-written clients put beside a pair; inside the value, and beside `=`, it counts."""
    finder, pair = CookieFinder(name), name.encode() + b"="
    assert list(finder.find(fields(before + pair + b"x\t y" + after)) or ()) == [b"x\t y"]
    assert list(finder.find(fields(before + pair + b" xX" + after)) or ()) == [b" xX"]
    assert list(finder.find(fields(before + name.encode() + b" =x" + after)) or ()) == []
    twice = before + pair + b"1X" + after + b";" + before + pair + b"2" + after
    assert list(finder.find(fields(twice)) or ()) == [b"1X", b"2"]


CORPORA = {
    "empty pairs": b"a=;", "semicolons": b";", "spaces": b" ", "tabs": b"\t", "names": b"sid", "name starts": b"si",
    "pairs of ours": b"sid=x;", "late names": b";x=sid", "almost": b"; sid", "quotes": b'\\"', "open quotes": b'"',
    "ours, spaced": b"sid=x \t; ", "ours, wide": b"sid=" + b" " * 99 + b"x" + b"\t" * 99 + b";",
    "commas": b",", "equals": b"=", "spaced": b"; ", "wide spaces": b";" + b" " * 99, "zeros": b"\0", "high": b"\xff",
}  # fmt: skip


def steps(value: bytes, finder: CookieFinder = finder) -> int:
    """Count the lines and calls, of Python and of C, that one search takes."""
    count = 0

    def tick(frame: Any, event: str, arg: Any) -> Any:
        nonlocal count
        count += 1
        return tick

    headers = fields(value)
    before = sys.gettrace(), sys.getprofile()
    sys.settrace(tick)
    sys.setprofile(tick)
    try:
        finder.find(headers)
    finally:
        sys.settrace(before[0])
        sys.setprofile(before[1])
    return count


@pytest.mark.parametrize("seed", CORPORA.values(), ids=CORPORA)
def test_p2_hostile_cookie_corpora_take_linear_steps(seed: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """P2: counted in lines and calls instead of seconds: four times the bytes are at most five times the work."""
    monkeypatch.setattr(cookies, "MAX_COOKIE_BYTES", 1 << 30)
    small, large = ((seed * size)[:size] for size in (64 * 1024, 256 * 1024))
    assert steps(large) <= 5 * steps(small)


def test_p2_our_cookie_alone_is_found_without_a_search() -> None:
    """P2: a field that holds a value of the usual length and nothing else, as nearly all do, costs the least."""
    usual = CookieFinder("sid", 88)
    fewest = steps(b"sid=" + b"x" * 88, usual)
    others = [b"sid=" + b"x" * 87, b"sid=" + b"x" * 89, b"a=1; sid=" + b"x" * 88, b"sid", b""]
    assert all(steps(other, usual) > fewest for other in others)


def test_p2_one_cookie_of_ours_among_others_needs_no_pattern(monkeypatch: pytest.MonkeyPatch) -> None:
    """P2: wherever it stands; the pattern, several times as dear, is for fields that name ours more than once."""
    finder = CookieFinder("sid")
    monkeypatch.setattr(finder, "_search", None)
    for value in (b"sid=v", b"sid=v; a=1", b"a=1; sid=v", b"a=1;sid=v; b=2"):
        assert list(finder.find(fields(value)) or ()) == [b"v"]
    with pytest.raises(TypeError):
        finder.find(fields(b"sid=v; sid=w"))


@pytest.mark.parametrize("seed", CORPORA.values(), ids=CORPORA)
def test_p2_hostile_cookie_corpora_are_linear(seed: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """P2: 4 MB of each corpus come back; 64 times the limit would be hours for anything quadratic."""
    monkeypatch.setattr(cookies, "MAX_COOKIE_BYTES", 1 << 30)
    value = (seed * (1 << 22))[: 1 << 22]
    assert find(fields(value)) == naive(b"sid", value)
    assert find(fields(value, b"sid=last")) == [*naive(b"sid", value), b"last"][:MAX_CANDIDATES]


def test_p2_more_than_64_kib_are_ignored() -> None:
    """P2: the limit counts all Cookie fields together, and only them."""
    half = MAX_COOKIE_BYTES // 2
    rest = b"sid=x;".ljust(half, b"a")
    assert find(fields(b"a" * half, rest)) == [b"x"]
    assert find(fields(b"a" * half, rest + b"a")) == []
    assert find(fields(rest + b"a", b"a" * half)) == []
    assert find(fields(rest + b"a" * half + b"a")) == []
    most = b"sid=x; " + b"a" * (MAX_COOKIE_BYTES - 7)
    assert find(fields(most)) == [b"x"]
    assert find(fields(most + b"a")) == []
    assert find([(b"x-large", b"a" * 2 * MAX_COOKIE_BYTES), *fields(b"sid=x")]) == [b"x"]


@pytest.mark.parametrize("seed", CORPORA.values(), ids=CORPORA)
def test_p3_nothing_is_allocated_per_cookie(seed: bytes) -> None:
    """P3: the peak of a search stays below twice the header, and at most four candidates come out."""
    headers = fields((seed * MAX_COOKIE_BYTES)[:MAX_COOKIE_BYTES])
    finder.find(headers)
    tracemalloc.start()
    try:
        found = finder.find(headers)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(found or ()) <= MAX_CANDIDATES == 4
    assert peak < 2 * MAX_COOKIE_BYTES


def test_p2_absent_and_too_many_are_told_apart() -> None:
    """P2: no cookie is nothing to speak of; too many bytes are an event."""
    assert finder.find(fields()) is finder.find(fields(b"a=1")) is None
    too_many = finder.find(fields(b"sid=x; " + b"a" * MAX_COOKIE_BYTES))
    assert too_many is not None
    assert len(too_many) == 0


def test_p3_the_first_four_candidates_are_looked_at() -> None:
    """P3: in the order sent, over all fields."""
    assert find(fields(b"sid=1; sid=2", b"sid=3; a=b", b"sid=4; sid=5", b"sid=6")) == [b"1", b"2", b"3", b"4"]
