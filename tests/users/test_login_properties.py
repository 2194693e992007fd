"""What a login rests on, by property: spans, what stores call a user, what a record says of him, the arguments."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import math
import threading
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastersession import JsonCodec, LoginRefused
from fastersession.crypto.tags import UserTags
from fastersession.crypto.tokens import Sealer
from fastersession.engine.packing import ABOUT, Packer, Unreadable
from fastersession.engine.plan import Action, Point, Situation, is_time_to_log_in, plan
from fastersession.engine.spans import Spans
from fastersession.facts import EMPTY, Identity, Intents, Status
from fastersession.session import Session, give_state
from fastersession.state import State
from fastersession.stores.base import Record

ID = b"i" * 16
NOW = 1_700_000_000.0
seconds = st.integers(1, 10**9).map(float)
moments = st.integers(0, 2 * 10**9).map(float)
spans = st.builds(
    Spans, seconds, seconds | st.just(math.inf), seconds | st.just(math.inf), st.booleans(), st.booleans()
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
names = texts.filter(bool)
identities = st.builds(
    Identity, names, moments, moments, texts | st.none(), st.none() | st.just(0.0) | st.integers(1, 10**9).map(float)
)


# --- how long ---


@given(spans=spans, own=identities | st.none(), created=moments, issued=moments, later=moments)
def test_a_session_ends_with_its_lifetime_and_with_its_cookie(
    spans: Spans, own: Identity | None, created: float, issued: float, later: float
) -> None:
    # The end is never beyond the last moment, nor beyond the cookie; a later cookie never moves it back, nor beyond.
    end, last = spans.not_after(created, issued, own), spans.end_of(created, own)
    assert end == min(last, issued + spans.cookie_age(own))
    assert end <= spans.not_after(created, issued + later, own) <= last


@given(spans=spans, own=identities, created=moments, later=moments)
def test_the_lifetime_counts_from_the_login(spans: Spans, own: Identity, created: float, later: float) -> None:
    # When it was created says nothing any more; a later login ends later by as much; nobody's counts from creation.
    last = spans.end_of(created, own)
    assert last == spans.end_of(created + later, own)
    assert own.logged_in_at is not None
    assert spans.end_of(created, own._replace(logged_in_at=own.logged_in_at + later)) == last + later
    assert spans.end_of(created, None) == spans.end_of(created, Identity()) == created + spans.lifetime


@given(spans=spans, own=identities, idle=seconds)
def test_a_max_age_of_its_own_lengthens_what_nobody_has_given(spans: Spans, own: Identity, idle: float) -> None:
    # Lifetime and idle timeout: never shortened; as long as the cookie where they are the middleware's own; else as is.
    age = own.max_age or 0.0
    longest, idle_of = spans.longest(own), spans.idle_of(spans.idle, own)
    assert longest == (spans.lifetime if spans.lifetime_is_given else max(spans.lifetime, age))
    assert idle_of == (spans.idle if spans.idle_is_given else max(spans.idle, age))
    if idle != spans.idle:
        assert spans.idle_of(idle, own) == idle
    assert spans.cookie_age(own) == (spans.max_age if own.max_age is None else own.max_age or math.inf)


# --- what stores call a user ---


def tag(key: bytes, user: str, cookie: str) -> bytes:
    """Make a tag by the standard library alone (RFC 5869, RFC 2104)."""
    extracted = hmac.new(b"fastersession/v1", key, hashlib.sha256).digest()
    info = b"user-index" + len(cookie).to_bytes(2, "big") + cookie.encode()
    subkey = hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()
    return b"\x01" + hmac.new(subkey, user.encode(), hashlib.sha256).digest()[:15]


def test_u5_a_tag_is_a_keyed_hash() -> None:
    """U5: 16 bytes, which say nothing of the name to whoever has no key.

    INFO=$(printf 'user-index\\000\\003sid' | od -An -tx1 | tr -d ' \\n')
    KEY=$(openssl kdf -keylen 32 -kdfopt digest:SHA256 -kdfopt key:key -kdfopt salt:fastersession/v1 \\
        -kdfopt hexinfo:$INFO HKDF | tr -d ':')
    printf ada | openssl dgst -sha256 -mac HMAC -macopt hexkey:$KEY   # after 01, its first 15 bytes
    """
    assert UserTags([b"key"], "sid").of("ada") == (bytes.fromhex("019cbd39a8c1aedca03d50c1a842e19e"),)


@given(
    keys=st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=4),
    user=names,
    cookie=st.sampled_from(["sid", "__Host-sid"]),
)
def test_u5_tags_are_of_each_key_in_order(keys: list[bytes], user: str, cookie: str) -> None:
    # The first key's first; equal keys once; each by the standard library's own reckoning.
    assert UserTags(keys, cookie).of(user) == tuple(dict.fromkeys(tag(key, user, cookie) for key in keys))


users = st.tuples(st.binary(min_size=1), names, st.from_regex(r"[a-z]{1,9}", fullmatch=True))


@given(one=users, other=users)
def test_u5_two_users_never_share_a_tag(one: tuple[bytes, str, str], other: tuple[bytes, str, str]) -> None:
    # Another key, another name, byte for byte, or another cookie: another tag.
    def of(key: bytes, user: str, cookie: str) -> bytes:
        (made,) = UserTags([key], cookie).of(user)
        return made

    assert (of(*one) == of(*other)) == (one == other)


@pytest.mark.parametrize(
    ("one", "other"), [("é", "e\u0301"), ("ada", "Ada"), ("ada", "ada "), ("ß", "ss"), ("ﬁ", "fi")]
)
def test_names_are_compared_byte_by_byte(one: str, other: str) -> None:
    """Nothing is folded or composed: what looks alike may be two people."""
    tags = UserTags([b"key"], "sid")
    assert tags.of(one) != tags.of(other)


# --- what a record says of itself ---

PACKERS = [Packer(JsonCodec(), None), Packer(JsonCodec(), Sealer([b"a key of these tests"], "sid"))]


def read(packer: Packer, about: bytes) -> tuple[Any, ...]:
    record = Record(b"v", 1.0, 2.0, 3.0, {ABOUT: about})
    packer.unpack(ID, record)
    return record.extra.identity, record.created_at, record.idle_timeout


@given(own=identities | st.none(), created=moments, idle=seconds, packer=st.sampled_from(PACKERS))
def test_what_a_record_says_of_its_user_comes_back(
    own: Identity | None, created: float, idle: float, packer: Packer
) -> None:
    # Any identity, and none; what came back is packed to the same again.
    about = packer.pack_about(ID, (own, created, idle))
    assert read(packer, about) == (own, created, idle)
    assert read(packer, packer.pack_about(ID, (own, created, idle))) == (own, created, idle)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 10**400) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


@given(said=values | st.lists(values, min_size=3, max_size=3) | st.lists(values, min_size=7, max_size=7))
def test_any_json_is_an_identity_or_unreadable(said: Any) -> None:
    # Nothing else comes: a user is a text or nobody, times are finite numbers; nothing raises but Unreadable.
    packer = PACKERS[0]
    empty = packer.pack_about(ID, (None, 0.0, 1.0))
    head = empty[: empty.index(b"[")]
    try:
        own, created, idle = read(packer, head + json.dumps(said).encode())
    except Unreadable:
        return
    assert type(created) is type(idle) is float
    if own is None:
        assert len(said) == 3
        return
    assert len(said) == 7
    assert isinstance(own.user, str | None)
    assert isinstance(own.label, str | None)
    assert all(time is None or math.isfinite(time) for time in (own.authenticated_at, own.logged_in_at, own.max_age))


@given(created=moments, idle=seconds)
def test_who_knows_no_users_reads_what_nobody_has_logged_in_to(created: float, idle: float) -> None:
    # A list of three, as releases write and read that know no users; theirs says that it is nobody's.
    packer = PACKERS[0]
    about = packer.pack_about(ID, (None, created, idle))
    user, *times = json.loads(about[about.index(b"[") :])
    assert (user, times) == (None, [created, idle])


# --- the arguments of login() ---


def fresh() -> tuple[Session, State]:
    """Return a session of a middleware over a store of users."""
    state = State()
    state.opened(SimpleNamespace(knows_users=True, now=lambda: NOW, idle_timeout=60.0))  # type: ignore[arg-type]
    session = Session({"cart": 1})
    give_state(session, state)
    return session, state


class NoZone(tzinfo):
    """Knows no offset: such a datetime is naive (the reference, "Aware and Naive Objects")."""

    def utcoffset(self, when: datetime | None) -> None:
        return None


anything = (
    values
    | st.binary()
    | st.builds(object)
    | st.datetimes()
    | st.datetimes(timezones=st.timezones() | st.just(UTC) | st.just(timezone(timedelta(hours=14))))
    | st.timedeltas()
    | st.decimals()
    | st.fractions()
    | st.complex_numbers()
    | st.sampled_from([int, NotImplemented, ..., "ada", "\ud800", "a" * 257, {"cart"}, ("cart",), NOW, -1, 1e300, True])
)


@given(
    arguments=st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("user", "keep", "label", "authenticated_at", "max_age"), anything)
    )
)
def test_any_argument_is_right_or_an_error_at_the_call(arguments: dict[str, Any]) -> None:
    # TypeError or ValueError, or LoginRefused for what is long ago; then nothing is marked, the session as it was.
    session, state = fresh()
    arguments.setdefault("user", "ada")
    try:
        session.login(**arguments)
    except (TypeError, ValueError, LoginRefused):
        assert state.intents is None
        assert dict(session) == {"cart": 1}
        assert session.user is None
        return
    assert session.user == arguments["user"]
    assert session.label == arguments.get("label")
    assert session.authenticated_at is not None
    assert session.authenticated_at.timestamp() <= NOW
    assert set(session) <= {"cart"}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"user": None}, TypeError), ({"user": 5}, TypeError), ({"user": b"ada"}, TypeError),
        ({"user": ""}, ValueError),
        ({"user": "\ud800"}, ValueError), ({"keep": "cart"}, TypeError), ({"keep": None}, TypeError),
        ({"keep": [1]}, TypeError), ({"keep": [["cart"]]}, TypeError), ({"label": 5}, TypeError),
        ({"label": "a" * 257}, ValueError), ({"label": "\udc00"}, ValueError), ({"max_age": -1}, ValueError),
        ({"max_age": True}, ValueError), ({"max_age": math.nan}, ValueError), ({"max_age": 10**10}, ValueError),
        ({"authenticated_at": datetime(2026, 1, 1)}, ValueError), ({"authenticated_at": True}, ValueError),
        ({"authenticated_at": datetime(2026, 1, 1, tzinfo=NoZone())}, ValueError),
        ({"authenticated_at": "2026"}, ValueError), ({"authenticated_at": math.nan}, ValueError),
        ({"authenticated_at": -1.0}, ValueError), ({"authenticated_at": 1e12}, ValueError),
        ({"authenticated_at": NOW - 30 * 86400 - 1}, LoginRefused),
    ],
)  # fmt: skip
def test_arguments_that_are_refused(arguments: dict[str, Any], error: type[Exception]) -> None:
    """At the call, and nothing is asked for."""
    session, state = fresh()
    with pytest.raises(error):
        session.login(**{"user": "ada", **arguments})
    assert state.intents is None


@pytest.mark.parametrize(
    ("arguments", "at"),
    [
        ({}, NOW), ({"authenticated_at": NOW - 5}, NOW - 5), ({"authenticated_at": NOW + 5}, NOW),
        ({"authenticated_at": datetime.fromtimestamp(NOW - 5, timezone(timedelta(hours=-9)))}, NOW - 5),
        ({"authenticated_at": int(NOW) - 30 * 86400}, NOW - 30 * 86400), ({"label": "a" * 256}, NOW),
    ],
)  # fmt: skip
def test_arguments_that_are_right(arguments: dict[str, Any], at: float) -> None:
    """What was given, at the latest now."""
    session, state = fresh()
    session.login("ada", **arguments)
    assert session.authenticated_at == datetime.fromtimestamp(at, UTC)
    assert state.intents is not None
    assert state.intents.login is not None
    assert state.intents.login.strictly is ("authenticated_at" in arguments)
    assert session.is_fresh(NOW - at)
    assert session.is_fresh(timedelta(seconds=NOW - at))
    assert not session.is_fresh(NOW - at - 1)


def test_nobody_is_fresh() -> None:
    """A guest has not authenticated."""
    session, _ = fresh()
    assert not session.is_fresh(math.inf)


# --- when it is carried out ---


@given(
    situation=st.builds(Situation, st.sampled_from(Status), st.sampled_from(Point), *[st.booleans()] * 9, st.just(True))
)
def test_a_login_is_carried_out_before_the_headers_or_never(situation: Situation) -> None:
    # At the start or an awaited verb, whatever the status; not in a failed response; else it is as if not asked for.
    timely = situation.point in (Point.START, Point.NOW) and not situation.started and not situation.discard
    assert is_time_to_log_in(situation.point, started=situation.started, discard=situation.discard) is timely
    expected = Action.LOGIN if timely else plan(situation._replace(login=False))
    assert plan(situation) is expected


def test_a_login_that_meets_a_save_of_another_thread_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The save takes all wishes that there are; a login that comes then is for the next, whole when it is seen."""
    session, state = fresh()
    taken = Intents()
    state.intents = taken

    class Turn:
        """The other thread's, before this one has the lock."""

        def __enter__(self) -> None:
            assert taken.login is None
            state.intents = None

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr("fastersession.users.ASKING", Turn())
    session.login("ada")
    assert dict(session) == {}
    assert taken.login is None
    assert state.intents is not None
    assert state.intents.login is not None
    assert state.base == EMPTY


def test_a_login_is_asked_for_under_the_lock() -> None:
    """No save point takes the wishes while it is put among them."""
    session, state = fresh()
    lock, seen = threading.Lock(), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastersession.users.ASKING", lock)
        with lock:
            thread = threading.Thread(target=lambda: seen.append(session.login("ada")))
            thread.start()
            with contextlib.suppress(StopIteration):
                while dict.__len__(session):  # until it has let go of what the login does not keep
                    pass
            assert state.intents is None or state.intents.login is None
        thread.join()
    assert state.intents is not None
    assert state.intents.login is not None
