"""How long sessions live: the arithmetic by itself, over all spans."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fastersession.engine.spans import FOREVER, ROLL_FRACTION, Spans
from fastersession.facts import Identity
from fastersession.stores.base import Extra, Record

SECONDS = st.integers(1, 10**9).map(float)
SPANS = st.builds(
    Spans, SECONDS, SECONDS | st.just(FOREVER), SECONDS | st.just(FOREVER), st.booleans(), st.booleans()
)  # fmt: skip
TIMES = st.integers(0, 2 * 10**9).map(float)
OWN = st.none() | st.builds(
    Identity, st.none() | st.just("ada"), st.none(), st.none() | TIMES, st.none(), st.none() | st.just(0.0) | SECONDS
)


@given(SPANS, TIMES, TIMES, OWN)
def test_the_end_is_below_both_bounds(spans: Spans, created: float, issued: float, own: Identity | None) -> None:
    """A session ends with its lifetime or with its cookie, whichever comes first."""
    # Invariant: not_after is the lesser of end_of and the cookie's end, and never beyond end_of.
    end, by_cookie = spans.end_of(created, own), issued + spans.cookie_age(own)
    assert spans.not_after(created, issued, own) == min(end, by_cookie)


@given(SPANS, OWN)
def test_an_own_age_lengthens_only_what_was_not_given(spans: Spans, own: Identity | None) -> None:
    """Given timeouts win; the others are at least the session's own max_age."""
    # Invariant: given ones are as given; the others are the greater of themselves and max_age.
    age = 0.0 if own is None else own.max_age or 0.0
    assert spans.longest(own) == (spans.lifetime if spans.lifetime_is_given else max(spans.lifetime, age))
    assert spans.idle_of(spans.idle, own) == (spans.idle if spans.idle_is_given else max(spans.idle, age))


@given(SPANS, OWN, OWN, OWN)
def test_an_idle_timeout_comes_back(
    spans: Spans, first: Identity | None, then: Identity | None, last: Identity | None
) -> None:
    """What follows from max_age follows it on every change, and what the application has set stays."""
    # Invariant: through any identities the idle timeout is that of the last one alone; another number stays.
    idle = spans.idle_of(spans.idle, first)
    assert spans.idle_after(spans.idle_after(idle, first, then), then, last) == spans.idle_of(spans.idle, last)
    other = max(idle, spans.idle) + 1
    assert spans.idle_after(other, first, then) == other


@given(SPANS, OWN, st.lists(st.integers(1, 10**7), max_size=200))
def test_rolling_is_bounded(spans: Spans, own: Identity | None, pauses: list[int]) -> None:
    """However often a session is used, it rolls at most once a tenth of its age, and never beyond its lifetime."""
    # Invariant: two ends differ by a tenth of the age at least, so do two rolls; no end is beyond end_of.
    created = 0.0 if own is None or own.logged_in_at is None else own.logged_in_at
    record = Record(b"v", created, 1.0, spans.not_after(created, created, own), {}, Extra(identity=own))
    age, now, rolled = spans.cookie_age(own), created, created
    for pause in pauses:
        now += pause
        if now >= record.not_after:
            break
        if spans.rolls(record, now):
            assert now - rolled >= age * ROLL_FRACTION * (1 - 1e-9)
            record.not_after, rolled = spans.not_after(created, now, own), now
            assert record.not_after <= spans.end_of(created, own)
        elif age < FOREVER and spans.end_of(created, own) > now + age:
            assert now - rolled <= age * ROLL_FRACTION * (1 + 1e-9)


@given(SPANS, OWN)
def test_a_cookie_without_an_age_never_rolls(spans: Spans, own: Identity | None) -> None:
    """It ends with the browser; the idle timeout is what activity moves."""
    # Invariant: without a finite age nothing rolls, whatever the end.
    if spans.cookie_age(own) == FOREVER:
        assert not spans.rolls(Record(b"v", 0.0, 1.0, -1e12, {}, Extra(identity=own)), 1e9)


@given(SPANS, SECONDS, SECONDS)
def test_what_is_cut(spans: Spans, idle: float, age: float) -> None:
    """A session ends before its cookie where one of the other two is shorter, and only there."""
    # Invariant: cut exactly if a session that is used once, when its cookie is issued, ends before it.
    own = Identity(max_age=age)
    ends = min(spans.not_after(0.0, 0.0, own), idle)
    assert spans.cuts(idle, own) == (ends < age)
    assert not spans.cuts(idle, Identity(max_age=0.0))
