"""What becomes of the application's Cache-Control when our cookie leaves with the response: H1 of SECURITY."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from apps import ask, cookie, page, site, token_of, wrap
from driver import in_loop
from hypothesis import assume, example, given
from hypothesis import strategies as st

from fastersession import MemoryStore

AGREEING = [
    *("no-transform", "must-revalidate", "proxy-revalidate", "private", "no-cache", "x-cache-key=abc", "No-Transform"),
    *('private="x-a, public, x-b"', 'no-cache="set-cookie"', 'x="a\\"b, max-age=9"', 'x=""', "x=max-age", "publicly"),
    *("max-aged=5", "s-max-age=5", "mustrevalidate", "X", "XaX"),
]
CONTRADICTING = [
    *("public", "max-age=60", "s-maxage=60", "immutable", "stale-while-revalidate=9", "stale-if-error=9", "PUBLIC"),
    *("Max-Age=60", "S-MAXAGE=1", 'max-age="60"', 'Max-Age="6,0"', "must-understand", "max-age", "stale-x", "no-store"),
    *("No-Store", "no-store=x", "Stale-If-Error"),
]
BROKEN = [
    "max-age = 60",
    "a b",
    "=",
    "=x",
    "x=",
    "(",
    'x="a',
    '"',
    'x"y"',
    "é",
    'public"',
    "x=a=b",
    "private;x",
    "\0",
    "\vprivate",
]
DIRECTIVES = st.sampled_from(
    [(text, True) for text in AGREEING] + [(text, False) for text in [*CONTRADICTING, *BROKEN, ""]]
)
# Several header fields, each a list of directives; what is broken by an open quote ends its field, for it may hide all.
FIELDS = st.lists(st.lists(DIRECTIVES, max_size=5), max_size=3)
NAMES = st.sampled_from([b"cache-control", b"Cache-Control", b"CACHE-CONTROL"])
SPACES = st.sampled_from(["", " ", "\t", " \t "])


async def sent(values: list[bytes], names: list[bytes]) -> list[bytes]:
    """Return the Cache-Control fields of a response with our cookie, of an application that gives these."""
    headers = list(zip(names, values, strict=True))
    answer = await ask(wrap(page(lambda session: session.update(a=1), headers=headers)))
    assert len(answer.cookies) == 1
    return answer.all("cache-control")


@given(FIELDS, st.data())
@example([[("no-transform", True), ("max-age=60", False)]], None)
@example([[("\vprivate", False), ("X", True), ("XaX", True)]], None)
def test_h1_what_agrees_with_no_store_stays_and_nothing_else(fields: list[list[tuple[str, bool]]], data: Any) -> None:
    """H1: no-store comes first; then every directive that lets nobody store, as it was and in its order."""
    # Invariant: one field; no-store, then the agreeing directives in order, byte for byte; no other.
    texts, kept = [], []
    names, separator = [b"cache-control"] * len(fields), ", "
    if data is not None:
        names = data.draw(st.lists(NAMES, min_size=len(fields), max_size=len(fields)))
        separator = data.draw(SPACES) + "," + data.draw(SPACES)
    for field in fields:
        texts.append(separator.join(text for text, _ in field))
        for place, (text, agrees) in enumerate(field):
            if text.count('"') % 2 and "\\" not in text:
                assume(not any('"' in later for later, _ in field[place + 1 :]))  # it may close what this one opens
                break
            kept += [text] * agrees
    values = asyncio.run(sent([text.encode("latin-1") for text in texts], names))
    assert values == [", ".join(["no-store", *kept]).encode("latin-1")]


@given(st.lists(st.one_of(st.binary(max_size=40), st.text('",\\ =az-').map(str.encode)), max_size=4))
@example([b'a="'])
@example([b'"', b"public"])
def test_h1_whatever_the_application_says_nobody_may_store(values: list[bytes]) -> None:
    """H1: any bytes: no-store is the first member of the only field, and no quote opened before can hide it."""
    # Invariant: one field that begins with no-store as a member of its own, with every quote in it closed.
    (value,) = asyncio.run(sent(values, [b"cache-control"] * len(values)))
    assert value == b"no-store" or value.startswith(b"no-store, ")
    quotes, at = 0, 0
    while at < len(value):
        quotes += value[at : at + 1] == b'"'
        at += 2 if value[at : at + 1] == b"\\" and quotes % 2 else 1
    assert quotes % 2 == 0


@pytest.mark.parametrize("seed", [b'"', b'\\"', b'"\\"', b",", b"a,", b'a="b",', b" ", b"a", b'x="\\', b"=", b'"a'])
@in_loop
async def test_h1_a_long_cache_control_is_read_in_linear_time(seed: bytes) -> None:
    """H1: a megabyte of anything comes back; for anything quadratic it would be hours."""
    (value,) = await sent([(seed * (1 << 20))[: 1 << 20]], [b"cache-control"])
    assert value.startswith(b"no-store")


@pytest.mark.parametrize("act", [lambda s: s.establish(), lambda s: s.regenerate_id(), lambda s: s.invalidate()])
@in_loop
async def test_h1_a_stream_behind_a_proxy_keeps_its_no_transform(act: Any) -> None:
    """H1: a proxy that may transform buffers a stream to compress it: each of our cookies leaves it forbidden."""
    store = MemoryStore()
    headers = cookie(await token_of(wrap(site, store=store)))
    given_ = [(b"Cache-Control", b"no-cache, no-transform"), (b"content-type", b"text/event-stream")]
    for known in ([], headers):
        answer = await ask(wrap(page(act, headers=given_), store=store), headers=known)
        said = [b"no-store, no-cache, no-transform"] if answer.cookies else [b"no-cache, no-transform"]
        assert answer.all("cache-control") == said
