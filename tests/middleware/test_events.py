"""What is logged, how often, and what never is."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest
from driver import Browser, in_loop
from routes import content, events, serve, tab
from stores import SuspendingStore

from fastersession.events import CookieRejected, Event, ForeignOrigin
from fastersession.log import EventLog


def quiet(caplog: Any) -> None:
    caplog.set_level(logging.DEBUG, "fastersession")


class Happened(Event, name="something.happened", level=logging.ERROR):
    text = "it happened %(times)d times"
    times: int = 0


class Noticed(Event, name="something.noticed", level=logging.WARNING):
    text = "a warning"
    once = True


def test_an_event_is_a_record_with_its_name_and_the_public_id(caplog: Any) -> None:
    """Each event has `event` and `session_id` on its record, and a text for people."""
    log = EventLog(logging.getLogger("fastersession"))
    log.tell(Happened(b"\xab" * 16, times=2))
    log.tell(Happened())
    assert [(r.event, r.session_id, r.getMessage(), r.levelname) for r in events(caplog)] == [
        ("something.happened", "ab" * 16, "it happened 2 times", "ERROR"),
        ("something.happened", None, "it happened 0 times", "ERROR"),
    ]


def every_event(kind: type[Event] = Event) -> Iterator[type[Event]]:
    for one in kind.__subclasses__():
        yield from every_event(one)
        if one.name and one.__module__.startswith("fastersession.events."):
            yield one


@pytest.mark.parametrize("kind", list(every_event()), ids=lambda kind: kind.__name__)
def test_every_event_says_in_its_text_what_its_fields_are(kind: type[Event], caplog: Any) -> None:
    """No field is left out, none is named that is not there, and each has a docstring, a level and a dotted name."""
    quiet(caplog)
    names = [field.name for field in fields(kind) if field.name != "record_id"]
    EventLog(logging.getLogger("fastersession")).tell(kind(**{name: f"<{name}>" for name in names}))
    (record,) = events(caplog)
    assert all(f"<{name}>" in record.getMessage() for name in names)
    assert record.levelno == kind.level
    assert re.fullmatch(r"[a-z]+\.[a-z_]+", kind.name)
    assert kind.__doc__


def test_p9_what_hostile_networks_cause_is_a_few_lines_a_minute(caplog: Any) -> None:
    """P9: at most ten DEBUG records a minute whatever the number of causes; the next minute has ten again."""
    quiet(caplog)
    now = [0.0]
    log = EventLog(logging.getLogger("fastersession"), clock=lambda: now[0])
    for _ in range(1_000):
        log.tell(CookieRejected())
    assert len(events(caplog)) == 10
    assert {record.levelname for record in events(caplog)} == {"DEBUG"}
    now[0] = 60.0
    for _ in range(1_000):
        log.tell(CookieRejected())
    assert len(events(caplog)) == 20


def test_what_is_said_once_is_said_once(caplog: Any) -> None:
    """One warning per kind in the life of a middleware."""
    log = EventLog(logging.getLogger("fastersession"))
    for kind in (Noticed, ForeignOrigin, Noticed, ForeignOrigin):
        log.tell(kind())
    assert [record.event for record in events(caplog)] == ["something.noticed", "websocket.foreign_origin"]


@in_loop
async def test_p9_bad_cookies_log_one_event_per_request_at_most(caplog: Any) -> None:
    """P9: a thousand requests, each with a thousand bad cookies, log ten records a minute at most, none above DEBUG."""
    quiet(caplog)
    browser = Browser(serve())
    bad = [(b"cookie", b"; ".join([b"sid=" + b"A" * 20] * 1_000))]
    minute = time.monotonic() // 60
    for _ in range(1_000):
        await browser.get("/", headers=bad)
    minutes = time.monotonic() // 60 - minute + 1
    assert 1 <= len(events(caplog)) <= 11 * minutes
    assert all(record.levelno == logging.DEBUG for record in events(caplog))


@pytest.mark.parametrize("several", ["WEB_CONCURRENCY", "multiprocessing"])
@in_loop
async def test_an_unknown_session_among_several_workers_is_explained_once(
    several: str, caplog: Any, monkeypatch: Any
) -> None:
    """One warning names the trap of a MemoryStore in several workers, and restart and expiry, its harmless causes."""
    if several == "WEB_CONCURRENCY":
        monkeypatch.setenv("WEB_CONCURRENCY", "4")
    else:
        monkeypatch.setattr(multiprocessing.process, "parent_process", object)
    browser = Browser(serve())
    await browser.get("/set?a=1")
    other_worker = tab(browser)
    other_worker.app = serve()
    for _ in range(3):
        assert await content(other_worker) == {}
    (record,) = events(caplog)
    assert record.levelname == "WARNING"
    for word in ("worker", "restart", "expired", "MemoryStore"):
        assert word in record.getMessage()


@pytest.mark.parametrize("workers", [None, "1", "", "many", "0", "-3"])
@in_loop
async def test_a_single_worker_hears_nothing_of_it(workers: str | None, caplog: Any, monkeypatch: Any) -> None:
    """One process, or a value that says nothing, gives no warning; junk never does, nor does a shared store."""
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)
    if workers is not None:
        monkeypatch.setenv("WEB_CONCURRENCY", workers)
    key = secrets.token_urlsafe(32)  # no other middleware of this process has it, whatever an earlier test has left
    browser = Browser(serve(secret_key=key))
    await browser.get("/set?a=1")
    browser.app = serve(secret_key=key)
    gc.collect()  # the one before is of another process
    await browser.get("/")
    monkeypatch.setenv("WEB_CONCURRENCY", "4")
    await Browser(serve(secret_key=key)).get("/", headers=[(b"cookie", b"sid=" + b"A" * 88)])
    browser.app = serve(secret_key=key, store=SuspendingStore())
    await browser.get("/")
    assert events(caplog) == []


@in_loop
async def test_a_secure_cookie_on_plain_http_warns_once(caplog: Any) -> None:
    """The first Secure cookie set over http says that clients may not return it; https and reading say nothing."""
    app = serve(secure=True)
    await Browser(app, scheme="https").get("/set?a=1")
    await Browser(app).get("/")
    assert events(caplog) == []
    for _ in range(3):
        await Browser(app).get("/set?a=1")
    (record,) = events(caplog)
    assert record.levelname == "WARNING"
    assert "secure=False" in record.getMessage()
    assert "proxy" in record.getMessage()


@in_loop
async def test_events_go_to_the_given_logger(caplog: Any) -> None:
    """The argument `logger` takes the place of the package's own."""
    logger = logging.getLogger("an application's own")
    await Browser(serve(secure=True, logger=logger)).get("/set?a=1")
    assert [record.name for record in events(caplog)] == ["an application's own"]


