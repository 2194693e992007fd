"""An application with users, for tests of logins: handlers that log in, and what a session says of itself.

Rules of residence: the handlers and how they are served; what a test proves stands in the test.

    async with site(factory, {"/act": do}) as (app, subject): ...
    /in?user=ada&keep=cart,x    login(), marked         /in/now?user=ada    awaited, then the answer
    /who    user, label, attributes                     /out                logout()
    /of?user=ada    ids of sessions                     /everyone           ends all sessions but this one
"""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Mapping
from typing import Any

from driver import Browser
from routes import SECRET, Call, Handler, serve
from store_subject import Factory, Subject, opened

from fastersession import FasterSessionMiddleware, MemoryStore

USERS = ("memory", "bytes", "sqlite", "redis", "redis_cluster", "asyncpg", "psycopg", "mariadb")


class BytesStore(MemoryStore):
    """A memory store that is called as one of bytes."""

    async def load(self, record_id: bytes) -> Any:
        return await super().load(record_id)


def asked(call: Call) -> dict[str, Any]:
    """Return what a query asks of a login."""
    query = call.query
    more: dict[str, Any] = {name: query[name] for name in ("label",) if name in query}
    if "at" in query:
        more["authenticated_at"] = float(query["at"])
    if "age" in query:
        more["max_age"] = float(query["age"])
    return {"user": query["user"], "keep": query.get("keep", "").split(","), **more}


async def login(call: Call) -> None:
    """Log in, marked, and write one attribute before and one after."""
    call.session["before"] = 1
    call.session.login(**asked(call))
    call.session["after"] = call.query["user"]
    await call.reply(status=int(call.query.get("status", 200)))


async def login_now(call: Call) -> None:
    """Log in, awaited."""
    call.session["before"] = 1
    await call.session.login(**asked(call))
    call.session["after"] = call.query["user"]
    await call.reply(status=int(call.query.get("status", 200)))


async def who(call: Call) -> None:
    """Say whose the session is."""
    session = call.session
    at = session.authenticated_at
    said = {
        "id": session.id, "user": session.user, "label": session.label, "at": None if at is None else at.timestamp(),
        "has": dict(session),
    }  # fmt: skip
    await call.reply(json.dumps(said))


async def logout(call: Call) -> None:
    """Log out."""
    call.session.logout()
    await call.reply()


async def everyone(call: Call) -> None:
    """End all sessions of a user but this one."""
    sessions = call.scope["state"]["session"].sessions
    await call.reply(str(await sessions.revoke_user(call.query.get("user", "ada"), keep=call.session.id)))


async def of(call: Call) -> None:
    """Say which sessions a user has."""
    found = await call.scope["state"]["session"].sessions.of(call.query["user"])
    await call.reply(" ".join(one.id for one in found))


ROUTES: Mapping[str, Handler] = {
    "/in": login, "/in/now": login_now, "/who": who, "/out": logout, "/everyone": everyone, "/of": of,
}  # fmt: skip


@contextlib.asynccontextmanager
async def site(
    factory: Factory, handlers: Mapping[str, Handler] | None = None, **options: Any
) -> AsyncIterator[tuple[FasterSessionMiddleware, Subject]]:
    """Serve an application over a store, with a key of its own: a server keeps the marks of users of other tests."""
    options.setdefault("secret_key", f"{SECRET} {secrets.token_hex(8)}")
    async with opened(factory) as subject:
        yield serve({**ROUTES, **(handlers or {})}, store=subject.store, **options), subject


async def listed(app: Any, user: str) -> list[str]:
    """Return the ids of a user's sessions."""
    return (await Browser(app).get(f"/of?user={user}")).text.split()


async def said(browser: Browser) -> Any:
    """Return what a browser's session says of itself."""
    return (await browser.get("/who")).json()
