"""The constructor's arguments: K5, W1, W3 and I2 of SECURITY, and what each default is."""

from __future__ import annotations

import contextlib
import logging
import subprocess
import sys
import warnings
from collections import deque
from datetime import timedelta
from typing import Any

import pytest
from apps import SECRET, SpyStore, ask, page, site, wrap
from driver import in_loop
from hypothesis import example, given
from hypothesis import strategies as st

from fastersession import (
    ConfigError,
    FasterSessionMiddleware,
    InsecureCookieWarning,
    InsecureSecretKeyWarning,
    LifetimeWarning,
    MemoryStore,
)
from fastersession.config import Faults
from fastersession.engine.spans import Spans

HOUR = timedelta(hours=1)
ENTRY = {"header_name": "X-Health", "header_value": "yes"}


def warned(**options: Any) -> list[type[Warning]]:
    """Construct, and return the categories of the warnings given."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        wrap(site, **options)
    return [warning.category for warning in caught]


GOOD: dict[str, list[Any]] = {
    "secret_key": [SECRET, SECRET.encode(), [SECRET], (SECRET, SECRET.encode()), [SECRET] * 4],
    "store": [None, MemoryStore(), SpyStore(), "memory://"],
    "store_timeout": [2, 0.5, timedelta(seconds=3)],
    "secure": [True, False],
    "same_site": ["lax", "Lax", "STRICT", None],
    "max_age": [0, 1, 60],
    "session_cookie": [None, "sid", "chat_session"],
    "session_object": ["session", "chat"],
    "skip_session_header": [None, ENTRY, [], [ENTRY], (ENTRY, {"header_name": "x", "header_value": "*"})],
    "logger": [None, logging.getLogger("elsewhere")],
    "path": ["/", "/app"],
    "domain": [None, "example.org", "localhost", ".example.org"],
    "partitioned": [False],
    "scope_key": ["session", "chat"],
    "exclude": [(), ["/health"], ("/static/*", "/metrics"), {"/a"}, iter(["/a"]), ["/*"], deque(["/a"])],
    "idle_timeout": [1, 0.5, HOUR],
    "lifetime": [None, 1, 0.5, HOUR],
    "csrf": [None, "fetch-metadata", "report", "all"],
    "transport": [("cookie",), ["header:x-a"], ("cookie", "header:X-A"), ["header:mcp-session-id", "cookie"]],
    "passive": [None, (), ["/poll", "/poll/*", ENTRY], [ENTRY], iter(["/a", ENTRY]), ENTRY],
    "allowed_origins": [(), ["https://a.org"], {"http://a.org:8000", "https://[::1]"}, iter(["https://a.org"])],
}

BAD: dict[str, list[Any]] = {
    "secret_key": ["", b"", [], (), [""], [SECRET, ""], [SECRET] * 5, None, 1, [None], [SECRET, 1], {SECRET: 1}],
    "store": [MemoryStore, object(), "sqlite", "sessions.db", "", 0, False, {}, b"memory://"],
    "secure": [None, 1, "yes"],
    "http_only": [None, 1, "yes"],
    "same_site": ["", "relaxed", 1],
    "max_age": [-1, 0.5, "60", True, None, HOUR],
    "session_cookie": ["", "a b", "a;b", "sid\n", "__host-sid", "__Host-sid", 1, b"sid"],
    "session_object": ["", None, 1],
    "skip_session_header": [
        *("X-Health", 1, {}, [{}], ["X-Health"], {**ENTRY, "more": 1}, {"header_name": "x"}),
        *({**ENTRY, "header_name": bad} for bad in ("", "a b", "a:b", "x\n", "é", None, b"x")),
        *({**ENTRY, "header_value": bad} for bad in ("a\nb", "é", None, b"x", 1)),
    ],
    "logger": ["name", 1, logging, logging.LoggerAdapter(logging.getLogger("elsewhere"))],
    "path": ["", "app", "/;", 1],
    "domain": ["", ".", "..org", "a..b", "org.", "a b", 1],
    "transport": [
        *(
            "cookie",
            "header:x",
            (),
            None,
            1,
            ["cookies"],
            ["header:"],
            ["header:a b"],
            ["header:x\n"],
            [1],
            [b"cookie"],
        ),
        *(["x-a"], ["cookie", "cookie"], ["header:a", "header:b"], ["header:a", "header:A"], ["header:cookie"]),
        *(["header:Set-Cookie"], ["cookie", "header:x", "cookie"], {"cookie": 1}, ["Header:x"], ["header:é"]),
    ],
    "passive": [1, [1], ["poll"], ["/a*b"], [b"/a"], [None], ["/a", {"header_name": "x"}], {"/a": 1}, [("/a",)]],
    "csrf": [True, "", "yes", "Fetch-Metadata", 1, b"all", ["all"], {}],
    "partitioned": [None, True, 1],  # True: the tests' default is secure=False
    "scope_key": ["", None, 1],
    "exclude": [b"/health", None, 1, ["health"], [""], ["/a*b"], ["*"], ["/**"], [1], {"/a": 1}],
    "idle_timeout": [0, -1, None, "1", True, timedelta(0), -HOUR, float("nan"), float("inf"), [1]],
    "store_timeout": [0, -1, None, "1", True, timedelta(0), -HOUR, float("nan"), float("inf"), [1]],
    "lifetime": [0, -1, "1", True, timedelta(0), -HOUR, float("nan"), float("inf"), [1]],
    "allowed_origins": [None, 1, ["a.org"], ["https://a.org/"], ["*"], ["null"], [b"https://a.org"]],
}


@pytest.mark.parametrize(("argument", "value"), [(name, value) for name, values in GOOD.items() for value in values])
def test_what_the_table_allows_is_accepted_in_silence(argument: str, value: Any) -> None:
    """Each argument takes each of its documented forms, without a warning."""
    assert warned(**{argument: value}) == []


@pytest.mark.parametrize(("argument", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_w1_what_cannot_work_is_a_config_error(argument: str, value: Any) -> None:
    """W1: a wrong value is a ConfigError that names the argument, and never echoes a secret."""
    with pytest.raises(ConfigError) as caught:
        wrap(site, **{argument: value})
    assert str(caught.value).startswith(f"{argument}: ")
    assert SECRET not in str(caught.value)


def test_a_class_of_stores_is_to_be_called() -> None:
    """`store=MemoryStore`, without the parentheses, is told what it lacks: not a member, the call."""
    with pytest.raises(ConfigError, match=r"\(missing: the call: MemoryStore\(\.\.\.\)\)"):
        wrap(site, store=MemoryStore)


def test_all_faults_come_in_one_error() -> None:
    """Who repairs a configuration reads every fault at once, each on a line of its own."""
    names = [name for name in BAD if name not in ("secure", "partitioned")]
    with pytest.raises(ConfigError) as caught:
        wrap(site, **{name: BAD[name][0] for name in names})
    counted, *lines = str(caught.value).splitlines()
    assert counted == f"{len(lines)} faults:"
    assert {line.strip().split(":")[0] for line in lines} >= set(names)
    assert isinstance(caught.value, ValueError)


def test_only_an_application_can_be_wrapped() -> None:
    """The app must be callable."""
    for app in (None, "app", 1):
        with pytest.raises(ConfigError, match=r"^app: "):
            wrap(app)


# --- secrets ---


@pytest.mark.parametrize(
    ("key", "weak"),
    [
        (SECRET, False),
        ("k" * 7 + "j" * 8 + "q" * 9 + "x" * 8, False),
        ("ä€𝄞z" * 8, False),  # 32 characters
        ("0f1e2d3c4b5a69788796a5b4c3d2e1f0", False),  # openssl rand -hex 16
        ("0f1e2d3c4b5a69788796a5b4c3d2e1f", True),  # 31 characters
        ("ä" * 31, True),  # more than 32 bytes
        ("x", True),
        (b"x" * 32, True),
        ("your-session-secret-key", True),
        ("your-session-secret-key, made longer than 32", True),
        ("YOUR_SECRET_KEY_YOUR_SECRET_KEY_YOURS", True),
        ("django-insecure-3b9)x+9m!j2k@l0p#o8i&u7y6t5r4e3", True),
        ("please change me, this is no key for production", True),
        ("CHANGEME CHANGEME CHANGEME CHANGEME", True),
        ([SECRET, "brief"], True),
        (["brief", "briefer"], True),
    ],
)  # fmt: skip
def test_k5_weak_secrets_warn_once_and_are_never_shown(key: Any, weak: bool) -> None:
    """K5: under 32 characters or a placeholder: one warning, no refusal, and no text holds the secret."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        wrap(site, secret_key=key)
    assert [warning.category for warning in caught] == [InsecureSecretKeyWarning] * weak
    for text, secret in ((str(w.message), k) for w in caught for k in (key if isinstance(key, list) else [key])):
        assert str(secret) not in text or secret == "x"
        assert "keygen" in text


