"""What the soak serves: the turns of `workers_app`, and what its process costs while it serves them.

Rules of residence: as `workers_app`, whose environment it shares; ROOM is the bound of a memory store.

    /turn?...          as there; it begins a session if there is none
    /session           what the session holds
    /logout            ends it
    /anonymous         begins a session for somebody whose cookie will never come back; it idles out in a moment
    /purge?ahead=s     removes what has expired, after putting the store's clock ahead
    /figures           memory, tasks, descriptors and sessions of this process; ?objects=1: live objects, type by type
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import workers_app
from server_apps import Request

from fastersession import FasterSessionMiddleware
from fastersession.stores import from_url

SECRET = "of the soak alone: what it imports makes middlewares, too, and their cookies are not genuine here"
IDLE = 20.0  # seconds that the session of somebody who never comes back may last
errors: Counter[str] = Counter()  # what the application raised, by type
events: Counter[str] = Counter()  # what the package logged, by event
ahead = 0.0  # seconds by which the store's clock is ahead


class Events(logging.Handler):
    """Counts the events of the package."""

    def emit(self, record: logging.LogRecord) -> None:
        events[getattr(record, "event", "?")] += 1


async def logout(request: Request) -> None:
    request.session.invalidate()
    await request.json("bye")


async def anonymous(request: Request) -> None:
    request.session["who"] = "anybody"
    request.session.idle_timeout = IDLE
    await request.json("welcome")


async def purge(request: Request) -> None:
    global ahead
    ahead += float(request.query.get("ahead", 0))
    await request.json(await store.purge())


async def figures(request: Request) -> None:
    said: dict[str, Any] = {
        "bytes": resident(),
        "tasks": len(asyncio.all_tasks()),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "sessions": len(store) if store.live else None,
        "cpu": sum(resource.getrusage(resource.RUSAGE_SELF)[:2]),  # of processor time
        "errors": errors,
        "events": events,
    }
    if "objects" in request.query:
        gc.collect()
        said["objects"] = Counter(f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.get_objects())
    await request.json(said)


def resident() -> int:
    """Return how many bytes of memory the process has in use."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


def leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from leaves(each)
    else:
        yield error


ROUTES = {"/logout": logout, "/anonymous": anonymous, "/purge": purge, "/figures": figures}


async def plain(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Serve the application, and count what it raises."""
    try:
        if scope.get("path") in ROUTES:
            await ROUTES[scope["path"]](Request(scope, receive, send))
        else:
            await workers_app.plain(scope, receive, send)
    except Exception as error:
        errors.update(type(leaf).__name__ for leaf in leaves(error))
        raise


options: dict[str, Any] = {"max_sessions": int(os.environ["ROOM"])} if "ROOM" in os.environ else {}
store: Any = from_url(os.environ["STORE"], clock=lambda: time.time() + ahead, **options)
logging.getLogger("fastersession").addHandler(Events())
app = FasterSessionMiddleware(plain, secret_key=SECRET, store=store, secure=False)
