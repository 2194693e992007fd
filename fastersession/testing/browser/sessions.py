"""The session of a browser, opened from a test without a view of the application.

Rules of residence: finds the middleware in an application, and sends one request through it, which the test answers.
So a test reads and writes what a view would, with any store, codec and seal.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping
from types import FunctionType, MethodType, ModuleType
from typing import Any

from ... import FasterSessionMiddleware, Session, StoreError
from .browser import Browser

SAVED = 204
MANY = 100_000  # objects to search: the routes of a large application, not all that a process holds
LEAVES = (str, bytes, int, float, type, ModuleType, type(None))


@contextlib.asynccontextmanager
async def session_of(browser: Browser, *, scope_key: str = "session") -> AsyncIterator[Session]:
    """Open the session of a browser's cookie, as a request with that cookie sees it.

    The end of the block saves what was written, and puts the cookie of a new session into the browser's jar. The verbs
    of the session work. A block that raises saves nothing, like a view that raises. Other requests of the browser may
    run in the meantime.

        async with session_of(browser) as session:
            session["user"] = "ada"

    :raises LookupError: no ``FasterSessionMiddleware`` with this ``scope_key`` is in the application.
    :raises FasterSessionError: the error that a request would end with; ``StoreError`` for a 503.
    """
    opened: asyncio.Future[Session] = asyncio.get_running_loop().create_future()
    closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def view(scope: Any, receive: Any, send: Any) -> None:
        opened.set_result(scope[scope_key])
        await closed
        await send({"type": "http.response.start", "status": SAVED, "headers": []})
        await send({"type": "http.response.body"})

    found = middleware_of(browser.app, scope_key)
    tab = Browser(found.around(view), scheme=browser.scheme, host=browser.host)
    tab.jar = browser.jar
    async with tab.open(found.path) as request:
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
    """Return the outermost ``FasterSessionMiddleware`` in an application, however deep a framework keeps it.

    :raises LookupError: there is none with this ``scope_key``.
    """
    seen: dict[int, Any] = {}  # with the objects, or an id might come back
    waiting = deque([app])
    while waiting and len(seen) < MANY:
        one = waiting.popleft()
        if id(one) in seen or isinstance(one, LEAVES):
            continue
        seen[id(one)] = one
        if isinstance(one, FasterSessionMiddleware) and one.scope_key == scope_key:
            return one
        waiting.extend(_inside(one))
    raise LookupError(f"there is no FasterSessionMiddleware with the scope_key {scope_key!r} in this application")


def _inside(one: Any) -> Iterable[Any]:
    """Return what an object holds, but not its class and its module, from which everything can be reached."""
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
