"""``python -m fastersession sessions``: who is logged in where, for whoever runs the service.

Rules of residence: from arguments to calls of ``Sessions`` and a store. How it is shown is in ``printing``.
Exit status: 0 done, 1 nothing matched, 2 wrong usage, 3 the store cannot be used. Never a token.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from .. import ConfigError, FasterSessionError, SessionInfo, Sessions
from ..stores import from_url
from .printing import lines, print_sessions, progress, said, shown, time_of

DONE, NOTHING, USAGE, STORE_DOWN = range(4)
PAGE = 500
STORE_VARIABLE, SECRET_VARIABLE = "FASTERSESSION_STORE", "FASTERSESSION_SECRET"


def add_commands(commands: Any) -> None:
    """Add ``sessions`` to the parser of the command line."""
    parser = commands.add_parser(
        "sessions",
        help="list and end sessions",
        description="List and end the sessions in a store. Without the secret key only ids and times are shown.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, (_, words, arguments) in VERBS.items():
        verb = verbs.add_parser(name, help=words, description=words[0].upper() + words[1:] + ".")
        verb.add_argument("--store", metavar="URL", help=f"default: the environment variable {STORE_VARIABLE}")
        verb.add_argument("--secret-env", metavar="NAME", default=SECRET_VARIABLE, help="where the secret key stands")
        verb.add_argument("--cookie-name", metavar="NAME", default="__Host-sid", help="of the middleware's cookie")
        verb.add_argument("--unsealed", action="store_true", help="the middleware has seal=False")
        verb.add_argument("--json", action="store_true", help="print JSON, one object a line")
        for flag, more in arguments:
            verb.add_argument(flag, **more)


def run(options: argparse.Namespace) -> int:
    """Carry out one command and return its exit status."""
    try:
        desk = _desk(options)
    except (ConfigError, ValueError) as error:
        return fail(str(error).removeprefix("url: "), USAGE)
    try:
        return asyncio.run(_within(desk, VERBS[options.verb][0]))
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "rich":
            raise
        return fail('tables need rich: pip install "fastersession[cli]"; --json needs nothing', USAGE)
    except FasterSessionError as error:
        return fail(f"the store cannot be used: {shown(str(error))}", STORE_DOWN)


@dataclass(frozen=True)
class Desk:
    """What a command works with. Without a key there is no ``sessions``."""

    options: Any
    store: Any
    sessions: Sessions | None

    async def all_sessions(self) -> AsyncIterator[list[SessionInfo]]:
        """Walk over all sessions, page by page."""
        after = None
        while True:
            page, after = await self.page(after, PAGE)
            yield page
            if after is None:
                return

    async def page(self, after: bytes | None, count: int) -> tuple[list[SessionInfo], bytes | None]:
        """Return a page of sessions, as far as they can be read."""
        if self.sessions is not None:
            return await self.sessions.page(after, count)
        found, more = await self.store.page(after, count)
        return [_bare(record_id, record) for record_id, record in found], more


def _desk(options: argparse.Namespace) -> Desk:
    url = options.store or os.environ.get(STORE_VARIABLE)
    if not url:
        raise ConfigError(f"--store: give the URL of the store, or set {STORE_VARIABLE}")
    store, key = from_url(url), os.environ.get(options.secret_env)
    if not hasattr(store, "page"):
        raise ConfigError("--store: this store keeps no sessions by user")
    if key is None:
        if options.verb in NEED_KEY:
            raise ConfigError(f"{options.verb} needs the secret key: set {options.secret_env}")
        print(f"{options.secret_env} is not set: only ids and times can be read", file=sys.stderr)
        return Desk(options, store, None)
    name, seal = options.cookie_name, not options.unsealed
    return Desk(options, store, Sessions(store, key, session_cookie=name, seal=seal))


async def _within(desk: Desk, command: Callable[[Desk], Coroutine[Any, Any, int]]) -> int:
    await desk.store.open()
    try:
        return await command(desk)
    finally:
        await desk.store.close()


# --- the commands ---


async def _list(desk: Desk) -> int:
    options, more = desk.options, None
    if options.user is not None:
        found = [] if desk.sessions is None else await desk.sessions.of(options.user)
    else:
        found, more = await desk.page(options.after, options.limit)
        while more is not None and len(found) < options.limit:
            page, more = await desk.page(more, options.limit - len(found))
            found += page
    print_sessions(found, as_json=options.json)
    if more is not None:
        print(f"more: --after {more.hex()}", file=sys.stderr)
    return DONE if found else NOTHING


async def _show(desk: Desk) -> int:
    assert desk.sessions is not None  # noqa: S101 - it needs the key
    found = await desk.sessions.get(desk.options.id)
    if found is None:
        return fail("there is no such session", NOTHING)
    words = said(found)
    if desk.options.attributes:
        attributes = await desk.sessions.attributes(desk.options.id)
        words["attributes"] = None if attributes is None else {name: repr(value) for name, value in attributes.items()}
    if desk.options.json:
        print(json.dumps(words))
    else:
        for name, value in words.items():
            for line in lines(name, value):
                print(line)
    return DONE


async def _revoke(desk: Desk) -> int:
    if desk.options.all:
        return await _revoke_all(desk)
    if not desk.options.ids:
        return fail("revoke: give ids of sessions, or --all", USAGE)
    ended = 0
    for session_id in desk.options.ids:
        if len(session_id) == 32 and not set(session_id) - set("0123456789abcdef"):
            ended += await desk.store.delete(bytes.fromhex(session_id), "revoked")
    return _told(desk, ended)


async def _revoke_all(desk: Desk) -> int:
    if not agreed(desk.options, "End ALL sessions in this store? Everybody is logged out."):
        return NOTHING
    ended = 0
    with progress(hidden=desk.options.json) as bar:
        task = bar.add_task("sessions ended", total=None)
        async for page in desk.all_sessions():
            for session in page:
                ended += await desk.store.delete(bytes.fromhex(session.id), "revoked")
            bar.update(task, completed=ended)
    return _told(desk, ended)


async def _revoke_user(desk: Desk) -> int:
    options = desk.options
    assert desk.sessions is not None  # noqa: S101 - it needs the key
    found = await desk.sessions.of(options.user)
    if not agreed(desk.options, f"End {len(found)} sessions of {shown(options.user)}?"):
        return NOTHING
    ended = await desk.sessions.revoke_user(options.user, keep=options.keep)
    if options.scan:
        with progress(hidden=desk.options.json) as bar:
            task = bar.add_task("sessions looked at", total=None)
            async for page in desk.all_sessions():
                for session in page:
                    if session.user == options.user and session.id != options.keep:
                        ended += await desk.sessions.revoke(session.id, user=options.user)
                bar.advance(task, len(page))
    return _told(desk, ended)


async def _purge(desk: Desk) -> int:
    removed = await desk.store.purge()
    print(json.dumps({"removed": removed}) if desk.options.json else f"{removed} expired sessions removed")
    return DONE


async def _stats(desk: Desk) -> int:
    count = users = 0
    names: set[str] = set()
    used: list[datetime] = []
    with progress(hidden=desk.options.json) as bar:
        task = bar.add_task("sessions looked at", total=None)
        async for page in desk.all_sessions():
            count += len(page)
            users += sum(session.user is not None for session in page)
            names |= {session.user for session in page if session.user is not None}
            used += [pick(session.last_accessed_at for session in page) for pick in (min, max) if page]
            bar.update(task, completed=count)
    found: dict[str, Any] = {"sessions": count}
    if desk.sessions is not None:
        found |= {"of users": users, "users": len(names)}
    if used:
        found |= {"least recently used": time_of(min(used)), "last used": time_of(max(used))}
    print(json.dumps(found) if desk.options.json else "\n".join(f"{name}: {value}" for name, value in found.items()))
    return DONE if count else NOTHING


def count_of(text: str) -> int:
    """Return how many sessions are asked for. ``argparse`` makes a usage error of a ``ValueError``."""
    count = int(text)
    if count < 1:
        raise ValueError
    return count


ASK = ("--yes", {"action": "store_true", "help": "do not ask"})
VERBS: dict[str, tuple[Callable[[Desk], Coroutine[Any, Any, int]], str, Sequence[tuple[str, dict[str, Any]]]]] = {
    "list": (_list, "list sessions, those of one user or anybody's, by pages", (
        ("--user", {"metavar": "USER", "help": "of this user only, the last used first"}),
        ("--limit", {"type": count_of, "default": 100, "help": "on a page (default: %(default)s)"}),
        ("--after", {"type": bytes.fromhex, "metavar": "CURSOR", "help": "where the page before has ended"}),
    )),
    "show": (_show, "show one session", (
        ("id", {"metavar": "ID", "help": "32 hexadecimal digits, as in your logs"}),
        ("--attributes", {"action": "store_true", "help": "and what is in it"}),
    )),
    "revoke": (_revoke, "end sessions", (
        ("ids", {"metavar": "ID", "nargs": "*", "help": "of sessions"}),
        ("--all", {"action": "store_true", "help": "end every session in the store"}),
        ASK,
    )),
    "revoke-user": (_revoke_user, "end all sessions of a user", (
        ("user", {"metavar": "USER", "help": "as given to login()"}),
        ("--keep", {"metavar": "ID", "help": "but this one"}),
        ("--scan", {"action": "store_true", "help": "look at every session, for an index that was lost"}),
        ASK,
    )),
    "purge": (_purge, "remove what has expired", ()),
    "stats": (_stats, "count sessions and users", ()),
}  # fmt: skip
NEED_KEY = ("show", "revoke-user")


def _bare(record_id: bytes, record: Any) -> SessionInfo:
    """Return what a record says without its key."""
    times = record.created_at, record.accessed_at, min(record.accessed_at + record.idle_timeout, record.not_after)
    created, accessed, expires = (datetime.fromtimestamp(min(time, 10**11), UTC) for time in times)
    return SessionInfo(record_id.hex(), None, None, created, accessed, expires, None)


def _told(desk: Desk, ended: int) -> int:
    print(json.dumps({"ended": ended}) if desk.options.json else f"{ended} sessions ended")
    return DONE if ended else NOTHING


def agreed(options: Any, question: str) -> bool:
    """Ask whoever sits there, unless he has said yes already."""
    if options.yes:
        return True
    if not sys.stdin.isatty():
        print("nobody can be asked here: say --yes", file=sys.stderr)
        return False
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")


def fail(message: str, status: int) -> int:
    """Say what is wrong; return the exit status."""
    print(f"fastersession: {message}", file=sys.stderr)
    return status
