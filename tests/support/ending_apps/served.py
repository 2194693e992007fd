"""What a server process serves: applications of one framework, each with a store of another kind.

Configured by environment: FRAMEWORK is a module beside this one. SESSIONS is the file where the sessions of "outside"
outlive the process: SQLite's, or, where that cannot run, the record of a MemoryStore.
A request says in the header `store` which one it is for: memory; outside; failing, a store in this process that takes
no change; away, the same outside of it.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

from server_stores import FailingStore, RecordingStore

from fastersession import MemoryStore
from fastersession.stores.sqlite import SQLiteStore

framework = importlib.import_module(f"ending_apps.{os.environ['FRAMEWORK']}")
file = Path(os.environ["SESSIONS"])
outside = framework.make(SQLiteStore(file) if file.suffix == ".db" else RecordingStore(file))
others = {
    b"memory": framework.make(MemoryStore()),
    b"failing": framework.make(FailingStore(live=True)),
    b"away": framework.make(FailingStore(live=False)),
}


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Hand over; lifespan goes to the application whose store must be drained and closed."""
    store = dict(scope.get("headers", ())).get(b"store", b"")
    await others.get(store, outside)(scope, receive, send)