def test_k5_the_warning_points_at_the_callers_line() -> None:
    """K5: the place to repair is where the middleware is made."""
    with pytest.warns(InsecureSecretKeyWarning) as caught:
        FasterSessionMiddleware(site, secret_key="short", secure=False)
    assert caught[0].filename == __file__


def test_k5_there_is_no_default_secret() -> None:
    """K5: the secret must be given, here or in the environment."""
    for key in ({}, {"secret_key": None}):
        with pytest.raises(ConfigError, match=r"^secret_key: .*FASTERSESSION_SECRET.*keygen"):
            FasterSessionMiddleware(site, **key)


def test_k5_keygen_makes_a_secret_that_gives_no_warning() -> None:
    """K5: `python -m fastersession keygen` prints a strong key and only that."""
    command = [sys.executable, "-m", "fastersession", "keygen"]
    made = subprocess.run(command, capture_output=True, check=True, text=True, timeout=60).stdout
    assert made.count("\n") == 1
    assert warned(secret_key=made.strip()) == []


def test_the_ancestors_positional_order_still_works() -> None:
    """The arguments of fastsession 0.3.0 stand in its order."""
    FasterSessionMiddleware(site, SECRET, None, True, False, "lax", 0, None, "session", None, None)


# --- defaults and warnings ---


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"secure": True}, []),
        ({"http_only": False}, [InsecureCookieWarning]),
        ({"same_site": "None"}, [InsecureCookieWarning]),
        ({"same_site": "none", "secure": True}, []),
        ({"partitioned": True, "secure": True}, [InsecureCookieWarning]),
        ({"partitioned": True, "secure": True, "same_site": None}, [InsecureCookieWarning]),
        ({"partitioned": True, "secure": True, "same_site": "Strict"}, [InsecureCookieWarning]),
        ({"partitioned": True, "secure": True, "same_site": "NONE"}, []),
        ({"max_age": 3600}, []),
        ({"max_age": 10 * 86400}, []),  # the defaults follow
        ({"max_age": 3600, "idle_timeout": 60}, [LifetimeWarning]),
        ({"max_age": 3600, "lifetime": 60}, [LifetimeWarning]),
        ({"max_age": 3600, "lifetime": HOUR, "idle_timeout": 3600}, []),
        ({"max_age": 3600, "lifetime": 60, "idle_timeout": 60}, [LifetimeWarning]),
        ({"max_age": 3600, "lifetime": None}, []),
        ({"max_age": 3600, "idle_timeout": timedelta(hours=12)}, []),
        ({"max_age": 86400, "idle_timeout": timedelta(hours=12)}, [LifetimeWarning]),
        ({"max_age": 0, "lifetime": 1, "idle_timeout": 1}, []),
        ({"http_only": False, "same_site": "none"}, [InsecureCookieWarning] * 2),
    ],
)
def test_w3_what_weakens_the_cookie_or_ends_the_session_early_warns(
    options: dict[str, Any], expected: list[type[Warning]]
) -> None:
    """W3: a cookie that scripts read, that browsers refuse or never send, a session shorter than it: once each."""
    assert warned(**options) == expected


