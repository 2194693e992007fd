"""What browsers do to an application, step by step: the steps, and the strategy that makes stories of them.

Rules of residence: data. A step makes sense in any place of any story (one that has nothing to act on does nothing), so
that a failing story can be shortened step by step; ``player`` plays it.
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

__all__ = [
    "Go", "Junk", "Leave", "Login", "Logout", "Odd", "Open", "Plant", "Replay", "Script", "Step", "Target", "Visit",
    "Wait", "certain_stories", "clients",
]  # fmt: skip

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
        """Make one of ``"METHOD /address"``, or of ``"/address"`` for a GET."""
        if isinstance(given, Target):
            return given
        method, _, address = given.rpartition(" ")
        return cls(method or "GET", address, **more)

    def filled(self, canary: str) -> Target:
        """Put a browser's own word in."""
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
    """Ask, and read to the end."""

    target: Target


@dataclass(frozen=True)
class Open(Step):
    """Ask in a tab of its own, read the beginning, and leave the rest for later steps."""

    target: Target


@dataclass(frozen=True)
class Go(Step):
    """Read on in an open tab: one chunk, or to the end."""

    tab: int
    whole: bool


@dataclass(frozen=True)
class Leave(Step):
    """Leave an open tab in mid-stream, or have the server cancel its call."""

    tab: int
    way: str


@dataclass(frozen=True)
class Replay(Step):
    """Ask with a cookie that the browser had before, as a thief or a forgotten tab does."""

    which: int
    target: Target


@dataclass(frozen=True)
class Junk(Step):
    """Ask with Cookie headers that are none of ours."""

    headers: Headers
    target: Target


@dataclass(frozen=True)
class Plant(Step):
    """Write into the session, as a view could."""

    data: dict[str, Any]


@dataclass(frozen=True)
class Login(Step):
    """Call ``regenerate_id()``."""


@dataclass(frozen=True)
class Logout(Step):
    """Call ``invalidate()``."""


@dataclass(frozen=True)
class Wait(Step):
    """Let time pass: a part of the idle timeout, or more than all of it."""

    timeouts: float


@dataclass(frozen=True)
class Odd(Step):
    """Send a scope that no browser would."""

    scope: dict[str, Any]


@dataclass(frozen=True)
class Script(Step):
    """Let the application send these messages, writing to the session between them."""

    messages: tuple[Message, ...]


def clients(
    targets: Sequence[str | Target] = ("GET /",), *, session_cookie: str = "__Host-sid", max_steps: int = 12
) -> st.SearchStrategy[list[Step]]:
    """Stories of two browsers in front of an application: tabs, logins, reloads, leaving, replaying old cookies.

    :param targets: the requests that they make.
    :param session_cookie: the name that wrong cookies bear.
    """
    who, target = st.sampled_from(BROWSERS), st.sampled_from([Target.of(one) for one in targets])
    tab = st.integers(0, 3)
    junk = cookie_headers(session_cookie).filter(bool)
    step = st.one_of(
        *[st.builds(Visit, who, target)] * 4,
        st.builds(Plant, who, session_data(max_size=2)),
        st.builds(Open, who, target),
        *[st.builds(Go, who, tab, st.booleans())] * 2,
        st.builds(Leave, who, tab, st.sampled_from(WAYS)),
        st.builds(Login, who),
        st.builds(Logout, who),
        st.builds(Replay, who, st.integers(0, 5), target),
        st.builds(Wait, who, st.sampled_from((0.5, 1.1))),
        st.builds(Junk, who, junk, target),
        st.builds(Odd, who, scopes(cookies=cookie_headers(session_cookie), kinds=("http",))),
        st.builds(Script, who, asgi_messages().map(tuple)),
    )
    return st.lists(step, min_size=1, max_size=max_steps)


def certain_stories(targets: Sequence[Target]) -> Iterator[Sequence[Step]]:
    """Make the stories that are not left to chance: each request in each trouble, each two of one browser or both."""
    me, you = list(BROWSERS)
    planted = Plant(me, {})
    yield from ([Visit(me, one)] for one in targets)
    yield [planted, Wait(me, 1.1)]
    yield [planted, Logout(me)]
    for one in targets:
        visit, opened = Visit(me, one), Open(me, one)
        yield [visit, Login(me), Replay(me, 0, one)]
        yield [visit, Logout(me), Replay(me, 0, one)]
        for trouble in (Logout(me), Login(me), planted, *(Leave(me, 0, way) for way in WAYS)):
            yield [opened, trouble]
            yield [planted, opened, trouble]
    for one, other in itertools.product(targets, targets):
        yield [Visit(me, one), Visit(me, other)]
        yield [Visit(me, one), Visit(you, other)]
