"""What the server processes of detached answers serve: an application of `ending_apps`, unmodified, and its runs.

Rules of residence: FRAMEWORK names the module, SESSIONS a file of SQLite. The application is told nothing but
`detachable`. What looks at its runs is another middleware on the same store.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

from server_apps import Request, ready
from starlette.middleware.base import BaseHTTPMiddleware

from fastersession import FasterSessionMiddleware
from fastersession.stores.sqlite import SQLiteStore

from . import OPTIONS
from .of_base_http import passing

OPTIONS["detachable"] = ("/chat",)
STORE = SQLiteStore(os.environ["SESSIONS"])
AROUND = "BaseHTTPMiddleware around "


async def read(request: Request) -> None:
    """The rest of the run, from a cursor on, once it has ended."""
    run = await request.session.conversations["main"].run(request.query.get("after"))
    frames = [] if run is None else [frame async for frame in run.frames()]
    text = "".join(frame.data if isinstance(frame.data, str) else frame.data.decode() for frame in frames)
    await request.json({"text": text, "status": None if run is None else run.status})


async def stop(request: Request) -> None:
    await request.json(await request.session.conversations["main"].stop())


ROUTES = {"/runs/read": read, "/runs/stop": stop, "/ready": ready}


async def looking(scope: dict[str, Any], receive: Any, send: Any) -> None:
    await ROUTES[scope["path"]](Request(scope, receive, send))


RUNS = FasterSessionMiddleware(looking, store=STORE, **OPTIONS)


def served(framework: str) -> Any:
    made = importlib.import_module(f"ending_apps.{framework.removeprefix(AROUND)}").make(STORE)
    return BaseHTTPMiddleware(made, passing) if framework.startswith(AROUND) else made


SERVED = served(os.environ["FRAMEWORK"])


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    await (RUNS if scope.get("path") in ROUTES else SERVED)(scope, receive, send)
