"""What becomes of it when the application puts something else in the session's place in the scope."""

from __future__ import annotations

import json
from enum import Enum
from types import SimpleNamespace
from typing import Any

import pytest
from apps import SpyStore, ask, cookie, nothing, page, site, token_of, wrap
from driver import Browser, in_loop

from fastersession import Session, SessionNotEstablished
from fastersession.asgi.replaced import is_taken_over
from fastersession.events import SessionReplaced

# --- scope["session"] replaced ---


class Empty(Enum):
    """What Litestar's clear_session puts in the session's place."""

    EMPTY = 0


def replacing(value: Any, *, late: Any = None, status: int = 200) -> Any:
    """Make an app that puts a value in the session's place, and one more after the start."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["session"] = value
        await send({"type": "http.response.start", "status": status, "headers": []})
        assert scope["session"] is value
        if late is not None:
            late(scope)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    return app


async def replaced(app: Any, *, known: bool = True) -> tuple[Any, list[Any], int]:
    """Run the app in a session of alice (or none); return what the next request sees, the cookies, and len(store)."""
    store = SpyStore()
    headers = cookie(await token_of(wrap(site, store=store))) if known else []
    answer = await ask(wrap(app, store=store), headers=headers)
    fresh = [c.value for c in answer.cookies]
    after = await ask(wrap(site, store=store), headers=cookie(fresh[0]) if fresh and fresh[0] else headers)
    return after.json(), fresh, len(store)


@pytest.mark.parametrize(
    ("value", "adopted", "expected", "said"),
    [
        ({"b": 2}, False, True, ("a dict", "it is taken as the new content")),
        ({}, True, True, ("a dict", "it is taken as the new content")),
        ({}, False, False, ("an empty dict", "it is ignored (to empty the session, call session.clear())")),
        (SimpleNamespace(), True, False, ("a types.SimpleNamespace", "it is left alone")),
        (None, False, True, None),
        (Empty.EMPTY, False, True, None),
    ],
)
def test_what_is_in_the_sessions_place_is_told(value: Any, adopted: bool, expected: bool, said: Any) -> None:
    """By its class and what becomes of it, of no session; what clears it is nothing to tell of."""
    events: list[Any] = []
    assert is_taken_over(value, {}, adopted, SimpleNamespace(tell=events.append)) is expected
    assert events == ([] if said is None else [SessionReplaced(None, *said)])


LITESTAR = {"litestar_app": object()}
CONNECTION = SimpleNamespace(session_id=Empty.EMPTY)  # of Litestar, without its session middleware
ITS_MIDDLEWARE = SimpleNamespace(session_id="an id")


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ({}, False),
        ({"state": {"_ls_connection_state": CONNECTION}}, False),
        (LITESTAR, True),
        ({**LITESTAR, "state": None}, True),
        ({**LITESTAR, "state": {}}, True),
        ({**LITESTAR, "state": {"_ls_connection_state": CONNECTION}}, True),
        ({**LITESTAR, "state": {"_ls_connection_state": ITS_MIDDLEWARE}}, False),
    ],
)
def test_an_empty_dict_of_litestars_empties_the_session(scope: Any, expected: bool) -> None:
    """Its `set_session` is meant; what its own session middleware begins with is not."""
    events: list[Any] = []
    assert is_taken_over({}, scope, False, SimpleNamespace(tell=events.append)) is expected
    assert bool(events) is not expected


@in_loop
async def test_a_plain_dict_is_the_new_content() -> None:
    """Litestar's set_session: what is not in the dict is deleted; the session and its cookie stay."""
    assert await replaced(replacing({"b": 2})) == ({"b": 2}, [], 1)
    content, cookies, size = await replaced(replacing({"b": 2}), known=False)
    assert (content, len(cookies), size) == ({"b": 2}, 1, 1)


@in_loop
async def test_a_plain_dict_is_compared_at_every_later_save_point() -> None:
    """The dict stays there, and what the stream writes into it afterwards is saved too."""
    for late, expected in (
        (lambda scope: scope["session"].update(c=3), {"b": 2, "c": 3}),
        (lambda scope: scope["session"].pop("b"), {}),
        (lambda scope: scope.update(session={"d": 4}), {"d": 4}),
    ):
        assert await replaced(replacing({"b": 2}, late=late)) == (expected, [], 1)


@in_loop
async def test_a_dict_filled_too_late_raises_at_the_next_save_point() -> None:
    """A plain dict cannot refuse the write, so the save point raises: nothing vanishes silently."""
    app = wrap(replacing({}, late=lambda scope: scope["session"].update(lost=1)))
    answer = await Browser(app).get("/", catch=True)
    assert isinstance(answer.error, SessionNotEstablished)
    assert "'lost'" in str(answer.error)
    assert answer.messages[-1]["type"] == "http.response.start"  # the end is withheld


@pytest.mark.parametrize("value", [None, Empty.EMPTY])
@in_loop
async def test_none_and_enum_members_clear(value: Any) -> None:
    """Litestar's clear_session: the record is deleted, the cookie cleared."""
    assert await replaced(replacing(value)) == ({}, [""], 0)
    assert await replaced(replacing(value), known=False) == ({}, [], 0)


@pytest.mark.parametrize("value", [{"a": {}}, {"": None}])
@in_loop
async def test_a_dict_of_empty_things_is_the_new_content(value: dict[str, Any]) -> None:
    """Only an empty dict is empty."""
    assert await replaced(replacing(value)) == (value, [], 1)


@in_loop
async def test_an_empty_dict_of_litestar_is_an_empty_live_record() -> None:
    """Emptied by replacement is emptied, not logged out."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["litestar_app"] = object()
        await replacing({})(scope, receive, send)

    assert await replaced(app) == ({}, [], 1)


@in_loop
async def test_the_empty_dict_of_an_inner_session_middleware_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Starlette's SessionMiddleware before 1.0 begins with an empty plain dict: ours stays, and one warning tells."""
    assert await replaced(replacing({})) == ({"name": "alice"}, [], 1)
    assert [record.event for record in caplog.records] == ["session.replaced"]  # type: ignore[attr-defined]


class OtherSession(dict[str, Any]):
    """Another middleware's session, as Starlette's is a dict subclass."""


@pytest.mark.parametrize(
    "value", [OtherSession(x=1), object(), "text", 1, [("a", 1)], json, Empty, Session], ids=lambda v: type(v).__name__
)
@in_loop
async def test_anything_else_is_somebody_elses(value: Any) -> None:
    """Another session middleware further in (sqladmin): ours stays as it was, and so does theirs."""
    assert await replaced(replacing(value)) == ({"name": "alice"}, [], 1)
    assert await replaced(replacing(value), known=False) == ({}, [], 0)


@in_loop
async def test_a_removed_session_stays_as_it_was() -> None:
    """Deleting the key from the scope deletes nothing else."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope.pop("session")["b"] = "2"
        await page()(scope, receive, send)

    assert await replaced(app) == ({"name": "alice", "b": "2"}, [], 1)


@in_loop
async def test_a_scope_that_is_used_again_shows_the_session_of_its_last_call() -> None:
    """To who stands further out: what the call before has left there is over."""
    seen: list[Session] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["session"])
        await page()(scope, receive, send)

    async def send(message: Any) -> None:
        """Nobody is there."""

    wrapped = wrap(app)
    scope = {"type": "http", "scheme": "http", "path": "/", "method": "GET", "headers": []}
    for number in range(2):
        await wrapped(scope, nothing, send)
        assert scope["session"] is seen[number]
    assert seen[0] is not seen[1]