@in_loop
async def test_an_ordinary_life_logs_nothing(caplog: Any) -> None:
    """New session, reading, writing, login and logout are no events at INFO and above."""
    caplog.set_level(logging.INFO, "fastersession")
    browser = Browser(serve())
    for path in ("/", "/set?a=1", "/", "/stream?b=2", "/login", "/", "/logout", "/"):
        await browser.get(path)
    assert events(caplog) == []


def test_what_a_class_of_events_does_not_say_it_inherits() -> None:
    """Its name and its level; and no listener can change an event that the next one hears."""

    class Parent(Event, name="test.parent", level=logging.WARNING):
        text = "%(word)s"
        word: str = ""

    class Same(Parent):
        """Another class of the same kind."""

    class Renamed(Parent, name="test.renamed"):
        """Another name."""

    class Louder(Parent, level=logging.ERROR):
        """Another level."""

    assert [kind.name for kind in (Parent, Same, Renamed)] == ["test.parent", "test.parent", "test.renamed"]
    assert [kind.level for kind in (Parent, Same, Louder)] == [logging.WARNING, logging.WARNING, logging.ERROR]
    assert (Renamed.level, Louder.name) == (logging.WARNING, "test.parent")
    event = Louder(b"id", word="why")
    assert event == Louder(b"id", "why")
    with pytest.raises(FrozenInstanceError):
        event.word = "another"


def test_each_level_has_a_limit_of_its_own() -> None:
    """Junk that is told as DEBUG must not drown a warning of the same minute."""
    told: list[Event] = []
    log = EventLog(logging.getLogger("fastersession.limits"), lambda: 0.0)
    log.listen(told.append)

    class Low(Event, name="low", level=logging.DEBUG):
        text = "low"

    class High(Event, name="high", level=logging.WARNING):
        text = "high"

    for event in (*[Low()] * 11, *[High()] * 11):
        log.tell_seldom(event)
    assert [event.name for event in told] == ["low"] * 10 + ["high"] * 10
