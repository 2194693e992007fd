"""The session of a browser, opened from a test without a view of the application.

Rules of residence: finds the middleware in an application, and makes one request through it whose application is the
test. So whatever the store, the codec and the seal are, a test reads and writes what a view would.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping
from types import FunctionType, MethodType, ModuleType
from typing import Any

from ...errors import StoreError
from ...middleware import FasterSessionMiddleware
from ...session import Session
from .browser import Browser
from .jar import Cookie

__all__ = ["middleware_of", "session_of"]

SAVED = 204
MANY = 100_000  # objects that are looked at: the routes of a large application, not all that a process holds
LEAVES = (str, bytes, int, float, type, ModuleType, type(None))


@contextlib.asynccontextmanager
async def session_of(browser: Browser, *, scope_key: str = "session") -> AsyncIterator[Session]:
    """Open the session that a browser's cookie leads to, as a request with that cookie would see it.

    What is written is saved when the block ends, and a new session's cookie is put into the browser's jar; the verbs
    work, too. A block that raises saves nothing, as a view that raises. Requests of the browser may run meanwhile.

        async with session_of(browser) as session:
            session["user"] = "ada"

    :raises LookupError: no ``FasterSessionMiddleware`` with this ``scope_key`` is in the application.
    :raises FasterSessionError: what a request would end with; ``StoreError`` where it would be answered by a 503.
    """
    opened: asyncio.Future[Session] = asyncio.get_running_loop().create_future()
    closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def view(scope: Any, receive: Any, send: Any) -> None:
        opened.set_result(scope[scope_key])
        await closed
        await send({"type": "http.response.start", "status": SAVED, "headers": []})
        await send({"type": "http.response.body"})

    found = middleware_of(browser.app, scope_key)
    through = copy.copy(found)
    through.app, through._selective = view, False
    tab = Browser(through, scheme=browser.scheme, host=browser.host)
    tab.jar = browser.jar
    path = Cookie.parse(found._terms.cleared).attributes["path"]
    async with tab.open(path) as request:
        either: list[asyncio.Future[Any]] = [request.task, opened]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not opened.done():
            raise request.answer.error or StoreError("the session could not be loaded: the answer would be a 503")
        try:
            yield opened.result()
        except BaseException as error:
            closed.set_exception(error)
            raise
        else:
            closed.set_result(None)
        answer = await request.ended()
    if answer.error is not None:
        raise answer.error
    if answer.status != SAVED:
        raise StoreError("the session could not be saved: the answer would be a 503")


def middleware_of(app: Any, scope_key: str = "session") -> FasterSessionMiddleware:
    """Find the outermost ``FasterSessionMiddleware`` of an application, however deep a framework keeps it.

    :raises LookupError: there is none with this ``scope_key``.
    """
    seen: dict[int, Any] = {}  # the objects too, or an id might be given anew
    waiting = deque([app])
    while waiting and len(seen) < MANY:
        one = waiting.popleft()
        if id(one) in seen or isinstance(one, LEAVES):
            continue
        seen[id(one)] = one
        if isinstance(one, FasterSessionMiddleware) and one._terms.scope_key == scope_key:
            return one
        waiting.extend(_inside(one))
    raise LookupError(f"there is no FasterSessionMiddleware with the scope_key {scope_key!r} in this application")


def _inside(one: Any) -> Iterable[Any]:
    """Return what an object holds, but for what every object could reach: its class and its module."""
    if isinstance(one, Mapping):
        return list(one.values())
    if isinstance(one, list | tuple | set | frozenset):
        return list(one)
    if isinstance(one, FunctionType):
        return [*(cell.cell_contents for cell in one.__closure__ or () if _is_filled(cell)), *vars(one).values()]
    if isinstance(one, MethodType):
        return [one.__self__, one.__func__]
    if isinstance(one, functools.partial):
        return [one.func, *one.args, *one.keywords.values()]
    if getattr(one, "middleware_stack", one) is None:  # Starlette makes it at the first request
        one.middleware_stack = one.build_middleware_stack()
    slots = (name for base in type(one).__mro__ for name in _names(getattr(base, "__slots__", ())))
    return [*getattr(one, "__dict__", {}).values(), *(getattr(one, name, None) for name in slots)]


def _names(slots: str | Iterable[str]) -> Iterable[str]:
    return (slots,) if isinstance(slots, str) else slots


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False
