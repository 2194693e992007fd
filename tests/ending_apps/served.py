"""What a server process serves: two applications of one framework, the second with a store outside the process.

Configured by environment: FRAMEWORK is a module beside this one. SESSIONS is the file where the sessions of the second
outlive the process: SQLite's, or, where that cannot run, the record of a MemoryStore.
A request says in the header `store` which of the two it is for.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

from server_stores import RecordingStore

from fastersession import MemoryStore
from fastersession.stores.sqlite import SQLiteStore

framework = importlib.import_module(f"ending_apps.{os.environ['FRAMEWORK']}")
file = Path(os.environ["SESSIONS"])
memory = framework.make(MemoryStore())
outside = framework.make(SQLiteStore(file) if file.suffix == ".db" else RecordingStore(file))


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Hand over; lifespan goes to the application whose store must be drained and closed."""
    in_memory = (b"store", b"memory") in scope.get("headers", ())
    await (memory if in_memory else outside)(scope, receive, send)
