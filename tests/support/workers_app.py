"""What several worker processes serve over one store: turns of a conversation, streamed.

Rules of residence: raw ASGI, so that the session alone is under test; what a turn says is a pure function of its name,
so that who asked can tell its own words from anybody else's. Configured by environment: STORE is the store's URL, LEASE
the seconds of a lease, if not those of the package, PAUSE the seconds between two tokens.

    /turn?who=ada&turn=t7&how=whole     begun, streamed and ended within an exclusive turn
                           how=late     an exclusive turn that begins after the headers and ends before the last chunk
                           how=own      an attribute of its own, no exclusive turn
                           how=endless  as whole, but it ends with its worker only
                           how=breaks   as whole, but the application raises in the middle
                           how=login    as own, answered at once, with a new id
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
from server_apps import SECRET, Request, leave, of_a_worker, ready, show

from fastersession import FasterSessionMiddleware, Session
from fastersession.engine import exclusive
from fastersession.stores import from_url

TOKENS = 6
PAUSE = float(os.environ.get("PAUSE", "0.003"))  # seconds between two tokens
EVENTS = b"text/event-stream"


class BrokenError(Exception):
    """What the application raises where it is asked to."""


def new_entry(who: str, turn: str) -> dict[str, Any]:
    """Return a turn as the conversation keeps it, before its answer."""
    return {"turn": turn, "question": f"{who} asks {turn}", "answer": ""}


def tokens(question: str) -> list[str]:
    return [f"[{question}: {number}]" for number in range(TOKENS)]


def whole_answer(question: str) -> str:
    """Return what is answered to a question."""
    return "".join(tokens(question))


async def answer(request: Request, entry: dict[str, Any]) -> None:
    """Stream the answer, and keep it token by token: the entry changes in place, inside the session."""
    for said in tokens(entry["question"]):
        entry["answer"] += said
        await request.body(said.encode(), more=True)
        await anyio.sleep(PAUSE)


async def ask(session: Session, entry: dict[str, Any]) -> None:
    """Add the question to the history, and save it before its answer begins."""
    session.setdefault("history", []).append(entry)
    await session.save()


async def whole(request: Request, entry: dict[str, Any]) -> None:
    async with request.session.exclusive() as session:
        await request.start(EVENTS)
        await ask(session, entry)
        await answer(request, entry)
        await request.body(b"")


async def endless(request: Request, entry: dict[str, Any]) -> None:
    async with request.session.exclusive() as session:
        await request.start(EVENTS)
        await ask(session, entry)
        await request.body(tokens(entry["question"])[0].encode(), more=True)
        await anyio.sleep_forever()


async def late(request: Request, entry: dict[str, Any]) -> None:
    await request.start(EVENTS)
    async with request.session.exclusive() as session:
        await ask(session, entry)
        await answer(request, entry)
    await request.body(b"")


async def own(request: Request, entry: dict[str, Any]) -> None:
    await request.start(EVENTS)
    request.session[entry["turn"]] = entry
    await answer(request, entry)
    await request.body(b"")


async def breaks(request: Request, entry: dict[str, Any]) -> None:
    async with request.session.exclusive() as session:
        await request.start(EVENTS)
        await ask(session, entry)
        entry["answer"] = tokens(entry["question"])[0]
        await request.body(entry["answer"].encode(), more=True)
        await anyio.sleep(PAUSE)
        raise BrokenError


async def login(request: Request, entry: dict[str, Any]) -> None:
    request.session.regenerate_id()
    entry["answer"] = whole_answer(entry["question"])
    request.session[entry["turn"]] = entry
    await request.start(EVENTS)
    await request.body(entry["answer"].encode())


HOW: dict[str, Callable[[Request, dict[str, Any]], Awaitable[None]]] = {
    "whole": whole,
    "late": late,
    "own": own,
    "endless": endless,
    "breaks": breaks,
    "login": login,
}


async def turn(request: Request) -> None:
    """One turn; it ends where its client leaves."""
    who = request.query["who"]
    if request.session.setdefault("who", who) != who:
        raise AssertionError(f"{who} was given the session of {request.session['who']}")
    async with anyio.create_task_group() as group:
        group.start_soon(leave, request, group.cancel_scope)
        await HOW[request.query["how"]](request, new_entry(who, request.query["turn"]))
        group.cancel_scope.cancel()


ROUTES = {"/ready": ready, "/session": show, "/turn": turn}

plain = of_a_worker(ROUTES)
exclusive.LEASE_SECONDS = float(os.environ.get("LEASE", exclusive.LEASE_SECONDS))
store = from_url(os.environ.get("STORE", "memory://"))
app = FasterSessionMiddleware(plain, secret_key=SECRET, store=store, secure=False)
