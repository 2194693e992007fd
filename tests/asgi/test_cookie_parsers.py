"""The cookie scanner beside the parsers of three frameworks, on what all of them must read alike."""

from __future__ import annotations

import itertools
from typing import Any

from django.http.cookie import parse_cookie as django_parse
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import cookie_parser as starlette_parse
from werkzeug.http import parse_cookie as werkzeug_parse

from fastersession.asgi.cookies import MAX_CANDIDATES, CookieFinder

# RFC 6265 section 4.1.1: what servers should send, and user agents send back.
VISIBLE = {chr(code) for code in range(0x21, 0x7F)}
NAMES = st.text(sorted(VISIBLE - set('"(),/:;<=>?@[\\]{}')), min_size=1, max_size=12)
VALUES = st.text(sorted(VISIBLE - set('",;\\')), max_size=24)
SPACE = st.text(" \t", max_size=3)
SPLITS = st.lists(st.integers(0, 8), max_size=3)


def found(name: str, fields: list[str]) -> list[str]:
    headers = [(b"cookie", field.encode()) for field in fields]
    return [value.decode() for value in CookieFinder(name).find(headers) or ()]


def split(pairs: list[tuple[str, str]], cuts: list[int]) -> list[str]:
    """Write the pairs as one Cookie field, or as several as HTTP/2 may split them."""
    places = sorted({0, *(cut for cut in cuts if cut < len(pairs)), len(pairs)})
    spans = itertools.pairwise(places)
    return ["; ".join(f"{name}={value}" for name, value in pairs[begin:end]) for begin, end in spans]


@given(st.dictionaries(NAMES, VALUES, max_size=8), NAMES, SPLITS)
def test_p6_plain_cookies_are_read_as_three_frameworks_read_them(
    sent: dict[str, str], absent: str, cuts: list[int]
) -> None:
    """P6: each cookie of a well-formed field is what Starlette, Django and Werkzeug say, and none is made up."""
    # Invariant: for every name sent, all four give the one value sent; for any other, none.
    line = "; ".join(split(list(sent.items()), []))
    assert starlette_parse(line) == django_parse(line) == werkzeug_parse(line).to_dict() == sent
    for name in {*sent, absent}:
        assert found(name, split(list(sent.items()), cuts)) == ([sent[name]] if name in sent else [])


@given(st.lists(st.tuples(st.sampled_from(["sid", "sid2", "Sid"]), VALUES), max_size=8), SPLITS)
def test_p4_cookies_sent_twice_are_read_as_werkzeug_reads_them(pairs: list[tuple[str, str]], cuts: list[int]) -> None:
    """P4: of the parsers here only Werkzeug's keeps them all: the same values in the same order."""
    # Invariant: find() gives the first four of Werkzeug's list, and the last of them all is Starlette's and Django's.
    line = "; ".join(split(pairs, []))
    for name in ("sid", "sid2", "Sid"):
        sent = werkzeug_parse(line).getlist(name)
        assert found(name, split(pairs, cuts)) == sent[:MAX_CANDIDATES]
        assert starlette_parse(line).get(name) == django_parse(line).get(name) == (sent[-1] if sent else None)


@given(st.dictionaries(NAMES, VALUES, min_size=1, max_size=6), st.data())
def test_p6_white_space_around_a_pair_is_read_as_three_frameworks_read_it(sent: dict[str, str], data: Any) -> None:
    """P6: spaces and tabs before and after each pair, at the ends of the field too, change nothing for any of them."""
    # Invariant: for every name sent, all four give the one value sent, however the pairs are spaced.
    line = ";".join(f"{data.draw(SPACE)}{name}={value}{data.draw(SPACE)}" for name, value in sent.items())
    assert starlette_parse(line) == django_parse(line) == werkzeug_parse(line).to_dict() == sent
    for name in sent:
        assert found(name, [line]) == [sent[name]]
