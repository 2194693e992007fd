"""Scenarios: the steps of browsers in front of an application, and the strategy that makes lists of them.

Rules of residence: data; ``player`` plays it. A step is valid at any place of any scenario, and does nothing where it
has nothing to act on. So hypothesis can shorten a failing scenario step by step.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from ..browser.answer import Message
from ..browser.jar import Headers
from .strategies import asgi_messages, cookie_headers, scopes, session_data

BROWSERS = "AB"
WAYS = ("leave", "half-close", "cancel")


@dataclass(frozen=True)
class Target:
    """A request that browsers make: ``Target.of("POST /chat?q={canary}", body=b"...")``.

    ``{canary}`` in address or body becomes a word that only one browser knows: it must never reach another.

    :param method: of HTTP, or ``"WS"`` for a WebSocket, which gets ``body`` as its one message.
    """

    method: str
    address: str
    body: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()

    @classmethod
    def of(cls, given: str | Target, **more: Any) -> Target:
        """Return the target of ``"METHOD /address"``, or of ``"/address"`` for a GET."""
        if isinstance(given, Target):
            return given
        method, _, address = given.rpartition(" ")
        return cls(method or "GET", address, **more)

    def filled(self, canary: str) -> Target:
        """Return the target with a browser's canary in it."""
        body = self.body.replace(b"{canary}", canary.encode())
        return Target(self.method, self.address.replace("{canary}", canary), body, self.headers)

    def __str__(self) -> str:
        return f"{self.method} {self.address}"


@dataclass(frozen=True)
class Step:
    """One thing that a browser does."""

    who: str


@dataclass(frozen=True)
class Visit(Step):
    """Send a request, and read the answer to its end."""

    target: Target


@dataclass(frozen=True)
class Open(Step):
    """Send a request in a new tab, and read the beginning of the answer; later steps may read the rest."""

    target: Target


@dataclass(frozen=True)
class ReadOn(Step):
    """Read on in an open tab: one chunk, or to the end."""

    tab: int
    whole: bool


@dataclass(frozen=True)
class Leave(Step):
    """Leave an open tab in the middle of its stream, or have the server cancel the call."""

    tab: int
    way: str


@dataclass(frozen=True)
class Replay(Step):
    """Ask with a cookie that the browser had before, as a thief or a forgotten tab does."""

    which: int
    target: Target


@dataclass(frozen=True)
class WrongCookies(Step):
    """Send a request with Cookie headers that no session set."""

    headers: Headers
    target: Target


@dataclass(frozen=True)
class Write(Step):
    """Write to the session, as a view of the application could."""

    data: dict[str, Any]


@dataclass(frozen=True)
class Login(Step):
    """Call ``login()`` with a user of the browser's own."""


@dataclass(frozen=True)
class Regenerate(Step):
    """Call ``regenerate_id()``."""


@dataclass(frozen=True)
class Revoke(Step):
    """End all sessions of the browser's user, from outside of any request."""


@dataclass(frozen=True)
class Logout(Step):
    """Call ``invalidate()``."""


@dataclass(frozen=True)
class Wait(Step):
    """Advance the clock by a multiple of the idle timeout."""

    timeouts: float


@dataclass(frozen=True)
class OddScope(Step):
    """Send a scope that no browser causes."""

    scope: dict[str, Any]


@dataclass(frozen=True)
class Respond(Step):
    """Have the application send these messages, and write to the session between them."""

    messages: tuple[Message, ...]


def clients(
    targets: Sequence[str | Target] = ("GET /",), *, session_cookie: str = "__Host-sid", max_steps: int = 12
) -> st.SearchStrategy[list[Step]]:
    """Return a strategy of scenarios of two browsers: with tabs, logins, reloads, streams that are left, old cookies.

    :param targets: the requests that they make.
    :param session_cookie: the name of the wrong cookies.
    """
    who, target = st.sampled_from(BROWSERS), st.sampled_from([Target.of(one) for one in targets])
    tab = st.integers(0, 3)
    wrong = cookie_headers(session_cookie).filter(bool)
    step = st.one_of(
        *[st.builds(Visit, who, target)] * 4,
        st.builds(Write, who, session_data(max_size=2)),
        st.builds(Open, who, target),
        *[st.builds(ReadOn, who, tab, st.booleans())] * 2,
        st.builds(Leave, who, tab, st.sampled_from(WAYS)),
        st.builds(Login, who),
        st.builds(Logout, who),
        st.builds(Regenerate, who),
        st.builds(Revoke, who),
        st.builds(Replay, who, st.integers(0, 5), target),
        st.builds(Wait, who, st.sampled_from((0.5, 1.1))),
        st.builds(WrongCookies, who, wrong, target),
        st.builds(OddScope, who, scopes(cookies=cookie_headers(session_cookie), kinds=("http",))),
        st.builds(Respond, who, asgi_messages().map(tuple)),
    )
    return st.lists(step, min_size=1, max_size=max_steps)


def fixed_scenarios(targets: Sequence[Target]) -> Iterator[Sequence[Step]]:
    """Yield the scenarios that every run has: each target in each disturbance, each pair of one browser and of both."""
    a, b = list(BROWSERS)
    written = Write(a, {})
    yield from ([Visit(a, one)] for one in targets)
    yield [written, Wait(a, 1.1)]
    yield [written, Logout(a)]
    yield [written, Login(a), Revoke(a)]
    for one in targets:
        visit, opened = Visit(a, one), Open(a, one)
        yield [visit, Login(a), Replay(a, 0, one)]
        yield [visit, Logout(a), Replay(a, 0, one)]
        yield [Login(a), visit, Revoke(a), Replay(a, 0, one)]
        for disturbance in (
            Logout(a),
            Login(a),
            Regenerate(a),
            Revoke(a),
            written,
            *(Leave(a, 0, way) for way in WAYS),
        ):
            yield [opened, disturbance]
            yield [written, opened, disturbance]
    for one, other in itertools.product(targets, targets):
        yield [Visit(a, one), Visit(a, other)]
        yield [Visit(a, one), Visit(b, other)]
