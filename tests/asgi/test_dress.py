"""The headers of a start, by themselves: which cookie leaves, and where it is told that it may not arrive."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from fastersession.asgi.dress import NO_STATUS, StartHeaders
from fastersession.events import CookieUndeliverable, InsecureScheme
from fastersession.state import State
from fastersession.stores.base import Record

HOST: Any = None
NO_AGE: Any = None
COOKIE = (b"set-cookie", b"sid=token; Path=/")
CLEARED = (b"set-cookie", b"sid=; Max-Age=0; Path=/")
ACCEPT = {"type": "websocket.accept"}
START = {"type": "http.response.start", "status": 204, "headers": []}


class Told:
    """The start of a response or a socket, and the events that it causes."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.headers = StartHeaders(
            sign=lambda ticket: b"token", before_token=b"sid=", after_token=b"; Path=/", cleared=CLEARED[1],
            secure=True, events=self, own_age=NO_AGE,
        )  # fmt: skip

    def tell(self, event: Any) -> None:
        self.events.append(event)

    def dressed(self, message: Any, state: State, scope: Any) -> Any:
        status = message.get("status", NO_STATUS)
        return self.headers.dressed(message, status, state, scope, False).get("headers")


def new() -> State:
    state = State()
    state.opened(HOST)
    return state


def created() -> State:
    state = new()
    record_id, _ = state.ticket()
    state.created(record_id, Record(b"verifier", 0.0, 60.0, 3600.0, {}))
    return state


@pytest.mark.parametrize(
    ("asgi", "loaded", "expected"),
    [
        ({}, (), [CookieUndeliverable()]),  # the specification's default is 2.0
        ({"asgi": {}}, (), [CookieUndeliverable()]),
        ({"asgi": {"spec_version": "2.0"}}, (), [CookieUndeliverable()]),
        ({"asgi": {"spec_version": "2.1"}}, (), []),
        ({"asgi": {"spec_version": "2.3"}}, ("granian",), [CookieUndeliverable()]),
        ({"asgi": {"spec_version": "2.3"}}, ("daphne.server",), [CookieUndeliverable()]),
    ],
)
def test_an_accept_whose_headers_are_dropped_is_told(
    asgi: Any, loaded: tuple[str, ...], expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cookie is put there all the same: by the server's version of the protocol, or its module."""
    for name in ("granian", "daphne.server"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    for name in loaded:
        monkeypatch.setitem(sys.modules, name, sys)
    told = Told()
    assert told.dressed(ACCEPT, created(), {"scheme": "wss", **asgi}) == [COOKIE]
    assert told.events == expected


@pytest.mark.parametrize("scheme", ["http", "ws", "https", "wss", None])
def test_a_secure_cookie_over_a_plain_scheme_is_told(scheme: str | None) -> None:
    """Where the scheme is missing nothing is known."""
    told = Told()
    headers = told.dressed(START, created(), {} if scheme is None else {"scheme": scheme})
    assert COOKIE in headers
    assert told.events == [InsecureScheme()] * (scheme in ("http", "ws"))


def test_a_cookie_leaves_when_its_secret_is_new_and_its_record_there() -> None:
    """Not with what is only drawn, and not again for another wish."""
    drawn, known = new(), created()
    drawn.ticket()
    known.cookie_left()
    known.wishes().reload = True
    assert Told().dressed(START, drawn, {"scheme": "https"}) == []
    assert Told().dressed(START, known, {"scheme": "https"}) == []


def test_a_cookie_is_cleared_only_after_a_logout_of_who_has_it() -> None:
    """Another wish of a new session takes nothing from the browser."""
    asking, ended = new(), new()
    asking.wishes().reload = True
    ended.wishes().signed_out = True
    assert Told().dressed(START, asking, {"scheme": "https"}) == []
    assert CLEARED in Told().dressed(START, ended, {"scheme": "https"})