# --- the parsers, whatever they are given ---

ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.timedeltas()),
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(st.text(max_size=12), inner, max_size=2)),
    max_leaves=5,
)
PARSERS: dict[str, Any] = {
    "secret_key": Faults.secret_keys,
    "skip_session_header": Faults.skip_headers,
    "exclude": Faults.exclude,
    "allowed_origins": Faults.origins,
    "csrf": Faults.csrf,
    "transport": Faults.transport,
    "passive": Faults.passive,
    "scope_key": lambda faults, value: faults.names(scope_key=value),
    "store": Faults.store,
    "store_timeout": Faults.store_timeout,
    "logger": Faults.logger,
    "idle_timeout": lambda faults, value: faults.durations(value, 1.0, 0),
    "lifetime": lambda faults, value: faults.durations(1.0, value, 0),
    "max_age": lambda faults, value: faults.durations(1.0, None, value),
    "rolling": lambda faults, value: faults.rolling(value, Spans(1.0, 1.0, 1.0)),
    "on_reuse": Faults.on_reuse,
}


@pytest.mark.parametrize("argument", PARSERS)
@given(value=ANYTHING)
@example(value="\ud800")
@example(value=["/\ud800"])
@example(value=10**400)
@example(value={"header_name": "x", "header_value": "\x85"})
def test_parsers_collect_faults_and_raise_nothing_else(argument: str, value: Any) -> None:
    """Every parser of an argument takes any object: a usable value, or a fault that names the argument."""
    # Invariant: parsing returns; settle() then does nothing but warn, or raises a ConfigError naming the argument.
    faults = Faults()
    PARSERS[argument](faults, value)
    text = ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            faults.settle()
        except ConfigError as error:
            text = str(error)
    assert text == "" or text.startswith(f"{argument}: ")


