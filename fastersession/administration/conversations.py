"""``python -m fastersession conversations`` and ``reseal``: what users have kept, for whoever runs the service.

Rules of residence: from arguments to calls of ``Conversations``. How it is shown is in ``printing``.
Exit status: 0 done, 1 nothing matched or something was left, 2 wrong usage, 3 the store cannot be used.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from .. import ConfigError, FasterSessionError
from ..stores import from_url
from .commands import (
    ASK,
    DONE,
    NOTHING,
    SECRET_VARIABLE,
    STORE_DOWN,
    STORE_VARIABLE,
    USAGE,
    agreed,
    count_of,
    fail,
)  # fmt: skip
from .printing import print_rows, shown, time_of

if TYPE_CHECKING:
    from .. import Conversation, Conversations

COLUMNS = ("user", "name", "title", "created", "updated", "running")
MOST = 1000  # of a user, on a page

Command = Callable[[Any, "Conversations"], Coroutine[Any, Any, int]]


def add_conversations(commands: Any) -> None:
    """Add ``conversations`` and ``reseal`` to the parser of the command line."""
    words = "list, export and delete the conversations of users"
    parser = commands.add_parser("conversations", help=words, description=words.capitalize() + ".")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, (_, help_, arguments) in VERBS.items():
        verb = verbs.add_parser(name, help=help_, description=help_.capitalize() + ".")
        _add_common(verb)
        for flag, more in arguments:
            verb.add_argument(flag, **more)
    words = "move the conversations of users under the current secret key, before an old one is dropped"
    _add_common(commands.add_parser("reseal", help=words, description=words.capitalize() + "."))


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--store", metavar="URL", help=f"default: the environment variable {STORE_VARIABLE}")
    parser.add_argument("--secret-env", metavar="NAME", default=SECRET_VARIABLE, help="where the secret key stands")
    parser.add_argument("--old-secret-env", metavar="NAME", action="append", default=[], help="where an old one stands")
    parser.add_argument("--codec", metavar="MODULE:NAME", help="the middleware's codec, if it has one")
    parser.add_argument("--unsealed", action="store_true", help="the middleware has seal=False")
    parser.add_argument("--json", action="store_true", help="print JSON, one object a line")


def run_conversations(options: argparse.Namespace) -> int:
    """Carry out one command and return its exit status."""
    try:
        conversations = _conversations(options)
    except (ConfigError, ImportError, AttributeError, ValueError) as error:
        return fail(str(error).removeprefix("url: "), USAGE)
    command = _reseal if options.command == "reseal" else VERBS[options.verb][0]
    try:
        return asyncio.run(_within(conversations, command, options))
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "rich":
            raise
        return fail('tables need rich: pip install "fastersession[cli]"; --json needs nothing', USAGE)
    except ConfigError as error:
        return fail(str(error), USAGE)
    except FasterSessionError as error:
        return fail(f"the store cannot be used: {shown(str(error))}", STORE_DOWN)


def _conversations(options: argparse.Namespace) -> Conversations:
    from .. import Conversations

    url = options.store or os.environ.get(STORE_VARIABLE)
    if not url:
        raise ConfigError(f"--store: give the URL of the store, or set {STORE_VARIABLE}")
    keys = [os.environ.get(name) for name in (options.secret_env, *options.old_secret_env)]
    for name, key in zip((options.secret_env, *options.old_secret_env), keys, strict=True):
        if not key:
            raise ConfigError(f"conversations are found by the secret key: set {name}")
    return Conversations(
        from_url(url), [key for key in keys if key], codec=_codec(options.codec), seal=not options.unsealed
    )


def _codec(named: str | None) -> Any:
    """Return the object that ``MODULE:NAME`` names."""
    if named is None:
        return None
    module, _, name = named.partition(":")
    if not module or not name:
        raise ConfigError("--codec: write MODULE:NAME, say chat.settings:codec")
    sys.path.insert(0, os.getcwd())
    return getattr(importlib.import_module(module), name)


async def _within(conversations: Conversations, command: Command, options: Any) -> int:
    async with conversations:
        return await command(options, conversations)


# --- the commands ---


async def _list(options: Any, conversations: Conversations) -> int:
    more = None
    if options.user is not None:
        found = await conversations.of_user(options.user).list(min(options.limit, MOST))
    else:
        found, more = await conversations.page(options.after, options.limit)
    print_rows(COLUMNS, [_said(one) for one in found], as_json=options.json)
    if more is not None:
        print(f"more: --after {more.hex()}", file=sys.stderr)
    return DONE if found else NOTHING


async def _export(options: Any, conversations: Conversations) -> int:
    chosen = await _chosen(options, conversations)
    for conversation in chosen:
        print(json.dumps(_said(conversation) | {"metadata": conversation.metadata}))
        async for entry in conversation:
            words = {"name": conversation.name, "id": entry.id, "value": entry.value, "run": entry.run}
            print(json.dumps(words, default=repr))
    return DONE if chosen else NOTHING


async def _delete(options: Any, conversations: Conversations) -> int:
    if not options.names and not options.all:
        return fail("delete: give names of conversations, or --all", USAGE)
    chosen = await _chosen(options, conversations)
    if not agreed(options, f"Delete {len(chosen)} conversations of {shown(options.user)}?"):
        return NOTHING
    deleted = 0
    for conversation in chosen:
        deleted += await conversation.delete()
    print(json.dumps({"deleted": deleted}) if options.json else f"{deleted} conversations deleted")
    return DONE if deleted else NOTHING


async def _chosen(options: Any, conversations: Conversations) -> list[Conversation]:
    """Return the conversations that a command names, or all of the user."""
    users = conversations.of_user(options.user)
    found: list[Conversation] = []
    while page := await users.list(MOST, found[-1] if found else None):
        found += page
    return [one for one in found if not options.names or one.name in options.names]


async def _reseal(options: Any, conversations: Conversations) -> int:
    done = await conversations.reseal()
    if options.json:
        print(json.dumps(done._asdict()))
    else:
        print(f"{done.resealed} conversations moved under the current key")
        if done.running:
            print(f"{done.running} left, for a run runs: do it again")
        if done.unreadable:
            print(f"{done.unreadable} left, for none of the keys reads them: name their key with --old-secret-env")
    return NOTHING if done.running or done.unreadable else DONE


def _said(one: Conversation) -> dict[str, Any]:
    """Return what is said of a conversation, by column."""
    times = (None if time is None else time_of(time) for time in (one.created_at, one.updated_at))
    return dict(zip(COLUMNS, (one.user, one.name, one.title, *times, one.is_running), strict=True))


USER = ("user", {"metavar": "USER", "help": "as given to conversations_of()"})
NAMES = ("names", {"metavar": "NAME", "nargs": "*", "help": "of conversations"})
VERBS: dict[str, tuple[Command, str, Sequence[tuple[str, dict[str, Any]]]]] = {
    "list": (_list, "list conversations, those of one user or anybody's, by pages", (
        ("--user", {"metavar": "USER", "help": "of this user only, the last updated first"}),
        ("--limit", {"type": count_of, "default": 100, "help": "on a page (default: %(default)s)"}),
        ("--after", {"type": bytes.fromhex, "metavar": "CURSOR", "help": "where the page before has ended"}),
    )),
    "export": (_export, "print conversations of a user with all their entries, as JSON", (USER, NAMES)),
    "delete": (_delete, "delete conversations of a user", (
        USER, NAMES, ("--all", {"action": "store_true", "help": "all that he has"}), ASK,
    )),
}  # fmt: skip