@pytest.mark.parametrize("argument", ["idle_timeout", "lifetime", "max_age"])
@pytest.mark.parametrize("value", [1e12, 1e15, 1e300, 10**400], ids=["1e12", "1e15", "1e300", "10**400"])
@in_loop
async def test_a_duration_that_is_accepted_works(argument: str, value: float) -> None:
    """However long a duration is: either a ConfigError says so, or sessions work with it."""
    with contextlib.suppress(ConfigError):
        app = wrap(page(lambda session: [session.update(a=1), str(session.idle_timeout)][1]), **{argument: value})
        answer = await ask(app)
        assert (answer.status, len(answer.cookies)) == (200, 1)


def test_exclude_and_skip_come_out_as_given() -> None:
    """Prefixes lose their star, header names are lowered, `*` means any value."""
    faults = Faults()
    assert faults.exclude(["/a", "/b*", "/*"]) == (frozenset({"/a"}), ("/b", "/"))
    assert faults.skip_headers([ENTRY, {"header_name": "Y", "header_value": "*"}]) == (
        (b"x-health", b"yes"),
        (b"y", None),
    )
    faults.settle()


@in_loop
async def test_a_given_logger_gets_the_events(caplog: pytest.LogCaptureFixture) -> None:
    """A given logger gets records with `event` and `session_id`."""
    caplog.set_level(logging.DEBUG, "elsewhere")
    await ask(wrap(site, logger=logging.getLogger("elsewhere")), headers=[(b"cookie", b"sid=junk")])
    assert [(record.name, record.event, record.session_id) for record in caplog.records] == [  # type: ignore[attr-defined]
        ("elsewhere", "cookie.rejected", None)
    ]


# --- twice ---


def test_i2_the_same_cookie_or_scope_key_twice_is_an_error() -> None:
    """I2: two of us in one chain need two cookies and two scope keys."""

    class Between:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, *args: Any) -> None:
            await self.app(*args)

    inner = wrap(site)
    for options in ({}, {"session_cookie": "b"}, {"scope_key": "b"}):
        for app in (inner, Between(inner), Between(Between(inner))):
            with pytest.raises(ConfigError, match="applied twice"):
                wrap(app, **options)
    wrap(Between(inner), session_cookie="b", scope_key="b")
